import type { FileKind, Stat } from '../fs/filesystem.js'

/** Inodes that a walk met, in its order. */
export interface Seen {
  /** @param start  which of the paths that are copied it was met below */
  add(path: string, stat: Stat, start: number): void
  at(index: number): { readonly path: string; readonly stat: Stat; readonly start: number }
  readonly count: number
}

const KINDS: readonly FileKind[] = ['file', 'directory', 'symlink', 'block', 'character', 'fifo', 'socket']
const COLUMNS = 11
const NONE = -1
const ROWS = 4096

/** Keeps what is known of inodes in columns, 88 bytes and the path for each: as many objects cost the collector more than a second walk. */
export const openSeen = (): Seen => {
  const paths: string[] = []
  const tables: Float64Array[] = []
  const devices = new Map<number, NonNullable<Stat['device']>>()
  return {
    get count() {
      return paths.length
    },
    add(path, stat, start) {
      const index = paths.push(path) - 1
      const row = index % ROWS
      if (row === 0) tables.push(new Float64Array(ROWS * COLUMNS))
      const table = tables.at(-1)!
      let at = row * COLUMNS
      table[at++] = start
      table[at++] = KINDS.indexOf(stat.kind)
      table[at++] = stat.inode
      table[at++] = stat.mode
      table[at++] = stat.uid
      table[at++] = stat.gid
      table[at++] = stat.size
      table[at++] = stat.mtime
      table[at++] = stat.mtimeNanoseconds
      table[at++] = stat.linkCount
      table[at] = stat.place ?? NONE
      if (stat.device) devices.set(index, stat.device)
    },
    at(index) {
      const table = tables[Math.floor(index / ROWS)]!
      const at = (index % ROWS) * COLUMNS
      const stat: Stat = {
        kind: KINDS[table[at + 1]!]!,
        inode: table[at + 2]!,
        mode: table[at + 3]!,
        uid: table[at + 4]!,
        gid: table[at + 5]!,
        size: table[at + 6]!,
        mtime: table[at + 7]!,
        mtimeNanoseconds: table[at + 8]!,
        linkCount: table[at + 9]!,
      }
      const place = table[at + 10]!
      const device = devices.get(index)
      return {
        path: paths[index]!,
        stat: { ...stat, ...(place === NONE ? {} : { place }), ...(device ? { device } : {}) },
        start: table[at]!,
      }
    },
  }
}
