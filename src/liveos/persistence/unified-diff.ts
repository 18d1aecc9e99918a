import { linesOf, type Span } from '../boot/text.js'

const CONTEXT = 3
/** Cells of the table that finds what two texts share; beyond it all between is told as changed. */
const MAX_CELLS = 4_000_000

interface Line {
  readonly sign: ' ' | '-' | '+'
  readonly text: string
}

const textsOf = (text: string): string[] => linesOf(text).map(({ start, end }: Span) => text.slice(start, end))

/** The lines of both texts in order, by their longest common lines. */
const merged = (a: readonly string[], b: readonly string[]): Line[] => {
  const removed = a.map((text): Line => ({ sign: '-', text }))
  const added = b.map((text): Line => ({ sign: '+', text }))
  if (a.length === 0 || b.length === 0 || a.length * b.length > MAX_CELLS) return [...removed, ...added]
  const width = b.length + 1
  const common = new Uint32Array((a.length + 1) * width)
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i * width + j] =
        a[i] === b[j]
          ? common[(i + 1) * width + j + 1]! + 1
          : Math.max(common[(i + 1) * width + j]!, common[i * width + j + 1]!)
  const lines: Line[] = []
  let i = 0
  let j = 0
  while (i < a.length && j < b.length)
    if (a[i] === b[j]) {
      lines.push({ sign: ' ', text: a[i]! })
      i++
      j++
    } else if (common[(i + 1) * width + j]! >= common[i * width + j + 1]!) lines.push(removed[i++]!)
    else lines.push(added[j++]!)
  return [...lines, ...removed.slice(i), ...added.slice(j)]
}

const linesBetween = (before: string, after: string): Line[] => {
  const a = textsOf(before)
  const b = textsOf(after)
  let head = 0
  while (head < a.length && head < b.length && a[head] === b[head]) head++
  let tail = 0
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++
  const same = (text: string): Line => ({ sign: ' ', text })
  return [
    ...a.slice(0, head).map(same),
    ...merged(a.slice(head, a.length - tail), b.slice(head, b.length - tail)),
    ...a.slice(a.length - tail).map(same),
  ]
}

const printed = ({ sign, text }: Line): string =>
  text.endsWith('\n') ? `${sign}${text}` : `${sign}${text}\n\\ No newline at end of file\n`

const range = (start: number, count: number): string =>
  count === 1 ? `${start}` : `${count === 0 ? start - 1 : start},${count}`

/**
 * What was changed in a text, as `diff -u` prints and `patch` takes it; empty where nothing was.
 *
 * @param before  one character a byte, as boot configurations are kept; so is the result
 */
export const unifiedDiff = (path: string, before: string, after: string): string => {
  const lines = linesBetween(before, after)
  const changed = lines.flatMap(({ sign }, n) => (sign === ' ' ? [] : [n]))
  if (changed.length === 0) return ''
  const hunks: { start: number; end: number }[] = []
  for (const n of changed) {
    const last = hunks.at(-1)
    const start = Math.max(0, n - CONTEXT)
    const end = Math.min(lines.length, n + 1 + CONTEXT)
    if (last && start <= last.end) last.end = end
    else hunks.push({ start, end })
  }
  const name = path.replace(/^\/+/, '')
  let text = `--- a/${name}\n+++ b/${name}\n`
  const count = (from: number, to: number, sign: '-' | '+'): number =>
    lines.slice(from, to).filter(line => line.sign === ' ' || line.sign === sign).length
  for (const { start, end } of hunks) {
    const old = range(count(0, start, '-') + 1, count(start, end, '-'))
    const now = range(count(0, start, '+') + 1, count(start, end, '+'))
    text += `@@ -${old} +${now} @@\n${lines.slice(start, end).map(printed).join('')}`
  }
  return text
}
