import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Device, Extent, SparseDevice } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { corrupt } from '../../../src/error.js'
import { openDirectory } from '../../../src/host/directory.js'
import { type CopyTreeInput, type CopyTreeOptions, type CopyTreeOutcome, copyTree } from '../../../src/ops/copy-tree.js'
import type { Progress } from '../../../src/ops/progress.js'
import { faultyDevice } from '../../support/faulty-device.js'
import { directory, file, symlink as link, type MockNode, mockFileSystem } from '../../support/mock-filesystem.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0
const fresh = (): Promise<string> => path(`out${count++}`)

const run = async (
  input: CopyTreeInput,
  options: CopyTreeOptions = {},
): Promise<CopyTreeOutcome & { steps: Progress[] }> => {
  const steps: Progress[] = []
  const running = copyTree(input, { flush: false, ...options })
  for (;;) {
    const { value, done } = await running.next()
    if (done) return { ...value, steps }
    steps.push(value)
  }
}
const copyTo = async (to: string, root: MockNode, options?: CopyTreeOptions) =>
  run({ from: mockFileSystem(root), paths: ['/'], to: { directory: to } }, options)
const codes = ({ findings }: CopyTreeOutcome): string[] => findings.map(finding => finding.code).sort()
const worse = ({ findings }: CopyTreeOutcome): string[] =>
  findings.filter(({ severity }) => severity !== 'note').map(({ code, where }) => `${code} ${where}`)
const partsBelow = async (at: string): Promise<string[]> =>
  (await readdir(at, { recursive: true })).filter(name => name.includes('.liveos-part'))

const bytes = random(3).bytes(3_000_000)
const bad = corrupt({ device: 'mock', offset: 5, field: 'block', expected: 1, found: 2 })

