import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Device } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { parseTables, printTables } from '../../../src/block/table.js'
import { graphOf, tablesOf } from '../../../src/block/table-graph.js'
import { openTables } from '../../../src/block/table-open.js'
import { LiveError } from '../../../src/error.js'
import { deviceContract } from '../../contract/device.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { storeOf } from '../../support/store-writer.js'

const SECTOR = 512
const { bytes } = random(3)
const disk = bytes(400 * SECTOR)
const origin = bytes(100 * SECTOR)
const chunk = (fill: number): Uint8Array => new Uint8Array(8 * SECTOR).fill(fill)
const cow = storeOf(
  [
    { oldChunk: 2, content: chunk(1) },
    { oldChunk: 12, content: chunk(2) },
  ],
  8,
  4,
)
const merged = origin.slice()
merged.fill(1, 16 * SECTOR, 24 * SECTOR)
merged.fill(2, 96 * SECTOR)

/** A mirror's log that knows of 25 regions, all alike. */
const log = new Uint8Array(4096)
new DataView(log.buffer).setUint32(0, 0x4d695272, true)
log[4] = 2
log[8] = 25
log.fill(0xff, 1024)

const DEVICES: Readonly<Record<string, Uint8Array>> = {
  '/dev/sda': disk,
  '7:0': origin,
  '7:1': cow,
  '7:2': log,
  new: new Uint8Array(65536),
}

/** Opens devices of memory, and counts those that are open. */
const outside = () => {
  const state = { opened: 0, closed: 0 }
  const open = async (word: string): Promise<Device> => {
    const content = DEVICES[word]
    if (!content) throw new LiveError('NOT_FOUND', `there is no device ${word}`, { device: word })
    state.opened++
    return {
      ...memory(content, word),
      close: async () => {
        state.closed++
      },
    }
  }
  return { state, open }
}

const opened = async (text: string, name: string, aliases?: ReadonlyMap<string, string>): Promise<Device> => {
  const { devices } = await openTables(parseTables(text), outside().open, { aliases })
  const device = devices.get(name)
  if (!device) throw new Error(`no device ${name}`)
  return device
}

const SYSTEM = `live-base: 0 100 linear 7:0 0
live-rw: 0 100 snapshot /dev/mapper/live-base 7:1 PO 8
`

deviceContract('a snapshot of tables', async () => ({ device: await opened(SYSTEM, 'live-rw'), bytes: merged }))
deviceContract('a table of many lines', async () => ({
  device: await opened(
    `x: 0 10 linear /dev/sda 100
x: 10 5 zero 
x: 15 80 snapshot 7:0 7:1 P 8
x: 95 1 linear /dev/sda 0
x: 96 4 snapshot-origin 7:0
x: 100 50 mirror core 1 16 2 /dev/sda 10 /dev/sda 20
`,
    'x',
  ),
  bytes: Buffer.concat([
    disk.subarray(100 * SECTOR, 110 * SECTOR),
    new Uint8Array(5 * SECTOR),
    // a snapshot and an origin show their own sectors of that number
    merged.subarray(15 * SECTOR, 95 * SECTOR),
    disk.subarray(0, SECTOR),
    origin.subarray(96 * SECTOR),
    disk.subarray(10 * SECTOR, 60 * SECTOR),
  ]),
}))

