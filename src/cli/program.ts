import { Command, InvalidArgumentError } from '@commander-js/extra-typings'
import { backupVerbs } from './program-backup.js'
import { bootVerbs } from './program-boot.js'
import { bootPlanVerb } from './program-boot-plan.js'
import { fileVerbs } from './program-files.js'
import { overlayVerbs } from './program-overlay.js'
import { repairVerbs } from './program-repair.js'
import { serveVerbs } from './program-serve.js'
import { tableVerbs } from './program-table.js'
import { watchVerbs } from './program-watch.js'
import { argument, MOUNTED, oneOf, verb, where } from './verb.js'
import { parseNumber, parseSize } from './words.js'

const statusVerb = (done: (code: number) => void) =>
  verb('status', 'show what the overlay holds, what is left of it, and what lies under it', [
    'liveos status /run/media/me/LIVE',
    'liveos status --base squashfs.img --overlay overlay-LIVE-1A2B-3C4D --dmsetup',
  ])
    .option('--dmsetup', 'print the line that dmsetup status would')
    .option('--warn <percent>', 'warn from here on (80)', argument(parseNumber))
    .option('--critical <percent>', 'critical from here on (95)', argument(parseNumber))
    .action(async (target, options) => {
      const { status } = await import('./status.js')
      done(await status({ ...where(target, options), warnAt: options.warn, criticalAt: options.critical }, options))
    })

const refreshVerb = (done: (code: number) => void) =>
  verb(
    'refresh',
    'merge the overlay into a new base image and empty it; only what changed is compressed anew',
    [
      'liveos refresh /run/media/me/LIVE --dry-run',
      'liveos refresh /run/media/me/LIVE',
      'liveos refresh /run/media/me/LIVE --stage /var/tmp   # no room for both images',
      'liveos refresh /run/media/me/LIVE --comp zstd --block-size 1M',
      'liveos refresh stick.img --output squashfs.img',
      'liveos refresh /run/media/me/LIVE --in-place   # an uncompressed base, changed where it stands',
    ],
    MOUNTED,
  )
    .option('--dry-run', 'show the plan and change nothing')
    .option('--yes', 'do not ask')
    .option('--keep-old', 'keep the old base beside the new one')
    .option('--stage <dir>', 'folder elsewhere for the old base, where the stick has no room for both')
    .option(
      '--output <file>',
      'write the refreshed image to a file and leave the target as it is: for images, ISOs and URLs too',
    )
    .option('--restore', 'after a staged refresh that was cut short: put the old base back')
    .option('--in-place', 'write the changes into an uncompressed base where it stands; nothing takes that back')
    .option('--comp <name>', 'compress anew with gzip, lzo, lz4, xz or zstd')
    .option('--block-size <size>', 'compress anew in blocks of 4K to 1M', argument(parseSize))
    .option('--level <n>', 'compress anew at this level', argument(parseNumber))
    .option('--no-trim', 'keep what the root filesystem has free')
    .option('--no-verify', 'do not read the new image back')
    .action(async (target, options) => {
      const { merge, refresh } = await import('./verbs.js')
      const { output, keepOld, stage, restore, comp, blockSize, level, trim, verify, inPlace } = options
      const how = { comp, blockSize, level, trim, verify }
      if (inPlace) {
        checkInPlace({ ...how, output, keepOld, stage, restore, verify: true })
        const { mergeInPlace } = await import('./merge-in-place.js')
        done(await mergeInPlace('refresh', where(target, options), { verify }, options))
      } else if (output === undefined)
        done(await refresh(where(target, options), { ...how, keepOld, stage, restore }, options))
      else if (keepOld || stage !== undefined || restore)
        throw new InvalidArgumentError(
          '--keep-old, --stage and --restore are for a refresh in place, without --output.',
        )
      else done(await merge(where(target, options), { ...how, output, format: 'same' }, options))
    })

/** Options that mean nothing where the base is changed where it stands. `true` is what is left out, as of --no-trim. */
const checkInPlace = (others: Readonly<Record<string, unknown>>): void => {
  for (const [name, value] of Object.entries(others))
    if (value !== undefined && (name === 'trim' || name === 'verify' ? value === false : true))
      throw new InvalidArgumentError('--in-place goes with --no-verify, --dry-run and --yes alone.')
}

const mergeVerb = (done: (code: number) => void) =>
  verb(
    'merge',
    'write the root filesystem as the booted system sees it to a file; or, with --in-place, into the base itself',
    [
      'liveos merge /run/media/me/LIVE --output root.img',
      'liveos merge /run/media/me/LIVE --output new.squashfs --format squashfs',
      'liveos merge --base rootfs.img --overlay overlay.img --in-place',
    ],
  )
    .option('--output <file>', 'file to be written')
    .option('--in-place', 'write the changes into an uncompressed base where it stands; nothing takes that back')
    .option('--format <format>', 'raw (a sparse image, if left out) or squashfs', oneOf('raw', 'squashfs'))
    .option('--base-only', 'leave the overlay out')
    .option('--dry-run', 'show the plan and write nothing')
    .option('--yes', 'do not ask, with --in-place')
    .option('--comp <name>', 'compress with gzip, lzo, lz4, xz or zstd')
    .option('--block-size <size>', 'compress in blocks of 4K to 1M', argument(parseSize))
    .option('--level <n>', 'compress at this level', argument(parseNumber))
    .option('--no-trim', 'keep what the root filesystem has free')
    .option('--no-verify', 'do not read the file back')
    .action(async (target, options) => {
      const { merge } = await import('./verbs.js')
      const { output, format = 'raw', comp, blockSize, level, trim, verify, inPlace, baseOnly } = options
      if (inPlace) {
        checkInPlace({ output, format: options.format, comp, blockSize, level, trim, baseOnly })
        const { mergeInPlace } = await import('./merge-in-place.js')
        done(await mergeInPlace('merge', where(target, options), { verify }, options))
      } else if (output === undefined) throw new InvalidArgumentError('name a file with --output, or add --in-place.')
      else done(await merge(where(target, options), { output, format, comp, blockSize, level, trim, verify }, options))
    })