describe('copying a tree into a directory', () => {
  test('gives content, modes, times, links and names', async () => {
    const hard = file('twice', { stat: { linkCount: 2, mode: 0o600 } })
    const to = await fresh()
    const outcome = await copyTo(
      to,
      directory(
        {
          big: file(bytes, { stat: { mode: 0o751, mtime: 1_500_000_000, mtimeNanoseconds: 123_456_789 } }),
          old: file('x', { stat: { mtime: -2, mtimeNanoseconds: 250_000_000 } }),
          empty: file('', { stat: { mode: 0 } }),
          dir: directory({ below: hard, deeper: directory({}, { stat: { mode: 0o500 } }) }, { stat: { mode: 0o1777 } }),
          hard,
          soft: link('no/such \udcff'),
          'odd \udcff name\n': file('odd'),
        },
        { stat: { mode: 0o711, mtime: 1_400_000_000 } },
      ),
    )
    expect(outcome).toMatchObject({ verb: 'copy', files: 5, directories: 3, symlinks: 1, hardLinks: 1, special: 0 })
    expect(outcome.bytes).toBe(bytes.length + 1 + 5 + 3)
    expect(worse(outcome)).toEqual([])
    sameBytes(await readFile(join(to, 'big')), bytes)
    const big = await lstat(join(to, 'big'), { bigint: true })
    expect([big.mode & 0o7777n, big.mtimeNs]).toEqual([0o751n, 1_500_000_000_123_456_000n])
    expect((await lstat(join(to, 'old'), { bigint: true })).mtimeNs).toBe(-1_750_000_000n)
    expect((await lstat(join(to, 'empty'))).mode & 0o7777).toBe(0)
    const [a, b] = [await lstat(join(to, 'hard')), await lstat(join(to, 'dir/below'))]
    expect([a.ino, a.nlink]).toEqual([b.ino, 2])
    expect(await readlink(join(to, 'soft'), 'buffer')).toEqual(Buffer.from('no/such \xff', 'latin1'))
    expect((await lstat(join(to, 'soft'))).mtimeMs).toBe(1.6e12)
    expect((await readFile(Buffer.from(`${to}/odd \xff name\n`, 'latin1'))).toString()).toBe('odd')
    for (const [name, mode, mtime] of [
      ['', 0o711, 1.4e12],
      ['dir', 0o1777, 1.6e12],
      ['dir/deeper', 0o500, 1.6e12],
    ] as const) {
      const stat = await lstat(join(to, name))
      expect([stat.mode & 0o7777, stat.mtimeMs]).toEqual([mode, mtime])
    }
    expect(await partsBelow(to)).toEqual([])
    const last = outcome.steps.at(-1)!
    expect(last).toEqual({ phase: 'copy', doneBytes: outcome.bytes, totalBytes: outcome.bytes })
    expect(outcome.steps[0]!.phase).toBe('measure')
  })

  test('times are right to the microsecond, before 1970 too', async () => {
    const to = await fresh()
    const { below } = random(12)
    const times = Array.from({ length: 100 }, (_, n) => ({
      mtime: n % 2 ? below(2 ** 31) : -below(2 ** 31),
      mtimeNanoseconds: below(1e9),
    }))
    await copyTo(to, directory(times.map((stat, n) => [`f${n}`, file('', { stat })] as const)))
    for (const [n, { mtime, mtimeNanoseconds }] of times.entries()) {
      const { mtimeNs } = await lstat(join(to, `f${n}`), { bigint: true })
      const wanted = BigInt(mtime) * 1_000_000_000n + BigInt(mtimeNanoseconds)
      expect([n, (mtimeNs + 10n ** 19n) / 1000n]).toEqual([n, (wanted + 10n ** 19n) / 1000n])
    }
  })

  test('holes stay holes, and zeros become some', async () => {
    const size = 64 << 20
    const sparse: SparseDevice = {
      ...memory(new Uint8Array(0)),
      name: 'sparse',
      size,
      read: async (offset, length) => {
        if (offset < 32 << 20) throw new Error('a hole was read')
        return new Uint8Array(length).fill(offset === 32 << 20 ? 7 : 0)
      },
      async *extents(): AsyncIterable<Extent> {
        yield { offset: 0, length: 32 << 20, kind: 'hole' }
        yield { offset: 32 << 20, length: 8 << 20, kind: 'data' }
        yield { offset: 40 << 20, length: 24 << 20, kind: 'hole' }
      },
      async close() {},
    }
    const small = new Uint8Array(60_000)
    small[20_000] = 1
    const to = await fresh()
    await copyTo(
      to,
      directory({ sparse: { kind: 'file', device: sparse }, small: file(small), zeros: file(new Uint8Array(50_000)) }),
    )
    const [large, little, zeros] = await Promise.all(['sparse', 'small', 'zeros'].map(name => lstat(join(to, name))))
    expect([large!.size, little!.size, zeros!.size]).toEqual([size, 60_000, 50_000])
    expect(large!.blocks * 512).toBeLessThanOrEqual(1 << 20)
    expect(little!.blocks * 512).toBeLessThanOrEqual(4096)
    expect(zeros!.blocks).toBe(0)
    sameBytes(await readFile(join(to, 'small')), small)
    const copy = await readFile(join(to, 'sparse'))
    expect([copy[(32 << 20) - 1], copy[32 << 20], copy[(33 << 20) - 1], copy[33 << 20]]).toEqual([0, 7, 7, 0])
  })

  test('set-uid bits are left out unless asked for', async () => {
    const tree = directory({ su: file('', { stat: { mode: 0o6755 } }) })
    const [without, wanted] = [await fresh(), await fresh()]
    const plain = await copyTo(without, tree)
    expect(codes(plain)).toContain('SET_UID_NOT_KEPT')
    // nobody asked for them, so a script sees no trouble
    expect(worse(plain)).toEqual([])
    expect((await lstat(join(without, 'su'))).mode & 0o7777).toBe(0o755)
    expect(codes(await copyTo(wanted, tree, { setUid: true }))).not.toContain('SET_UID_NOT_KEPT')
    expect((await lstat(join(wanted, 'su'))).mode & 0o7777).toBe(0o6755)
  })

  test.runIf(process.getuid?.() === 0)('root keeps owners and devices when asked', async () => {
    const tree = directory(
      {
        f: file('', { stat: { uid: 1234, gid: 5678, mode: 0o4755 } }),
        l: { kind: 'symlink', target: 'f', stat: { uid: 1, gid: 2 } },
        null: { kind: 'character', stat: { mode: 0o666, device: { major: 1, minor: 3 } } },
      },
      { stat: { uid: 3, gid: 4 } },
    )
    const [kept, without] = [await fresh(), await fresh()]
    const outcome = await copyTo(kept, tree, { sameOwner: true })
    expect(outcome.special).toBe(1)
    const [f, l, device, top] = await Promise.all(['f', 'l', 'null', ''].map(name => lstat(join(kept, name))))
    expect([f!.uid, f!.gid, f!.mode & 0o7777]).toEqual([1234, 5678, 0o4755])
    expect([l!.uid, l!.gid, top!.uid, top!.gid]).toEqual([1, 2, 3, 4])
    expect([device!.isCharacterDevice(), device!.rdev, device!.mode & 0o777]).toEqual([true, 259, 0o666])
    const other = await copyTo(without, tree)
    expect(codes(other)).toEqual(expect.arrayContaining(['DEVICES_NOT_KEPT', 'OWNERS_NOT_KEPT', 'SET_UID_NOT_KEPT']))
    expect((await lstat(join(without, 'f'))).uid).toBe(0)
    expect(await readdir(without)).toEqual(['f', 'l'])
  })

  test('fifos are made, sockets are told', async () => {
    const to = await fresh()
    const outcome = await copyTo(to, directory({ p: { kind: 'fifo', stat: { mode: 0o620 } }, s: { kind: 'socket' } }))
    const fifo = await lstat(join(to, 'p'))
    expect([fifo.isFIFO(), fifo.mode & 0o777, fifo.mtimeMs]).toEqual([true, 0o620, 1.6e12])
    expect(codes(outcome)).toContain('SOCKETS_NOT_KEPT')
    expect(await readdir(to)).toEqual(['p'])
  })

  test('paths get their last name, or the names they are given', async () => {
    const from = mockFileSystem(
      directory({ a: directory({ b: directory({ f: file('f') }), g: file('g') }), h: file('h') }),
    )
    const to = await fresh()
    await run({
      from,
      paths: ['/a/b', 'h', { path: '/a/g', as: 'new/er/G' }, { path: '/h', as: 'new/H' }],
      to: { directory: to },
    })
    expect((await readdir(to, { recursive: true })).sort()).toEqual([
      'b',
      'b/f',
      'h',
      'new',
      'new/H',
      'new/er',
      'new/er/G',
    ])
    for (const as of ['../x', 'a/../../x', 'x\0'])
      await failure(run({ from, paths: [{ path: '/h', as }], to: { directory: to } }), 'USAGE')
    await failure(run({ from, paths: ['/h', '/none'], to: { directory: to } }), 'NOT_FOUND')
    await failure(run({ from, paths: [{ path: '/h', as: '' }], to: { directory: to } }), 'USAGE')
    await failure(run({ from, paths: ['/h'], to: { directory: join(to, 'h') } }), 'USAGE')
    await failure(run({ from, paths: ['/h'], to: { directory: join(to, 'no/where') } }), 'NOT_FOUND')
  })
})

