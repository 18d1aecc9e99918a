/** Memory of one size that is used again: fresh memory for each read costs page faults and keeps the garbage collector busy. */
export interface Slots {
  /** So many bytes that hold anything; undefined where they are more than a slot, so few that a slot is a waste, or none is free. */
  take(length: number): Buffer | undefined
  /** Gives back what was taken, once nobody looks at it. */
  give(bytes: Buffer): void
}

/** Bytes of a slot: what nbdcopy asks for at once. */
const SLOT = 1 << 18
/** Fewer are cheap to allocate. */
const LEAST = 1 << 14

/** Slots for at most `maxBytes`, made when they are needed. What was given last is taken first: a cache may still hold it. */
export const slots = (maxBytes: number): Slots => {
  const free: ArrayBuffer[] = []
  let unmade = Math.floor(maxBytes / SLOT)
  const make = (): ArrayBuffer | undefined => {
    if (unmade === 0) return undefined
    unmade--
    return new ArrayBuffer(SLOT)
  }
  return {
    take(length) {
      if (length > SLOT || length < LEAST) return undefined
      const memory = free.pop() ?? make()
      return memory && Buffer.from(memory, 0, length)
    },
    give(bytes) {
      free.push(bytes.buffer as ArrayBuffer)
    },
  }
}
