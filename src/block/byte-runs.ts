import { assert } from '../error.js'

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
  /** what of the bytes from `start` to before `end` lies in runs, in order */
  within(start: number, end: number): Iterable<{ readonly start: number; readonly end: number }>
}

/** Takes runs one after another and keeps them, 16 bytes each. */
export interface RunKeeper {
  /** The runs must ascend; those that touch are joined. */
  add(start: number, length: number): void
  runs(): ByteRuns
  /** bytes of the runs that were left out */
  readonly leftOut: number
}

/**
 * Keeps runs. Past `most` of them the shortest are left out, so that the memory is bounded: up to twice as many are held, and
 * their lengths while they are compared.
 */
export const runKeeper = (most = Number.POSITIVE_INFINITY): RunKeeper => {
  let places = new Float64Array(64)
  /** numbers in `places` in use */
  let used = 0
  let leftOut = 0
  const lengthAt = (at: number): number => places[at + 1]! - places[at]!
  const shorten = (): void => {
    const lengths = new Float64Array(used / 2)
    for (let at = 0; at < used; at += 2) lengths[at / 2] = lengthAt(at)
    lengths.sort()
    const shortest = lengths[lengths.length - most]!
    let ties = 0
    for (let index = lengths.length - most; index < lengths.length && lengths[index] === shortest; index++) ties++
    let to = 0
    for (let at = 0; at < used; at += 2) {
      const length = lengthAt(at)
      if (length < shortest || (length === shortest && ties-- <= 0)) {
        leftOut += length
        continue
      }
      places[to] = places[at]!
      places[to + 1] = places[at + 1]!
      to += 2
    }
    used = to
  }
  /** one past the last byte that was added, kept or not */
  let end = 0
  return {
    get leftOut() {
      return leftOut
    },
    add(start, length) {
      assert(length >= 0 && start >= end, 'runs that do not ascend')
      if (length === 0) return
      end = start + length
      if (used > 0 && places[used - 1] === start) {
        places[used - 1] = end
        return
      }
      if (used >= most * 4) shorten()
      if (used === places.length) {
        const larger = new Float64Array(used * 2)
        larger.set(places)
        places = larger
      }
      places[used++] = start
      places[used++] = end
    },
    runs() {
      if (used > most * 2) shorten()
      return runsIn(places.slice(0, used))
    },
  }
}

/** Keeps runs, 16 bytes each. They must ascend; those that touch are joined. */
export const byteRuns = (runs: Iterable<{ readonly start: number; readonly length: number }>): ByteRuns => {
  const keeper = runKeeper()
  for (const { start, length } of runs) keeper.add(start, length)
  return keeper.runs()
}

/** @param places  start and end of each run in turn */
const runsIn = (places: Float64Array): ByteRuns => {
  const count = places.length / 2
  let bytes = 0
  for (let at = 0; at < places.length; at += 2) bytes += places[at + 1]! - places[at]!
  const firstAfter = (offset: number): number => {
    let low = 0
    let high = count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (places[middle * 2 + 1]! <= offset) low = middle + 1
      else high = middle
    }
    return low
  }
  return {
    count,
    bytes,
    start: index => places[index * 2]!,
    end: index => places[index * 2 + 1]!,
    firstAfter,
    covers(start, end) {
      const index = firstAfter(start)
      return index < count && places[index * 2]! <= start && end <= places[index * 2 + 1]!
    },
    touches(start, end) {
      const index = firstAfter(start)
      return start < end && index < count && places[index * 2]! < end
    },
    *within(start, end) {
      if (start >= end) return
      for (let index = firstAfter(start); index < count && places[index * 2]! < end; index++)
        yield { start: Math.max(start, places[index * 2]!), end: Math.min(end, places[index * 2 + 1]!) }
    },
  }
}

/** True where both hold the same runs. */
export const sameRuns = (one: ByteRuns, other: ByteRuns): boolean => {
  if (one.count !== other.count) return false
  for (let index = 0; index < one.count; index++)
    if (one.start(index) !== other.start(index) || one.end(index) !== other.end(index)) return false
  return true
}
