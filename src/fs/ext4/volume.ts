import { cache } from '../../block/cache.js'
import type { Device } from '../../block/device.js'
import { CRC16_START, crc16, crc32c, crc32cOfU32 } from '../../bytes/crc32c.js'
import { corrupt, type LiveError } from '../../error.js'
import { INCOMPAT } from './features.js'
import { type Geometry, parseGeometry } from './geometry.js'
import { type Ext4Superblock, readExt4Superblock } from './superblock.js'

/*
 * Group descriptor, 32 bytes, with 64bit s_desc_size bytes, little endian:
 *
 *    0 u32 bg_block_bitmap_lo       4 u32 bg_inode_bitmap_lo        8 u32 bg_inode_table_lo
 *   12 u16 bg_free_blocks_count_lo 14 u16 bg_free_inodes_count_lo  16 u16 bg_used_dirs_count_lo  18 u16 bg_flags
 *   20 u32 bg_exclude_bitmap_lo    24 u16 bg_block_bitmap_csum_lo  26 u16 bg_inode_bitmap_csum_lo
 *   28 u16 bg_itable_unused_lo     30 u16 bg_checksum
 *   32 u32 bg_block_bitmap_hi      36 u32 bg_inode_bitmap_hi       40 u32 bg_inode_table_hi
 *   44 u16 bg_free_blocks_count_hi 46 u16 bg_free_inodes_count_hi  48 u16 bg_used_dirs_count_hi
 *   50 u16 bg_itable_unused_hi     52 u32 bg_exclude_bitmap_hi     56 u16 bg_block_bitmap_csum_hi
 *   58 u16 bg_inode_bitmap_csum_hi 60 reserved
 *
 * bg_checksum: the low half of CRC-32C(seed; group, descriptor with 0 for it); with uninit_bg alone CRC-16(UUID, group,
 * descriptor without it).
 */

const BG = { inodeUninit: 1, blockUninit: 2 } as const
const CHECKSUM_AT = 30

/** A group's descriptor. Places are block numbers. */
export interface Group {
  readonly index: number
  readonly blockBitmap: number
  readonly inodeBitmap: number
  readonly inodeTable: number
  /** in clusters */
  readonly freeClusters: number
  readonly freeInodes: number
  readonly usedDirectories: number
  /** inodes at the end of the table that were never used */
  readonly unusedInodes: number
  /** no inode of it is used, its bitmap was never written */
  readonly inodesUninitialized: boolean
  /** only its own metadata is used, its bitmap was never written */
  readonly blocksUninitialized: boolean
  readonly blockBitmapChecksum: number
  readonly inodeBitmapChecksum: number
}

/** What every part of the reader needs: the device, how it is cut, and the way to its groups. */
export interface Volume {
  readonly device: Device
  /** the same bytes through a small cache, for metadata */
  readonly cached: Device
  /** the same bytes in larger pieces, for small files: one read serves those that lie side by side */
  readonly nearby: Device
  readonly superblock: Ext4Superblock
  readonly geometry: Geometry
  /** @throws CORRUPT, IO */
  group(index: number): Promise<Group>
  /** A whole block of metadata. The number must have been checked. */
  block(number: number): Promise<Uint8Array>
  /** True where these blocks may hold data: behind the first superblock, before the end. */
  holds(start: number, count?: number): boolean
  wrong(offset: number, field: string, expected: string | number, found: string | number): LiveError
}

/** The bytes of a u32, from which many checksums start. */
const bytesOfU32 = (value: number): Uint8Array =>
  Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24)

/** A checksum as messages show it. */
export const hex = (value: number): string => `0x${value.toString(16)}`

const ZERO2 = new Uint8Array(2)

const descriptorChecksum = (sb: Ext4Superblock, group: number, bytes: Uint8Array): number => {
  const before = bytes.subarray(0, CHECKSUM_AT)
  const behind = bytes.subarray(CHECKSUM_AT + 2)
  if (sb.metadataCsum) {
    const head = crc32c(crc32cOfU32(sb.checksumSeed, group), before)
    return crc32c(crc32c(head, ZERO2), behind) & 0xffff
  }
  return crc16(crc16(crc16(crc16(CRC16_START, sb.uuidBytes), bytesOfU32(group)), before), behind)
}

