import type { Device } from '../../block/device.js'
import type { Compressor } from '../../bytes/codec.js'
import { decodeBlock, loadCodec } from '../../bytes/codecs.js'
import { assert, corrupt, LiveError } from '../../error.js'
import { eachOrError, pathBelow, type Stat, type Xattr, type XattrFileSystem } from '../filesystem.js'
import { decodeName } from '../name.js'
import {
  type BlockDecoder,
  type BlockPlacer,
  type BlockReader,
  openBlocks,
  parseSizeWord,
  type StoredAt,
} from './blocks.js'
import { LISTING_EXTRA, type Listed, parseListing } from './directory.js'
import { type SquashFile, type SquashFileParts, squashFile } from './file.js'
import { type DirectoryInode, type FileInode, type Inode, inodeSize, parseInode, parseRdev } from './inode.js'
import { FLAG, parseSuperblock, SUPERBLOCK_SIZE, type Superblock } from './layout.js'
import { type MetadataRead, type MetadataReader, openMetadata } from './metadata.js'
import { defaultCompressor, optionsSize, parseOptions } from './options.js'
import { type InodeReference, openPaths, referenceKey } from './paths.js'
import { openXattrs, parseReference, readFragments, readIds, type XattrTable } from './tables.js'

export { type InodeReference, referenceKey } from './paths.js'

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
  /**
   * expands data blocks elsewhere, such as in worker threads; `depth` blocks are kept in flight. Without it, here and one by one.
   * `decodeInto` does so for who reads into shared memory.
   */
  readonly decoder?: { readonly decode: BlockDecoder; readonly decodeInto?: BlockPlacer; readonly depth: number }
}

/** Where an inode was found, to read on behind it. */
interface Placed {
  readonly key: number
  readonly position: number
  readonly offset: number
}

/** Under it an inode carries its `Placed`: a WeakMap of as many inodes costs more than they do. */
const PLACE = Symbol('place')
type PlacedInode = Inode & { [PLACE]?: Placed }
const placeOf = (inode: PlacedInode): Placed => {
  const place = inode[PLACE]
  assert(place, 'an inode that this reader gave')
  return place
}