const resetVerb = (done: (code: number) => void) =>
  verb(
    'reset',
    'empty the overlay: everything changed since the base image was made is lost',
    ['liveos reset /run/media/me/LIVE --dry-run', 'liveos reset /run/media/me/LIVE'],
    MOUNTED,
  )
    .option('--dry-run', 'show the plan and change nothing')
    .option('--yes', 'do not ask')
    .action(async (target, options) => {
      const { reset } = await import('./verbs.js')
      done(await reset(where(target, options), options))
    })

const inspectVerb = (done: (code: number) => void) =>
  verb(
    'inspect',
    'show all that is nested in a stick, disk, image or ISO: filesystems, systems, overlay, boot entries',
    [
      'liveos inspect /dev/sdb',
      'liveos inspect fedora.iso --depth 2',
      'liveos inspect https://example.org/live.iso --json',
    ],
  )
    .option('--depth <n>', 'levels to look into', argument(parseNumber))
    .action(async (target, options) => {
      const { inspect } = await import('./inspect.js')
      done(await inspect({ ...where(target, options), depth: options.depth }, options))
    })

const verifyVerb = (done: (code: number) => void) =>
  verb('verify', 'read every block of the base image and check it', [
    'liveos verify /run/media/me/LIVE',
    'liveos verify --base squashfs.img --json',
  ])
    .option('--base-only', 'leave the overlay out')
    .action(async (target, options) => {
      const { verify } = await import('./verbs.js')
      done(await verify(where(target, options), options))
    })

/** A command whose arguments and options no longer show in its type. */
const plain = (command: unknown): Command => command as Command

type Definition = (done: (code: number) => void) => readonly Command[]

/** Definitions of verbs with the names of those that each makes, in the order of the help. */
const DEFINITIONS: readonly (readonly [names: readonly string[], make: Definition])[] = [
  [['status'], done => [plain(statusVerb(done))]],
  [['inspect'], done => [plain(inspectVerb(done))]],
  [['refresh'], done => [plain(refreshVerb(done))]],
  [['merge'], done => [plain(mergeVerb(done))]],
  [['reset'], done => [plain(resetVerb(done))]],
  [['verify'], done => [plain(verifyVerb(done))]],
  [['ls', 'cat', 'stat', 'cp', 'diff', 'usage'], fileVerbs],
  [['grow', 'compact'], overlayVerbs],
  [['doctor', 'recover', 'undo'], repairVerbs],
  [['backup', 'restore'], backupVerbs],
  [['serve', 'mount', 'umount'], serveVerbs],
  [['watch'], watchVerbs],
  [['table'], tableVerbs],
  [['boot-plan'], done => [bootPlanVerb(done)]],
  [['boot'], bootVerbs],
]

/**
 * The command line: verbs, their options and help. `done` takes a verb's exit code.
 *
 * @param first  the first word of the line: where it is a verb, the others are left out: to define them all takes longer than `status` runs
 */
export const buildProgram = (version: string, done: (code: number) => void, first?: string): Command => {
  const program = new Command('liveos')
    .description('Keeps live-USB systems alive: no root, no loop devices, no device-mapper.')
    .version(version)
    .showHelpAfterError('(liveos VERB --help shows what there is)')
    .addHelpText(
      'after',
      '\nExit codes: 0 done and healthy · 1 done, something needs attention · 2 wrong request · 3 bad image · 4 refused · 5 no space or I/O error · 130 stopped\n',
    )
  const wanted = DEFINITIONS.find(([names]) => first !== undefined && names.includes(first))
  for (const [, make] of wanted ? [wanted] : DEFINITIONS) for (const command of make(done)) program.addCommand(command)
  if (wanted) return plain(program)
  program
    .command('completion')
    .summary('print a completion script for bash, zsh or fish')
    .description('Prints a completion script: source <(liveos completion bash)')
    .argument('<shell>', 'bash, zsh or fish', oneOf('bash', 'zsh', 'fish'))
    .action(async shell => {
      const { completion } = await import('./completion.js')
      process.stdout.write(completion(plain(program), shell))
      done(0)
    })
  program
    .command('man')
    .summary('print the manual page')
    .description('Prints the manual page: liveos man | man -l -')
    .action(async () => {
      const { manual } = await import('./manual.js')
      process.stdout.write(manual(plain(program)))
      done(0)
    })
  return plain(program)
}
