import { cutShort } from '../../block/cut-short.js'
import type { Device } from '../../block/device.js'
import { CRC32C_START, crc32c } from '../../bytes/crc32c.js'
import { type Cursor, cursor } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'
import { COMPAT, featureNames, INCOMPAT, RO_COMPAT, typeByFeatures } from './features.js'

/*
 * The superblock stands at byte 1024, 1024 bytes, little endian:
 *
 *     0 u32 s_inodes_count         4 u32 s_blocks_count_lo       8 u32 s_r_blocks_count_lo   12 u32 s_free_blocks_count_lo
 *    16 u32 s_free_inodes_count   20 u32 s_first_data_block     24 u32 s_log_block_size      28 u32 s_log_cluster_size
 *    32 u32 s_blocks_per_group    36 u32 s_clusters_per_group   40 u32 s_inodes_per_group    44 u32 s_mtime
 *    48 u32 s_wtime               52 u16 s_mnt_count            54 u16 s_max_mnt_count       56 u16 s_magic
 *    58 u16 s_state               60 u16 s_errors               62 u16 s_minor_rev_level     64 u32 s_lastcheck
 *    68 u32 s_checkinterval       72 u32 s_creator_os           76 u32 s_rev_level           80 u16 s_def_resuid
 *    82 u16 s_def_resgid          84 u32 s_first_ino            88 u16 s_inode_size          90 u16 s_block_group_nr
 *    92 u32 s_feature_compat      96 u32 s_feature_incompat    100 u32 s_feature_ro_compat  104 u8[16] s_uuid
 *   120 char[16] s_volume_name   136 char[64] s_last_mounted   200 u32 s_algorithm_usage_bitmap
 *   204 u8 s_prealloc_blocks     205 u8 s_prealloc_dir_blocks  206 u16 s_reserved_gdt_blocks
 *   208 u8[16] s_journal_uuid    224 u32 s_journal_inum        228 u32 s_journal_dev        232 u32 s_last_orphan
 *   236 u32[4] s_hash_seed       252 u8 s_def_hash_version     253 u8 s_jnl_backup_type     254 u16 s_desc_size
 *   256 u32 s_default_mount_opts 260 u32 s_first_meta_bg       264 u32 s_mkfs_time          268 u32[17] s_jnl_blocks
 *   336 u32 s_blocks_count_hi    340 u32 s_r_blocks_count_hi   344 u32 s_free_blocks_count_hi
 *   348 u16 s_min_extra_isize    350 u16 s_want_extra_isize    352 u32 s_flags              356 u16 s_raid_stride
 *   358 u16 s_mmp_interval       360 u64 s_mmp_block           368 u32 s_raid_stripe_width
 *   372 u8 s_log_groups_per_flex 373 u8 s_checksum_type        374 u16 s_reserved_pad       376 u64 s_kbytes_written
 *   384 snapshots, unused 20     404 u32 s_error_count         408 u32 s_first_error_time   412 u32 s_first_error_ino
 *   416 u64 s_first_error_block  424 char[32] s_first_error_func   456 u32 s_first_error_line
 *   460 u32 s_last_error_time    464 u32 s_last_error_ino      468 u32 s_last_error_line    472 u64 s_last_error_block
 *   480 char[32] s_last_error_func   512 char[64] s_mount_opts
 *   576 u32 s_usr_quota_inum     580 u32 s_grp_quota_inum      584 u32 s_overhead_blocks    588 u32[2] s_backup_bgs
 *   596 u8[4] s_encrypt_algos    600 u8[16] s_encrypt_pw_salt  616 u32 s_lpf_ino            620 u32 s_prj_quota_inum
 *   624 u32 s_checksum_seed      628 u8[6] the high bytes of s_wtime s_mtime s_mkfs_time s_lastcheck s_first_error_time
 *   s_last_error_time            634 u8 s_first_error_errcode  635 u8 s_last_error_errcode  636 u16 s_encoding
 *   638 u16 s_encoding_flags     640 u32 s_orphan_file_inum    644 reserved                1020 u32 s_checksum
 *
 * s_checksum is the CRC-32C of what is before it. Revision 0 has inodes of 128 bytes, the first free one is 11.
 */

