import { openRecent } from '../../bytes/recent.js'
import type { Entry } from '../filesystem.js'
import { type Ext4Inode, readInode } from './inode.js'
import { ROOT_INODE, readListing } from './listing.js'
import type { Volume } from './volume.js'

/** how many names are kept, over all directories; the directory read last is kept whatever its size */
const NAMES_KEPT = 100_000
/** how many inodes of directories are kept, so that a path is not read anew for each name in it */
const INODES_KEPT = 1000

/** The directories of an open filesystem, those read last kept in memory. */
export interface Directories {
  /** @throws CORRUPT, UNSUPPORTED, IO */
  list(directory: Ext4Inode): Promise<readonly Entry[]>
  /** the same by name */
  names(directory: Ext4Inode): Promise<ReadonlyMap<string, Entry>>
  /** The inode that an entry names. @throws CORRUPT  it is deleted, or of another kind than the entry says */
  live(entry: Entry): Promise<Ext4Inode>
}

interface Kept {
  readonly entries: readonly Entry[]
  byName: ReadonlyMap<string, Entry> | undefined
}

/** Makes the way to the directories of a volume. */
export const openDirectories = (volume: Volume): Directories => {
  /** by inode; one that is being read counts as a single name */
  const kept = openRecent<number, Promise<Kept>>(NAMES_KEPT)
  const inodes = openRecent<number, Ext4Inode>(INODES_KEPT)
  /** Of each directory met in a listing, the one that names it: each has one name, so that every walk ends. */
  const parents = new Map<number, number>()

  const learnParents = (directory: Ext4Inode, entries: readonly Entry[]): void => {
    const here = new Set<number>()
    for (const { name, kind, inode } of entries) {
      if (kind !== 'directory') continue
      if (inode === ROOT_INODE || here.has(inode) || (parents.get(inode) ?? directory.ino) !== directory.ino)
        throw volume.wrong(
          directory.offset,
          `entry ${JSON.stringify(name)} of directory ${directory.ino}`,
          'a directory with one name',
          `directory ${inode}, which has another name`,
        )
      here.add(inode)
      parents.set(inode, directory.ino)
    }
  }

  const read = async (directory: Ext4Inode): Promise<Kept> => {
    const { entries } = await readListing(volume, directory)
    learnParents(directory, entries)
    return { entries, byName: undefined }
  }

  const directoryOf = (directory: Ext4Inode): Promise<Kept> => {
    const { ino } = directory
    const known = kept.get(ino)
    if (known) return known
    const promise = Promise.resolve().then(() => read(directory))
    kept.set(ino, promise, 1)
    promise.then(
      ({ entries }) => kept.set(ino, promise, entries.length + 1),
      () => kept.delete(ino),
    )
    return promise
  }

  return {
    list: async directory => (await directoryOf(directory)).entries,
    async names(directory) {
      const found = await directoryOf(directory)
      found.byName ??= new Map(found.entries.map(entry => [entry.name, entry]))
      return found.byName
    },
    async live({ name, inode: ino, kind }) {
      const known = inodes.get(ino)
      if (known && known.kind === kind) return known
      const inode = await readInode(volume, ino)
      const wrong = (at: number, field: string, expected: string | number, found: string | number) =>
        volume.wrong(inode.offset + at, `${field} of inode ${ino}, ${JSON.stringify(name)}`, expected, found)
      if (inode.linkCount === 0) throw wrong(26, 'i_links_count', 'at least 1', 'deleted')
      if (inode.kind !== kind) throw wrong(0, 'i_mode', kind, inode.kind ?? 'none')
      if (kind === 'directory') inodes.set(ino, inode, 1)
      return inode
    },
  }
}
