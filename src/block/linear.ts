import { checkRange, type Device, type Extent, type SparseDevice } from './device.js'
import { extentsAt, joined } from './extents.js'
import { gather, type Part } from './gather.js'

/** A run of bytes of a linear device. Without a device it is a hole of zeros. */
export interface Segment {
  readonly length: number
  readonly device?: Device | undefined
  /** byte offset in that device where the run starts, 0 if left out */
  readonly deviceOffset?: number | undefined
}

/**
 * Segments laid end to end as one Device. Segments of no length are left out. Closing it closes none of the segments' devices.
 *
 * @throws OUT_OF_RANGE  a segment leaves its device
 * @see linux drivers/md/dm-linear.c
 */
export const linear = (segments: readonly Segment[], name: string): SparseDevice => {
  const parts: Part[] = []
  const starts: number[] = []
  let size = 0
  for (const { length, device, deviceOffset = 0 } of segments) {
    if (device) checkRange(device, deviceOffset, length)
    else checkRange({ name, size: Number.MAX_SAFE_INTEGER }, size, length)
    if (length === 0) continue
    parts.push({ device, offset: deviceOffset, length })
    starts.push(size)
    size += length
  }

  const partAt = (offset: number): number => {
    let low = 0
    let high = parts.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (starts[middle]! <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  function* partsOf(offset: number, length: number): Iterable<Part> {
    const end = offset + length
    for (let index = partAt(offset), at = offset; at < end; index++) {
      const part = parts[index]!
      const skip = at - starts[index]!
      const count = Math.min(part.length - skip, end - at)
      yield { device: part.device, offset: part.offset + skip, length: count }
      at += count
    }
  }

  async function* extentsIn(offset: number, length: number): AsyncIterable<Extent> {
    let start = offset
    for (const part of partsOf(offset, length)) {
      if (part.device) yield* extentsAt(part.device, part.offset, part.length, start)
      else yield { offset: start, length: part.length, kind: 'hole' }
      start += part.length
    }
  }

  const device: SparseDevice = {
    name,
    size,
    async read(offset, length) {
      checkRange(device, offset, length)
      return gather([...partsOf(offset, length)], length)
    },
    async *extents(offset, length) {
      checkRange(device, offset, length)
      yield* joined(extentsIn(offset, length))
    },
    async close() {},
  }
  return device
}

/**
 * A part of a device as a Device of its own, such as a partition. Closing it leaves `device` open.
 *
 * @param offset  byte offset in `device` where the slice starts
 * @param length  bytes
 * @throws OUT_OF_RANGE  the slice leaves the device
 */
export const slice = (
  device: Device,
  offset: number,
  length: number,
  name = `${device.name} from byte ${offset}`,
): SparseDevice => linear([{ device, deviceOffset: offset, length }], name)
