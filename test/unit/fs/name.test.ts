import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeName, encodeName, printableName } from '../../../src/fs/name.js'

describe('names', () => {
  test('any bytes come back from their string', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
        expect(Buffer.from(encodeName(decodeName(bytes)))).toEqual(Buffer.from(bytes))
      }),
      { numRuns: 2000 },
    )
  })

  test('two names of different bytes have different strings', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 6 }), fc.uint8Array({ maxLength: 6 }), (a, b) => {
        expect(decodeName(a) === decodeName(b)).toBe(Buffer.compare(a, b) === 0)
      }),
      { numRuns: 2000 },
    )
  })

  test('UTF-8 is itself, a byte order mark included', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }).map(text => text.toWellFormed()),
        text => {
          expect(decodeName(Buffer.from(text))).toBe(text)
        },
      ),
    )
    expect(decodeName(Buffer.from('\ufeffa'))).toBe('\ufeffa')
  })

  // as Python's os.fsdecode gives them
  test.each([
    ['ff', '\udcff'],
    ['61ff62', 'a\udcffb'],
    ['c0af', '\udcc0\udcaf'],
    ['eda080', '\udced\udca0\udc80'],
    ['e282', '\udce2\udc82'],
    ['f09f9880', '\u{1f600}'],
    ['f4908080', '\udcf4\udc90\udc80\udc80'],
    ['c3a9e9', '\u00e9\udce9'],
  ])('%s is as Python has it', (hex, text) => {
    expect(decodeName(Buffer.from(hex, 'hex'))).toBe(text)
  })

  test('printed, no name moves the cursor or hides itself', () => {
    expect(printableName('plain \u00e9')).toBe('plain \u00e9')
    expect(printableName('back\\slash')).toBe('back\\slash')
    expect(printableName('a\\\x1b[2J')).toBe('a\\\\\\x1b[2J')
    expect(printableName('\udcff\u202e\n')).toBe('\\xff\\u202e\\x0a')
    expect(printableName('\u{1f600}')).toBe('\u{1f600}')
  })
})
