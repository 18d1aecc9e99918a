/** Chunk numbers, 4 bytes each where they fit: two million exceptions then take 24 MB, and 40 MB at worst. */
type Chunks = Uint32Array | Float64Array

/** Where the store keeps a chunk of the origin. Both are chunks, not bytes. */
export interface Exception {
  readonly oldChunk: number
  readonly newChunk: number
}

/** The exceptions of a store: which chunks of the origin it holds, and where. Indexes count in the order of old chunks. */
export interface Exceptions {
  readonly count: number
  /** The chunk of the store that holds this chunk of the origin; undefined where the origin still holds it. */
  find(oldChunk: number): number | undefined
  /** True where the store holds any chunk of the origin from `fromChunk` to before `toChunk`. */
  touches(fromChunk: number, toChunk: number): boolean
  /** The exceptions of origin chunks from `fromChunk` to before `toChunk`, in their order. */
  range(fromChunk?: number, toChunk?: number): IterableIterator<Exception>
  /** All exceptions in the order in which they were stored, the order of the metadata areas. */
  stored(): IterableIterator<Exception>
  /** The index of the first exception whose old chunk is `oldChunk` or more; `count` where there is none. */
  firstFrom(oldChunk: number): number
  oldChunkAt(index: number): number
  newChunkAt(index: number): number
  /** The place of an exception in the order in which they were stored. */
  storedAt(index: number): number
}

const chunks = (count: number, largest: number): Chunks =>
  largest < 2 ** 32 ? new Uint32Array(count) : new Float64Array(count)

/** Indexes into `oldChunks` that put it in order; equal ones stay in the order they had. */
const orderOf = (oldChunks: Float64Array, largest: number): Uint32Array => {
  const count = oldChunks.length
  const order = new Uint32Array(count)
  if ((largest + 1) * count <= Number.MAX_SAFE_INTEGER) {
    // Chunk and index in one number: sorting plain numbers is several times faster than sorting by a function.
    const keys = oldChunks.map((oldChunk, index) => oldChunk * count + index).sort()
    for (let index = 0; index < count; index++) order[index] = keys[index]! % count
    return order
  }
  for (let index = 0; index < count; index++) order[index] = index
  return order.sort((a, b) => oldChunks[a]! - oldChunks[b]! || a - b)
}

/**
 * Makes the set out of exceptions in the order in which they were stored. Whether a chunk comes twice is `findTwin`'s question.
 *
 * @param stored  old and new chunk of each; not kept
 */
export const exceptionSet = (stored: { oldChunks: Float64Array; newChunks: Float64Array }): Exceptions => {
  const count = stored.oldChunks.length
  const largest = (all: Float64Array): number => all.reduce((most, chunk) => Math.max(most, chunk), 0)
  const order = orderOf(stored.oldChunks, largest(stored.oldChunks))
  const oldChunks = chunks(count, largest(stored.oldChunks))
  const newChunks = chunks(count, largest(stored.newChunks))
  for (let index = 0; index < count; index++) {
    oldChunks[index] = stored.oldChunks[order[index]!]!
    newChunks[index] = stored.newChunks[order[index]!]!
  }

  const firstFrom = (oldChunk: number): number => {
    let low = 0
    let high = count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (oldChunks[middle]! < oldChunk) low = middle + 1
      else high = middle
    }
    return low
  }
  const at = (index: number): Exception => ({ oldChunk: oldChunks[index]!, newChunk: newChunks[index]! })
  return {
    count,
    find(oldChunk) {
      const index = firstFrom(oldChunk)
      return index < count && oldChunks[index] === oldChunk ? newChunks[index] : undefined
    },
    touches(fromChunk, toChunk) {
      const index = firstFrom(fromChunk)
      return index < count && oldChunks[index]! < toChunk
    },
    *range(fromChunk = 0, toChunk = Number.POSITIVE_INFINITY) {
      for (let index = firstFrom(fromChunk); index < count && oldChunks[index]! < toChunk; index++) yield at(index)
    },
    *stored() {
      const indexes = new Uint32Array(count)
      for (let index = 0; index < count; index++) indexes[order[index]!] = index
      for (const index of indexes) yield at(index)
    },
    firstFrom,
    oldChunkAt: index => oldChunks[index]!,
    newChunkAt: index => newChunks[index]!,
    storedAt: index => order[index]!,
  }
}

/**
 * Finds a number that comes twice.
 *
 * @returns its second place, counted from 0; undefined where all differ
 */
export const findTwin = (numbers: Float64Array): number | undefined => {
  const sorted = numbers.slice().sort()
  for (let index = 1; index < sorted.length; index++) {
    const number = sorted[index]!
    if (number === sorted[index - 1]) return numbers.indexOf(number, numbers.indexOf(number) + 1)
  }
  return undefined
}
