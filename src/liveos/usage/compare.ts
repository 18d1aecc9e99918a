import { type Device, readInto } from '../../block/device.js'
import { parallel } from '../../block/parallel.js'
import type { Store } from '../../block/snapshot/store.js'
import { openSpare, type Spare } from '../../bytes/spare.js'
import { isLiveError, LiveError } from '../../error.js'
import type { Stack } from '../stack.js'
import type { Pieces } from './pieces.js'

/** Which pieces of an overlay say the same as the base. */
export interface Compared {
  /** 1 for a piece whose bytes are those of the base */
  readonly same: Uint8Array
  /** pieces that could not be compared, because base or overlay can't be read there; they count as different */
  readonly unreadable: number
  readonly error: LiveError | undefined
}

export interface CompareOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
}

/** Bytes of an uncompressed base that are looked at together. */
const WINDOW = 1 << 20
const WINDOWS_AT_ONCE = 8
/** Bytes that are read although nobody wants them, rather than beginning another read. */
const GAP = 16_384

/** Bytes of a device; the end is exclusive. */
type Range = readonly [start: number, end: number]

/** Bytes from one place, or why they can't be read. */
interface Span {
  readonly start: number
  readonly end: number
  readonly bytes: Uint8Array | LiveError
}

/**
 * Reads ranges side by side. Their bytes are good until `close`.
 *
 * @param known  bytes of a range that need no reading
 */
const readSpans = async (
  device: Device,
  ranges: readonly Range[],
  spare: Spare,
  known: (range: Range) => Uint8Array | undefined = () => undefined,
): Promise<{ readonly spans: readonly Span[]; close(): void }> => {
  // One piece of memory for all of them: many small ones would each come to be as large as the largest.
  const ready = ranges.map(known)
  const memory = spare.take(ranges.reduce((sum, [start, end], n) => sum + (ready[n] ? 0 : end - start), 0))
  let filled = 0
  const read = async (start: number, end: number, target: Uint8Array): Promise<Span> => {
    try {
      await readInto(device, start, target)
      return { start, end, bytes: target }
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      return { start, end, bytes: error }
    }
  }
  const spans = await Promise.all(
    ranges.map(async ([start, end], n): Promise<Span> => {
      const bytes = ready[n]
      if (bytes) return { start, end, bytes }
      const target = new Uint8Array(memory, filled, end - start)
      filled += end - start
      return read(start, end, target)
    }),
  )
  return { spans, close: () => spare.give(memory) }
}

/** Ranges joined where they lie close together. They come and stay in order; ends are exclusive. */
const joinRanges = (ranges: Iterable<Range>, most: number): Range[] => {
  const joined: Range[] = []
  for (const [start, end] of ranges) {
    const last = joined.at(-1)
    if (last && start - last[1] <= GAP && end - last[0] <= most) joined[joined.length - 1] = [last[0], end]
    else joined.push([start, end])
  }
  return joined
}

/** How a base is read: each part once, in its order. */
interface BaseReader {
  readonly device: Device
  readonly window: number
  readonly windowsAtOnce: number
  /** what is read of it for some ranges, in order */
  cover(ranges: readonly Range[]): readonly Range[]
  /** of these: what stands there without being read */
  known?(range: Range): Uint8Array | undefined
}

const plainReader = (origin: Device, chunkSize: number): BaseReader => {
  const window = Math.max(WINDOW, chunkSize)
  return { device: origin, window, windowsAtOnce: WINDOWS_AT_ONCE, cover: ranges => joinRanges(ranges, window) }
}

/** Whole blocks: of others a part would be expanded twice. */
const squashedReader = ({ base, pool }: Stack, chunkSize: number): BaseReader | undefined => {
  if (!base.squashfs) return undefined
  const { file } = base.squashfs
  const { blockSize, blockCount } = file
  const zeros = new Uint8Array(blockSize)
  return {
    device: file,
    window: Math.max(blockSize, chunkSize),
    windowsAtOnce: Math.max(2, pool.threads * 3),
    cover(ranges) {
      const blocks = new Set<number>()
      for (const [start, end] of ranges)
        for (let block = Math.floor(start / blockSize); block * blockSize < end; block++) blocks.add(block)
      return Array.from(blocks, block => [block * blockSize, Math.min((block + 1) * blockSize, file.size)])
    },
    known([start, end]) {
      const block = start / blockSize
      return block < blockCount && !file.stored(block) ? zeros.subarray(0, end - start) : undefined
    },
  }
}

