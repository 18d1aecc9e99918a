import { type Command, InvalidArgumentError } from '@commander-js/extra-typings'
import { argument, MOUNTED, verb, where } from './verb.js'
import { parseNumber, parseSize } from './words.js'

const recoverVerb = (done: (code: number) => void) =>
  verb(
    'recover',
    'bring an overlay back that overflowed, was marked invalid, cut off or torn; liveos undo takes it back',
    [
      'liveos recover /run/media/me/LIVE --dry-run',
      'liveos recover /run/media/me/LIVE',
      'liveos recover --base squashfs.img --overlay overlay-LIVE-1A2B-3C4D --size 512M',
    ],
    MOUNTED,
  )
    .option(
      '--size <size>',
      'size that the overlay is to have; by itself it grows where it is full',
      argument(parseSize),
    )
    .option('--no-fsck', 'leave the filesystem in the overlay unchecked')
    .option('--drop-log', 'of an XFS: throw its log away, and what was changed last with it')
    .option('--chunk <sectors>', 'chunk size, where the header of the overlay is gone', argument(parseNumber))
    .option('--dry-run', 'show the plan and change nothing')
    .option('--yes', 'do not ask')
    .action(async (target, options) => {
      const { recover } = await import('./recover.js')
      const { size, fsck, dropLog, chunk } = options
      done(await recover(where(target, options), { size, fsck, dropLog, chunkSectors: chunk }, options))
    })

const undoVerb = (done: (code: number) => void) =>
  verb(
    'undo',
    'take the last recover of an overlay back, also one that was cut in its middle',
    ['liveos undo /run/media/me/LIVE --dry-run', 'liveos undo /run/media/me/LIVE'],
    MOUNTED,
  )
    .option('--dry-run', 'show the plan and change nothing')
    .option('--yes', 'do not ask')
    .action(async (target, options) => {
      const { undo } = await import('./recover.js')
      done(await undo(where(target, options), options))
    })

const doctorVerb = (done: (code: number) => void) =>
  verb('doctor', 'find what is wrong with a stick: overlay, base, filesystem, home image, leftovers; and what to do', [
    'liveos doctor /run/media/me/LIVE',
    'liveos doctor /run/media/me/LIVE --fix   # each remedy shows its plan and asks',
    'liveos doctor stick.img --fsck --json',
  ])
    .option('--fsck', "have the filesystem's own checker (e2fsck, xfs_repair) look, on a copy of the root if need be")
    .option('--no-fsck', 'leave it out also where it needs no copy')
    .option('--fix', 'run the verbs that mend what was found, one after another')
    .option('--dry-run', 'with --fix: show the plan of the first of them and change nothing')
    .option('--yes', 'with --fix: do not ask')
    .action(async (target, options) => {
      const { doctor } = await import('./doctor.js')
      if (options.fix && options.json)
        throw new InvalidArgumentError('--fix runs other verbs, each with its own outcome: leave --json out.')
      done(await doctor(where(target, options), { fsck: options.fsck }, options))
    })

/** The verbs that find what is wrong, and mend an overlay. */
export const repairVerbs = (done: (code: number) => void): readonly Command[] =>
  [doctorVerb(done), recoverVerb(done), undoVerb(done)] as unknown as readonly Command[]
