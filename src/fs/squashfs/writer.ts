import { createHash } from 'node:crypto'
import type { WritableDevice } from '../../block/device.js'
import type { BlockEncoder, Compressor } from '../../bytes/codec.js'
import { loadCodec } from '../../bytes/codecs.js'
import { assert } from '../../error.js'
import { FROM, type WrittenData, writeData } from './data-writer.js'
import { encodeListing, LISTING_EXTRA, type Listed } from './directory.js'
import { typeOfKind } from './inode.js'
import { encodeInode } from './inode-writer.js'
import { encodeSuperblock, FLAG, METADATA_STORED, NO_FRAGMENT, PADDING, SUPERBLOCK_SIZE } from './layout.js'
import { metadataPacker, metadataWriter } from './metadata-writer.js'
import { encodeOptions } from './options.js'
import { openOutput } from './output.js'
import { type DataLayout, layOutData, sortedEntries } from './pieces.js'
import type { Squashfs } from './reader.js'
import { indexedTable, xattrWriter } from './tables-writer.js'
import type { DirectoryNode, FileNode, SquashNode } from './tree.js'

/** What decides how an image is written. */
export interface SquashSettings {
  readonly blockSize: number
  readonly compressor: Compressor
  /** bits of FLAG; the one for compressor options is set by itself */
  readonly flags: number
  /** seconds since 1970 */
  readonly mkfsTime: number
}

/** The settings that make an image like a given one. */
export const settingsOf = (fs: Squashfs): SquashSettings => ({
  blockSize: fs.superblock.block_size,
  compressor: fs.compressor,
  flags: fs.superblock.flags,
  mkfsTime: fs.superblock.mkfs_time,
})

