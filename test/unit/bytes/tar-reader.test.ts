import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { encodeTarMember, TAR_BLOCK, type TarMember, tarEnd, tarPadding } from '../../../src/bytes/tar.js'
import { readTar, type TarEntry } from '../../../src/bytes/tar-reader.js'
import { isLiveError } from '../../../src/error.js'
import { failure } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'))
const names = (value: Uint8Array): string => Buffer.from(value).toString('latin1')

const FILE: TarMember = {
  path: bytes('a/file'),
  kind: 'file',
  mode: 0o640,
  uid: 1000,
  gid: 100,
  mtime: 1_700_000_000,
  mtimeNanoseconds: 0,
  size: 3,
}

const storedOf = ({ size, data }: TarMember): number => data?.reduce((sum, { length }) => sum + length, 0) ?? size

/** An archive of these members, contents of `x`. */
const archive = (...members: readonly TarMember[]): Buffer =>
  Buffer.concat([
    ...members.flatMap(member => {
      const stored = storedOf(member)
      return [encodeTarMember(member), Buffer.alloc(stored, 'x'), new Uint8Array(tarPadding(stored))]
    }),
    tarEnd(),
  ])

const all = async (tar: Uint8Array): Promise<TarEntry[]> => {
  const found: TarEntry[] = []
  for await (const entry of readTar(memory(tar, 'archive'))) found.push(entry)
  return found
}

/** CORRUPT, in that field. */
const wrongField = async (reading: Promise<unknown>, field: string): Promise<void> =>
  void expect((await failure(reading, 'CORRUPT')).data.field).toBe(field)

