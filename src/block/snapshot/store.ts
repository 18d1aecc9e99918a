import { assert, corrupt, isLiveError, type LiveError } from '../../error.js'
import type { Device } from '../device.js'
import { type Exceptions, exceptionSet, findTwin } from './exceptions.js'
import {
  areaChunk,
  type DiskException,
  exceptionOffset,
  exceptionsPerArea,
  HEADER_SIZE,
  isAreaChunk,
  MAX_CHUNK_SECTORS,
  parseArea,
  parseHeader,
  SECTOR,
  SNAP_MAGIC,
} from './layout.js'

/** A persistent snapshot store (COW device, overlay) as its metadata describes it. */
export interface Store {
  /** `new`: the kernel has not used it yet; `invalid`: the kernel gave it up and reads no more from it */
  readonly state: 'new' | 'ok' | 'invalid'
  /** bytes */
  readonly chunkSize: number
  readonly chunkSectors: number
  readonly exceptions: Exceptions
  /** the chunk of the store that the next exception would take */
  readonly nextFreeChunk: number
  /** metadata areas in use; the last one has room for another exception, unless `truncated` */
  readonly areaCount: number
  /** bytes */
  readonly cowSize: number
  readonly allocatedSectors: number
  readonly totalSectors: number
  readonly metadataSectors: number
  /** true where the kernel can't take one more chunk: it would overflow, or invalidate the store */
  readonly full: boolean
  /**
   * True where the last area is full and its successor lies past the end: the kernel clears the successor before it fills
   * an area, so this store was cut, and what followed is unknown. The kernel does not activate it.
   */
  readonly truncated: boolean
  /** Why the exceptions of an invalid store could not be read; `exceptions` is empty then. */
  readonly listError?: LiveError
}

/** What is known besides the store itself. */
export interface ReadStoreOptions {
  /** bytes of the origin; where given, exceptions past its end are CORRUPT */
  readonly originSize?: number | undefined
  /** insist on the exceptions of an invalid store: CORRUPT where they can't be read */
  readonly ignoreInvalid?: boolean | undefined
  /** the chunk size, in sectors, that a table would give: a new store takes it, any other has its own */
  readonly tableChunkSectors?: number | undefined
}

interface Geometry {
  readonly device: string
  readonly chunkSize: number
  readonly perArea: number
  /** whole chunks that the store's device holds */
  readonly chunkCount: number
}

/** bytes of metadata read ahead at most */
const READ_AHEAD = 4 << 20

/** The areas in order. The caller stops; some that follow were read by then, and count for nothing. */
async function* readAreas(cow: Device, { chunkSize, perArea, chunkCount }: Geometry): AsyncIterable<Uint8Array> {
  const most = Math.min(32, Math.max(1, READ_AHEAD / chunkSize))
  // Areas stand far apart (a MiB, with chunks of 4 KiB), so each is a read of its own, and as many again as were full run together.
  for (let area = 0, ahead = 1; ; ahead = Math.min(ahead * 2, most)) {
    const reads: Promise<Uint8Array>[] = []
    for (; reads.length < ahead && areaChunk(area, perArea) < chunkCount; area++) {
      const read = cow.read(areaChunk(area, perArea) * chunkSize, chunkSize)
      // One that nobody gets to may fail: past the list's end lies whatever was there.
      read.catch(() => {})
      reads.push(read)
    }
    if (reads.length === 0) return
    for (const read of reads) yield await read
  }
}

/** Numbers in a row, without an object for each. */
const numberList = (): { push(number: number): void; done(): Float64Array } => {
  let numbers = new Float64Array(256)
  let count = 0
  return {
    push(number) {
      if (count === numbers.length) {
        const longer = new Float64Array(count * 2)
        longer.set(numbers)
        numbers = longer
      }
      numbers[count++] = number
    },
    done: () => numbers.subarray(0, count),
  }
}

/** The error of an exception past the origin's end, the sign of an overlay on the wrong base. */
export const pastOrigin = (device: string, offset: number, oldChunk: number, originChunks: number): LiveError =>
  corrupt({
    device,
    offset,
    field: 'old_chunk',
    expected: `a chunk below ${originChunks}, the end of the origin (it looks like an overlay of another base)`,
    found: oldChunk,
  })

const checkException = (
  { old_chunk, new_chunk }: DiskException,
  offset: number,
  { device, perArea, chunkCount }: Geometry,
  originChunks: number,
): void => {
  const wrong = (expected: string): LiveError =>
    corrupt({ device, offset: offset + 8, field: 'new_chunk', expected, found: new_chunk })
  if (new_chunk >= chunkCount) throw wrong(`a chunk below ${chunkCount}, the end of the store`)
  if (isAreaChunk(new_chunk, perArea)) throw wrong('a chunk of data, not of metadata')
  if (old_chunk >= originChunks) throw pastOrigin(device, offset, old_chunk, originChunks)
}

interface List {
  readonly exceptions: Exceptions
  readonly highestChunk: number
  readonly truncated: boolean
}

const EMPTY: List = {
  exceptions: exceptionSet({ oldChunks: new Float64Array(0), newChunks: new Float64Array(0) }),
  highestChunk: 1,
  truncated: false,
}

