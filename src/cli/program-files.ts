import type { Command } from '@commander-js/extra-typings'
import { fileVerb, where } from './verb.js'

const PATH = 'TARGET:/path; without a path its root, and :/path inside a running live system'

/** The verbs that read files out of a target. */
export const fileVerbs = (done: (code: number) => void): readonly Command[] => {
  const ls = fileVerb('ls', 'list files as the booted system sees them', [
    'liveos ls /run/media/me/LIVE:/home',
    'liveos ls -lR fedora.iso:/etc --json',
    'liveos ls --medium /dev/sdb:/',
  ])
    .argument('[target:path]', PATH)
    .option('-l, --long', 'with modes, owners, sizes and times')
    .option('-R, --recursive', 'all below the directory')
    .option('-d, --directory', 'the directory itself')
    .option('--json', 'print one JSON array')
    .action(async (path, options) => {
      const { list } = await import('./files.js')
      done(await list(path, where(undefined, { ...options, baseOnly: undefined }), options))
    })
  const cat = fileVerb('cat', 'write files to standard output', [
    'liveos cat stick.img:/etc/os-release',
    'liveos cat --medium /dev/sdb1:/syslinux/syslinux.cfg',
  ])
    .argument('<target:path...>', PATH)
    .action(async (paths, options) => {
      const { cat } = await import('./files.js')
      done(await cat(paths, where(undefined, { ...options, baseOnly: undefined }), options))
    })
  const stat = fileVerb('stat', 'show all that is known of files', ['liveos stat stick.img:/etc/passwd'])
    .argument('<target:path...>', PATH)
    .option('--json', 'print one JSON array')
    .action(async (paths, options) => {
      const { stat } = await import('./files.js')
      done(await stat(paths, where(undefined, { ...options, baseOnly: undefined }), options))
    })
  const cp = fileVerb('cp', 'copy files out: into a directory, to a name, or into a tar archive with everything kept', [
    'liveos cp -r /run/media/me/LIVE:/home ./rescued',
    'liveos cp -r https://example.org/live.iso:/etc etc.tar',
    'liveos cp -r stick.img:/ - | tar -tv',
    'liveos cp -r --home stick.img:/ ./home',
  ])
    .argument('<target:path>', PATH)
    .argument(
      '<to...>',
      'more paths, and last where to: a directory, a name, NAME.tar, or - for an archive on standard output',
    )
    .option('-r, --recursive', 'directories and all below them')
    .option('--tar', 'write a tar archive, whatever its name')
    .option('--overwrite', 'replace files that are there')
    .option('--same-owner', 'keep owners, set-uid bits and devices (as root)')
    .option('--xattrs', 'keep extended attributes')
    .option('--keep-partial', 'of a file that can only be read in part keep that part, as NAME.partial')
    .option('--json', 'print one JSON document')
    .action(async (path, more, options) => {
      const { copy } = await import('./files.js')
      done(await copy([path, ...more], where(undefined, { ...options, baseOnly: undefined }), options))
    })
  return [ls, cat, stat, cp] as unknown as readonly Command[]
}
