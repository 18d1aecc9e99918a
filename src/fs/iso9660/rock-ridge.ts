import { cursor } from '../../bytes/cursor.js'
import { corrupt, isLiveError, type LiveError } from '../../error.js'
import type { FileKind } from '../filesystem.js'
import { LONG_DATE, parseLongDate, parseShortDate, SHORT_DATE } from './date.js'
import { parseBoth } from './layout.js'
import { rockRidgeName } from './names.js'
import type { Entries, SuspEntry } from './susp.js'

/*
 * Rock Ridge (RRIP 1.09 to 1.12), payloads of SUSP entries, offsets from the entry's start:
 *
 *   PX  4 both32 st_mode · 12 both32 st_nlink · 20 both32 st_uid · 28 both32 st_gid · 36 both32 st_ino (from 1.12)
 *   PN  4 both32 dev_t high · 12 both32 dev_t low
 *   NM  4 u8 flags · 5 name           flags: 1 goes on in the next NM, 2 is ".", 4 is ".."
 *   SL  4 u8 flags · 5 components     flags: 1 goes on in the next SL
 *       component: u8 flags · u8 length · text      flags: 1 goes on in the next component, 2 ".", 4 "..", 8 "/"
 *   TF  4 u8 flags · 5 dates          flags: a date each for 1 creation, 2 modify, 4 access, 8 attributes, 16 backup,
 *       32 expiration, 64 effective, in that order; 128: long dates
 *   CL  4 both32 block of the directory that belongs here · PL  4 both32 block of the true parent
 *   RE  this directory was moved here and belongs elsewhere
 *   SF  4 both32 size (1.09) or 4 both32 size high · 12 both32 size low · 20 u8 depth: a sparse file
 *   ZF  4 "pz" · 6 u8 header/4 · 7 u8 log2 of the block size · 8 both32 size; 4 "PZ" (zisofs 2): 8 u64 size
 *   RR  4 u8 flags: which of these are there (1.09 only)
 */

const NAME = { continues: 1, current: 2, parent: 4 }
const COMPONENT = { continues: 1, current: 2, parent: 4, root: 8 }
const DATE = { modify: 2, long: 128, count: 7 }

/** What Rock Ridge tells of a record; undefined where it says nothing. */
export interface RockRidge {
  readonly name: string | undefined
  readonly posix: Posix | undefined
  readonly device: { readonly major: number; readonly minor: number } | undefined
  /** of a symlink */
  readonly target: Uint8Array | undefined
  /** seconds since 1970 */
  readonly mtime: number | undefined
  /** the block of the directory that this record stands for */
  readonly childBlock: number | undefined
  /** true for a directory whose place in the tree is elsewhere */
  readonly moved: boolean
  /** how a file's data are kept, where not as they are, and the file's true size */
  readonly stored: { readonly as: 'zisofs' | 'sparse'; readonly size: number } | undefined
  /** why the rest is not to be trusted, where name and kind are: genisoimage writes such targets of long symlinks */
  readonly fault: LiveError | undefined
}

/** Of a PX entry. */
export interface Posix {
  readonly kind: FileKind
  /** permission bits, 0 to 0o7777 */
  readonly mode: number
  readonly linkCount: number
  readonly uid: number
  readonly gid: number
  /** number that all names of one file share; undefined where the image numbers none */
  readonly serial: number | undefined
}

/** by the bits of st_mode above the permissions */
const KINDS: ReadonlyMap<number, FileKind> = new Map([
  [0o01, 'fifo'],
  [0o02, 'character'],
  [0o04, 'directory'],
  [0o06, 'block'],
  [0o10, 'file'],
  [0o12, 'symlink'],
  [0o14, 'socket'],
])

const bad = (entry: SuspEntry, field: string, expected: string, found: string | number) =>
  corrupt({ device: entry.place.device, offset: entry.place.base, field, expected, found })

const both = (entry: SuspEntry, at: number, field: string): number =>
  parseBoth(entry.payload, at, 4, field, entry.place)

const parsePosix = (entry: SuspEntry): Posix => {
  const st_mode = both(entry, 0, 'PX st_mode')
  const kind = KINDS.get(st_mode >>> 12)
  if (!kind) throw bad(entry, 'PX st_mode', 'a kind of file', `0o${st_mode.toString(8)}`)
  const serial = entry.payload.length >= 40 ? both(entry, 32, 'PX st_ino') : 0
  return {
    kind,
    mode: st_mode & 0o7777,
    // some writers count no links at all, but what has a name has one
    linkCount: Math.max(1, both(entry, 8, 'PX st_nlink')),
    uid: both(entry, 16, 'PX st_uid'),
    gid: both(entry, 24, 'PX st_gid'),
    serial: serial === 0 ? undefined : serial,
  }
}

/** Writers differ: the whole number may stand in the low half, as the kernel expects where the high one is 0. */
const parseDevice = (entry: SuspEntry): { major: number; minor: number } => {
  const high = both(entry, 0, 'PN high')
  const low = both(entry, 8, 'PN low')
  return high === 0 && low > 0xff ? { major: low >>> 8, minor: low & 0xff } : { major: high, minor: low }
}

