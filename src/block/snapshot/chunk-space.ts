import { exceptionsPerArea, isAreaChunk } from './layout.js'
import type { Store } from './store.js'

/** The chunks of a store that are free for data. */
export interface ChunkSpace {
  /** Takes chunks, in ascending order and those that were given back first; undefined where there are not so many. */
  take(count: number): number[] | undefined
  /** Gives chunks back that follow each other. */
  giveBack(firstChunk: number, count: number): void
  /** Says that the list goes on behind this chunk: none up to it is taken any more, though it was given back. */
  pass(chunk: number): void
}

/** The free chunks of a store: those behind the highest that an exception has, as for the kernel, which never goes back. */
export const chunkSpace = ({ nextFreeChunk, chunkSize, cowSize }: Store): ChunkSpace => {
  const perArea = exceptionsPerArea(chunkSize)
  const chunkCount = Math.floor(cowSize / chunkSize)
  let next = nextFreeChunk
  let passed = next - 1
  let returned: number[] = []
  /** how many of the chunks before this one are data and not metadata areas */
  const dataBefore = (chunk: number): number => chunk - Math.ceil((chunk - 1) / (perArea + 1))
  return {
    take(count) {
      if (count > returned.length + dataBefore(chunkCount) - dataBefore(Math.min(next, chunkCount))) return undefined
      const taken = returned.splice(0, count)
      while (taken.length < count) {
        if (!isAreaChunk(next, perArea)) taken.push(next)
        next++
      }
      if (isAreaChunk(next, perArea)) next++
      return taken
    },
    giveBack(firstChunk, count) {
      for (let n = 0; n < count; n++) if (firstChunk + n > passed) returned.push(firstChunk + n)
      returned.sort((a, b) => a - b)
    },
    pass(chunk) {
      passed = Math.max(passed, chunk)
      returned = returned.filter(free => free > passed)
    },
  }
}
