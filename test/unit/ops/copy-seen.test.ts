import { expect, test } from 'vitest'
import type { FileKind, Stat } from '../../../src/fs/filesystem.js'
import { openSeen } from '../../../src/ops/copy-seen.js'

test('what was seen comes back as it was', () => {
  const kinds: readonly FileKind[] = ['file', 'directory', 'symlink', 'block', 'character', 'fifo', 'socket']
  const statOf = (n: number): Stat => ({
    kind: kinds[n % kinds.length]!,
    inode: n * 2 ** 33 + 1,
    mode: n % 0o10000,
    uid: 2 ** 32 - 1 - n,
    gid: n,
    size: n * 2 ** 36,
    mtime: n % 2 ? -n : 2 ** 33 + n,
    mtimeNanoseconds: 999_999_999 - n,
    linkCount: n + 1,
    ...(n % 3 ? { place: n * 2 ** 34 } : {}),
    ...(n % 7 === 3 || n % 7 === 4 ? { device: { major: n, minor: n * 3 } } : {}),
  })
  const seen = openSeen()
  const count = 10_000
  for (let n = 0; n < count; n++) seen.add(`/path/${n}`, statOf(n), n % 5)
  expect(seen.count).toBe(count)
  for (let n = 0; n < count; n++)
    expect(seen.at(n)).toStrictEqual({ path: `/path/${n}`, stat: statOf(n), start: n % 5 })
})
