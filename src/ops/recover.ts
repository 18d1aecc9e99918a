import { dataLength } from '../block/device.js'
import type { DamageClass, Tear } from '../block/snapshot/salvage.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import { openReplayed } from '../fs/ext4/journal/replayed.js'
import { packageOf } from '../host/fsck.js'
import { NBDFUSE_PACKAGE } from '../host/nbd-file.js'
import { findTool } from '../host/process.js'
import { temporaryRoom } from '../host/temporary.js'
import { advised, calledAs, marked } from '../liveos/advice.js'
import type { OverlayTarget } from '../liveos/target.js'
import { canExportAsFile } from './exported-root.js'
import { mostSize } from './grow-size.js'
import { checkHasPlace, checkNotInUse, checkWritable, type FileIdentity, identityOf } from './identity.js'
import { type LostContent, lostContent, lostWords } from './recover-lost.js'
import { sizeByItself, sizeFor, wholeSize } from './recover-size.js'
import { openSalvaged, type SalvagedView } from './recover-view.js'
import { overlayOf } from './reset.js'
import { checkCutHere, checkNobodyAt, isCut, standingOf } from './undo-journal.js'
import { checkNothingUnfinished } from './unfinished.js'

export interface RecoverOptions {
  /** bytes that the overlay is to have; by itself as it needs, if left out */
  readonly size?: number | undefined
  /** false: leaves the filesystem in the overlay alone */
  readonly fsck?: boolean | undefined
  /** of an XFS: throw its log away, and with it what was changed last */
  readonly dropLog?: boolean | undefined
  /** what its checker works on; an export of the root where this computer can give it one, if left out */
  readonly fsckOn?: 'export' | 'copy' | undefined
  /** take the overlay for one with chunks of so many sectors, whatever its header says */
  readonly chunkSectors?: number | undefined
}

/** What a recovery would do. Sizes are bytes. */
export interface RecoverPlan {
  readonly verb: 'recover'
  readonly target: string
  readonly base: FileIdentity
  readonly overlay: FileIdentity
  readonly options: RecoverOptions
  /** a run that was cut is taken back first; or had all done but to let go of the overlay, and that is done */
  readonly resume: 'take back' | 'release' | null
  readonly damage: DamageClass
  readonly clearsInvalid: boolean
  readonly writesHeader: boolean
  readonly list: {
    readonly kept: number
    /** entries that follow the place where it stops making sense */
    readonly lost: number
    /** true where more is lost than those: the list went on past the end of the file, or not all of it can be read */
    readonly atLeast: boolean
    readonly tear: Tear | null
    readonly content: LostContent
  }
  /** what the overlay has, and will have at least; `after` is null where it has no room and the stick neither */
  readonly size: { readonly before: number; readonly after: number | null }
  /** null where nothing is checked */
  readonly fsck: {
    readonly program: 'e2fsck' | 'xfs_repair'
    /** an export of the root, whose writes land in a scratch store, or a copy; both in a temporary folder */
    readonly on: 'export' | 'copy'
    /** of the root filesystem, at most, for a copy; an export takes what the check writes */
    readonly copyBytes: number
    readonly freeBytes: number
  } | null
  readonly estimatedSeconds: number
  /** why and when the stick can't boot; null where it can at any moment */
  readonly cannotBoot: string | null
  readonly lost: readonly string[]
  readonly steps: readonly string[]
  readonly findings: readonly Finding[]
}

/** bytes a second of a slow stick */
const SPEED = 10e6

const copyBytesOf = async ({ root, base, store }: SalvagedView): Promise<number> => {
  const bytes = await dataLength(root)
  // the holes of a raw base are known by what its file takes
  const raw = base.squashfs ? Number.POSITIVE_INFINITY : base.file.allocated
  return Math.min(bytes, raw + store.exceptions.count * store.chunkSize)
}

