import { type ErrorCode, LiveError } from '../error.js'
import type { Finding } from '../ops/target.js'

/** Exit code of each error. @see docs/ARCHITECTURE.md */
export const EXIT: Readonly<Record<ErrorCode, number>> = {
  CORRUPT: 3,
  UNSUPPORTED: 3,
  USAGE: 2,
  NOT_FOUND: 2,
  OUT_OF_RANGE: 2,
  READ_ONLY: 2,
  REFUSED: 4,
  IO: 5,
  NO_SPACE: 5,
  CANCELLED: 130,
}
/** Done, and something needs attention. */
export const ATTENTION = 1

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']

/** Bytes for a person: `3.1 MiB`. */
export const size = (bytes: number): string => {
  let unit = 0
  let value = bytes
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit === 0 && bytes === 1 ? 'byte' : UNITS[unit]}`
}

/** Seconds for a person: `1 min 20 s`. */
export const duration = (seconds: number): string => {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

/** A size on the command line: `131072`, `128K`, `1M`. @throws USAGE */
export const parseSize = (text: string): number => {
  const match = /^(\d+)([kmg]?)(i?b)?$/i.exec(text)
  if (!match) throw new LiveError('USAGE', `${text} is no size: write 131072, 128K or 1M`)
  return Number(match[1]) * 1024 ** ['', 'k', 'm', 'g'].indexOf(match[2]!.toLowerCase())
}

/** A whole number on the command line. @throws USAGE */
export const parseNumber = (text: string): number => {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new LiveError('USAGE', `${text} is no number`)
  return Number(text)
}

/** Colours where the stream shows them and nobody asked for none. */
export interface Paint {
  bold(text: string): string
  good(text: string): string
  warn(text: string): string
  bad(text: string): string
  faint(text: string): string
}

/** @see https://no-color.org */
export const paint = (stream: { readonly isTTY?: boolean }): Paint => {
  const on = stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb'
  const code = (start: number, end: number) => (text: string) => (on ? `\u001b[${start}m${text}\u001b[${end}m` : text)
  return { bold: code(1, 22), good: code(32, 39), warn: code(33, 39), bad: code(31, 39), faint: code(2, 22) }
}

/** Control characters of names on a stick must not reach a terminal as they are. */
export const safe = (text: string): string =>
  text.replace(/\p{Cc}/gu, char => (char === '\n' ? char : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`))

/** Counts of bytes in a sentence get a size for a person before them. */
export const sized = (text: string): string =>
  text.replace(/(?<![\w.(-])(\d{4,16}) (bytes|free)\b/g, (_, digits: string, word: string) =>
    word === 'free' ? `${size(Number(digits))} free` : `${size(Number(digits))} (${digits} bytes)`,
  )

/** Findings, one or two lines each. */
export const findingLines = (findings: readonly Finding[], p: Paint): string[] =>
  findings.flatMap(({ severity, message, remedy }) => {
    const mark =
      severity === 'error' ? p.bad('error  ') : severity === 'warning' ? p.warn('warning') : p.faint('note   ')
    return [`${mark} ${safe(sized(message))}`, ...(remedy ? [`        → ${safe(remedy)}`] : [])]
  })

/** Rows of name and value, values in one column. */
export const rows = (pairs: readonly (readonly [string, string] | undefined)[]): string[] => {
  const shown = pairs.filter(pair => pair !== undefined)
  const width = Math.max(0, ...shown.map(([name]) => name.length))
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${safe(value)}`)
}

/** Where bytes that were compared came from. */
export const readFromWords = (from: 'medium' | 'page cache' | 'server'): string =>
  from === 'medium'
    ? 'read from the medium'
    : from === 'server'
      ? 'read from the server'
      : 'read through the page cache: there are no direct reads here'
