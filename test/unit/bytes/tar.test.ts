import { describe, expect, test } from 'vitest'
import { encodeTarMember, TAR_BLOCK, type TarMember, tarEnd, tarPadding } from '../../../src/bytes/tar.js'

const plain: TarMember = {
  path: Buffer.from('dir/file'),
  kind: 'file',
  mode: 0o4755,
  uid: 1000,
  gid: 100,
  mtime: 1_600_000_000,
  mtimeNanoseconds: 0,
  size: 5,
}
const text = (bytes: Uint8Array, at: number, length: number): string =>
  Buffer.from(bytes.subarray(at, at + length))
    .toString('latin1')
    .replace(/\0.*$/s, '')

/** The records of the pax header that stands first, read by their lengths. */
const records = (bytes: Uint8Array): Map<string, Buffer> => {
  expect(text(bytes, 156, 1)).toBe('x')
  const size = Number.parseInt(text(bytes, 124, 12), 8)
  const content = Buffer.from(bytes.subarray(TAR_BLOCK, TAR_BLOCK + size))
  const found = new Map<string, Buffer>()
  for (let at = 0; at < size; ) {
    const length = Number.parseInt(content.subarray(at, content.indexOf(' ', at)).toString(), 10)
    const whole = content.subarray(content.indexOf(' ', at) + 1, at + length)
    expect(whole.at(-1)).toBe(0x0a)
    const equals = whole.indexOf('=')
    found.set(whole.subarray(0, equals).toString('latin1'), whole.subarray(equals + 1, -1))
    at += length
  }
  return found
}
const header = (bytes: Uint8Array): Uint8Array => {
  const size = Number.parseInt(text(bytes, 124, 12), 8)
  return bytes.subarray(TAR_BLOCK + size + tarPadding(size))
}

