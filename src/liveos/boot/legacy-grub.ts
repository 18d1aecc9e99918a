import { LiveError } from '../../error.js'
import { type ArgumentChange, argumentEdits } from './arguments.js'
import type { BootConfig } from './config.js'
import { draftOf, type EntryDraft, finishEntry, MAX_ENTRIES } from './entry.js'
import { joinPath } from './follow.js'
import { withoutDevice } from './grub-expand.js'
import type { BootReader } from './reader.js'
import { argumentSlots } from './syslinux-edit.js'
import { applyEdits, bytesOf, lineBreakOf, linesOf, type Span, shown, textOf } from './text.js'

/** A line of a grub.conf: a command, and what stands behind it or behind its `=`. */
export interface LegacyGrubLine extends Span {
  /** lower case; empty for a comment or blank line */
  readonly command: string
  readonly word: Span
  /** white space around it left out */
  readonly value: Span
}

/** A `title` and the lines up to the next one. */
export interface LegacyGrubEntry {
  readonly title: string
  /** the title line first */
  readonly lines: readonly LegacyGrubLine[]
}

/** A configuration of GRUB legacy: grub.conf, menu.lst, or the BOOT*.conf of Fedora 12 to 17. */
export interface LegacyGrubConfig {
  /** the file, one character a byte */
  readonly text: string
  readonly lines: readonly LegacyGrubLine[]
  readonly entries: readonly LegacyGrubEntry[]
}

/** Parses any text. @see grub-0.97 stage2/cmdline.c, skip_to */
export const parseLegacyGrub = (bytes: Uint8Array): LegacyGrubConfig => legacyGrubOf(textOf(bytes))

/** The same from a text of one character a byte. */
export const legacyGrubOf = (text: string): LegacyGrubConfig => {
  const entries: LegacyGrubEntry[] = []
  let open: LegacyGrubLine[] | undefined
  const lines = linesOf(text).map(span => {
    const content = text.slice(span.start, span.end).replace(/\r?\n$/, '')
    const end = span.start + content.length
    const found = /^([ \t]*)([^ \t=#][^ \t=]*)[ \t=]*/.exec(content)
    const start = span.start + (found?.[1]?.length ?? content.length)
    const from = found ? span.start + found[0].length : end
    let stop = end
    while (stop > from && (text[stop - 1] === ' ' || text[stop - 1] === '\t')) stop--
    const word = { start, end: start + (found?.[2]?.length ?? 0) }
    const line = { ...span, command: (found?.[2] ?? '').toLowerCase(), word, value: { start: from, end: stop } }
    if (line.command === 'title') {
      open = []
      entries.push({ title: shown(text.slice(from, stop)), lines: open })
    }
    open?.push(line)
    return line
  })
  return { text, lines, entries }
}

/** The bytes of a configuration, the same that were parsed. */
export const printLegacyGrub = (config: LegacyGrubConfig): Uint8Array =>
  bytesOf(config.lines.map(({ start, end }) => config.text.slice(start, end)).join(''))

/**
 * The configuration with other kernel arguments for an entry.
 *
 * @throws USAGE  no kernel argument; NOT_FOUND  the entry starts no kernel
 */
export const changeLegacyGrubArguments = (
  config: LegacyGrubConfig,
  entry: LegacyGrubEntry,
  changes: readonly ArgumentChange[],
): LegacyGrubConfig => {
  const line = entry.lines.findLast(({ command }) => command === 'kernel')
  const [kernel, ...slots] = line ? kernelWords(config, line) : []
  if (!kernel) throw new LiveError('NOT_FOUND', `the entry ${entry.title} starts no kernel`, { entry: entry.title })
  return legacyGrubOf(applyEdits(config.text, argumentEdits(slots, kernel.end, changes, entry.title)))
}

/** The words behind `kernel` without its own options such as `--type=`: the path first. */
const kernelWords = (config: LegacyGrubConfig, line: LegacyGrubLine) => {
  const words = argumentSlots(config.text, line.value.start, line.value.end)
  return words.slice(words.findIndex(({ argument }) => !argument.raw.startsWith('--')))
}

/** The configuration with another timeout in seconds, or another default by its number. @throws USAGE */
export const setLegacyGrub = (
  config: LegacyGrubConfig,
  command: 'timeout' | 'default',
  value: number,
): LegacyGrubConfig => {
  if (!Number.isSafeInteger(value) || value < 0) throw new LiveError('USAGE', `${value} is no ${command}`, { value })
  const first = config.entries[0]?.lines[0]
  const line = config.lines.findLast(known => known.command === command && (!first || known.start < first.start))
  if (line && line.value.end > line.value.start)
    return legacyGrubOf(applyEdits(config.text, [{ ...line.value, text: String(value) }]))
  const ending = lineBreakOf(config.text)
  return legacyGrubOf(applyEdits(config.text, [{ start: 0, end: 0, text: `${command}=${value}${ending}` }]))
}

/** What a menu of GRUB legacy says. */
export const readLegacyGrubMenu = async (
  reader: BootReader,
  path: string,
): Promise<Pick<BootConfig, 'timeout' | 'defaultName' | 'entries'>> => {
  const config = legacyGrubOf((await reader.read(path)) ?? '')
  const textAt = ({ start, end }: Span): string => shown(config.text.slice(start, end))
  const first = config.entries[0]?.lines[0]?.start ?? config.text.length
  const top = (command: string): string | undefined => {
    const line = config.lines.findLast(known => known.command === command && known.start < first)
    return line && textAt(line.value)
  }
  const pathOf = (text: string): string => joinPath('/', withoutDevice(text))
  const drafts: EntryDraft[] = []
  if (config.entries.length > MAX_ENTRIES)
    reader.tell(
      'BOOT_TOO_MUCH',
      'warning',
      path,
      `${path} has more than ${MAX_ENTRIES} entries; the rest is not listed`,
    )
  for (const { title, lines } of config.entries.slice(0, MAX_ENTRIES)) {
    const draft = draftOf({ path, offset: lines[0]!.start }, title)
    draft.id = String(drafts.length)
    for (const line of lines.slice(1)) {
      const value = textAt(line.value)
      if (line.command !== '') draft.commands.push(line.command)
      if (line.command === 'root') draft.elsewhere = true
      if (line.command === 'kernel') {
        const [kernel, ...rest] = kernelWords(config, line)
        if (kernel) draft.kernel = pathOf(kernel.argument.raw)
        if (kernel?.argument.raw.startsWith('(')) draft.elsewhere = true
        draft.commandLine = rest.map(({ argument }) => argument.raw).join(' ')
      } else if (line.command === 'initrd') draft.initrds.push(...value.split(/\s+/).filter(Boolean).map(pathOf))
      else if (line.command === 'configfile' || (line.command === 'chainloader' && !/\+\d+$/.test(value)))
        draft.target = pathOf(value)
    }
    drafts.push(draft)
  }
  const defaultName = top('default')
  const chosen = defaultName !== undefined && /^\d+$/.test(defaultName) ? Number(defaultName) : 0
  const entry = drafts[chosen]
  if (entry) entry.isDefault = true
  else if (drafts.length > 0)
    reader.tell('BOOT_DEFAULT_UNKNOWN', 'warning', path, `the default ${defaultName} is no entry`)
  const timeout = top('timeout')
  const entries = []
  for (const draft of drafts) entries.push(await finishEntry(reader, draft))
  return { timeout: timeout !== undefined && /^\d+$/.test(timeout) ? Number(timeout) : undefined, defaultName, entries }
}
