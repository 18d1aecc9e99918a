import { corrupt, isLiveError } from '../../error.js'
import { checkRange, type Device, type Extent, type SparseDevice } from '../device.js'
import { extentsAt, joined } from '../extents.js'
import { gather, type Part } from '../gather.js'
import { exceptionOffset, exceptionsPerArea } from './layout.js'
import { pastOrigin, readStore, type Store } from './store.js'

/** The merged view of an origin and its store, for reading. */
export interface SnapshotDevice extends SparseDevice {
  readonly store: Store
}

/** How a snapshot is opened. */
export interface SnapshotOptions {
  /** the store of `cow`, where it was read before */
  readonly store?: Store | undefined
  /** show what an invalid or truncated store still holds */
  readonly ignoreInvalid?: boolean | undefined
}

const checkUsable = (origin: Device, cow: Device, store: Store, ignoreInvalid: boolean): void => {
  const { state, exceptions, chunkSize } = store
  const device = cow.name
  if (state === 'invalid' && !ignoreInvalid)
    throw corrupt({ device, offset: 4, field: 'valid', expected: 1, found: 0 }, store.listError)
  if (store.listError) throw store.listError
  // A view of the first part of the list would look right and be wrong.
  if (store.truncated && !ignoreInvalid)
    throw corrupt({
      device,
      offset: cow.size,
      field: 'size',
      expected: `metadata area ${exceptions.count / exceptionsPerArea(chunkSize)} before the end`,
      found: cow.size,
    })
  const last = exceptions.count - 1
  const originChunks = Math.ceil(origin.size / chunkSize)
  // A store read without the origin's size was not checked against it.
  if (last >= 0 && exceptions.oldChunkAt(last) >= originChunks)
    throw pastOrigin(
      device,
      exceptionOffset(exceptions.storedAt(last), chunkSize),
      exceptions.oldChunkAt(last),
      originChunks,
    )
}

/** The parts of a range of the view, from the origin and the store in turn. Chunks that follow each other in both are one part. */
function* partsOf(origin: Device, cow: Device, store: Store, offset: number, length: number): Iterable<Part> {
  const { chunkSize, exceptions } = store
  const end = offset + length
  let index = exceptions.firstFrom(Math.floor(offset / chunkSize))
  for (let at = offset; at < end; ) {
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
    index += run
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

/**
 * The view that the kernel's snapshot target gives: the store's chunks over the origin's. A new store shows the origin as
 * it is. Closing it leaves both open.
 *
 * @param origin  the base; its size is the view's and need not be a multiple of the chunk
 * @param cow     the store
 * @throws CORRUPT  as `readStore`; field `valid` where the kernel gave the store up, field `size` where it was cut in the
 *                  middle of its list (both unless `ignoreInvalid`)
 * @throws UNSUPPORTED, IO  as `readStore`
 * @see linux drivers/md/dm-snap.c, snapshot_map
 */
export const snapshot = async (
  origin: Device,
  cow: Device,
  { store, ignoreInvalid = false }: SnapshotOptions = {},
): Promise<SnapshotDevice> => {
  const known = store ?? (await readStore(cow, { originSize: origin.size, ignoreInvalid }))
  checkUsable(origin, cow, known, ignoreInvalid)
  const parts = (offset: number, length: number): Iterable<Part> => partsOf(origin, cow, known, offset, length)
  async function* extentsIn(offset: number, length: number): AsyncIterable<Extent> {
    let start = offset
    for (const part of parts(offset, length)) {
      if (part.device === origin) yield* extentsAt(origin, part.offset, part.length, start)
      else yield { offset: start, length: part.length, kind: 'data' }
      start += part.length
    }
  }
  const device: SnapshotDevice = {
    name: `${origin.name} under ${cow.name}`,
    size: origin.size,
    store: known,
    async read(offset, length) {
      checkRange(device, offset, length)
      return readLaid(origin, [...parts(offset, length)], offset, length)
    },
    async *extents(offset, length) {
      checkRange(device, offset, length)
      yield* joined(extentsIn(offset, length))
    },
    async close() {},
  }
  return device
}
