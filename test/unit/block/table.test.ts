import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type NamedTable,
  parseTable,
  parseTables,
  printTable,
  printTables,
  type TableLine,
} from '../../../src/block/table.js'
import type { TableTarget } from '../../../src/block/table-target.js'
import { LiveError } from '../../../src/error.js'

/** The error that parsing ends with. */
const refusal = (work: () => unknown): LiveError => {
  try {
    work()
  } catch (error) {
    if (error instanceof LiveError) return error
    throw error
  }
  throw new Error('expected a LiveError')
}

const word = fc
  .string({ unit: fc.constantFrom(...'/dev:0123abcXYZ_-.\\ $'), minLength: 1, maxLength: 20 })
  .filter(text => !/[ :]$/.test(text))
const sector = fc.nat(2 ** 40)
const chunk = fc.nat(21).map(n => 2 ** n)
const some = <T>(...values: T[]) => fc.subarray(values)

const snapshotTarget: fc.Arbitrary<TableTarget> = fc
  .record({
    type: fc.constantFrom('snapshot' as const, 'snapshot-merge' as const),
    origin: word,
    cow: word,
    store: fc.constantFrom('P' as const, 'PO' as const, 'N' as const),
    chunkSectors: fc.oneof(fc.constant(0), chunk),
    features: fc.constantFrom<readonly ('discard_zeroes_cow' | 'discard_passdown_origin')[]>(
      [],
      ['discard_zeroes_cow'],
      ['discard_zeroes_cow', 'discard_passdown_origin'],
    ),
  })
  .filter(
    ({ type, origin, cow, store, chunkSectors }) =>
      origin !== cow && !(store === 'N' && (type === 'snapshot-merge' || chunkSectors === 0)),
  )

const leg = fc.record({ device: word, deviceSector: sector })
const mirrorTarget = (sectorCount: number): fc.Arbitrary<TableTarget> => {
  const regionSectors = fc.integer({ min: 1, max: Math.floor(Math.log2(sectorCount)) }).map(n => 2 ** n)
  const sync = some('sync' as const, 'nosync' as const).map(([one]) => (one ? { sync: one } : {}))
  const core = fc.tuple(regionSectors, sync).map(([r, s]) => ({ type: 'core' as const, regionSectors: r, ...s }))
  const disk = fc
    .tuple(word, regionSectors, sync)
    .map(([device, r, s]) => ({ type: 'disk' as const, device, regionSectors: r, ...s }))
  return fc.record({
    type: fc.constant('mirror' as const),
    log: fc.oneof(core, disk),
    legs: fc.array(leg, { minLength: 2, maxLength: 9 }),
    features: fc.constantFrom<readonly ('handle_errors' | 'keep_log')[]>(
      [],
      ['handle_errors'],
      ['handle_errors', 'keep_log'],
    ),
  })
}

const target = (sectorCount: number): fc.Arbitrary<TableTarget> =>
  fc.oneof(
    leg.map(where => ({ type: 'linear' as const, ...where })),
    fc.constantFrom({ type: 'zero' as const }, { type: 'error' as const }),
    snapshotTarget,
    word.map(device => ({ type: 'snapshot-origin' as const, device })),
    sectorCount < 2 ? fc.constant({ type: 'zero' as const }) : mirrorTarget(sectorCount),
  )

const table: fc.Arbitrary<readonly TableLine[]> = fc
  .array(
    fc.integer({ min: 1, max: 2 ** 36 }).chain(sectorCount => target(sectorCount).map(t => ({ sectorCount, ...t }))),
    { minLength: 1, maxLength: 8 },
  )
  .map(lines => {
    let startSector = 0
    return lines.map(line => {
      const placed = { ...line, startSector }
      startSector += line.sectorCount
      return placed
    })
  })

