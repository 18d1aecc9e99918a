import { openSpare } from './spare.js'

/** Fills memory that is as long as was asked for. @returns  how many bytes of it */
export type Make = (memory: Uint8Array) => Promise<number>

/** Bytes that are made once and looked at often, by a key. */
export interface Kept<K> {
  /**
   * What `look` makes of the bytes. It has them only until it is done: their memory is taken again for others.
   *
   * @param size  bytes that `make` fills at most
   * @param make  called where they aren't there; all who wait for one key share one call, and a failure, which is not kept
   */
  use<T>(key: K, size: number, make: Make, look: (bytes: Uint8Array) => T | Promise<T>): Promise<T>
  /** The same for a `use` that follows soon, which meets the failure. */
  ahead(key: K, size: number, make: Make): void
  /** True where a `use` would make nothing. */
  has(key: K): boolean
}

interface Entry {
  readonly size: number
  readonly memory: SharedArrayBuffer
  bytes: Promise<Uint8Array>
  /** who needs the memory now, the one who fills it among them */
  users: number
  isDropped: boolean
}

/** Keeps those used last, up to `most` bytes, and the one used last whatever its size. */
export const openKept = <K>(most: number): Kept<K> => {
  const spare = openSpare()
  // A Map iterates in order of insertion, so its first is the one not used for longest.
  const kept = new Map<K, Entry>()
  let size = 0

  const leave = (entry: Entry): void => {
    if (--entry.users === 0 && entry.isDropped) spare.give(entry.memory)
  }
  const drop = (key: K, entry: Entry): void => {
    kept.delete(key)
    size -= entry.size
    entry.isDropped = true
    if (entry.users === 0) spare.give(entry.memory)
  }
  const make = (key: K, length: number, fill: Make): Entry => {
    const memory = spare.take(length)
    const bytes = fill(new Uint8Array(memory, 0, length)).then(filled => new Uint8Array(memory, 0, filled))
    const entry: Entry = { size: length, memory, bytes, users: 1, isDropped: false }
    bytes.then(
      () => leave(entry),
      () => {
        if (kept.get(key) === entry) drop(key, entry)
        leave(entry)
      },
    )
    return entry
  }
  const get = (key: K, length: number, fill: Make): Entry => {
    const known = kept.get(key)
    if (known) kept.delete(key)
    const entry = known ?? make(key, length, fill)
    kept.set(key, entry)
    if (known) return known
    size += length
    for (const [oldest, other] of kept) {
      if (size <= most || other === entry) break
      drop(oldest, other)
    }
    return entry
  }

  return {
    async use(key, length, fill, look) {
      const entry = get(key, length, fill)
      entry.users++
      try {
        return await look(await entry.bytes)
      } finally {
        leave(entry)
      }
    },
    ahead: (key, length, fill) => void get(key, length, fill),
    has: key => kept.has(key),
  }
}