const readList = async (cow: Device, geometry: Geometry, originChunks: number): Promise<List> => {
  const { device, chunkSize, perArea } = geometry
  const oldList = numberList()
  const newList = numberList()
  let areaCount = 0
  let highestChunk = 1
  // Whole areas are read until one has a free entry, and never past it: what follows may be left from before a reset.
  let truncated = true
  for await (const bytes of readAreas(cow, geometry)) {
    const areaOffset = areaChunk(areaCount++, perArea) * chunkSize
    const exceptions = parseArea(bytes, device, areaOffset)
    for (const [index, exception] of exceptions.entries()) {
      checkException(exception, areaOffset + index * 16, geometry, originChunks)
      oldList.push(exception.old_chunk)
      newList.push(exception.new_chunk)
      if (exception.new_chunk > highestChunk) highestChunk = exception.new_chunk
    }
    if (exceptions.length < perArea) {
      truncated = false
      break
    }
  }
  const stored = { oldChunks: oldList.done(), newChunks: newList.done() }
  for (const [field, numbers, skip] of [
    ['old_chunk', stored.oldChunks, 0],
    ['new_chunk', stored.newChunks, 8],
  ] as const) {
    const twin = findTwin(numbers)
    if (twin !== undefined)
      throw corrupt({
        device,
        offset: exceptionOffset(twin, chunkSize) + skip,
        field,
        expected: 'a chunk that no earlier exception has',
        found: numbers[twin]!,
      })
  }
  return { exceptions: exceptionSet(stored), highestChunk, truncated }
}

/**
 * Reads the metadata of a persistent snapshot store the way the kernel does when it activates it, and checks what the
 * kernel takes for granted.
 *
 * @throws CORRUPT  the header is wrong, the store is cut short, or an exception points where none can; for an `invalid`
 *                  store, errors in the exceptions come as `listError` instead, unless `ignoreInvalid`
 * @throws UNSUPPORTED  a chunk is larger than 2048 sectors
 * @throws IO
 * @see linux drivers/md/dm-snap-persistent.c, persistent_read_metadata and persistent_usage
 */
export const readStore = async (
  cow: Device,
  { originSize, ignoreInvalid = false, tableChunkSectors = 8 }: ReadStoreOptions = {},
): Promise<Store> => {
  const device = cow.name
  const cowSize = cow.size
  const tooSmall = (least: number): LiveError =>
    corrupt({ device, offset: cowSize, field: 'size', expected: `${least} bytes or more`, found: cowSize })
  if (cowSize < SECTOR) throw tooSmall(SECTOR)
  assert(
    tableChunkSectors > 0 && tableChunkSectors <= MAX_CHUNK_SECTORS && Number.isInteger(Math.log2(tableChunkSectors)),
    `a table with chunks of ${tableChunkSectors} sectors`,
  )
  const header = parseHeader(await cow.read(0, HEADER_SIZE), device)
  const chunkSectors = header.magic === 0 ? tableChunkSectors : header.chunk_size
  const chunkSize = chunkSectors * SECTOR
  const state = header.magic === 0 ? 'new' : header.valid === 0 ? 'invalid' : 'ok'
  const chunkCount = Math.floor(cowSize / chunkSize)
  // The kernel reads, or in a new store writes, the first metadata area at once.
  if (chunkCount < 2) throw tooSmall(2 * chunkSize)
  const perArea = exceptionsPerArea(chunkSize)
  const originChunks = originSize === undefined ? Number.POSITIVE_INFINITY : Math.ceil(originSize / chunkSize)

  let list = EMPTY
  let listError: LiveError | undefined
  if (state !== 'new')
    try {
      list = await readList(cow, { device, chunkSize, perArea, chunkCount }, originChunks)
    } catch (error) {
      if (state !== 'invalid' || ignoreInvalid || !isLiveError(error)) throw error
      listError = error
    }

  const { exceptions, highestChunk, truncated } = list
  const counts = countsOf({ cowSize, chunkSectors, exceptionCount: exceptions.count, highestChunk, truncated })
  return { state, exceptions, ...counts, ...(listError && { listError }) }
}

/** What a store has in use, by how many exceptions it holds and the highest chunk that one of them has. */
export const countsOf = (store: {
  readonly cowSize: number
  readonly chunkSectors: number
  readonly exceptionCount: number
  readonly highestChunk: number
  readonly truncated?: boolean | undefined
}): Omit<Store, 'state' | 'exceptions' | 'listError'> => {
  const { cowSize, chunkSectors, exceptionCount, highestChunk, truncated = false } = store
  const chunkSize = chunkSectors * SECTOR
  const totalSectors = Math.floor(cowSize / SECTOR)
  const chunkCount = Math.floor(totalSectors / chunkSectors)
  const perArea = exceptionsPerArea(chunkSize)
  const areaCount = truncated ? exceptionCount / perArea : Math.floor(exceptionCount / perArea) + 1
  let nextFreeChunk = highestChunk + 1
  if (isAreaChunk(nextFreeChunk, perArea)) nextFreeChunk++
  // The exception that fills an area needs room for the next area too: where it does not fit, the kernel writes valid = 0.
  const fillsArea = (exceptionCount + 1) % perArea === 0
  const full =
    truncated || nextFreeChunk + 1 > chunkCount || (fillsArea && areaChunk(areaCount, perArea) + 1 > chunkCount)
  return {
    chunkSize,
    chunkSectors,
    nextFreeChunk,
    areaCount,
    cowSize,
    allocatedSectors: nextFreeChunk * chunkSectors,
    totalSectors,
    metadataSectors: (1 + areaCount) * chunkSectors,
    full,
    truncated,
  }
}

/** A store that is all to come: a device of zeros, whatever its size, which may still have to be made large enough. */
export const newStore = (cowSize: number): Store => ({
  state: 'new',
  exceptions: EMPTY.exceptions,
  ...countsOf({ cowSize, chunkSectors: 8, exceptionCount: 0, highestChunk: EMPTY.highestChunk }),
})

/** True where a device begins as a store does. Its first chunks may hold anything, such as the superblock of a filesystem. */
export const isStore = async (cow: Device): Promise<boolean> =>
  cow.size >= 4 && Buffer.from(await cow.read(0, 4)).readUInt32LE(0) === SNAP_MAGIC
