import type { Device } from '../../block/device.js'
import { cursor } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'

/*
 * The superblock stands at byte 1024, 1024 bytes, little endian. Fields used here:
 *
 *     4 u32 s_blocks_count_lo   24 u32 s_log_block_size   56 u16 s_magic      58 u16 s_state
 *    92 u32 s_feature_compat    96 u32 s_feature_incompat  100 u32 s_feature_ro_compat
 *   104 u8[16] s_uuid          120 char[16] s_volume_name   336 u32 s_blocks_count_hi    404 u32 s_error_count
 */

export const EXT4_SUPERBLOCK_OFFSET = 1024
const SIZE = 1024
const MAGIC = 0xef53
/** s_state: unmounted cleanly · the kernel found errors */
const STATE = { clean: 1, errors: 2 } as const
const INCOMPAT_RECOVER = 0x4
const INCOMPAT_64BIT = 0x80

/** What the superblock of an ext2, ext3 or ext4 filesystem says of the whole. */
export interface Ext4Superblock {
  readonly label: string
  readonly uuid: string
  /** bytes */
  readonly blockSize: number
  readonly blockCount: number
  /** the journal holds changes that are not in their places yet */
  readonly needsRecovery: boolean
  readonly clean: boolean
  /** the kernel or e2fsck left the mark of errors */
  readonly hasErrors: boolean
  readonly errorCount: number
}

/** A UUID's bytes in its usual spelling. */
export const formatUuid = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

/**
 * Reads the superblock's bytes.
 *
 * @throws CORRUPT  it is no ext filesystem, or says impossible things
 * @see linux fs/ext4/ext4.h, struct ext4_super_block
 */
export const parseExt4Superblock = (bytes: Uint8Array, device: string): Ext4Superblock => {
  const place = { device, base: EXT4_SUPERBLOCK_OFFSET }
  const u16 = (offset: number, field: string) =>
    cursor(bytes.subarray(offset), { device, base: place.base + offset }).u16(field)
  const u32 = (offset: number, field: string) =>
    cursor(bytes.subarray(offset), { device, base: place.base + offset }).u32(field)
  const magic = u16(56, 's_magic')
  if (magic !== MAGIC)
    throw corrupt({
      device,
      offset: place.base + 56,
      field: 's_magic',
      expected: '0xef53',
      found: `0x${magic.toString(16)}`,
    })
  const log = u32(24, 's_log_block_size')
  if (log > 6)
    throw corrupt({ device, offset: place.base + 24, field: 's_log_block_size', expected: '0 to 6', found: log })
  const incompat = u32(96, 's_feature_incompat')
  const state = u16(58, 's_state')
  const high = incompat & INCOMPAT_64BIT ? u32(336, 's_blocks_count_hi') : 0
  const name = bytes.subarray(120, 136)
  const end = name.indexOf(0)
  return {
    label: Buffer.from(end < 0 ? name : name.subarray(0, end)).toString(),
    uuid: formatUuid(bytes.subarray(104, 120)),
    blockSize: 1024 << log,
    blockCount: high * 2 ** 32 + u32(4, 's_blocks_count_lo'),
    needsRecovery: (incompat & INCOMPAT_RECOVER) !== 0,
    clean: (state & STATE.clean) !== 0,
    hasErrors: (state & STATE.errors) !== 0,
    errorCount: u32(404, 's_error_count'),
  }
}

/** Reads it from a device. @throws CORRUPT, IO */
export const readExt4Superblock = async (device: Device): Promise<Ext4Superblock> => {
  if (device.size < EXT4_SUPERBLOCK_OFFSET + SIZE)
    throw corrupt({
      device: device.name,
      offset: 0,
      field: 'size',
      expected: 'at least 2048 bytes',
      found: device.size,
    })
  return parseExt4Superblock(await device.read(EXT4_SUPERBLOCK_OFFSET, SIZE), device.name)
}
