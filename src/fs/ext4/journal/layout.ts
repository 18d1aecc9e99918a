import type { Place } from '../../../bytes/cursor.js'
import { cursor } from '../../../bytes/cursor.js'
import { type Corruption, corrupt, type LiveError, unsupported } from '../../../error.js'

/*
 * The journal of ext3 and ext4 (jbd2), big endian. Block 0 is its superblock, the log is a ring of the blocks from s_first to
 * before its end: s_maxlen, less s_num_fc_blks with fast commits.
 *
 * Every block of the log but copies of data starts with a header:
 *    0 u32 h_magic c03b3998   4 u32 h_blocktype   8 u32 h_sequence
 *
 * Superblock (types 3 and 4, 1024 bytes; from byte 36 on only in type 4):
 *   12 u32 s_blocksize       16 u32 s_maxlen            20 u32 s_first             24 u32 s_sequence   28 u32 s_start
 *   32 i32 s_errno           36 u32 s_feature_compat    40 u32 s_feature_incompat  44 u32 s_feature_ro_compat
 *   48 u8[16] s_uuid         64 u32 s_nr_users          68 u32 s_dynsuper          72 u32 s_max_transaction
 *   76 u32 s_max_trans_data  80 u8 s_checksum_type      84 u32 s_num_fc_blks       88 u32 s_head
 *   252 u32 s_checksum       256 u8[768] s_users
 *
 * Descriptor block (type 1): tags from byte 12 on; the copies of the blocks they name follow in the log. With checksums v2 and
 * v3 the last 4 bytes are the tail u32 t_checksum. A tag without the flag "same UUID" is followed by a UUID of 16 bytes.
 *    v3:  0 u32 t_blocknr   4 u32 t_flags      8 u32 t_blocknr_high   12 u32 t_checksum
 *    else 0 u32 t_blocknr   4 u16 t_checksum   6 u16 t_flags          [8 u32 t_blocknr_high, with 64bit]  [2 unused bytes, v2]
 *
 * Revoke block (type 5):   12 u32 r_count: bytes used, from the block's start    16 u32 or, with 64bit, u64 block numbers; tail
 *
 * Commit block (type 2):   12 u8 h_chksum_type   13 u8 h_chksum_size   16 u32[8] h_chksum   48 u64 h_commit_sec   56 u32 h_commit_nsec
 */

export const JOURNAL_MAGIC = 0xc03b3998
export const JOURNAL_SUPERBLOCK_SIZE = 1024
export const BLOCK_TYPE = { descriptor: 1, commit: 2, superblockV1: 3, superblockV2: 4, revoke: 5 } as const
/** Bits of s_feature_compat and s_feature_incompat. */
export const JOURNAL_COMPAT = { checksum: 0x1 } as const
export const JOURNAL_INCOMPAT = {
  revoke: 0x1,
  '64bit': 0x2,
  async_commit: 0x4,
  csum_v2: 0x8,
  csum_v3: 0x10,
  fast_commit: 0x20,
} as const
/** Bits of t_flags. */
export const TAG_FLAG = { escape: 1, sameUuid: 2, deleted: 4, last: 8 } as const
/** bytes from which r_count counts, and of the tail */
const HEADER_SIZE = 12
const REVOKE_HEADER_SIZE = 16
export const TAIL_SIZE = 4
/** the kernel mounts no smaller journal */
export const MIN_JOURNAL_BLOCKS = 1024
const DEFAULT_FAST_COMMIT_BLOCKS = 256
const CHECKSUM_CRC32C = 4
/** fc_tag of the record that opens a fast commit, little endian as all of fast commits */
const FAST_COMMIT_HEAD = 9

/** How a journal is laid out and where its log starts; block numbers count the journal's blocks. */
export interface JournalSuperblock {
  /** bytes */
  readonly blockSize: number
  /** blocks of the journal in all */
  readonly s_maxlen: number
  readonly s_first: number
  /** first block that is no block of the ring any more */
  readonly endBlock: number
  /** sequence of the transaction at s_start */
  readonly s_sequence: number
  /** 0 where there is nothing to replay */
  readonly s_start: number
  readonly s_errno: number
  readonly s_uuid: Uint8Array
  readonly checksum: 'none' | 'v1' | 'v2' | 'v3'
  readonly has64bit: boolean
  readonly asyncCommit: boolean
  /** first block of the fast commits; undefined without that feature */
  readonly fastCommitBlock: number | undefined
}

const hex = (value: number): string => `0x${value.toString(16)}`

