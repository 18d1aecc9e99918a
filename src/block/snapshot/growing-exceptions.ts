import { assert } from '../../error.js'
import type { Exception, Exceptions } from './exceptions.js'

/**
 * Exceptions that new ones are added to. Indexes hold until the next is added. Those added are stored behind the first ones in
 * the order of their new chunks.
 */
export interface GrowingExceptions extends Exceptions {
  /** Adds the exception of a chunk that has none. */
  add(oldChunk: number, newChunk: number): void
}

/** A sorted piece of the set, 20 bytes an exception. */
interface Leaf {
  readonly oldChunks: Float64Array
  readonly newChunks: Float64Array
  /** place in the order of the first ones; of those added any number that is none of theirs */
  readonly stored: Uint32Array
  count: number
}

/** exceptions a leaf has room for */
const LEAF = 512
/** as many are put into a leaf at first: room to grow, and little waste */
const FILL = 400

const leaf = (): Leaf => ({
  oldChunks: new Float64Array(LEAF),
  newChunks: new Float64Array(LEAF),
  stored: new Uint32Array(LEAF),
  count: 0,
})

const ROWS = ['oldChunks', 'newChunks', 'stored'] as const

/** The first place in a leaf whose old chunk is `oldChunk` or more. */
const placeIn = ({ oldChunks, count }: Leaf, oldChunk: number): number => {
  let low = 0
  let high = count
  while (low < high) {
    const middle = (low + high) >>> 1
    if (oldChunks[middle]! < oldChunk) low = middle + 1
    else high = middle
  }
  return low
}

const insert = (into: Leaf, place: number, oldChunk: number, newChunk: number, stored: number): void => {
  for (const row of ROWS) into[row].copyWithin(place + 1, place, into.count)
  into.oldChunks[place] = oldChunk
  into.newChunks[place] = newChunk
  into.stored[place] = stored
  into.count++
}

/** Moves all from `place` on into a leaf of its own. */
const split = (from: Leaf, place: number): Leaf => {
  const upper = leaf()
  for (const row of ROWS) upper[row].set(from[row].subarray(place, from.count))
  upper.count = from.count - place
  from.count = place
  return upper
}

/**
 * A set that begins with these exceptions and grows. It takes 25 to 40 bytes an exception; adding one moves some KiB.
 *
 * @param first  copied
 */
export const growingExceptions = (first: Exceptions): GrowingExceptions => {
  const leaves: Leaf[] = [leaf()]
  let count = first.count
  for (let index = 0; index < first.count; index++) {
    let last = leaves.at(-1)!
    if (last.count === FILL) {
      last = leaf()
      leaves.push(last)
    }
    insert(last, last.count, first.oldChunkAt(index), first.newChunkAt(index), first.storedAt(index))
  }

  /** The leaf that holds a chunk, or would: the last that begins at it or before it. */
  const leafOf = (oldChunk: number): number => {
    let low = 0
    let high = leaves.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (leaves[middle]!.oldChunks[0]! <= oldChunk) low = middle
      else high = middle - 1
    }
    return low
  }

  /** the index of each leaf's first exception; counted anew when it is asked for after a change */
  let starts: Float64Array | undefined
  const startsNow = (): Float64Array => {
    if (starts) return starts
    starts = new Float64Array(leaves.length)
    for (let n = 1; n < leaves.length; n++) starts[n] = starts[n - 1]! + leaves[n - 1]!.count
    return starts
  }
  /** the leaf of the index that was asked for last: most are asked for in order */
  let near = 0
  const placeOf = (index: number): { at: Leaf; place: number } => {
    assert(index >= 0 && index < count, `exception ${index} of ${count}`)
    const all = startsNow()
    const inside = (n: number): boolean => index >= all[n]! && index - all[n]! < leaves[n]!.count
    if (near >= leaves.length || !inside(near)) {
      let low = 0
      let high = leaves.length - 1
      while (low < high) {
        const middle = (low + high + 1) >>> 1
        if (all[middle]! <= index) low = middle
        else high = middle - 1
      }
      near = low
    }
    return { at: leaves[near]!, place: index - all[near]! }
  }

  /** the place of each in the order in which they were stored; told anew when it is asked for after a change */
  let places: Uint32Array | undefined
  const placesNow = (): Uint32Array => {
    if (places) return places
    places = new Uint32Array(count)
    const added = new Uint32Array(count - first.count)
    const newChunks = new Float64Array(added.length)
    let index = 0
    let next = 0
    for (const at of leaves)
      for (let place = 0; place < at.count; place++, index++) {
        if (at.stored[place]! < first.count) places[index] = at.stored[place]!
        else {
          added[next] = index
          newChunks[next++] = at.newChunks[place]!
        }
      }
    const order = added.map((_, n) => n).sort((a, b) => newChunks[a]! - newChunks[b]!)
    for (const [n, which] of order.entries()) places[added[which]!] = first.count + n
    return places
  }

  const set: GrowingExceptions = {
    get count() {
      return count
    },
    find(oldChunk) {
      const at = leaves[leafOf(oldChunk)]!
      const place = placeIn(at, oldChunk)
      return place < at.count && at.oldChunks[place] === oldChunk ? at.newChunks[place] : undefined
    },
    touches(fromChunk, toChunk) {
      const index = set.firstFrom(fromChunk)
      return index < count && set.oldChunkAt(index) < toChunk
    },
    *range(fromChunk = 0, toChunk = Number.POSITIVE_INFINITY) {
      for (let index = set.firstFrom(fromChunk); index < count; index++) {
        const { at, place } = placeOf(index)
        if (at.oldChunks[place]! >= toChunk) return
        yield { oldChunk: at.oldChunks[place]!, newChunk: at.newChunks[place]! }
      }
    },
    *stored(): IterableIterator<Exception> {
      const indexes = new Uint32Array(count)
      for (const [index, place] of placesNow().entries()) indexes[place] = index
      for (const index of indexes) yield { oldChunk: set.oldChunkAt(index), newChunk: set.newChunkAt(index) }
    },
    firstFrom(oldChunk) {
      const n = leafOf(oldChunk)
      return startsNow()[n]! + placeIn(leaves[n]!, oldChunk)
    },
    oldChunkAt(index) {
      const { at, place } = placeOf(index)
      return at.oldChunks[place]!
    },
    newChunkAt(index) {
      const { at, place } = placeOf(index)
      return at.newChunks[place]!
    },
    storedAt(index) {
      assert(index >= 0 && index < count, `exception ${index} of ${count}`)
      return placesNow()[index]!
    },
    add(oldChunk, newChunk) {
      const n = leafOf(oldChunk)
      let at = leaves[n]!
      let place = placeIn(at, oldChunk)
      assert(!(place < at.count && at.oldChunks[place] === oldChunk), `chunk ${oldChunk} has an exception already`)
      if (at.count === LEAF) {
        // Written in ascending order, each leaf fills up; otherwise both halves get room.
        const upper = n === leaves.length - 1 && place === LEAF ? leaf() : split(at, LEAF / 2)
        leaves.splice(n + 1, 0, upper)
        if (place > at.count || upper.count === 0) {
          place -= at.count
          at = upper
        }
      }
      insert(at, place, oldChunk, newChunk, count)
      count++
      starts = undefined
      places = undefined
    },
  }
  return set
}
