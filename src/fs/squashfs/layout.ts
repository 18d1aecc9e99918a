import { cutShort } from '../../block/cut-short.js'
import type { CompressorName } from '../../bytes/codec.js'
import { type Cursor, cursor } from '../../bytes/cursor.js'
import { corrupt, unsupported } from '../../error.js'

/*
 * A squashfs 4.0 image, little endian:
 *
 *   superblock 96 · [compressor options] · data and fragment blocks · inode table · directory table
 *   · fragment table · export table · id table · xattr table · padding to 4 KiB
 *
 * Superblock:
 *    0 u32 s_magic          4 u32 inodes           8 u32 mkfs_time        12 u32 block_size
 *   16 u32 fragments       20 u16 compression     22 u16 block_log        24 u16 flags
 *   26 u16 no_ids          28 u16 s_major         30 u16 s_minor          32 u64 root_inode
 *   40 u64 bytes_used      48 u64 id_table_start  56 u64 xattr_id_table_start
 *   64 u64 inode_table_start   72 u64 directory_table_start   80 u64 fragment_table_start   88 u64 lookup_table_start
 *
 * Metadata block: u16 header (bit 15: stored as it is; bits 0-14: bytes that follow), at most 8 KiB when expanded.
 * Data block size word: bit 24: stored as it is; bits 0-23: bytes on the medium; 0 is a hole.
 */

/** `hsqs` */
export const MAGIC = 0x73717368
export const SUPERBLOCK_SIZE = 96
export const METADATA_SIZE = 8192
/** "there is no such table", "this file has no fragment", "this inode has no xattrs" */
export const NO_TABLE = 0xffff_ffff_ffff_ffffn
export const NO_FRAGMENT = 0xffff_ffff
export const NO_XATTR = 0xffff_ffff
/** bit of a data block's size word: stored as it is */
export const STORED = 1 << 24
/** bit of a metadata block's header: stored as it is */
export const METADATA_STORED = 1 << 15
/** bytes a file is padded to, so that a loop device can hold it */
export const PADDING = 4096

/** Bits of `flags`. */
export const FLAG = {
  rawInodes: 0x001,
  rawData: 0x002,
  rawFragments: 0x008,
  noFragments: 0x010,
  alwaysFragments: 0x020,
  duplicates: 0x040,
  exportable: 0x080,
  rawXattrs: 0x100,
  noXattrs: 0x200,
  compressorOptions: 0x400,
  rawIds: 0x800,
} as const

/** Values of `compression`, from 1. */
export const COMPRESSORS: readonly CompressorName[] = ['gzip', 'lzma', 'lzo', 'xz', 'lz4', 'zstd']

/** The superblock; byte positions are from the start of the image. */
export interface Superblock {
  readonly inodes: number
  readonly mkfs_time: number
  readonly block_size: number
  readonly fragments: number
  readonly compression: CompressorName
  readonly flags: number
  readonly no_ids: number
  /** inode reference: (position in the inode table << 16) | byte in the expanded block */
  readonly root_inode: bigint
  readonly bytes_used: number
  readonly id_table_start: number
  /** undefined where there is no such table */
  readonly xattr_id_table_start: number | undefined
  readonly inode_table_start: number
  readonly directory_table_start: number
  readonly fragment_table_start: number | undefined
  readonly lookup_table_start: number | undefined
}

/**
 * Reads a superblock and checks every number against the device and each other, so that later code may trust them.
 *
 * @param bytes  at least the first 96 bytes
 * @throws CORRUPT, UNSUPPORTED  another version of squashfs
 * @see linux fs/squashfs/squashfs_fs.h, struct squashfs_super_block
 */
