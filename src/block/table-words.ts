import { LiveError } from '../error.js'
import { SECTOR } from './snapshot/layout.js'

/** The last sector whose bytes can still be counted exactly. */
export const MAX_SECTORS = Math.floor(Number.MAX_SAFE_INTEGER / SECTOR)

/** The words of a line of a table, taken one after another. */
export interface TableWords {
  /** such as `table of live-rw, line 2` */
  readonly place: string
  /** @throws USAGE  there is none left */
  take(field: string, expected: string): string
  /** @throws USAGE  it is none of them */
  oneOf<T extends string>(field: string, known: readonly T[]): T
  /** A whole number. @throws USAGE  also where `accepts` says no */
  number(field: string, expected: string, accepts: (number: number) => boolean): number
  /** A sector, or how many. @throws USAGE */
  sector(field: string): number
  atEnd(): boolean
  /** @throws USAGE  there is a word left, behind `what` */
  end(what: string): void
  /** The error of a word that can't be right. */
  wrong(field: string, expected: string, found: string | number): LiveError
}

/** The error of something in a table that can't be right. `line` counts from 1. */
export const wrongTable = (
  where: string,
  line: number | undefined,
  field: string,
  expected: string,
  found: string | number,
): LiveError => {
  const place = line === undefined ? where : `${where}, line ${line}`
  const shown = typeof found === 'string' && found.length > 80 ? `${found.slice(0, 80)}…` : found
  return new LiveError('USAGE', `${place}: ${field} is ${JSON.stringify(shown)}, expected ${expected}`, {
    table: where,
    ...(line !== undefined && { line }),
    field,
    expected,
    found: shown,
  })
}

/**
 * Splits a line as dmsetup and the kernel do: at blanks, a backslash taking the next character as it is, nothing from `#` on.
 *
 * @see linux drivers/md/dm-table.c, dm_split_args
 */
const split = (text: string): readonly string[] => {
  const words: string[] = []
  const [before = ''] = text.trimEnd().split('#', 1)
  let word: string | undefined
  for (let at = 0; at < before.length; at++) {
    const character = before[at]!
    if (character === '\\' && at + 1 < before.length) word = (word ?? '') + before[++at]!
    else if (!/\s/.test(character)) word = (word ?? '') + character
    else if (word !== undefined) {
      words.push(word)
      word = undefined
    }
  }
  if (word !== undefined) words.push(word)
  return words
}

const isPlain = (word: string): boolean => /^[\x20-\x7e]+$/.test(word)

/** The words of a line. @throws USAGE  one holds other than printable ASCII, which the kernel would split elsewhere */
export const tableWords = (text: string, where: string, line: number): TableWords => {
  const words = split(text)
  const wrong = (field: string, expected: string, found: string | number): LiveError =>
    wrongTable(where, line, field, expected, found)
  const odd = words.find(word => !isPlain(word))
  if (odd !== undefined) throw wrong('word', 'printable ASCII', odd)
  let next = 0
  const take = (field: string, expected: string): string => {
    const word = words[next]
    if (word === undefined) throw wrong(field, expected, 'missing')
    next++
    return word
  }
  const number = (field: string, expected: string, accepts: (number: number) => boolean): number => {
    const word = take(field, expected)
    const value = /^\d{1,20}$/.test(word) ? Number(word) : Number.NaN
    if (!Number.isSafeInteger(value) || !accepts(value)) throw wrong(field, expected, word)
    return value
  }
  return {
    place: `${where}, line ${line}`,
    take,
    oneOf(field, known) {
      const word = take(field, known.join(' or '))
      const found = known.find(each => each === word)
      if (found === undefined) throw wrong(field, known.join(' or '), word)
      return found
    },
    number,
    sector: field => number(field, `a number of sectors up to ${MAX_SECTORS}`, value => value <= MAX_SECTORS),
    atEnd: () => next === words.length,
    end(what) {
      if (next < words.length) throw wrong(`what follows ${what}`, 'the end of the line', words[next]!)
    },
    wrong,
  }
}

/**
 * A word as it stands in a line.
 *
 * @throws USAGE  dmsetup could not read it: `#` begins a comment wherever it stands, and blanks at the end of a line go
 */
export const tableWord = (word: string | number, where: string): string => {
  const text = String(word)
  if (!isPlain(text) || text.includes('#') || text.endsWith(' '))
    throw wrongTable(where, undefined, 'word', 'printable ASCII without # and without a blank at the end', text)
  return text.replace(/[ \\]/g, '\\$&')
}
