import { LiveError } from '../../error.js'
import { type ArgumentChange, type ArgumentSlot, argumentEdits, parseArguments, printArguments } from './arguments.js'
import {
  KERNEL_KEYWORDS,
  type SyslinuxConfig,
  type SyslinuxLabel,
  type SyslinuxLine,
  syslinuxOf,
  syslinuxValue,
} from './syslinux.js'
import { applyEdits, checkedText, type Edit, lineBreakOf, shown, stored } from './text.js'

const last = (lines: readonly SyslinuxLine[], ...keywords: readonly string[]): SyslinuxLine | undefined =>
  lines.findLast(line => keywords.includes(line.keyword))

/** The arguments of a line of text, each with its place. */
export const argumentSlots = (text: string, start: number, end: number): ArgumentSlot[] => {
  let at = start
  return parseArguments(text.slice(start, end)).map(found => {
    const from = text.indexOf(found.raw, at)
    at = from + found.raw.length
    const [argument] = parseArguments(shown(found.raw))
    return { start: from, end: at, argument: argument ?? found, editable: true }
  })
}

const indentOf = (config: SyslinuxConfig, line: SyslinuxLine): string => config.text.slice(line.start, line.word.start)

/** A line behind another one, whose line break is made up where the file's last line lacks it. */
const lineAfter = (config: SyslinuxConfig, line: SyslinuxLine, content: string): Edit => {
  const ending = lineBreakOf(config.text, line.end)
  const complete = config.text.slice(line.start, line.end).endsWith('\n')
  return { start: line.end, end: line.end, text: complete ? `${content}${ending}` : `${ending}${content}` }
}

/**
 * The configuration with other kernel arguments for a label. A label without an APPEND of its own gets one that repeats
 * what it inherits.
 *
 * @param inherited  the APPEND that holds for labels without one
 * @throws USAGE  no kernel argument
 */
export const changeSyslinuxArguments = (
  config: SyslinuxConfig,
  label: SyslinuxLabel,
  changes: readonly ArgumentChange[],
  inherited = '',
): SyslinuxConfig => {
  const { text } = config
  const append = last(label.lines, 'append')
  if (append && syslinuxValue(config, append) !== '-') {
    const slots = argumentSlots(text, append.value.start, append.value.end)
    return syslinuxOf(applyEdits(text, argumentEdits(slots, append.word.end, changes, label.name)))
  }
  // The arguments are put together aside: there is nothing in the label yet that could be edited.
  const before = append ? '' : inherited
  const edits = argumentEdits(argumentSlots(before, 0, before.length), 0, changes, label.name)
  const words = printArguments(parseArguments(applyEdits(before, edits)))
  if (words === printArguments(parseArguments(before))) return config
  if (append) return syslinuxOf(applyEdits(text, [{ ...append.value, text: words }]))
  const place = last(label.lines, ...KERNEL_KEYWORDS) ?? label.lines[0]!
  const indent = place === label.lines[0] ? `${indentOf(config, place)}  ` : indentOf(config, place)
  return syslinuxOf(applyEdits(text, [lineAfter(config, place, `${indent}append ${words}`)]))
}

/** Directives outside labels and submenus. */
const topDirectives = (config: SyslinuxConfig): SyslinuxLine[] => {
  let depth = 0
  return config.lines.filter(line => {
    if (line.keyword === 'menu begin') depth++
    if (line.keyword === 'menu end') depth = Math.max(0, depth - 1)
    return line.kind === 'directive' && depth === 0
  })
}

/** A directive's value replaced, or the directive put before the first label where it is missing. */
const withDirective = (config: SyslinuxConfig, keyword: string, value: string): SyslinuxConfig => {
  const line = last(topDirectives(config), keyword)
  if (line) {
    const text = line.value.end > line.value.start ? value : ` ${value}`
    const place = line.value.end > line.value.start ? line.value : { start: line.word.end, end: line.word.end }
    return syslinuxOf(applyEdits(config.text, [{ ...place, text }]))
  }
  const first = config.lines.find(({ kind }) => kind === 'directive')
  const start = first?.start ?? config.text.length
  const ending = lineBreakOf(config.text, start)
  const gap = start > 0 && config.text[start - 1] !== '\n' ? ending : ''
  return syslinuxOf(applyEdits(config.text, [{ start, end: start, text: `${gap}${keyword} ${value}${ending}` }]))
}

/**
 * The configuration with another time before the default starts.
 *
 * @param seconds  undefined to wait for ever; SYSLINUX counts tenths, and its least time is one tenth
 * @throws USAGE  no time
 */
export const setSyslinuxTimeout = (config: SyslinuxConfig, seconds: number | undefined): SyslinuxConfig => {
  if (seconds !== undefined && !(seconds >= 0 && seconds <= 3590))
    throw new LiveError('USAGE', `${seconds} is no time in seconds from 0 to 3590`, { seconds })
  const tenths = seconds === undefined ? 0 : Math.max(1, Math.round(seconds * 10))
  return withDirective(config, 'timeout', String(tenths))
}

/** True for a value of DEFAULT that starts a menu, not a label. */
export const isMenuModule = (value: string): boolean =>
  /(^|\/)(vesa)?menu\.c32(\s|$)|\.c32(\s|$)|^gfxboot\b/i.test(value)

/**
 * The configuration with another default label, told to the menu (MENU DEFAULT) and to the prompt (DEFAULT) where they are used.
 *
 * @throws NOT_FOUND  there is no such label
 */
export const setSyslinuxDefault = (config: SyslinuxConfig, name: string): SyslinuxConfig => {
  checkedText(name, 'a label')
  const label = config.labels.find(known => known.name === name)
  if (!label) throw new LiveError('NOT_FOUND', `there is no label ${name}`, { label: name })
  const top = topDirectives(config)
  const direct = last(top, 'default')
  const onTimeout = last(top, 'ontimeout')
  const marks = config.lines.filter(({ keyword }) => keyword === 'menu default')
  const marked = last(label.lines, 'menu default')
  const edits: Edit[] = marks
    .filter(line => line !== marked)
    .map(line => ({ start: line.start, end: line.end, text: '' }))
  for (const line of [direct, onTimeout])
    if (line && line.value.end > line.value.start && !isMenuModule(syslinuxValue(config, line)))
      if (shown(syslinuxValue(config, line)) !== name) edits.push({ ...line.value, text: stored(name) })
  const menuOnly = !direct || isMenuModule(syslinuxValue(config, direct))
  if (!marked && (marks.length > 0 || menuOnly)) {
    const place = last(label.lines, 'menu label') ?? label.lines[0]!
    const indent = place === label.lines[0] ? `${indentOf(config, place)}  ` : indentOf(config, place)
    edits.push(lineAfter(config, place, `${indent}menu default`))
  }
  return syslinuxOf(applyEdits(config.text, edits))
}
