import type { Place } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'
import { decodeName } from '../name.js'

const badName = (field: string, found: string, place: Place) =>
  corrupt({ device: place.device, offset: place.base, field, expected: 'a name', found: JSON.stringify(found) })

/** Refuses what would lead out of the directory, or names nothing. @throws CORRUPT */
const checked = (name: string, field: string, place: Place): string => {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0'))
    throw badName(field, name, place)
  return name
}

/** the longest name that Linux takes */
const MAX_NAME = 255

/** A Rock Ridge name. @throws CORRUPT */
export const rockRidgeName = (bytes: Uint8Array, place: Place): string => {
  if (bytes.length > MAX_NAME)
    throw corrupt({
      device: place.device,
      offset: place.base,
      field: 'NM name',
      expected: `at most ${MAX_NAME} bytes`,
      found: bytes.length,
    })
  return checked(decodeName(bytes), 'NM name', place)
}

/**
 * A name of the primary tree as Linux shows it: lower case, no version 1 and no dot before it, other semicolons as dots.
 *
 * @throws CORRUPT
 * @see linux fs/isofs/dir.c, isofs_name_translate
 */
export const primaryName = (bytes: Uint8Array, place: Place): string => {
  const latin = Buffer.from(bytes).toString('latin1')
  const text = latin
    .replace(/\.?;1$/, '')
    .replace(/[A-Z]/g, letter => letter.toLowerCase())
    .replace(/[;/]/g, '.')
  return checked(decodeName(Buffer.from(text, 'latin1')), 'directory record name', place)
}

/**
 * A Joliet name: no version, no dots at the end, as Linux shows it. A half of a surrogate pair, which is left where a
 * name was cut to 64 units, becomes U+FFFD.
 *
 * @param bytes  UTF-16, big-endian
 * @throws CORRUPT
 * @see linux fs/isofs/joliet.c, get_joliet_filename
 */
export const jolietName = (bytes: Uint8Array, place: Place): string => {
  if (bytes.length % 2 !== 0)
    throw corrupt({
      device: place.device,
      offset: place.base,
      field: 'Joliet name_len',
      expected: 'an even number',
      found: bytes.length,
    })
  const text = utf16(bytes).toWellFormed()
  const plain = text.length > 2 && text.endsWith(';1') ? text.slice(0, -2) : text
  return checked(plain.length > 1 ? plain[0] + plain.slice(1).replace(/\.+$/, '') : plain, 'Joliet name', place)
}

/** The text of UTF-16 big-endian bytes. */
export const utf16 = (bytes: Uint8Array): string => Buffer.from(bytes).swap16().toString('utf16le')
