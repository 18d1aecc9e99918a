import { describe, expect, test } from 'vitest'
import type { Device } from '../../../../src/block/device.js'
import { memory } from '../../../../src/block/memory.js'
import { type Iso9660Options, openIso9660 } from '../../../../src/fs/iso9660/reader.js'
import { collect } from '../../../support/collect.js'
import { countingDevice } from '../../../support/counting-device.js'
import {
  both,
  ce,
  directory,
  entry,
  type ImageParts,
  isoImage,
  nm,
  px,
  type RecordParts,
  ROCK_RIDGE,
  record,
  sp,
} from '../../../support/iso-builder.js'
import { failure, sameBytes } from '../../../support/outcome.js'

const DIR = 0o40755
const FILE = 0o100644
const LINK = 0o120777
const OWN = [sp(), px(DIR, 2), ROCK_RIDGE]

/** An image with a Rock Ridge root at block 20. */
const rock = (
  records: readonly (RecordParts | Uint8Array)[],
  blocks: ImageParts['blocks'] = {},
  more: Partial<ImageParts> = {},
): Device =>
  memory(
    isoImage({ blocks: { 20: directory(20, records, { own: OWN }), ...blocks }, root: { extent: 20 }, ...more }),
    'image',
  )
/** An image without any extension. */
const plain = (records: readonly (RecordParts | Uint8Array)[], blocks: ImageParts['blocks'] = {}): Device =>
  memory(isoImage({ blocks: { 20: directory(20, records), ...blocks }, root: { extent: 20 } }), 'image')

const names = async (device: Device, path = '/', options?: Iso9660Options): Promise<string[]> =>
  (await (await openIso9660(device, options)).list(path)).map(({ name }) => name)
const field = async (work: Promise<unknown>): Promise<unknown> => (await failure(work, 'CORRUPT')).data.field
const text = async (device: Device): Promise<string> => Buffer.from(await device.read(0, device.size)).toString()

