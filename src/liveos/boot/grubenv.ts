import { LiveError } from '../../error.js'
import { applyEdits, bytesOf, checkedText, linesOf, type Span, stored, textOf } from './text.js'

/** A variable that GRUB keeps in a file. */
export interface GrubVariable extends Span {
  readonly name: string
  /** backslashes resolved */
  readonly value: string
}

/** GRUB's environment block: a signature, variables a line, and `#` up to 1024 bytes. */
export interface GrubEnvironmentBlock {
  /** the file, one character a byte */
  readonly text: string
  /** the signature stands at its front, and the size is a multiple of 1024 */
  readonly valid: boolean
  readonly variables: readonly GrubVariable[]
}

const SIGNATURE = '# GRUB Environment Block\n'
const BLOCK = 1024

/** Parses a grubenv; text of one character a byte. @see grub grub-core/lib/envblk.c */
export const parseGrubEnvironment = (text: string): GrubEnvironmentBlock => {
  const variables: GrubVariable[] = []
  for (let at = 0; at < text.length; ) {
    // A backslash takes the character behind it along, be it a line's end.
    let end = at
    while (end < text.length && text[end] !== '\n') end += text[end] === '\\' ? 2 : 1
    end = Math.min(text.length, end + 1)
    const line = text.slice(at, end).replace(/\n$/, '')
    const equals = line.indexOf('=')
    if (!line.startsWith('#') && equals > 0)
      variables.push({
        start: at,
        end,
        name: line.slice(0, equals),
        value: line.slice(equals + 1).replace(/\\([\s\S])/g, '$1'),
      })
    at = end
  }
  return { text, valid: text.startsWith(SIGNATURE) && text.length > 0 && text.length % BLOCK === 0, variables }
}

/** The same from bytes. */
export const parseGrubEnv = (bytes: Uint8Array): GrubEnvironmentBlock => parseGrubEnvironment(textOf(bytes))

/** The bytes of the block, the same that were parsed. */
export const printGrubEnv = (block: GrubEnvironmentBlock): Uint8Array => bytesOf(block.text)

/**
 * The block with a variable set or, without a value, taken out. Its size stays, since GRUB writes it in place.
 *
 * @throws USAGE     no name or value for it; NO_SPACE  the block is full; CORRUPT  it is no environment block
 */
export const setGrubVariable = (
  block: GrubEnvironmentBlock,
  name: string,
  value: string | undefined,
): GrubEnvironmentBlock => {
  if (!block.valid)
    throw new LiveError('CORRUPT', 'the grubenv has no signature, or is no multiple of 1024 bytes long', {
      device: 'grubenv',
      offset: 0,
      field: 'signature',
      expected: SIGNATURE.trim(),
      found: linesOf(block.text.slice(0, 64)).length === 0 ? '' : 'something else',
    })
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw new LiveError('USAGE', `${name} is no name of a variable`, { name })
  const line = value === undefined ? '' : `${name}=${stored(checkedText(value, name)).replace(/[\\]/g, '\\$&')}\n`
  const known = block.variables.filter(variable => variable.name === name)
  let padding = block.text.length
  while (block.text[padding - 1] === '#') padding--
  const [first, ...rest] = known
  // Behind the signature there may be comments; a variable stands before the padding.
  const at = Math.max(padding, SIGNATURE.length)
  const edits = rest.map(variable => ({ start: variable.start, end: variable.end, text: '' }))
  if (first) edits.push({ start: first.start, end: first.end, text: line })
  else edits.push({ start: at, end: at, text: line })
  const content = applyEdits(block.text.slice(0, at), edits)
  if (content.length > block.text.length)
    throw new LiveError('NO_SPACE', `the grubenv of ${block.text.length} bytes has no room for ${name}`, { name })
  return parseGrubEnvironment(content + '#'.repeat(block.text.length - content.length))
}
