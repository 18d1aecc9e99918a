import type { Device } from '../block/device.js'
import { SECTOR } from '../block/snapshot/layout.js'
import { salvageStore } from '../block/snapshot/salvage.js'
import { statusLine } from '../block/snapshot/status.js'
import { readStore, type Store } from '../block/snapshot/store.js'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs, overlayFsType } from '../fs/detect.js'
import { checkExt4Size, readExt4Superblock } from '../fs/ext4/superblock.js'
import { isHostFolder, type OpenedFile } from '../host/folder.js'
import { advised, calledAs, marked, rescueCommand } from '../liveos/advice.js'
import { type OpenTarget, openTarget } from '../liveos/open-target.js'
import { type Base, isOfOtherBase, openBase } from '../liveos/stack.js'
import type { Target, TargetFile, TargetInput } from '../liveos/target.js'
import { LEAST_OVERLAY, tooSmallAdvice } from '../liveos/too-small.js'
import { attached, leftovers } from './status-leftovers.js'
import { findLive, type LiveOverlay, takenBelow, upperRoom } from './status-live.js'
import { liveFindings, lookTwice, type Thresholds } from './status-live-check.js'
import { runningStatus, worstOf } from './status-live-running.js'

/**
 * - `new` all zero, the kernel has not used it yet · `ok` in use · `full` no further exception fits
 * - `invalid` the kernel gave it up · `damaged` can't be read right · `none` there is no overlay file
 */
export type OverlayState = 'new' | 'ok' | 'full' | 'invalid' | 'damaged' | 'none'

/** The overlay in numbers. Sectors are 512 bytes and counted as `dmsetup status` does. */
export interface OverlayStatus {
  readonly kind: 'dm-snapshot' | 'OverlayFS directory' | 'unknown' | 'none'
  readonly state: OverlayState
  readonly path: string | null
  /** bytes of the file; of a directory what all in it takes, null where not all of it may be looked at */
  readonly size: number | null
  readonly chunkSectors: number | null
  readonly allocatedSectors: number | null
  readonly totalSectors: number | null
  readonly metadataSectors: number | null
  readonly exceptions: number | null
  /** allocated of total, of a directory the filesystem's; 0 to 100, one decimal */
  readonly percent: number | null
  /** what can still be written before it overflows */
  readonly left: {
    readonly bytes: number
    /** room in the store */
    readonly storeBytes: number
    /** where the file has holes: free space of the stick that fills them; null where it has none */
    readonly stickBytes: number | null
    readonly limitedBy: 'store' | 'stick'
  } | null
  /** the line that `dmsetup status` would print; null where the kernel would not activate it */
  readonly dmsetup: string | null
}

export interface BaseStatus {
  readonly path: string
  /** bytes of the file */
  readonly size: number
  readonly kind: 'squashfs' | 'raw'
  /** such as xz; null where it is not compressed */
  readonly compressor: string | null
  readonly blockSize: number | null
  /** bytes of the root filesystem */
  readonly rootSize: number
  readonly rootType: string | null
  readonly rootLabel: string | null
}

/** What `liveos status` tells. */
export interface Status {
  readonly target: string
  readonly liveDir: string | null
  readonly medium: {
    readonly type: string
    readonly mountPoint: string
    readonly label: string | null
    readonly uuid: string | null
    readonly readOnly: boolean
    readonly freeBytes: number
  }
  readonly overlay: OverlayStatus
  /** where the running kernel puts changes to this system, as it tells it; null where none is running from this target */
  readonly live: LiveOverlay | null
  readonly base: BaseStatus | null
  readonly home: { readonly path: string; readonly size: number; readonly type: string | null } | null
  /** worst of the findings: ok, or 80 % full, or 95 % full and anything that loses work */
  readonly level: 'ok' | 'warning' | 'critical'
  readonly findings: readonly Finding[]
}

/** `warnAt` and `criticalAt`: percent from which an overlay is worth a warning, and is critical; 80 and 95 if left out. */
export interface StatusInput extends TargetInput, Thresholds {}

