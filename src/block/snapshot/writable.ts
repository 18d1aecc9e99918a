import { LiveError } from '../../error.js'
import { checkRange, type Device, type SparseDevice, type WritableDevice } from '../device.js'
import { parallel } from '../parallel.js'
import { chunkSpace } from './chunk-space.js'
import { createStore } from './create.js'
import { openExceptionLog } from './exception-log.js'
import { growingExceptions } from './growing-exceptions.js'
import { checkUsable } from './snapshot.js'
import { countsOf, readStore, type Store } from './store.js'
import { partsOf, viewOf } from './view.js'

export { createStore } from './create.js'

/** The merged view of an origin and its store, whose writes go to the store. */
export interface WritableSnapshot extends WritableDevice, SparseDevice {
  /** the counts now, with every write that was accepted; after a flush the store on the medium says the same. Its exceptions go on growing. */
  readonly store: Store
}

/** How a snapshot is opened to be written. */
export interface WritableSnapshotOptions {
  /** chunk size of a store that is new, in sectors; 8 if left out */
  readonly chunkSectors?: number | undefined
  /** bytes of new chunks after which a write commits by itself; 64 MiB if left out */
  readonly commitBytes?: number | undefined
}

const WRITES_AT_ONCE = 16

/** A range of the view that one write of the store can take. */
interface Run {
  /** byte offsets in the view */
  readonly start: number
  readonly end: number
  /** byte offset in the store */
  readonly at: number
  /** the exceptions that it makes: `count` chunks from `oldChunk` in the origin and from `newChunk` in the store */
  readonly fresh?: { readonly oldChunk: number; readonly newChunk: number; readonly count: number }
}

/**
 * Opens the view of an origin and its store to be written, as the kernel's snapshot target does: the first write to a chunk
 * copies it to the store, later ones change it there. A write is accepted when it resolves and on the medium after `flush`,
 * which commits all writes accepted so far at once; see `openExceptionLog` for the order. A store that is new gets its header.
 *
 * After a failed flush, writes fail until it is opened anew. Closing it commits what is pending and leaves both open.
 *
 * @param origin  never written; need not be a multiple of the chunk
 * @param cow     the store; its size stays
 * @throws CORRUPT  the store is invalid, truncated or damaged, or belongs to another origin
 * @throws UNSUPPORTED, IO
 * @see linux drivers/md/dm-snap.c, snapshot_map and pending_complete
 */