describe('records', () => {
  test('a file in sections that lie apart is one file', async () => {
    const part = (extent: number, size: number, flags: number): RecordParts => ({
      name: 'LARGE.;1',
      extent,
      size,
      flags,
    })
    const device = plain(
      [part(30, 2048, 0x80), part(40, 5, 0x80), part(33, 3, 0), { name: 'NEXT.;1', extent: 33, size: 2 }],
      {
        30: Buffer.alloc(2048, 'a'),
        33: Buffer.from('xyz'),
        40: Buffer.from('12345'),
      },
    )
    const iso = await openIso9660(device)
    expect(await names(device)).toEqual(['large', 'next'])
    expect(await text(await iso.open('/large'))).toBe(`${'a'.repeat(2048)}12345xyz`)
    expect(await iso.extents('/large')).toEqual([
      { offset: 0, length: 2048, start: 30 * 2048 },
      { offset: 2048, length: 5, start: 40 * 2048 },
      { offset: 2053, length: 3, start: 33 * 2048 },
    ])
    // the first record numbers it
    expect((await iso.stat('/large')).inode).toBe(20 * 2048 + 68)
  })

  test('sections of two names, and a section too few, are damage', async () => {
    const first: RecordParts = { name: 'A.;1', extent: 30, size: 2048, flags: 0x80 }
    expect(await field(names(plain([first, { name: 'B.;1' }])))).toBe('name of a further section of a file')
    expect(await field(names(plain([first])))).toBe('directory record flags')
    expect(
      await field(
        names(
          plain([
            { ...first, flags: 0x82 },
            { ...first, flags: 2 },
          ]),
        ),
      ),
    ).toBe('directory record flags')
  })

  test('extended attribute records are passed over, associated files left out', async () => {
    const device = plain(
      [
        { name: 'FORK.;1', flags: 4, extent: 30, size: 3 },
        { name: 'FORK.;1', extent: 30, size: 3, extAttrLength: 2 },
        { name: 'SUB', flags: 2, extent: 40, size: 2048, extAttrLength: 1 },
      ],
      { 32: Buffer.from('abc'), 41: directory(41, [{ name: 'X.;1' }]) },
    )
    const iso = await openIso9660(device)
    expect(await names(device)).toEqual(['fork', 'sub'])
    expect(await text(await iso.open('/fork'))).toBe('abc')
    expect(await names(device, '/sub')).toEqual(['x'])
  })

  test('interleaved files are named as what is missing, when read', async () => {
    const iso = await openIso9660(plain([{ name: 'I.;1', size: 5000, extent: 30, fileUnitSize: 1, interleave: 1 }]))
    expect((await iso.stat('/i')).size).toBe(5000)
    expect((await failure(iso.open('/i'), 'UNSUPPORTED')).data.feature).toBe('interleaved files')
  })

  test('a record that crosses a sector, or tells two numbers, is damage', async () => {
    const crossing = directory(20, [], { sectors: 2 })
    for (let at = 68; at < 2048; at += 234) crossing.set(record({ name: `${at}`.padEnd(200, 'F') }), at)
    const image = isoImage({ blocks: { 20: crossing }, root: { extent: 20, size: 4096 } })
    expect(await field(names(memory(image)))).toBe('directory record length')

    const odd = record({ name: 'ODD.;1', extent: 30, size: 5 })
    odd[10] = 6
    expect(await field(names(plain([odd])))).toBe('directory record size')
    const far = record({ name: 'ODD.;1', extent: 30, size: 5 })
    far[9] = 31
    expect(await field(names(plain([far])))).toBe('directory record extent')
  })

  test('a directory goes on behind the zeros of a sector', async () => {
    const many = Array.from({ length: 100 }, (_, n): RecordParts => ({ name: `NUMBER_${n}_${'X'.repeat(60)}.;1` }))
    const blocks = { 20: directory(20, many, { sectors: 6 }) }
    const device = memory(isoImage({ blocks, root: { extent: 20, size: 6 * 2048 } }))
    expect(await names(device)).toHaveLength(100)
  })

  test('a directory that does not start with itself is damage', async () => {
    expect(await field(names(plain([], { 20: Buffer.from(record({ name: 'FILE.;1' })) })))).toBe(
      'first record of a directory',
    )
    expect(await field(names(plain([], { 20: new Uint8Array(2048) })))).toBe('first record of a directory')
  })

  test('two of one name are damage', async () => {
    expect(await field(names(plain([{ name: 'A.;1' }, { name: 'A.;1' }])))).toBe('name of a directory record')
  })

  test('blocks of 512 bytes', async () => {
    const blocks = { 100: directory(100, [{ name: 'F.;1', extent: 131, size: 3 }]), 131: Buffer.from('abc') }
    const iso = await openIso9660(memory(isoImage({ blocks, blockSize: 512, root: { extent: 100 } })))
    expect(await text(await iso.open('/f'))).toBe('abc')
    expect(await iso.extents('/f')).toEqual([{ offset: 0, length: 3, start: 131 * 512 }])
    expect(await collect(iso.freeRuns())).toEqual([])
  })

  test('data outside the device are damage when read, not before', async () => {
    const iso = await openIso9660(
      plain([
        { name: 'F.;1', extent: 63, size: 2049 },
        { name: 'E.;1', extent: 9999 },
      ]),
    )
    expect((await iso.stat('/f')).size).toBe(2049)
    expect(await field(iso.open('/f'))).toBe('extent of /f')
    expect((await iso.open('/e')).size).toBe(0)
  })
})

