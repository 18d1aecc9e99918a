import { openRecent } from '../../bytes/recent.js'
import { corrupt, LiveError } from '../../error.js'
import { type FileKind, splitPath } from '../filesystem.js'
import { decodeName, encodeName } from '../name.js'
import type { Listed } from './directory.js'
import type { DirectoryInode, Inode } from './inode.js'

/** How many names of directories are kept for lookups, and those of one more directory: about 20 MiB. */
const KNOWN_NAMES = 100_000
/** How many inodes are kept by their paths: who asks for the stat of a file often opens it next. */
const KNOWN_INODES = 32

/** Where an inode is: block in the inode table, byte in the expanded block, and the kind that a listing says it has. */
export interface InodeReference {
  readonly startBlock: number
  readonly offset: number
  readonly kind?: FileKind
}

/** A reference as one number; two names with the same one are hard links. */
export const referenceKey = ({ startBlock, offset }: InodeReference): number => startBlock * 65536 + offset

/** What a name leads to. */
export interface Named extends InodeReference {
  readonly kind: FileKind
  readonly inode: number
}

/** The names of a directory, as `decodeName` gives them, in the order of the medium. */
export type Names = ReadonlyMap<string, Named>

/** Finds inodes by their paths; keeps directories that were read. */
export interface Paths {
  /** @throws CORRUPT  also where a name is there twice */
  names(directory: DirectoryInode): Promise<Names>
  /** @throws NOT_FOUND, CORRUPT, IO */
  lookup(path: string): Promise<Inode>
}

/** What paths are looked up in. */
export interface PathsOf {
  /** of the image, for messages */
  readonly name: string
  readonly root: InodeReference
  readonly inodeAt: (entry: InodeReference) => Promise<Inode>
  readonly listing: (directory: DirectoryInode) => Promise<readonly Listed[]>
  /** `referenceKey` of a directory that `inodeAt` gave */
  readonly keyOf: (directory: DirectoryInode) => number
  /** where its listing stands in the image, for messages */
  readonly positionOf: (directory: DirectoryInode) => number
}

interface KnownDirectory {
  readonly inode: DirectoryInode
  readonly names: Names
}

/** Makes the way from paths to the inodes of one image. */
export const openPaths = ({ name: device, root, inodeAt, listing, keyOf, positionOf }: PathsOf): Paths => {
  /** Directories used lately, by their reference: whoever walks a tree by paths comes by each often. */
  const known = openRecent<number, KnownDirectory>(KNOWN_NAMES)
  /** the directory that a lookup from the root ended in last, by its path as it was written, with a slash at the end */
  let latest: { readonly path: string; readonly names: Names } | undefined
  const inodes = openRecent<string, Inode>(KNOWN_INODES)

  const byName = (listed: readonly Listed[], directory: DirectoryInode): Names => {
    const names = new Map(
      listed.map(({ name, kind, inode, startBlock, offset }) => [
        decodeName(name),
        { kind, inode, startBlock, offset } satisfies Named,
      ]),
    )
    if (names.size < listed.length)
      throw corrupt({
        device,
        offset: positionOf(directory),
        field: 'directory',
        expected: `${listed.length} different names`,
        found: names.size,
      })
    return names
  }
  const namesOf = async (inode: DirectoryInode): Promise<Names> => {
    const key = keyOf(inode)
    const before = known.get(key)
    if (before) return before.names
    const names = byName(await listing(inode), inode)
    known.set(key, { inode, names }, names.size)
    return names
  }

  const inodeOf = async (entry: Named): Promise<Inode> =>
    (entry.kind === 'directory' ? known.get(referenceKey(entry))?.inode : undefined) ?? (await inodeAt(entry))
  const named = (names: Names, name: string): Named | undefined =>
    // one spelling of a name is kept: a caller's own may escape what needs none
    names.get(name) ?? (name.isWellFormed() ? undefined : names.get(decodeName(encodeName(name))))
  const notFound = (path: string) =>
    new LiveError('NOT_FOUND', `${device}: no file or directory ${path}`, { device, path })

  const fromRoot = async (path: string, above: string): Promise<Inode> => {
    let inode: Inode = known.get(referenceKey(root))?.inode ?? (await inodeAt(root))
    if (inode.kind !== 'directory')
      throw corrupt({ device, offset: 32, field: 'root_inode', expected: 'a directory', found: inode.kind })
    const way = splitPath(path)
    for (const [n, name] of way.entries()) {
      if (inode.kind !== 'directory') throw notFound(path)
      const names = await namesOf(inode)
      const entry = named(names, name)
      if (!entry) throw notFound(path)
      inode = await inodeOf(entry)
      if (n === way.length - 1 && path.length === above.length + name.length) latest = { path: above, names }
    }
    return inode
  }

  return {
    names: namesOf,
    async lookup(path) {
      const before = inodes.get(path)
      if (before) return before
      const above = path.slice(0, path.lastIndexOf('/') + 1)
      const entry = latest?.path === above ? latest.names.get(path.slice(above.length)) : undefined
      const inode = entry ? await inodeOf(entry) : await fromRoot(path, above)
      inodes.set(path, inode, 1)
      return inode
    },
  }
}