export const EXT4_SUPERBLOCK_OFFSET = 1024
/** bytes of a superblock */
export const EXT4_SUPERBLOCK_SIZE = 1024
const MAGIC = 0xef53
const CHECKSUM_CRC32C = 1
const CHECKSUM_OFFSET = 1020
/** s_state: unmounted cleanly · the kernel found errors */
const STATE = { clean: 1, errors: 2 } as const
/** s_jnl_backup_type: s_jnl_blocks holds i_block, the high and the low half of i_size */
const JOURNAL_BACKUP_BLOCKS = 1

/** Names of what the filesystem uses, as mke2fs and dumpe2fs write them. */
export interface Ext4FeatureNames {
  readonly compat: readonly string[]
  readonly incompat: readonly string[]
  readonly roCompat: readonly string[]
}

/** What was wrong first, or last, as the kernel noted it. */
export interface Ext4ErrorNote {
  /** seconds since 1970 */
  readonly time: number
  /** number of an inode; 0 where none was known */
  readonly inode: number
  readonly block: bigint
  /** function and line of the kernel's source */
  readonly func: string
  readonly line: number
  /** EXT4_ERR_…; 0 where none was known */
  readonly code: number
}

/** What the superblock of an ext2, ext3 or ext4 filesystem says of the whole. Times are seconds since 1970; 0 where there was none. */
export interface Ext4Superblock {
  readonly type: 'ext2' | 'ext3' | 'ext4'
  /** '' where it has none */
  readonly label: string
  readonly uuid: string
  /** the bytes of the UUID, from which checksums start */
  readonly uuidBytes: Uint8Array
  readonly revision: number
  readonly minorRevision: number
  /** 0 Linux, 1 Hurd, 2 Masix, 3 FreeBSD, 4 Lites */
  readonly creatorOs: number
  /** group whose copy this is; 0 for the first one */
  readonly groupOfCopy: number
  /** bits by COMPAT, INCOMPAT, RO_COMPAT */
  readonly compat: number
  readonly incompat: number
  readonly roCompat: number
  readonly features: Ext4FeatureNames

  /** bytes */
  readonly blockSize: number
  /** bytes of what a bit of a block bitmap stands for: blockSize unless bigalloc */
  readonly clusterSize: number
  readonly blockCount: number
  readonly reservedBlockCount: number
  readonly freeBlockCount: number
  readonly inodeCount: number
  readonly freeInodeCount: number
  /** block where group 0 starts: 1 with blocks of 1 KiB, else 0 */
  readonly firstDataBlock: number
  readonly blocksPerGroup: number
  readonly clustersPerGroup: number
  readonly inodesPerGroup: number
  /** bytes */
  readonly inodeSize: number
  /** bytes of a group descriptor */
  readonly descSize: number
  /** first inode that is no inode of the system */
  readonly firstInode: number
  readonly reservedGdtBlocks: number
  /** first meta block group whose descriptors stand in the groups themselves; only with meta_bg */
  readonly firstMetaBg: number
  readonly logGroupsPerFlex: number
  /** of sparse_super2: the groups with copies, 0 for none */
  readonly backupGroups: readonly [number, number]
  readonly minExtraIsize: number
  readonly wantExtraIsize: number
  /** blocks of overhead as mke2fs counted them, 0 where it did not */
  readonly overheadBlocks: number

  /** the journal holds changes that are not in their places yet */
  readonly needsRecovery: boolean
  readonly clean: boolean
  /** the kernel or e2fsck left the mark of errors */
  readonly hasErrors: boolean
  readonly errorCount: number
  readonly firstError: Ext4ErrorNote
  readonly lastError: Ext4ErrorNote
  /** what the kernel does on errors: 1 go on, 2 read-only, 3 panic */
  readonly onErrors: number