describe('Rock Ridge', () => {
  test('what entries say', async () => {
    const device = rock([
      { name: 'A.;1', extent: 30, size: 3, systemUse: [px(FILE | 0o6000, 3, 1000, 1001, 77), nm('Ä', 1), nm('b')] },
      { name: 'B.;1', systemUse: [nm('char'), px(0o20666), entry('PN', both(0, 4), both(0x103, 4))] },
      { name: 'C.;1', systemUse: [nm('block'), px(0o60660), entry('PN', both(259, 4), both(70_000, 4))] },
      { name: 'D.;1', systemUse: [nm('long'), px(FILE), entry('TF', [0x82], '1999123123595900', [8])] },
      {
        name: 'E.;1',
        systemUse: [nm('short'), px(FILE), entry('TF', [0x0e], [70, 1, 1, 0, 0, 10, 252], new Uint8Array(14))],
      },
      { name: 'F.;1', systemUse: [nm('fifo'), px(0o10600)] },
      { name: 'G.;1', systemUse: [nm('socket'), px(0o140600)] },
      { name: 'H.;1', systemUse: [nm('after'), px(FILE), entry('ST'), entry('RE')] },
      { name: 'NO_NAME.TXT;1', systemUse: [px(FILE, 0)] },
    ])
    const iso = await openIso9660(device)
    expect(iso.tree).toBe('rockridge')
    expect(await iso.stat('/Äb')).toEqual({
      kind: 'file',
      inode: 77,
      mode: 0o6644,
      uid: 1000,
      gid: 1001,
      size: 3,
      linkCount: 3,
      mtime: Date.UTC(2000, 0, 2, 3, 4, 5) / 1000,
      mtimeNanoseconds: 0,
    })
    expect((await iso.stat('/char')).device).toEqual({ major: 1, minor: 3 })
    expect((await iso.stat('/block')).device).toEqual({ major: 259, minor: 70_000 })
    expect((await iso.stat('/long')).mtime).toBe(Date.UTC(1999, 11, 31, 21, 59, 59) / 1000)
    expect((await iso.stat('/short')).mtime).toBe(3610)
    expect((await iso.list('/')).slice(5).map(({ name, kind }) => [name, kind])).toEqual([
      ['fifo', 'fifo'],
      ['socket', 'socket'],
      ['after', 'file'],
      ['no_name.txt', 'file'],
    ])
    expect((await iso.stat('/no_name.txt')).linkCount).toBe(1)
    expect((await iso.stat('/')).mode).toBe(0o755)
  })

  test('every component of a symlink', async () => {
    const sl = (flags: number, ...components: readonly (readonly [number, string])[]): Uint8Array =>
      entry('SL', [flags], ...components.flatMap(([flag, part]) => [[flag, Buffer.byteLength(part)], part]))
    const cases: Readonly<Record<string, readonly Uint8Array[]>> = {
      '/usr/x': [sl(0, [8, ''], [0, 'usr'], [0, 'x'])],
      '/': [sl(0, [8, ''])],
      '.././a': [sl(0, [4, ''], [2, ''], [0, 'a'])],
      abcd: [sl(0, [1, 'ab'], [0, 'cd'])],
      'abc/d': [sl(1, [1, 'ab']), sl(0, [0, 'c'], [0, 'd'])],
      'a/b': [sl(1, [0, 'a']), sl(0, [0, 'b'])],
      '/a': [sl(1, [8, '']), sl(0, [0, 'a'])],
      'a/': [sl(0, [0, 'a'], [0, ''])],
    }
    const records = Object.values(cases).map(
      (entries, n): RecordParts => ({
        name: `L${n}.;1`,
        systemUse: [px(LINK), nm(`l${n}`), ...entries],
      }),
    )
    const iso = await openIso9660(rock(records))
    for (const [n, target] of Object.keys(cases).entries()) {
      expect(await iso.readLink(`/l${n}`)).toBe(target)
      expect((await iso.stat(`/l${n}`)).size).toBe(target.length)
    }
    for (const [systemUse, wrong] of [
      [[sl(0, [16, ''])], 'SL component flags'],
      [[sl(1, [0, 'a'])], 'SL flags'],
      [[sl(0)], 'SL target'],
      [[sl(0, [0, 'a\0b'])], 'SL target'],
      [[entry('SL', [0, 0, 9], 'short')], 'SL component'],
    ] as const) {
      const broken = await openIso9660(rock([{ name: 'L.;1', systemUse: [px(LINK), nm('l'), ...systemUse] }]))
      expect(await broken.list('/')).toHaveLength(1)
      expect(await field(broken.readLink('/l'))).toBe(wrong)
      expect(await field(broken.stat('/l'))).toBe(wrong)
    }
    expect(await field(names(rock([{ name: 'L.;1', systemUse: [px(LINK), nm('l')] }])))).toBe('SL entry')
  })

  test('names that lead elsewhere are damage', async () => {
    for (const name of ['', '.', '..', 'a/b', 'a\0', 'x'.repeat(200)]) {
      const parts =
        name.length > 100 ? [nm('y'.repeat(56), 1), entry('CE', both(21, 4), both(0, 4), both(204 + 1, 4))] : [nm(name)]
      const device = rock([{ name: 'A.;1', systemUse: [px(FILE), ...parts] }], { 21: nm(name) })
      expect(await field(names(device)), name).toBe('NM name')
    }
    for (const flags of [2, 4, 32])
      expect(await field(names(rock([{ name: 'A.;1', systemUse: [nm('a', flags), px(FILE)] }])))).toBe('NM flags')
    expect(await field(names(rock([{ name: 'A.;1', systemUse: [nm('a', 1), px(FILE)] }])))).toBe('NM flags')
  })

  test('modes that contradict the record are damage', async () => {
    expect(await field(names(rock([{ name: 'A', flags: 2, extent: 21, size: 2048, systemUse: [px(FILE)] }])))).toBe(
      'PX st_mode',
    )
    expect(await field(names(rock([{ name: 'A', systemUse: [px(DIR)] }])))).toBe('PX st_mode')
    expect(await field(names(rock([{ name: 'A', systemUse: [px(0o30000)] }])))).toBe('PX st_mode')
  })

  test('a moved directory is shown in its true place only', async () => {
    const child = directory(23, [{ name: 'F.;1', systemUse: [px(FILE), nm('f')] }], {
      own: [px(0o40711, 2), entry('TF', [2], [70, 1, 1, 0, 0, 7, 0])],
    })
    const device = rock(
      [
        { name: 'MOVED', flags: 2, extent: 21, size: 2048, systemUse: [px(DIR), nm('rr_moved')] },
        { name: 'DEEP', flags: 2, extent: 22, size: 2048, systemUse: [px(DIR), nm('deep')] },
      ],
      {
        21: directory(21, [
          { name: 'CHILD', flags: 2, extent: 23, size: 2048, systemUse: [px(DIR), nm('child'), entry('RE')] },
        ]),
        22: directory(22, [
          { name: 'CHILD.;1', extent: 40, systemUse: [px(DIR), nm('child'), entry('CL', both(23, 4))] },
        ]),
        23: child,
      },
    )
    const iso = await openIso9660(device)
    expect(await iso.list('/rr_moved')).toEqual([])
    const [entryOfChild] = await iso.list('/deep')
    const stat = await iso.stat('/deep/child')
    expect([stat.mode, stat.mtime, stat.size, stat.kind]).toEqual([0o711, 7, 2048, 'directory'])
    expect(entryOfChild).toEqual({ name: 'child', kind: 'directory', inode: stat.inode })
    expect((await iso.list('/deep/child')).map(({ name }) => name)).toEqual(['f'])
    // without Rock Ridge it is where it lies
    expect(await names(device, '/moved', { tree: 'primary' })).toEqual(['child'])
  })

  test('sparse and compressed files tell their size and are named as what is missing', async () => {
    const file = (name: string, ...systemUse: Uint8Array[]): RecordParts => ({
      name: `${name}.;1`,
      extent: 30,
      size: 10,
      systemUse: [px(FILE), nm(name), ...systemUse],
    })
    const iso = await openIso9660(
      rock([
        file('sparse', entry('SF', both(3, 4), both(5, 4), [1])),
        file('old', entry('SF', both(9, 4))),
        file('zip', entry('ZF', 'pz', [4, 15], both(1234, 4))),
        file('zip2', entry('ZF', 'PZ', [6, 15], [0, 0, 0, 0, 2, 0, 0, 0])),
        file('strange', entry('ZF', 'xx', [6, 15], both(1, 4))),
      ]),
    )
    const sparse = 'sparse files of Rock Ridge'
    for (const [name, size, feature] of [
      ['sparse', 3 * 2 ** 32 + 5, sparse],
      ['old', 9, sparse],
      ['zip', 1234, 'zisofs'],
      ['zip2', 2 ** 33, 'zisofs'],
    ] as const) {
      expect((await iso.stat(`/${name}`)).size).toBe(size)
      expect((await failure(iso.open(`/${name}`), 'UNSUPPORTED')).data.feature).toBe(feature)
    }
    expect(await field(iso.stat('/strange'))).toBe('ZF algorithm')
  })

  test('entries go on in continuation areas, but neither for ever nor elsewhere', async () => {
    const area = [nm('long', 1), ce(22, 100, 9)].reduce((a, b) => Buffer.concat([a, b]))
    const second = Buffer.alloc(200)
    second.set(nm('name'), 100)
    const record: RecordParts = { name: 'A.;1', systemUse: [px(FILE), ce(21, 0, area.length)] }
    expect(await names(rock([record], { 21: area, 22: second }))).toEqual(['longname'])

    // one behind the other: as many as the kernel follows, and one more
    const chain = (count: number): Uint8Array => {
      const parts = Array.from({ length: count - 1 }, (_, n) => ce(21, (n + 1) * 28, 28))
      return Buffer.concat([...parts, nm('end'), Buffer.alloc(28)])
    }
    const chained: RecordParts = { name: 'A.;1', systemUse: [px(FILE), ce(21, 0, 28)] }
    expect(await names(rock([chained], { 21: chain(32) }))).toEqual(['end'])
    expect(await field(names(rock([chained], { 21: chain(33) })))).toBe('CE entry')

    const loop = ce(21, 0, 28)
    expect(await field(names(rock([record], { 21: Buffer.concat([loop, Buffer.alloc(9)]) })))).toBe('CE entry')
    for (const [ceEntry, wrong] of [
      [ce(9999, 0, 100), 'CE block'],
      [ce(0xffffffff, 0, 100), 'CE block'],
      [ce(21, 2000, 100), 'CE length'],
      [ce(21, 0, 0xffffffff), 'CE length'],
    ] as const)
      expect(await field(names(rock([{ name: 'A.;1', systemUse: [px(FILE), ceEntry] }])))).toBe(wrong)
    expect(await field(names(rock([{ name: 'A.;1', systemUse: [loop, loop] }], { 21: Buffer.alloc(28) })))).toBe(
      'CE entry',
    )
    const broken = entry('CE', both(21, 4), both(0, 4), both(9, 4))
    broken[10] = 1
    expect(await field(names(rock([{ name: 'A.;1', systemUse: [broken] }])))).toBe('CE block')
    const overrun = nm('abc')
    overrun[2] = 200
    expect(await field(names(rock([{ name: 'A.;1', systemUse: [overrun] }])))).toBe('"NM" entry length')
  })

  test('entries start behind what SP says, and behind the attributes of CD-ROM XA', async () => {
    const xa = Buffer.alloc(14)
    xa.write('XA', 6, 'latin1')
    const root = directory(20, [{ name: 'A.;1', systemUse: [xa, px(FILE), nm('behind XA')] }], {
      own: [xa, sp(14), px(DIR), ROCK_RIDGE],
    })
    expect(await names(memory(isoImage({ blocks: { 20: root }, root: { extent: 20 } })))).toEqual(['behind XA'])
  })

  test('SP without Rock Ridge, and Rock Ridge without SP, is none', async () => {
    for (const own of [[sp()], [px(DIR), ROCK_RIDGE], [sp(), entry('ER', [4, 0, 0, 1], 'AAIP')]]) {
      const root = directory(20, [{ name: 'A.;1', systemUse: [nm('rock')] }], { own })
      expect(await names(memory(isoImage({ blocks: { 20: root }, root: { extent: 20 } })))).toEqual(['a'])
    }
  })
})

