import { open, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { collect } from '../support/collect.js'
import {
  debugfs,
  freeByDumpe2fs,
  makeExt4,
  makeExt4Tree,
  run,
  type Tree,
  treeOf,
  treeOfExt4,
  withExt4,
} from '../support/ext4-images.js'
import { mounted, needExt4Mount } from '../support/ext4-mount.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'

const { describe, it } = needExt4Mount('setfattr', 'getfattr', 'fallocate', 'cp', 'e2fsck', 'debugfs', 'dumpe2fs')

const ACL = '0x0200000001000700ffffffff02000400e803000004000400ffffffff10000700ffffffff20000000ffffffff'
const VALUES: readonly (readonly [path: string, name: string, value: string])[] = [
  ['size 1', 'user.note', 'short'],
  ['size 1', 'security.selinux', 'system_u:object_r:etc_t:s0'],
  ['size 1', 'trusted.overlay', 'y'],
  ['size 60', 'system.posix_acl_access', ACL],
  ['many', 'system.posix_acl_default', ACL],
  ['deep/er', 'user.long', 'long '.repeat(150)],
  ['deep/big', 'user.long', 'long '.repeat(150)],
]

/** Fills a mounted filesystem with what only a kernel makes. */
const fill = async (at: string, extents: boolean): Promise<void> => {
  const { bytes } = random(31)
  const fallocate = (...args: readonly string[]) => run('fallocate', args)
  await makeExt4Tree(join(at, 'tree'))
  // every second block of 4 KiB, then holes where blocks had been
  const punched = await open(join(at, 'punched'), 'w')
  const noise = bytes(4096)
  for (let n = 0; n < 400; n++) await punched.write(noise, 0, 4096, n * 8192)
  await punched.sync()
  await punched.close()
  for (const offset of [0, 81_920, 1_000_000])
    await fallocate('-p', '-o', `${offset}`, '-l', '5000', join(at, 'punched'))
  // An ext3 knows no blocks that were never written.
  if (extents) {
    await fallocate('-n', '-o', '4000000', '-l', '400000', join(at, 'punched'))
    await fallocate('-l', '300000', join(at, 'unwritten'))
  }
  const huge = await open(join(at, 'huge'), 'w')
  await huge.write(bytes(100), 0, 100, extents ? 2 ** 41 : 2 ** 33)
  await huge.close()
  await truncate(join(at, 'huge'), (extents ? 2 ** 41 : 2 ** 33) + 5_000_000)
  for (let n = 0; n < 1200; n++) await writeFile(join(at, 'tree/many', `kernel ${n} ${'more '.repeat(n % 30)}`), '')
  for (let n = 0; n < 1200; n += 3) await rm(join(at, 'tree/many', `kernel ${n} ${'more '.repeat(n % 30)}`))
  await symlink('x', join(at, 'loop'))
  await run('touch', ['-h', '-d', '2200-02-03T04:05:06.123456789Z', join(at, 'loop')])
  await run('touch', ['-d', '1950-02-03T04:05:06.000000001Z', join(at, 'tree/size 0')])
  await run('mknod', [join(at, 'disk'), 'b', '259', '70000'])
  for (const [path, name, value] of VALUES) await run('setfattr', ['-n', name, '-v', value, join(at, 'tree', path)])
}

/** The huge file is left to a test of its own: nobody hashes 2 TiB of zeros. */
const treeWithoutHuge = async (at: string): Promise<Tree> => {
  await rm(join(at, 'huge'))
  return treeOf(at)
}

const SETS: readonly (readonly [name: string, args: readonly string[], options: string])[] = [
  ['ext4, 1 KiB', ['-t', 'ext4', '-b', '1024'], 'rw'],
  [
    'ext4, inline data, inodes for values',
    ['-t', 'ext4', '-b', '4096', '-I', '256', '-O', 'inline_data,ea_inode'],
    'rw',
  ],
  ['ext3', ['-t', 'ext3', '-b', '1024', '-I', '256'], 'rw'],
  ['bigalloc', ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc', '-C', '16384'], 'rw'],
]

describe('filesystems written by the kernel', () => {
  const path = temporary()
  for (const [name, args, options] of SETS)
    it(`${name}: tree, attributes, free space`, async () => {
      const file = await makeExt4(await path(`${name} image`), 64, args)
      await mounted(file, options, at => fill(at, name !== 'ext3'))
      const { device, size, huge, link } = await withExt4(file, async fs => {
        const content = await fs.open('/huge')
        return {
          device: (await fs.stat('/disk')).device,
          size: content.size,
          huge: await content.read(content.size - 5_005_000, 5100),
          link: await fs.stat('/loop'),
        }
      })
      expect(device).toEqual({ major: 259, minor: 70000 })
      expect(size).toBe((name === 'ext3' ? 2 ** 33 : 2 ** 41) + 5_000_000)
      expect(huge.subarray(0, 5000).every(byte => byte === 0)).toBe(true)
      expect(huge.subarray(5000).some(byte => byte !== 0)).toBe(true)
      expect([link.mtime, link.mtimeNanoseconds]).toEqual([Date.UTC(2200, 1, 3, 4, 5, 6) / 1000, 123_456_789])

      const shown = new Map<string, string>()
      const expected = await mounted(file, options, async at => {
        for (const [path, attribute] of VALUES) {
          const told = await run('getfattr', ['-e', 'hex', '-n', attribute, '--absolute-names', join(at, 'tree', path)])
          shown.set(`${path} ${attribute}`, told.match(/=0x([0-9a-f]*)/)![1]!)
        }
        return treeWithoutHuge(at)
      })
      await run('e2fsck', ['-fn', file])
      const free = await freeByDumpe2fs(file, name === 'bigalloc' ? 4 : 1)
      await withExt4(file, async fs => {
        const ours = await treeOfExt4(fs)
        expect(ours).toEqual(
          new Map([...expected].filter(([key]) => key !== `/${Buffer.from('lost+found').toString('hex')}`)),
        )
        for (const [path, attribute] of VALUES) {
          const found = (await fs.xattrs(`/tree/${path}`)).find(xattr => xattr.name === attribute)
          expect([path, attribute, Buffer.from(found!.value).toString('hex')]).toEqual([
            path,
            attribute,
            shown.get(`${path} ${attribute}`),
          ])
        }
        const { blockSize } = fs.superblock
        const runs = await collect(fs.freeRuns())
        expect(runs.reduce((sum, { length }) => sum + length, 0) / blockSize).toBe(free.size)
        for (const { start, length } of runs)
          for (let at = start; at < start + length; at += blockSize) expect(free.has(at / blockSize)).toBe(true)
        expect(await fs.check()).toEqual([])
        if (name === 'ext4, 1 KiB') {
          expect(await debugfs(file, ['ex punched'])).toMatch(/^ *2\/ *2 /m)
          expect(await debugfs(file, ['htree_dump tree/many'])).toMatch(/Indirect levels: 1/)
        }
      })
    }, 60_000)
})
