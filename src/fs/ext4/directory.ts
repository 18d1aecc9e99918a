import { crc32c } from '../../bytes/crc32c.js'
import type { FileKind } from '../filesystem.js'
import { decodeName } from '../name.js'
import { COMPAT, INCOMPAT } from './features.js'
import { type Ext4Inode, INODE_FLAG } from './inode.js'
import { hex, type Volume } from './volume.js'

/*
 * A directory's blocks are lists of entries that fill them to the end, little endian:
 *
 *   0 u32 inode (0: none)   4 u16 rec_len   6 u8 name_len   7 u8 file_type   8 name
 *
 * Without the feature filetype name_len has 16 bits. With blocks of 64 KiB a rec_len of 0 or 65535 is 65536.
 * With metadata_csum the last 12 bytes look like an entry of 12 bytes without a name, type 0xde, and hold at
 *   8 u32 det_checksum: CRC-32C(seed of the inode; the block without these 12 bytes).
 *
 * A hashed directory has index blocks between, which look like one empty entry: block 0 (behind `.` and `..`, at 32) and
 * others (at 8) hold u16 limit, u16 count, then entries of 8 bytes; behind `limit` entries of 8 bytes, the first of which
 * is limit and count, stand u32 dt_reserved and u32 dt_checksum: CRC-32C(seed of the inode; up to the last used entry,
 * dt_reserved, 0).
 */

const ENTRY = 8
const LEAST = 12
const TAIL = 12
const TAIL_TYPE = 0xde
const INFO_LENGTH = 8

/** Kinds by file_type; undefined means that only the inode knows. */
const KINDS: readonly (FileKind | undefined)[] = [
  undefined,
  'file',
  'directory',
  'character',
  'block',
  'fifo',
  'socket',
  'symlink',
]

/** A name in a directory as it stands there. */
export interface StoredEntry {
  readonly name: string
  readonly inode: number
  /** undefined where the directory doesn't tell */
  readonly kind: FileKind | undefined
}

/** A piece of a directory: a block, or a part of inline data. */
export interface DirectoryPiece {
  readonly bytes: Uint8Array
  /** byte offset on the device */
  readonly at: number
}

const decodeRecLen = (raw: number, blockSize: number): number => {
  if (blockSize < 65536) return raw
  return raw === 0 || raw === 65535 ? blockSize : (raw & 65532) | ((raw & 3) << 16)
}

/**
 * The entries of a piece, `.` and `..` among them.
 *
 * @param start  byte of the piece where the first entry stands
 * @throws CORRUPT
 * @see linux fs/ext4/dir.c, __ext4_check_dir_entry
 */
export const parseEntries = (
  volume: Volume,
  directory: Ext4Inode,
  { bytes, at }: DirectoryPiece,
  start = 0,
): readonly StoredEntry[] => {
  const { superblock: sb } = volume
  const typed = (sb.incompat & INCOMPAT.filetype) !== 0
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const wrong = (offset: number, field: string, expected: string, found: string | number) =>
    volume.wrong(at + offset, `${field} in directory ${directory.ino}`, expected, found)
  const entries: StoredEntry[] = []
  let here = start
  while (here < bytes.length) {
    const left = bytes.length - here
    if (left < ENTRY) throw wrong(here, 'rec_len', 'an entry at the end', `${left} bytes`)
    const recLen = decodeRecLen(view.getUint16(here + 4, true), sb.blockSize)
    const nameLength = typed ? bytes[here + 6]! : view.getUint16(here + 6, true)
    const next = here + recLen
    if (
      recLen < LEAST ||
      recLen % 4 !== 0 ||
      recLen > left ||
      recLen < ENTRY + Math.ceil(nameLength / 4) * 4 ||
      (next !== bytes.length && next > bytes.length - LEAST)
    )
      throw wrong(here + 4, 'rec_len', `a multiple of 4 for ${nameLength} bytes of name, at most ${left}`, recLen)
    const inode = view.getUint32(here, true)
    if (inode > sb.inodeCount) throw wrong(here, 'inode', `at most ${sb.inodeCount}`, inode)
    if (inode !== 0) {
      const name = bytes.subarray(here + ENTRY, here + ENTRY + nameLength)
      if (nameLength === 0 || nameLength > 255) throw wrong(here + 6, 'name_len', '1 to 255', nameLength)
      if (name.includes(0) || name.includes(0x2f))
        throw wrong(here + 8, 'name', 'no NUL and no slash', JSON.stringify(decodeName(name)))
      entries.push({ name: decodeName(name), inode, kind: typed ? KINDS[bytes[here + 7]!] : undefined })
    }
    here = next
  }
  return entries
}

const isHashed = (volume: Volume, directory: Ext4Inode): boolean =>
  (volume.superblock.compat & COMPAT.dir_index) !== 0 && (directory.flags & INODE_FLAG.index) !== 0

/** Byte where an index block's limit stands; undefined where the block is none. */
const countAt = (view: DataView, blockSize: number, first: boolean): number | undefined => {
  const length = (at: number): number => decodeRecLen(view.getUint16(at + 4, true), blockSize)
  if (first)
    return length(0) === LEAST &&
      length(LEAST) === blockSize - LEAST &&
      view.getUint32(24, true) === 0 &&
      view.getUint8(29) === INFO_LENGTH
      ? 32
      : undefined
  return length(0) === blockSize && view.getUint32(0, true) === 0 ? 8 : undefined
}

/**
 * Compares the checksum at the end of a directory's block; nothing to do without metadata_csum.
 *
 * @param index  the block's number in the directory
 * @returns      bytes of the block before its tail
 * @throws CORRUPT
 * @see linux fs/ext4/namei.c, ext4_dirblock_csum_verify, ext4_dx_csum
 */
export const checkBlock = (
  volume: Volume,
  directory: Ext4Inode,
  { bytes, at }: DirectoryPiece,
  index: number,
): number => {
  const { blockSize, metadataCsum } = volume.superblock
  if (!metadataCsum) return blockSize
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const wrong = (offset: number, field: string, expected: string | number, found: string | number) =>
    volume.wrong(at + offset, `${field} of directory ${directory.ino}`, expected, found)
  const compare = (offset: number, field: string, sum: number): void => {
    const stored = view.getUint32(offset, true)
    if (stored !== sum) throw wrong(offset, field, hex(sum), hex(stored))
  }
  const count = isHashed(volume, directory) ? countAt(view, blockSize, index === 0) : undefined
  if (count !== undefined) {
    const limit = view.getUint16(count, true)
    const used = view.getUint16(count + 2, true)
    const tail = count + limit * 8
    if (tail + 8 > blockSize) throw wrong(count, 'limit', `at most ${Math.floor((blockSize - 8 - count) / 8)}`, limit)
    if (used > limit) throw wrong(count + 2, 'count', `at most ${limit}`, used)
    const sum = crc32c(
      crc32c(directory.checksumSeed, bytes.subarray(0, count + used * 8)),
      bytes.subarray(tail, tail + 4),
    )
    compare(tail + 4, 'dt_checksum', crc32c(sum, new Uint8Array(4)))
    return blockSize
  }
  const tail = blockSize - TAIL
  if (
    view.getUint32(tail, true) !== 0 ||
    view.getUint16(tail + 4, true) !== TAIL ||
    view.getUint8(tail + 6) !== 0 ||
    view.getUint8(tail + 7) !== TAIL_TYPE
  )
    throw wrong(tail, 'tail', 'a checksum', 'none')
  compare(tail + 8, 'det_checksum', crc32c(directory.checksumSeed, bytes.subarray(0, tail)))
  return tail
}
