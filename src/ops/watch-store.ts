import type { Device } from '../block/device.js'
import {
  areaChunk,
  EXCEPTION_SIZE,
  exceptionOffset,
  exceptionsPerArea,
  HEADER_SIZE,
  isAreaChunk,
  parseHeader,
  SECTOR,
} from '../block/snapshot/layout.js'
import { countsOf, type Store } from '../block/snapshot/store.js'
import { corrupt } from '../error.js'

/** How far a store's list was looked through, so that the next look starts there. Plain JSON. */
export interface StoreTail {
  readonly chunkSectors: number
  readonly exceptionCount: number
  /** the highest chunk of the store that an exception has; 1 without any */
  readonly highestChunk: number
  /** old and new chunk of the last exception, by which the list is known again; null without any */
  readonly last: readonly [number, number] | null
}

/** A store's numbers, without its list. */
export interface TailedStore
  extends Pick<
    Store,
    'state' | 'chunkSectors' | 'allocatedSectors' | 'totalSectors' | 'metadataSectors' | 'full' | 'truncated'
  > {
  readonly tail: StoreTail
}

const EMPTY = { exceptionCount: 0, highestChunk: 1, last: null }
/** what the kernel gives a new store of a live system */
const NEW_CHUNK_SECTORS = 8

interface Geometry {
  readonly chunkSize: number
  readonly perArea: number
  readonly chunkCount: number
}

/** @throws CORRUPT  a chunk lies where none can */
const checked = (chunk: number, device: string, offset: number, { perArea, chunkCount }: Geometry): number => {
  if (chunk < chunkCount && !isAreaChunk(chunk, perArea)) return chunk
  throw corrupt({
    device,
    offset,
    field: 'new_chunk',
    expected: `a chunk of data below ${chunkCount}, the end of the store`,
    found: chunk,
  })
}

const exceptionAt = (view: DataView, at: number): [number, number] => [
  Number(view.getBigUint64(at, true)),
  Number(view.getBigUint64(at + 8, true)),
]

/** What comes from a file may be anything. */
const isTail = ({ chunkSectors, exceptionCount, highestChunk, last }: StoreTail): boolean =>
  [chunkSectors, exceptionCount, highestChunk].every(number => Number.isSafeInteger(number) && number > 0) &&
  Array.isArray(last)

/** True where the list still has the exception that was its last one: then nothing before it has changed either. */
const stillThere = async (cow: Device, tail: StoreTail, { chunkSize, chunkCount }: Geometry): Promise<boolean> => {
  if (!isTail(tail) || tail.chunkSectors * SECTOR !== chunkSize || tail.last === null) return false
  const offset = exceptionOffset(tail.exceptionCount - 1, chunkSize)
  if (offset + EXCEPTION_SIZE > chunkCount * chunkSize) return false
  const bytes = await cow.read(offset, EXCEPTION_SIZE)
  const [old, chunk] = exceptionAt(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0)
  return old === tail.last[0] && chunk === tail.last[1]
}

/** Looks through the list from `tail` on. */
const follow = async (
  cow: Device,
  tail: StoreTail,
  geometry: Geometry,
): Promise<StoreTail & { truncated: boolean }> => {
  const { chunkSize, perArea, chunkCount } = geometry
  let { exceptionCount, highestChunk, last } = tail
  for (let area = Math.floor(exceptionCount / perArea); areaChunk(area, perArea) < chunkCount; area++) {
    const first = (exceptionCount % perArea) * EXCEPTION_SIZE
    const offset = areaChunk(area, perArea) * chunkSize + first
    const bytes = await cow.read(offset, chunkSize - first)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let at = 0; at < bytes.length; at += EXCEPTION_SIZE) {
      const [old, found] = exceptionAt(view, at)
      if (found === 0) return { ...tail, exceptionCount, highestChunk, last, truncated: false }
      const chunk = checked(found, cow.name, offset + at + 8, geometry)
      if (chunk > highestChunk) highestChunk = chunk
      last = [old, chunk]
      exceptionCount++
    }
  }
  return { ...tail, exceptionCount, highestChunk, last, truncated: true }
}

/**
 * Reads how full a store is: of one that was looked at before only its header, the last exception known and the list behind
 * that, some KiB; else the whole list, some MiB at most.
 *
 * @param before  what the last look gave; a store that was emptied, merged or replaced since is read anew
 * @throws CORRUPT, UNSUPPORTED, IO
 * @see linux drivers/md/dm-snap-persistent.c, persistent_usage
 */
export const readTail = async (cow: Device, before?: StoreTail): Promise<TailedStore> => {
  if (cow.size < SECTOR)
    throw corrupt({
      device: cow.name,
      offset: cow.size,
      field: 'size',
      expected: `${SECTOR} bytes or more`,
      found: cow.size,
    })
  const header = parseHeader(await cow.read(0, HEADER_SIZE), cow.name)
  const state = header.magic === 0 ? 'new' : header.valid === 0 ? 'invalid' : 'ok'
  const chunkSectors = state === 'new' ? NEW_CHUNK_SECTORS : header.chunk_size
  const chunkSize = chunkSectors * SECTOR
  const geometry = {
    chunkSize,
    perArea: exceptionsPerArea(chunkSize),
    chunkCount: Math.floor(cow.size / chunkSize),
  }
  const start: StoreTail = { chunkSectors, ...EMPTY }
  const from = before && state === 'ok' && (await stillThere(cow, before, geometry)) ? before : start
  const { truncated, ...tail } = state === 'ok' ? await follow(cow, from, geometry) : { ...start, truncated: false }
  const counts = countsOf({
    cowSize: cow.size,
    chunkSectors,
    exceptionCount: tail.exceptionCount,
    highestChunk: tail.highestChunk,
    truncated,
  })
  const { allocatedSectors, totalSectors, metadataSectors, full } = counts
  return { state, chunkSectors, allocatedSectors, totalSectors, metadataSectors, full, truncated, tail }
}