export const parseSuperblock = (
  bytes: Uint8Array,
  device: { readonly name: string; readonly size: number },
): Superblock => {
  const bad = (offset: number, field: string, expected: string | number, found: string | number) =>
    corrupt({ device: device.name, offset, field, expected, found })
  if (bytes.length < SUPERBLOCK_SIZE)
    throw bad(0, 'squashfs superblock', `${SUPERBLOCK_SIZE} bytes`, `${bytes.length} bytes`)
  const at: Cursor = cursor(bytes, { device: device.name, base: 0 })
  const magic = at.u32('s_magic')
  if (magic !== MAGIC) throw bad(0, 's_magic', `0x${MAGIC.toString(16)}`, `0x${magic.toString(16)}`)
  const inodes = at.u32('inodes')
  const mkfs_time = at.u32('mkfs_time')
  const block_size = at.u32('block_size')
  const fragments = at.u32('fragments')
  const compressionId = at.u16('compression')
  const block_log = at.u16('block_log')
  const flags = at.u16('flags')
  const no_ids = at.u16('no_ids')
  const major = at.u16('s_major')
  const minor = at.u16('s_minor')
  if (major !== 4 || minor !== 0) throw unsupported(`squashfs ${major}.${minor}`, device.name)
  if (block_log < 12 || block_log > 20) throw bad(22, 'block_log', '12 to 20', block_log)
  if (block_size !== 2 ** block_log) throw bad(12, 'block_size', 2 ** block_log, block_size)
  const compression = COMPRESSORS[compressionId - 1]
  if (!compression) throw bad(20, 'compression', '1 to 6', compressionId)
  const root_inode = at.big64('root_inode')
  const bytes_used = at.u64('bytes_used')
  if (bytes_used > device.size)
    throw cutShort({ device: device.name, offset: 40, field: 'bytes_used', size: device.size, needed: bytes_used })
  const table = (field: string, offset: number, optional: boolean): number | undefined => {
    const value = at.big64(field)
    if (optional && value === NO_TABLE) return undefined
    if (value < BigInt(SUPERBLOCK_SIZE) || value > BigInt(bytes_used))
      throw bad(offset, field, `${SUPERBLOCK_SIZE} to ${bytes_used}`, value.toString())
    return Number(value)
  }
  const id_table_start = table('id_table_start', 48, false)!
  const xattr_id_table_start = table('xattr_id_table_start', 56, true)
  const inode_table_start = table('inode_table_start', 64, false)!
  const directory_table_start = table('directory_table_start', 72, false)!
  const fragment_table_start = table('fragment_table_start', 80, true)
  const lookup_table_start = table('lookup_table_start', 88, true)
  if (directory_table_start < inode_table_start)
    throw bad(72, 'directory_table_start', `at least ${inode_table_start}`, directory_table_start)
  if (fragments > 0 && fragment_table_start === undefined) throw bad(80, 'fragment_table_start', 'a position', 'none')
  // inode 20 bytes, fragment entry 16, id 4: a count that the image can't hold is refused before anything is allocated
  if (no_ids === 0) throw bad(26, 'no_ids', 'at least 1', 0)
  const roomFor = (expanded: number) => ((bytes_used / 3) * METADATA_SIZE) / expanded
  if (inodes === 0 || inodes > roomFor(20)) throw bad(4, 'inodes', `1 to ${Math.floor(roomFor(20))}`, inodes)
  // each fragment is a block of its own before the tables
  const fragmentsMax = Math.floor(Math.min(roomFor(16), inode_table_start - SUPERBLOCK_SIZE))
  if (fragments > fragmentsMax) throw bad(16, 'fragments', `at most ${fragmentsMax}`, fragments)
  return {
    inodes,
    mkfs_time,
    block_size,
    fragments,
    compression,
    flags,
    no_ids,
    root_inode,
    bytes_used,
    id_table_start,
    xattr_id_table_start,
    inode_table_start,
    directory_table_start,
    fragment_table_start,
    lookup_table_start,
  }
}

/** The 96 bytes of a superblock. */
export const encodeSuperblock = (sb: Superblock): Uint8Array => {
  const bytes = new Uint8Array(SUPERBLOCK_SIZE)
  const view = new DataView(bytes.buffer)
  const u64 = (offset: number, value: number | undefined) =>
    view.setBigUint64(offset, value === undefined ? NO_TABLE : BigInt(value), true)
  view.setUint32(0, MAGIC, true)
  view.setUint32(4, sb.inodes, true)
  view.setUint32(8, sb.mkfs_time, true)
  view.setUint32(12, sb.block_size, true)
  view.setUint32(16, sb.fragments, true)
  view.setUint16(20, COMPRESSORS.indexOf(sb.compression) + 1, true)
  view.setUint16(22, Math.log2(sb.block_size), true)
  view.setUint16(24, sb.flags, true)
  view.setUint16(26, sb.no_ids, true)
  view.setUint16(28, 4, true)
  view.setUint16(30, 0, true)
  view.setBigUint64(32, sb.root_inode, true)
  u64(40, sb.bytes_used)
  u64(48, sb.id_table_start)
  u64(56, sb.xattr_id_table_start)
  u64(64, sb.inode_table_start)
  u64(72, sb.directory_table_start)
  u64(80, sb.fragment_table_start)
  u64(88, sb.lookup_table_start)
  return bytes
}