const planFsck = async (
  view: SalvagedView,
  { fsck = true, fsckOn }: RecoverOptions,
  findings: Finding[],
): Promise<RecoverPlan['fsck']> => {
  const type = await detectFs(view.root).catch(() => undefined)
  const add = (code: string, severity: Finding['severity'], message: string, remedy?: string): null => {
    findings.push({ code, severity, where: view.base.file.path, message, ...(remedy ? { remedy } : {}) })
    return null
  }
  if (!fsck)
    return add(
      'FSCK_LEFT_OUT',
      'warning',
      'the filesystem in the overlay is not checked: errors in it stay, and may grow',
    )
  const program = type === 'xfs' ? 'xfs_repair' : type === 'ext4' ? 'e2fsck' : undefined
  if (!program)
    return add(
      'FSCK_UNKNOWN',
      'warning',
      `the root is ${type ?? 'no known filesystem'}, for which there is no checker here: only the overlay itself is repaired`,
    )
  if (!(await findTool(program)))
    throw new LiveError(
      'NOT_FOUND',
      `${program} is not installed, and the filesystem in the overlay has to be checked: install the package ${packageOf(program)}, or leave the check out with --no-fsck`,
      { tool: program, package: packageOf(program) },
    )
  const on = fsckOn ?? ((await canExportAsFile()) ? 'export' : 'copy')
  const [copyBytes, freeBytes] = [await copyBytesOf(view), await temporaryRoom()]
  if (on === 'copy' && copyBytes > freeBytes)
    add(
      'NO_ROOM_FOR_COPY',
      'error',
      `the check works on a copy of the root of ${copyBytes} bytes at most, and the temporary folder has ${freeBytes} free`,
      `set TMPDIR to a folder with room, or install ${NBDFUSE_PACKAGE}, with which no copy is needed`,
    )
  return { program, on, copyBytes, freeBytes }
}

const planSize = async (
  target: OverlayTarget,
  { store, cow }: SalvagedView,
  { size }: RecoverOptions,
  findings: Finding[],
): Promise<RecoverPlan['size']> => {
  const overlay = overlayOf(target)
  const before = cow.size
  const isFile = overlay.facts.kind === 'file'
  const most = isFile ? mostSize(overlay.folder.traits.maxFileSize) : before
  const freeBytes = await overlay.folder.freeBytes()
  if (size === undefined) {
    const after = sizeByItself(store, { current: before, most, freeBytes })
    if (after === undefined && !isFile)
      findings.push({
        code: 'NO_ROOM_TO_GROW',
        severity: 'error',
        where: overlay.path,
        message:
          'the overlay has no room left, and it is a whole partition or disk: the next boot would overflow it again',
        remedy: `make the partition larger; ${advised(target, address => `${marked(`liveos grow ${address} --size +512M`)} says how`)}`,
      })
    else if (after === undefined)
      findings.push({
        code: 'NO_ROOM_TO_GROW',
        severity: 'error',
        where: overlay.path,
        message: `the overlay has no room left, and the stick has ${freeBytes} bytes free: the next boot would overflow it again`,
        remedy: `free space on the stick, or merge what the overlay holds: liveos refresh ${calledAs(target)}`,
      })
    return { before, after: after ?? null }
  }
  if (size < before)
    throw new LiveError(
      'USAGE',
      `--size ${size} is less than the ${before} bytes that the overlay has: recover makes room, and 'liveos grow --size' makes it smaller afterwards`,
    )
  if (!isFile && size !== before)
    throw new LiveError(
      'USAGE',
      `${overlay.path} is a whole partition or disk of ${before} bytes, which an overlay there has: leave --size out. ${advised(target, address => `${marked(`liveos grow ${address} --size ${size}`)} says how the partition is made larger`)}`,
    )
  const after = wholeSize(store, size, { current: before, most })
  if (after < sizeFor(store, 0) && after < most)
    throw new LiveError('USAGE', `--size ${size} leaves the overlay full: it needs ${sizeFor(store, 0)} bytes or more`)
  if (after - before > freeBytes)
    throw new LiveError(
      'NO_SPACE',
      `an overlay of ${after} bytes needs ${after - before} more, and the stick has ${freeBytes} free`,
      { neededBytes: after - before, freeBytes },
    )
  return { before, after }
}

/** True where the journal of an ext4 is to be replayed, or can't be. */
export const needsReplay = async ({ root }: SalvagedView): Promise<boolean> => {
  try {
    return (await detectFs(root)) === 'ext4' && (await openReplayed(root)).replayed.needsRecovery
  } catch {
    return true
  }
}

