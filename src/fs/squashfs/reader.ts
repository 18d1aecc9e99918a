import type { Device } from '../../block/device.js'
import type { Compressor } from '../../bytes/codec.js'
import { decodeBlock, loadCodec } from '../../bytes/codecs.js'
import { corrupt, LiveError } from '../../error.js'
import { type FileKind, type Stat, splitPath, type Xattr, type XattrFileSystem } from '../filesystem.js'
import { decodeName, encodeName } from '../name.js'
import { type BlockDecoder, type BlockReader, openBlocks, parseSizeWord, type StoredAt } from './blocks.js'
import { LISTING_EXTRA, type Listed, parseListing } from './directory.js'
import { type SquashFile, squashFile } from './file.js'
import { type DirectoryInode, type FileInode, type Inode, inodeSize, parseInode, parseRdev } from './inode.js'
import { FLAG, parseSuperblock, SUPERBLOCK_SIZE, type Superblock } from './layout.js'
import { type MetadataReader, openMetadata } from './metadata.js'
import { defaultCompressor, optionsSize, parseOptions } from './options.js'
import { openXattrs, parseReference, readFragments, readIds, type XattrTable } from './tables.js'

/** An open squashfs: a FileSystem, and what a writer needs to make one like it. */
export interface Squashfs extends XattrFileSystem {
  readonly type: 'squashfs'
  readonly image: Device
  readonly superblock: Superblock
  /** compressor with the options the image states, or its defaults */
  readonly compressor: Compressor
  readonly ids: Uint32Array
  readonly fragments: readonly StoredAt[]
  open(path: string): Promise<SquashFile>
  xattrs(path: string): Promise<readonly Xattr[]>
  /** the inode of a path */
  lookup(path: string): Promise<Inode>
  /** the names of a directory, with where their inodes are. @throws CORRUPT  also for a directory that has another name already */
  listing(directory: DirectoryInode): Promise<readonly Listed[]>
  /** @throws CORRUPT  also where it is of another kind than its listing says */
  inodeAt(entry: InodeReference): Promise<Inode>
  /** what follows an inode on the medium: a symlink's target */
  target(inode: Inode): Promise<Uint8Array>
  file(inode: FileInode, name: string): Promise<SquashFile>
  xattrsOf(inode: Inode): Promise<readonly Xattr[]>
  /** an expanded fragment block */
  readFragment(index: number): Promise<Uint8Array>
}

export interface SquashfsOptions {
  /** expands data blocks elsewhere, such as in worker threads; `depth` blocks are kept in flight. Without it, here and one by one. */
  readonly decoder?: { readonly decode: BlockDecoder; readonly depth: number }
}

/** Where an inode is: block in the inode table, byte in the expanded block, and the kind that a listing says it has. */
export interface InodeReference {
  readonly startBlock: number
  readonly offset: number
  readonly kind?: FileKind
}

/** How many names of directories are kept for lookups. */
const KNOWN_NAMES = 100_000

/** A reference as one number; two names with the same one are hard links. */
export const referenceKey = ({ startBlock, offset }: InodeReference): number => startBlock * 65536 + offset

/** Where an inode was found, to read on behind it. */
interface Placed {
  readonly key: number
  readonly position: number
  readonly offset: number
}

/**
 * Opens a squashfs 4.0 image with any of its six compressors.
 *
 * @throws CORRUPT, UNSUPPORTED, IO
 * @see linux Documentation/filesystems/squashfs.rst
 */
