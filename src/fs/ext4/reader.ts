import type { Device, SparseDevice } from '../../block/device.js'
import { openRecent } from '../../bytes/recent.js'
import { LiveError, unsupported } from '../../error.js'
import type { Finding } from '../../finding.js'
import {
  type Entry,
  eachOrError,
  type MappedFileSystem,
  pathBelow,
  splitPath,
  type Xattr,
  type XattrFileSystem,
} from '../filesystem.js'
import { type FreeInodes, freeInodes, freeRuns } from './bitmap.js'
import { checkExt4 } from './check.js'
import { extentsOfFile, openFileOf, readTarget } from './content.js'
import { openDirectories } from './directories.js'
import { type Ext4Inode, INODE_FLAG, readInode, statOf } from './inode.js'
import { ROOT_INODE } from './listing.js'
import { type MetadataRun, metadataRuns } from './metadata.js'
import type { Ext4Superblock } from './superblock.js'
import { type OwnedRun, ownedRuns, type SweepOptions, sweepInodes } from './sweep.js'
import { openVolume } from './volume.js'
import { readXattrs } from './xattr.js'

/** How many inodes are kept by their paths: who asks for the stat of a file often opens it next. */
const KNOWN_INODES = 32

/** An open ext2, ext3 or ext4. What its device shows must stay as it is: metadata are cached. */
export interface Ext4 extends MappedFileSystem, XattrFileSystem {
  readonly type: 'ext2' | 'ext3' | 'ext4'
  readonly device: Device
  /** `needsRecovery` in it tells that the device shows a state in which the journal was not replayed */
  readonly superblock: Ext4Superblock
  open(path: string): Promise<SparseDevice>
  /** the inode of a path. @throws NOT_FOUND, CORRUPT, UNSUPPORTED, IO */
  lookup(path: string): Promise<Ext4Inode>
  /** an inode by its number, used or not. @throws CORRUPT, IO */
  readInode(ino: number): Promise<Ext4Inode>
  /** the names in a directory. @throws NOT_FOUND  it is none · CORRUPT, UNSUPPORTED, IO */
  listing(directory: Ext4Inode): Promise<readonly Entry[]>
  /** a regular file's content. @throws NOT_FOUND  it is none · CORRUPT, UNSUPPORTED, IO */
  file(inode: Ext4Inode, name: string): Promise<SparseDevice>
  /** a symlink's target. @throws NOT_FOUND  it is none · CORRUPT, UNSUPPORTED, IO */
  target(inode: Ext4Inode): Promise<string>
  xattrsOf(inode: Ext4Inode): Promise<readonly Xattr[]>
  /** every inode in use, in the order of the tables */
  sweepInodes(options?: SweepOptions): AsyncIterable<Iterable<Ext4Inode>>
  /** the blocks of an inode, with those of its map and of its attributes */
  ownedRuns(inode: Ext4Inode | number): Promise<readonly OwnedRun[]>
  /** what belongs to no file of the tree */
  metadataRuns(): AsyncIterable<MetadataRun>
  freeInodes(): AsyncIterable<FreeInodes>
  /** what does not agree with itself. @throws IO */
  check(): Promise<Finding[]>
}

/**
 * Opens an ext2, ext3 or ext4 filesystem to read it. Its journal is left alone: where `superblock.needsRecovery`, open it
 * over a device on which the journal was replayed to see the state that the kernel would show.
 *
 * @throws CORRUPT, UNSUPPORTED, IO
 * @see linux Documentation/filesystems/ext4
 */
