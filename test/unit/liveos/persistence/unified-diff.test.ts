import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { unifiedDiff } from '../../../../src/liveos/persistence/unified-diff.js'

/** Applies a diff as `patch` would, line by line; throws where it does not fit. */
const applied = (before: string, diff: string): string => {
  const lines = before.match(/[^\n]*\n|[^\n]+$/g) ?? []
  const out: string[] = []
  let at = 0
  const rows = diff.match(/[^\n]*\n/g) ?? []
  for (const [n, row] of rows.entries()) {
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@/.exec(row)
    if (hunk) {
      const start = Number(hunk[1]) - (hunk[2] === '0' ? 0 : 1)
      while (at < start) out.push(lines[at++]!)
      continue
    }
    if (/^(---|\+\+\+) [ab]\//.test(row) || row.startsWith('\\')) continue
    const text = rows[n + 1]?.startsWith('\\') ? row.slice(1, -1) : row.slice(1)
    if (row[0] === '+') out.push(text)
    else {
      expect(lines[at]).toBe(text)
      if (row[0] === ' ') out.push(text)
      at++
    }
  }
  return [...out, ...lines.slice(at)].join('')
}

describe('unifiedDiff', () => {
  it('is empty where nothing was changed', () => {
    expect(unifiedDiff('/a', 'x\n', 'x\n')).toBe('')
  })

  it('names the file and shows three lines around', () => {
    const before = 'a\nb\nc\nd\ne\nf\ng\nh\n'
    expect(unifiedDiff('/boot/grub.cfg', before, before.replace('e', 'E'))).toBe(
      '--- a/boot/grub.cfg\n+++ b/boot/grub.cfg\n@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n',
    )
  })

  it('tells of a last line without its break', () => {
    expect(unifiedDiff('a', 'x', 'x\n')).toBe('--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n')
  })

  it('gives the second text from the first, whatever they are', () => {
    const text = fc
      .array(fc.constantFrom('a\n', 'b\n', 'c\r\n', 'd', '\n'), { maxLength: 30 })
      .map(lines => lines.join(''))
    fc.assert(
      fc.property(text, text, (before, after) => {
        expect(applied(before, unifiedDiff('f', before, after))).toBe(after)
      }),
      { numRuns: 500 },
    )
  })
})
