import { isLiveError } from '../../error.js'
import type { Device, Extent, SparseDevice } from '../device.js'
import { checkRange } from '../device.js'
import { extentsAt, joined } from '../extents.js'
import { gather, type Part } from '../gather.js'
import type { Exceptions } from './exceptions.js'

/** What the view of an origin and its store is made from. */
export interface Layers {
  readonly origin: Device
  readonly cow: Device
  /** bytes */
  readonly chunkSize: number
  readonly exceptions: Exceptions
}

/** The parts of a range of the view, from the origin and the store in turn. Chunks that follow each other in both are one part. */
export function* partsOf(
  { origin, cow, chunkSize, exceptions }: Layers,
  offset: number,
  length: number,
): Iterable<Part & { readonly device: Device }> {
  const end = offset + length
  for (let at = offset; at < end; ) {
    // Looked up anew each time: exceptions may have been added since the last part was taken.
    const index = exceptions.firstFrom(Math.floor(at / chunkSize))
    const oldChunk = index < exceptions.count ? exceptions.oldChunkAt(index) : Number.POSITIVE_INFINITY
    const start = oldChunk * chunkSize
    if (start > at) {
      const stop = Math.min(start, end)
      yield { device: origin, offset: at, length: stop - at }
      at = stop
      continue
    }
    const newChunk = exceptions.newChunkAt(index)
    let run = 1
    while (
      (oldChunk + run) * chunkSize < end &&
      index + run < exceptions.count &&
      exceptions.oldChunkAt(index + run) === oldChunk + run &&
      exceptions.newChunkAt(index + run) === newChunk + run
    )
      run++
    // The last chunk of the origin may be a partial one; its rest in the store means nothing.
    const stop = Math.min((oldChunk + run) * chunkSize, end)
    yield { device: cow, offset: newChunk * chunkSize + at - start, length: stop - at }
    at = stop
  }
}

/** As much of a read may be covered by chunks, at most one part in so many, that the origin is still read in one piece below them. */
const COVERED = 4

/**
 * Reads parts. Where chunks cover little, the origin is read in one piece and they are laid over it: many short reads of a
 * compressed origin would copy each of its blocks as often. A bad place of the origin counts only where it shows.
 */
const readLaid = async (
  origin: Device,
  parts: readonly Part[],
  offset: number,
  length: number,
): Promise<Uint8Array> => {
  const laid = parts.filter(part => part.device !== origin)
  const covered = laid.reduce((sum, part) => sum + part.length, 0)
  if (parts.length === 1 || covered * COVERED > length) return gather(parts, length)
  const bytes = await origin.read(offset, length).catch((error: unknown) => {
    if (isLiveError(error)) return undefined
    throw error
  })
  if (!bytes) return gather(parts, length)
  const over = await gather(laid, covered)
  let from = 0
  let at = 0
  for (const part of parts) {
    if (part.device !== origin) {
      bytes.set(over.subarray(from, from + part.length), at)
      from += part.length
    }
    at += part.length
  }
  return bytes
}

async function* extentsIn(layers: Layers, offset: number, length: number): AsyncIterable<Extent> {
  let start = offset
  for (const part of partsOf(layers, offset, length)) {
    if (part.device === layers.origin) yield* extentsAt(layers.origin, part.offset, part.length, start)
    else yield { offset: start, length: part.length, kind: 'data' }
    start += part.length
  }
}

/** The store's chunks over the origin's, for reading. Exceptions may be added meanwhile. Closing it leaves both open. */
export const viewOf = (layers: Layers): SparseDevice => {
  const { origin, cow } = layers
  const view: SparseDevice = {
    name: `${origin.name} under ${cow.name}`,
    size: origin.size,
    async read(offset, length) {
      checkRange(view, offset, length)
      return readLaid(origin, [...partsOf(layers, offset, length)], offset, length)
    },
    async *extents(offset, length) {
      checkRange(view, offset, length)
      yield* joined(extentsIn(layers, offset, length))
    },
    async close() {},
  }
  return view
}
