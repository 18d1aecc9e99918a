import { openFile } from '../block/file.js'
import { readPartitions } from '../block/partitions/reader.js'
import { salvageStore } from '../block/snapshot/salvage.js'
import { isStore, type Store } from '../block/snapshot/store.js'
import { isLiveError, LiveError } from '../error.js'
import { factsOf } from '../host/folder.js'
import { partitionOf } from '../host/partition-node.js'
import { isPlaceFolder } from '../host/place-folder.js'
import { shellWord } from '../host/shell-word.js'
import { marked } from '../liveos/advice.js'
import { openOverlayTarget } from '../liveos/open-target.js'
import { overlayFile, parsePartitionName } from '../liveos/overlay-place.js'
import type { HostFile, OverlayTarget, TargetInput } from '../liveos/target.js'
import { isUnsized } from '../liveos/too-small.js'
import { chooseSize, leastSize, type SizeChange } from './grow-size.js'
import { aloneAs } from './grow-target.js'

const KIB = 1024
/** Bytes that a GPT wants behind the last partition, for its backup, and what alignment may cost. */
const BEHIND = 1 << 20

/** The disk or image that a place is a partition of. */
interface Whole {
  readonly disk: string
  readonly number: number
  readonly isImage: boolean
}

const wholeOf = async ({ folder, path }: HostFile): Promise<Whole | undefined> => {
  const { part } = isPlaceFolder(folder) ? folder : { part: undefined }
  if (part?.partition === undefined) {
    const found = await partitionOf(part?.path ?? path)
    return found && { ...found, isImage: false }
  }
  return { disk: part.path, number: part.partition, isImage: (await factsOf(part.path))?.kind === 'file' }
}

/** What the overlay holds, whatever its state: one that recovers only where it has more room needs that first. */
const storeOf = async ({ folder, name }: HostFile): Promise<Store | undefined> => {
  const file = await folder.open(name)
  try {
    return (await salvageStore(file)).store
  } finally {
    await file.close()
  }
}

/** Bytes behind a partition that no other has, and whether it is the last one; undefined where that can't be told. */
const roomBehind = async ({ disk, number }: Whole): Promise<{ bytes: number; isLast: boolean } | undefined> => {
  const device = await openFile(disk).catch(() => undefined)
  if (!device) return undefined
  try {
    const { partitions = [] } = (await readPartitions(device)) ?? {}
    const own = partitions.find(partition => partition.number === number)
    // one inside an extended partition ends with that
    if (own?.role !== 'primary') return undefined
    const end = own.start + own.length
    const next = partitions.filter(({ start }) => start >= end).map(({ start }) => start)
    return { bytes: Math.max(0, Math.min(device.size - BEHIND, ...next) - end), isLast: next.length === 0 }
  } catch (error) {
    if (isLiveError(error)) return undefined
    throw error
  } finally {
    await device.close()
  }
}

/**
 * Why the size of an overlay that is a partition is not changed here, and by which commands it is: the kernel takes the whole
 * partition for the store, whatever is in it.
 *
 * @param size  that was asked for
 * @throws USAGE, REFUSED  there is no such size, or the overlay holds more than that
 */
export const partitionSize = async (overlay: HostFile, size: SizeChange | undefined): Promise<LiveError> => {
  const { path, facts } = overlay
  const store = await storeOf(overlay)
  const leastBytes = store ? leastSize(store) : 0
  const refused = (how: string, command?: string): LiveError =>
    new LiveError(
      'REFUSED',
      `${path} is a whole partition or disk, and an overlay there has the size of that, ${facts.size} bytes${leastBytes > 0 ? `, of which it needs ${leastBytes}` : ''}: ${how}`,
      { path, leastBytes, ...(command === undefined ? {} : { command }) },
    )
  if (size === undefined) return refused('it has no holes that could be filled')
  const { size: newBytes } = chooseSize(size, {
    current: facts.size,
    chunkSize: Math.max(store?.chunkSize ?? 0, KIB),
    most: Number.MAX_SAFE_INTEGER,
    least: leastBytes,
  })
  if (newBytes === facts.size) return refused('it has that size')
  const whole = await wholeOf(overlay)
  if (!whole) return refused('move it to a larger one, with dd')
  const { disk, number, isImage } = whole
  const missing = newBytes - facts.size
  const room = await roomBehind(whole)
  const editor = 'change it with a partition editor such as gparted, and the kernel uses the new size at the next start'
  if (!room) return refused(editor)
  const resize = `echo ', ${newBytes / KIB}KiB' | sfdisk -N ${number} ${shellWord(disk)}`
  const byRunning = (command: string): LiveError =>
    refused(
      `run ${marked(command)}${isImage ? '' : ' as root'}, and the kernel uses the new size at the next start`,
      command,
    )
  if (missing <= room.bytes) return byRunning(resize)
  if (isImage && room.isLast) return byRunning(`truncate -s +${missing - room.bytes} ${shellWord(disk)} && ${resize}`)
  return refused(
    `${room.bytes} bytes behind it are free, and ${missing} are wanted: ${room.isLast ? 'move' : 'move what follows it away, or'} the overlay to a larger partition; ${editor}`,
  )
}

/** An overlay that is a whole partition or disk. */
export interface OverlayPartition {
  readonly target: OverlayTarget
  readonly overlay: HostFile
  close(): Promise<void>
}

/**
 * The overlay of a target that verbs which change files can't take: a partition of an image or disk that was named itself, or on
 * which its base lies.
 *
 * @returns  undefined where it is none
 */
export const findOverlayPartition = async (input: TargetInput): Promise<OverlayPartition | undefined> => {
  const { target: name, base } = input
  if (name === undefined || base !== undefined) return undefined
  const kind = (await factsOf(name))?.kind
  if (kind === 'directory' || (kind === undefined && parsePartitionName(name) === undefined)) return undefined
  if (kind === undefined) {
    const overlay = await overlayFile(name, undefined)
    return { target: await aloneAs(name, overlay), overlay, close: async () => {} }
  }
  const device = await openFile(name)
  try {
    // it is the overlay itself
    if ((await isStore(device)) || (await isUnsized(device))) return undefined
  } finally {
    await device.close()
  }
  const { target, close } = await openOverlayTarget(input)
  const { overlay } = target
  if (overlay && isPlaceFolder(overlay.folder)) return { target, overlay, close }
  await close()
  return undefined
}
