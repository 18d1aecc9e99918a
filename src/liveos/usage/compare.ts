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
  /** gets what is read of the base, from byte `start` on, while it is there */
  readonly pass?: ((start: number, bytes: Uint8Array) => Promise<void>) | undefined
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
  readonly bytes: Buffer | LiveError
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
  known: (range: Range) => Buffer | undefined = () => undefined,
): Promise<{ readonly spans: readonly Span[]; close(): void }> => {
  // One piece of memory for all of them: many small ones would each come to be as large as the largest.
  const ready = ranges.map(known)
  const memory = spare.take(ranges.reduce((sum, [start, end], n) => sum + (ready[n] ? 0 : end - start), 0))
  let filled = 0
  const read = async (start: number, end: number, target: Buffer): Promise<Span> => {
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
      const target = Buffer.from(memory, filled, end - start)
      filled += end - start
      return read(start, end, target)
    }),
  )
  return { spans, close: () => spare.give(memory) }
}

/** What is read for ranges that come in order: joined where they lie close together, `most` bytes in one. */
const joinRanges = (count: number, rangeOf: (n: number) => Range, most: number): Range[] => {
  const joined: Range[] = []
  for (let n = 0, first = 0, last = 0; n < count; n++) {
    const [start, end] = rangeOf(n)
    const joins = n > 0 && start - last <= GAP && end - first <= most
    if (!joins) first = start
    last = end
    if (joins) joined[joined.length - 1] = [first, last]
    else joined.push([first, last])
  }
  return joined
}

/** How a base is read: each part once, in its order. */
interface BaseReader {
  readonly device: Device
  readonly window: number
  readonly windowsAtOnce: number
  /** what is read of it for some ranges, which come in order */
  cover(count: number, rangeOf: (n: number) => Range): readonly Range[]
  /** of these: what stands there without being read */
  known?(range: Range): Buffer | undefined
}

const plainReader = (origin: Device, chunkSize: number): BaseReader => {
  const window = Math.max(WINDOW, chunkSize)
  return {
    device: origin,
    window,
    windowsAtOnce: WINDOWS_AT_ONCE,
    cover: (count, rangeOf) => joinRanges(count, rangeOf, window),
  }
}

/** Whole blocks: of others a part would be expanded twice. */
const squashedReader = ({ base, pool }: Stack, chunkSize: number): BaseReader | undefined => {
  if (!base.squashfs) return undefined
  const { file } = base.squashfs
  const { blockSize, blockCount } = file
  const zeros = Buffer.alloc(blockSize)
  return {
    device: file,
    window: Math.max(blockSize, chunkSize),
    windowsAtOnce: Math.max(2, pool.threads * 3),
    cover(count, rangeOf) {
      const ranges: Range[] = []
      for (let n = 0, next = 0; n < count; n++) {
        const [start, end] = rangeOf(n)
        let block = Math.max(next, Math.floor(start / blockSize))
        for (; block * blockSize < end; block++)
          ranges.push([block * blockSize, Math.min((block + 1) * blockSize, file.size)])
        next = block
      }
      return ranges
    },
    known([start, end]) {
      const block = start / blockSize
      return block < blockCount && !file.stored(block) ? zeros.subarray(0, end - start) : undefined
    },
  }
}

/** Chunks of a store: chunk `n` of them at `places[n]` of the store, in `spans[spanOf[n]]`. */
interface Chunks {
  readonly spans: readonly Span[]
  readonly places: readonly number[]
  readonly spanOf: readonly number[]
  close(): void
}

/** The chunks `from` to before `to` of a store, good until `close`; those that lie close together are one read. */
const readChunks = async (
  cow: Device,
  { exceptions, chunkSize }: Store,
  from: number,
  to: number,
  spare: Spare,
): Promise<Chunks> => {
  const places: number[] = []
  let inOrder = true
  for (let index = from; index < to; index++) {
    const place = exceptions.newChunkAt(index) * chunkSize
    if (places.length > 0 && place < places.at(-1)!) inOrder = false
    places.push(place)
  }
  const order = places.map((_, n) => n)
  if (!inOrder) order.sort((a, b) => places[a]! - places[b]!)
  const ranges = joinRanges(
    order.length,
    n => [places[order[n]!]!, places[order[n]!]! + chunkSize],
    Math.max(WINDOW, chunkSize),
  )
  const { spans, close } = await readSpans(cow, ranges, spare)
  const spanOf: number[] = new Array(places.length)
  let span = 0
  for (const n of order) {
    while (spans[span]!.end <= places[n]!) span++
    spanOf[n] = span
  }
  return { spans, places, spanOf, close }
}

/**
 * Compares bytes of a store with the base from `start`; an error where the base can't be read there. Spans are in order and
 * cover it.
 */
const compareWith = (
  spans: readonly Span[],
  firstSpan: number,
  start: number,
  bytes: Buffer,
  from: number,
  length: number,
): boolean | LiveError => {
  let at = start
  const end = start + length
  for (let n = firstSpan; n < spans.length; n++) {
    const span = spans[n]!
    if (span.end <= at) continue
    if (!Buffer.isBuffer(span.bytes)) return span.bytes
    const stop = Math.min(end, span.end)
    const skip = from + at - start
    // By offsets: a view for each piece would be most of the work.
    if (bytes.compare(span.bytes, at - span.start, stop - span.start, skip, skip + stop - at) !== 0) return false
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
  { signal, onProgress, pass }: CompareOptions = {},
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
    const rangeOf = (n: number): Range => {
      const start = exceptions.oldChunkAt(from + n) * chunkSize
      return [start, Math.min(start + chunkSize, origin.size)]
    }
    const [before, after] = await Promise.all([
      readSpans(base.device, base.cover(to - from, rangeOf), spare.base, base.known),
      readChunks(cow, store, from, to, spare.cow),
    ])
    const { spans } = before
    let firstSpan = 0
    for (let index = from; index < to; index++) {
      const stored = after.spans[after.spanOf[index - from]!]!
      const place = after.places[index - from]! - stored.start
      const chunkStart = exceptions.oldChunkAt(index) * chunkSize
      while (spans[firstSpan] && spans[firstSpan]!.end <= chunkStart) firstSpan++
      for (let part = 0; part < pieces.piecesPerChunk; part++) {
        const skip = part * pieces.unit
        const start = chunkStart + skip
        const length = Math.min(pieces.unit, origin.size - start)
        if (length <= 0) break
        const { bytes } = stored
        const equal = Buffer.isBuffer(bytes) ? compareWith(spans, firstSpan, start, bytes, place + skip, length) : bytes
        if (equal === true) same[index * pieces.piecesPerChunk + part] = 1
        else if (equal !== false) {
          unreadable++
          error ??= equal
        }
      }
    }
    if (pass) for (const { start, bytes } of spans) if (Buffer.isBuffer(bytes)) await pass(start, bytes)
    before.close()
    after.close()
    done += (to - from) * chunkSize
    onProgress?.(done, exceptions.count * chunkSize)
  }
  await parallel(starts.length - 1, base.windowsAtOnce, n => compare(starts[n]!, starts[n + 1]!))
  return { same, unreadable, error }
}
