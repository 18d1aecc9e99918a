import type { Place } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'

/*
 * Short date: u8 year-1900 · month · day · hour · minute · second · i8 zone
 * Long date:  4 digits year · 2 month · 2 day · 2 hour · 2 minute · 2 second · 2 hundredths · i8 zone
 * The zone is in quarters of an hour east of Greenwich, -48 to 52. All zero (digits: all '0') is no date.
 */

export const SHORT_DATE = 7
export const LONG_DATE = 17

/** Seconds since 1970 of a clock that stands `zone` quarters of an hour east; a zone that none is counts as 0, as in the kernel. */
const seconds = (clock: readonly number[], zone: number): number => {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = clock
  const date = new Date(0)
  // setUTCFullYear and not Date.UTC: that takes the years 0 to 99 for 1900 to 1999
  date.setUTCFullYear(year, month - 1, day)
  date.setUTCHours(hour, minute, second)
  const east = (zone << 24) >> 24
  return date.getTime() / 1000 - (east >= -52 && east <= 52 ? east * 900 : 0)
}

/**
 * The date of a directory record or a short TF entry: seconds since 1970; undefined where there is none.
 *
 * @see linux fs/isofs/util.c, iso_date; ECMA-119 9.1.5
 */
export const parseShortDate = (bytes: Uint8Array): number | undefined =>
  bytes.subarray(0, SHORT_DATE - 1).every(byte => byte === 0)
    ? undefined
    : seconds([1900 + bytes[0]!, ...bytes.subarray(1, 6)], bytes[6]!)

/**
 * The date of a long TF entry: seconds since 1970; undefined where there is none.
 *
 * @throws CORRUPT  it has other than digits
 * @see ECMA-119 8.4.26.1
 */
export const parseLongDate = (bytes: Uint8Array, field: string, place: Place): number | undefined => {
  const text = Buffer.from(bytes.subarray(0, LONG_DATE - 1)).toString('latin1')
  // some writers put zero bytes where digits should be
  if (/^(0*|\0*)$/.test(text)) return undefined
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)\d\d$/.exec(text)
  if (!parts)
    throw corrupt({
      device: place.device,
      offset: place.base,
      field,
      expected: '16 digits',
      found: JSON.stringify(text),
    })
  return seconds(parts.slice(1).map(Number), bytes[LONG_DATE - 1]!)
}
