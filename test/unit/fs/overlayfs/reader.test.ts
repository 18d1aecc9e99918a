import { describe, expect, it } from 'vitest'
import type { FileSystem, Xattr } from '../../../../src/fs/filesystem.js'
import { type OverlayFsOptions, openOverlayFs } from '../../../../src/fs/overlayfs/reader.js'
import { walk } from '../../../../src/fs/walk.js'
import { fileSystemContract } from '../../../contract/filesystem.js'
import { directory, file, type MockNode, mockFileSystem, symlink } from '../../../support/mock-filesystem.js'
import { failure } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'

const mark = (name: string, value: string | Uint8Array, prefix = 'trusted'): Xattr => ({
  name: `${prefix}.overlay.${name}`,
  value: Buffer.from(value),
})
const opaque = { xattrs: [mark('opaque', 'y')] }
const redirect = (to: string): { xattrs: Xattr[] } => ({ xattrs: [mark('redirect', to)] })
const whiteout = (): MockNode => ({ kind: 'character', stat: { device: { major: 0, minor: 0 } } })
const handle = (inode: number): Uint8Array => {
  const bytes = Buffer.alloc(29)
  bytes.set([0, 0xfb, 29, 0, 1])
  bytes.writeUInt32LE(inode, 21)
  return bytes
}

type Names = Record<string, MockNode>

const overlay = (lower: Names, upper: Names, more: Partial<OverlayFsOptions> & { root?: Partial<MockNode> } = {}) =>
  openOverlayFs({
    name: 'merged',
    lower: mockFileSystem(directory(lower), 'lower'),
    upper: mockFileSystem(directory({ up: directory(upper, more.root ?? {}) }), 'upper'),
    upperRoot: '/up',
    ...more,
  })

const text = async (fs: FileSystem, path: string): Promise<string> => {
  const device = await fs.open(path)
  return Buffer.from(await device.read(0, device.size)).toString()
}
const names = async (fs: FileSystem, path: string): Promise<string[]> =>
  (await fs.list(path)).map(({ name }) => name).sort()
const tree = async (fs: FileSystem): Promise<string[]> => {
  const paths: string[] = []
  for await (const { path, stat } of walk(fs, '/', { order: 'bytes' }))
    paths.push(stat.kind === 'file' ? `${path} ${await text(fs, path)}` : path)
  return paths
}

fileSystemContract('an OverlayFS', async () => ({
  fs: await overlay(
    {
      etc: directory({ kept: file('kept'), gone: file('gone'), changed: file('old'), link: symlink('kept') }),
      'only below': directory({ deep: file('deep') }),
    },
    {
      etc: directory({ gone: whiteout(), changed: file('new one'), new: symlink('/etc/kept') }),
      added: directory({ file: file('added') }),
    },
  ),
  known: [
    { path: '/', kind: 'directory', mode: 0o755, names: ['etc', 'only below', 'added'] },
    { path: '/etc', kind: 'directory', mode: 0o755, names: ['kept', 'changed', 'link', 'new'] },
    { path: '/etc/kept', kind: 'file', mode: 0o644, content: Buffer.from('kept') },
    { path: '/etc/changed', kind: 'file', mode: 0o644, content: Buffer.from('new one') },
    { path: '/only below/deep', kind: 'file', mode: 0o644, content: Buffer.from('deep') },
    { path: '/etc/link', kind: 'symlink', mode: 0o644, target: 'kept' },
    { path: '/etc/new', kind: 'symlink', mode: 0o644, target: '/etc/kept' },
    { path: '/added', kind: 'directory', mode: 0o755, names: ['file'] },
  ],
  close: async () => {},
}))