/** Writes a header's checksum anew. */
const summed = (block: Uint8Array): Buffer => {
  const header = Buffer.from(block)
  header.fill(0x20, 148, 156)
  header.write(
    `${header
      .subarray(0, 512)
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
    'latin1',
  )
  return header
}

/** An archive of one file, its header changed. */
const changed = (change: (header: Buffer) => void, member: TarMember = FILE): Buffer => {
  const tar = archive(member)
  change(tar)
  return Buffer.concat([summed(tar.subarray(0, 512)), tar.subarray(512)])
}

const pathBytes = fc
  .array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { minLength: 1, maxLength: 6 })
  .map(parts =>
    Buffer.concat(
      parts.flatMap((part, n) => [
        n > 0 ? Buffer.from('/') : Buffer.alloc(0),
        Buffer.from(part.map(byte => (byte === 0 || byte === 0x2f ? 0x61 : byte))),
      ]),
    ),
  )
  .filter(
    path =>
      !names(path)
        .split('/')
        .some(name => name === '.' || name === '..'),
  )

describe('what the writer writes comes back', () => {
  it('any names, numbers, times, attributes and holes', async () => {
    const member = fc
      .record({
        path: pathBytes,
        kind: fc.constantFrom('file', 'directory', 'symlink', 'fifo', 'block') as fc.Arbitrary<TarMember['kind']>,
        mode: fc.integer({ min: 0, max: 0o7777 }),
        uid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        gid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        mtime: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
        mtimeNanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
        size: fc.integer({ min: 0, max: 5000 }),
        link: pathBytes,
        xattr: fc.option(fc.record({ name: fc.constantFrom('user.a', 'user.b=c%'), value: fc.uint8Array() })),
        holes: fc.option(fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 9 })),
      })
      .map(({ link, xattr, holes, size, kind, ...rest }): TarMember => {
        const data: { offset: number; length: number }[] = []
        let end = 0
        for (const length of holes ?? []) {
          data.push({ offset: end + 512, length })
          end += 512 + length
        }
        const isFile = kind === 'file'
        return {
          ...rest,
          kind,
          size: isFile ? (holes ? end + size : size) : 0,
          ...(isFile && holes ? { data } : {}),
          ...(kind === 'symlink' ? { linkPath: link } : {}),
          ...(kind === 'block' ? { device: { major: 8, minor: 2 ** 20 } } : {}),
          ...(xattr ? { xattrs: [{ name: bytes(xattr.name), value: xattr.value }] } : {}),
        }
      })
    await fc.assert(
      fc.asyncProperty(fc.array(member, { maxLength: 5 }), async members => {
        const found = await all(archive(...members))
        expect(found.length).toBe(members.length)
        for (const [n, { path, kind, mode, uid, gid, mtime, mtimeNanoseconds, size, ...rest }] of members.entries()) {
          const entry = found[n]!
          expect(names(entry.path)).toBe(names(path))
          expect(entry).toMatchObject({ kind, mode, uid, gid, mtime, mtimeNanoseconds, size })
          expect(names(entry.linkPath ?? bytes(''))).toBe(names(rest.linkPath ?? bytes('')))
          expect(entry.device).toEqual(rest.device)
          expect(entry.xattrs?.map(({ name, value }) => [names(name), [...value]])).toEqual(
            rest.xattrs?.map(({ name, value }) => [names(name), [...value]]),
          )
          const wanted = rest.data && storedOf(members[n]!) < size ? rest.data : undefined
          expect(entry.data).toEqual(wanted)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('contents are where it says', async () => {
    const tar = archive(
      { ...FILE, size: 700 },
      { ...FILE, path: bytes('b'), size: 2000, data: [{ offset: 512, length: 5 }] },
    )
    for (const { contentStart, data, size } of await all(tar)) {
      const length = data ? 5 : size
      expect(tar.subarray(contentStart, contentStart + length).toString()).toBe('x'.repeat(length))
      expect(tar[contentStart + length]).not.toBe(0x78)
    }
  })
})

describe('hostile names', () => {
  it.each(['/etc/passwd', '../up', 'a/../../b', 'a/..', '..'])('%s is refused', async name => {
    await wrongField(all(changed(header => header.fill(0, 0, 100).write(name, 0))), 'path')
    // a hard link leads to a member, a symlink anywhere: what it means is for who unpacks it
    const link = { ...FILE, kind: 'hardlink' as const, size: 0, linkPath: bytes('a') }
    await wrongField(all(changed(header => header.fill(0, 157, 257).write(name, 157), link)), 'linkpath')
    const [soft] = await all(archive({ ...FILE, kind: 'symlink', size: 0, linkPath: bytes(name) }))
    expect(names(soft!.linkPath!)).toBe(name)
  })

  it('dots and slashes too many are left out; the root itself has no name', async () => {
    const found = await all(changed(header => header.fill(0, 0, 100).write('.//a/./b//', 0), { ...FILE, size: 0 }))
    expect(found.map(({ path, kind }) => [names(path), kind])).toEqual([['a/b', 'directory']])
    const [root] = await all(archive({ ...FILE, path: bytes('.'), kind: 'directory', size: 0 }))
    expect(root!.path.length).toBe(0)
  })

  it('a NUL in a record, and a path past 4096 bytes', async () => {
    // of a length that gets a record
    const long = { ...FILE, path: bytes(`${'n'.repeat(150)}`) }
    const tar = archive(long)
    tar.writeUInt8(0, tar.indexOf('path=nnn') + 10)
    await wrongField(all(tar), 'path')
    await wrongField(all(archive({ ...FILE, path: bytes('x'.repeat(5000)) })), 'path')
  })
})

describe('absurd numbers', () => {
  const base256 = (value: bigint, length: number): Buffer => {
    const field = Buffer.alloc(length)
    for (let at = length - 1, rest = value; at > 0; at--, rest >>= 8n) field[at] = Number(rest & 255n)
    field[0] = 0x80
    return field
  }
  it.each([
    ['a size past the end of the archive', (header: Buffer) => header.write('77777777777', 124)],
    ['a size of 2^62', (header: Buffer) => base256(2n ** 62n, 12).copy(header, 124)],
    ['a size of 2^90', (header: Buffer) => base256(2n ** 90n, 12).copy(header, 124)],
    ['a negative size', (header: Buffer) => header.fill(0xff, 124, 136)],
    ['digits that are none', (header: Buffer) => header.write('12389', 124)],
    ['a negative uid', (header: Buffer) => header.fill(0xff, 108, 116)],
  ])('%s', async (_, change) => {
    await failure(all(changed(header => void change(header))), 'CORRUPT')
  })

  it('large numbers in base 256 are read', async () => {
    const [entry] = await all(changed(header => void base256(4_000_000_000n, 8).copy(header, 108)))
    expect(entry!.uid).toBe(4_000_000_000)
  })

  it('a sparse map that promises too much, or lies', async () => {
    const sparse = {
      ...FILE,
      size: 5000,
      data: [
        { offset: 512, length: 5 },
        { offset: 1024, length: 6 },
      ],
    }
    const at = encodeTarMember(sparse).length - TAR_BLOCK
    const withMap = (map: string): Buffer => {
      const tar = archive(sparse)
      tar.fill(0, at, at + TAR_BLOCK).write(map, at)
      return tar
    }
    expect((await all(withMap('3\n512\n5\n1024\n6\n5000\n0\n')))[0]!.data).toEqual(sparse.data)
    for (const map of [
      '3\n1024\n6\n512\n5\n5000\n0\n',
      '3\n512\n5\n1024\n60\n5000\n0\n',
      '3\n512\n5\n1024\n6\n9000\n0\n',
      '2\n512\n-5\n1024\n6\n',
      'x\n',
      '9'.repeat(400),
      '200000\n1\n',
    ])
      await failure(all(withMap(map)), 'CORRUPT')
    await failure(all(withMap('9999999\n1\n')), 'UNSUPPORTED')
  })

  it('headers of headers', async () => {
    const long = archive({ ...FILE, path: bytes('n'.repeat(300)) })
    const pax = (change: (header: Buffer) => void): Buffer => {
      const tar = Buffer.from(long)
      change(tar)
      return Buffer.concat([summed(tar.subarray(0, 512)), tar.subarray(512)])
    }
    await failure(all(pax(header => void header.write('00017777777', 124))), 'UNSUPPORTED')
    await failure(all(pax(header => void header.write('00000777777', 124))), 'CORRUPT')
    await wrongField(all(Buffer.concat([long.subarray(0, 1024), tarEnd()])), 'header')
    for (const record of ['0 path=x\n', '99 path=x\n', '7 path x\n', 'x path=x\n', '5 a=\n'])
      await failure(all(pax(header => void header.fill(0, 512, 1024).write(record, 512))), 'CORRUPT')
  })
})

describe('damage', () => {
  const whole = archive(
    { ...FILE, size: 700 },
    { ...FILE, path: bytes('n'.repeat(300)) },
    { ...FILE, path: bytes('s'), size: 5000, data: [{ offset: 512, length: 5 }] },
    { ...FILE, path: bytes('d'), kind: 'directory', size: 0 },
  )

  it('cut off anywhere it is not taken for whole', async () => {
    for (let length = 0; length < whole.length; length += 128)
      expect(isLiveError(await failure(all(whole.subarray(0, length)), 'CORRUPT'))).toBe(true)
  })

  it('of another kind of member, or with a checksum that is wrong', async () => {
    await failure(all(changed(header => void header.write('M', 156))), 'UNSUPPORTED')
    const tar = archive(FILE)
    tar[0]! ^= 1
    await wrongField(all(tar), 'chksum')
  })

  it('bits turned over give a list or an error of ours', async () => {
    const { seed, below } = random()
    for (let round = 0; round < 3000; round++) {
      const tar = Buffer.from(whole)
      for (let n = 0; n < 1 + below(3); n++) tar[below(tar.length)]! ^= 1 << below(8)
      const rest = below(2) === 0 ? tar : Buffer.concat([summed(tar.subarray(0, 512)), tar.subarray(512)])
      try {
        expect((await all(rest)).length).toBeLessThan(10)
      } catch (error) {
        if (!isLiveError(error)) throw new Error(`seed ${seed}`, { cause: error })
      }
    }
  })
})
