import type { Device } from '../../block/device.js'
import { extentsOf } from '../../block/device.js'
import { corrupt, LiveError, orMissing } from '../../error.js'
import { type Entry, type FileSystem, type Stat, splitPath, type Xattr, type XattrFileSystem } from '../filesystem.js'
import { printableName } from '../name.js'
import { hasRootMarks, type Namespace, visibleXattrs } from './layout.js'
import { openTree, type Place, redirected, type UpperEntry, xattrsIn } from './tree.js'

export type { Place, UpperEntry } from './tree.js'

/** An open OverlayFS: a lower and an upper layer, shown as the kernel merges them. */
export interface OverlayFs extends XattrFileSystem {
  readonly type: 'overlay'
  readonly lower: FileSystem
  readonly upper: FileSystem
  /** where a path comes from. @throws NOT_FOUND, CORRUPT, IO */
  place(path: string): Promise<Place>
  /** what the upper layer has in a directory, deletions too. @throws NOT_FOUND, CORRUPT, IO */
  upperEntries(path: string): Promise<readonly UpperEntry[]>
  /** where the lower layer has the data of a file that has only its own attributes above; undefined of any other. @throws NOT_FOUND, CORRUPT, IO */
  dataBelow(path: string): Promise<string | undefined>
  /** True where lower inodes with several names may have an upper one that none of their paths tells of. @throws CORRUPT, IO */
  hasIndex(): Promise<boolean>
  /** attributes of an inode of the lower layer, as they are shown here. @throws NOT_FOUND, CORRUPT, IO */
  lowerXattrs(path: string): Promise<readonly Xattr[]>
  /** number that an inode of the lower layer has here */
  lowerInode(inode: number): number
  /** number, here, of the lower inode that an upper one was copied from, where that is told. @throws NOT_FOUND, CORRUPT, IO */
  originInode(path: string): Promise<number | undefined>
}

/** How an OverlayFS is opened. */
export interface OverlayFsOptions {
  readonly name: string
  readonly lower: FileSystem
  readonly upper: FileSystem
  /** the upper directory in `upper`; its root if left out */
  readonly upperRoot?: string
  /** the work directory in `upper`, which has an index where the OverlayFS was mounted with one */
  readonly work?: string | undefined
  /** false where the attributes `trusted.overlay.*` of `upper` can't be read; true if left out */
  readonly marksReadable?: boolean
}

/** Inodes of the lower layer keep numbers below this; those of the upper layer follow. */
const UPPER_INODES = 2 ** 32

/** Numbers that no two inodes of both layers share. */
const inodeNumbers = (): { lower(inode: number): number; upper(inode: number): number } => {
  const strangers = new Map<string, number>()
  const stranger = (key: string): number => {
    const number = strangers.get(key) ?? Number.MAX_SAFE_INTEGER - strangers.size
    strangers.set(key, number)
    return number
  }
  return {
    lower: inode => (inode < UPPER_INODES ? inode : stranger(`lower ${inode}`)),
    upper: inode => (inode < 2 ** 52 ? UPPER_INODES + inode : stranger(`upper ${inode}`)),
  }
}

/**
 * Opens two layers as the one tree that an OverlayFS shows: names of the upper one over those of the lower, less what it deleted;
 * opaque directories, redirects and files with attributes only included, whatever a mount would have to be told to follow them.
 *
 * The marks are the attributes `trusted.overlay.*`; `user.overlay.*` only where the kernel wrote such to the upper root, since
 * users can set them below it. Where `marksReadable` is false, directories of both layers are taken as merged, and a file
 * that may have its data below is not opened.
 *
 * @throws CORRUPT, IO
 * @see linux Documentation/filesystems/overlayfs.rst
 */