export interface WriteOptions {
  readonly encoder: BlockEncoder
  /** blocks read side by side */
  readonly depth?: number
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** What was written. Block counts are of data blocks, fragments not counted. */
export interface WriteOutcome {
  /** bytes of the image, padding included */
  readonly size: number
  readonly holeBlocks: number
  readonly verbatimBlocks: number
  readonly encodedBlocks: number
  readonly data: WrittenData
  readonly layout: DataLayout
  /** everything that is no block of a file */
  readonly tables: readonly WrittenTables[]
}

/** A piece of the image as it was written: superblock with compressor options, or inode table to the end of the padding. */
export interface WrittenTables {
  readonly offset: number
  readonly length: number
  readonly sha256: string
}

/** An upper bound of an image's size before anything is written: reused blocks as they are, all others uncompressed, tables generously. */
export const boundSize = (root: DirectoryNode, settings: SquashSettings): number => {
  const layout = layOutData(root, settings.blockSize, packing(settings.flags))
  let bytes = 0
  let blocks = 0
  for (const piece of layout.pieces()) {
    blocks++
    if (piece.kind === 'hole') continue
    bytes += 'at' in piece ? piece.at.size : piece.length
  }
  const nodes = countNodes(root)
  return SUPERBLOCK_SIZE + 64 + bytes + blocks * 4 + nodes.bytes + 8 * METADATA_STORED + PADDING
}

const countNodes = (node: SquashNode, seen = new Set<SquashNode>()): { bytes: number } => {
  if (seen.has(node)) return { bytes: 0 }
  seen.add(node)
  // inode, directory entry, export entry and ids; xattrs as they are with their table entry
  let bytes = 64 + 300 + 16 + node.xattrs.reduce((sum, x) => sum + x.name.length + x.value.length + 32, 0)
  if (node.kind === 'symlink') bytes += node.target.length
  if (node.kind === 'directory')
    for (const entry of node.entries) bytes += entry.name.length + 20 + countNodes(entry.node, seen).bytes
  return { bytes }
}

/** Which file ends go into fragments, by the flags of an image. */
export const packing = (flags: number): 'never' | 'small' | 'always' =>
  flags & FLAG.noFragments ? 'never' : flags & FLAG.alwaysFragments ? 'always' : 'small'

/**
 * Writes a squashfs 4.0 image of a tree. The same tree and settings give the same bytes.
 *
 * Order: data and fragments → tables → padding → flush → superblock → flush. Until the last step the device holds no squashfs.
 *
 * @throws NO_SPACE, IO, CORRUPT  a source can't be read, CANCELLED
 * @see linux Documentation/filesystems/squashfs.rst
 */
export const writeSquashfs = async (
  device: WritableDevice,
  root: DirectoryNode,
  settings: SquashSettings,
  options: WriteOptions,
): Promise<WriteOutcome> => {
  const { blockSize, compressor, mkfsTime } = settings
  await loadCodec(compressor.name)
  const compressorOptions = encodeOptions(compressor, blockSize)
  const flags = (settings.flags & ~FLAG.compressorOptions) | (compressorOptions ? FLAG.compressorOptions : 0)
  await device.write(0, new Uint8Array(SUPERBLOCK_SIZE))
  const out = openOutput(device, SUPERBLOCK_SIZE)
  const header = (compressorOptions?.length ?? 0) | METADATA_STORED
  const behindSuperblock = compressorOptions
    ? Uint8Array.of(header & 0xff, header >>> 8, ...compressorOptions)
    : new Uint8Array(0)
  await out.append(behindSuperblock)
  const layout = layOutData(root, blockSize, packing(flags))
  const data = await writeData(out, layout, {
    compressor,
    blockSize,
    encoder: options.encoder,
    rawData: (flags & FLAG.rawData) !== 0,
    rawFragments: (flags & FLAG.rawFragments) !== 0,
    depth: options.depth ?? 4,
    signal: options.signal,
    onProgress: done => options.onProgress?.(done, layout.totalBytes),
  })

  const raw = (bit: number) => metadataPacker(compressor, blockSize, (flags & bit) !== 0)
  const inodes = metadataWriter(raw(FLAG.rawInodes))
  const listings = metadataWriter(raw(FLAG.rawInodes))
  const xattrs = xattrWriter(raw(FLAG.rawXattrs), (flags & FLAG.noXattrs) === 0)
  const ids: number[] = []
  const idIndex = (id: number): number => {
    const known = ids.indexOf(id)
    if (known >= 0) return known
    return ids.push(id) - 1
  }
  const numbers = new Map<SquashNode, number>()
  const links = new Map<SquashNode, number>()
  const count = (node: SquashNode): void => {
    links.set(node, (links.get(node) ?? 0) + 1)
    if (numbers.has(node)) return
    numbers.set(node, numbers.size + 1)
    if (node.kind === 'directory') for (const entry of sortedEntries(node)) count(entry.node)
  }
  count(root)
  const references: bigint[] = []
  const written = new Map<SquashNode, Listed>()

  /** Children before their directory, as the listing names where they are. */
  const write = (node: SquashNode, parent: number): Listed => {
    const known = written.get(node)
    if (known) return known
    const inode = numbers.get(node)!
    let place: { startBlock: number; offset: number; size: number } | undefined
    let subdirectories = 0
    if (node.kind === 'directory') {
      const entries = sortedEntries(node).map(entry => {
        if (entry.node.kind === 'directory') subdirectories++
        return { ...write(entry.node, inode), name: entry.name, type: typeOfKind(entry.node.kind) }
      })
      const here = listings.here()
      const bytes = encodeListing(entries)
      listings.write(bytes)
      place = { startBlock: here.block, offset: here.offset, size: bytes.length + LISTING_EXTRA }
    }
    const here = inodes.here()
    inodes.write(
      encodeInode(node, {
        inode,
        uidIndex: idIndex(node.uid),
        gidIndex: idIndex(node.gid),
        xattr: xattrs.index(node.xattrs),
        linkCount: node.kind === 'directory' ? subdirectories + 2 : links.get(node)!,
        parent,
        listing: place,
        file: node.kind === 'file' ? fileParts(node, layout, data) : undefined,
      }),
    )
    references[inode - 1] = (BigInt(here.block) << 16n) | BigInt(here.offset)
    const listed: Listed = {
      name: new Uint8Array(0),
      kind: node.kind,
      inode,
      startBlock: here.block,
      offset: here.offset,
    }
    written.set(node, listed)
    return listed
  }
  write(root, numbers.size + 1)

  const tail = createHash('sha256')
  const put = (bytes: Uint8Array): Promise<void> => {
    tail.update(bytes)
    return out.append(bytes)
  }
  const inode_table_start = out.position
  await put(inodes.finish().bytes)
  const directory_table_start = out.position
  await put(listings.finish().bytes)
  const table = async (bytes: Uint8Array, bit: number): Promise<number> => {
    const { parts, indexAt } = indexedTable(bytes, raw(bit), out.position)
    await put(parts)
    return indexAt
  }
  const fragmentBytes = new DataView(new ArrayBuffer(data.fragments.length * 16))
  for (const [n, { start, word }] of data.fragments.entries()) {
    fragmentBytes.setBigUint64(n * 16, BigInt(start), true)
    fragmentBytes.setUint32(n * 16 + 8, word, true)
  }
  const fragment_table_start = await table(new Uint8Array(fragmentBytes.buffer), FLAG.rawFragments)
  const exportable = (flags & FLAG.exportable) !== 0
  const lookup_table_start = exportable
    ? await table(new Uint8Array(BigUint64Array.from(references).buffer), FLAG.rawInodes)
    : undefined
  const id_table_start = await table(new Uint8Array(Uint32Array.from(ids).buffer), FLAG.rawIds | FLAG.rawInodes)
  const packedXattrs = xattrs.finish(out.position)
  if (packedXattrs) await put(packedXattrs.bytes)
  const bytes_used = out.position
  await put(new Uint8Array((PADDING - (bytes_used % PADDING)) % PADDING))
  const size = out.position
  await out.drain()
  await device.flush()
  assert(ids.length <= 65535, 'more owners than the format holds')
  const superblock = encodeSuperblock({
    inodes: numbers.size,
    mkfs_time: mkfsTime,
    block_size: blockSize,
    fragments: data.fragments.length,
    compression: compressor.name,
    flags,
    no_ids: ids.length,
    root_inode: references[0]!,
    bytes_used,
    id_table_start,
    xattr_id_table_start: packedXattrs?.indexAt,
    inode_table_start,
    directory_table_start,
    fragment_table_start,
    lookup_table_start,
  })
  await device.write(0, superblock)
  await device.flush()
  const counts = [0, 0, 0]
  for (const file of data.files.values()) for (const from of file.from) counts[from]!++
  return {
    size,
    holeBlocks: counts[FROM.hole]!,
    verbatimBlocks: counts[FROM.verbatim]!,
    encodedBlocks: counts[FROM.encoded]!,
    data,
    layout,
    tables: [
      {
        offset: 0,
        length: SUPERBLOCK_SIZE + behindSuperblock.length,
        sha256: createHash('sha256').update(superblock).update(behindSuperblock).digest('hex'),
      },
      { offset: inode_table_start, length: size - inode_table_start, sha256: tail.digest('hex') },
    ],
  }
}

const fileParts = (node: FileNode, layout: DataLayout, data: WrittenData) => {
  const { fragment } = layout.files.get(node)!
  const { startBlock, words, holeBytes } = data.files.get(node)!
  return {
    size: node.content.size,
    startBlock,
    words,
    holeBytes,
    fragment: fragment?.index ?? NO_FRAGMENT,
    fragmentOffset: fragment?.offset ?? 0,
  }
}
