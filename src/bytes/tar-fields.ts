import { corrupt, unsupported } from '../error.js'
import { TAR_BLOCK } from './tar.js'

/** Where an archive is read from; sizes and offsets are bytes. */
export interface TarSource {
  readonly name: string
  readonly size: number
  read(offset: number, length: number): Promise<Uint8Array>
}

/** bytes of the pax records, or of a long name, that one member may have */
const MAX_RECORDS = 1 << 20

/** Records of a pax header by their keywords. */
export type Records = ReadonlyMap<string, Uint8Array>

/** Where a field stands, for the error of one that is wrong. */
export interface Place {
  readonly source: TarSource
  readonly offset: number
}

/** The CORRUPT error of a field. */
export const wrong = ({ source, offset }: Place, field: string, expected: string | number, found: string | number) =>
  corrupt({ device: source.name, offset, field, expected, found })

/** Bytes as characters, one each. */
export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

/** A string field: up to its NUL. */
export const stringAt = (block: Uint8Array, at: number, length: number): Uint8Array => {
  const field = block.subarray(at, at + length)
  const end = field.indexOf(0)
  return end < 0 ? field : field.subarray(0, end)
}

/** A number field: octal digits between blanks, or base 256. @throws CORRUPT */
export const numberAt = (block: Uint8Array, at: number, length: number, field: string, place: Place): number => {
  const here = { ...place, offset: place.offset + at }
  const bytes = block.subarray(at, at + length)
  if (bytes[0]! >= 0x80) {
    let value = bytes[0] === 0xff ? -1n : BigInt(bytes[0]! & 0x7f)
    for (const byte of bytes.subarray(1)) value = value * 256n + BigInt(byte)
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER))
      throw wrong(here, field, 'at most 2^53 - 1', String(value))
    return Number(value)
  }
  const digits = /^ *([0-7]*)(?:[\0 ]|$)/.exec(text(bytes))?.[1]
  if (digits === undefined) throw wrong(here, field, 'octal digits', JSON.stringify(text(bytes)))
  return digits === '' ? 0 : Number.parseInt(digits, 8)
}

/** A record that is a number. @throws CORRUPT */
export const decimal = (records: Records, keyword: string, place: Place): number | undefined => {
  const value = records.get(keyword)
  if (value === undefined) return undefined
  const digits = text(value)
  const number = Number(digits)
  if (!/^\d+$/.test(digits) || !Number.isSafeInteger(number)) throw wrong(place, keyword, 'a decimal number', digits)
  return number
}

/** Reads an archive piece by piece, never past its end. */
export const reader = (source: TarSource) => ({
  async block(offset: number, field: string): Promise<Uint8Array> {
    if (offset + TAR_BLOCK > source.size)
      throw wrong({ source, offset }, field, `${TAR_BLOCK} bytes`, `the end of the archive at byte ${source.size}`)
    return source.read(offset, TAR_BLOCK)
  },
  /** Content of a header that is a member of its own. */
  async small(offset: number, size: number, field: string): Promise<Uint8Array> {
    if (size > MAX_RECORDS) throw unsupported('tar header of more than 1 MiB', source.name)
    if (offset + size > source.size)
      throw wrong({ source, offset }, field, `${size} bytes`, `the end of the archive at byte ${source.size}`)
    return source.read(offset, size)
  },
})
