import { CRC32C_START, crc32c } from '../../bytes/crc32c.js'
import { Encoder } from '../../bytes/cursor.js'
import { assert } from '../../error.js'

/*
 * The undo journal of a file that is changed in place: what it held before. Numbers are little-endian.
 *
 *      0  header, 4096 bytes; its first sector is rewritten in place, as one
 *   4096  records, one after another, each a head of 512 bytes and its data, filled up to 512 bytes
 *
 *   header                                               record
 *     0  u8[8]   magic "liveundo"                          0  u8[4]   magic "undo"
 *     8  u32     version 1                                 4  u32     kind: 1 bytes from before, 2 ranges of the digest
 *    12  u32     state: 1 recording, 2 finished,           8  u64     offset in the target
 *                3 being taken back                       16  u32     length of the data
 *    16  u8[16]  generation, drawn for this journal       20  u32     checksum of the data
 *    32  u64     old size of the target                   24  u64     journal bytes that were flushed when it was written
 *    40  u64     its size when finished                   32  u8[16]  generation
 *    48  u64     end of the records when finished        508  u32     checksum of bytes 0 to 508
 *    56  u64     offset of the held bytes
 *    64  u32     their length, 16 at most; 0 none        Ranges of the digest: pairs of u64, offset and length.
 *    68  u8[16]  held bytes while the target is changed   Checksums are CRC-32C.
 *    84  u8[16]  and when finished
 *   100  u8[32]  SHA-256 of what the change left
 *   132  u32     length of the words about it
 *   136  u32     their checksum
 *   508  u32     checksum of bytes 0 to 508
 *   512  what was changed, by whom: JSON, at most 3584 bytes
 *
 * A record counts where magic, generation and both checksums are right, and ends the list where not: a page of the target is
 * overwritten only after its record was flushed, so a torn end means pages that are still as they were. A later record that
 * was written when the torn one had been flushed already proves that the journal itself is damaged.
 */

export const UNDO_HEADER_SIZE = 4096
export const UNDO_SECTOR = 512
/** bytes of data of a record at most */
export const RECORD_LIMIT = 1 << 20
const HEADER_MAGIC = 'liveundo'
const RECORD_MAGIC = 'undo'
const VERSION = 1
const CHECKSUM_AT = 508
const ABOUT_LIMIT = UNDO_HEADER_SIZE - UNDO_SECTOR
/** bytes of a hold at most */
export const HOLD_LIMIT = 16

/**
 * - `recording` the change is in its middle, or was cut there · `finished` it is complete
 * - `undoing` it is being taken back
 */
export type UndoPhase = 'recording' | 'finished' | 'undoing'
const PHASES: readonly UndoPhase[] = ['recording', 'finished', 'undoing']

/** Bytes of the target by which nobody uses it while it is changed, such as the valid flag of a store. */
export interface Hold {
  readonly offset: number
  readonly during: Uint8Array
  /** as many */
  readonly after: Uint8Array
}

/** The first sector of the header. Sizes and offsets are bytes. */
export interface UndoHeader {
  readonly phase: UndoPhase
  /** 16 bytes */
  readonly generation: Uint8Array
  readonly oldSize: number
  /** 0 while recording */
  readonly newSize: number
  /** of the records; 0 while recording */
  readonly end: number
  readonly hold: Hold | undefined
  /** SHA-256, 32 bytes */
  readonly digest: Uint8Array
  readonly aboutLength: number
  readonly aboutChecksum: number
}

/** The head of a record. */
export interface RecordHead {
  readonly kind: 'before' | 'ranges'
  /** in the target */
  readonly offset: number
  readonly length: number
  readonly checksum: number
  /** journal bytes that were on the medium when it was written */
  readonly flushedEnd: number
}

/** CRC-32C of some bytes. */
export const checksumOf = (bytes: Uint8Array): number => (crc32c(CRC32C_START, bytes) ^ 0xffff_ffff) >>> 0

/** Bytes up to the next sector. */
export const toSector = (length: number): number => Math.ceil(length / UNDO_SECTOR) * UNDO_SECTOR

const padded = (bytes: Uint8Array, length: number): Uint8Array => {
  const all = new Uint8Array(length)
  all.set(bytes)
  return all
}

const sealed = (sector: Uint8Array): Uint8Array => {
  new DataView(sector.buffer, sector.byteOffset).setUint32(
    CHECKSUM_AT,
    checksumOf(sector.subarray(0, CHECKSUM_AT)),
    true,
  )
  return sector
}

/** The words about a change as they stand in a header. */
export const encodeAbout = (about: unknown): Uint8Array => {
  const bytes = Buffer.from(JSON.stringify(about))
  assert(bytes.length <= ABOUT_LIMIT, `${bytes.length} bytes of words in an undo journal`)
  return bytes
}