describe('tables as devices', () => {
  test('a merge shows what it is merging, an origin itself, a new store nothing', async () => {
    const text = `merge: 0 100 snapshot-merge 7:0 7:1 P 8
origin: 0 100 snapshot-origin 7:0
fresh: 0 100 snapshot 7:0 new P 0
short: 0 90 snapshot 7:0 7:1 P 8
`
    const { devices } = await openTables(parseTables(text), outside().open)
    const read = (name: string) => devices.get(name)!.read(0, devices.get(name)!.size)
    sameBytes(await read('merge'), merged)
    sameBytes(await read('origin'), origin)
    sameBytes(await read('fresh'), origin)
    sameBytes(await read('short'), merged.subarray(0, 90 * SECTOR))
  })

  test('an error line hurts only what touches it, and a mirror reads past it where nosync says so', async () => {
    const text = `bad: 0 8 linear 7:0 0
bad: 8 8 error 
bad: 16 84 linear 7:0 16
safe: 0 100 mirror core 2 4 nosync 2 /dev/mapper/bad 0 7:0 0 1 handle_errors
unsure: 0 100 mirror core 1 4 2 /dev/mapper/bad 0 7:0 0
`
    const { devices } = await openTables(parseTables(text), outside().open)
    await failure(devices.get('bad')!.read(0, 9 * SECTOR), 'IO')
    sameBytes(await devices.get('safe')!.read(0, origin.length), origin)
    await failure(devices.get('unsure')!.read(0, 9 * SECTOR), 'IO')
    sameBytes(await devices.get('unsure')!.read(0, 8 * SECTOR), origin.subarray(0, 8 * SECTOR))
  })

  test('a mirror believes its log, unless it is told to make its legs alike', async () => {
    const mirrors = ['2 7:2 4', '3 7:2 4 nosync', '3 7:2 4 sync']
    const lines = mirrors.map((words, n) => `m${n}: 0 100 mirror disk ${words} 2 /dev/mapper/bad 0 7:0 0\n`)
    const { devices } = await openTables(parseTables(`bad: 0 100 error \n${lines.join('')}`), outside().open)
    for (const name of ['m0', 'm1']) sameBytes(await devices.get(name)!.read(0, origin.length), origin)
    await failure(devices.get('m2')!.read(0, 512), 'IO')
  })

  test('tables know each other by number where it is told', async () => {
    const text = SYSTEM.replace('/dev/mapper/live-base', '253:0')
    sameBytes(await (await opened(text, 'live-rw', new Map([['253:0', 'live-base']]))).read(0, merged.length), merged)
    await failure(openTables(parseTables(text), outside().open), 'NOT_FOUND')
    await failure(openTables(parseTables(text), outside().open, { aliases: new Map([['253:0', 'none']]) }), 'USAGE')
  })

  test('many lines of one snapshot read its list once', async () => {
    let reads = 0
    const { open } = outside()
    const counting = async (word: string): Promise<Device> => {
      const device = await open(word)
      return {
        ...device,
        read: (offset, length) => {
          reads++
          return device.read(offset, length)
        },
      }
    }
    const text = Array.from({ length: 100 }, (_, n) => `x: ${n} 1 snapshot 7:0 7:1 P 8\n`).join('')
    const { devices } = await openTables(parseTables(text), counting)
    expect(reads).toBeLessThan(10)
    sameBytes(await devices.get('x')!.read(0, merged.length), merged)
  })

  test('each device outside is opened once and closed once, also where a later line fails', async () => {
    const good = outside()
    const { close } = await openTables(parseTables(`${SYSTEM}again: 0 100 linear 7:0 0\n`), good.open)
    expect(good.state).toEqual({ opened: 2, closed: 0 })
    await close()
    expect(good.state).toEqual({ opened: 2, closed: 2 })
    const bad = outside()
    const error = await failure(openTables(parseTables(`${SYSTEM}x: 0 8 zero \nx: 8 8 linear /dev/none 0\n`), bad.open))
    expect(bad.state).toEqual({ opened: 2, closed: 2 })
    expect(error.code).toBe('NOT_FOUND')
    expect(error.message).toBe('x, line 2: /dev/none: there is no device /dev/none')
    expect(error.data).toEqual({ device: '/dev/none', table: 'x', line: 2 })
  })

  test.each([
    ['a line past the end of its device', 'x: 0 8 linear 7:0 93\n', 'USAGE', '7:0 has 100 sectors'],
    ['a snapshot longer than its origin', 'x: 0 101 snapshot 7:0 7:1 P 8\n', 'USAGE', '7:0 has 100 sectors'],
    ['a snapshot that starts too late', 'x: 0 8 zero \nx: 8 93 snapshot 7:0 7:1 P 8\n', 'USAGE', 'from sector 8 on'],
    ['a leg too short', 'x: 0 8 mirror core 1 8 2 /dev/sda 0 7:0 93\n', 'USAGE', '7:0 has 100 sectors'],
    ['a store in memory', 'x: 0 100 snapshot 7:0 7:1 N 8\n', 'UNSUPPORTED', 'memory of the kernel'],
    ['a chunk too large', 'x: 0 100 snapshot 7:0 new P 4096\n', 'UNSUPPORTED', '2048'],
    ['a store that is none', 'x: 0 100 snapshot 7:0 /dev/sda P 8\n', 'CORRUPT', 'magic'],
    [
      'a log cut short',
      'd: 0 1 linear /dev/sda 0\nx: 0 8 mirror disk 2 /dev/mapper/d 8 2 7:0 0 7:1 0\n',
      'CORRUPT',
      'size',
    ],
    ['a circle of one', 'x: 0 1 linear /dev/mapper/x 0\n', 'USAGE', 'x → x'],
    [
      'a circle of three',
      'a: 0 1 linear /dev/mapper/b 0\nb: 0 1 linear /dev/mapper/c 0\nc: 0 1 snapshot 7:0 /dev/mapper/a P 8\n',
      'USAGE',
      'a → b → c → a',
    ],
  ] as const)('%s', async (_title, text, code, words) => {
    const { state, open } = outside()
    const error = await failure(openTables(parseTables(text), open), code)
    expect(error.message).toContain(words)
    expect(state.closed).toBe(state.opened)
  })

  test('sixteen layers are opened and seventeen refused, whatever comes first', async () => {
    const tower = (height: number): string[] =>
      Array.from(
        { length: height },
        (_, n) => `t${n}: 0 1 linear ${n === 0 ? '/dev/sda' : `/dev/mapper/t${n - 1}`} 0\n`,
      )
    for (const order of [(lines: string[]) => lines, (lines: string[]) => lines.reverse()]) {
      const { devices } = await openTables(parseTables(order(tower(16)).join('')), outside().open)
      sameBytes(await devices.get('t15')!.read(0, 512), disk.subarray(0, 512))
      const error = await failure(openTables(parseTables(order(tower(17)).join('')), outside().open), 'UNSUPPORTED')
      expect(error.message).toContain('16 layers')
    }
    // many that share what is below are no deeper, and cost no more
    const wide = Array.from({ length: 15 }, (_, n) => {
      const below = n === 0 ? '/dev/sda' : `/dev/mapper/w${n - 1}`
      return `w${n}: 0 1 linear ${below} 0\nw${n}: 1 1 linear ${below} 0\n`
    })
    await openTables(parseTables(wide.join('')), outside().open)
  })
})

