import type { Command } from '@commander-js/extra-typings'
import { argument, bare, fileVerb, given, verb, where } from './verb.js'
import { parseNumber } from './words.js'

const PATH =
  'TARGET:/path, such as stick.img:/home; TARGET alone is its root, and :/path is meant inside a running live system'

/** The verbs that read files out of a target. */
export const fileVerbs = (done: (code: number) => void): readonly Command[] => {
  const ls = fileVerb('ls', 'list files as the booted system sees them', [
    'liveos ls /run/media/me/LIVE:/home',
    'liveos ls -lR fedora.iso:/etc --json',
    'liveos ls --medium /dev/sdb:/',
  ])
    .argument('[target:path]', PATH, given)
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
    'liveos cp -r /run/media/me/LIVE:/home ./rescued   # also from an overlay that the kernel has given up',
    'liveos cp -r --home /run/media/me/LIVE:/ ./rescued-home   # where the stick has a home.img',
    'liveos cp -r https://example.org/live.iso:/etc etc.tar',
    'liveos cp -r stick.img:/ - | tar -tv',
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
  const diff = bare('diff', 'show what the overlay changed against the base, by file', [
    'liveos diff /run/media/me/LIVE',
    'liveos diff stick.img:/etc --stat',
    'liveos diff /run/media/me/LIVE --output changed.tar   # a backup of the overlay',
  ])
    .argument('[target:path]', PATH, given)
    .option('--stat', 'counts and bytes by directory')
    .option('--depth <n>', 'levels of directories that --stat tells apart', argument(parseNumber))
    .option('--output <file>', 'write what changed to a tar archive, with a list of what was deleted')
    .option('--image <dir>', 'live directory, where a stick holds several images')
    .option('--partition <n>', 'partition, where several hold a live system', argument(parseNumber))
    .option('--overlay <file>', 'overlay elsewhere than the stick keeps it')
    .option('--base <file>', 'a bare base image, squashed or not')
    .option('--json', 'print one JSON document and nothing else')
    .action(async (path, options) => {
      const { diff } = await import('./diff.js')
      done(await diff(path, where(undefined, options), options))
    })
  const usage = verb('usage', 'show what eats the overlay: files, deleted data, tables; and what would help', [
    'liveos usage /run/media/me/LIVE',
    'liveos usage stick.img --top 50 --depth 3',
  ])
    .option('--top <n>', 'files to show (20)', argument(parseNumber))
    .option('--depth <n>', 'levels of directories to tell apart', argument(parseNumber))
    .option('--packages', 'sum by package too')
    .action(async (target, options) => {
      const { usage } = await import('./usage.js')
      done(await usage(where(target, options), options))
    })
  return [ls, cat, stat, cp, diff, usage] as unknown as readonly Command[]
}
