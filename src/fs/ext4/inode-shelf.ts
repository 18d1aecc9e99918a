const INODES_A_SLAB = 1024

/** Bytes of inodes, by their numbers. */
export interface InodeShelf {
  /** Keeps a copy, the first one of each. */
  put(ino: number, bytes: Uint8Array): void
  get(ino: number): Uint8Array | undefined
}

/** Makes one that is packed: an object for each inode would take four times as much. */
export const inodeShelf = (inodeSize: number): InodeShelf => {
  const slots = new Map<number, number>()
  const slabs: Uint8Array[] = []
  return {
    put(ino, bytes) {
      if (slots.has(ino)) return
      const slot = slots.size
      if (slot % INODES_A_SLAB === 0) slabs.push(new Uint8Array(INODES_A_SLAB * inodeSize))
      slabs.at(-1)!.set(bytes, (slot % INODES_A_SLAB) * inodeSize)
      slots.set(ino, slot)
    },
    get(ino) {
      const slot = slots.get(ino)
      if (slot === undefined) return undefined
      const at = (slot % INODES_A_SLAB) * inodeSize
      return slabs[Math.floor(slot / INODES_A_SLAB)]!.subarray(at, at + inodeSize)
    },
  }
}