export const openWritableSnapshot = async (
  origin: Device,
  cow: WritableDevice,
  { chunkSectors, commitBytes = 64 << 20 }: WritableSnapshotOptions = {},
): Promise<WritableSnapshot> => {
  const read = () => readStore(cow, { originSize: origin.size, tableChunkSectors: chunkSectors })
  let found = await read()
  if (found.state === 'new') {
    await createStore(cow, { chunkSectors: found.chunkSectors })
    found = await read()
  }
  checkUsable(origin, cow, found)
  const { chunkSize, cowSize } = found
  const exceptions = growingExceptions(found.exceptions)
  const log = await openExceptionLog(cow, found)
  const space = chunkSpace(found)
  let highestChunk = found.nextFreeChunk - 1
  const layers = { origin, cow, chunkSize, exceptions }
  const view = viewOf(layers)

  /** chunks that are being copied to the store, and when that is done */
  const copying = new Map<number, Promise<void>>()
  /** what `copying` has, each with the first chunk of the store that it took */
  const taken = new Map<Promise<void>, number>()
  /** something was written since the last flush began */
  let written = false

  const full = (): LiveError =>
    new LiveError('NO_SPACE', `${cow.name} is full: the overlay can take no more changed chunks`, {
      device: cow.name,
      size: cow.size,
    })

  /** Finds room for the chunks of a range that the store does not hold yet. @throws NO_SPACE */
  const planRuns = (offset: number, length: number): Run[] => {
    const runs: Run[] = []
    const gaps: { oldChunk: number; count: number }[] = []
    let at = offset
    for (const part of partsOf(layers, offset, length)) {
      if (part.device === cow) runs.push({ start: at, end: at + part.length, at: part.offset })
      else {
        const oldChunk = Math.floor(at / chunkSize)
        gaps.push({ oldChunk, count: Math.ceil((at + part.length) / chunkSize) - oldChunk })
      }
      at += part.length
    }
    const count = gaps.reduce((sum, gap) => sum + gap.count, 0)
    if (count === 0) return runs
    if (!log.reserve(count)) throw full()
    const chunks = space.take(count)
    if (!chunks) {
      log.release(count)
      throw full()
    }
    let next = 0
    for (const gap of gaps)
      for (let done = 0; done < gap.count; ) {
        const newChunk = chunks[next]!
        let together = 1
        while (done + together < gap.count && chunks[next + together] === newChunk + together) together++
        const oldChunk = gap.oldChunk + done
        const start = oldChunk * chunkSize
        runs.push({
          start,
          end: start + together * chunkSize,
          at: newChunk * chunkSize,
          fresh: { oldChunk, newChunk, count: together },
        })
        done += together
        next += together
      }
    return runs
  }

  /** What a run is to hold: the bytes written, and around them what the origin holds there. */
  const contentOf = async (run: Run, offset: number, bytes: Uint8Array): Promise<Uint8Array> => {
    const end = offset + bytes.length
    if (run.start >= offset && run.end <= end) return bytes.subarray(run.start - offset, run.end - offset)
    const content = new Uint8Array(run.end - run.start)
    if (run.start < offset) content.set(await origin.read(run.start, offset - run.start))
    const stop = Math.min(run.end, origin.size)
    if (end < stop) content.set(await origin.read(end, stop - end), end - run.start)
    const from = Math.max(run.start, offset)
    content.set(bytes.subarray(from - offset, Math.min(run.end, end) - offset), from - run.start)
    return content
  }

  const writeRun = async (run: Run, offset: number, bytes: Uint8Array): Promise<void> => {
    const { fresh } = run
    try {
      if (fresh) await log.prepare()
      await cow.write(run.at, await contentOf(run, offset, bytes))
    } catch (error) {
      if (fresh) {
        space.giveBack(fresh.newChunk, fresh.count)
        log.release(fresh.count)
      }
      throw error
    }
    written = true
    if (!fresh) return
    for (let n = 0; n < fresh.count; n++) {
      exceptions.add(fresh.oldChunk + n, fresh.newChunk + n)
      log.append(fresh.oldChunk + n, fresh.newChunk + n)
    }
    highestChunk = Math.max(highestChunk, fresh.newChunk + fresh.count - 1)
  }

  const writeAll = async (offset: number, bytes: Uint8Array): Promise<void> => {
    const first = Math.floor(offset / chunkSize)
    const end = Math.ceil((offset + bytes.length) / chunkSize)
    for (let chunk = first; chunk < end; ) {
      const busy = copying.get(chunk)
      if (busy) {
        await busy
        chunk = first
      } else chunk++
    }
    const runs = planRuns(offset, bytes.length)
    let copied: () => void = () => undefined
    const done = new Promise<void>(resolve => (copied = resolve))
    const fresh = runs.flatMap(run => (run.fresh ? [run.fresh] : []))
    for (const { oldChunk, count } of fresh) for (let n = 0; n < count; n++) copying.set(oldChunk + n, done)
    if (fresh[0]) taken.set(done, fresh[0].newChunk)
    const failures: unknown[] = []
    // Each of them is tried, so that each is either accepted or given back.
    await parallel(runs.length, WRITES_AT_ONCE, index =>
      writeRun(runs[index]!, offset, bytes).catch((error: unknown) => {
        failures.push(error)
      }),
    )
    for (const { oldChunk, count } of fresh) for (let n = 0; n < count; n++) copying.delete(oldChunk + n)
    taken.delete(done)
    copied()
    if (failures.length > 0) throw failures[0]
  }

  let running: Promise<void> | undefined
  let following: Promise<void> | undefined
  /** Commits what was accepted once every chunk before it is accepted or given back: the list is in the order of chunks. */
  const commitInOrder = async (): Promise<void> => {
    const lastChunk = highestChunk
    space.pass(lastChunk)
    await Promise.all([...taken].flatMap(([done, firstChunk]) => (firstChunk < lastChunk ? [done] : [])))
    await log.commit(lastChunk)
  }
  const start = (): Promise<void> => {
    written = false
    const commit = commitInOrder().finally(() => {
      if (running === commit) running = undefined
    })
    running = commit
    return commit
  }
  /** All that ask while a commit runs share the next one. */
  const commit = (): Promise<void> => {
    if (!running) return start()
    following ??= running
      .catch(() => undefined)
      .then(() => {
        following = undefined
        return start()
      })
    return following
  }

  const device: WritableSnapshot = {
    ...view,
    get store() {
      const counts = { cowSize, chunkSectors: found.chunkSectors, exceptionCount: exceptions.count, highestChunk }
      return { state: 'ok' as const, exceptions, ...countsOf(counts) }
    },
    async write(offset, bytes) {
      checkRange(device, offset, bytes.length)
      log.check()
      if (bytes.length === 0) return
      await writeAll(offset, bytes)
      if (log.pending * chunkSize >= commitBytes) await commit()
    },
    async flush() {
      log.check()
      if (written || log.pending > 0 || running) await commit()
    },
    async close() {
      if (log.pending > 0 || running) await commit()
    },
  }
  return device
}
