import { describe, expect, it } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { parseTime } from '../../../../src/fs/fat/directory.js'
import { type Fat, openFat } from '../../../../src/fs/fat/reader.js'
import { fatImage, type Item } from '../../../support/fat-image.js'
import { failure } from '../../../support/outcome.js'

const withRoot = async (...items: Item[]): Promise<Fat> => {
  const image = fatImage(12)
  image.directory(image.rootStart, items)
  return openFat(memory(image.bytes, 'volume'))
}
const names = async (...items: Item[]): Promise<readonly string[]> =>
  (await (await withRoot(...items)).list('/')).map(entry => entry.name)

describe('short names', () => {
  it.each([
    ['README  TXT', 0, 'README.TXT'],
    ['README  TXT', 0x08, 'readme.TXT'],
    ['README  TXT', 0x10, 'README.txt'],
    ['README  TXT', 0x18, 'readme.txt'],
    ['NOEXT      ', 0, 'NOEXT'],
    ['A B     C D', 0, 'A B.C D'],
    ['\x05BC     TXT', 0, 'σBC.TXT'],
    ['\x80\x90\xe1     \xff  ', 0, 'ÇÉß.\u00a0'],
    ['\x80\x90\xe1\xe2    \x8e\x99 ', 0x18, 'çéßΓ.äö'],
  ])('%j with case bits %i is %s', async (short, lower, name) => {
    expect(await names({ short, lower })).toEqual([name])
  })

  it.each(['A/B     TXT', 'A\0B     TXT', '        TXT'.replace('TXT', '   ')])('%j is corrupt', async short => {
    const error = await failure(names({ short: 'GOOD       ' }, { short }), 'CORRUPT')
    expect(error.data).toMatchObject({ field: 'DIR_Name', device: 'volume' })
  })
})

describe('long names', () => {
  const short = 'LONGNA~1TXT'
  const long = 'A long name of three parts.text'

  it.each([
    long,
    'x'.repeat(13),
    'x'.repeat(26),
    'ä'.repeat(255),
    'tail of a pair 🐧',
    'twelve chars🐧 over two parts',
    '. dots',
    '...',
  ])('%s', async name => expect(await names({ short, long: name })).toEqual([name]))

  it('a lone half of a pair becomes the replacement character, and is found by that', async () => {
    const fat = await withRoot({ short, long: 'half \ud83d.txt' })
    expect((await fat.list('/'))[0]!.name).toBe('half \ufffd.txt')
    expect((await fat.stat('/half \ufffd.txt')).kind).toBe('file')
  })

  it.each<[string, (raw: Uint8Array, index: number) => void]>([
    ['checksum of one part', (raw, index) => index === 1 && raw[13]!++],
    ['checksum of all parts', (raw, index) => index < 3 && raw[13]!++],
    ['number', (raw, index) => index === 1 && raw[0]!++],
    ['no last part', (raw, index) => index === 0 && raw.fill(3, 0, 1)],
    ['a deleted part', (raw, index) => index === 1 && raw.fill(0xe5, 0, 1)],
    ['the first part missing', (raw, index) => index === 2 && raw.fill(0xe5, 0, 1)],
    ['a last mark at the start', (raw, index) => index === 2 && raw.fill(0x42, 0, 1)],
    ['number 0', (raw, index) => index === 2 && raw.fill(0, 0, 1) && raw.fill(0x40, 0, 1)],
    ['a short name that changed', (raw, index) => index === 3 && raw.fill(0x5a, 0, 1)],
    ['an empty name', (raw, index) => index === 2 && raw.fill(0, 1, 3)],
  ])('give way to the short one where they are broken: %s', async (_, change) => {
    const [name, other] = await names(
      { short, long, change: (raw, index) => void change(raw, index) },
      { short: 'OTHER      ' },
    )
    expect(name).toMatch(/^.ONGNA~1\.TXT$/)
    expect(other).toBe('OTHER')
  })

  it('a second mark of the last part changes nothing, as in Linux', async () => {
    const change = (raw: Uint8Array, index: number): void => void (index === 1 && raw.fill(0x42, 0, 1))
    expect(await names({ short, long, change })).toEqual([long])
  })

  it('a long name that breaks off before another one is forgotten', async () => {
    const broken: Item = {
      short: 'X          ',
      long,
      change: (raw, index) => void (index === 3 && raw.fill(0xe5, 0, 1)),
    }
    expect(await names(broken, { short: 'PLAIN      ' }, broken, { short, long })).toEqual(['PLAIN', long])
  })

  it('of more than 255 characters give way too', async () => {
    expect(await names({ short, long: 'x'.repeat(256) })).toEqual(['LONGNA~1.TXT'])
  })

  it.each(['.', '..', 'a/b'])('%s is corrupt', async name => {
    await failure(names({ short, long: name }), 'CORRUPT')
  })
})

describe('entries', () => {
  it('deleted ones, labels, dots and what is behind the end are left out', async () => {
    const deleted: Item = { short: 'GONE    TXT', long: 'gone too', change: raw => void raw.fill(0xe5, 0, 1) }
    const fat = await withRoot(
      { short: 'MY LABEL   ', attributes: 0x08 },
      { short: 'OTHER LABEL', attributes: 0x08 },
      { short: '.          ', attributes: 0x10 },
      { short: '..         ', attributes: 0x10 },
      deleted,
      { short: 'KEPT       ', date: 0x5d2f, time: 0x6b9d },
      { short: '\0          ' },
      { short: 'BEHIND     ' },
    )
    expect((await fat.list('/')).map(entry => entry.name)).toEqual(['KEPT'])
    expect(fat.label).toBe('MY LABEL')
    expect((await fat.stat('/kept')).mtime).toBe(Date.UTC(2026, 8, 15, 13, 28, 58) / 1000)
  })

  it('the label of the boot sector serves where the root has none', async () => {
    const image = fatImage(16)
    image.bytes.set(Buffer.from('BOOTLABEL  '), 43)
    expect((await openFat(memory(image.bytes))).label).toBe('BOOTLABEL')
    image.bytes.fill(0x28, 38, 39)
    expect((await openFat(memory(image.bytes))).label).toBeUndefined()
    expect((await openFat(memory(fatImage(16).bytes))).label).toBeUndefined()
  })

  it('times', () => {
    expect(parseTime(0, 0)).toBe(Date.UTC(1980, 0, 1) / 1000)
    expect(parseTime(0xff9f, 0xbf7d)).toBe(Date.UTC(2107, 11, 31, 23, 59, 58) / 1000)
  })

  it('names are found as written first, then in any case, then by their short name', async () => {
    const fat = await withRoot(
      { short: 'SAME~1     ', long: 'Name', cluster: 0 },
      { short: 'SAME~2     ', long: 'name' },
      { short: 'B          ', long: 'same~1' },
    )
    const [first, second, third] = await fat.list('/')
    const inode = async (name: string): Promise<number> => (await fat.stat(name)).inode
    expect(await inode('/Name')).toBe(first!.inode)
    expect(await inode('/name')).toBe(second!.inode)
    expect(await inode('/NAME')).toBe(first!.inode)
    expect(await inode('/SAME~1')).toBe(third!.inode)
    expect(await inode('/same~2')).toBe(second!.inode)
    expect(await inode('/b.')).toBe(third!.inode)
  })
})
