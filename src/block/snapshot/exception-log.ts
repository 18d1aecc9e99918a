import { isZero, type WritableDevice } from '../device.js'
import { areaChunk, type DiskException, EXCEPTION_SIZE, exceptionsPerArea, SECTOR } from './layout.js'
import type { Store } from './store.js'

/**
 * The list of exceptions on the medium, as it grows. Each is reserved, then its data is written, then it is appended; a
 * commit puts them on the medium, in the order in which the kernel would: that of their new chunks.
 */
export interface ExceptionLog {
  /** exceptions appended and not yet on the medium */
  readonly pending: number
  /** Says that so many more will come. False where the list has no room for them. */
  reserve(count: number): boolean
  /** Takes a reservation back. */
  release(count: number): void
  /** Clears the areas that what is reserved may need; to be awaited before anything of it is appended. @throws NO_SPACE, IO */
  prepare(): Promise<void>
  /** Notes an exception whose data was written; in any order. */
  append(oldChunk: number, newChunk: number): void
  /**
   * Puts the exceptions that were appended, up to a new chunk, on the medium in the order of their new chunks, and before them
   * everything that was written.
   *
   * @param lastChunk  none up to it may be appended later
   * @throws NO_SPACE, IO  a flush that fails ends it: what the medium holds is not known any more, and every later call fails
   */
  commit(lastChunk: number): Promise<void>
  /** @throws IO  a flush has failed before */
  check(): void
}

/** Where a list stands: how many exceptions are on the medium, and the area that the next one goes to. */
interface Place {
  readonly count: number
  /** content of that area */
  readonly area: Uint8Array
}

interface AreaWrite {
  readonly offset: number
  readonly bytes: Uint8Array
}

/**
 * Opens the list of a store for appending, in the kernel's commit order:
 *
 * 1. data, by the caller; where an area will fill, its successor cleared; what lies behind the list's end in its area cleared
 * 2. flush
 * 3. the sectors of the areas that hold new exceptions
 * 4. flush
 *
 * After a cut before 3 the list is as it was. In 3 it grows by any number of the new ones, as the list ends at the first
 * entry that is not there: a sector that arrived without the one before it is behind the end, and the next writer clears it.
 * A sector that holds earlier exceptions is written with them unchanged. An area is cleared and flushed before the one in
 * front of it fills, so whatever lay there, from before a reset or a merge, is never read.
 *
 * @param store  what `readStore` found; not invalid, not truncated
 * @throws IO
 * @see linux drivers/md/dm-snap-persistent.c, persistent_commit_exception
 */
export const openExceptionLog = async (cow: WritableDevice, store: Store): Promise<ExceptionLog> => {
  const { chunkSize, areaCount } = store
  const perArea = exceptionsPerArea(chunkSize)
  const areaOffset = (area: number): number => areaChunk(area, perArea) * chunkSize
  const areaRoom = Math.floor((Math.floor(cow.size / chunkSize) - 2) / (perArea + 1)) + 1
  /** one that fills the last area that fits would need another */
  const most = areaRoom * perArea - 1

  const area = await cow.read(areaOffset(areaCount - 1), chunkSize)
  const used = (store.exceptions.count % perArea) * EXCEPTION_SIZE
  /** a writer that was cut, or a merge, leaves entries behind the end, which come to life when the list reaches them */
  let stale = !isZero(area.subarray(used))
  area.fill(0, used)
  let place: Place = { count: store.exceptions.count, area }

  let appended: DiskException[] = []
  let reserved = place.count
  let clearing = Promise.resolve()
  let clearedAreas = areaCount
  let failure: unknown

  const flush = async (): Promise<void> => {
    try {
      await cow.flush()
    } catch (error) {
      // The system forgets what it could not write: a later flush would say that all is well.
      failure = error
      throw error
    }
  }
  const check = (): void => {
    if (failure !== undefined) throw failure
  }

  const clearStale = async (): Promise<void> => {
    const from = used - (used % SECTOR)
    await cow.write(areaOffset(areaCount - 1) + from, area.subarray(from))
    stale = false
  }

  return {
    get pending() {
      return appended.length
    },
    reserve(count) {
      if (reserved + count > most) return false
      reserved += count
      return true
    },
    release(count) {
      reserved -= count
    },
    async prepare() {
      const needed = Math.floor(reserved / perArea) + 1
      if (needed <= clearedAreas) return
      // One after another, and never an area twice: once cleared, it may hold exceptions.
      const turn = clearing.then(async () => {
        for (; clearedAreas < needed; clearedAreas++)
          await cow.write(areaOffset(clearedAreas), new Uint8Array(chunkSize))
      })
      clearing = turn.catch(() => undefined)
      await turn
    },
    append(oldChunk, newChunk) {
      appended.push({ old_chunk: oldChunk, new_chunk: newChunk })
    },
    async commit(lastChunk) {
      check()
      if (stale && appended.length > 0) await clearStale()
      const batch = appended.filter(({ new_chunk }) => new_chunk <= lastChunk)
      batch.sort((a, b) => a.new_chunk - b.new_chunk)
      appended = appended.filter(({ new_chunk }) => new_chunk > lastChunk)
      await flush()
      if (batch.length === 0) return
      const { writes, after } = placed(place, batch, chunkSize, areaOffset)
      try {
        for (const { offset, bytes } of writes) await cow.write(offset, bytes)
      } catch (error) {
        appended = batch.concat(appended)
        throw error
      }
      await flush()
      place = after
    },
    check,
  }
}

/** The sectors that new exceptions change, and where the list stands after them. */
const placed = (
  before: Place,
  batch: readonly DiskException[],
  chunkSize: number,
  areaOffset: (area: number) => number,
): { writes: AreaWrite[]; after: Place } => {
  const perArea = exceptionsPerArea(chunkSize)
  const writes: AreaWrite[] = []
  let area = new Uint8Array(before.area)
  let { count } = before
  for (let next = 0; next < batch.length; ) {
    const first = count % perArea
    const entries = Math.min(perArea - first, batch.length - next)
    const view = new DataView(area.buffer)
    for (let index = first; index < first + entries; index++) {
      const { old_chunk, new_chunk } = batch[next++]!
      view.setBigUint64(index * EXCEPTION_SIZE, BigInt(old_chunk), true)
      view.setBigUint64(index * EXCEPTION_SIZE + 8, BigInt(new_chunk), true)
    }
    const from = Math.floor((first * EXCEPTION_SIZE) / SECTOR) * SECTOR
    const to = Math.ceil(((first + entries) * EXCEPTION_SIZE) / SECTOR) * SECTOR
    writes.push({ offset: areaOffset(Math.floor(count / perArea)) + from, bytes: area.subarray(from, to) })
    count += entries
    if (count % perArea === 0) area = new Uint8Array(chunkSize)
  }
  return { writes, after: { count, area } }
}
