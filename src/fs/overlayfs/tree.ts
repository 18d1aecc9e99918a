import { openRecent } from '../../bytes/recent.js'
import { orMissing } from '../../error.js'
import {
  type Entry,
  type FileKind,
  type FileSystem,
  hasXattrs,
  pathBelow,
  type Stat,
  splitPath,
  type Xattr,
} from '../filesystem.js'
import { isXattrWhiteout, type Marks, type Namespace, parseIndexName, parseMarks } from './layout.js'

/** The layers of an OverlayFS. */
export interface Layers {
  readonly lower: FileSystem
  readonly upper: FileSystem
  /** the upper directory in `upper` */
  readonly upperRoot: string
  /** the work directory in `upper`, where there is one */
  readonly work: string | undefined
  /** in whose attributes the marks stand */
  readonly namespace: Namespace
  /** false where the marks can't be read: then none is known */
  readonly marksReadable: boolean
}

/** Where a path of the merged tree comes from. Paths are those of the layers. */
export interface Place {
  readonly kind: FileKind
  /** undefined where the upper layer has nothing of it */
  readonly upper: string | undefined
  /** the directory that is merged with it; of what only the lower layer has, itself */
  readonly lower: string | undefined
  /** where the lower layer would have it: of a file whose data stay below */
  readonly beneath: string | undefined
  /** of an upper directory */
  readonly hasXattrWhiteouts: boolean
  /** of what only the lower layer has, what that tells */
  readonly lowerStat: Stat | undefined
}

/** A name in an upper directory. */
export interface UpperEntry extends Entry {
  readonly isWhiteout: boolean
}

/** A name in a lower directory. */
export interface LowerEntry extends Entry {
  /** number of the upper inode that stands for it by the index */
  readonly indexed: number | undefined
}

interface Listing {
  readonly upper: ReadonlyMap<string, UpperEntry>
  readonly lower: ReadonlyMap<string, LowerEntry>
}

/** An upper inode that stands for a lower one with several names, one of which was changed. */
interface Indexed {
  readonly path: string
  readonly kind: FileKind
  readonly inode: number
}

/** The merged tree: where each path comes from. */
export interface Tree {
  /** undefined where there is no such path. @throws CORRUPT, IO */
  find(path: string): Promise<Place | undefined>
  /** what a directory has in each of the layers, deletions of the lower one left out of both but for `isWhiteout`. @throws CORRUPT, IO */
  listing(path: string, directory: Place): Promise<Listing>
  /** true where upper inodes stand for lower ones whatever their paths. @throws CORRUPT, IO */
  hasIndex(): Promise<boolean>
  /** the marks of an upper inode. @throws CORRUPT, IO */
  marks(upper: string): Promise<Marks>
}

/** Names kept of directories looked into lately, about 20 MiB. */
const KEPT_NAMES = 200_000

const NOWHERE = {
  upper: undefined,
  lower: undefined,
  beneath: undefined,
  hasXattrWhiteouts: false,
  lowerStat: undefined,
} as const
const NO_XATTRS: readonly Xattr[] = []
const NO_UPPER: ReadonlyMap<string, UpperEntry> = new Map()
const NO_LOWER: ReadonlyMap<string, LowerEntry> = new Map()

/** The attributes of an inode; none on a filesystem without. @throws NOT_FOUND, CORRUPT, IO */
export const xattrsIn = async (fs: FileSystem, path: string): Promise<readonly Xattr[]> =>
  hasXattrs(fs) ? fs.xattrs(path) : NO_XATTRS

/**
 * Puts two layers together.
 *
 * A lower layer is looked at without its attributes, as the kernel does with the lowest one; a character device 0:0 is a deletion
 * in it too.
 *
 * @see linux fs/overlayfs/namei.c, ovl_lookup
 */