const parseModified = (entry: SuspEntry): number | undefined => {
  const fields = cursor(entry.payload, entry.place)
  const flags = fields.u8('TF flags')
  const size = flags & DATE.long ? LONG_DATE : SHORT_DATE
  let modified: number | undefined
  for (let bit = 0; bit < DATE.count; bit++) {
    if (!(flags & (1 << bit))) continue
    const place = { device: entry.place.device, base: entry.place.base + fields.offset }
    const date = fields.bytes(size, 'TF date')
    if (1 << bit === DATE.modify)
      modified = flags & DATE.long ? parseLongDate(date, 'TF modify', place) : parseShortDate(date)
  }
  return modified
}

const parseName = (entries: readonly SuspEntry[]): string | undefined => {
  const [first] = entries
  if (!first) return undefined
  const parts: Uint8Array[] = []
  let continues = false
  for (const entry of entries) {
    const fields = cursor(entry.payload, entry.place)
    const flags = fields.u8('NM flags')
    if (flags & ~NAME.continues)
      throw bad(
        entry,
        'NM flags',
        flags & (NAME.current | NAME.parent) ? 'a name other than . and ..' : '0 or 1',
        flags,
      )
    parts.push(fields.bytes(fields.remaining))
    continues = (flags & NAME.continues) !== 0
  }
  if (continues) throw bad(first, 'NM flags', 'a further NM entry', 'none')
  return rockRidgeName(parts.length === 1 ? parts[0]! : Buffer.concat(parts), first.place)
}

const DOT = Buffer.from('.')
const DOTS = Buffer.from('..')
const SLASH = Buffer.from('/')

/** The target that SL entries spell: components joined by slashes, but none behind one that goes on, nor behind the root. */
const parseTarget = (entries: readonly SuspEntry[]): Uint8Array | undefined => {
  const [first] = entries
  if (!first) return undefined
  const parts: Uint8Array[] = []
  let needsSlash = false
  let continues = false
  for (const entry of entries) {
    const fields = cursor(entry.payload, entry.place)
    continues = (fields.u8('SL flags') & 1) !== 0
    while (fields.remaining >= 2) {
      const flags = fields.u8('SL component flags')
      const text = fields.bytes(fields.u8('SL component length'), 'SL component')
      if (needsSlash) parts.push(SLASH)
      const meaning = flags & ~COMPONENT.continues
      if (meaning === COMPONENT.current) parts.push(DOT)
      else if (meaning === COMPONENT.parent) parts.push(DOTS)
      else if (meaning === COMPONENT.root) parts.push(SLASH)
      else if (meaning === 0) parts.push(text)
      else throw bad(entry, 'SL component flags', '0, 1, 2, 4 or 8', flags)
      needsSlash = !(flags & COMPONENT.continues) && meaning !== COMPONENT.root
    }
  }
  if (continues) throw bad(first, 'SL flags', 'a further SL entry', 'none')
  const target = Buffer.concat(parts)
  if (target.length === 0 || target.includes(0))
    throw bad(first, 'SL target', 'a path', JSON.stringify(target.toString('latin1')))
  return target
}

const parseStored = (entry: SuspEntry): RockRidge['stored'] => {
  const { payload, place } = entry
  const at = (offset: number) => cursor(payload.subarray(offset), { device: place.device, base: place.base + offset })
  if (entry.signature === 'SF') {
    const high = payload.length >= 17 ? both(entry, 0, 'SF size high') : 0
    const size = high * 2 ** 32 + both(entry, payload.length >= 17 ? 8 : 0, 'SF size low')
    if (!Number.isSafeInteger(size)) throw bad(entry, 'SF size high', 'at most 2^21 - 1', high)
    return { as: 'sparse', size }
  }
  const algorithm = Buffer.from(payload.subarray(0, 2)).toString('latin1')
  if (algorithm === 'pz') return { as: 'zisofs', size: both(entry, 4, 'ZF size') }
  if (algorithm === 'PZ') return { as: 'zisofs', size: at(4).u64('ZF size') }
  throw bad(entry, 'ZF algorithm', 'pz or PZ', JSON.stringify(algorithm))
}

/**
 * What the entries of one record say. A fault that leaves name and kind untouched stays with the record, so that the
 * directory can be read.
 *
 * @throws CORRUPT
 * @see linux fs/isofs/rock.c; RRIP 1.12
 */
export const parseRockRidge = ({ entries, fault: entriesFault }: Entries): RockRidge => {
  const names: SuspEntry[] = []
  const links: SuspEntry[] = []
  let posix: Posix | undefined
  let device: RockRidge['device']
  let mtime: number | undefined
  let childBlock: number | undefined
  let moved = false
  let stored: RockRidge['stored']
  let fault = entriesFault
  const unlessFaulty = (work: () => void): void => {
    try {
      work()
    } catch (error) {
      if (!isLiveError(error)) throw error
      fault ??= error
    }
  }
  for (const entry of entries) {
    const { signature } = entry
    if (signature === 'NM') names.push(entry)
    else if (signature === 'SL') links.push(entry)
    else if (signature === 'PX') posix = parsePosix(entry)
    else if (signature === 'CL') childBlock = both(entry, 0, 'CL block')
    else if (signature === 'RE') moved = true
    else
      unlessFaulty(() => {
        if (signature === 'PN') device = parseDevice(entry)
        else if (signature === 'TF') mtime = parseModified(entry) ?? mtime
        else if (signature === 'SF' || signature === 'ZF') stored = parseStored(entry)
      })
  }
  const name = parseName(names)
  let target: Uint8Array | undefined
  unlessFaulty(() => {
    target = parseTarget(links)
  })
  if (fault && (name === undefined || posix === undefined)) throw fault
  return { name, posix, device, target, mtime, childBlock, moved, stored, fault }
}