describe('a graph as tables', () => {
  test('comes with what lies below first, each once', () => {
    const text = `top: 0 100 snapshot /dev/mapper/ro /dev/mapper/scratch PO 8
scratch: 0 50 zero 
ro: 0 100 snapshot /dev/mapper/base 7:1 P 8
base: 0 100 linear 7:0 0
`
    const graph = graphOf(parseTables(text))
    const tables = tablesOf([graph.get('top')!])
    expect(tables.map(({ name }) => name)).toEqual(['base', 'ro', 'scratch', 'top'])
    expect(tablesOf([graph.get('ro')!]).map(({ name }) => name)).toEqual(['base', 'ro'])
    expect(printTables(tables).split('\n').sort()).toEqual(text.split('\n').sort())
  })

  test('is the same tables again, whatever is made from what', () => {
    const sets = fc.array(fc.array(fc.nat(100), { maxLength: 3 }), { minLength: 1, maxLength: 12 }).map(all =>
      all.map((below, n) => ({
        name: `t${n}`,
        lines: below.map((pick, index) => ({
          startSector: index,
          sectorCount: 1,
          type: 'linear' as const,
          device: n === 0 || pick % (n + 1) === n ? '/dev/sda' : `/dev/mapper/t${pick % (n + 1)}`,
          deviceSector: pick,
        })),
      })),
    )
    fc.assert(
      fc.property(sets, tables => {
        const again = tablesOf(graphOf(tables).values())
        expect([...again].sort((a, b) => Number(a.name.slice(1)) - Number(b.name.slice(1)))).toEqual(tables)
        const seen = new Set<string>()
        for (const { name, lines } of again) {
          for (const line of lines)
            if (line.type === 'linear' && line.device.startsWith('/dev/mapper/'))
              expect(seen).toContain(line.device.slice('/dev/mapper/'.length))
          seen.add(name)
        }
      }),
    )
  })

  test('names that are not plain are written as udev writes them', () => {
    const text = 'my disk: 0 1 zero \ntop: 0 1 linear /dev/mapper/my\\\\x20disk 0\n'
    const graph = graphOf(parseTables(text))
    expect(graph.get('top')!.lines[0]).toMatchObject({ device: { name: 'my disk' } })
    expect(printTables(tablesOf([graph.get('top')!]))).toBe(text)
  })

  test('two devices of one name are refused', () => {
    const line = { startSector: 0, sectorCount: 1, type: 'zero' as const }
    const below = { name: 'x', lines: [line] }
    const top = { name: 'x', lines: [{ ...line, type: 'snapshot-origin' as const, device: below }] }
    expect(() => tablesOf([top])).toThrow(/circle/)
    expect(() => tablesOf([below, { name: 'x', lines: [line] }])).toThrow(/two tables are called x/)
    expect(() => graphOf([below, { name: 'x', lines: [line] }])).toThrow(/two tables are called x/)
  })
})
