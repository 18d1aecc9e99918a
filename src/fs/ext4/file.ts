import { checkRange, type Device, type Extent, type PlacingDevice, type SparseDevice } from '../../block/device.js'
import { extentsAt, joined } from '../../block/extents.js'
import { gather, gatherInto, type Part } from '../../block/gather.js'
import type { Run } from '../filesystem.js'
import type { BlockMap } from './block-map.js'

/** Packed runs of bytes in the file's order; what lies between them is zero. */
interface PackedRuns {
  readonly offset: Float64Array
  readonly start: Float64Array
  readonly length: Float64Array
}

/** Runs of written blocks, in bytes, cut at the file's end. */
const packRuns = (map: BlockMap, blockSize: number, size: number): PackedRuns => {
  const used: number[] = []
  for (let n = 0; n < map.count.length; n++) if (!map.unwritten[n] && map.logical[n]! * blockSize < size) used.push(n)
  const offset = Float64Array.from(used, n => map.logical[n]! * blockSize)
  return {
    offset,
    start: Float64Array.from(used, n => map.physical[n]! * blockSize),
    length: Float64Array.from(used, (n, at) => Math.min(map.count[n]! * blockSize, size - offset[at]!)),
  }
}

/** Where a file's written bytes are, up to its size. */
export const runsOf = (map: BlockMap, blockSize: number, size: number): Run[] => {
  const { offset, start, length } = packRuns(map, blockSize, size)
  return Array.from(offset, (at, n) => ({ offset: at, length: length[n]!, start: start[n]! }))
}

/** A file as a Device: its blocks read straight from the device below, zeros for holes and unwritten blocks. Closing it leaves `device` open. */
export const fileDevice = (
  device: Device,
  map: BlockMap,
  blockSize: number,
  size: number,
  name: string,
): SparseDevice & PlacingDevice => {
  const runs = packRuns(map, blockSize, size)
  const count = runs.offset.length

  /** The first run that ends behind `offset`. */
  const runAt = (offset: number): number => {
    let low = 0
    let high = count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (runs.offset[middle]! + runs.length[middle]! <= offset) low = middle + 1
      else high = middle
    }
    return low
  }

  function* partsOf(offset: number, length: number): Iterable<Part> {
    const end = offset + length
    let at = offset
    for (let n = runAt(offset); at < end; n++) {
      const start = n < count ? runs.offset[n]! : end
      if (start > at) {
        const hole = Math.min(start, end) - at
        yield { offset: 0, length: hole }
        at += hole
      }
      if (n >= count || at >= end) continue
      const skip = at - start
      const piece = Math.min(runs.length[n]! - skip, end - at)
      yield { device, offset: runs.start[n]! + skip, length: piece }
      at += piece
    }
  }

  async function* extentsIn(offset: number, length: number): AsyncIterable<Extent> {
    let at = offset
    for (const part of partsOf(offset, length)) {
      if (part.device) yield* extentsAt(part.device, part.offset, part.length, at)
      else yield { offset: at, length: part.length, kind: 'hole' }
      at += part.length
    }
  }

  const file: SparseDevice & PlacingDevice = {
    name,
    size,
    async read(offset, length) {
      checkRange(file, offset, length)
      return gather([...partsOf(offset, length)], length)
    },
    async readInto(offset, target) {
      checkRange(file, offset, target.length)
      await gatherInto([...partsOf(offset, target.length)], target)
    },
    async *extents(offset, length) {
      checkRange(file, offset, length)
      yield* joined(extentsIn(offset, length))
    },
    async close() {},
  }
  return file
}
