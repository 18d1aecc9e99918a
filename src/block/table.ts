import type { LiveError } from '../error.js'
import { parseTarget, targetWords } from './table-arguments.js'
import type { TableTarget } from './table-target.js'
import { MAX_SECTORS, tableWord, tableWords, wrongTable } from './table-words.js'

/*
 * The tables of device-mapper, as dmsetup reads and prints them. All numbers are sectors of 512 bytes.
 *
 *   [<name>: ]<start> <length> linear          <device> <start>
 *                              zero
 *                              error
 *                              snapshot        <origin> <store device> P|PO|N <chunk size> [<count> <feature>...]
 *                              snapshot-merge  the same
 *                              snapshot-origin <device>
 *                              mirror          <log> <count> <log argument>... <count> <device> <start>... [<count> <feature>...]
 *                                log core: <region size> [sync|nosync]     log disk: <device> <region size> [sync|nosync]
 *
 * The name is there in what `dmsetup table` prints of several devices. Lines begin where the one before ends, the first at 0.
 */

/** A line of a table: sectors of the device, and what they are. */
export type TableLine<D = string> = TableTarget<D> & {
  /** sectors from the start of the device */
  readonly startSector: number
  readonly sectorCount: number
}

/** A device of device-mapper with its table; one without lines was made and has none loaded. */
export interface NamedTable<D = string> {
  readonly name: string
  readonly lines: readonly TableLine<D>[]
}

/** What device-mapper calls devices at most, NUL left out. @see linux include/uapi/linux/dm-ioctl.h, DM_NAME_LEN */
const MAX_NAME = 127

const parseLine = (text: string, where: string, number: number, before: TableLine | undefined): TableLine => {
  const words = tableWords(text, where, number)
  const startSector = words.sector('start')
  const end = before ? before.startSector + before.sectorCount : 0
  if (startSector !== end) {
    const expected = before ? `${end}, where the line before ends` : '0 in the first line'
    throw words.wrong('start', expected, `${startSector}${startSector < end ? ' (they overlap)' : ''}`)
  }
  const sectorCount = words.number(
    'length',
    `1 to ${MAX_SECTORS - startSector} sectors`,
    count => count > 0 && startSector + count <= MAX_SECTORS,
  )
  return { startSector, sectorCount, ...parseTarget(words, sectorCount) }
}

/** The lines that are not empty, each with its number from 1. */
const linesOf = (text: string): readonly (readonly [line: string, number: number])[] =>
  text
    .split('\n')
    .map((line, index) => [line, index + 1] as const)
    .filter(([line]) => line.trim() !== '')

/**
 * Reads the table of one device.
 *
 * @param where  what the table is called in messages
 * @throws USAGE  a line is cut short, wrong, or does not begin where the one before ends; UNSUPPORTED  another target
 * @see linux Documentation/admin-guide/device-mapper; dmsetup(8), TABLE FORMAT
 */
export const parseTable = (text: string, where = 'table'): readonly TableLine[] => {
  const lines: TableLine[] = []
  for (const [line, number] of linesOf(text))
    if (!/^\s*#/.test(line)) lines.push(parseLine(line, where, number, lines.at(-1)))
  if (lines.length === 0) throw wrongTable(where, undefined, 'number of lines', 'at least one', 0)
  return lines
}

/**
 * Reads what `dmsetup table` prints of all devices, each line with the name of its device in front. There are no comments in it.
 *
 * @param where  what the text is called in messages
 * @throws USAGE  as `parseTable`, a line without a name, or a device whose lines stand apart; UNSUPPORTED  another target
 */
export const parseTables = (text: string, where = 'tables'): readonly NamedTable[] => {
  if (text.trim() === 'No devices found') return []
  const tables = new Map<string, TableLine[]>()
  let last: string | undefined
  for (const [line, number] of linesOf(text)) {
    const wrong = (field: string, expected: string, found: string): LiveError =>
      wrongTable(where, number, field, expected, found)
    // dmsetup prints names as they are, and they may have blanks, colons and # in them.
    const [, name, rest] = /^(.+):\s*()$/s.exec(line) ?? /^(.+):\s+(\d+\s+\d+\s+[a-z].*)$/s.exec(line) ?? []
    if (name === undefined) throw wrong('line', 'the name of a device, a colon, and a line of its table', line)
    if (name.length > MAX_NAME) throw wrong('name', `at most ${MAX_NAME} characters`, name)
    const known = tables.get(name)
    if (known && (last !== name || known.length === 0 || !rest))
      throw wrong('name', 'a device that has not come before', name)
    const lines = known ?? []
    tables.set(name, lines)
    last = name
    if (rest) lines.push(parseLine(rest, where, number, lines.at(-1)))
  }
  return [...tables].map(([name, lines]) => ({ name, lines }))
}

/** A line as `dmsetup table` prints it, with a blank behind a target without arguments. @throws USAGE  as `printTable` */
const printLine = (line: TableLine): string => {
  const place = `the ${line.type} line at sector ${line.startSector}`
  const words = targetWords(line).map(word => tableWord(word, place))
  return `${line.startSector} ${line.sectorCount} ${line.type} ${words.join(' ')}`
}

/**
 * The lines of a table for dmsetup, each ended by a newline.
 *
 * @throws USAGE  a device has a name that dmsetup can't read in a table
 */
export const printTable = (lines: readonly TableLine[]): string => lines.map(line => `${printLine(line)}\n`).join('')

/** The same with names in front, byte for byte as `dmsetup table` prints it. @throws USAGE  as `printTable` */
export const printTables = (tables: readonly NamedTable[]): string =>
  tables
    .map(({ name, lines }) =>
      lines.length === 0 ? `${name}: \n` : lines.map(line => `${name}: ${printLine(line)}\n`).join(''),
    )
    .join('')