describe('Joliet', () => {
  const wide = (name: string): Uint8Array => Buffer.from(name, 'utf16le').swap16()
  const joliet = (
    name: Uint8Array,
    rockOwn: readonly Uint8Array[] = [],
    rockRecords: readonly RecordParts[] = [],
  ): Device =>
    memory(
      isoImage({
        blocks: {
          20: directory(20, rockRecords, { own: rockOwn }),
          21: directory(21, [{ name, extent: 30, size: 3 }]),
          30: Buffer.from('abc'),
        },
        root: { extent: 20 },
        jolietRoot: { extent: 21 },
        volumeId: 'A name',
      }),
    )

  test('its names, and the volume in its spelling', async () => {
    expect(await names(joliet(wide('Grüße 😀.txt;1')))).toEqual(['Grüße 😀.txt'])
    expect(await names(joliet(wide('dots..;1')))).toEqual(['dots'])
    expect(await names(joliet(wide('cut\ud83d')))).toEqual(['cut\ufffd'])
    const iso = await openIso9660(joliet(wide('x')))
    expect(await text(await iso.open('/x'))).toBe('abc')
    expect([iso.label, iso.uuid, iso.tree]).toEqual(['A name', '2021-01-02-03-04-05-00', 'joliet'])
  })

  test('names that lead elsewhere, or are half, are damage', async () => {
    for (const name of [wide('a/b'), wide('..'), wide('a\0'), Uint8Array.of(0, 0x61, 0)])
      expect(await field(names(joliet(name)))).toMatch(/^Joliet name/)
  })

  test('Rock Ridge goes before it, unless its root is empty', async () => {
    expect(await names(joliet(wide('Joliet'), OWN, [{ name: 'A.;1', systemUse: [nm('rock')] }]))).toEqual(['rock'])
    expect(await names(joliet(wide('Joliet'), OWN))).toEqual(['Joliet'])
    expect(await names(joliet(wide('Joliet'), OWN), '/', { tree: 'rockridge' })).toEqual([])
  })
})

