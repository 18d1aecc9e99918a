import { exceptionsPerArea, isAreaChunk } from './layout.js'
import type { Store } from './store.js'

/** The chunks of a store that are free for data. */
export interface ChunkSpace {
  /** Takes chunks, those before they were given back first, then in ascending order; undefined where there are not so many. */
  take(count: number): number[] | undefined
  /** Gives chunks back that follow each other. */
  giveBack(firstChunk: number, count: number): void
}

/** The free chunks of a store: those behind the highest that an exception has, as for the kernel. */
export const chunkSpace = ({ nextFreeChunk, chunkSize, cowSize }: Store): ChunkSpace => {
  const perArea = exceptionsPerArea(chunkSize)
  const chunkCount = Math.floor(cowSize / chunkSize)
  let next = nextFreeChunk
  const returned: number[] = []
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
      for (let n = 0; n < count; n++) returned.push(firstChunk + n)
      returned.sort((a, b) => a - b)
    },
  }
}