const parseGroup = (volume: Volume, index: number, bytes: Uint8Array, offset: number): Group => {
  const { superblock: sb, geometry } = volume
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const wide = bytes.length >= 64
  const u16 = (low: number, high: number): number =>
    view.getUint16(low, true) + (wide ? view.getUint16(high, true) * 65536 : 0)
  const u32 = (low: number, high: number): number =>
    view.getUint32(low, true) + (wide ? view.getUint32(high, true) * 2 ** 32 : 0)
  if (geometry.groupChecksums) {
    const stored = view.getUint16(CHECKSUM_AT, true)
    const sum = descriptorChecksum(sb, index, bytes)
    if (stored !== sum) throw volume.wrong(offset + CHECKSUM_AT, `bg_checksum of group ${index}`, hex(sum), hex(stored))
  }
  const flex = (sb.incompat & INCOMPAT.flex_bg) !== 0
  const least = flex ? sb.firstDataBlock + 1 : geometry.groupStart(index)
  const end = flex ? sb.blockCount : geometry.groupStart(index) + geometry.groupBlocks(index)
  const place = (low: number, high: number, field: string, count: number): number => {
    const block = u32(low, high)
    if (block < least || block + count > end || block <= sb.firstDataBlock)
      throw volume.wrong(offset + low, `${field} of group ${index}`, `${least} to ${end - count}`, block)
    return block
  }
  const unusedInodes = u16(28, 50)
  if (geometry.groupChecksums && unusedInodes > sb.inodesPerGroup)
    throw volume.wrong(offset + 28, `bg_itable_unused of group ${index}`, `at most ${sb.inodesPerGroup}`, unusedInodes)
  const flags = geometry.groupChecksums ? view.getUint16(18, true) : 0
  return {
    index,
    blockBitmap: place(0, 32, 'bg_block_bitmap', 1),
    inodeBitmap: place(4, 36, 'bg_inode_bitmap', 1),
    inodeTable: place(8, 40, 'bg_inode_table', geometry.inodeTableBlocks),
    freeClusters: u16(12, 44),
    freeInodes: u16(14, 46),
    usedDirectories: u16(16, 48),
    unusedInodes: geometry.groupChecksums ? unusedInodes : 0,
    inodesUninitialized: (flags & BG.inodeUninit) !== 0,
    blocksUninitialized: (flags & BG.blockUninit) !== 0,
    blockBitmapChecksum: u16(24, 56),
    inodeBitmapChecksum: u16(26, 58),
  }
}

const NEARBY = { blockSize: 262_144, blocks: 32 }
const DESCRIPTOR_BLOCKS_KEPT = 64

/**
 * Reads the superblock and makes the way to the groups; descriptors are read when they are wanted.
 *
 * @throws CORRUPT, UNSUPPORTED, IO
 */
export const openVolume = async (device: Device): Promise<Volume> => {
  const superblock = await readExt4Superblock(device)
  const geometry = parseGeometry(superblock, device)
  const { blockSize, descSize } = superblock
  const cached = cache(device, { blockSize: 65_536, blocks: 256 })
  const kept = new Map<number, Promise<readonly Group[]>>()
  const readDescriptors = async (index: number): Promise<readonly Group[]> => {
    const first = index * geometry.descPerBlock
    const count = Math.min(geometry.descPerBlock, geometry.groupCount - first)
    const block = geometry.descBlock(index)
    if (block >= superblock.blockCount)
      throw volume.wrong(block * blockSize, 'group descriptors', 'in the filesystem', block)
    const bytes = await volume.block(block)
    return Array.from({ length: count }, (_, n) =>
      parseGroup(volume, first + n, bytes.subarray(n * descSize, (n + 1) * descSize), block * blockSize + n * descSize),
    )
  }
  const volume: Volume = {
    device,
    cached,
    nearby: cache(device, NEARBY),
    superblock,
    geometry,
    async group(index) {
      const number = Math.floor(index / geometry.descPerBlock)
      let groups = kept.get(number)
      if (!groups) {
        groups = readDescriptors(number)
        kept.set(number, groups)
        groups.catch(() => kept.delete(number))
        if (kept.size > DESCRIPTOR_BLOCKS_KEPT) kept.delete(kept.keys().next().value!)
      }
      return (await groups)[index - number * geometry.descPerBlock]!
    },
    block: number => cached.read(number * blockSize, blockSize),
    holds: (start, count = 1) => start > superblock.firstDataBlock && start + count <= superblock.blockCount,
    wrong: (offset, field, expected, found) => corrupt({ device: device.name, offset, field, expected, found }),
  }
  return volume
}