  readonly mountTime: number
  readonly writeTime: number
  readonly checkTime: number
  readonly makeTime: number
  readonly mountCount: number
  readonly maxMountCount: number
  readonly checkInterval: number
  /** directory where it was mounted last */
  readonly lastMounted: string
  readonly mountOptions: string
  readonly defaultMountOptions: number
  readonly kbytesWritten: bigint
  /** s_flags: 1 signed, 2 unsigned directory hash, 4 test filesystem */
  readonly flags: number

  /** 0 where the journal is no inode of this filesystem */
  readonly journalInode: number
  /** number of the external journal's device, 0 for none */
  readonly journalDevice: number
  /** of the external journal */
  readonly journalUuid: string
  readonly journalUuidBytes: Uint8Array
  /** the journal inode's i_block and size as saved in the superblock; undefined where nothing was saved */
  readonly journalBackup: { readonly i_block: Uint8Array; readonly size: number } | undefined
  /** head of the list of orphans, an inode; 0 for none */
  readonly lastOrphan: number
  /** 0 where there is no orphan file */
  readonly orphanFileInode: number
  readonly userQuotaInode: number
  readonly groupQuotaInode: number
  readonly projectQuotaInode: number
  readonly mmpBlock: number

  readonly metadataCsum: boolean
  /** register from which the checksums of metadata_csum start */
  readonly checksumSeed: number
  readonly hashSeed: Uint8Array
  readonly hashVersion: number
  readonly encoding: number
  readonly encodingFlags: number
}

/** A UUID's bytes in its usual spelling. */
export const formatUuid = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

/** Text up to the first NUL. */
const textOf = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0)
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString()
}

/**
 * Reads the superblock's bytes. With metadata_csum the checksum is compared. Whether the counts fit the device and each
 * other is for `openExt4` to say.
 *
 * @param bytes  1024 bytes of the superblock
 * @throws CORRUPT  it is no ext filesystem, says impossible things, or its checksum is wrong
 * @see linux fs/ext4/ext4.h, struct ext4_super_block; ext4_superblock_csum
 */
