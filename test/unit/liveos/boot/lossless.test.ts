import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseBls, printBls } from '../../../../src/liveos/boot/bls.js'
import { grubCommands, parseGrub, printGrub } from '../../../../src/liveos/boot/grub.js'
import { lexGrub } from '../../../../src/liveos/boot/grub-lexer.js'
import { parseGrubEnv, printGrubEnv } from '../../../../src/liveos/boot/grubenv.js'
import { parseLegacyGrub, printLegacyGrub } from '../../../../src/liveos/boot/legacy-grub.js'
import { parseSyslinux, printSyslinux } from '../../../../src/liveos/boot/syslinux.js'
import { applyEdits, bytesOf, linesOf, shown, stored, textOf } from '../../../../src/liveos/boot/text.js'
import { bootFixture } from '../../../support/boot-media.js'
import { sameBytes } from '../../../support/outcome.js'

const FORMATS = {
  syslinux: (bytes: Uint8Array) => printSyslinux(parseSyslinux(bytes)),
  grub: (bytes: Uint8Array) => printGrub(parseGrub(bytes)),
  bls: (bytes: Uint8Array) => printBls(parseBls(bytes)),
  grubenv: (bytes: Uint8Array) => printGrubEnv(parseGrubEnv(bytes)),
  'grub legacy': (bytes: Uint8Array) => printLegacyGrub(parseLegacyGrub(bytes)),
}

/** Words of all formats, signs and bytes of any kind, so that parsers go deep. */
const junk = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        'label ',
        'LABEL x',
        'menu ',
        'menu begin ',
        'text help',
        'endtext',
        'append ',
        'kernel ',
        'include ',
        'title ',
        'if ',
        'then\n',
        'else\n',
        'elif ',
        'fi\n',
        'for x in ',
        'while ',
        'do\n',
        'done\n',
        'function f ',
        'menuentry ',
        '{',
        '}',
        ';',
        '"',
        "'",
        '$',
        '${',
        '}',
        '$x',
        '\\',
        '\n',
        '\r\n',
        '\\\n',
        '#',
        ' ',
        '\t',
        '=',
        'set a=',
        '[ ',
        ' ]',
        'options ',
        '\0',
        '(',
        ')',
        '<',
        '||',
        '&',
      ),
      fc.uint8Array({ maxLength: 6 }).map(bytes => textOf(bytes)),
    ),
    { maxLength: 60 },
  )
  .map(parts => bytesOf(parts.join('')))

describe('what is parsed prints as it was', () => {
  for (const [name, both] of Object.entries(FORMATS)) {
    it(`${name}: any bytes`, () => {
      fc.assert(
        fc.property(fc.oneof(junk, fc.uint8Array({ maxLength: 300 })), bytes => sameBytes(both(bytes), bytes)),
        { numRuns: 500 },
      )
    })
    it(`${name}: a configuration cut at every byte`, () => {
      const bytes = Buffer.from(bootFixture(name === 'syslinux' ? 'f36-isolinux.cfg' : 'f42-grub.cfg'))
      for (let end = 0; end <= bytes.length; end += 3) sameBytes(both(bytes.subarray(0, end)), bytes.subarray(0, end))
    })
  }

  it('CRLF, tabs, no last line break, Latin-1', () => {
    const bytes = Buffer.from(
      'DEFAULT linux\r\n\r\n\tLaBeL\t linux \r\n  MENU   LABEL  D\xe9marrer ^x\r\nAPPEND  a\t b',
      'latin1',
    )
    for (const both of Object.values(FORMATS)) sameBytes(both(bytes), bytes)
    const [label] = parseSyslinux(bytes).labels
    expect(label?.lines.map(({ keyword }) => keyword)).toEqual(['label', 'menu label', 'append'])
  })

  it('tokens of GRUB lie in order, and between them only blanks and comments', () => {
    fc.assert(
      fc.property(junk, bytes => {
        const text = textOf(bytes)
        let at = 0
        for (const { start, end } of lexGrub(text, [])) {
          expect(text.slice(at, start)).toMatch(/^(?:[ \t\r]|\\\r?\n|#[^\n]*)*$/)
          expect(end).toBeGreaterThan(start)
          at = end
        }
        expect(text.slice(at)).toMatch(/^(?:[ \t\r]|\\\r?\n|#[^\n]*)*$/)
      }),
      { numRuns: 500 },
    )
  })

  it('commands of GRUB lie inside their file and their words inside them', () => {
    fc.assert(
      fc.property(junk, bytes => {
        const script = parseGrub(bytes)
        for (const { start, end, words } of grubCommands(script.body))
          for (const word of words)
            expect(start <= word.start && word.end <= end && end <= script.text.length).toBe(true)
      }),
    )
  })
})

describe('texts', () => {
  it('bytes that are no UTF-8 come back', () => {
    fc.assert(fc.property(fc.uint8Array(), bytes => void expect(stored(shown(textOf(bytes)))).toBe(textOf(bytes))))
  })
  it('lines make up the text, edits only their places', () => {
    expect(linesOf('a\n\nb').map(({ start, end }) => [start, end])).toEqual([
      [0, 2],
      [2, 3],
      [3, 4],
    ])
    const edits = [
      { start: 3, end: 3, text: 'Y' },
      { start: 1, end: 2, text: '' },
      { start: 3, end: 3, text: 'Z' },
    ]
    expect(applyEdits('abcd', edits)).toBe('acYZd')
    expect(
      applyEdits('abc', [
        { start: 1, end: 2, text: '' },
        { start: 1, end: 1, text: 'X' },
      ]),
    ).toBe('aXc')
  })
})

describe('hostile GRUB scripts', () => {
  it('a million braces, ifs or quotes end', () => {
    for (const text of [
      '{'.repeat(1 << 20),
      'if '.repeat(300_000),
      '"$x'.repeat(300_001),
      '}'.repeat(1 << 20),
      'a{'.repeat(1 << 19),
    ]) {
      const script = parseGrub(bytesOf(text))
      expect(script.problems.length).toBeGreaterThan(0)
      expect(script.problems.length).toBeLessThanOrEqual(101)
    }
  })
  it.each([
    ['menuentry "x {', 'a quote that nothing ends'],
    ['menuentry x {\nlinux a', 'a { that nothing closes'],
    ['if true; then\nset a=b', 'fi is missing'],
    ['}', 'a } without its {'],
    ['fi', 'a word that belongs to no if or loop'],
  ])('%j', (text, message) => expect(parseGrub(bytesOf(text)).problems.map(known => known.message)).toContain(message))
})