const NO_OVERLAY: OverlayStatus = {
  kind: 'none',
  state: 'none',
  path: null,
  size: null,
  chunkSectors: null,
  allocatedSectors: null,
  totalSectors: null,
  metadataSectors: null,
  exceptions: null,
  percent: null,
  left: null,
  dmsetup: null,
}

/** What makes room, of a target at this address. */
const roomAgain = (address: string): string => `a refresh gives the space back: liveos refresh ${address}`

/**
 * Looks at a stick's overlay, base and home. Reads files only, so it works on a stick in use.
 *
 * @throws NOT_FOUND, USAGE  only where there is no target; damage is told as findings
 */
export const readStatus = async (input: StatusInput): Promise<Status> => {
  let opened: OpenTarget
  try {
    opened = await openTarget(input)
  } catch (error) {
    const status = await runningStatus(input, NO_OVERLAY)
    if (status) return status
    throw error
  }
  const { target, close } = opened
  const findings: Finding[] = []
  const open: OpenedFile[] = []
  try {
    const base = await baseStatus(target, findings, open)
    const read = (told: Finding[]) => overlayStatus(target, base?.rootSize, told, open, input)
    const source = isHostFolder(target.base.folder) ? await findLive(target) : undefined
    const looked = source && (await lookTwice(source, read))
    const overlay = looked?.overlay ?? (await read(findings))
    if (looked) findings.push(...looked.findings, ...liveFindings(looked, calledAs(target), input))
    else await attached(target, findings)
    await leftovers(target, findings)
    const { type, mountPoint, label, uuid, readOnly } = target.medium
    return {
      target: target.name,
      liveDir: target.stick?.liveDir ?? null,
      medium: {
        type,
        mountPoint,
        label: label ?? null,
        uuid: uuid ?? null,
        readOnly,
        freeBytes: await target.base.folder.freeBytes(),
      },
      overlay,
      live: looked?.live ?? null,
      base,
      home: target.home ? await homeStatus(target.home, open) : null,
      level: worstOf(findings),
      findings,
    }
  } finally {
    for (const device of open) await device.close()
    await close()
  }
}

const opened = async (file: TargetFile, open: Device[]): Promise<OpenedFile> => {
  const device = await file.folder.open(file.name)
  open.push(device)
  return device
}

const describe = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const baseStatus = async (target: Target, findings: Finding[], open: OpenedFile[]): Promise<BaseStatus | null> => {
  const { path, facts } = target.base
  let base: Base
  try {
    base = await openBase(await opened(target.base, open))
  } catch (error) {
    const unsupported = isLiveError(error) && error.code === 'UNSUPPORTED'
    findings.push({
      code: unsupported ? 'BASE_UNSUPPORTED' : 'BASE_DAMAGED',
      severity: unsupported ? 'warning' : 'error',
      where: path,
      message: describe(error),
      ...(unsupported ? {} : { remedy: 'copy the base image to the stick again from where it came' }),
    })
    return null
  }
  const rootType = await detectFs(base.origin).catch(() => undefined)
  let rootLabel: string | null = null
  let extType: string | undefined
  if (rootType === 'ext4') {
    try {
      const superblock = await readExt4Superblock(base.origin)
      rootLabel = superblock.label
      extType = superblock.type
      checkExt4Size(superblock, base.origin)
    } catch (error) {
      findings.push({
        code: 'ROOT_DAMAGED',
        severity: 'error',
        where: path,
        message: describe(error),
        remedy: 'copy the base image to the stick again from where it came',
      })
    }
  }
  const squashfs = base.squashfs?.fs
  return {
    path,
    size: facts.size,
    kind: squashfs ? 'squashfs' : 'raw',
    compressor: squashfs?.compressor.name ?? null,
    blockSize: squashfs?.superblock.block_size ?? null,
    rootSize: base.origin.size,
    rootType: extType ?? rootType ?? null,
    rootLabel,
  }
}