describe('the table language', () => {
  test('what was printed is parsed as it was', () => {
    fc.assert(
      fc.property(table, lines => {
        expect(parseTable(printTable(lines))).toEqual(lines)
      }),
    )
  })

  test('so with names in front, and tables without lines', () => {
    const name = fc.string({ unit: fc.constantFrom(...'abcXYZ019#+-.:=@_\\ '), minLength: 1, maxLength: 127 })
    const named = fc.record({ name, lines: fc.oneof(table, fc.constant([])) })
    fc.assert(
      fc.property(fc.uniqueArray(named, { selector: each => each.name, maxLength: 6 }), (tables: NamedTable[]) => {
        expect(parseTables(printTables(tables))).toEqual(tables)
      }),
    )
  })

  test.each([
    '0 204800 linear 7:0 2048\n204800 8 zero \n204808 1 error \n',
    '0 4194304 snapshot 7:1 7:2 PO 8\n',
    '0 4194304 snapshot 7:1 7:2 P 256 2 discard_zeroes_cow discard_passdown_origin\n',
    '0 4194304 snapshot-merge 7:1 7:2 P 8 1 discard_zeroes_cow\n',
    '0 4194304 snapshot-origin 7:1\n',
    '0 4194304 mirror core 1 1024 2 7:0 0 8:1 2048\n',
    '0 4194304 mirror core 2 1024 nosync 2 7:0 0 8:1 0 1 handle_errors\n',
    '0 4194304 mirror disk 2 7:5 1024 3 7:0 0 8:1 0 8:2 0 2 handle_errors keep_log\n',
    '0 4194304 mirror disk 3 7:5 1024 sync 2 7:0 0 8:1 0\n',
  ])('prints what it parsed byte for byte: %s', text => {
    expect(printTable(parseTable(text))).toBe(text)
  })

  test('reads what a person writes: comments, blanks, tabs, small letters, features in any order', () => {
    const text = `
# a root with an overlay
  0  100\tsnapshot /dev/loop0 /dev/my\\ disk poverflow 8 2 discard_passdown_origin discard_zeroes_cow # to be written

100 4 linear /dev/sdb 0\r
`
    expect(printTable(parseTable(text))).toBe(
      '0 100 snapshot /dev/loop0 /dev/my\\ disk PO 8 2 discard_zeroes_cow discard_passdown_origin\n100 4 linear /dev/sdb 0\n',
    )
  })

  test('lines may end as on Windows', () => {
    expect(parseTables('a: 0 8 zero\r\n\r\nb: \r\n')).toEqual(parseTables('a: 0 8 zero\nb: \n'))
  })

  test('names may hold what begins a line', () => {
    const text = 'a b: 0 8 zero : 0 8 zero \nx: 0 8 zero \nx: 8 1 linear 7:0 0\n: : \n'
    expect(parseTables(text).map(({ name, lines }) => [name, lines.length])).toEqual([
      ['a b: 0 8 zero ', 1],
      ['x', 2],
      [': ', 0],
    ])
    expect(printTables(parseTables(text))).toBe(text)
  })

  test('no device is no table', () => {
    expect(parseTables('No devices found\n')).toEqual([])
    expect(parseTables('')).toEqual([])
  })
})

