import type { Place } from '../../bytes/cursor.js'
import { corrupt, isLiveError, type LiveError } from '../../error.js'
import { type DirectoryRecord, parseBoth, SECTOR } from './layout.js'

/*
 * System Use Sharing Protocol: entries behind the name of a directory record, and in continuation areas:
 *
 *   0 signature[2] · 2 u8 length (of all) · 3 u8 version · 4 payload
 *
 *   SP  4 BE EF · 6 u8 len_skp        first in the root's own record: all other records skip len_skp bytes
 *   CE  4 both32 block · 12 both32 offset · 20 both32 length      where the entries go on
 *   ER  4 u8 len_id · 5 u8 len_des · 6 u8 len_src · 7 u8 ext_ver · 8 id · des · src       an extension in use
 *   ST  the end · PD  padding
 *
 * CD-ROM XA puts 14 bytes of its own (XA at byte 6) before the entries.
 */

/** the kernel follows no more continuations than these */
const MAX_CONTINUATIONS = 32
const HEAD = 4
const XA_LENGTH = 14

/** An entry; `place` is of its payload. */
export interface SuspEntry {
  readonly signature: string
  readonly payload: Uint8Array
  readonly place: Place
}

/** Where a record's entries go on: block, byte in it, bytes. */
interface Continuation {
  readonly block: number
  readonly offset: number
  readonly length: number
  readonly place: Place
}

const signatureOf = (bytes: Uint8Array, at: number): string => String.fromCharCode(bytes[at] ?? 0, bytes[at + 1] ?? 0)

/**
 * Reads the entries of one area, up to its end, an ST entry, padding, or what can't be an entry. `fault` is CORRUPT where
 * one leaves the area, or two say where the entries go on.
 *
 * @see SUSP 1.12, 5
 */
export const parseEntries = (
  bytes: Uint8Array,
  place: Place,
): Entries & { readonly next: Continuation | undefined } => {
  const entries: SuspEntry[] = []
  let next: Continuation | undefined
  const bad = (offset: number, field: string, expected: string, found: string | number) => ({
    entries,
    next,
    fault: corrupt({ device: place.device, offset: place.base + offset, field, expected, found }),
  })
  for (let at = 0; at + HEAD <= bytes.length; ) {
    const signature = signatureOf(bytes, at)
    const length = bytes[at + 2]!
    if (signature === '\0\0' || signature === 'ST') break
    if (length < HEAD || at + length > bytes.length)
      return bad(at + 2, `${JSON.stringify(signature)} entry length`, `${HEAD} to ${bytes.length - at}`, length)
    const payload = bytes.subarray(at + HEAD, at + length)
    const payloadPlace: Place = { device: place.device, base: place.base + at + HEAD }
    if (signature !== 'CE') entries.push({ signature, payload, place: payloadPlace })
    else if (next) return bad(at, 'CE entry', 'one in an area', 'a second one')
    else
      try {
        next = parseContinuation(payload, payloadPlace)
      } catch (error) {
        if (!isLiveError(error)) throw error
        return { entries, next, fault: error }
      }
    at += length
  }
  return { entries, next, fault: undefined }
}

const parseContinuation = (payload: Uint8Array, place: Place): Continuation => ({
  block: parseBoth(payload, 0, 4, 'CE block', place),
  offset: parseBoth(payload, 8, 4, 'CE offset', place),
  length: parseBoth(payload, 16, 4, 'CE length', place),
  place,
})

const atPlace = ({ device, base }: Place) => ({ device, offset: base })

/** Reads metadata by byte offset on the device; the range may leave it. @throws CORRUPT, IO */
export type AreaReader = (offset: number, length: number, field: string, from: Place) => Promise<Uint8Array>

/** The entries of a record, and what is wrong with those behind them. */
export interface Entries {
  readonly entries: readonly SuspEntry[]
  readonly fault: LiveError | undefined
}

/**
 * All entries of a record, those of its continuation areas among them, as far as they can be read.
 *
 * @param skip       bytes of the system use area before the entries
 * @param blockSize  bytes of a logical block
 * @throws IO
 */
export const readEntries = async (
  record: DirectoryRecord,
  skip: number,
  blockSize: number,
  device: string,
  readArea: AreaReader,
): Promise<Entries> => {
  const base = record.offset + record.length - record.system_use.length + skip
  let area = parseEntries(record.system_use.subarray(skip), { device, base })
  if (!area.next) return area
  const entries = [...area.entries]
  let { fault } = area
  for (let count = 0; area.next && !fault; count++) {
    const { block, offset, length, place } = area.next
    const bad = (field: string, expected: string, found: number): Entries => ({
      entries,
      fault: corrupt({ ...atPlace(place), field, expected, found }),
    })
    if (count >= MAX_CONTINUATIONS)
      return bad('CE entry', `at most ${MAX_CONTINUATIONS} continuations`, MAX_CONTINUATIONS + 1)
    if (length > SECTOR || offset + length > Math.max(blockSize, SECTOR))
      return bad('CE length', `an area within ${SECTOR} bytes`, offset + length)
    const start = block * blockSize + offset
    try {
      area = parseEntries(await readArea(start, length, 'CE block', place), { device, base: start })
    } catch (error) {
      if (!isLiveError(error) || error.code !== 'CORRUPT') throw error
      return { entries, fault: error }
    }
    for (const entry of area.entries) entries.push(entry)
    fault = area.fault
  }
  return { entries, fault }
}

/** Where the entries of an image's records start: behind as many bytes of each record's system use area. */
export interface SuspStart {
  /** bytes before the entries of the root's own record */
  readonly root: number
  /** bytes before the entries of all other records */
  readonly others: number
}

/**
 * Whether the root's own record opens SUSP; undefined where it doesn't.
 *
 * @see SUSP 1.12, 5.3; linux fs/isofs/rock.c, check_sp
 */
export const parseStart = (systemUse: Uint8Array): SuspStart | undefined => {
  const isXa = systemUse.length >= XA_LENGTH && signatureOf(systemUse, 6) === 'XA'
  for (const root of isXa ? [0, XA_LENGTH] : [0]) {
    const at = systemUse.subarray(root)
    if (at.length >= 7 && signatureOf(at, 0) === 'SP' && at[2]! >= 7 && at[4] === 0xbe && at[5] === 0xef)
      return { root, others: at[6]! }
  }
  return undefined
}

/** Names of Rock Ridge in ER entries: 1.09 and 1.10, and 1.12. */
const ROCK_RIDGE = ['RRIP_1991A', 'IEEE_P1282', 'IEEE_1282']

/** True where the entries of the root's own record say that Rock Ridge is in use, or show it. */
export const usesRockRidge = (entries: readonly SuspEntry[]): boolean =>
  entries.some(({ signature, payload }) => {
    if (signature === 'PX' || signature === 'RR') return true
    const id = Buffer.from(payload.subarray(4, 4 + (payload[0] ?? 0))).toString('latin1')
    return signature === 'ER' && ROCK_RIDGE.includes(id)
  })
