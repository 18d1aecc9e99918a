import { createHash } from 'node:crypto'
import type { FolderTraits } from '../host/folder.js'

/** Bytes of a name on nearly every filesystem of Linux. */
const MAX_NAME = 255
const FAT_RESERVED = new Set([...'"*/:<>?\\|'].map(character => character.charCodeAt(0)))
const [DOT, SPACE] = [0x2e, 0x20]

/** A name on the target, and what was changed to make it one. */
export interface HostName {
  readonly name: Uint8Array
  readonly changed?: 'escaped' | 'shortened'
}

const isUtf8 = (bytes: Uint8Array): boolean => {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return true
  } catch {
    return false
  }
}

const escapeByte = (byte: number): string => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`

/** What Windows and the FAT family can't hold becomes `%3A` and the like. @see Microsoft, "Naming Files, Paths, and Namespaces" */
const escapeForFat = (name: Uint8Array): Uint8Array => {
  const whole = isUtf8(name)
  const parts = [...name].map((byte, index) => {
    const isLast = index === name.length - 1
    const bad = byte < 0x20 || byte === 0x7f || FAT_RESERVED.has(byte) || (byte >= 0x80 && !whole)
    return bad || (isLast && (byte === DOT || byte === SPACE)) ? escapeByte(byte) : String.fromCharCode(byte)
  })
  return Buffer.from(parts.join(''), 'latin1')
}

/** Cuts a name between characters and marks it with a hash of the whole, so that two long names stay two. */
const shorten = (name: Uint8Array): Uint8Array => {
  const mark = `~${createHash('sha256').update(name).digest('hex').slice(0, 8)}`
  let end = MAX_NAME - mark.length
  while (end > 0 && (name[end]! & 0xc0) === 0x80) end--
  return Buffer.concat([name.subarray(0, end), Buffer.from(mark)])
}

/** The name that a target can hold for a name of the source. */
export const hostName = (name: Uint8Array, kind: FolderTraits['kind']): HostName => {
  const escaped = kind === 'posix' ? name : escapeForFat(name)
  if (escaped.length > MAX_NAME) return { name: shorten(escaped), changed: 'shortened' }
  return escaped.length === name.length ? { name } : { name: escaped, changed: 'escaped' }
}