export const openSquashfs = async (image: Device, { decoder }: SquashfsOptions = {}): Promise<Squashfs> => {
  const superblock = parseSuperblock(await image.read(0, Math.min(SUPERBLOCK_SIZE, image.size)), image)
  const { compression, block_size: blockSize, inode_table_start, directory_table_start } = superblock
  await loadCodec(compression)
  const metadata = openMetadata(image, compression)
  const compressor = await readCompressor(image, superblock, metadata)
  const decodeHere: BlockDecoder = async (name, input, capacity) => decodeBlock(name, input, capacity)
  const blocks: BlockReader = openBlocks(image, compression, decoder?.decode ?? decodeHere, decoder?.depth ?? 0)
  const ids = await readIds(image, metadata, superblock)
  const fragments = await readFragments(image, metadata, superblock)
  let xattrTable: Promise<XattrTable> | undefined
  const places = new WeakMap<Inode, Placed>()
  const fragmentLengths = new Map<number, number>()

  const inodeAt = async (entry: InodeReference): Promise<Inode> => {
    const { startBlock, offset } = entry
    const position = inode_table_start + startBlock
    const end = directory_table_start
    const type = (await metadata.read(position, offset, 2, end, 'inode')).bytes
    const size = inodeSize(type[0]! | (type[1]! << 8))
    if (size === undefined)
      throw corrupt({
        device: image.name,
        offset: position,
        field: 'inode type',
        expected: '1 to 14',
        found: type[0]! | (type[1]! << 8),
      })
    const head = await metadata.read(position, offset, size, end, 'inode')
    let inode = parseInode(head.bytes, blockSize, image.name, position)
    for (const [field, index] of [
      ['uid', inode.uidIndex],
      ['guid', inode.gidIndex],
    ] as const)
      if (index >= ids.length)
        throw corrupt({
          device: image.name,
          offset: position,
          field: `inode ${field}`,
          expected: `below ${ids.length}`,
          found: index,
        })
    if (inode.kind === 'symlink' && inode.type > 7) {
      const behind = await metadata.read(head.position, head.offset, inode.size + 4, end, 'symlink')
      const xattr = new DataView(behind.bytes.buffer).getUint32(inode.size, true)
      if (xattr !== 0xffff_ffff) inode = { ...inode, xattr }
    }
    if (entry.kind !== undefined && entry.kind !== inode.kind)
      throw corrupt({
        device: image.name,
        offset: position,
        field: 'inode type',
        expected: `${entry.kind}, as the listing says`,
        found: inode.kind,
      })
    places.set(inode, { key: referenceKey(entry), position: head.position, offset: head.offset })
    return inode
  }
  const behind = async (inode: Inode, length: number, field: string): Promise<Uint8Array> => {
    const place = places.get(inode)!
    return (await metadata.read(place.position, place.offset, length, directory_table_start, field)).bytes
  }

  const listing = async (directory: DirectoryInode): Promise<readonly Listed[]> => {
    const length = directory.size - LISTING_EXTRA
    if (length <= 0) return []
    const position = directory_table_start + directory.startBlock
    const end =
      superblock.fragment_table_start !== undefined && fragments.length > 0
        ? superblock.fragment_table_start
        : superblock.bytes_used
    const read = await metadata.read(position, directory.offset, length, end, 'directory')
    const listed = parseListing(read.bytes, image.name, position)
    learnParents(listed, places.get(directory)!.key, position)
    return listed
  }
  /** Directories by their reference, with the one that names them: each has one name, so that every walk ends. */
  const parents = new Map<number, number>()
  const root: InodeReference = splitReference(superblock.root_inode)
  const learnParents = (listed: readonly Listed[], parent: number, position: number): void => {
    const here = new Set<number>()
    for (const entry of listed) {
      if (entry.kind !== 'directory') continue
      const key = referenceKey(entry)
      if (key === referenceKey(root) || here.has(key) || (parents.get(key) ?? parent) !== parent)
        throw corrupt({
          device: image.name,
          offset: position,
          field: `directory ${JSON.stringify(Buffer.from(entry.name).toString())}`,
          expected: 'a directory with one name',
          found: 'one that has another name, or holds this one',
        })
      here.add(key)
      parents.set(key, parent)
    }
  }

  /** Directories read lately, oldest first, by their reference: whoever walks a tree by paths comes by each often. */
  const known = new Map<number, { readonly inode: DirectoryInode; readonly names: ReadonlyMap<string, Listed> }>()
  let knownNames = 0
  const namesOf = async (inode: DirectoryInode): Promise<ReadonlyMap<string, Listed>> => {
    const key = places.get(inode)!.key
    const before = known.get(key)
    const names = before?.names ?? byName(await listing(inode), inode)
    if (known.delete(key)) knownNames -= names.size
    known.set(key, { inode, names })
    knownNames += names.size
    for (const [old, { names: oldNames }] of known) {
      if (knownNames <= KNOWN_NAMES || known.size === 1) break
      known.delete(old)
      knownNames -= oldNames.size
    }
    return names
  }

  const byName = (listed: readonly Listed[], { startBlock }: DirectoryInode): ReadonlyMap<string, Listed> => {
    const names = new Map(listed.map(entry => [Buffer.from(entry.name).toString('latin1'), entry]))
    if (names.size < listed.length)
      throw corrupt({
        device: image.name,
        offset: directory_table_start + startBlock,
        field: 'directory',
        expected: `${listed.length} different names`,
        found: names.size,
      })
    return names
  }

  const lookup = async (path: string): Promise<Inode> => {
    let inode: Inode = known.get(referenceKey(root))?.inode ?? (await inodeAt(root))
    if (inode.kind !== 'directory')
      throw corrupt({ device: image.name, offset: 32, field: 'root_inode', expected: 'a directory', found: inode.kind })
    for (const name of splitPath(path)) {
      if (inode.kind !== 'directory') throw notFound(path)
      const entry = (await namesOf(inode)).get(Buffer.from(encodeName(name)).toString('latin1'))
      if (!entry) throw notFound(path)
      inode = (entry.kind === 'directory' ? known.get(referenceKey(entry))?.inode : undefined) ?? (await inodeAt(entry))
    }
    return inode
  }
  const notFound = (path: string, what = 'file or directory') =>
    new LiveError('NOT_FOUND', `${image.name}: no ${what} ${path}`, { device: image.name, path })

  const readFragment = async (index: number): Promise<Uint8Array> => {
    const at = fragments[index]
    if (!at)
      throw corrupt({
        device: image.name,
        offset: superblock.fragment_table_start ?? 0,
        field: 'fragment of an inode',
        expected: `below ${fragments.length}`,
        found: index,
      })
    // the table tells no expanded length: expanded once, it is known and the cache of blocks serves
    const length = fragmentLengths.get(index)
    if (length !== undefined) return blocks.read({ ...at, length }, `fragment ${index}`)
    if (!at.compressed) {
      fragmentLengths.set(index, at.size)
      return blocks.read({ ...at, length: at.size }, `fragment ${index}`)
    }
    const stored = await image.read(at.offset, at.size)
    try {
      const bytes = decodeBlock(compression, stored, blockSize)
      fragmentLengths.set(index, bytes.length)
      return bytes
    } catch (error) {
      throw corrupt(
        {
          device: image.name,
          offset: at.offset,
          field: `fragment ${index}`,
          expected: `a block of at most ${blockSize} bytes (${compression})`,
          found: `${at.size} bytes that can't be expanded`,
        },
        error,
      )
    }
  }

  const file = async (inode: FileInode, name: string): Promise<SquashFile> => {
    const place = places.get(inode)!
    const words = await behind(inode, inode.blockCount * 4, `block list of ${name}`)
    const view = new DataView(words.buffer)
    const sizes = new Uint32Array(inode.blockCount)
    const compressed = new Uint8Array(inode.blockCount)
    let at = inode.startBlock
    for (let n = 0; n < inode.blockCount; n++) {
      const parsed = parseSizeWord(
        view.getUint32(n * 4, true),
        blockSize,
        image.name,
        place.position,
        `size of block ${n} of ${name}`,
      )
      sizes[n] = parsed.size
      compressed[n] = parsed.compressed ? 1 : 0
      at += parsed.size
    }
    if (at > inode_table_start || (at > inode.startBlock && inode.startBlock < SUPERBLOCK_SIZE))
      throw corrupt({
        device: image.name,
        offset: place.position,
        field: `blocks of ${name}`,
        expected: `bytes before the inode table at ${inode_table_start}`,
        found: `${inode.startBlock} to ${at}`,
      })
    let tail: { fragment: number; offset: number; at: StoredAt } | undefined
    if (inode.fragment && inode.size > inode.blockCount * blockSize) {
      const { index, offset } = inode.fragment
      const length = (await readFragment(index)).length
      if (offset + (inode.size % blockSize) > length)
        throw corrupt({
          device: image.name,
          offset: place.position,
          field: `fragment offset of ${name}`,
          expected: `at most ${length - (inode.size % blockSize)}`,
          found: offset,
        })
      tail = { fragment: index, offset, at: { ...fragments[index]!, length } }
    }
    return squashFile({
      name,
      size: inode.size,
      blockSize,
      sizes,
      compressed,
      startBlock: inode.startBlock,
      tail,
      blocks,
      readStored: (offset, size) => image.read(offset, size),
    })
  }

  const target = (inode: Inode) => behind(inode, inode.kind === 'symlink' ? inode.size : 0, 'symlink')
  const xattrsOf = async (inode: Inode): Promise<readonly Xattr[]> => {
    if (inode.xattr === undefined) return []
    xattrTable ??= openXattrs(image, metadata, superblock)
    return (await xattrTable).read(inode.xattr)
  }

  return {
    name: image.name,
    type: 'squashfs',
    label: undefined,
    uuid: undefined,
    image,
    superblock,
    compressor,
    ids,
    fragments,
    lookup,
    listing,
    inodeAt,
    target,
    file,
    xattrsOf,
    readFragment,
    stat: async path => statOf(await lookup(path), ids),
    xattrs: async path => xattrsOf(await lookup(path)),
    async list(path) {
      const inode = await lookup(path)
      if (inode.kind !== 'directory') throw notFound(path, 'directory')
      return [...(await namesOf(inode)).values()].map(({ name, kind, inode: number }) => ({
        name: decodeName(name),
        kind,
        inode: number,
      }))
    },
    async readLink(path) {
      const inode = await lookup(path)
      if (inode.kind !== 'symlink') throw notFound(path, 'symlink')
      return decodeName(await target(inode))
    },
    async open(path) {
      const inode = await lookup(path)
      if (inode.kind !== 'file') throw notFound(path, 'regular file')
      return file(inode, `${path} in ${image.name}`)
    },
    async close() {},
  }
}

const splitReference = (reference: bigint): InodeReference => {
  const { block, offset } = parseReference(reference)
  return { startBlock: block, offset }
}

const readCompressor = async (image: Device, sb: Superblock, metadata: MetadataReader): Promise<Compressor> => {
  if (!(sb.flags & FLAG.compressorOptions)) return defaultCompressor(sb.compression, sb.block_size)
  const { bytes } = await metadata.read(
    SUPERBLOCK_SIZE,
    0,
    optionsSize(sb.compression),
    sb.inode_table_start,
    'compressor options',
  )
  return parseOptions(sb.compression, bytes, sb.block_size, image.name, SUPERBLOCK_SIZE + 2)
}

/** What `stat` tells of an inode. */
export const statOf = (inode: Inode, ids: Uint32Array): Stat => ({
  kind: inode.kind,
  inode: inode.inode,
  mode: inode.mode,
  uid: ids[inode.uidIndex]!,
  gid: ids[inode.gidIndex]!,
  size: 'size' in inode ? inode.size : 0,
  mtime: inode.mtime,
  mtimeNanoseconds: 0,
  linkCount: inode.linkCount,
  ...('rdev' in inode ? { device: parseRdev(inode.rdev) } : {}),
})
