/** Memory for many things of about one size. */
export interface Spare {
  /** of `size` bytes or more, with anything in it */
  take(size: number): SharedArrayBuffer
  /** nobody uses it any more */
  give(memory: SharedArrayBuffer): void
}

/** Steps in which it grows; what is smaller has a power of two. */
const GRAIN = 65536

const roomFor = (size: number): number =>
  size < GRAIN ? 2 ** Math.ceil(Math.log2(Math.max(size, 1))) : Math.ceil(size / GRAIN) * GRAIN

/**
 * Shared memory that is taken again and again: as many pieces as were needed at once. Fresh memory for each would cost page
 * faults, and more runs of the collector; and what is shared is worked on in other threads without a copy.
 */
export const openSpare = (): Spare => {
  const free: SharedArrayBuffer[] = []
  return {
    take(size) {
      const memory = free.pop()
      return memory && memory.byteLength >= size ? memory : new SharedArrayBuffer(roomFor(size))
    },
    give: memory => void free.push(memory),
  }
}