describe('a wrong table is refused with the line and what was expected', () => {
  test.each([
    ['nothing', '', 'number of lines is 0, expected at least one'],
    ['nothing but comments', '# 0 1 zero\n', 'expected at least one'],
    ['a line cut short', '0 100\n', 'line 1: target is "missing", expected linear'],
    ['a length cut short', '0\n', 'line 1: length is "missing", expected 1 to'],
    ['lines that overlap', '0 100 zero\n90 10 zero\n', 'line 2: start is "90 (they overlap)", expected 100'],
    ['a gap', '0 100 zero\n\n101 10 zero\n', 'line 3: start is "101", expected 100'],
    ['lines out of order', '100 10 zero\n0 100 zero\n', 'line 1: start is "100", expected 0 in the first line'],
    ['no sectors', '0 0 zero\n', 'line 1: length is "0", expected 1 to'],
    ['too many sectors', '0 17592186044416 zero\n', 'line 1: length is "17592186044416"'],
    [
      'a sum that is too large',
      '0 17592186044415 zero\n17592186044415 1 zero\n',
      'line 2: length is "1", expected 1 to 0',
    ],
    ['a number with a sign', '-1 8 zero\n', 'line 1: start is "-1"'],
    ['a number with letters', '0 8k zero\n', 'line 1: length is "8k"'],
    ['a number beyond all', `0 ${'9'.repeat(5000)} zero\n`, 'line 1: length is "999'],
    ['a linear without start', '0 8 linear 7:0\n', 'line 1: first sector of the device is "missing"'],
    ['a linear with more', '0 8 linear 7:0 0 0\n', 'line 1: what follows linear is "0", expected the end of the line'],
    ['a zero with an argument', '0 8 zero 7:0\n', 'line 1: what follows zero is "7:0"'],
    ['a snapshot on itself', '0 8 snapshot 7:0 7:0 P 8\n', 'line 1: store device is "7:0", expected another device'],
    ['a store of another kind', '0 8 snapshot 7:0 7:1 Q 8\n', 'line 1: store is "Q", expected P, PO or N'],
    ['a store with an unknown option', '0 8 snapshot 7:0 7:1 PX 8\n', 'line 1: store is "PX"'],
    ['an odd chunk', '0 8 snapshot 7:0 7:1 P 12\n', 'line 1: chunk size is "12", expected 0 or a power of two'],
    ['a huge chunk', '0 8 snapshot 7:0 7:1 P 4194304\n', 'line 1: chunk size is "4194304"'],
    ['no chunk for a store in memory', '0 8 snapshot 7:0 7:1 N 0\n', 'line 1: chunk size is 0'],
    ['a feature that is none', '0 8 snapshot 7:0 7:1 P 8 1 discards\n', 'line 1: feature is "discards"'],
    ['fewer features than said', '0 8 snapshot 7:0 7:1 P 8 2 discard_zeroes_cow\n', 'line 1: feature is "missing"'],
    ['a feature alone', '0 8 snapshot 7:0 7:1 P 8 1 discard_passdown_origin\n', 'expected discard_zeroes_cow beside'],
    ['a merge of a store in memory', '0 8 snapshot-merge 7:0 7:1 N 8\n', 'line 1: store is "N", expected P or PO'],
    ['an origin with more', '0 8 snapshot-origin 7:0 0\n', 'line 1: what follows snapshot-origin is "0"'],
    [
      'a log without arguments',
      '0 8 mirror core 0 2 7:0 0 7:1 0\n',
      'line 1: number of log arguments is "0", expected 1 or 2',
    ],
    ['a region larger than the line', '0 8 mirror core 1 16 2 7:0 0 7:1 0\n', 'line 1: region size is "16"'],
    ['an odd region', '0 8 mirror core 1 3 2 7:0 0 7:1 0\n', 'line 1: region size is "3"'],
    ['a log argument that is none', '0 8 mirror core 2 8 maybe 2 7:0 0 7:1 0\n', 'expected sync or nosync'],
    ['one leg', '0 8 mirror core 1 8 1 7:0 0\n', 'line 1: number of legs is "1", expected 2 to 9'],
    ['more legs than the kernel takes', '0 8 mirror core 1 8 4000000000 7:0 0\n', 'expected 2 to 9'],
    ['a leg without start', '0 8 mirror core 1 8 2 7:0 0 7:1\n', 'first sector of the leg is "missing"'],
    ['keep_log alone', '0 8 mirror core 1 8 2 7:0 0 7:1 0 1 keep_log\n', 'expected handle_errors beside keep_log'],
    [
      'a name of a device that the kernel would split',
      '0 8 linear /dev/mapper/caf\u00e9 0\n',
      'expected printable ASCII',
    ],
    ['an escape sequence', '0 8 linear /dev/\u001b[2J 0\n', 'expected printable ASCII'],
  ])('%s', (_title, text, sentence) => {
    const error = refusal(() => parseTable(text))
    expect(error.code).toBe('USAGE')
    expect(error.message).toContain(sentence)
    expect(error.message.length).toBeLessThan(400)
    expect(error.data).toMatchObject({ table: 'table' })
  })

  test.each([
    ['0 8 crypt aes-xts 0 0 7:0 0\n', 'device-mapper target of another kind'],
    ['0 8 linearly 7:0 0\n', 'device-mapper target of another kind'],
    ['0 8 mirror userspace 1 8 2 7:0 0 7:1 0\n', 'mirror log of another kind'],
  ])('%s', (text, feature) => {
    const error = refusal(() => parseTable(text, 'a table'))
    expect(error.code).toBe('UNSUPPORTED')
    expect(error.data).toEqual({ feature, where: 'a table, line 1' })
  })

  test.each([
    ['a line without a name', '0 8 zero\n', 'expected the name of a device, a colon'],
    [
      'a device twice',
      'a: 0 8 zero\nb: 0 8 zero\na: 8 8 zero\n',
      'line 3: name is "a", expected a device that has not come before',
    ],
    ['a table without lines that has one', 'a: \na: 0 8 zero\n', 'line 2: name is "a"'],
    ['a table that begins anew', 'a: 0 8 zero\na: 0 8 zero\n', 'line 2: start is "0 (they overlap)", expected 8'],
    ['a name too long', `${'n'.repeat(128)}: 0 8 zero\n`, 'at most 127 characters'],
  ])('with names: %s', (_title, text, sentence) => {
    const error = refusal(() => parseTables(text))
    expect(error.code).toBe('USAGE')
    expect(error.message).toContain(sentence)
  })

  test('a device that dmsetup could not read is not printed', () => {
    for (const device of ['/dev/a#b', '/dev/a ', '/dev/a\nb', '/dev/caf\u00e9', ''])
      expect(
        refusal(() => printTable([{ startSector: 0, sectorCount: 1, type: 'linear', device, deviceSector: 0 }])).code,
      ).toBe('USAGE')
  })

  test('any text is a table or a LiveError', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '0',
        '8',
        '\n',
        ' ',
        'linear',
        'snapshot',
        'mirror',
        'core',
        'disk',
        '1',
        '2',
        'P',
        '7:0',
        '7:1',
        '\\',
        '#',
      ),
      fc.string({ maxLength: 4 }),
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), pieces => {
        for (const parse of [parseTable, parseTables])
          try {
            parse(pieces.join(' '))
          } catch (error) {
            if (!(error instanceof LiveError)) throw error
          }
      }),
      { numRuns: 500 },
    )
  })

  test('a hundred thousand lines take no time to speak of', () => {
    const text = Array.from({ length: 100_000 }, (_, n) => `${n} 1 linear 7:0 ${n}\n`).join('')
    expect(parseTable(text)).toHaveLength(100_000)
  })
})