describe('an OverlayFS', () => {
  it('hides what is deleted, below an opaque directory all of it', async () => {
    const lower = { a: directory({ x: file('x'), y: file('y') }), b: directory({ z: file('z') }), c: file('c') }
    const fs = await overlay(lower, { a: directory({ new: file('n') }, opaque), b: whiteout(), c: directory({}) })
    expect(await tree(fs)).toEqual(['/', '/a', '/a/new n', '/c'])
    for (const path of ['/a/x', '/b', '/b/z', '/c/below']) await failure(fs.stat(path), 'NOT_FOUND')
    expect((await fs.upperEntries('/')).filter(({ isWhiteout }) => isWhiteout).map(({ name }) => name)).toEqual(['b'])
  })

  it('merges the root whatever it says, and takes a file over a directory for a file', async () => {
    const fs = await overlay(
      { a: file('a'), d: directory({ in: file('in') }) },
      { d: file('now a file') },
      { root: opaque },
    )
    expect(await tree(fs)).toEqual(['/', '/a a', '/d now a file'])
  })

  it('follows redirects, of the same directory and from the root, below opaque directories too', async () => {
    const lower = {
      old: directory({ in: directory({ x: file('x') }), y: file('y') }),
      far: directory({ z: file('z') }),
    }
    const fs = await overlay(lower, {
      old: whiteout(),
      far: whiteout(),
      renamed: directory({ in: directory({ n: file('n') }) }, redirect('old')),
      anew: directory({ moved: directory({}, redirect('/far')), lost: directory({}, redirect('far')) }, opaque),
    })
    expect(await tree(fs)).toEqual([
      '/',
      '/anew',
      '/anew/lost',
      '/anew/moved',
      '/anew/moved/z z',
      '/renamed',
      '/renamed/in',
      '/renamed/in/n n',
      '/renamed/in/x x',
      '/renamed/y y',
    ])
  })

  it('takes a redirect to nothing, to a file or to a deletion for none, and opaque before all', async () => {
    const fs = await overlay(
      { file: file('f'), d: directory({ x: file('x') }), hidden: whiteout() },
      {
        a: directory({}, redirect('/nowhere/at/all')),
        b: directory({}, redirect('/file')),
        c: directory({}, redirect('/hidden')),
        e: directory({}, { xattrs: [mark('redirect', '/d'), mark('opaque', 'y')] }),
      },
    )
    expect(await tree(fs)).toEqual(['/', '/a', '/b', '/c', '/d', '/d/x x', '/e', '/file f'])
  })

  it('does not believe the marks of the lower layer, but its deletions', async () => {
    const fs = await overlay(
      { d: directory({ x: file('x'), gone: whiteout() }, opaque), moved: directory({ y: file('y') }, redirect('/d')) },
      { d: directory({ n: file('n') }) },
    )
    expect(await tree(fs)).toEqual(['/', '/d', '/d/n n', '/d/x x', '/moved', '/moved/y y'])
    await failure(fs.stat('/d/gone'), 'NOT_FOUND')
    expect(await fs.xattrs('/moved')).toEqual([])
  })

  it('reads the data of a file with attributes only from below', async () => {
    const meta = (to?: string): Partial<MockNode> => ({
      xattrs: [mark('metacopy', ''), ...(to === undefined ? [] : [mark('redirect', to)])],
    })
    const hole = (size: number): Uint8Array => new Uint8Array(size)
    const fs = await overlay(
      { d: directory({ f: file('below'), g: file('other') }), l: symlink('d/f') },
      {
        d: directory({ f: file(hole(5), meta()), g: whiteout(), h: file(hole(5), meta('g')) }),
        away: file(hole(5), meta('/d/f')),
        short: file(hole(4), meta('/d/f')),
        nothing: file(hole(5), meta()),
        link: file(hole(3), meta('/l')),
        bad: file(hole(5), meta('/d/../f')),
      },
    )
    expect([await text(fs, '/d/f'), await text(fs, '/d/h'), await text(fs, '/away')]).toEqual([
      'below',
      'other',
      'below',
    ])
    expect([await fs.dataBelow('/d/h'), await fs.dataBelow('/away')]).toEqual(['/d/g', '/d/f'])
    expect(await fs.xattrs('/away')).toEqual([])
    for (const path of ['/short', '/nothing', '/link', '/bad']) {
      await failure(fs.open(path), 'CORRUPT')
      expect((await fs.stat(path)).kind).toBe('file')
    }
  })

  it('takes empty files for deletions only where directory and file both say so', async () => {
    const white = (): MockNode => file('', { xattrs: [mark('whiteout', '')] })
    const marked = { xattrs: [mark('opaque', 'x')] }
    const lower = {
      d: directory({ x: file('x'), y: file('y'), z: file('z') }),
      e: directory({ x: file('x') }),
      r: file('r'),
    }
    const fs = await overlay(
      lower,
      {
        d: directory({ x: white(), y: file(''), z: file('full', { xattrs: [mark('whiteout', '')] }) }, marked),
        e: directory({ x: white() }),
        r: white(),
      },
      { root: marked },
    )
    expect(await tree(fs)).toEqual(['/', '/d', '/d/y ', '/d/z full', '/e', '/e/x '])
  })

  it('reads user.overlay.* only where the kernel wrote such to the root', async () => {
    const lower = { d: directory({ x: file('x') }) }
    const upper = { d: directory({}, { xattrs: [mark('opaque', 'y', 'user')] }) }
    expect(await tree(await overlay(lower, upper))).toEqual(['/', '/d', '/d/x x'])
    const root = { xattrs: [mark('impure', 'y', 'user')] }
    expect(await tree(await overlay(lower, upper, { root }))).toEqual(['/', '/d'])
    const both = { xattrs: [mark('impure', 'y', 'user'), mark('impure', 'y')] }
    expect(await tree(await overlay(lower, upper, { root: both }))).toEqual(['/', '/d', '/d/x x'])
  })

  it('shows all names of an indexed inode as the one that was changed', async () => {
    const lower = { a: file('old', { stat: { inode: 77, linkCount: 3 } }), x: file('x') }
    const changed = file('new', { stat: { linkCount: 2 }, xattrs: [mark('nlink', 'U+1')] })
    const fs = await openOverlayFs({
      name: 'merged',
      lower: mockFileSystem(directory({ ...lower, b: lower.a, c: lower.a }), 'lower'),
      upper: mockFileSystem(
        directory({
          up: directory({ a: changed, c: whiteout() }),
          work: directory({ index: directory({ [Buffer.from(handle(77)).toString('hex')]: changed, '#1': file('') }) }),
        }),
        'upper',
      ),
      upperRoot: '/up',
      work: '/work',
    })
    expect(await tree(fs)).toEqual(['/', '/a new', '/b new', '/x x'])
    const [a, b] = [await fs.stat('/a'), await fs.stat('/b')]
    expect([a.inode, a.linkCount]).toEqual([b.inode, 3])
    expect((await fs.list('/')).find(({ name }) => name === 'b')!.inode).toBe(b.inode)
  })

  it('tells layers apart by inode numbers, large ones too', async () => {
    const node = (inode: number): MockNode => file('', { stat: { inode } })
    const lower = { a: node(7), b: node(2 ** 33), c: node(2 ** 33) }
    const fs = await overlay(lower, { d: node(7), e: node(2 ** 52 + 5), f: node(2 ** 33) })
    const numbers = new Map((await fs.list('/')).map(({ name, inode }) => [name, inode]))
    expect(numbers.get('a')).toBe(7)
    expect(numbers.get('b')).toBe(numbers.get('c'))
    expect(new Set(numbers.values()).size).toBe(5)
    for (const [name, inode] of numbers) {
      expect(Number.isSafeInteger(inode)).toBe(true)
      expect((await fs.stat(`/${name}`)).inode).toBe(inode)
    }
  })

  it('without its marks takes directories for merged, and opens no file whose data may be below', async () => {
    const hole = { size: 5, name: 'hole', close: async () => {}, read: async () => new Uint8Array(5) }
    const sparse = {
      ...hole,
      async *extents() {
        yield { offset: 0, length: 5, kind: 'hole' as const }
      },
    }
    const node: MockNode = { kind: 'file', device: sparse, xattrs: [mark('metacopy', '')] }
    const lower = { d: directory({ x: file('x') }), f: file('below'), g: file('another') }
    const upper = { d: directory({}, opaque), f: node, g: node, h: node, full: file('full') }
    const fs = await overlay(lower, upper, { marksReadable: false })
    expect(await names(fs, '/d')).toEqual(['x'])
    const error = await failure(fs.open('/f'), 'READ_ONLY')
    expect(error.message).toMatch(/only root can tell/)
    for (const path of ['/g', '/h', '/full']) await (await fs.open(path)).close()
  })

  it('ends on redirects that lead into each other: a directory that is met twice is damage', async () => {
    const lower = { a: directory({ b: directory({ c: directory({}) }) }) }
    const fs = await overlay(lower, {
      a: directory({ b: directory({ c: directory({}, redirect('/a')) }, redirect('/a')) }),
      x: directory({}, redirect('/a/b')),
      y: directory({}, redirect('/a/b')),
    })
    const findings: string[] = []
    const paths: string[] = []
    for await (const { path } of walk(fs, '/', { onFinding: ({ code }) => findings.push(code) })) paths.push(path)
    expect(paths.length).toBeLessThan(30)
    expect(new Set(findings)).toEqual(new Set(['WALK_CORRUPT']))
    await failure((await overlay(lower, { a: directory({}, redirect('/a/..')) })).list('/a'), 'CORRUPT')
  })

  it('shows something or a LiveError for any marks', async () => {
    const numbers = random()
    const values = ['y', 'x', '', '/d', 'd', '/', '..', '/d/e', 'f', '/f', '\0', '/d/e/../e', 'e'.repeat(4096)]
    const kinds = ['opaque', 'redirect', 'metacopy', 'origin', 'nlink', 'whiteout', 'overlay.opaque']
    const pick = <T>(all: readonly T[]): T => all[numbers.below(all.length)]!
    const grow = (depth: number): MockNode => {
      const xattrs = Array.from({ length: numbers.below(3) }, () => mark(pick(kinds), pick(values)))
      const roll = numbers.below(10)
      if (roll < 2) return whiteout()
      if (roll < 5 || depth > 3) return file('x'.repeat(numbers.below(3)), { xattrs })
      return directory(
        Object.fromEntries(['d', 'e', 'f'].slice(numbers.below(3)).map(name => [name, grow(depth + 1)])),
        {
          xattrs,
        },
      )
    }
    for (let n = 0; n < 150; n++) {
      const fs = await overlay({ d: grow(0), e: grow(0), f: grow(0) }, { d: grow(0), e: grow(0), f: grow(0) })
      let count = 0
      for await (const { path, stat } of walk(fs, '/', { onFinding: () => {} })) {
        count++
        if (stat.kind === 'file')
          await fs.open(path).catch((error: unknown) => expect(error).toHaveProperty('code', 'CORRUPT'))
      }
      expect(count, `seed ${numbers.seed}`).toBeLessThan(2000)
    }
  })
})
