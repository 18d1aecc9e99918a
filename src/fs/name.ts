import { assert } from '../error.js'

/*
 * Filesystems of Linux hold names of bytes, mostly UTF-8. A byte that is part of no UTF-8 sequence becomes the lone
 * surrogate U+DC80 to U+DCFF (as Python's surrogateescape), so that each name has one string and comes back byte for byte.
 */

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const ESCAPE = 0xdc00

/** A name as a string from which `encodeName` makes the same bytes. */
export const decodeName = (bytes: Uint8Array): string => {
  try {
    return strict.decode(bytes)
  } catch {
    return decodeBroken(bytes)
  }
}

const sequenceLength = (first: number): number =>
  first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0

const decodeBroken = (bytes: Uint8Array): string => {
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes[at]!)
    const sequence = bytes.subarray(at, at + length)
    try {
      if (length === 0 || sequence.length < length) throw new RangeError('no sequence')
      text += strict.decode(sequence)
      at += length
    } catch {
      text += String.fromCharCode(ESCAPE + bytes[at]!)
      at++
    }
  }
  return text
}

const isEscape = (unit: number): boolean => unit >= 0xdc80 && unit <= 0xdcff

/** The bytes of a name that `decodeName` gave, or UTF-8 of any other well-formed string. */
export const encodeName = (name: string): Uint8Array => {
  if (name.isWellFormed()) return Buffer.from(name)
  const parts: Uint8Array[] = []
  // by code points: a lone surrogate comes alone
  for (const character of name) {
    const unit = character.charCodeAt(0)
    if (character.length === 2 || unit < 0xd800 || unit > 0xdfff) parts.push(Buffer.from(character))
    else {
      assert(isEscape(unit), `a name with the surrogate ${unit.toString(16)}`)
      parts.push(Uint8Array.of(unit - ESCAPE))
    }
  }
  return Buffer.concat(parts)
}

/** A name or path for a terminal or a message: control characters, DEL and escaped bytes as `\\x1b`, backslashes doubled where any is. */
export const printableName = (name: string): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  const unprintable = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/
  const characters = [...name]
  if (!characters.some(c => c.length === 1 && unprintable.test(c))) return name
  return characters
    .map(c => {
      if (c === '\\') return '\\\\'
      if (c.length > 1 || !unprintable.test(c)) return c
      const unit = c.charCodeAt(0)
      return isEscape(unit)
        ? `\\x${(unit - ESCAPE).toString(16)}`
        : unit < 0x100
          ? `\\x${unit.toString(16).padStart(2, '0')}`
          : `\\u${unit.toString(16)}`
    })
    .join('')
}
