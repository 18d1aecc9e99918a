import { openFile } from '../block/file.js'
import { SECTOR } from '../block/snapshot/layout.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type LoopFacts, loopAt, mayAskDm, numberOf } from '../host/dmsetup.js'
import { mediumOf } from '../host/medium.js'
import { type HostFile, hostFile, type TargetInput, type WritableTarget } from '../liveos/target.js'
import type { GrowOptions } from './grow.js'
import { findOverlayPartition } from './grow-partition.js'
import { chooseSize, mostSize } from './grow-size.js'
import { findOverlay } from './grow-target.js'
import { checkWritable } from './identity.js'
import { findLive, type LiveOverlay, runningMount } from './status-live.js'
import { checkNothingUnfinished, undoEnds } from './unfinished.js'
import { readTail } from './watch-store.js'

/** What will become of an overlay that is in use. Sizes are bytes. */
export interface GrowLivePlan {
  readonly verb: 'grow'
  readonly live: true
  readonly target: string
  /** times of a file in use change, so it is known by the rest */
  readonly overlay: { readonly path: string; readonly size: number; readonly device: number; readonly inode: number }
  /** device-mapper's name of the snapshot, and the loop device under it */
  readonly snapshot: string
  readonly loop: string
  /** `tell`: the file has that size already, and the kernel is to know of it */
  readonly change: 'grow' | 'tell' | 'none'
  readonly oldBytes: number
  readonly newBytes: number
  /** of the store as the kernel knows it now */
  readonly kernelBytes: number
  readonly chunkSize: number
  readonly usedBytes: number
  readonly space: { readonly neededBytes: number; readonly freeBytes: number; readonly fileLimit: number | null }
  readonly estimatedSeconds: number
  readonly steps: readonly string[]
  readonly findings: readonly Finding[]
}

/** The word that means the running system, where a target is asked for. */
export const LIVE = 'live'

/** Room for the blocks by which a filesystem finds those of the file, and for what is written meanwhile. */
const MARGIN = 1 << 20
/** bytes a second of a slow stick that carries the running system */
const SPEED = 5e6

const named = (input: TargetInput): TargetInput => (input.target === LIVE ? { ...input, target: undefined } : input)

/** True where a target is the running system, or its overlay the store of an active snapshot. @throws NOT_FOUND, USAGE */
export const isLive = async (input: TargetInput): Promise<boolean> => {
  if (input.target === LIVE) return true
  const apart = await findOverlayPartition(input)
  await apart?.close()
  if (apart) return false
  const target = await findOverlay(input)
  return (await runningMount(target)) !== undefined || (await findLive(target)) !== undefined
}

const refused = (message: string, data: Record<string, string> = {}): LiveError =>
  new LiveError('REFUSED', message, data)

/** @throws REFUSED  a store in this state gets no use of more room */
export const checkUsable = ({ state, name, store }: Pick<LiveOverlay, 'state' | 'name' | 'store'>): void => {
  const where = { path: store ?? name }
  if (state === 'overflow')
    throw refused(
      `the overlay has overflowed, and the kernel takes no more into it until it is set up anew, however large it is made: copy what matters to another disk and switch off; before the next start enlarge it from another system ('liveos recover TARGET' or 'liveos grow TARGET'), as the stick does not boot with a full one`,
      where,
    )
  if (state === 'invalid')
    throw refused(
      `the kernel has given the overlay up, and reads no more from it: switch off, and run 'liveos recover TARGET' from another system`,
      where,
    )
  if (state === 'merge failed') throw refused(`merging ${name} into its base has failed`, where)
  if (state === 'unknown') throw refused(`what the kernel makes of ${name} can't be told`, where)
}

/** What is in use, and its file. @throws REFUSED  with the reason */
const overlayInUse = async (
  target: WritableTarget,
): Promise<{ live: LiveOverlay; writable: WritableTarget; overlay: HostFile; loop: LoopFacts }> => {
  const source = await findLive(target)
  if (!source)
    throw refused(
      `${target.name} carries the running system, which keeps no changes in an overlay: there is nothing to enlarge`,
    )
  if (process.getuid?.() !== 0)
    throw refused('only root may tell the kernel of a new size: run this with sudo', { path: target.name })
  if (!(await mayAskDm())) throw new LiveError('NOT_FOUND', 'dmsetup is not installed: install the package dmsetup')
  const live = await source.ask()
  if (live.kind === 'OverlayFS')
    throw refused(
      `the running system is an OverlayFS, which fills the filesystem of ${live.store ?? 'its upper directory'} and no file of its own: free space there`,
    )
  if (live.keptIn === 'memory')
    throw refused(
      `the running system keeps its changes in memory (${live.name}), and memory is what ends: close programs and remove files, and start with a persistent overlay to keep them`,
    )
  checkUsable(live)
  if (live.dmsetup?.includes(' snapshot-merge ')) throw refused(`${live.name} is being merged into its base`)
  const number = live.loop === null ? undefined : await numberOf(live.loop)
  const loop = number === undefined ? undefined : await loopAt(number)
  if (!loop || live.store === null || live.totalSectors === null)
    throw refused(
      `the store of ${live.name} is a whole partition or disk, and the overlay has its size: nothing makes that larger while it is in use`,
    )
  if (loop.offset !== 0 || loop.sizeLimit !== 0)
    throw refused(
      `${loop.name} shows a part of ${live.store} only (offset ${loop.offset}, limit ${loop.sizeLimit}): more at its end changes nothing`,
    )
  if (live.keptIn === 'overlay of the stick' && target.overlay)
    return { live, writable: target, overlay: target.overlay, loop }
  const overlay = await hostFile(live.store, 'overlay')
  return { live, writable: { ...target, base: overlay, overlay, medium: await mediumOf(overlay.path) }, overlay, loop }
}