export const parseExt4Superblock = (bytes: Uint8Array, device: string): Ext4Superblock => {
  const base = EXT4_SUPERBLOCK_OFFSET
  const at = (offset: number): Cursor => cursor(bytes.subarray(offset), { device, base: base + offset })
  const u8 = (offset: number, field: string) => at(offset).u8(field)
  const u16 = (offset: number, field: string) => at(offset).u16(field)
  const u32 = (offset: number, field: string) => at(offset).u32(field)
  const wrong = (offset: number, field: string, expected: string, found: string | number) =>
    corrupt({ device, offset: base + offset, field, expected, found })
  const magic = u16(56, 's_magic')
  if (magic !== MAGIC) throw wrong(56, 's_magic', '0xef53', `0x${magic.toString(16)}`)
  const compat = u32(92, 's_feature_compat')
  const incompat = u32(96, 's_feature_incompat')
  const roCompat = u32(100, 's_feature_ro_compat')
  const metadataCsum = (roCompat & RO_COMPAT.metadata_csum) !== 0
  const has64bit = (incompat & INCOMPAT['64bit']) !== 0
  if (metadataCsum) {
    const stored = u32(CHECKSUM_OFFSET, 's_checksum')
    const sum = crc32c(CRC32C_START, bytes.subarray(0, CHECKSUM_OFFSET))
    if (stored !== sum) throw wrong(CHECKSUM_OFFSET, 's_checksum', `0x${sum.toString(16)}`, `0x${stored.toString(16)}`)
    const kind = u8(373, 's_checksum_type')
    if (kind !== CHECKSUM_CRC32C) throw wrong(373, 's_checksum_type', '1 (crc32c)', kind)
  }
  const log = u32(24, 's_log_block_size')
  if (log > 6) throw wrong(24, 's_log_block_size', '0 to 6', log)
  const blockSize = 1024 << log
  const logCluster = roCompat & RO_COMPAT.bigalloc ? u32(28, 's_log_cluster_size') : log
  if (logCluster < log || logCluster > 20) throw wrong(28, 's_log_cluster_size', `${log} to 20`, logCluster)
  const state = u16(58, 's_state')
  const revision = u32(76, 's_rev_level')
  const wide = (low: number, high: number, field: string): number =>
    (has64bit ? u32(high, `${field}_hi`) * 2 ** 32 : 0) + u32(low, `${field}_lo`)
  const blockCount = wide(4, 336, 's_blocks_count')
  if (!Number.isSafeInteger(blockCount * blockSize))
    throw wrong(4, 's_blocks_count', 'at most 2^53 - 1 bytes', blockCount)
  const inodeSize = revision === 0 ? 128 : u16(88, 's_inode_size')
  if (inodeSize < 128 || inodeSize > blockSize || inodeSize & (inodeSize - 1))
    throw wrong(88, 's_inode_size', `a power of two from 128 to ${blockSize}`, inodeSize)
  const descSize = has64bit ? u16(254, 's_desc_size') : 32
  if (has64bit && (descSize < 64 || descSize > 1024 || descSize & (descSize - 1)))
    throw wrong(254, 's_desc_size', 'a power of two from 64 to 1024', descSize)
  const time = (low: number, high: number, field: string): number => u8(high, `${field}_hi`) * 2 ** 32 + u32(low, field)
  const errorNote = (which: 'first' | 'last'): Ext4ErrorNote => {
    const last = which === 'last'
    return {
      time: time(last ? 460 : 408, last ? 633 : 632, `s_${which}_error_time`),
      inode: u32(last ? 464 : 412, `s_${which}_error_ino`),
      block: at(last ? 472 : 416).big64(`s_${which}_error_block`),
      func: textOf(bytes.subarray(last ? 480 : 424, last ? 512 : 456)),
      line: u32(last ? 468 : 456, `s_${which}_error_line`),
      code: u8(last ? 635 : 634, `s_${which}_error_errcode`),
    }
  }
  const uuidBytes = new Uint8Array(bytes.subarray(104, 120))
  return {
    type: typeByFeatures(compat, incompat, roCompat),
    label: textOf(bytes.subarray(120, 136)),
    uuid: formatUuid(uuidBytes),
    uuidBytes,
    revision,
    minorRevision: u16(62, 's_minor_rev_level'),
    creatorOs: u32(72, 's_creator_os'),
    groupOfCopy: u16(90, 's_block_group_nr'),
    compat,
    incompat,
    roCompat,
    features: {
      compat: featureNames(compat, COMPAT),
      incompat: featureNames(incompat, INCOMPAT),
      roCompat: featureNames(roCompat, RO_COMPAT),
    },
    blockSize,
    clusterSize: 1024 * 2 ** logCluster,
    blockCount,
    reservedBlockCount: wide(8, 340, 's_r_blocks_count'),
    freeBlockCount: wide(12, 344, 's_free_blocks_count'),
    inodeCount: u32(0, 's_inodes_count'),
    freeInodeCount: u32(16, 's_free_inodes_count'),
    firstDataBlock: u32(20, 's_first_data_block'),
    blocksPerGroup: u32(32, 's_blocks_per_group'),
    clustersPerGroup: roCompat & RO_COMPAT.bigalloc ? u32(36, 's_clusters_per_group') : u32(32, 's_blocks_per_group'),
    inodesPerGroup: u32(40, 's_inodes_per_group'),
    inodeSize,
    descSize,
    firstInode: revision === 0 ? 11 : u32(84, 's_first_ino'),
    reservedGdtBlocks: u16(206, 's_reserved_gdt_blocks'),
    firstMetaBg: u32(260, 's_first_meta_bg'),
    logGroupsPerFlex: u8(372, 's_log_groups_per_flex'),
    backupGroups: [u32(588, 's_backup_bgs'), u32(592, 's_backup_bgs')],
    minExtraIsize: u16(348, 's_min_extra_isize'),
    wantExtraIsize: u16(350, 's_want_extra_isize'),
    overheadBlocks: u32(584, 's_overhead_blocks'),
    needsRecovery: (incompat & INCOMPAT.needs_recovery) !== 0,
    clean: (state & STATE.clean) !== 0,
    hasErrors: (state & STATE.errors) !== 0,
    errorCount: u32(404, 's_error_count'),
    firstError: errorNote('first'),
    lastError: errorNote('last'),
    onErrors: u16(60, 's_errors'),
    mountTime: time(44, 629, 's_mtime'),
    writeTime: time(48, 628, 's_wtime'),
    checkTime: time(64, 631, 's_lastcheck'),
    makeTime: time(264, 630, 's_mkfs_time'),
    mountCount: u16(52, 's_mnt_count'),
    maxMountCount: u16(54, 's_max_mnt_count'),
    checkInterval: u32(68, 's_checkinterval'),
    lastMounted: textOf(bytes.subarray(136, 200)),
    mountOptions: textOf(bytes.subarray(512, 576)),
    defaultMountOptions: u32(256, 's_default_mount_opts'),
    kbytesWritten: at(376).big64('s_kbytes_written'),
    flags: u32(352, 's_flags'),
    journalInode: u32(224, 's_journal_inum'),
    journalDevice: u32(228, 's_journal_dev'),
    journalUuid: formatUuid(bytes.subarray(208, 224)),
    journalUuidBytes: new Uint8Array(bytes.subarray(208, 224)),
    journalBackup:
      u8(253, 's_jnl_backup_type') === JOURNAL_BACKUP_BLOCKS
        ? {
            i_block: new Uint8Array(bytes.subarray(268, 328)),
            size: u32(328, 's_jnl_blocks') * 2 ** 32 + u32(332, 's_jnl_blocks'),
          }
        : undefined,
    lastOrphan: u32(232, 's_last_orphan'),
    orphanFileInode: compat & COMPAT.orphan_file ? u32(640, 's_orphan_file_inum') : 0,
    userQuotaInode: u32(576, 's_usr_quota_inum'),
    groupQuotaInode: u32(580, 's_grp_quota_inum'),
    projectQuotaInode: u32(620, 's_prj_quota_inum'),
    mmpBlock: incompat & INCOMPAT.mmp ? at(360).u64('s_mmp_block') : 0,
    metadataCsum,
    checksumSeed:
      incompat & INCOMPAT.metadata_csum_seed ? u32(624, 's_checksum_seed') : crc32c(CRC32C_START, uuidBytes),
    hashSeed: new Uint8Array(bytes.subarray(236, 252)),
    hashVersion: u8(252, 's_def_hash_version'),
    encoding: u16(636, 's_encoding'),
    encodingFlags: u16(638, 's_encoding_flags'),
  }
}