export const openExt4 = async (device: Device): Promise<Ext4> => {
  const volume = await openVolume(device)
  const { superblock } = volume
  const directories = openDirectories(volume)
  const notFound = (what: string, where: string) =>
    new LiveError('NOT_FOUND', `${device.name}: no ${what} ${where}`, { device: device.name, path: where })

  /** the directory that a lookup from the root ended in last, by its path as it was written, with a slash at the end */
  let latest: { readonly path: string; readonly directory: Ext4Inode } | undefined
  const inodes = openRecent<string, Ext4Inode>(KNOWN_INODES)

  const refuseCasefolded = (path: string): never => {
    throw unsupported(
      'casefolded directory',
      `${device.name}: ${path}`,
      'names in a directory that ignores case can be listed, not looked up',
    )
  }
  const step = async (directory: Ext4Inode, name: string, path: string): Promise<Ext4Inode> => {
    if (directory.kind !== 'directory') throw notFound('file or directory', path)
    if (directory.flags & INODE_FLAG.casefold) refuseCasefolded(path)
    const entry = (await directories.names(directory)).get(name)
    if (!entry) throw notFound('file or directory', path)
    return directories.live(entry)
  }
  const fromRoot = async (path: string, above: string): Promise<Ext4Inode> => {
    let inode = await directories.live({ name: '/', inode: ROOT_INODE, kind: 'directory' })
    const way = splitPath(path)
    for (const [n, name] of way.entries()) {
      const directory = inode
      inode = await step(directory, name, path)
      if (n === way.length - 1 && path === above + name) latest = { path: above, directory }
    }
    return inode
  }
  const lookup = async (path: string): Promise<Ext4Inode> => {
    const before = inodes.get(path)
    if (before) return before
    const above = path.slice(0, path.lastIndexOf('/') + 1)
    const name = path.slice(above.length)
    const isBelow = latest?.path === above && name !== '' && name !== '.'
    const inode = isBelow ? await step(latest!.directory, name, path) : await fromRoot(path, above)
    inodes.set(path, inode, 1)
    return inode
  }
  const expectKind = (inode: Ext4Inode, kind: Ext4Inode['kind'], what: string, where: string): Ext4Inode => {
    if (inode.kind !== kind) throw notFound(what, where)
    return inode
  }
  const directoryAt = async (path: string) => expectKind(await lookup(path), 'directory', 'directory', path)
  const fileAt = async (path: string) => expectKind(await lookup(path), 'file', 'regular file', path)
  const number = (inode: Ext4Inode): string => `inode ${inode.ino}`

  return {
    name: device.name,
    type: superblock.type,
    label: superblock.label === '' ? undefined : superblock.label,
    uuid: superblock.uuidBytes.some(byte => byte !== 0) ? superblock.uuid : undefined,
    device,
    superblock,
    lookup,
    readInode: ino => readInode(volume, ino),
    listing: async inode => await directories.list(expectKind(inode, 'directory', 'directory', number(inode))),
    file: async (inode, name) => openFileOf(volume, expectKind(inode, 'file', 'regular file', number(inode)), name),
    target: async inode => readTarget(volume, expectKind(inode, 'symlink', 'symlink', number(inode))),
    xattrsOf: inode => readXattrs(volume, inode),
    sweepInodes: options => sweepInodes(volume, options),
    ownedRuns: async inode => ownedRuns(volume, typeof inode === 'number' ? await readInode(volume, inode) : inode),
    metadataRuns: () => metadataRuns(volume),
    freeInodes: () => freeInodes(volume),
    check: () => checkExt4(volume),
    stat: async path => statOf(volume, await lookup(path)),
    async stats(path, wanted) {
      const directory = await directoryAt(path)
      // as `stat` of one
      if (directory.flags & INODE_FLAG.casefold)
        return eachOrError(wanted, name => refuseCasefolded(pathBelow(path, name)))
      const names = await directories.names(directory)
      return eachOrError(wanted, async name => {
        const entry = names.get(name)
        if (!entry) throw notFound('file or directory', pathBelow(path, name))
        return { ...statOf(volume, await directories.live(entry)), place: entry.inode }
      })
    },
    list: async path => directories.list(await directoryAt(path)),
    readLink: async path => readTarget(volume, expectKind(await lookup(path), 'symlink', 'symlink', path)),
    open: async path => openFileOf(volume, await fileAt(path), `${path} in ${device.name}`),
    async openAt(place, path) {
      const inode = await directories.live({ name: splitPath(path).at(-1) ?? path, inode: place, kind: 'file' })
      return openFileOf(volume, inode, `${path} in ${device.name}`)
    },
    xattrs: async path => readXattrs(volume, await lookup(path)),
    extents: async path => extentsOfFile(volume, await fileAt(path)),
    freeRuns: () => freeRuns(volume),
    async close() {},
  }
}