/**
 * Reads a journal's superblock and checks every number against the journal's length and each other.
 *
 * @param bytes  its 1024 bytes
 * @param expected  block size of the filesystem in bytes, and blocks that the journal's inode holds
 * @param checksumOf  the checksum that a superblock of these bytes should carry
 * @throws CORRUPT  it is no superblock of a journal, or the kernel would refuse it
 * @throws UNSUPPORTED  a feature that no kernel knew in 2026
 * @see linux fs/jbd2/journal.c, journal_check_superblock; include/linux/jbd2.h, struct journal_superblock_s
 */
export const parseJournalSuperblock = (
  bytes: Uint8Array,
  place: Place,
  expected: { readonly blockSize: number; readonly blockCount: number },
  checksumOf: (bytes: Uint8Array) => number,
): JournalSuperblock => {
  const u32 = (offset: number, field: string): number =>
    cursor(bytes.subarray(offset), { device: place.device, base: place.base + offset }).u32be(field)
  const wrong = (offset: number, field: string, wanted: string | number, found: string | number): LiveError =>
    wrongField(place, offset, field, wanted, found)
  const magic = u32(0, 'h_magic')
  if (magic !== JOURNAL_MAGIC) throw wrong(0, "the journal's h_magic", hex(JOURNAL_MAGIC), hex(magic))
  const type = u32(4, 'h_blocktype')
  if (type !== BLOCK_TYPE.superblockV1 && type !== BLOCK_TYPE.superblockV2)
    throw wrong(4, "the journal's h_blocktype", '3 or 4', type)
  // A superblock of type 3 ends before the features.
  const feature = (offset: number, field: string): number => (type === BLOCK_TYPE.superblockV2 ? u32(offset, field) : 0)
  const compat = feature(36, 's_feature_compat')
  const incompat = feature(40, 's_feature_incompat')
  const roCompat = feature(44, 's_feature_ro_compat')
  const known = Object.values(JOURNAL_INCOMPAT).reduce((all, bit) => all | bit, 0)
  if ((incompat & ~known) !== 0 || roCompat !== 0)
    throw unsupported(
      'journal feature',
      place.device,
      `the journal has features ${hex(incompat)} (incompatible) and ${hex(roCompat)} (read-only compatible) that are not known`,
    )
  const blockSize = u32(12, 's_blocksize')
  if (blockSize !== expected.blockSize) throw wrong(12, "the journal's s_blocksize", expected.blockSize, blockSize)
  const v1 = (compat & JOURNAL_COMPAT.checksum) !== 0
  const v2 = (incompat & JOURNAL_INCOMPAT.csum_v2) !== 0
  const v3 = (incompat & JOURNAL_INCOMPAT.csum_v3) !== 0
  if (Number(v1) + Number(v2) + Number(v3) > 1)
    throw wrong(36, "the journal's s_feature_compat", 'one kind of checksum', 'several')
  if (v2 || v3) {
    if (bytes[80] !== CHECKSUM_CRC32C) throw wrong(80, 's_checksum_type', '4 (crc32c)', bytes[80]!)
    const sum = checksumOf(bytes)
    const stored = u32(252, 's_checksum')
    if (stored !== sum) throw wrong(252, "the journal's s_checksum", hex(sum), hex(stored))
  }
  const s_maxlen = u32(16, 's_maxlen')
  const fast = (incompat & JOURNAL_INCOMPAT.fast_commit) !== 0
  const fastBlocks = fast ? u32(84, 's_num_fc_blks') || DEFAULT_FAST_COMMIT_BLOCKS : 0
  if (s_maxlen > expected.blockCount) throw wrong(16, 's_maxlen', `at most ${expected.blockCount}`, s_maxlen)
  if (s_maxlen - fastBlocks < MIN_JOURNAL_BLOCKS)
    throw wrong(16, 's_maxlen', `at least ${MIN_JOURNAL_BLOCKS + fastBlocks}`, s_maxlen)
  const endBlock = s_maxlen - fastBlocks
  const s_first = u32(20, 's_first')
  if (s_first === 0 || s_first >= endBlock) throw wrong(20, 's_first', `1 to ${endBlock - 1}`, s_first)
  const s_start = u32(28, 's_start')
  if (s_start !== 0 && (s_start < s_first || s_start >= endBlock))
    throw wrong(28, 's_start', `0, or ${s_first} to ${endBlock - 1}`, s_start)
  return {
    blockSize,
    s_maxlen,
    s_first,
    endBlock,
    s_sequence: u32(24, 's_sequence'),
    s_start,
    s_errno: u32(32, 's_errno') | 0,
    s_uuid: bytes.slice(48, 64),
    checksum: v3 ? 'v3' : v2 ? 'v2' : v1 ? 'v1' : 'none',
    has64bit: (incompat & JOURNAL_INCOMPAT['64bit']) !== 0,
    asyncCommit: (incompat & JOURNAL_INCOMPAT.async_commit) !== 0,
    fastCommitBlock: fast ? endBlock + 1 : undefined,
  }
}

