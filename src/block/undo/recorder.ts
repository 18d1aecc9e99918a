import { randomBytes } from 'node:crypto'
import { assert } from '../../error.js'
import { checkRange } from '../device.js'
import type { GrowingFile } from '../file.js'
import { digestOf } from './journal.js'
import {
  type ByteRange,
  checksumOf,
  encodeAbout,
  encodeRanges,
  encodeRecordHead,
  encodeUndoHeader,
  type Hold,
  mergeRanges,
  RECORD_LIMIT,
  type RecordHead,
  toSector,
  UNDO_HEADER_SIZE,
  UNDO_SECTOR,
  type UndoHeader,
} from './layout.js'

/** What a journal is begun with. */
export interface UndoOptions {
  /** what is changed, by whom; JSON of at most 3584 bytes */
  readonly about: unknown
  /** bytes by which nobody uses the target while it is changed */
  readonly hold?: Hold | undefined
}

/**
 * A file whose bytes are saved before they are overwritten or cut off. Nothing of it may be written before the journal's name
 * is on the medium.
 */
export interface UndoRecorder extends GrowingFile {
  /** bytes saved so far */
  readonly savedBytes: number
  /** Saves ranges that will be overwritten, so that one flush is enough for them all. @throws NO_SPACE, IO */
  protect(ranges: Iterable<ByteRange>): Promise<void>
  /** Sets the held bytes; on the medium when it returns. */
  hold(): Promise<void>
  /**
   * Ends the change: all of it is flushed, then its digest recorded, then the held bytes are let go.
   *
   * @param watched  ranges besides those that were overwritten by which it is told later whether anybody has written to the file
   */
  finish(watched?: Iterable<ByteRange>): Promise<void>
}

const PAGE = 4096
const RANGES_EACH = RECORD_LIMIT / 16

/**
 * Begins an undo journal. Its header is flushed when this returns. Ordered steps from then on and the state after each:
 *
 * 1. the journal's name synced by the caller; the held bytes set: the target is as it was, and nobody uses it
 * 2. for each write: the pages from before recorded, flushed, then overwritten: undone page by page
 * 3. all flushed, the digest recorded and flushed: the change is complete, and undone only if it is still as it was left
 * 4. the held bytes let go, flushed
 *
 * Closing it closes neither target nor journal.
 *
 * @param journal  empty
 * @throws NO_SPACE, IO  the target was not touched
 */
export const openUndoRecorder = async (
  target: GrowingFile,
  journal: GrowingFile,
  { about, hold }: UndoOptions,
): Promise<UndoRecorder> => {
  assert(journal.size === 0, `${journal.name} is not empty`)
  const oldSize = target.size
  const words = encodeAbout(about)
  let header: UndoHeader = {
    phase: 'recording',
    generation: randomBytes(16),
    oldSize,
    newSize: 0,
    end: 0,
    hold,
    digest: new Uint8Array(32),
    aboutLength: words.length,
    aboutChecksum: checksumOf(words),
  }
  const first = new Uint8Array(UNDO_HEADER_SIZE)
  first.set(encodeUndoHeader(header))
  first.set(words, UNDO_SECTOR)
  await journal.write(0, first)
  await journal.flush()

  // a bit for each page, so that memory is bounded by the target's size
  const saved = new Uint8Array(Math.ceil(oldSize / PAGE / 8))
  const isSaved = (page: number): boolean => ((saved[page >>> 3]! >>> (page & 7)) & 1) === 1
  let savedBytes = 0
  let end = UNDO_HEADER_SIZE
  let flushedEnd = end
  let flushing: Promise<void> | undefined
  let failure: { readonly error: unknown } | undefined
  let last: Promise<unknown> = Promise.resolve()

  /** One at a time; after a failure none, as the journal may have lost what it had been given. */
  const alone = <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(async () => {
      if (failure) throw failure.error
      try {
        return await work()
      } catch (error) {
        failure = { error }
        throw error
      }
    })
    last = result.catch(() => undefined)
    return result
  }

  const append = async (kind: RecordHead['kind'], offset: number, data: Uint8Array): Promise<void> => {
    const record = new Uint8Array(UNDO_SECTOR + toSector(data.length))
    const head = { kind, offset, length: data.length, checksum: checksumOf(data), flushedEnd }
    record.set(encodeRecordHead(head, header.generation))
    record.set(data, UNDO_SECTOR)
    await journal.write(end, record)
    end += record.length
  }

  const save = async (offset: number, length: number): Promise<void> => {
    const stop = Math.ceil(Math.min(offset + length, oldSize) / PAGE)
    for (let page = Math.floor(offset / PAGE); page < stop; page++) {
      if (isSaved(page)) continue
      let run = 1
      while (page + run < stop && run < RECORD_LIMIT / PAGE && !isSaved(page + run)) run++
      const from = page * PAGE
      const data = await target.read(from, Math.min(run * PAGE, oldSize - from))
      await append('before', from, data)
      for (let n = page; n < page + run; n++) saved[n >>> 3]! |= 1 << (n & 7)
      savedBytes += data.length
      page += run - 1
    }
  }

  const flushJournal = async (): Promise<void> => {
    const wanted = end
    while (flushedEnd < wanted) {
      flushing ??= alone(async () => {
        const upTo = end
        await journal.flush()
        flushedEnd = upTo
      }).finally(() => {
        flushing = undefined
      })
      await flushing
    }
  }

  const rewriteHeader = async (next: UndoHeader): Promise<void> => {
    header = next
    await journal.write(0, encodeUndoHeader(header))
    await journal.flush()
  }

  const savedRanges = function* (): Iterable<ByteRange> {
    for (let page = 0; page * PAGE < oldSize; page++) if (isSaved(page)) yield { offset: page * PAGE, length: PAGE }
  }

  const recorder: UndoRecorder = {
    name: target.name,
    path: target.path,
    get size() {
      return target.size
    },
    get savedBytes() {
      return savedBytes
    },
    read: (offset, length) => target.read(offset, length),
    async write(offset, bytes) {
      checkRange({ name: target.name, size: Number.MAX_SAFE_INTEGER }, offset, bytes.length)
      await alone(() => save(offset, bytes.length))
      await flushJournal()
      await target.write(offset, bytes)
    },
    async truncate(size) {
      if (size < oldSize) await alone(() => save(size, oldSize - size))
      await flushJournal()
      await target.truncate(size)
    },
    flush: () => target.flush(),
    async close() {},
    protect: ranges =>
      alone(async () => {
        for (const { offset, length } of ranges) await save(offset, length)
      }),
    async hold() {
      if (!hold) return
      await recorder.write(hold.offset, hold.during)
      await recorder.flush()
    },
    async finish(watched = []) {
      await target.flush()
      await alone(async () => {
        const digested = mergeRanges([...savedRanges(), ...watched], target.size)
        for (let at = 0; at < digested.length; at += RANGES_EACH)
          await append('ranges', 0, encodeRanges(digested.slice(at, at + RANGES_EACH)))
        await journal.flush()
        flushedEnd = end
        const digest = await digestOf(target, digested, hold)
        await rewriteHeader({ ...header, phase: 'finished', newSize: target.size, end, digest })
      })
      if (!hold) return
      await target.write(hold.offset, hold.after)
      await target.flush()
    },
  }
  return recorder
}