describe('tar', () => {
  test('a plain file is one block with the right sum', () => {
    const bytes = encodeTarMember(plain)
    expect(bytes.length).toBe(TAR_BLOCK)
    expect(text(bytes, 0, 100)).toBe('dir/file')
    expect(text(bytes, 100, 8)).toBe('0004755')
    expect(text(bytes, 108, 8)).toBe('0001750')
    expect(text(bytes, 124, 12)).toBe('00000000005')
    expect(text(bytes, 136, 12)).toBe('13727410000')
    expect(text(bytes, 257, 6)).toBe('ustar')
    const sum = bytes.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0)
    expect(text(bytes, 148, 7)).toBe(sum.toString(8).padStart(6, '0'))
  })

  test('a path is split at a slash while it fits, else it has a record', () => {
    const fits = `${'p'.repeat(155)}/${'n'.repeat(100)}`
    const split = encodeTarMember({ ...plain, path: Buffer.from(fits) })
    expect(split.length).toBe(TAR_BLOCK)
    expect(`${text(split, 345, 155)}/${text(split, 0, 100)}`).toBe(fits)
    for (const path of [`${'p'.repeat(156)}/${'n'.repeat(10)}`, `p/${'n'.repeat(101)}`, 'n'.repeat(101)]) {
      const long = encodeTarMember({ ...plain, path: Buffer.from(path) })
      expect(String(records(long).get('path'))).toBe(path)
    }
    const directory = encodeTarMember({
      ...plain,
      kind: 'directory',
      size: 0,
      path: Buffer.from(`a/${'n'.repeat(99)}`),
    })
    expect(`${text(directory, 345, 155)}/${text(directory, 0, 100)}`).toBe(`a/${'n'.repeat(99)}/`)
  })

  test('names of other bytes: UTF-8 as they are, all else marked', () => {
    const utf8 = records(encodeTarMember({ ...plain, path: Buffer.from('é') }))
    expect([...utf8.keys()]).toEqual(['path'])
    const odd = records(encodeTarMember({ ...plain, path: Buffer.from([0x61, 0xff]) }))
    expect([...odd.keys()]).toEqual(['hdrcharset', 'path'])
    expect(odd.get('path')).toEqual(Buffer.from([0x61, 0xff]))
    const link = { ...plain, kind: 'symlink', size: 0, linkPath: Buffer.from([0xfe]) } as const
    expect([...records(encodeTarMember(link)).keys()]).toEqual(['hdrcharset', 'linkpath'])
  })

  test('big numbers have records', () => {
    const found = records(
      encodeTarMember({ ...plain, uid: 4_000_000_000, gid: 2_097_152, size: 8 * 2 ** 30, mtime: 2 ** 33 }),
    )
    expect(Object.fromEntries([...found].map(([key, value]) => [key, String(value)]))).toEqual({
      uid: '4000000000',
      gid: '2097152',
      size: '8589934592',
      mtime: '8589934592',
    })
    expect(encodeTarMember({ ...plain, uid: 2_097_151, size: 8 * 2 ** 30 - 1 }).length).toBe(TAR_BLOCK)
  })

  test.each([
    [5, 0, undefined],
    [5, 250_000_000, '5.25'],
    [5, 1, '5.000000001'],
    [0, 999_999_999, '0.999999999'],
    [-1, 0, '-1'],
    [-1, 250_000_000, '-0.75'],
    [-3, 999_999_999, '-2.000000001'],
  ])('time %d + %d ns is %s', (mtime, mtimeNanoseconds, said) => {
    const bytes = encodeTarMember({ ...plain, mtime, mtimeNanoseconds })
    if (said === undefined) expect(bytes.length).toBe(TAR_BLOCK)
    else expect(String(records(bytes).get('mtime'))).toBe(said)
  })

  test('attributes keep any byte, and records of every length count themselves', () => {
    for (let length = 0; length < 1200; length++) {
      const value = Buffer.alloc(length, length % 251)
      const found = records(encodeTarMember({ ...plain, xattrs: [{ name: Buffer.from('user.a'), value }] }))
      expect(found.get('SCHILY.xattr.user.a')).toEqual(value)
    }
    const odd = records(
      encodeTarMember({ ...plain, xattrs: [{ name: Buffer.from('user.a=b%'), value: Buffer.of(0) }] }),
    )
    expect([...odd.keys()]).toEqual(['SCHILY.xattr.user.a%3Db%25'])
  })

  test('a sparse file has its map, the end of a hole at its end too', () => {
    const bytes = encodeTarMember({ ...plain, size: 10_000, data: [{ offset: 4096, length: 100 }] })
    const found = records(bytes)
    expect(String(found.get('GNU.sparse.name'))).toBe('dir/file')
    expect(String(found.get('GNU.sparse.realsize'))).toBe('10000')
    const main = header(bytes)
    expect(text(main, 124, 12)).toBe((512 + 100).toString(8).padStart(11, '0'))
    expect(text(main, 512, 512)).toBe('2\n4096\n100\n10000\n0\n')
    const full = encodeTarMember({ ...plain, size: 10, data: [{ offset: 4, length: 6 }] })
    expect(text(header(full), 512, 512)).toBe('1\n4\n6\n')
    expect(text(header(encodeTarMember({ ...plain, size: 10, data: [] })), 512, 512)).toBe('1\n10\n0\n')
  })

  test('devices have their numbers', () => {
    const bytes = encodeTarMember({ ...plain, kind: 'block', size: 0, device: { major: 259, minor: 70_000 } })
    expect([text(bytes, 156, 1), text(bytes, 329, 8), text(bytes, 337, 8)]).toEqual(['4', '0000403', '0210560'])
  })

  test('what can be no member is a bug of ours', () => {
    for (const wrong of [
      { path: Buffer.from('/etc') },
      { path: Buffer.from('') },
      { path: Buffer.from('a\0') },
      { linkPath: Buffer.from('x') },
      { kind: 'symlink', size: 0 },
      { kind: 'directory' },
      { data: [{ offset: 0, length: 6 }] },
      { mtimeNanoseconds: 1e9 },
    ] as Partial<TarMember>[])
      expect(() => encodeTarMember({ ...plain, ...wrong })).toThrow('liveos bug')
  })

  test('padding and end are whole blocks', () => {
    expect([0, 1, 511, 512, 513].map(tarPadding)).toEqual([0, 511, 1, 0, 511])
    expect(tarEnd()).toEqual(new Uint8Array(1024))
  })
})
