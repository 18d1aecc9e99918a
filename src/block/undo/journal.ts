import { createHash } from 'node:crypto'
import { corrupt, type LiveError, unsupported } from '../../error.js'
import type { Device } from '../device.js'
import {
  type ByteRange,
  checksumOf,
  type Hold,
  parseRanges,
  parseRecordHead,
  parseUndoHeader,
  type RecordHead,
  toSector,
  UNDO_HEADER_SIZE,
  UNDO_SECTOR,
  type UndoHeader,
} from './layout.js'

/** Where a journal has bytes of the target from before. */
export interface SavedRange extends ByteRange {
  /** byte offset of the data in the journal */
  readonly at: number
}

/** What an undo journal holds. Sizes are bytes. */
export interface UndoJournal {
  readonly header: UndoHeader
  /** what was changed, by whom: whatever the writer put there */
  readonly about: unknown
  readonly saved: readonly SavedRange[]
  readonly savedBytes: number
  /** what the digest of a finished change covers */
  readonly digested: readonly ByteRange[]
}

const PIECE = 1 << 20

const damaged = (device: Device, offset: number, field: string, expected: string, found: string): LiveError =>
  corrupt({ device: device.name, offset, field, expected, found })

interface Found {
  readonly head: RecordHead
  readonly data: Uint8Array
}

const recordAt = async (journal: Device, at: number, { generation }: UndoHeader): Promise<Found | undefined> => {
  if (at + UNDO_SECTOR > journal.size) return undefined
  const head = parseRecordHead(await journal.read(at, UNDO_SECTOR), generation)
  if (!head || at + UNDO_SECTOR + head.length > journal.size) return undefined
  const data = await journal.read(at + UNDO_SECTOR, head.length)
  return checksumOf(data) === head.checksum ? { head, data } : undefined
}

/** True where a record behind a torn one was written when that had been flushed already. */
const laterProof = async (journal: Device, torn: number, { generation }: UndoHeader): Promise<boolean> => {
  for (let from = torn; from + UNDO_SECTOR <= journal.size; from += PIECE) {
    const bytes = await journal.read(from, Math.min(PIECE, journal.size - from))
    for (let at = 0; at + UNDO_SECTOR <= bytes.length; at += UNDO_SECTOR) {
      const head = parseRecordHead(bytes.subarray(at, at + UNDO_SECTOR), generation)
      if (head && head.flushedEnd > torn) return true
    }
  }
  return false
}

/**
 * Reads an undo journal. A torn end is left out, as what it would name is still as it was.
 *
 * @returns  undefined where it was never complete: nothing had been changed then
 * @throws CORRUPT  it is damaged, and would not give back all that it should
 * @throws UNSUPPORTED  another version of liveos wrote it; IO
 */
export const readUndoJournal = async (journal: Device): Promise<UndoJournal | undefined> => {
  if (journal.size < UNDO_HEADER_SIZE) return undefined
  const first = await journal.read(0, UNDO_HEADER_SIZE)
  const header = parseUndoHeader(first.subarray(0, UNDO_SECTOR))
  if (header === 'newer')
    throw unsupported(
      'undo journal of another version',
      journal.name,
      `${journal.name} was written by another version of liveos: take the change back, or finish it, with that one`,
    )
  const words = header && first.subarray(UNDO_SECTOR, UNDO_SECTOR + header.aboutLength)
  if (!words || checksumOf(words) !== header.aboutChecksum) {
    // Nothing is recorded before all of the header is on the medium.
    if (journal.size === UNDO_HEADER_SIZE) return undefined
    throw damaged(journal, 0, 'header', 'the header of an undo journal', 'something else')
  }
  const saved: SavedRange[] = []
  const digested: ByteRange[] = []
  let savedBytes = 0
  let at = UNDO_HEADER_SIZE
  for (;;) {
    const found = await recordAt(journal, at, header)
    if (!found) break
    const { kind, offset, length } = found.head
    if (kind === 'ranges') digested.push(...parseRanges(found.data))
    else {
      if (offset + length > header.oldSize)
        throw damaged(journal, at, 'offset and length', `within ${header.oldSize} bytes`, `${offset} + ${length}`)
      saved.push({ offset, length, at: at + UNDO_SECTOR })
      savedBytes += length
    }
    at += UNDO_SECTOR + toSector(length)
  }
  if (at < header.end || (await laterProof(journal, at, header)))
    throw damaged(journal, at, 'record', 'a record that was flushed', 'something else')
  return { header, about: JSON.parse(Buffer.from(words).toString()), saved, savedBytes, digested }
}