/** The header's first sector. */
export const encodeUndoHeader = (header: UndoHeader): Uint8Array => {
  const { hold } = header
  assert(
    hold === undefined || (hold.during.length <= HOLD_LIMIT && hold.during.length === hold.after.length),
    'held bytes of two lengths, or too many',
  )
  const to = new Encoder(UNDO_SECTOR)
    .bytes(Buffer.from(HEADER_MAGIC))
    .u32(VERSION)
    .u32(PHASES.indexOf(header.phase) + 1)
    .bytes(header.generation)
    .u64(header.oldSize)
    .u64(header.newSize)
    .u64(header.end)
    .u64(hold?.offset ?? 0)
    .u32(hold?.during.length ?? 0)
    .bytes(padded(hold?.during ?? new Uint8Array(0), HOLD_LIMIT))
    .bytes(padded(hold?.after ?? new Uint8Array(0), HOLD_LIMIT))
    .bytes(padded(header.digest, 32))
    .u32(header.aboutLength)
    .u32(header.aboutChecksum)
  return sealed(to.skip(UNDO_SECTOR - to.offset).done())
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
const isSealed = (sector: Uint8Array): boolean =>
  viewOf(sector).getUint32(CHECKSUM_AT, true) === checksumOf(sector.subarray(0, CHECKSUM_AT))
const startsWith = (bytes: Uint8Array, magic: string): boolean =>
  Buffer.from(bytes.buffer, bytes.byteOffset, magic.length).toString('latin1') === magic
const safe = (value: bigint): number | undefined =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined

/** Reads the header's first sector. `newer` one of another version; undefined where it is none, or torn. */
export const parseUndoHeader = (sector: Uint8Array): UndoHeader | 'newer' | undefined => {
  if (!startsWith(sector, HEADER_MAGIC) || !isSealed(sector)) return undefined
  const view = viewOf(sector)
  if (view.getUint32(8, true) !== VERSION) return 'newer'
  const phase = PHASES[view.getUint32(12, true) - 1]
  const numbers = [32, 40, 48, 56].map(at => safe(view.getBigUint64(at, true)))
  const [oldSize, newSize, end, offset] = numbers
  const length = view.getUint32(64, true)
  const aboutLength = view.getUint32(132, true)
  if (!phase || numbers.includes(undefined) || length > HOLD_LIMIT || aboutLength > ABOUT_LIMIT) return undefined
  return {
    phase,
    generation: sector.slice(16, 32),
    oldSize: oldSize!,
    newSize: newSize!,
    end: end!,
    hold:
      length === 0
        ? undefined
        : { offset: offset!, during: sector.slice(68, 68 + length), after: sector.slice(84, 84 + length) },
    digest: sector.slice(100, 132),
    aboutLength,
    aboutChecksum: view.getUint32(136, true),
  }
}

/** The head of a record, one sector. */
export const encodeRecordHead = (head: RecordHead, generation: Uint8Array): Uint8Array => {
  const to = new Encoder(UNDO_SECTOR)
    .bytes(Buffer.from(RECORD_MAGIC))
    .u32(head.kind === 'before' ? 1 : 2)
    .u64(head.offset)
    .u32(head.length)
    .u32(head.checksum)
    .u64(head.flushedEnd)
    .bytes(generation)
  return sealed(to.skip(UNDO_SECTOR - to.offset).done())
}

/** Reads the head of a record; undefined where it is none of this generation, or torn. */
export const parseRecordHead = (sector: Uint8Array, generation: Uint8Array): RecordHead | undefined => {
  if (!startsWith(sector, RECORD_MAGIC) || !isSealed(sector)) return undefined
  if (Buffer.compare(sector.subarray(32, 48), generation) !== 0) return undefined
  const view = viewOf(sector)
  const kind = view.getUint32(4, true)
  const offset = safe(view.getBigUint64(8, true))
  const length = view.getUint32(16, true)
  const flushedEnd = safe(view.getBigUint64(24, true))
  if ((kind !== 1 && kind !== 2) || offset === undefined || flushedEnd === undefined) return undefined
  if (length === 0 || length > RECORD_LIMIT) return undefined
  return { kind: kind === 1 ? 'before' : 'ranges', offset, length, checksum: view.getUint32(20, true), flushedEnd }
}

/** A run of bytes of the target. */
export interface ByteRange {
  readonly offset: number
  readonly length: number
}

/** Ranges in order, those that meet put together, and none past `size`. */
export const mergeRanges = (ranges: Iterable<ByteRange>, size = Number.POSITIVE_INFINITY): ByteRange[] => {
  const merged: { offset: number; length: number }[] = []
  for (const range of [...ranges].sort((a, b) => a.offset - b.offset)) {
    const end = Math.min(range.offset + range.length, size)
    if (end <= range.offset) continue
    const last = merged.at(-1)
    if (last && range.offset <= last.offset + last.length) last.length = Math.max(last.length, end - last.offset)
    else merged.push({ offset: range.offset, length: end - range.offset })
  }
  return merged
}

/** Ranges as the data of a record. */
export const encodeRanges = (ranges: readonly ByteRange[]): Uint8Array => {
  const to = new Encoder(ranges.length * 16)
  for (const { offset, length } of ranges) to.u64(offset).u64(length)
  return to.done()
}

/** Reads the data of a record of ranges. */
export const parseRanges = (bytes: Uint8Array): ByteRange[] => {
  const view = viewOf(bytes)
  const ranges: ByteRange[] = []
  for (let at = 0; at + 16 <= bytes.length; at += 16)
    ranges.push({ offset: Number(view.getBigUint64(at, true)), length: Number(view.getBigUint64(at + 8, true)) })
  return ranges
}
