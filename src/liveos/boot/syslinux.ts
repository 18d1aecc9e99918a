import { bytesOf, linesOf, type Span, shown, textOf } from './text.js'

/** A line of a SYSLINUX configuration, its line break included. */
export interface SyslinuxLine extends Span {
  readonly kind: 'directive' | 'comment' | 'blank' | 'text'
  /** lower case; those of menus with both words, such as `menu label`; empty where there is none */
  readonly keyword: string
  /** where the keyword begins and ends */
  readonly word: Span
  /** what the directive says, white space around it left out */
  readonly value: Span
}

/** A LABEL and the directives up to the next label or menu. */
export interface SyslinuxLabel {
  readonly name: string
  /** the LABEL line first */
  readonly lines: readonly SyslinuxLine[]
}

/** The configuration of isolinux, syslinux, extlinux or pxelinux. The lines lie end to end and make up the text. */
export interface SyslinuxConfig {
  /** the file, one character a byte */
  readonly text: string
  readonly lines: readonly SyslinuxLine[]
  readonly labels: readonly SyslinuxLabel[]
}

// The menu takes every byte up to the space as white space; a line ends for it at CR or NUL as well.
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const LINE_END = /[\u0000\r\n]/
const isSpace = (text: string, at: number): boolean => text.charCodeAt(at) <= 0x20

/** Words that end the label before them. */
const BETWEEN_LABELS = ['label', 'menu separator', 'menu begin', 'menu end']

const wordAt = (text: string, from: number, end: number): Span => {
  let start = from
  while (start < end && isSpace(text, start)) start++
  let stop = start
  while (stop < end && !isSpace(text, stop)) stop++
  return { start, end: stop }
}

const parseLine = (text: string, line: Span, inText: boolean): SyslinuxLine => {
  const piece = text.slice(line.start, line.end)
  const length = piece.search(LINE_END)
  const end = length < 0 ? line.end : line.start + length
  const first = wordAt(text, line.start, end)
  const name = text.slice(first.start, first.end).toLowerCase()
  const nothing: Span = { start: end, end }
  const made = (kind: SyslinuxLine['kind'], keyword: string, word: Span): SyslinuxLine => {
    let start = word.end
    while (start < end && isSpace(text, start)) start++
    let stop = end
    while (stop > start && isSpace(text, stop - 1)) stop--
    return { ...line, kind, keyword, word, value: start < stop ? { start, end: stop } : nothing }
  }
  if (inText) return name === 'endtext' ? made('directive', name, first) : made('text', '', nothing)
  if (name === '') return made('blank', '', nothing)
  if (name.startsWith('#')) return made('comment', '', nothing)
  if (name !== 'menu') return made('directive', name, first)
  const second = wordAt(text, first.end, end)
  const word = second.end > second.start ? { start: first.start, end: second.end } : first
  return made('directive', `menu ${text.slice(second.start, second.end).toLowerCase()}`, word)
}

/** Parses any text: what is no directive of SYSLINUX stays a line with a keyword of its own. @see syslinux com32/menu/readconfig.c */
export const parseSyslinux = (bytes: Uint8Array): SyslinuxConfig => syslinuxOf(textOf(bytes))

/** The same from a text of one character a byte. */
export const syslinuxOf = (text: string): SyslinuxConfig => {
  const lines: SyslinuxLine[] = []
  const labels: SyslinuxLabel[] = []
  let open: SyslinuxLine[] | undefined
  let inText = false
  for (const span of linesOf(text)) {
    const line = parseLine(text, span, inText)
    lines.push(line)
    if (line.keyword === 'text') inText = true
    else if (line.keyword === 'endtext') inText = false
    if (BETWEEN_LABELS.includes(line.keyword)) open = undefined
    if (line.keyword === 'label') {
      open = []
      labels.push({ name: shown(text.slice(line.value.start, line.value.end)), lines: open })
    }
    if (line.kind === 'directive') open?.push(line)
  }
  return { text, lines, labels }
}

/** The bytes of a configuration, the same that were parsed. */
export const printSyslinux = (config: SyslinuxConfig): Uint8Array =>
  bytesOf(config.lines.map(({ start, end }) => config.text.slice(start, end)).join(''))

/** What a directive says, as it stands in the file. */
export const syslinuxValue = (config: SyslinuxConfig, line: SyslinuxLine): string =>
  config.text.slice(line.value.start, line.value.end)

/** Directives that name what a label starts. */
export const KERNEL_KEYWORDS: readonly string[] = [
  'kernel',
  'linux',
  'boot',
  'bss',
  'pxe',
  'fdimage',
  'comboot',
  'com32',
  'config',
  'localboot',
]