const wrongField = (
  place: Place,
  offset: number,
  field: Corruption['field'],
  expected: string | number,
  found: string | number,
): LiveError => corrupt({ device: place.device, offset: place.base + offset, field, expected, found })

/** True where blocks carry checksums of their own, as v2 and v3 have them. */
export const hasTails = ({ checksum }: Pick<JournalSuperblock, 'checksum'>): boolean =>
  checksum === 'v2' || checksum === 'v3'

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Type and sequence of a block of the log; undefined where it has no header. */
export const parseHeader = (block: Uint8Array): { readonly type: number; readonly sequence: number } | undefined => {
  const view = viewOf(block)
  if (view.getUint32(0) !== JOURNAL_MAGIC) return undefined
  return { type: view.getUint32(4), sequence: view.getUint32(8) }
}

/** A block of the filesystem that a descriptor names. */
export interface Tag {
  /** block of the filesystem; not exact above 2^53, where no filesystem of ours has blocks */
  readonly block: number
  /** TAG_FLAG */
  readonly flags: number
  /** as it stands: 32 bits in v3, 16 in v2 */
  readonly checksum: number
}

const HIGH = 2 ** 32

/** The tags of a descriptor block: at least none, at most as many as fit in it. @see linux fs/jbd2/recovery.c, count_tags */
export const parseTags = (block: Uint8Array, journal: JournalSuperblock): readonly Tag[] => {
  const view = viewOf(block)
  const v3 = journal.checksum === 'v3'
  const size = v3 ? 16 : 8 + (journal.has64bit ? 4 : 0) + (journal.checksum === 'v2' ? 2 : 0)
  const end = block.length - (hasTails(journal) ? TAIL_SIZE : 0)
  const tags: Tag[] = []
  for (let at = HEADER_SIZE; at + size <= end; ) {
    const flags = view.getUint16(at + 6)
    const high = journal.has64bit ? view.getUint32(at + 8) : 0
    tags.push({
      block: high * HIGH + view.getUint32(at),
      flags,
      checksum: v3 ? view.getUint32(at + 12) : view.getUint16(at + 4),
    })
    if (flags & TAG_FLAG.last) break
    at += size + (flags & TAG_FLAG.sameUuid ? 0 : 16)
  }
  return tags
}

/**
 * The blocks of the filesystem that a revoke block names.
 *
 * @throws CORRUPT  r_count is more than the block holds
 * @see linux fs/jbd2/recovery.c, scan_revoke_records
 */
export function* parseRevokes(block: Uint8Array, journal: JournalSuperblock, place: Place): Iterable<number> {
  const view = viewOf(block)
  const most = block.length - (hasTails(journal) ? TAIL_SIZE : 0)
  const end = view.getUint32(HEADER_SIZE)
  if (end > most) throw wrongField(place, HEADER_SIZE, 'r_count', `at most ${most}`, end)
  const size = journal.has64bit ? 8 : 4
  for (let at = REVOKE_HEADER_SIZE; at + size <= end; at += size)
    yield journal.has64bit ? view.getUint32(at) * HIGH + view.getUint32(at + 4) : view.getUint32(at)
}

/** What a commit block says. */
export interface Commit {
  readonly h_chksum_type: number
  readonly h_chksum_size: number
  /** the first of the eight */
  readonly h_chksum: number
  /** seconds since 1970 */
  readonly h_commit_sec: bigint
}

export const COMMIT_CHECKSUM_OFFSET = 16

/** Reads a commit block. */
export const parseCommit = (block: Uint8Array): Commit => {
  const view = viewOf(block)
  return {
    h_chksum_type: view.getUint8(12),
    h_chksum_size: view.getUint8(13),
    h_chksum: view.getUint32(COMMIT_CHECKSUM_OFFSET),
    h_commit_sec: view.getBigUint64(48),
  }
}

/**
 * The transaction that a fast commit belongs to, from the first block of the fast commits; undefined where none starts there.
 *
 * @see linux fs/ext4/fast_commit.h, struct ext4_fc_tl and ext4_fc_head
 */
export const parseFastCommitHead = (block: Uint8Array): number | undefined => {
  const view = viewOf(block)
  return view.getUint16(0, true) === FAST_COMMIT_HEAD ? view.getUint32(8, true) : undefined
}