describe('a target that holds things already', () => {
  test('keeps them', async () => {
    const to = await fresh()
    await mkdir(join(to, 'd'), { recursive: true })
    await writeFile(join(to, 'f'), 'mine')
    await writeFile(join(to, 'd/g'), 'mine')
    await chmod(join(to, 'd'), 0o700)
    const outcome = await copyTo(to, directory({ f: file('new'), d: directory({ g: link('x'), h: file('h') }) }))
    expect(worse(outcome)).toEqual(['NOT_COPIED /f', 'NOT_COPIED /d/g'])
    expect([await readFile(join(to, 'f'), 'utf8'), await readFile(join(to, 'd/g'), 'utf8')]).toEqual(['mine', 'mine'])
    expect(await readFile(join(to, 'd/h'), 'utf8')).toBe('h')
    expect((await lstat(join(to, 'd'))).mode & 0o777).toBe(0o700)
    expect(await partsBelow(to)).toEqual([])
  })

  test('gives way with overwrite: files by new inodes, directories never', async () => {
    const to = await fresh()
    await mkdir(join(to, 'd/full'), { recursive: true })
    await writeFile(join(to, 'f'), 'mine')
    const outside = await path('outside-file')
    await writeFile(outside, 'outside')
    await symlink(outside, join(to, 'l'))
    const old = (await lstat(join(to, 'f'))).ino
    const keep = await import('node:fs/promises').then(fs => fs.link(join(to, 'f'), join(to, 'other name')))
    expect(keep).toBeUndefined()
    const outcome = await copyTo(to, directory({ f: file('new'), l: file('in place of the link'), d: file('no') }), {
      overwrite: true,
    })
    expect(worse(outcome)).toEqual(['NOT_COPIED /d'])
    expect((await lstat(join(to, 'f'))).ino).not.toBe(old)
    expect(await readFile(join(to, 'f'), 'utf8')).toBe('new')
    expect(await readFile(join(to, 'other name'), 'utf8')).toBe('mine')
    expect(await readFile(outside, 'utf8')).toBe('outside')
    expect((await lstat(join(to, 'l'))).isFile()).toBe(true)
  })

  test.each([false, true])('planted symlinks are never gone through (overwrite %s)', async overwrite => {
    const to = await fresh()
    const outside = await fresh()
    await mkdir(to)
    await mkdir(outside)
    await mkdir(join(to, 'real'))
    await symlink(outside, join(to, 'dir'))
    await symlink(outside, join(to, 'real/dir'))
    await symlink(join(outside, 'made'), join(to, 'file'))
    const dir = (): MockNode => directory({ evil: file('evil'), sub: directory({ evil: file('evil') }) })
    const tree = directory({ dir: dir(), real: directory({ dir: dir() }), file: file('x') })
    const outcome = await copyTo(to, tree, { overwrite })
    expect(await readdir(outside)).toEqual([])
    expect(worse(outcome).slice(0, 2)).toEqual(['NOT_COPIED /dir', 'NOT_COPIED /real/dir'])
    expect((await lstat(join(to, 'dir'))).isSymbolicLink()).toBe(true)
    expect(outcome.findings.find(({ where }) => where === '/dir')!.message).toContain('a symbolic link is there')
  })

  test('the target may be a link itself', async () => {
    const to = await fresh()
    const real = await fresh()
    await mkdir(real)
    await symlink(real, to)
    await copyTo(to, directory({ f: file('f') }))
    expect(await readdir(real)).toEqual(['f'])
  })
})

