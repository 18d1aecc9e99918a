import { isLiveError, LiveError } from '../error.js'
import { readInode } from '../fs/ext4/inode.js'
import { type Listing, ROOT_INODE, readListing } from '../fs/ext4/listing.js'
import type { Volume } from '../fs/ext4/volume.js'

/** Where inodes stand in the tree, each under one of its names. */
export interface InodePaths {
  /** the directory that names an inode; undefined for the root, and where none does */
  parentOf(ino: number): number | undefined
  /** absolute path; undefined where no directory that hangs on the root names it */
  pathOf(ino: number): string | undefined
}

/** How paths are looked for. */
export interface InodePathsOptions {
  /** told of each directory that can't be read, which is then passed over; without it the first one ends the search */
  readonly onCorrupt?: (error: LiveError, ino: number) => void
  readonly signal?: AbortSignal | undefined
  /** listings of directories that were read already; of their names those that are wanted, and directories */
  readonly known?: ((ino: number) => Listing | undefined) | undefined
}

/** As deep as `walk` goes. */
const MAX_DEPTH = 1024
const LISTINGS_AT_ONCE = 32

/**
 * Finds the paths of some inodes in one sweep over the directories, which ends once each has a name. Directories that are
 * wanted themselves come first (where something changed, names mostly did too), then those in a group of a wanted inode, as
 * files are mostly made in the group of their directory: so that few others are read.
 *
 * @param wanted       inode numbers
 * @param directories  numbers of all directories in use, as a sweep of the inodes tells them
 * @throws CANCELLED
 * @throws CORRUPT, UNSUPPORTED, IO  without `onCorrupt`
 */
export const findInodePaths = async (
  volume: Volume,
  wanted: ReadonlySet<number>,
  directories: readonly number[],
  { onCorrupt, signal, known }: InodePathsOptions = {},
): Promise<InodePaths> => {
  const { inodesPerGroup } = volume.superblock
  const names = new Map<number, { readonly parent: number; readonly name: string }>()
  const dotDot = new Map<number, number>()
  const missing = new Set(wanted)
  // A directory tells its parent itself, so none is searched for.
  for (const ino of directories) missing.delete(ino)

  const listed = async (ino: number): Promise<Listing | undefined> => {
    const inode = await readInode(volume, ino)
    return inode.kind === 'directory' && inode.linkCount > 0 ? readListing(volume, inode) : undefined
  }
  const read = async (ino: number): Promise<(() => void) | undefined> => {
    if (signal?.aborted)
      throw new LiveError('CANCELLED', 'stopped while directories were being read', {}, signal.reason)
    try {
      const listing = known?.(ino) ?? (await listed(ino))
      if (!listing) return undefined
      const { entries, parent } = listing
      return () => {
        dotDot.set(ino, parent)
        for (const { name, inode: child, kind } of entries) {
          if ((kind !== 'directory' && !wanted.has(child)) || names.has(child)) continue
          names.set(child, { parent: ino, name })
          missing.delete(child)
        }
      }
    } catch (error) {
      if (!onCorrupt || !isLiveError(error) || error.code === 'CANCELLED') throw error
      onCorrupt(error, ino)
      return undefined
    }
  }
  const tried = new Set<number>()
  const list = async (inos: readonly number[]): Promise<void> => {
    const fresh = inos.filter(ino => !tried.has(ino))
    for (const ino of fresh) tried.add(ino)
    // Read side by side and taken in order, so that of several names the same one is found each time.
    for (const take of await Promise.all(fresh.map(read))) take?.()
  }

  const groupOf = (ino: number): number => Math.floor((ino - 1) / inodesPerGroup)
  const groups = new Set([...missing].map(groupOf))
  const tiers: number[][] = [[], [], []]
  for (const ino of directories) tiers[wanted.has(ino) ? 0 : groups.has(groupOf(ino)) ? 1 : 2]!.push(ino)
  for (const tier of tiers)
    for (let at = 0; at < tier.length && missing.size > 0; at += LISTINGS_AT_ONCE)
      await list(tier.slice(at, at + LISTINGS_AT_ONCE))

  /** inodes from which the way to the root is known, with their depth */
  const depths = new Map<number, number>([[ROOT_INODE, 0]])
  /** those from which none is, so that each is followed once */
  const lost = new Set<number>()
  for (const ino of wanted) {
    const way: number[] = []
    let at = ino
    while (!depths.has(at) && !lost.has(at) && way.length <= MAX_DEPTH) {
      if (!names.has(at)) {
        await list([at])
        const parent = dotDot.get(at)
        if (parent !== undefined) await list([parent])
      }
      const parent = names.get(at)?.parent
      way.push(at)
      if (parent === undefined) break
      at = parent
    }
    const depth = depths.get(at)
    if (depth === undefined) for (const step of way) lost.add(step)
    else for (const [n, step] of way.reverse().entries()) if (depth + n < MAX_DEPTH) depths.set(step, depth + n + 1)
  }

  const pathOf = (ino: number): string | undefined => {
    if (!depths.has(ino)) return undefined
    const parts: string[] = []
    for (let at = names.get(ino); at && parts.length < MAX_DEPTH; at = names.get(at.parent)) parts.push(at.name)
    return `/${parts.reverse().join('/')}`
  }
  return {
    parentOf: ino => (ino !== ROOT_INODE && depths.has(ino) ? names.get(ino)?.parent : undefined),
    pathOf,
  }
}