export const openOverlayFs = async ({
  name,
  lower,
  upper,
  upperRoot = '/',
  work,
  marksReadable = true,
}: OverlayFsOptions): Promise<OverlayFs> => {
  const rootXattrs = await xattrsIn(upper, upperRoot)
  const namespace: Namespace =
    hasRootMarks(rootXattrs, 'user') && !hasRootMarks(rootXattrs, 'trusted') ? 'user' : 'trusted'
  const readable = marksReadable || namespace === 'user'
  const tree = openTree({ lower, upper, upperRoot, work, namespace, marksReadable: readable })
  const numbers = inodeNumbers()

  const notFound = (what: string, path: string) =>
    new LiveError('NOT_FOUND', `${name}: no ${what} ${printableName(path)}`, { device: name, path })
  const place = async (path: string): Promise<Place> => {
    const found = await tree.find(path)
    if (!found) throw notFound('file or directory', path)
    return found
  }
  const placeOf = async (path: string, kind: Place['kind'], what: string): Promise<Place> => {
    const found = await place(path)
    if (found.kind !== kind) throw notFound(what, path)
    return found
  }
  const merged = (path: string): string => `/${splitPath(path).join('/')}`

  /** Names of an inode that has an index: counted from the links of one layer, as those of the index count too. */
  const linkCountOf = async (stat: Stat, found: Place): Promise<number> => {
    if (found.kind === 'directory') return found.lower === undefined ? stat.linkCount : 1
    if (stat.linkCount < 2 || work === undefined || !readable) return stat.linkCount
    const { nlink } = await tree.marks(found.upper!)
    if (!nlink) return stat.linkCount
    if (nlink.of === 'upper') return Math.max(1, stat.linkCount + nlink.more)
    const below = found.beneath === undefined ? undefined : await lower.stat(found.beneath).catch(() => undefined)
    return below ? Math.max(1, below.linkCount + nlink.more) : stat.linkCount
  }

  const stat = async (path: string): Promise<Stat> => {
    const found = await place(path)
    if (found.upper === undefined) {
      const below = found.lowerStat ?? (await lower.stat(found.lower!))
      return { ...below, inode: numbers.lower(below.inode) }
    }
    const above = await upper.stat(found.upper)
    return { ...above, inode: numbers.upper(above.inode), linkCount: await linkCountOf(above, found) }
  }

  /** The data of a file that is above by its attributes only. */
  const belowOf = async (path: string, { upper: above, beneath }: Place): Promise<string | undefined> => {
    if (above === undefined || !readable) return undefined
    const { isMetacopy, redirect } = await tree.marks(above)
    if (!isMetacopy) return undefined
    const directory = beneath?.slice(0, beneath.lastIndexOf('/')) || '/'
    const data = redirected(redirect, beneath, beneath === undefined ? undefined : directory)
    const found = data === undefined ? undefined : await orMissing(lower.stat(data))
    const size = (await upper.stat(above)).size
    if (data === undefined || found?.kind !== 'file' || found.size !== size)
      throw corrupt({
        device: upper.name,
        offset: 0,
        field: `${namespace}.overlay.metacopy of ${printableName(above)}`,
        expected: `a file of ${size} bytes in ${lower.name}`,
        found: found ? `${found.kind} of ${found.size} bytes` : printableName(data ?? path),
      })
    return data
  }

  /** True where all of a file is a hole and the lower layer has a file of its size: then the data may be those. */
  const mayBeBelow = async (device: Device, { beneath }: Place): Promise<boolean> => {
    if (device.size === 0 || beneath === undefined) return false
    for await (const { kind } of extentsOf(device)) if (kind === 'data') return false
    const found = await orMissing(lower.stat(beneath))
    return found?.kind === 'file' && found.size === device.size
  }

  const openUpper = async (path: string, found: Place, above: string): Promise<Device> => {
    const device = await upper.open(above)
    if (readable) return device
    try {
      if (!(await mayBeBelow(device, found))) return device
    } catch (error) {
      await device.close()
      throw error
    }
    await device.close()
    throw new LiveError(
      'READ_ONLY',
      `${name}: ${printableName(path)} may have its content in the base, which only root can tell: run it with sudo`,
      { device: name, path },
    )
  }

  return {
    name,
    type: 'overlay',
    label: undefined,
    uuid: undefined,
    lower,
    upper,
    place,
    stat,
    hasIndex: () => tree.hasIndex(),
    lowerXattrs: async path => visibleXattrs(await xattrsIn(lower, path), namespace),
    lowerInode: inode => numbers.lower(inode),
    async originInode(path) {
      const { upper: above } = await place(path)
      if (above === undefined || !readable) return undefined
      const { originInode } = await tree.marks(above)
      return originInode === undefined ? undefined : numbers.lower(originInode)
    },
    async dataBelow(path) {
      return belowOf(path, await placeOf(path, 'file', 'regular file'))
    },
    async upperEntries(path) {
      const directory = await placeOf(path, 'directory', 'directory')
      const { upper: entries } = await tree.listing(merged(path), directory)
      return Array.from(entries.values(), entry => ({ ...entry, inode: numbers.upper(entry.inode) }))
    },
    async list(path) {
      const directory = await placeOf(path, 'directory', 'directory')
      const listing = await tree.listing(merged(path), directory)
      const entries: Entry[] = []
      for (const { name: own, kind, inode, isWhiteout } of listing.upper.values())
        if (!isWhiteout) entries.push({ name: own, kind, inode: numbers.upper(inode) })
      for (const { name: own, kind, inode, indexed } of listing.lower.values()) {
        if (listing.upper.has(own)) continue
        const number = indexed === undefined ? numbers.lower(inode) : numbers.upper(indexed)
        entries.push({ name: own, kind, inode: number })
      }
      return entries
    },
    async readLink(path) {
      const { upper: above, lower: below } = await placeOf(path, 'symlink', 'symlink')
      return above === undefined ? lower.readLink(below!) : upper.readLink(above)
    },
    async open(path) {
      const found = await placeOf(path, 'file', 'regular file')
      if (found.upper === undefined) return lower.open(found.lower!)
      const data = await belowOf(path, found)
      return data === undefined ? openUpper(path, found, found.upper) : lower.open(data)
    },
    async xattrs(path) {
      const { upper: above, lower: below } = await place(path)
      const xattrs = above === undefined ? await xattrsIn(lower, below!) : await xattrsIn(upper, above)
      return visibleXattrs(xattrs, namespace)
    },
    async close() {},
  }
}
