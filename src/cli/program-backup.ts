import { type Command, InvalidArgumentError } from '@commander-js/extra-typings'
import { argument, bare, given, MOUNTED, oneOf, TARGET, type Where, where } from './verb.js'
import { parseNumber } from './words.js'

const part = oneOf('boot', 'home', 'overlay')
const parts = (text: string) => text.split(',').map(part)

/** TARGET and FILE, or FILE alone where a pair of files stands in for TARGET. */
const names = (first: string | undefined, second: string | undefined, options: Where) => {
  const [target, file] = options.base === undefined ? [first, second] : [undefined, first]
  if (file === undefined || (options.base !== undefined && second !== undefined))
    throw new InvalidArgumentError(
      options.base === undefined
        ? `name TARGET and FILE: the stick, and the backup, such as stick.tar.zst.`
        : 'with --base and --overlay name FILE alone.',
    )
  return { input: where(target, options), file }
}

const backupVerb = (done: (code: number) => void) =>
  bare(
    'backup',
    'keep overlay, home image and boot configuration of a stick in one file, with checksums; the stick is only read',
    [
      'liveos backup /run/media/me/LIVE stick.tar.zst',
      'liveos backup stick.img stick.tar.zst --only overlay,home',
      'liveos backup /run/media/me/LIVE mine.tar.zst --changed-only   # files, which go over any base',
      'tar --zstd -xf stick.tar.zst && sha256sum -c liveos-backup.sha256   # without liveos',
    ],
  )
    .argument('[target]', TARGET, given)
    .argument('[file]', 'the backup, a new file: a tar archive, compressed with zstd')
    .option('--only <parts>', 'some of boot, home and overlay, separated by commas', argument(parts))
    .option('--changed-only', 'in the place of the overlay the files that differ from the base')
    .option('--dry-run', 'show the plan and write nothing')
    .option('--image <dir>', 'live directory, where a stick holds several images')
    .option('--partition <n>', 'partition, where several hold a live system', argument(parseNumber))
    .option('--overlay <file>', 'overlay elsewhere than the stick keeps it')
    .option('--base <file>', 'in the place of TARGET: a bare base image, squashed or not')
    .option('--json', 'print one JSON document and nothing else')
    .action(async (first, second, options) => {
      const { input, file } = names(first, second, options)
      const { backup } = await import('./backup.js')
      const { only, changedOnly } = options
      done(await backup(input, file, { only, changedOnly }, options))
    })

const restoreVerb = (done: (code: number) => void) =>
  bare('restore', 'put a backup back, on its own stick or on another one with the same base', [
    'liveos restore /run/media/me/LIVE stick.tar.zst --dry-run',
    'liveos restore /run/media/me/LIVE stick.tar.zst',
    'liveos restore /run/media/me/LIVE stick.tar.zst --only home',
    'liveos restore /run/media/me/LIVE --abandon   # give one up that was cut short',
    'liveos restore mine.tar.zst --root mnt   # changed files, into a root that liveos mount --persist shows',
  ])
    .argument('[target]', MOUNTED, given)
    .argument('[file]', 'a backup that liveos made')
    .option('--only <parts>', 'some of boot, home and overlay, separated by commas', argument(parts))
    .option(
      '--root <dir>',
      'of a backup made with --changed-only: put its files back below this directory; FILE stands alone then',
    )
    .option('--abandon', 'remove what a restore wrote that was cut short before it replaced anything')
    .option('--dry-run', 'show the plan and change nothing')
    .option('--yes', 'do not ask')
    .option('--image <dir>', 'live directory, where a stick holds several images')
    .option('--overlay <file>', 'overlay elsewhere than the stick keeps it')
    .option('--base <file>', 'in the place of TARGET: a bare base image, squashed or not')
    .option('--json', 'print one JSON document and nothing else')
    .action(async (first, second, options) => {
      const { restore, restoreChanges, abandon } = await import('./backup.js')
      if (options.root !== undefined) {
        if (first === undefined || second !== undefined || options.only || options.abandon)
          throw new InvalidArgumentError('with --root name FILE alone.')
        done(await restoreChanges(first, options.root, options))
        return
      }
      if (options.abandon) {
        if (second !== undefined) throw new InvalidArgumentError('--abandon wants no FILE.')
        done(await abandon(where(first, options), options))
        return
      }
      const { input, file } = names(first, second, options)
      done(await restore(input, file, { only: options.only }, options))
    })

/** The verbs that keep a stick in a file, and put it back. */
export const backupVerbs = (done: (code: number) => void): readonly Command[] =>
  [backupVerb(done), restoreVerb(done)] as unknown as readonly Command[]
