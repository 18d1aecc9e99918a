import { cursor } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'
import { decodeCodePage, lowerInCodePage } from './code-page.js'
import { ENTRY_SIZE } from './layout.js'

/*
 * Directory entry, little endian:
 *    0 DIR_Name[11]            11 u8 DIR_Attr           12 u8 DIR_NTRes           13 u8 DIR_CrtTimeTenth
 *   14 u16 DIR_CrtTime         16 u16 DIR_CrtDate       18 u16 DIR_LstAccDate     20 u16 DIR_FstClusHI
 *   22 u16 DIR_WrtTime         24 u16 DIR_WrtDate       26 u16 DIR_FstClusLO      28 u32 DIR_FileSize
 *   DIR_Name[0]: 0 ends the directory, E5 is a free entry, 05 stands for E5.
 * Entries of a long name stand before its short one, the last part first:
 *    0 u8 LDIR_Ord (0x40: the last part)   1 LDIR_Name1[10]   11 u8 LDIR_Attr 0x0f   12 u8 LDIR_Type   13 u8 LDIR_Chksum
 *   14 LDIR_Name2[12]          26 u16 LDIR_FstClusLO 0        28 LDIR_Name3[4]
 */

/** Bits of `DIR_Attr`. */
export const ATTRIBUTE = {
  readOnly: 0x01,
  hidden: 0x02,
  system: 0x04,
  volume: 0x08,
  directory: 0x10,
  archive: 0x20,
} as const
const LONG_NAME = 0x0f
const ATTRIBUTE_MASK = 0x3f
const LAST_PART = 0x40
const UNITS_PER_PART = 13
/** UTF-16 units of a long name */
const LONGEST_NAME = 255
const END = 0
const FREE = 0xe5
const LOWER_BASE = 0x08
const LOWER_EXTENSION = 0x10

/** A name in a directory. */
export interface FatEntry {
  /** as a listing shows it: the long name, else the short one */
  readonly name: string
  /** the 8.3 name, in capitals as on the medium */
  readonly shortName: string
  readonly attributes: number
  /** seconds since 1970, the volume's local time taken as UTC */
  readonly mtime: number
  /** number of the first cluster, 0 for none */
  readonly firstCluster: number
  readonly size: number
  /** byte offset of the short entry on the device */
  readonly position: number
  /** first cluster of the directory it stands in, 0 for the root of FAT12 and FAT16 */
  readonly parentCluster: number
}

/** What a directory holds. */
export interface Directory {
  readonly entries: readonly FatEntry[]
  /** the volume's label, which stands in the root; undefined where there is none */
  readonly label: string | undefined
}

export const isDirectory = ({ attributes }: FatEntry): boolean => (attributes & ATTRIBUTE.directory) !== 0

/**
 * Reads a directory. A long name whose parts are broken gives way to its short one, `.` and `..` are left out.
 *
 * @param bytes  all of it, whole entries
 * @param at  where the directory is: its first cluster, the place on the device of an offset in `bytes`, and whether cluster
 *   numbers have their upper half in DIR_FstClusHI, as in FAT32
 * @throws CORRUPT  a name that would lead out of the directory: `/`, NUL, `.`, `..`, empty
 * @see linux fs/fat/dir.c
 */
export const parseDirectory = (
  bytes: Uint8Array,
  device: string,
  at: {
    readonly cluster: number
    readonly wideClusters: boolean
    place(offset: number): number
  },
): Directory => {
  const entries: FatEntry[] = []
  let label: string | undefined
  let parts = noParts()
  for (let offset = 0; offset + ENTRY_SIZE <= bytes.length; offset += ENTRY_SIZE) {
    const raw = bytes.subarray(offset, offset + ENTRY_SIZE)
    if (raw[0] === END) break
    if (raw[0] === FREE) {
      parts = noParts()
      continue
    }
    const attributes = raw[11]!
    if ((attributes & ATTRIBUTE_MASK) === LONG_NAME) {
      parts = addPart(parts, raw)
      continue
    }
    const long = longName(parts, raw)
    parts = noParts()
    if (attributes & ATTRIBUTE.volume) {
      if (!(attributes & ATTRIBUTE.directory)) label ??= decodeLabel(raw.subarray(0, 11))
      continue
    }
    if (isDots(raw)) continue
    const { shown, short } = shortNames(raw)
    const position = at.place(offset)
    const name = long ?? shown
    if (isBadName(name))
      throw corrupt({ device, offset: position, field: 'DIR_Name', expected: 'a name', found: JSON.stringify(name) })
    const rest = parseRest(raw, device, position, at.wideClusters)
    entries.push({ name, shortName: short, attributes, position, parentCluster: at.cluster, ...rest })
  }
  return { entries, label }
}

