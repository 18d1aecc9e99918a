import { isAreaChunk } from './layout.js'

/** Chunks by which a number may lie off the highest before it, for kernels that wrote entries as copies were done. */
const WINDOW = 1024
/** Chunks in a row, all of them listed, among which an entry that is farther off makes sense: more than a sector lists. */
const IN_A_ROW = 64

/** True for an entry that lies farther off the highest before it than kernels ever write them. Both are chunks of the store. */
export const isFar = (newChunk: number, highest: number): boolean =>
  newChunk > highest + WINDOW || newChunk + WINDOW < highest

/**
 * True where each entry that is far off the highest before it is one of many chunks in a row that are all listed, as writers
 * leave it that listed each run of chunks when its data was written: runs come out of order, and in the end fill all places. A
 * number that is damaged stands alone.
 *
 * @param newChunks  in the order of the list, no one twice
 */
export const isInRows = (newChunks: Float64Array, perArea: number): boolean => {
  const sorted = newChunks.slice().sort()
  /** the first of the row that a chunk is in */
  const rowAt = new Uint32Array(sorted.length)
  const rowCount = new Uint32Array(sorted.length)
  for (let n = 0, row = 0; n < sorted.length; n++) {
    const next = (sorted[n - 1] ?? Number.NaN) + 1
    if (sorted[n] !== (isAreaChunk(next, perArea) ? next + 1 : next)) row = n
    rowAt[n] = row
    rowCount[row]!++
  }
  let highest = 1
  for (const chunk of newChunks) {
    if (isFar(chunk, highest) && rowCount[rowAt[placeOf(sorted, chunk)]!]! < IN_A_ROW) return false
    highest = Math.max(highest, chunk)
  }
  return true
}

/** The place of the first number that is `number` or more. */
export const placeOf = (sorted: Float64Array, number: number): number => {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]! < number) low = middle + 1
    else high = middle
  }
  return low
}
