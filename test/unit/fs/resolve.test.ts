import { describe, expect, test } from 'vitest'
import { resolvePath } from '../../../src/fs/resolve.js'
import { directory, file, mockFileSystem, symlink } from '../../support/mock-filesystem.js'
import { failure } from '../../support/outcome.js'

const links = Object.fromEntries(
  Array.from({ length: 41 }, (_, n) => [`l${n}`, symlink(n === 0 ? 'usr' : `l${n - 1}`)]),
)
const fs = mockFileSystem(
  directory({
    bin: symlink('usr/bin'),
    usr: directory({
      bin: directory({ sh: symlink('dash'), dash: file('x'), up: symlink('../../../../../etc/passwd') }),
      lib: symlink('/usr/./lib64//'),
      lib64: directory({ so: file('y') }),
    }),
    etc: directory({
      passwd: file('z'),
      self: symlink('self'),
      a: symlink('b'),
      b: symlink('/etc/a'),
      gone: symlink('no'),
    }),
    empty: symlink(''),
    root: symlink('/'),
    back: symlink('..'),
    ...links,
  }),
)

describe('resolvePath', () => {
  test.each([
    ['/', '/'],
    ['', '/'],
    ['/bin', '/usr/bin'],
    ['/bin/sh', '/usr/bin/dash'],
    ['bin//./sh', '/usr/bin/dash'],
    ['/usr/lib/so', '/usr/lib64/so'],
    ['/usr/bin/up', '/etc/passwd'],
    ['/../../etc/passwd', '/etc/passwd'],
    ['/bin/..', '/usr'],
    ['/root/root/root/etc', '/etc'],
    ['/back/back/etc', '/etc'],
    ['/l39/bin/dash', '/usr/bin/dash'],
  ])('%s is %s', async (path, resolved) => {
    expect(await resolvePath(fs, path)).toBe(resolved)
  })

  test.each([
    '/nothing',
    '/bin/nothing',
    '/etc/passwd/below',
    '/etc/passwd/..',
    '/etc/gone',
    '/empty',
    '/nothing/../etc',
  ])('%s is not there', async path => {
    await failure(resolvePath(fs, path), 'NOT_FOUND')
  })

  test.each(['/etc/self', '/etc/self/x', '/etc/a', '/l40'])('%s has too many links', async path => {
    expect((await failure(resolvePath(fs, path), 'NOT_FOUND')).message).toContain('more than 40 symbolic links')
  })

  test('leaves the last link, where asked', async () => {
    const asLink = { followLast: false }
    expect(await resolvePath(fs, '/bin/sh', asLink)).toBe('/usr/bin/sh')
    expect(await resolvePath(fs, '/etc/self', asLink)).toBe('/etc/self')
    await failure(resolvePath(fs, '/etc/none', asLink), 'NOT_FOUND')
  })

  test('ends where links to long paths of links multiply', async () => {
    const wide = mockFileSystem(
      directory({ d: directory({}), a: symlink(`${'d/../'.repeat(20_000)}b`), b: symlink('a/'.repeat(30_000)) }),
    )
    await failure(resolvePath(wide, '/a/a/a/a'), 'NOT_FOUND')
  })
})