const stepsOf = (plan: Omit<RecoverPlan, 'steps'>, name: string): string[] => {
  const { fsck, size, list, resume } = plan
  if (resume === 'release') return [`mark ${name} as valid, the last step of a recovery that was cut short, and flush`]
  const grows = size.after !== null && size.after > size.before
  const repairs = grows || list.tear !== null || plan.clearsInvalid || plan.writesHeader
  return [
    ...(resume === 'take back' ? [`take back what the recovery that was cut short had changed`] : []),
    ...(fsck
      ? [
          fsck.on === 'copy'
            ? `copy the root filesystem, at most ${fsck.copyBytes} bytes, to a temporary folder`
            : 'serve the root filesystem by NBD to this computer alone, with a scratch store for all writes in a temporary folder',
          fsck.program === 'e2fsck'
            ? 'replay its journal and check it there: e2fsck -f -y, then e2fsck -f -n, which must find nothing'
            : `check it there: xfs_repair${plan.options.dropLog ? ' -L' : ''}, then xfs_repair -n, which must find nothing`,
        ]
      : []),
    ...(fsck && !repairs ? ['where that found nothing wrong: stop, nothing is changed'] : []),
    `begin ${name}.undo, which takes each page before it is overwritten, and flush`,
    `mark ${name} as invalid while it is worked on, so that no boot writes to it, and flush`,
    ...(grows ? [`append ${size.after! - size.before} zeros to ${name}, and flush`] : []),
    ...(list.tear ? [`clear its list from entry ${list.tear.index} on, and flush`] : []),
    ...(fsck ? ['write what the check has repaired into the overlay, and flush'] : []),
    'read all of that back and compare it',
    `mark ${name} as valid, and flush; ${name}.undo stays for liveos undo`,
  ]
}

/**
 * Plans to recover an overlay: one that is full or overflowed, that the kernel gave up, or that is cut off or torn.
 *
 * @throws NOT_FOUND  there is no overlay, or no checker
 * @throws REFUSED  it holds nothing to recover, belongs to another base, is in use, or another verb was cut short
 * @throws USAGE, NO_SPACE, READ_ONLY, CORRUPT, UNSUPPORTED, IO
 */
export const planRecover = async (target: OverlayTarget, options: RecoverOptions = {}): Promise<RecoverPlan> => {
  const overlay = overlayOf(target)
  checkHasPlace(overlay, target)
  await checkNothingUnfinished(target, { change: true })
  await checkNotInUse(target)
  await checkWritable(target)
  const findings: Finding[] = []
  const view = await openSalvaged(target, overlay, options)
  try {
    const { salvage, store, undo } = view
    await checkNobodyAt(undo)
    if (undo) await checkCutHere(overlay.folder, overlay.name, undo)
    const held =
      undo?.phase === 'finished' && undo.journal
        ? (await standingOf(overlay.folder, overlay.name, undo.journal)) === 'held'
        : false
    const resume = held ? 'release' : undo && (isCut(undo) || undo.phase === 'empty') ? 'take back' : null
    const content = await lostContent(view.root, salvage.lost, store.chunkSize)
    const fsck = held ? null : await planFsck(view, options, findings)
    const size = held
      ? { before: view.cow.size, after: view.cow.size }
      : await planSize(target, view, options, findings)
    const written = (size.after ?? size.before) - size.before
    const list: RecoverPlan['list'] = {
      kept: store.exceptions.count,
      lost: salvage.lostCount,
      atLeast: salvage.lostAtLeast,
      tear: salvage.tear ?? null,
      content,
    }
    const plan: Omit<RecoverPlan, 'steps'> = {
      verb: 'recover',
      target: target.name,
      base: identityOf(target.base),
      overlay: identityOf(overlay),
      options,
      resume,
      damage: salvage.damage,
      clearsInvalid: salvage.header === 'invalid',
      writesHeader: salvage.header === 'guessed',
      list,
      size,
      fsck,
      estimatedSeconds: Math.round(
        ((fsck?.copyBytes ?? 0) * (fsck?.on === 'copy' ? 2 : 0.1)) / 100e6 + written / SPEED + 3,
      ),
      cannotBoot: `from the moment that ${overlay.name} is marked invalid until it is marked valid again, less than a minute for most; before, it is as it was`,
      lost: [
        ...(salvage.tear && (list.lost > 0 || list.atLeast)
          ? [`${lostWords(list)} that its list does not lead to any more`]
          : []),
        ...(options.dropLog && fsck?.program === 'xfs_repair'
          ? ['what the log of the XFS holds: the last changes']
          : []),
        ...(undo?.phase === 'finished' && !held ? [`the undo of an earlier ${undo.about?.verb ?? 'change'}`] : []),
      ],
      findings,
    }
    return { ...plan, steps: stepsOf(plan, overlay.name) }
  } finally {
    await view.close()
  }
}