/** Looks at the overlay of a target; what is wrong with it goes to `findings`, what was opened to `open`. */
export const overlayStatus = async (
  target: Target,
  originSize: number | undefined,
  findings: Finding[],
  open: Device[],
  input: StatusInput,
): Promise<OverlayStatus> => {
  if (target.overlayDirectory) return directoryStatus(target, target.overlayDirectory, findings, input)
  if (!target.overlay) return NO_OVERLAY
  const { path, facts } = target.overlay
  if (target.overlayFoundBy === 'only one' && target.expectedOverlay)
    findings.push({
      code: 'OVERLAY_NAME',
      severity: 'note',
      where: path,
      message: `a boot of this stick looks for ${target.expectedOverlay} by its label and UUID`,
      remedy: 'on a copy of a stick this means nothing; on the stick itself rename the overlay',
    })
  const file = await opened(target.overlay, open)
  const tooSmall = file.size < LEAST_OVERLAY ? await tooSmallAdvice(target, path, file) : undefined
  const damaged = (message: string, ofOtherBase = false): OverlayStatus => {
    findings.push({
      code: 'OVERLAY_DAMAGED',
      severity: 'error',
      where: path,
      message,
      remedy:
        tooSmall ??
        advised(target, address =>
          ofOtherBase
            ? `if the base was replaced, put back the one that the overlay was made over; ${marked(`liveos doctor ${address}`)} tells whether it is only damaged`
            : `${marked(`liveos recover ${address}`)} keeps what can be read; ${marked(`liveos reset ${address}`)} empties it, which loses its changes`,
        ),
    })
    return { ...NO_OVERLAY, kind: 'dm-snapshot', state: 'damaged', path, size: facts.size }
  }
  let store: Store
  try {
    const type = await overlayFsType(file)
    if (type) {
      findings.push({
        code: 'OVERLAY_UNSUPPORTED',
        severity: 'note',
        where: path,
        message: `this overlay is a filesystem (${type}) that an OverlayFS keeps whole files in, not a dm-snapshot store`,
      })
      return { ...NO_OVERLAY, kind: 'unknown', state: 'ok', path, size: facts.size }
    }
    store = await readStore(file, { originSize })
  } catch (error) {
    return damaged(describe(error), isLiveError(error) && isOfOtherBase(error))
  }
  if (store.truncated)
    return damaged(`${path} was cut off: its last metadata area is full and the next one lies past its end`)
  if (store.state === 'new') await lostHeader(target, file, originSize, findings)
  const state: OverlayState = store.state === 'invalid' ? 'invalid' : store.full ? 'full' : store.state
  const percent = Math.round((store.allocatedSectors / store.totalSectors) * 1000) / 10
  judge(target, path, state, percent, findings, input)
  const left = await roomLeft(target.overlay, file, store)
  if (left.limitedBy === 'stick' && state !== 'invalid')
    findings.push({
      code: 'OVERLAY_OVERCOMMITTED',
      severity: left.bytes < 64 << 20 ? 'warning' : 'note',
      where: path,
      message: `the overlay file has holes and the stick has only ${left.bytes} bytes free: when the stick is full the kernel invalidates the overlay, long before its own size is used`,
      remedy: 'free space on the stick',
    })
  return {
    kind: 'dm-snapshot',
    state,
    path,
    size: file.size,
    chunkSectors: store.chunkSectors,
    allocatedSectors: store.allocatedSectors,
    totalSectors: store.totalSectors,
    metadataSectors: store.metadataSectors,
    exceptions: store.exceptions.count,
    percent,
    left,
    dmsetup: originSize === undefined ? null : statusLine(store, originSize),
  }
}

/** A new overlay is all free room to a boot, also where a list of changes lies behind a header that was cleared. */
const lostHeader = async (
  target: Target,
  file: OpenedFile,
  originSize: number | undefined,
  findings: Finding[],
): Promise<void> => {
  const { damage, store } = await salvageStore(file, { originSize })
  if (damage !== 'header' || !store) return
  findings.push({
    code: 'OVERLAY_HEADER',
    severity: 'error',
    where: file.path,
    message: `its header is gone, so a boot takes it for a new one and writes over the ${store.exceptions.count} changes that its list still has`,
    remedy: advised(
      target,
      address =>
        `${marked(`liveos recover ${address} --chunk ${store.chunkSectors}`)} takes them back into use; ${marked(`liveos reset ${address}`)} empties it for good`,
    ),
  })
}