describe('filesystems that lie', () => {
  test.each([false, true])('no name leads out of the target (overwrite %s)', async overwrite => {
    const above = await fresh()
    await mkdir(above)
    const to = join(above, 'to')
    const outcome = await copyTo(
      to,
      directory([
        ['..', directory({ evil: file('evil') })],
        ['.', directory({ evil: file('evil') })],
        ['../evil', file('evil')],
        ['/tmp/liveos-evil', file('evil')],
        ['', file('evil')],
        ['e\0', file('evil')],
        ['good', file('good')],
      ]),
      { overwrite },
    )
    expect(await readdir(above)).toEqual(['to'])
    expect(await readdir(to)).toEqual(['good'])
    expect(worse(outcome).length).toBe(6)
  })

  test.each([false, true])('a link and a directory of one name lead nowhere (overwrite %s)', async overwrite => {
    const outside = await fresh()
    await mkdir(outside)
    const to = await fresh()
    const evil = directory({ evil: file('evil') })
    const outcome = await copyTo(
      to,
      directory([
        ['a', link(outside)],
        ['a', evil],
        ['b', directory({ evil: file('evil') })],
        ['b', link(outside)],
        ['c', file('1')],
        ['c', file('2')],
      ]),
      { overwrite },
    )
    expect(await readdir(outside)).toEqual([])
    expect(await readlink(join(to, 'a'))).toBe(outside)
    expect(['1', '2']).toContain(await readFile(join(to, 'c'), 'utf8'))
    expect(worse(outcome).sort()).toEqual(['NAMES_COLLIDE /b', 'NAMES_COLLIDE /c', 'NOT_COPIED /a'])
    expect(await partsBelow(to)).toEqual([])
  })

  test('inodes with one number are no hard links when they differ', async () => {
    const to = await fresh()
    const same = { inode: 5, linkCount: 2 }
    await copyTo(to, directory({ a: file('one', { stat: same }), b: file('other', { stat: same }) }))
    expect(await readFile(join(to, 'b'), 'utf8')).toBe('other')
  })

  test('names too long for the target are shortened, and stay apart', async () => {
    const to = await fresh()
    const long = '\u00e9'.repeat(200)
    const outcome = await copyTo(to, directory({ [`${long}a`]: file('a'), [`${long}b`]: directory({ f: file('b') }) }))
    const names = await readdir(to)
    expect(names.length).toBe(2)
    expect(names.every(name => Buffer.byteLength(name) <= 255 && name.startsWith('\u00e9\u00e9'))).toBe(true)
    expect(codes(outcome).filter(code => code === 'NAME_SHORTENED').length).toBe(2)
  })
})