const NO_SIZES = new Uint32Array(0)
const NONE_COMPRESSED = new Uint8Array(0)

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
  const { decode = decodeHere, depth = 0, decodeInto } = decoder ?? {}
  const blocks: BlockReader = openBlocks(image, compression, decode, depth, decodeInto, blockSize)
  const ids = await readIds(image, metadata, superblock)
  const fragments = await readFragments(image, metadata, superblock)
  let xattrTable: Promise<XattrTable> | undefined
  const fragmentLengths = new Map<number, number>()
  let latestFragment = -1

  const readHead = async (position: number, offset: number): Promise<MetadataRead> => {
    const type = (await metadata.read(position, offset, 2, directory_table_start, 'inode')).bytes
    const size = inodeSize(type[0]! | (type[1]! << 8))
    if (size === undefined)
      throw corrupt({
        device: image.name,
        offset: position,
        field: 'inode type',
        expected: '1 to 14',
        found: type[0]! | (type[1]! << 8),
      })
    return metadata.read(position, offset, size, directory_table_start, 'inode')
  }
  /** The same where an inode's block is in memory and reaches past the inode, as most do: nothing is waited for or copied. */
  const headInMemory = (position: number, offset: number): MetadataRead | undefined => {
    const block = metadata.kept(position)
    if (!block || offset + 2 > block.length) return undefined
    const size = inodeSize(block[offset]! | (block[offset + 1]! << 8))
    if (size === undefined || offset + size >= block.length) return undefined
    return { bytes: block.subarray(offset, offset + size), position, offset: offset + size }
  }

  const parsed = (entry: InodeReference, head: MetadataRead): PlacedInode => {
    const position = inode_table_start + entry.startBlock
    const inode: PlacedInode = parseInode(head.bytes, blockSize, image.name, position)
    const { uidIndex, gidIndex } = inode
    if (uidIndex >= ids.length || gidIndex >= ids.length)
      throw corrupt({
        device: image.name,
        offset: position,
        field: `inode ${uidIndex >= ids.length ? 'uid' : 'guid'}`,
        expected: `below ${ids.length}`,
        found: uidIndex >= ids.length ? uidIndex : gidIndex,
      })
    if (entry.kind !== undefined && entry.kind !== inode.kind)
      throw corrupt({
        device: image.name,
        offset: position,
        field: 'inode type',
        expected: `${entry.kind}, as the listing says`,
        found: inode.kind,
      })
    inode[PLACE] = { key: referenceKey(entry), position: head.position, offset: head.offset }
    return inode
  }
  /** A symlink with attributes has them behind its target. */
  const isWhole = (inode: Inode): boolean => inode.kind !== 'symlink' || inode.type <= 7
  const inodeAt = async (entry: InodeReference): Promise<Inode> => {
    const position = inode_table_start + entry.startBlock
    const head = headInMemory(position, entry.offset) ?? (await readHead(position, entry.offset))
    const inode = parsed(entry, head)
    if (isWhole(inode) || inode.kind !== 'symlink') return inode
    const behind = await metadata.read(head.position, head.offset, inode.size + 4, directory_table_start, 'symlink')
    const xattr = new DataView(behind.bytes.buffer).getUint32(inode.size, true)
    return xattr === 0xffff_ffff ? inode : { ...inode, xattr }
  }
  const placed = (stat: Stat, entry: InodeReference): Stat => ({ ...stat, place: referenceKey(entry) })
  /** What `stat` tells where nothing is to be waited for. */
  const statInMemory = (entry: InodeReference): Stat | undefined => {
    const head = headInMemory(inode_table_start + entry.startBlock, entry.offset)
    const inode = head && parsed(entry, head)
    return inode && isWhole(inode) ? statOf(inode, ids) : undefined
  }
  const behind = async (inode: Inode, length: number, field: string): Promise<Uint8Array> => {
    const place = placeOf(inode)
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
    learnParents(listed, placeOf(directory).key, position)
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

  const { names: namesOf, lookup } = openPaths({
    name: image.name,
    root,
    inodeAt,
    listing,
    keyOf: directory => placeOf(directory).key,
    positionOf: ({ startBlock }) => directory_table_start + startBlock,
  })
  const notFound = (path: string, what: string) =>
    new LiveError('NOT_FOUND', `${image.name}: no ${what} ${path}`, { device: image.name, path })

  /** What `look` makes of an expanded fragment, which it has during the call. */
  const useFragment = async <T>(index: number, look: (bytes: Uint8Array) => T): Promise<T> => {
    const at = fragments[index]
    if (!at)
      throw corrupt({
        device: image.name,
        offset: superblock.fragment_table_start ?? 0,
        field: 'fragment of an inode',
        expected: `below ${fragments.length}`,
        found: index,
      })
    const looking = blocks.useUpTo(at, `fragment ${index}`, bytes => {
      // the table tells no expanded length, and what was checked against it once must hold for each read
      const length = fragmentLengths.get(index)
      if (length !== undefined && length !== bytes.length)
        throw corrupt({
          device: image.name,
          offset: at.offset,
          field: `fragment ${index}`,
          expected: `${length} bytes as before`,
          found: `${bytes.length} bytes expanded`,
        })
      fragmentLengths.set(index, bytes.length)
      return look(bytes)
    })
    // Files in a row end in fragments in a row.
    const next = fragments[index + 1]
    if (blocks.depth > 0 && index === latestFragment + 1 && next) blocks.aheadUpTo(next, `fragment ${index + 1}`)
    latestFragment = index
    return looking
  }
  const readFragment = (index: number): Promise<Uint8Array> => useFragment(index, bytes => new Uint8Array(bytes))

  const file = async (inode: FileInode, name: string): Promise<SquashFile> => {
    const place = placeOf(inode)
    const { blockCount } = inode
    let [sizes, compressed] = [NO_SIZES, NONE_COMPRESSED]
    let at = inode.startBlock
    if (blockCount > 0) {
      const words = await behind(inode, blockCount * 4, `block list of ${name}`)
      const view = new DataView(words.buffer)
      sizes = new Uint32Array(blockCount)
      compressed = new Uint8Array(blockCount)
      for (let n = 0; n < blockCount; n++) {
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
    }
    if (at > inode_table_start || (at > inode.startBlock && inode.startBlock < SUPERBLOCK_SIZE))
      throw corrupt({
        device: image.name,
        offset: place.position,
        field: `blocks of ${name}`,
        expected: `bytes before the inode table at ${inode_table_start}`,
        found: `${inode.startBlock} to ${at}`,
      })
    let tail: SquashFileParts['tail']
    if (inode.fragment && inode.size > inode.blockCount * blockSize) {
      const { index, offset } = inode.fragment
      const length = fragmentLengths.get(index) ?? (await useFragment(index, bytes => bytes.length))
      if (offset + (inode.size % blockSize) > length)
        throw corrupt({
          device: image.name,
          offset: place.position,
          field: `fragment offset of ${name}`,
          expected: `at most ${length - (inode.size % blockSize)}`,
          found: offset,
        })
      tail = { fragment: index, offset, use: look => useFragment(index, look) }
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
      image,
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
    async stats(path, wanted) {
      const inode = await lookup(path)
      if (inode.kind !== 'directory') throw notFound(path, 'directory')
      const names = await namesOf(inode)
      return eachOrError(wanted, name => {
        const entry = names.get(name)
        if (!entry) throw notFound(pathBelow(path, name), 'file or directory')
        const stat = statInMemory(entry)
        return stat ? placed(stat, entry) : inodeAt(entry).then(late => placed(statOf(late, ids), entry))
      })
    },
    xattrs: async path => xattrsOf(await lookup(path)),
    async list(path) {
      const inode = await lookup(path)
      if (inode.kind !== 'directory') throw notFound(path, 'directory')
      return Array.from(await namesOf(inode), ([name, { kind, inode: number }]) => ({ name, kind, inode: number }))
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
    async openAt(place, path) {
      const inode = await inodeAt({ startBlock: Math.floor(place / 65536), offset: place % 65536, kind: 'file' })
      assert(inode.kind === 'file', 'a file, as inodeAt checked')
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
export const statOf = (inode: Inode, ids: Uint32Array): Stat => {
  const stat: Stat = {
    kind: inode.kind,
    inode: inode.inode,
    mode: inode.mode,
    uid: ids[inode.uidIndex]!,
    gid: ids[inode.gidIndex]!,
    size: 'size' in inode ? inode.size : 0,
    mtime: inode.mtime,
    mtimeNanoseconds: 0,
    linkCount: inode.linkCount,
  }
  return 'rdev' in inode ? { ...stat, device: parseRdev(inode.rdev) } : stat
}
