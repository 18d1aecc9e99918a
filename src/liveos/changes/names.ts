import type { Device } from '../../block/device.js'
import { parallel } from '../../block/parallel.js'
import { lowerBound } from '../../bytes/lower-bound.js'
import { isLiveError } from '../../error.js'
import { type Listing, ROOT_INODE } from '../../fs/ext4/listing.js'
import type { Entry } from '../../fs/filesystem.js'
import type { ContentComparison, Stretch } from './content.js'
import { type Side, stopIfAborted } from './side.js'
import type { Sweeping, Swept } from './sweep.js'
import { windows } from './windows.js'

const DIRECTORIES_AT_ONCE = 16
const PROGRESS_STEP = 1 << 20

/** Where a directory stands. */
export interface Place {
  readonly parent: number
  readonly name: string
}

/** Names of both sides. What is the same in both is kept once, and of it only what leads to something that may have changed. */
export interface Names {
  /** names of a directory; undefined where it can't be read, which was told */
  listing(side: Side, ino: number): Promise<readonly Entry[] | undefined>
  /** of a directory that is the same in both: directories in it, and candidates; undefined where it leads to none, or can't be read */
  shared(ino: number): readonly Entry[] | undefined
  /** absolute path of a directory; undefined where no name leads to it */
  pathOf(side: Side, ino: number): string | undefined
}

/** No path is longer, in UTF-16; a damaged tree may be any depth. */
export const MOST_PATH = 65_536

/** A directory to be read from the base: one that is the same in both where no side is named. */
interface Directory {
  readonly ino: number
  readonly side: Side | undefined
  readonly start: number
  readonly end: number
}

/** One name looked for among so many directories is few; so many of them are near an inode. */
const FEW = 32
const NEAR = 8

/** Which of the directories that are the same in both are worth reading. */
const openSearch = ({ candidates, links, shared }: Swept, sides: readonly Side[]) => {
  const { inodesPerGroup } = sides[0]!.volume.superblock
  // A kernel that met errors tells that link counts may be wrong: then every directory is read.
  const isSound = sides.every(({ volume: { superblock } }) => !superblock.hasErrors && superblock.errorCount === 0)
  /** names of candidates that were not met yet: in a directory that nothing touched */
  const missing = new Map(links)
  /** of each directory that was read: the one above it */
  const above = new Map<number, number>()
  /** those that lead to something */
  const needed = new Set<number>()
  /** directories that some directory names, and those that one has to, where ".." led to none that does */
  const named = new Set([ROOT_INODE])
  const lost = new Set<number>()
  const seek = (ino: number): void => {
    if (!named.has(ino)) lost.add(ino)
  }
  const lead = (ino: number): void => {
    for (let at: number | undefined = ino; at !== undefined && shared.has(at) && !needed.has(at); at = above.get(at)) {
      needed.add(at)
      seek(at)
    }
  }
  lead(ROOT_INODE)
  const groupOf = (ino: number): number => Math.floor((ino - 1) / inodesPerGroup)
  const unread = (): number[] => Array.from(shared).filter(ino => !above.has(ino))
  const inGroups = (): readonly number[] => {
    const groups = new Set(Array.from(missing.keys(), groupOf))
    return unread().filter(ino => groups.has(groupOf(ino)))
  }
  return {
    /** Names in any directory; those of the root count. */
    met(entries: readonly Entry[], inRoot: boolean): void {
      for (const { inode, kind } of entries) {
        if (kind === 'directory') {
          named.add(inode)
          lost.delete(inode)
        }
        if (!inRoot) continue
        const left = missing.get(inode)
        if (left === undefined) continue
        if (left > 1) missing.set(inode, left - 1)
        else missing.delete(inode)
      }
    },
    /** A directory was read that something touched. */
    readOwn(ino: number, { parent }: Listing): void {
      seek(ino)
      lead(parent)
    },
    /** One was read that is the same in both; undefined where it can't be. */
    readShared(ino: number, listing: Listing | undefined): void {
      const parent = listing?.parent ?? ROOT_INODE
      above.set(ino, parent)
      if (needed.has(ino)) lead(parent)
      else if (listing?.entries.some(({ kind, inode }) => kind !== 'directory' && candidates.has(inode))) lead(ino)
    },
    /** True once each name of each candidate was met, and of all that leads to one. */
    get isWhole() {
      return isSound && missing.size === 0 && lost.size === 0
    },
    /** Those to read first, where few names are looked for: files are mostly made soon after their directory. */
    near(): readonly number[] {
      const inos = Float64Array.from(unread()).sort()
      const near = new Set(inos.filter(ino => needed.has(ino)))
      if (missing.size * FEW > inos.length) return [...new Set([...near, ...inGroups()])]
      for (const file of missing.keys()) {
        const at = lowerBound(inos.length, n => inos[n]! <= file)
        for (const ino of inos.subarray(Math.max(0, at - NEAR), at + 1)) near.add(ino)
      }
      return [...near]
    },
    /** Those to read then: files are mostly made in the group of their directory. */
    inGroups,
    /** Those that lead to what was found. */
    leading: (): readonly number[] => Array.from(needed).filter(ino => !above.has(ino)),
    unread,
  }
}