describe('damage', () => {
  const damaged = (from: number): Device => faultyDevice(memory(bytes), [{ from, to: from + 1 }])
  const tree = (): MockNode =>
    directory({
      gone: directory({}, { fails: bad }),
      large: { kind: 'file', device: damaged(2_500_000) },
      little: { kind: 'file', device: faultyDevice(memory(bytes.slice(0, 30_000)), [{ from: 10_000, to: 10_001 }]) },
      closed: file('', { fails: bad }),
      link: { kind: 'symlink', target: 'x', fails: bad },
      whole: file('whole'),
    })

  test('of a file or directory ends nothing and is told', async () => {
    const to = await fresh()
    const outcome = await copyTo(to, tree())
    expect((await readdir(to)).sort()).toEqual(['gone', 'whole'])
    expect(worse(outcome).sort()).toEqual(
      ['WALK_CORRUPT /gone', ...['closed', 'large', 'link', 'little'].map(name => `UNREADABLE /${name}`)].sort(),
    )
    expect(outcome.findings.find(({ where }) => where === '/large')!.message).toContain('nothing of it was kept')
    expect(outcome.files).toBe(1)
  })

  test('leaves what could be read under a name of its own, where asked', async () => {
    const to = await fresh()
    const outcome = await copyTo(to, tree(), { keepPartial: true })
    expect((await readdir(to)).sort()).toEqual(['gone', 'large.partial', 'little.partial', 'whole'])
    const [large, little] = [await readFile(join(to, 'large.partial')), await readFile(join(to, 'little.partial'))]
    sameBytes(large, bytes.subarray(0, large.length))
    sameBytes(little, bytes.subarray(0, little.length))
    expect([large.length, little.length]).toEqual([2_500_000 - ((2_500_000 - 2_097_152) % 4096), 8192])
    expect(outcome.findings.find(({ where }) => where === '/large')!.message).toContain(
      `its first ${large.length} bytes`,
    )
  })

  test('of attributes is told', async () => {
    const to = await fresh()
    const from = {
      ...mockFileSystem(directory({ f: file('f') })),
      xattrs: async () => {
        throw bad
      },
    }
    const outcome = await run({ from, paths: ['/f'], to: { directory: to } }, { xattrs: true })
    expect(await readFile(join(to, 'f'), 'utf8')).toBe('f')
    expect(codes(outcome)).toContain('XATTRS_UNREADABLE')
  })

  test('of many files is told once past the first thousand', async () => {
    const to = await fresh()
    const names = Array.from({ length: 1200 }, (_, n) => [`f${n}`, file('', { fails: bad })] as const)
    const { findings } = await copyTo(to, directory(names))
    // with the one about attributes
    expect(findings.filter(({ code }) => code === 'UNREADABLE').length).toBe(999)
    expect(findings.find(({ code }) => code === 'MORE_FINDINGS')!.message).toContain('201 more')
  })
})