/**
 * Plans more room for an overlay that is in use.
 *
 * @throws USAGE, NOT_FOUND, NO_SPACE, READ_ONLY, CORRUPT  its header can't be read
 * @throws REFUSED  it has overflowed or was given up, is in memory, an OverlayFS or a partition, would become smaller; not root
 */
export const planGrowLive = async (input: TargetInput, { size, fill }: GrowOptions): Promise<GrowLivePlan> => {
  if (fill)
    throw new LiveError('USAGE', 'the holes of an overlay can be filled only while it is not in use: leave --fill out')
  if (size === undefined)
    throw new LiveError('USAGE', 'say how large the overlay is to be, such as --size 512M or --size +256M')
  const target = await findOverlay(named(input))
  const { live, writable, overlay, loop } = await overlayInUse(target)
  await checkNothingUnfinished(writable)
  await checkWritable(writable)
  const { folder, name, path, facts } = overlay
  const file = await openFile(path)
  try {
    const { chunkSectors } = await readTail(file)
    const chunkSize = chunkSectors * SECTOR
    const oldBytes = file.size
    const wanted = typeof size === 'number' ? size : oldBytes + size.by
    if (wanted < oldBytes)
      throw refused(`an overlay in use can only become larger, and ${path} has ${oldBytes} bytes already`, { path })
    const most = mostSize(folder.traits.maxFileSize)
    const { size: newBytes, why } = chooseSize(size, { current: oldBytes, chunkSize, most, least: oldBytes })
    const neededBytes = newBytes - oldBytes
    const freeBytes = await folder.freeBytes()
    const holes = file.hasHoles ? oldBytes - file.allocated : 0
    if (neededBytes > 0 && neededBytes + holes + MARGIN > freeBytes)
      throw new LiveError(
        'NO_SPACE',
        holes > 0
          ? `${folder.path} has ${freeBytes} bytes free, of which the holes of the overlay need ${holes} already: it can't be given ${neededBytes} more`
          : `${folder.path} has ${freeBytes} bytes free, and ${neededBytes} are needed: free space there`,
        { neededBytes: neededBytes + holes, freeBytes },
      )
    const findings: Finding[] = []
    if (why !== undefined)
      findings.push({
        code: 'SIZE_ROUNDED',
        severity: 'note',
        where: path,
        message: `the overlay gets ${newBytes} bytes: ${why}`,
      })
    const kernelBytes = live.totalSectors! * SECTOR
    const change = newBytes > oldBytes ? 'grow' : Math.floor(newBytes / SECTOR) * SECTOR > kernelBytes ? 'tell' : 'none'
    if (change === 'grow') findings.push(...(await undoEnds(writable)))
    return {
      verb: 'grow',
      live: true,
      target: target.name,
      overlay: { path, size: oldBytes, device: facts.device, inode: facts.inode },
      snapshot: live.name,
      loop: loop.name,
      change,
      oldBytes,
      newBytes,
      kernelBytes,
      chunkSize,
      usedBytes: live.allocatedSectors! * SECTOR,
      space: {
        neededBytes,
        freeBytes,
        fileLimit: folder.traits.maxFileSize < Number.MAX_SAFE_INTEGER ? most : null,
      },
      estimatedSeconds: Math.ceil(neededBytes / SPEED),
      steps: [
        ...(change === 'grow' ? [`append ${neededBytes} zero bytes to ${name}, and flush`] : []),
        ...(change === 'none'
          ? []
          : [
              `ask whether ${live.name} still takes writes`,
              `losetup -c ${loop.name}`,
              `compare what dmsetup status ${live.name} says`,
            ]),
      ],
      findings,
    }
  } finally {
    await file.close()
  }
}

export { type GrowLiveOutcome, runGrowLive } from './grow-live-run.js'
