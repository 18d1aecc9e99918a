import { LiveError } from '../../error.js'
import { type ArgumentChange, argumentEdits } from './arguments.js'
import { argumentSlots } from './syslinux-edit.js'
import { applyEdits, bytesOf, checkedText, lineBreakOf, linesOf, type Span, stored, textOf } from './text.js'

/** A line `key value` of a boot loader entry. */
export interface BlsLine extends Span {
  /** empty for a comment, a blank line and a line of anything else */
  readonly key: string
  /** where the key stands */
  readonly word: Span
  /** where the value stands, white space around it left out */
  readonly value: Span
}

/** A file of the Boot Loader Specification: an entry, or the loader's own loader.conf. */
export interface BlsFile {
  /** the file, one character a byte */
  readonly text: string
  readonly lines: readonly BlsLine[]
}

/** Parses any text; unknown keys stay. @see https://uapi-group.org/specifications/specs/boot_loader_specification/ */
export const parseBls = (bytes: Uint8Array): BlsFile => blsOf(textOf(bytes))

/** The same from a text of one character a byte. */
export const blsOf = (text: string): BlsFile => ({
  text,
  lines: linesOf(text).map(line => {
    const content = text.slice(line.start, line.end).replace(/\r?\n$/, '')
    const found = /^([ \t]*)([^ \t#][^ \t]*)[ \t]*/.exec(content)
    const end = line.start + content.length
    if (!found) return { ...line, key: '', word: { start: end, end }, value: { start: end, end } }
    const start = line.start + found[1]!.length
    let stop = end
    const from = line.start + found[0].length
    while (stop > from && (text[stop - 1] === ' ' || text[stop - 1] === '\t')) stop--
    const word = { start, end: start + found[2]!.length }
    return { ...line, key: found[2]!, word, value: { start: from, end: stop } }
  }),
})

/** The bytes of the file, the same that were parsed. */
export const printBls = (file: BlsFile): Uint8Array =>
  bytesOf(file.lines.map(({ start, end }) => file.text.slice(start, end)).join(''))

/** The values of a key in order, as they stand in the file. */
export const blsValues = (file: BlsFile, key: string): string[] =>
  file.lines.filter(line => line.key === key).map(({ value }) => file.text.slice(value.start, value.end))

/** A line behind the last one of these keys, else at the end. */
const addLine = (file: BlsFile, after: readonly string[], content: string): BlsFile => {
  const line = file.lines.findLast(known => after.includes(known.key)) ?? file.lines.at(-1)
  const at = line?.end ?? 0
  const ending = lineBreakOf(file.text, at)
  const complete = at === 0 || file.text[at - 1] === '\n'
  const text = complete ? `${content}${ending}` : `${ending}${content}`
  return blsOf(applyEdits(file.text, [{ start: at, end: at, text }]))
}

/**
 * An entry with other kernel arguments. Where it has several lines of options, an argument is changed where it stands, and a
 * new one goes to the last line.
 *
 * @throws USAGE  no kernel argument; REFUSED  it comes from a variable
 */
export const changeBlsArguments = (file: BlsFile, changes: readonly ArgumentChange[]): BlsFile => {
  const lines = file.lines.filter(line => line.key === 'options')
  const slots = lines.flatMap(({ value }) =>
    argumentSlots(file.text, value.start, value.end).map(slot => ({
      ...slot,
      editable: !slot.argument.raw.startsWith('$'),
    })),
  )
  const [first] = lines
  if (first) {
    const edits = argumentEdits(slots, first.word.end, changes, 'the entry')
    // Taking out the first word of a later line would reach back over the line break to the word before it.
    const kept = edits.map(edit => {
      const line = lines.find(({ value }) => edit.end > value.start && edit.end <= value.end)
      return edit.text === '' && line ? { ...edit, start: Math.max(edit.start, line.word.end) } : edit
    })
    return blsOf(applyEdits(file.text, kept))
  }
  const words = applyEdits('', argumentEdits([], 0, changes, 'the entry')).trim()
  return words === '' ? file : addLine(file, ['initrd', 'linux'], `options ${words}`)
}

/** The file with another value for a key of loader.conf, such as `timeout` or `default`. @throws USAGE */
export const setBlsValue = (file: BlsFile, key: string, value: string): BlsFile => {
  if (!/^[a-z][a-z-]*$/.test(key)) throw new LiveError('USAGE', `${key} is no key of a boot loader entry`, { key })
  const line = file.lines.findLast(known => known.key === key)
  const text = stored(checkedText(value, key))
  if (!line) return addLine(file, [], `${key} ${text}`)
  const place =
    line.value.start === line.value.end ? { start: line.word.end, end: line.end, gap: ' ' } : { ...line.value, gap: '' }
  const ending = place.gap === '' ? '' : file.text.slice(line.word.end, line.end).replace(/^[ \t]*/, '')
  return blsOf(applyEdits(file.text, [{ start: place.start, end: place.end, text: `${place.gap}${text}${ending}` }]))
}
