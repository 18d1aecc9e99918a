import { isLiveError } from '../../error.js'
import { checkRange, type Device, type Extent, type PlacingDevice, readInto, type SparseDevice } from '../device.js'
import { extentsAt, joined } from '../extents.js'
import { gather, gatherInto, type Part } from '../gather.js'
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
 * True where the origin is read in one piece and the chunks are laid over it, as they cover little: many short reads of a
 * compressed origin would copy each of its blocks as often.
 */
const coverLittle = (origin: Device, parts: readonly Part[], length: number): boolean =>
  parts.length > 1 &&
  parts.reduce((sum, part) => sum + (part.device === origin ? 0 : part.length), 0) * COVERED <= length

/** Reads the chunks among the parts and puts them over the origin's bytes. */
const layOver = async (origin: Device, parts: readonly Part[], bytes: Uint8Array): Promise<void> => {
  const laid = parts.filter(part => part.device !== origin)
  const over = await gather(
    laid,
    laid.reduce((sum, part) => sum + part.length, 0),
  )
  let from = 0
  let at = 0
  for (const part of parts) {
    if (part.device !== origin) {
      bytes.set(over.subarray(from, from + part.length), at)
      from += part.length
    }
    at += part.length
  }
}

/** Reads the origin in one piece; undefined where that fails, as a bad place of it counts only where it shows. */
const below = <T>(reading: Promise<T>): Promise<T | undefined> =>
  reading.catch((error: unknown) => {
    if (isLiveError(error)) return undefined
    throw error
  })

async function* extentsIn(layers: Layers, offset: number, length: number): AsyncIterable<Extent> {
  let start = offset
  for (const part of partsOf(layers, offset, length)) {
    if (part.device === layers.origin) yield* extentsAt(layers.origin, part.offset, part.length, start)
    else yield { offset: start, length: part.length, kind: 'data' }
    start += part.length
  }
}

/** The store's chunks over the origin's, for reading. Exceptions may be added meanwhile. Closing it leaves both open. */
export const viewOf = (layers: Layers): SparseDevice & PlacingDevice => {
  const { origin, cow } = layers
  const view: SparseDevice & PlacingDevice = {
    name: `${origin.name} under ${cow.name}`,
    size: origin.size,
    async read(offset, length) {
      checkRange(view, offset, length)
      const parts = [...partsOf(layers, offset, length)]
      const bytes = coverLittle(origin, parts, length) ? await below(origin.read(offset, length)) : undefined
      if (!bytes) return gather(parts, length)
      await layOver(origin, parts, bytes)
      return bytes
    },
    async readInto(offset, target) {
      checkRange(view, offset, target.length)
      const parts = [...partsOf(layers, offset, target.length)]
      const whole = coverLittle(origin, parts, target.length)
      if (whole && (await below(readInto(origin, offset, target).then(() => true))))
        return layOver(origin, parts, target)
      return gatherInto(parts, target)
    },
    async *extents(offset, length) {
      checkRange(view, offset, length)
      yield* joined(extentsIn(layers, offset, length))
    },
    async close() {},
  }
  return view
}
