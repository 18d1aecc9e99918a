import { assert } from '../error.js'
import { checkRange, type Device, type Extent, extentsOf, type SparseDevice } from './device.js'
import { joined } from './extents.js'
import { gather, type Part } from './gather.js'

/** Runs of bytes in ascending order that do not touch each other. */
export interface ByteRuns {
  readonly count: number
  /** bytes in all runs */
  readonly bytes: number
  start(index: number): number
  /** one past the last byte */
  end(index: number): number
  /** the first run that ends behind an offset */
  firstAfter(offset: number): number
  /** true where all bytes from `start` to before `end` lie in one run */
  covers(start: number, end: number): boolean
  /** true where any byte from `start` to before `end` lies in a run */
  touches(start: number, end: number): boolean
}

/** Keeps runs, 16 bytes each. They must ascend; those that touch are joined. */
export const byteRuns = (runs: Iterable<{ readonly start: number; readonly length: number }>): ByteRuns => {
  const places: number[] = []
  let bytes = 0
  for (const { start, length } of runs) {
    const last = places.at(-1)
    assert(length >= 0 && (last === undefined || start >= last), 'runs that do not ascend')
    if (length === 0) continue
    bytes += length
    if (last === start) places[places.length - 1] = start + length
    else places.push(start, start + length)
  }
  const kept = Float64Array.from(places)
  const count = kept.length / 2
  const firstAfter = (offset: number): number => {
    let low = 0
    let high = count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (kept[middle * 2 + 1]! <= offset) low = middle + 1
      else high = middle
    }
    return low
  }
  return {
    count,
    bytes,
    start: index => kept[index * 2]!,
    end: index => kept[index * 2 + 1]!,
    firstAfter,
    covers(start, end) {
      const index = firstAfter(start)
      return index < count && kept[index * 2]! <= start && end <= kept[index * 2 + 1]!
    },
    touches(start, end) {
      const index = firstAfter(start)
      return index < count && kept[index * 2]! < end
    },
  }
}

/**
 * A device that shows zeros in some runs, and does not read there what is below. Closing it leaves `device` open.
 *
 * @param runs  where it is zero; they may leave the device
 */
export const masked = (device: Device, runs: ByteRuns, name = device.name): SparseDevice => {
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
    async *extents(offset, length) {
      checkRange(this, offset, length)
      yield* joined(extentsIn(offset, length))
    },
    async close() {},
  }
}