/**
 * Reads the directories that lead to what may have changed, in the order of the disk: of ext4's inodes only the directories know
 * where they are. Once each name of each candidate was met, as link counts tell, the others are left unread. What can be compared
 * of contents before names are known is compared on the way: much of it lies beside the directories.
 *
 * @throws CANCELLED
 */
export const readNames = async (sweeping: Sweeping, swept: Swept, contents: ContentComparison): Promise<Names> => {
  const { base, root, told, signal } = sweeping
  const { candidates, places } = swept
  const { blockSize } = root.volume.superblock
  const search = openSearch(swept, [base, root])
  const sharedEntries = new Map<number, readonly Entry[]>()
  const own = new Map<Side, Map<number, readonly Entry[] | undefined>>([
    [base, new Map()],
    [root, new Map()],
  ])
  const parents = { shared: new Map<number, Place>(), base: new Map<number, Place>(), root: new Map<number, Place>() }
  const parentsOf = (side: Side): Map<number, Place> => (side === base ? parents.base : parents.root)

  const read = async (side: Side, ino: number, from?: Device): Promise<Listing | undefined> => {
    try {
      return await side.read(ino, from)
    } catch (error) {
      if (!isLiveError(error)) throw error
      told.tell(error, `directory ${ino} of ${side.name}`)
      return undefined
    }
  }
  const learn = (places: Map<number, Place>, parent: number, entries: readonly Entry[]): void => {
    for (const { name, kind, inode } of entries)
      if (kind === 'directory' && !places.has(inode)) places.set(inode, { parent, name })
  }

  let done = 0
  let total = 0
  const tell = (bytes: number): void => {
    const before = done
    done += bytes
    if (Math.floor(before / PROGRESS_STEP) !== Math.floor(done / PROGRESS_STEP)) sweeping.onBytes(done, total)
  }
  const readOwn = async (ino: number, side: Side, from?: Device): Promise<void> => {
    const listing = await read(side, ino, from)
    own.get(side)!.set(ino, listing?.entries)
    if (listing) {
      learn(parentsOf(side), ino, listing.entries)
      search.readOwn(ino, listing)
      search.met(listing.entries, side === root)
    }
    tell(blockSize)
  }
  const readShared = async (ino: number, from: Device): Promise<void> => {
    // What nothing touched is read from the base: there it lies as it is.
    const listing = await read(base, ino, from)
    search.readShared(ino, listing)
    if (listing) {
      const { entries } = listing
      learn(parents.shared, ino, entries)
      search.met(entries, true)
      sharedEntries.set(
        ino,
        entries.filter(({ kind, inode }) => kind === 'directory' || candidates.has(inode)),
      )
    }
    tell(blockSize)
  }

  const placeOf = (ino: number): number => places.get(ino) ?? 0
  const { size } = base.volume.device
  const directory = (ino: number, side?: Side): Directory => {
    const start = placeOf(ino)
    return { ino, side, start, end: Math.min(start + blockSize, size) }
  }
  /** Goes over parts of the base, or as many as are needed until `isEnough`. */
  const pass = async (parts: readonly (Directory | Stretch)[], isEnough = () => false): Promise<void> => {
    total += parts.reduce((sum, part) => sum + ('file' in part ? part.length : blockSize), 0)
    const ordered = [...parts].sort((a, b) => a.start - b.start)
    for await (const { items, window } of windows<Directory | Stretch>(base, ordered, item => item)) {
      stopIfAborted(signal)
      const here: Stretch[] = []
      for (const item of items)
        if ('file' in item) here.push(item)
        else if (item.side) await readOwn(item.ino, item.side, window.device)
        else await readShared(item.ino, window.device)
      await contents.compare(here, window)
      for (const { length } of here) tell(length)
      if (isEnough()) return
    }
  }
  const follow = async (): Promise<void> => {
    for (let next = search.leading(); next.length > 0; next = search.leading())
      await pass(next.map(ino => directory(ino)))
  }

  // In the root each of them has a chunk of the overlay.
  const inRoot = [...swept.root].sort((a, b) => placeOf(a) - placeOf(b))
  total += inRoot.length * blockSize
  await parallel(inRoot.length, DIRECTORIES_AT_ONCE, async index => {
    stopIfAborted(signal)
    await readOwn(inRoot[index]!, root)
  })
  await pass([
    ...search.near().map(ino => directory(ino)),
    ...swept.base.map(ino => directory(ino, base)),
    ...contents.takeInBase(),
  ])
  await follow()
  for (const more of [search.inGroups, search.unread])
    if (!search.isWhole) {
      await pass(
        more().map(ino => directory(ino)),
        () => search.isWhole,
      )
      await follow()
    }

  return {
    async listing(side, ino) {
      const known = own.get(side)!
      if (known.has(ino)) return known.get(ino)
      return (await read(side, ino))?.entries
    },
    shared: ino => sharedEntries.get(ino),
    pathOf(side, ino) {
      const names: string[] = []
      const seen = new Set<number>()
      let length = 0
      for (let at = ino; at !== ROOT_INODE; ) {
        const place = parentsOf(side).get(at) ?? parents.shared.get(at)
        // A damaged tree may have rings of directories.
        if (!place || seen.has(at) || length > MOST_PATH) return undefined
        seen.add(at)
        length += place.name.length + 1
        names.push(place.name)
        at = place.parent
      }
      return `/${names.reverse().join('/')}`
    },
  }
}