describe('ends', () => {
  test('a signal leaves whole files only', async () => {
    const to = await fresh()
    const stop = new AbortController()
    const slow: Device = {
      ...memory(bytes),
      async read(offset, length) {
        if (offset > 1 << 20) stop.abort()
        await new Promise(resolve => setTimeout(resolve, 5))
        return bytes.slice(offset, offset + length)
      },
    }
    const entries: Record<string, MockNode> = { a: file('a'), d: directory({ b: file('b') }) }
    for (let n = 0; n < 20; n++) entries[`slow${n}`] = { kind: 'file', device: slow }
    await failure(copyTo(to, directory(entries), { signal: stop.signal }), 'CANCELLED')
    expect(await partsBelow(to)).toEqual([])
    for (const name of (await readdir(to)).filter(name => name.startsWith('slow')))
      expect((await lstat(join(to, name))).size).toBe(bytes.length)
    await failure(copyTo(to, directory({}), { signal: stop.signal }), 'CANCELLED')
  })

  test('no space is known before', async () => {
    const to = await fresh()
    const huge: Device = { ...memory(new Uint8Array(0)), name: 'huge', size: 2 ** 52 }
    const tree = directory({ huge: { kind: 'file', device: huge } })
    const error = await failure(copyTo(to, tree), 'NO_SPACE')
    expect(error.data.neededBytes).toBeGreaterThanOrEqual(2 ** 52)
    await failure(
      lstat(to).catch(() => Promise.reject(error)),
      'NO_SPACE',
    )
    // holes take none
    const hollow: SparseDevice = {
      ...huge,
      size: 2 ** 41,
      async *extents(offset, length) {
        yield { offset, length, kind: 'hole' }
      },
    }
    await copyTo(to, directory({ hollow: { kind: 'file', device: hollow } }))
    expect((await lstat(join(to, 'hollow'))).size).toBe(2 ** 41)
  })

  test('a tree is not copied into itself', async () => {
    const root = await fresh()
    await mkdir(join(root, 'sub/deeper'), { recursive: true })
    const from = await openDirectory(root)
    for (const to of [root, join(root, 'sub'), join(root, 'new'), join(root, 'sub/deeper/x')])
      await failure(run({ from, paths: ['/'], to: { directory: to } }), 'USAGE')
    await writeFile(join(root, 'sub/f'), 'f')
    await run({ from, paths: ['/sub'], to: { directory: join(root, 'other') } })
    expect(await readFile(join(root, 'other/sub/f'), 'utf8')).toBe('f')
  })

  test('a directory copies to the same directory', async () => {
    const root = await fresh()
    await mkdir(join(root, 'a/b'), { recursive: true })
    await writeFile(join(root, 'a/b/c'), bytes)
    await writeFile(join(root, 'hole'), '')
    await truncate(join(root, 'hole'), 1 << 30)
    await utimes(join(root, 'a/b'), 5, 5)
    const to = await fresh()
    const outcome = await run({ from: await openDirectory(root), paths: ['/'], to: { directory: to } }, { flush: true })
    sameBytes(await readFile(join(to, 'a/b/c')), bytes)
    expect([(await lstat(join(to, 'hole'))).size, (await lstat(join(to, 'hole'))).blocks]).toEqual([1 << 30, 0])
    expect((await lstat(join(to, 'a/b'))).mtimeMs).toBe(5000)
    expect(outcome.findings.filter(({ severity }) => severity !== 'note')).toEqual([])
  })
})
