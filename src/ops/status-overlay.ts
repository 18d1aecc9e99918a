import type { Device } from '../block/device.js'
import { SECTOR } from '../block/snapshot/layout.js'
import { salvageStore } from '../block/snapshot/salvage.js'
import { statusLine } from '../block/snapshot/status.js'
import { readStore, type Store } from '../block/snapshot/store.js'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { overlayFsType } from '../fs/detect.js'
import { isHostFolder, type OpenedFile } from '../host/folder.js'
import { advised, marked, rescueCommand } from '../liveos/advice.js'
import { isOfOtherBase } from '../liveos/stack.js'
import type { Target, TargetFile } from '../liveos/target.js'
import { LEAST_OVERLAY, tooSmallAdvice } from '../liveos/too-small.js'
import { takenBelow, upperRoom } from './status-live.js'
import type { Thresholds } from './status-live-check.js'

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

export const NO_OVERLAY: OverlayStatus = {
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

/** A file of a target, opened; whoever looks closes what is in `open`. */
export const opened = async (file: TargetFile, open: Device[]): Promise<OpenedFile> => {
  const device = await file.folder.open(file.name)
  open.push(device)
  return device
}

export const describe = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/**
 * Looks at the overlay of a target; what is wrong with it goes to `findings`, what was opened to `open`.
 *
 * @param known  its store, where it was read just now
 */
export const overlayStatus = async (
  target: Target,
  originSize: number | undefined,
  findings: Finding[],
  open: Device[],
  input: Thresholds,
  known?: Store,
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
    store = known ?? (await readStore(file, { originSize }))
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
  { warnAt = 80, criticalAt = 95 }: Thresholds,
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
  { warnAt = 80, criticalAt = 95 }: Thresholds,
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