/** An OverlayFS: what its upper directory takes, and what the stick has left for it. */
const directoryStatus = async (
  { base }: Target,
  path: string,
  findings: Finding[],
  { warnAt = 80, criticalAt = 95 }: StatusInput,
): Promise<OverlayStatus> => {
  const message = 'this is an OverlayFS directory: it fills the stick, not a file of its own'
  findings.push({ code: 'OVERLAY_UNSUPPORTED', severity: 'note', where: path, message })
  const overlay: OverlayStatus = { ...NO_OVERLAY, kind: 'OverlayFS directory', state: 'ok', path }
  const room = isHostFolder(base.folder) ? await upperRoom(path) : null
  if (!room) return overlay
  const { percent, leftBytes: bytes } = room
  if (percent >= warnAt)
    findings.push({
      code: percent >= criticalAt ? 'OVERLAY_CRITICAL' : 'OVERLAY_FILLING',
      severity: percent >= criticalAt ? 'error' : 'warning',
      where: path,
      message: `the stick is ${percent} % full, and its overlay has no room elsewhere`,
      remedy: 'free space on the stick',
    })
  const left = { bytes, storeBytes: bytes, stickBytes: bytes, limitedBy: 'stick' as const }
  return { ...overlay, size: await takenBelow(path), percent, left }
}

const judge = (
  target: Target,
  path: string,
  state: OverlayState,
  percent: number,
  findings: Finding[],
  { warnAt = 80, criticalAt = 95 }: StatusInput,
): void => {
  const add = (code: string, severity: Finding['severity'], message: string, remedy: string) =>
    findings.push({ code, severity, where: path, message, remedy })
  if (state === 'invalid')
    add(
      'OVERLAY_INVALID',
      'error',
      'the kernel has marked the overlay invalid and reads no more from it',
      `${advised(target, address => `${marked(`liveos recover ${address}`)} takes what it holds back into use`)}; ${marked(rescueCommand(target))} copies files out of it as it is`,
    )
  else if (state === 'full')
    add(
      'OVERLAY_FULL',
      'error',
      'the overlay is full: the next write of a booted system overflows it',
      advised(
        target,
        address => `${marked(`liveos grow ${address} --size +512M`)} makes it larger; ${roomAgain(address)}`,
      ),
    )
  else if (percent >= criticalAt)
    add('OVERLAY_CRITICAL', 'error', `the overlay is ${percent} % full`, advised(target, roomAgain))
  else if (percent >= warnAt)
    add('OVERLAY_FILLING', 'warning', `the overlay is ${percent} % full`, advised(target, roomAgain))
}

/** Room of the store, or of the stick where the overlay's holes still have to be filled from it, whichever is less. */
const roomLeft = async (
  overlay: TargetFile,
  file: OpenedFile,
  store: Store,
): Promise<NonNullable<OverlayStatus['left']>> => {
  const storeBytes = store.full ? 0 : Math.max(0, store.totalSectors - store.allocatedSectors) * SECTOR
  if (!file.hasHoles) return { bytes: storeBytes, storeBytes, stickBytes: null, limitedBy: 'store' }
  const stickBytes = await overlay.folder.freeBytes()
  const bytes = Math.min(storeBytes, stickBytes)
  return { bytes, storeBytes, stickBytes, limitedBy: bytes < storeBytes ? 'stick' : 'store' }
}

const homeStatus = async (home: TargetFile, open: OpenedFile[]): Promise<Status['home']> => {
  const device: Device = await opened(home, open)
  return { path: home.path, size: home.facts.size, type: (await detectFs(device).catch(() => undefined)) ?? null }
}
