import type { ByteRuns } from './byte-runs.js'
import { checkRange, type Device, type Extent, extentsOf, type PlacingDevice, type SparseDevice } from './device.js'
import { joined } from './extents.js'
import { gather, gatherInto, type Part } from './gather.js'

/**
 * A device that shows zeros in some runs, and does not read there what is below. Closing it leaves `device` open.
 *
 * @param runs  where it is zero; they may leave the device
 */
export const masked = (device: Device, runs: ByteRuns, name = device.name): SparseDevice & PlacingDevice => {
  const partsOf = (offset: number, length: number): Part[] => {
    const parts: Part[] = []
    const end = offset + length
    for (let at = offset, index = runs.firstAfter(offset); at < end; ) {
      const start = index < runs.count ? runs.start(index) : end
      if (start > at) {
        const stop = Math.min(start, end)
        parts.push({ device, offset: at, length: stop - at })
        at = stop
      } else {
        const stop = Math.min(runs.end(index), end)
        parts.push({ offset: 0, length: stop - at })
        at = stop
        index++
      }
    }
    return parts
  }
  async function* extentsIn(offset: number, length: number): AsyncIterable<Extent> {
    let start = offset
    for (const part of partsOf(offset, length)) {
      if (part.device) yield* extentsOf(device, part.offset, part.length)
      else yield { offset: start, length: part.length, kind: 'hole' }
      start += part.length
    }
  }
  return {
    name,
    size: device.size,
    async read(offset, length) {
      checkRange(this, offset, length)
      return gather(partsOf(offset, length), length)
    },
    async readInto(offset, target) {
      checkRange(this, offset, target.length)
      await gatherInto(partsOf(offset, target.length), target)
    },
    async *extents(offset, length) {
      checkRange(this, offset, length)
      yield* joined(extentsIn(offset, length))
    },
    async close() {},
  }
}