/** The chunks `from` to before `to` of a store, each its own view, good until `close`; chunks that lie close together are one read. */
const readChunks = async (
  cow: Device,
  { exceptions, chunkSize }: Store,
  from: number,
  to: number,
  spare: Spare,
): Promise<{ readonly chunks: readonly (Uint8Array | LiveError)[]; close(): void }> => {
  const places = Array.from({ length: to - from }, (_, n) => exceptions.newChunkAt(from + n) * chunkSize)
  const order = places.map((_, n) => n).sort((a, b) => places[a]! - places[b]!)
  const ranges = order.map((n): Range => [places[n]!, places[n]! + chunkSize])
  const { spans, close } = await readSpans(cow, joinRanges(ranges, Math.max(WINDOW, chunkSize)), spare)
  const chunks: (Uint8Array | LiveError)[] = new Array(places.length)
  let span = 0
  for (const n of order) {
    while (spans[span]!.end <= places[n]!) span++
    const { start, bytes } = spans[span]!
    const skip = places[n]! - start
    chunks[n] = bytes instanceof Uint8Array ? bytes.subarray(skip, skip + chunkSize) : bytes
  }
  return { chunks, close }
}

const sameBytes = (a: Uint8Array, aStart: number, b: Uint8Array, bStart: number, length: number): boolean =>
  Buffer.compare(a.subarray(aStart, aStart + length), b.subarray(bStart, bStart + length)) === 0

/** Compares a part of a chunk with the base; an error where the base can't be read there. Spans are in order and cover it. */
const compareWith = (
  spans: readonly Span[],
  firstSpan: number,
  start: number,
  chunk: Uint8Array,
  skip: number,
  length: number,
): boolean | LiveError => {
  let at = start
  const end = start + length
  for (let n = firstSpan; n < spans.length; n++) {
    const span = spans[n]!
    if (span.end <= at) continue
    if (!(span.bytes instanceof Uint8Array)) return span.bytes
    const stop = Math.min(end, span.end)
    if (!sameBytes(chunk, skip + at - start, span.bytes, at - span.start, stop - at)) return false
    at = stop
    if (at >= end) break
  }
  return true
}

/**
 * Compares the chunks of an overlay with what the base has in their places, byte by byte. The base is read in its order, each
 * block of a squashed one expanded once.
 *
 * @throws CANCELLED; what can't be read is counted
 */
export const compareWithBase = async (
  stack: Stack & { readonly overlay: NonNullable<Stack['overlay']> },
  pieces: Pieces,
  { signal, onProgress }: CompareOptions = {},
): Promise<Compared> => {
  const { file: cow, store } = stack.overlay
  const { origin } = stack.base
  const { exceptions, chunkSize } = store
  const base = squashedReader(stack, chunkSize) ?? plainReader(origin, chunkSize)
  const same = new Uint8Array(pieces.count)
  let unreadable = 0
  let error: LiveError | undefined
  /** index of the first exception of each window, and the end */
  const starts: number[] = []
  for (let index = 0, last = -1; index < exceptions.count; index++) {
    const window = Math.floor((exceptions.oldChunkAt(index) * chunkSize) / base.window)
    if (window !== last) starts.push(index)
    last = window
  }
  starts.push(exceptions.count)
  let done = 0
  const spare = { base: openSpare(), cow: openSpare() }

  const compare = async (from: number, to: number): Promise<void> => {
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while chunks were being compared', {}, signal.reason)
    const ranges = Array.from({ length: to - from }, (_, n): Range => {
      const start = exceptions.oldChunkAt(from + n) * chunkSize
      return [start, Math.min(start + chunkSize, origin.size)]
    })
    const [before, after] = await Promise.all([
      readSpans(base.device, base.cover(ranges), spare.base, base.known),
      readChunks(cow, store, from, to, spare.cow),
    ])
    const { spans } = before
    let firstSpan = 0
    for (let index = from; index < to; index++) {
      const chunk = after.chunks[index - from]!
      const chunkStart = exceptions.oldChunkAt(index) * chunkSize
      while (spans[firstSpan] && spans[firstSpan]!.end <= chunkStart) firstSpan++
      for (let part = 0; part < pieces.piecesPerChunk; part++) {
        const skip = part * pieces.unit
        const start = chunkStart + skip
        const length = Math.min(pieces.unit, origin.size - start)
        if (length <= 0) break
        const equal = chunk instanceof Uint8Array ? compareWith(spans, firstSpan, start, chunk, skip, length) : chunk
        if (equal === true) same[index * pieces.piecesPerChunk + part] = 1
        else if (equal !== false) {
          unreadable++
          error ??= equal
        }
      }
    }
    before.close()
    after.close()
    done += (to - from) * chunkSize
    onProgress?.(done, exceptions.count * chunkSize)
  }
  await parallel(starts.length - 1, base.windowsAtOnce, n => compare(starts[n]!, starts[n + 1]!))
  return { same, unreadable, error }
}
