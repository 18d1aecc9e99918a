import { LiveError } from '../../error.js'
import { decodeName, encodeName } from '../../fs/name.js'

/*
 * A boot configuration is kept as a string of one character a byte (latin1), so that nothing is lost: an offset in the
 * text is an offset in the file. What a person reads is `shown`, what is written into the text is `stored`.
 */

/** A half-open range of characters of a boot text. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** A range of a boot text, and what stands there afterwards. */
export interface Edit extends Span {
  readonly text: string
}

/** Something wrong with a text that did not stop the parser. */
export interface Problem {
  /** byte in the file */
  readonly offset: number
  readonly message: string
}

/** The bytes of a configuration as a text, one character a byte. */
export const textOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

/** The bytes of such a text. */
export const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'))

/** A piece of such a text for people and programs: its UTF-8 decoded, other bytes kept as `decodeName` does. */
export const shown = (text: string): string => decodeName(Buffer.from(text, 'latin1'))

/** The reverse of `shown`. */
export const stored = (value: string): string => textOf(encodeName(value))

/** A text after edits, which may stand in any order but must not overlap. Insertions at one place keep their order. */
export const applyEdits = (text: string, edits: readonly Edit[]): string => {
  const parts: string[] = []
  let at = 0
  for (const edit of [...edits].sort((a, b) => a.start - b.start || a.end - b.end)) {
    parts.push(text.slice(at, edit.start), edit.text)
    at = edit.end
  }
  parts.push(text.slice(at))
  return parts.join('')
}

/**
 * Gives back a word or line that is to be written into a configuration.
 *
 * @throws USAGE  it holds a control character (such as a line break, which would start another directive) or is no text
 */
export const checkedText = (value: string, what: string): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  if (!/[\u0000-\u001f\u007f]/.test(value) && value.isWellFormed()) return value
  throw new LiveError('USAGE', `${what} holds a character that a boot configuration can't hold`, { what, value })
}

/** The line break that a text uses at `offset` or before it, else the first one after it. */
export const lineBreakOf = (text: string, offset = 0): string => {
  const before = offset > 0 ? text.lastIndexOf('\n', offset - 1) : -1
  const at = before >= 0 ? before : text.indexOf('\n', offset)
  return at > 0 && text[at - 1] === '\r' ? '\r\n' : '\n'
}

/** The lines of a text, each with its line break. */
export const linesOf = (text: string): Span[] => {
  const lines: Span[] = []
  for (let start = 0; start < text.length; ) {
    const at = text.indexOf('\n', start)
    const end = at < 0 ? text.length : at + 1
    lines.push({ start, end })
    start = end
  }
  return lines
}