describe('directories', () => {
  const dir = (name: string, extent: number, size = 2048): RecordParts => ({ name, flags: 2, extent, size })

  test('one that holds itself, an ancestor or the root, or has two names, is damage', async () => {
    const two = plain([dir('A', 21), dir('B', 21)], { 21: directory(21, []) })
    expect(await field(names(two))).toBe('directory "b"')
    expect(await field(names(plain([dir('A', 20)])))).toBe('directory "a"')
    expect(await field(names(plain([dir('A', 21)], { 21: directory(21, [dir('B', 21)]) }), '/a'))).toBe('directory "b"')
    const deep = plain([dir('A', 21)], { 21: directory(21, [dir('B', 22)]), 22: directory(22, [dir('C', 21)]) })
    expect(await field(names(deep, '/a/b'))).toBe('directory "c"')
    const cross = await openIso9660(
      plain([dir('A', 21), dir('B', 22)], {
        21: directory(21, [dir('X', 23)]),
        22: directory(22, [dir('Y', 23)]),
        23: directory(23, []),
      }),
    )
    expect(await cross.list('/a/x')).toEqual([])
    expect(await field(cross.list('/b'))).toBe('directory "y"')
  })

  test('sizes beyond the device or beyond reason are refused before anything is read', async () => {
    expect(await field(names(plain([dir('A', 60, 2048 * 5)]), '/a'))).toBe('directory extent')
    const large = await failure(names(plain([dir('A', 21, 2 ** 30)]), '/a'), 'UNSUPPORTED')
    expect(large.data.feature).toBe('a directory of more than 64 MiB')
    expect(await names(plain([dir('A', 0, 0)]), '/a')).toEqual([])
  })

  test('directories that lie over each other are damage before they take long', async () => {
    // Each goes on to the device's end, so that all together are much longer than it.
    const count = 400
    const first = 40
    const sectors = first + count
    const dirs = Array.from({ length: count }, (_, n) => dir(`D${n}`, first + n, (count - n) * 2048))
    const blocks: Record<number, Uint8Array> = { 20: directory(20, dirs, { sectors: 20 }) }
    for (let n = 0; n < count; n++) blocks[first + n] = directory(first + n, [])
    const counting = countingDevice(memory(isoImage({ blocks, sectors, root: { extent: 20, size: 20 * 2048 } })))
    const iso = await openIso9660(counting)
    const work = (async () => {
      for (const { name } of await iso.list('/')) await iso.list(`/${name}`)
    })()
    expect(await field(work)).toBe('directories')
    expect(counting.bytesRead).toBeLessThan(counting.size * 6)
    // What was read before stays readable.
    expect(await iso.list('/d0')).toEqual([])
  })

  test('none lies deeper than a path can name', async () => {
    const blocks: Record<number, Uint8Array> = {}
    for (let n = 0; n < 2060; n++) blocks[20 + n] = directory(20 + n, [dir('D', 21 + n)])
    const iso = await openIso9660(memory(isoImage({ blocks, sectors: 2100, root: { extent: 20 } })))
    expect(await iso.list('/d'.repeat(2047))).toHaveLength(1)
    expect(await field(iso.list('/d'.repeat(2048)))).toBe('directory "d"')
  })

  test('a name below a file is not found, as is a tree that is not there', async () => {
    const iso = await openIso9660(plain([{ name: 'A.;1' }]))
    await failure(iso.stat('/a/b'), 'NOT_FOUND')
    await failure(iso.readLink('/a'), 'NOT_FOUND')
    await failure(iso.list('/a'), 'NOT_FOUND')
    await failure(openIso9660(plain([]), { tree: 'joliet' }), 'NOT_FOUND')
  })

  test('files are found by where they start', async () => {
    const iso = await openIso9660(
      plain([{ name: 'A.;1', extent: 30, size: 5 }, dir('D', 21)], {
        21: directory(21, [
          { name: 'B.;1', extent: 31, size: 6 },
          { name: 'C.;1', extent: 30, size: 7 },
          { name: 'E.;1', extent: 32 },
        ]),
      }),
    )
    expect(await iso.filesAt(new Set([30, 31, 32].map(block => block * 2048)))).toEqual(
      new Map([
        [30 * 2048, { path: '/a', size: 5 }],
        [31 * 2048, { path: '/d/b', size: 6 }],
      ]),
    )
  })

  test('those used last are kept, so that names are looked up without reading', async () => {
    const counting = countingDevice(
      plain([dir('D', 21)], { 21: directory(21, [{ name: 'F.;1', extent: 30, size: 3 }]), 30: Buffer.from('abc') }),
    )
    const iso = await openIso9660(counting)
    await iso.list('/d')
    const { reads } = counting
    for (let n = 0; n < 100; n++) await iso.stat('/d/f')
    expect(counting.reads).toBe(reads)
    sameBytes(await (await iso.open('/d/f')).read(1, 2), Buffer.from('bc'))
  })
})