const isBadName = (name: string): boolean =>
  name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')

const DOTS = [Buffer.from('.          '), Buffer.from('..         ')]
const isDots = (raw: Uint8Array): boolean => DOTS.some(dots => dots.compare(raw, 0, 11) === 0)

const parseRest = (
  raw: Uint8Array,
  device: string,
  position: number,
  wideClusters: boolean,
): Pick<FatEntry, 'mtime' | 'firstCluster' | 'size'> => {
  const at = cursor(raw, { device, base: position })
  at.skip(20)
  const high = at.u16()
  const time = at.u16()
  const date = at.u16()
  const low = at.u16()
  return {
    mtime: parseTime(date, time),
    firstCluster: (wideClusters ? high * 0x10000 : 0) + low,
    size: at.u32(),
  }
}

/**
 * Seconds since 1970 of a date and a time. A month or day of 0 is taken as 1, as Linux does.
 *
 * @param date  bits 9 to 15 year since 1980, 5 to 8 month, 0 to 4 day
 * @param time  bits 11 to 15 hour, 5 to 10 minute, 0 to 4 seconds by two
 */
export const parseTime = (date: number, time: number): number =>
  Date.UTC(
    1980 + (date >>> 9),
    Math.max(1, (date >>> 5) & 15) - 1,
    Math.max(1, date & 31),
    time >>> 11,
    (time >>> 5) & 63,
    (time & 31) * 2,
  ) / 1000

/** Parts of a long name as they come, the last first; `next` is the number of the one that must follow, 0 after the first part. */
interface Parts {
  readonly next: number
  readonly checksum: number
  /** in the order of the medium */
  readonly raw: readonly Uint8Array[]
}

const noParts = (): Parts => ({ next: -1, checksum: 0, raw: [] })

const addPart = (parts: Parts, raw: Uint8Array): Parts => {
  const number = raw[0]! & ~LAST_PART
  const checksum = raw[13]!
  if (number > 0 && number === parts.next && checksum === parts.checksum)
    return { next: number - 1, checksum, raw: [...parts.raw, raw] }
  return raw[0]! & LAST_PART && number > 0 && number <= 20 ? { next: number - 1, checksum, raw: [raw] } : noParts()
}

const utf16 = new TextDecoder('utf-16le', { ignoreBOM: true })

/** The long name before a short entry; undefined where there is none, or a broken one. */
const longName = ({ next, checksum, raw }: Parts, short: Uint8Array): string | undefined => {
  if (next !== 0 || checksum !== shortChecksum(short)) return undefined
  const units = new Uint8Array(raw.length * UNITS_PER_PART * 2)
  for (const [index, part] of raw.toReversed().entries()) {
    const at = index * UNITS_PER_PART * 2
    units.set(part.subarray(1, 11), at)
    units.set(part.subarray(14, 26), at + 10)
    units.set(part.subarray(28, 32), at + 22)
  }
  const name = utf16.decode(units).split('\0', 1)[0]!
  return name === '' || name.length > LONGEST_NAME ? undefined : name
}

/** The checksum by which the parts of a long name know their short one. @param short  an entry; its first 11 bytes are summed */
export const shortChecksum = (short: Uint8Array): number => {
  let sum = 0
  for (let n = 0; n < 11; n++) sum = (((sum & 1) << 7) + (sum >>> 1) + short[n]!) & 0xff
  return sum
}

const unescaped = (raw: Uint8Array): Uint8Array => {
  const name = Uint8Array.from(raw.subarray(0, 11))
  if (name[0] === 0x05) name[0] = FREE
  return name
}

const shortNames = (raw: Uint8Array): { readonly shown: string; readonly short: string } => {
  const bytes = unescaped(raw)
  const base = decodeCodePage(bytes.subarray(0, 8)).replace(/ +$/, '')
  const extension = decodeCodePage(bytes.subarray(8)).replace(/ +$/, '')
  const lower = raw[12]!
  const join = (a: string, b: string): string => (b === '' ? a : `${a}.${b}`)
  return {
    short: join(base, extension),
    shown: join(
      lower & LOWER_BASE ? lowerInCodePage(base) : base,
      lower & LOWER_EXTENSION ? lowerInCodePage(extension) : extension,
    ),
  }
}

/** A label of 11 bytes without the spaces behind it; undefined for none and for `NO NAME`. */
export const decodeLabel = (bytes: Uint8Array): string | undefined => {
  const label = decodeCodePage(unescaped(bytes)).replace(/[ \0]+$/, '')
  return label === '' || label === 'NO NAME' ? undefined : label
}