export const openTree = (layers: Layers): Tree => {
  const { lower, upper, upperRoot, work, namespace, marksReadable } = layers
  const places = openRecent<string, Place>(KEPT_NAMES)
  const listings = openRecent<string, Listing>(KEPT_NAMES)
  let rootPlace: Promise<Place> | undefined
  let index: Promise<ReadonlyMap<number, Indexed>> | undefined

  const marks = async (path: string): Promise<Marks> =>
    parseMarks(marksReadable ? await xattrsIn(upper, path) : NO_XATTRS, namespace, { device: upper.name, where: path })

  /** The root is merged whatever its marks say. */
  const findRoot = async (): Promise<Place> => ({
    ...NOWHERE,
    kind: 'directory',
    upper: upperRoot,
    lower: '/',
    hasXattrWhiteouts: (await marks(upperRoot)).hasXattrWhiteouts,
  })

  const isDeletion = async (fs: FileSystem, path: string): Promise<boolean> => {
    const { device } = await fs.stat(path)
    return device?.major === 0 && device.minor === 0
  }

  const upperNames = async (path: string, hasXattrWhiteouts: boolean): Promise<ReadonlyMap<string, UpperEntry>> => {
    const names = new Map<string, UpperEntry>()
    for (const entry of await upper.list(path)) {
      const { name, kind } = entry
      const at = pathBelow(path, name)
      const isWhiteout =
        kind === 'character'
          ? await isDeletion(upper, at)
          : kind === 'file' &&
            hasXattrWhiteouts &&
            (await upper.stat(at)).size === 0 &&
            isXattrWhiteout(await xattrsIn(upper, at), namespace)
      names.set(name, { ...entry, isWhiteout })
    }
    return names
  }

  /** What the lower layer has at a path; undefined for nothing and for a deletion. */
  const lowerAt = async (path: string): Promise<Stat | undefined> => {
    const stat = await orMissing(lower.stat(path))
    return stat?.device?.major === 0 && stat.device.minor === 0 && stat.kind === 'character' ? undefined : stat
  }

  const readIndex = async (): Promise<ReadonlyMap<number, Indexed>> => {
    const found = new Map<number, Indexed>()
    if (work === undefined) return found
    const path = pathBelow(work, 'index')
    for (const { name, kind, inode: own } of (await orMissing(upper.list(path))) ?? []) {
      // a directory or a deletion stands there for a directory
      const inode = kind === 'directory' || kind === 'character' ? undefined : parseIndexName(name)
      if (inode !== undefined) found.set(inode, { path: pathBelow(path, name), kind, inode: own })
    }
    return found
  }

  const indexed = async (kind: FileKind, inode: number): Promise<Indexed | undefined> => {
    index ??= readIndex()
    const found = kind === 'directory' ? undefined : (await index).get(inode)
    return found?.kind === kind ? found : undefined
  }

  const lowerNames = async (path: string): Promise<ReadonlyMap<string, LowerEntry>> => {
    const names = new Map<string, LowerEntry>()
    for (const entry of await lower.list(path)) {
      const { name, kind, inode } = entry
      if (kind === 'character' && (await isDeletion(lower, pathBelow(path, name)))) continue
      names.set(name, { ...entry, indexed: (await indexed(kind, inode))?.inode })
    }
    return names
  }

  const listing = async (path: string, directory: Place): Promise<Listing> => {
    const known = listings.get(path)
    if (known) return known
    const found: Listing = {
      upper: directory.upper === undefined ? NO_UPPER : await upperNames(directory.upper, directory.hasXattrWhiteouts),
      lower: directory.lower === undefined ? NO_LOWER : await lowerNames(directory.lower),
    }
    listings.set(path, found, found.upper.size + found.lower.size + 1)
    return found
  }

  const lowerPlace = async (path: string): Promise<Place | undefined> => {
    const lowerStat = await lowerAt(path)
    if (!lowerStat) return undefined
    const { kind, inode } = lowerStat
    const above = await indexed(kind, inode)
    if (above) return { ...NOWHERE, kind, upper: above.path, beneath: path }
    return { ...NOWHERE, kind, lower: path, lowerStat }
  }

  const child = async (path: string, directory: Place, name: string): Promise<Place | undefined> => {
    if (directory.kind !== 'directory') return undefined
    const inLower = directory.lower === undefined ? undefined : pathBelow(directory.lower, name)
    if (directory.upper === undefined) return inLower === undefined ? undefined : lowerPlace(inLower)
    const entry = (await listing(path, directory)).upper.get(name)
    if (!entry) return inLower === undefined ? undefined : lowerPlace(inLower)
    if (entry.isWhiteout) return undefined
    const { kind } = entry
    const at = pathBelow(directory.upper, name)
    if (kind !== 'directory') return { ...NOWHERE, kind, upper: at, beneath: inLower }
    const { isOpaque, redirect, hasXattrWhiteouts } = await marks(at)
    const merged = isOpaque ? undefined : redirected(redirect, inLower, directory.lower)
    const isMerged = merged !== undefined && (await lowerAt(merged))?.kind === 'directory'
    return { ...NOWHERE, kind, upper: at, lower: isMerged ? merged : undefined, hasXattrWhiteouts }
  }

  return {
    marks,
    listing,
    async hasIndex() {
      index ??= readIndex()
      return (await index).size > 0
    },
    async find(path) {
      rootPlace ??= findRoot()
      let place: Place | undefined = await rootPlace
      const names = splitPath(path)
      if (names.includes('..')) return undefined
      // the nearest directory that is known already
      let start = names.length
      for (; start > 0; start--) {
        const known = places.get(`/${names.slice(0, start).join('/')}`)
        if (!known) continue
        place = known
        break
      }
      let at = start === 0 ? '/' : `/${names.slice(0, start).join('/')}`
      for (const name of names.slice(start)) {
        place = await child(at, place, name)
        if (!place) return undefined
        at = pathBelow(at, name)
        if (place.kind === 'directory') places.set(at, place, 1)
      }
      return place
    },
  }
}

/** Where a redirect leads in the lower layer: another name in the same directory, or a path from the root. */
export const redirected = (
  redirect: string | undefined,
  inLower: string | undefined,
  lowerDirectory: string | undefined,
): string | undefined => {
  if (redirect === undefined) return inLower
  if (redirect.startsWith('/')) return redirect
  return lowerDirectory === undefined ? undefined : pathBelow(lowerDirectory, redirect)
}