describe('the volume', () => {
  test('what is no ISO 9660 is told', async () => {
    for (const size of [0, 2048, 32_768, 34_815, 40_960])
      expect(await field(openIso9660(memory(new Uint8Array(size))))).toBe('volume descriptors')
    const old = Buffer.alloc(65_536)
    old.write('CDROM', 32_768 + 9, 'latin1')
    expect((await failure(openIso9660(memory(old)), 'UNSUPPORTED')).data.feature).toBe('High Sierra')
  })

  test('block sizes, root records and both byte orders are checked', async () => {
    const parts: ImageParts = { blocks: { 20: directory(20, []) }, root: { extent: 20 } }
    const changed = (at: number, ...bytes: number[]): Device => {
      const image = isoImage(parts)
      image.set(bytes, 32_768 + at)
      return memory(image)
    }
    expect(await field(openIso9660(changed(128, 0, 4, 4, 1)))).toBe('logical_block_size')
    expect(await field(openIso9660(changed(128, 0, 3, 3, 0)))).toBe('logical_block_size')
    expect(await field(openIso9660(changed(156, 0)))).toBe('directory record length')
    expect(await field(openIso9660(changed(156 + 25, 0)))).toBe('root_directory_record flags')
    expect(await field(openIso9660(changed(156 + 2, 0xff)))).toBe('directory record extent')
    // Programs that append to an image change one of the two.
    expect((await openIso9660(changed(80, 65))).volumeSize).toBe(65 * 2048)
  })

  test('label and id: blanks, dates that are not set', async () => {
    const opened = (more: Partial<ImageParts>) =>
      openIso9660(memory(isoImage({ blocks: { 20: directory(20, []) }, root: { extent: 20 }, ...more })))
    expect((await opened({ volumeId: '   ' })).label).toBeUndefined()
    expect((await opened({ volumeId: ' A B' })).label).toBe(' A B')
    const unset = '0'.repeat(16)
    expect((await opened({ dates: ['1999010203040506', unset] })).uuid).toBe('1999-01-02-03-04-05-06')
    expect((await opened({ dates: [unset, unset] })).uuid).toBeUndefined()
  })
})
