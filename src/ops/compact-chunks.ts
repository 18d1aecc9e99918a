import type { Device } from '../block/device.js'
import { gather, type Part } from '../block/gather.js'
import type { Exception } from '../block/snapshot/exceptions.js'
import type { Store } from '../block/snapshot/store.js'
import { isLiveError, LiveError } from '../error.js'
import type { MergedRoot } from '../liveos/merged-root.js'

/** A chunk that the overlay goes on holding. */
export interface KeptChunk {
  readonly oldChunk: number
  /** a whole chunk; of the last one of the origin, which may be a part only, zeros behind it */
  readonly content: Uint8Array
}

/** What became of the chunks of a part of the origin. */
export interface Judged {
  readonly kept: readonly KeptChunk[]
  /** the base holds the same bytes */
  readonly equal: number
  /** the filesystem calls all of it free */
  readonly free: number
  /** of `kept`: the base can't be read there, so nothing can be compared */
  readonly unreadable: number
}

/** bytes of the origin that are looked at together; blocks of a compressed base are expanded once each then */
const WINDOW = 128 << 10
/** windows on their way */
const AHEAD = 8

/**
 * True for a chunk that nobody reads: all of it is free in the replayed filesystem, and the journal that waits to be replayed
 * writes nothing there. As the journal stays in the overlay as it is, what the kernel makes of it doesn't change.
 */
const isFree = ({ free, replayed }: MergedRoot, start: number, end: number): boolean =>
  (free?.covers(start, end) ?? false) && !replayed.touches(start, end)

function* windowsOf({ exceptions, chunkSize }: Store): Iterable<readonly Exception[]> {
  const perWindow = Math.max(1, WINDOW / chunkSize)
  let window: Exception[] = []
  let current = -1
  for (const exception of exceptions.range()) {
    const index = Math.floor(exception.oldChunk / perWindow)
    if (index !== current && window.length > 0) {
      yield window
      window = []
    }
    current = index
    window.push(exception)
  }
  if (window.length > 0) yield window
}

/** Reads chunks of the store, those that follow each other there together. */
const readChunks = (cow: Device, chunks: readonly Exception[], chunkSize: number): Promise<Uint8Array> => {
  const parts: { device: Device; offset: number; length: number }[] = []
  for (const { newChunk } of chunks) {
    const last = parts.at(-1)
    const offset = newChunk * chunkSize
    if (last && last.offset + last.length === offset) last.length += chunkSize
    else parts.push({ device: cow, offset, length: chunkSize })
  }
  return gather(parts satisfies readonly Part[], chunks.length * chunkSize)
}

/**
 * Judges the chunks of an overlay in the order of the origin. A chunk that is free is not read, each other one once; the
 * journal is not replayed for that, so that what base and new overlay show is what base and old one do.
 *
 * @param origin  the root filesystem in the base
 * @param cow     the overlay
 * @param merged  what is free; see `openMergedRoot`
 * @throws IO  the overlay can't be read; CANCELLED
 */
export async function* judgeChunks(
  origin: Device,
  cow: Device,
  store: Store,
  merged: MergedRoot,
  signal: AbortSignal | undefined,
): AsyncGenerator<Judged> {
  const { chunkSize } = store
  const endOf = (oldChunk: number): number => Math.min((oldChunk + 1) * chunkSize, origin.size)
  const judge = async (window: readonly Exception[]): Promise<Judged> => {
    const used = window.filter(({ oldChunk }) => !isFree(merged, oldChunk * chunkSize, endOf(oldChunk)))
    const free = window.length - used.length
    if (used.length === 0) return { kept: [], equal: 0, free, unreadable: 0 }
    const start = used[0]!.oldChunk * chunkSize
    const [bytes, below] = await Promise.all([
      readChunks(cow, used, chunkSize),
      origin.read(start, endOf(used.at(-1)!.oldChunk) - start).catch((error: unknown) => {
        if (isLiveError(error) && error.code !== 'CANCELLED') return undefined
        throw error
      }),
    ])
    const kept: KeptChunk[] = []
    for (const [index, { oldChunk }] of used.entries()) {
      const content = bytes.subarray(index * chunkSize, (index + 1) * chunkSize)
      const length = endOf(oldChunk) - oldChunk * chunkSize
      content.fill(0, length)
      const from = oldChunk * chunkSize - start
      if (below && Buffer.compare(content.subarray(0, length), below.subarray(from, from + length)) === 0) continue
      kept.push({ oldChunk, content })
    }
    return { kept, equal: used.length - kept.length, free, unreadable: below ? 0 : used.length }
  }

  const waiting: Promise<Judged>[] = []
  for (const window of windowsOf(store)) {
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while the overlay was being read')
    const judged = judge(window)
    // one that nobody waits for any more may fail
    judged.catch(() => undefined)
    waiting.push(judged)
    if (waiting.length >= AHEAD) yield await waiting.shift()!
  }
  for (const judged of waiting) yield await judged
}
