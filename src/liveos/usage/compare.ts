import type { Device } from '../../block/device.js'
import { parallel } from '../../block/parallel.js'
import type { Store } from '../../block/snapshot/store.js'
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

/** Bytes from one place, or why they can't be read. */
interface Span {
  readonly start: number
  readonly end: number
  readonly bytes: Uint8Array | LiveError
}

const readSpan = async (start: number, end: number, read: () => Promise<Uint8Array>): Promise<Span> => {
  try {
    return { start, end, bytes: await read() }
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return { start, end, bytes: error }
  }
}

/** Ranges joined where they lie close together. They come and stay in order; ends are exclusive. */
const joinRanges = (ranges: Iterable<readonly [number, number]>, most: number): (readonly [number, number])[] => {
  const joined: (readonly [number, number])[] = []
  for (const [start, end] of ranges) {
    const last = joined.at(-1)
    if (last && start - last[1] <= GAP && end - last[0] <= most) joined[joined.length - 1] = [last[0], end]
    else joined.push([start, end])
  }
  return joined
}

/** How a base is read: each part once, in its order. */
interface BaseReader {
  readonly window: number
  readonly windowsAtOnce: number
  read(ranges: readonly (readonly [number, number])[]): Promise<readonly Span[]>
}

const plainReader = (origin: Device, chunkSize: number): BaseReader => ({
  window: Math.max(WINDOW, chunkSize),
  windowsAtOnce: WINDOWS_AT_ONCE,
  read: ranges =>
    Promise.all(
      joinRanges(ranges, Math.max(WINDOW, chunkSize)).map(([start, end]) =>
        readSpan(start, end, () => origin.read(start, end - start)),
      ),
    ),
})

/** Blocks are asked for by number: a read by offset would expand some ahead that nobody wants. */
const squashedReader = ({ base, pool }: Stack, chunkSize: number): BaseReader | undefined => {
  if (!base.squashfs) return undefined
  const { file } = base.squashfs
  const { blockSize, blockCount } = file
  return {
    window: Math.max(blockSize, chunkSize),
    windowsAtOnce: Math.max(2, pool.threads * 3),
    read(ranges) {
      const blocks = new Set<number>()
      for (const [start, end] of ranges)
        for (let block = Math.floor(start / blockSize); block * blockSize < end; block++) blocks.add(block)
      return Promise.all(
        Array.from(blocks, block => {
          const start = block * blockSize
          const length = Math.min(blockSize, file.size - start)
          return readSpan(start, start + length, () =>
            block < blockCount ? file.readBlock(block) : file.read(start, length),
          )
        }),
      )
    },
  }
}

/** The chunks `from` to before `to` of a store, each its own view; chunks that lie close together are one read. */
const readChunks = async (
  cow: Device,
  { exceptions, chunkSize }: Store,
  from: number,
  to: number,
): Promise<readonly (Uint8Array | LiveError)[]> => {
  const places = Array.from({ length: to - from }, (_, n) => exceptions.newChunkAt(from + n) * chunkSize)
  const order = places.map((_, n) => n).sort((a, b) => places[a]! - places[b]!)
  const ranges = order.map(n => [places[n]!, places[n]! + chunkSize] as const)
  const spans = await Promise.all(
    joinRanges(ranges, Math.max(WINDOW, chunkSize)).map(([start, end]) =>
      readSpan(start, end, () => cow.read(start, end - start)),
    ),
  )
  const chunks: (Uint8Array | LiveError)[] = new Array(places.length)
  let span = 0
  for (const n of order) {
    while (spans[span]!.end <= places[n]!) span++
    const { start, bytes } = spans[span]!
    const skip = places[n]! - start
    chunks[n] = bytes instanceof Uint8Array ? bytes.subarray(skip, skip + chunkSize) : bytes
  }
  return chunks
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

  const compare = async (from: number, to: number): Promise<void> => {
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while chunks were being compared', {}, signal.reason)
    const ranges = Array.from({ length: to - from }, (_, n): readonly [number, number] => {
      const start = exceptions.oldChunkAt(from + n) * chunkSize
      return [start, Math.min(start + chunkSize, origin.size)]
    })
    const [spans, chunks] = await Promise.all([base.read(ranges), readChunks(cow, store, from, to)])
    let firstSpan = 0
    for (let index = from; index < to; index++) {
      const chunk = chunks[index - from]!
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
    done += (to - from) * chunkSize
    onProgress?.(done, exceptions.count * chunkSize)
  }
  await parallel(starts.length - 1, base.windowsAtOnce, n => compare(starts[n]!, starts[n + 1]!))
  return { same, unreadable, error }
}