const overlaps = (hold: Hold | undefined, { offset, length }: ByteRange): hold is Hold =>
  hold !== undefined && hold.offset < offset + length && hold.offset + hold.during.length > offset

/** Lays held bytes over what was read at `offset`. */
export const layHeld = (bytes: Uint8Array, offset: number, hold: Hold, held: Uint8Array): void => {
  for (const [index, byte] of held.entries()) {
    const at = hold.offset + index - offset
    if (at >= 0 && at < bytes.length) bytes[at] = byte
  }
}

/**
 * SHA-256 over ranges of a device, its size and the ranges themselves.
 *
 * @param hold  its bytes are taken for those of the finished change
 */
export const digestOf = async (
  device: Device,
  ranges: readonly ByteRange[],
  hold: Hold | undefined,
): Promise<Uint8Array> => {
  const hash = createHash('sha256').update(`${device.size}\n`)
  for (const range of ranges) {
    hash.update(`${range.offset} ${range.length}\n`)
    for (let at = range.offset; at < range.offset + range.length; at += PIECE) {
      const length = Math.min(PIECE, range.offset + range.length - at)
      const bytes = await device.read(at, length)
      if (overlaps(hold, { offset: at, length })) layHeld(bytes, at, hold, hold.after)
      hash.update(bytes)
    }
  }
  return hash.digest()
}

/**
 * How a target stands to a finished change: `as left`; `held`, where only the held bytes are still to be set; `changed` since.
 *
 * @throws IO
 */
export const comparedWith = async (
  target: Device,
  { header, digested }: UndoJournal,
): Promise<'as left' | 'held' | 'changed'> => {
  const { hold, newSize, digest } = header
  if (target.size !== newSize || digested.some(({ offset, length }) => offset + length > newSize)) return 'changed'
  const now = hold && (await target.read(hold.offset, hold.during.length))
  const held = now && Buffer.compare(now, hold.during) === 0 && Buffer.compare(hold.during, hold.after) !== 0
  if (now && !held && Buffer.compare(now, hold.after) !== 0) return 'changed'
  if (Buffer.compare(await digestOf(target, digested, hold), digest) !== 0) return 'changed'
  return held ? 'held' : 'as left'
}

/**
 * Whether a target can be the one whose change, or whose undo, was cut in its middle: it is held, or nothing of it has changed yet.
 * Anything else was put there since, or written by a boot.
 *
 * @throws IO
 */
export const canBeCut = async (target: Device, journal: Device, found: UndoJournal): Promise<boolean> => {
  const { header, saved } = found
  const { hold, oldSize, phase } = header
  if (!hold) return true
  const end = hold.offset + hold.during.length
  if (target.size >= end && Buffer.compare(await target.read(hold.offset, hold.during.length), hold.during) === 0)
    return true
  // an undo of a finished change that was cut before it held anything
  if (phase === 'undoing' && (await comparedWith(target, found)) !== 'changed') return true
  if (target.size !== oldSize) return false
  for (const { offset, length, at } of saved)
    for (let done = 0; done < length; done += PIECE) {
      const count = Math.min(PIECE, length - done)
      const [now, then] = await Promise.all([target.read(offset + done, count), journal.read(at + done, count)])
      if (Buffer.compare(now, then) !== 0) return false
    }
  return true
}