/** Reads it from a device. @throws CORRUPT, IO */
export const readExt4Superblock = async (device: Device): Promise<Ext4Superblock> => {
  if (device.size < EXT4_SUPERBLOCK_OFFSET + EXT4_SUPERBLOCK_SIZE)
    throw cutShort({
      device: device.name,
      offset: EXT4_SUPERBLOCK_OFFSET,
      field: 'superblock',
      size: device.size,
      needed: EXT4_SUPERBLOCK_OFFSET + EXT4_SUPERBLOCK_SIZE,
    })
  return parseExt4Superblock(await device.read(EXT4_SUPERBLOCK_OFFSET, EXT4_SUPERBLOCK_SIZE), device.name)
}

/** Holds the blocks that a superblock counts against the device. @throws CORRUPT  the device ends before the last of them */
export const checkExt4Size = (
  { blockCount, blockSize }: Pick<Ext4Superblock, 'blockCount' | 'blockSize'>,
  device: { readonly name: string; readonly size: number },
): void => {
  if (blockCount > Math.floor(device.size / blockSize))
    throw cutShort({
      device: device.name,
      offset: EXT4_SUPERBLOCK_OFFSET + 4,
      field: 's_blocks_count',
      size: device.size,
      needed: blockCount * blockSize,
    })
}
