import { LiveError } from '../../error.js'
import { type Device, isZero, type WritableDevice } from '../device.js'
import { areaChunk, EXCEPTION_SIZE, exceptionsPerArea, SECTOR } from './layout.js'
import { checkUsable } from './snapshot.js'
import { readStore, type Store } from './store.js'

/** How a merge runs. */
export interface MergeStoreOptions {
  readonly signal?: AbortSignal | undefined
  /** Called after each step that is safe on the medium; bytes of the chunks merged by this run, and of all that there were. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
  /** the origin as its medium has it: what was copied is read from here and compared before the store forgets it */
  readonly readBack?: Device | undefined
  /** bytes copied before they are flushed and their exceptions cleared; 16 MiB if left out */
  readonly batchBytes?: number | undefined
}

/** What a merge did. */
export interface MergedStore {
  /** exceptions merged */
  readonly exceptions: number
  /** bytes written to the origin */
  readonly bytes: number
}

/** bytes of one read and write */
const PIECE = 1 << 20

/** Chunks that follow each other in origin and store, in bytes. */
interface Run {
  readonly from: number
  readonly to: number
  readonly length: number
}

/** The exceptions stored in places `first` to before `end`, in the order of the origin. */
interface Batch {
  readonly first: number
  readonly runs: readonly Run[]
}

/** The last of the first `end` exceptions of a list, as far as their data is not too much. */
const batchBefore = (
  end: number,
  chunksOf: (place: number) => readonly [oldChunk: number, newChunk: number],
  { chunkSize }: Store,
  originSize: number,
  batchBytes: number,
): Batch => {
  const first = Math.max(0, end - Math.max(1, Math.floor(batchBytes / chunkSize)))
  const pairs = Array.from({ length: end - first }, (_, n) => chunksOf(first + n)).sort(([a], [b]) => a - b)
  const runs: Run[] = []
  for (let n = 0; n < pairs.length; ) {
    const [oldChunk, newChunk] = pairs[n]!
    let count = 1
    while (
      (count + 1) * chunkSize <= PIECE &&
      pairs[n + count]?.[0] === oldChunk + count &&
      pairs[n + count]![1] === newChunk + count
    )
      count++
    const to = oldChunk * chunkSize
    // The last chunk of the origin may be a partial one.
    runs.push({ from: newChunk * chunkSize, to, length: Math.min(count * chunkSize, originSize - to) })
    n += count
  }
  return { first, runs }
}

/**
 * Merges a store into its origin in place, as the kernel's snapshot-merge does: the exceptions that were stored last come
 * first. Ordered steps and the state after each, over and over:
 *
 * 1. chunks copied to the origin: the view is as it was, as the store still covers them
 * 2. origin flushed, read back and compared where `readBack` is given
 * 3. their exceptions cleared, in each area a sector after the other from its end, flushed after each: the view is as it was,
 *    now from the origin
 *
 * So the view never changes. A cut or a failure leaves the rest for the
 * next run; the kernel can go on with it too, and this goes on with what the kernel left. In the end the store is empty.
 *
 * @param origin  nobody else may use it now; it can't be taken back
 * @throws CORRUPT  the store is invalid, truncated or damaged, or of another origin
 * @throws CANCELLED  after a whole step; the rest is in the store as before
 * @throws IO  also where other bytes were read back: nothing of that step was cleared then
 * @see linux drivers/md/dm-snap.c, snapshot_merge_next_chunks, and dm-snap-persistent.c, persistent_commit_merge
 */
export const mergeStore = async (
  origin: WritableDevice,
  cow: WritableDevice,
  { signal, onProgress, readBack, batchBytes = 16 << 20 }: MergeStoreOptions = {},
): Promise<MergedStore> => {
  const store = await readStore(cow, { originSize: origin.size })
  checkUsable(origin, cow, store)
  const { exceptions, chunkSize } = store
  const total = exceptions.count
  if (store.state === 'new' || total === 0) return { exceptions: 0, bytes: 0 }
  const indexes = new Uint32Array(total)
  for (let index = 0; index < total; index++) indexes[exceptions.storedAt(index)] = index
  const chunksOf = (place: number) =>
    [exceptions.oldChunkAt(indexes[place]!), exceptions.newChunkAt(indexes[place]!)] as const

  await clearBehind(cow, store)
  let bytes = 0
  for (let end = total; end > 0; ) {
    if (signal?.aborted)
      throw new LiveError(
        'CANCELLED',
        `merging was stopped: ${total - end} of ${total} changed chunks are merged, the rest is in the overlay as before`,
        { merged: total - end, total },
        signal.reason,
      )
    const batch = batchBefore(end, chunksOf, store, origin.size, batchBytes)
    for (const { from, to, length } of batch.runs) {
      await origin.write(to, await cow.read(from, length))
      bytes += length
    }
    await origin.flush()
    if (readBack) await compare(batch.runs, cow, readBack)
    await clearFrom(cow, store, batch.first, end)
    end = batch.first
    onProgress?.((total - end) * chunkSize, total * chunkSize)
  }
  return { exceptions: total, bytes }
}

/** @throws IO  the origin's medium does not hold what was copied */
const compare = async (runs: readonly Run[], cow: Device, readBack: Device): Promise<void> => {
  for (const { from, to, length } of runs) {
    const [wanted, found] = await Promise.all([cow.read(from, length), readBack.read(to, length)])
    if (Buffer.compare(wanted, found) === 0) continue
    throw new LiveError(
      'IO',
      `${readBack.name}: other bytes were read back at ${to} than were written: the medium does not keep what is written to it. The overlay still holds these chunks, so nothing is lost`,
      { device: readBack.name, offset: to, length },
    )
  }
}

/** Clears what lies behind the list in its last area: a clearing that was cut left entries there that a later writer could bring to life. */
const clearBehind = async (cow: WritableDevice, { chunkSize, areaCount, exceptions }: Store): Promise<void> => {
  const perArea = exceptionsPerArea(chunkSize)
  const offset = areaChunk(areaCount - 1, perArea) * chunkSize
  const area = await cow.read(offset, chunkSize)
  const used = (exceptions.count % perArea) * EXCEPTION_SIZE
  if (isZero(area.subarray(used))) return
  area.fill(0, used)
  const from = used - (used % SECTOR)
  await cow.write(offset + from, area.subarray(from))
  await cow.flush()
}

/**
 * Clears the entries in places `first` to before `end`, where the list ends: in each area from its last sector on, as what
 * stays behind the end in an area comes to life when a later writer fills that area up. Whole areas behind the end don't:
 * every writer clears an area before the one in front of it fills.
 */
const clearFrom = async (cow: WritableDevice, { chunkSize }: Store, first: number, end: number): Promise<void> => {
  const perArea = exceptionsPerArea(chunkSize)
  const perSector = SECTOR / EXCEPTION_SIZE
  const sectors = perArea / perSector
  const areas = { first: Math.floor(first / perArea), end: Math.ceil(end / perArea) }
  for (let sector = sectors - 1; sector >= 0; sector--) {
    let cleared = false
    for (let area = areas.first; area < areas.end; area++) {
      const place = area * perArea + sector * perSector
      if (place + perSector <= first || place >= end) continue
      const offset = areaChunk(area, perArea) * chunkSize + sector * SECTOR
      const bytes = place >= first ? new Uint8Array(SECTOR) : await cow.read(offset, SECTOR)
      bytes.fill(0, Math.max(0, first - place) * EXCEPTION_SIZE)
      await cow.write(offset, bytes)
      cleared = true
    }
    if (cleared) await cow.flush()
  }
}
