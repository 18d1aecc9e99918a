import { beforeAll, expect } from 'vitest'
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
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { describe: describeWithTools, it } = needTools('mke2fs', 'debugfs', 'dumpe2fs', 'e2fsck')

/** What mke2fs is asked for. `hashed` has e2fsck make hashed directories, which mke2fs does not. */
const SETS: readonly (readonly [name: string, mib: number, args: readonly string[], hashed?: boolean])[] = [
  ['ext2, 1 KiB', 24, ['-t', 'ext2', '-b', '1024']],
  ['ext2, 1 KiB, hashed', 24, ['-t', 'ext2', '-b', '1024'], true],
  ['ext2, 4 KiB, inodes of 128', 24, ['-t', 'ext2', '-b', '4096', '-I', '128']],
  ['ext3', 24, ['-t', 'ext3', '-b', '1024'], true],
  ['ext4', 32, ['-t', 'ext4', '-b', '4096'], true],
  ['ext4, 1 KiB', 32, ['-t', 'ext4', '-b', '1024'], true],
  ['ext4, 2 KiB, inline data', 32, ['-t', 'ext4', '-b', '2048', '-I', '512', '-O', 'inline_data']],
  ['ext4, inline data', 32, ['-t', 'ext4', '-b', '1024', '-O', 'inline_data'], true],
  ['ext4, 64 KiB', 96, ['-t', 'ext4', '-b', '65536']],
  ['bigalloc', 32, ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc', '-C', '16384']],
  ['bigalloc, 1 KiB', 32, ['-t', 'ext4', '-b', '1024', '-O', 'bigalloc', '-C', '8192']],
  ['no extents', 32, ['-t', 'ext4', '-b', '1024', '-O', '^extent,^64bit']],
  ['meta_bg', 32, ['-t', 'ext4', '-b', '1024', '-g', '1024', '-O', 'meta_bg,^resize_inode']],
  ['no 64bit', 32, ['-t', 'ext4', '-b', '1024', '-O', '^64bit']],
  ['checksum seed, orphan file', 32, ['-t', 'ext4', '-b', '1024', '-O', 'metadata_csum_seed,orphan_file'], true],
  ['uninit_bg', 48, ['-t', 'ext4', '-b', '1024', '-O', 'uninit_bg,^metadata_csum']],
  ['uninit_bg, 64bit', 48, ['-t', 'ext4', '-b', '1024', '-O', 'uninit_bg,^metadata_csum,64bit']],
  ['no checksums, no groups together', 32, ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,^flex_bg']],
  ['large_dir, casefold, verity, encrypt', 32, ['-t', 'ext4', '-b', '1024', '-O', 'large_dir,casefold,verity,encrypt']],
  ['sparse_super2, mmp', 32, ['-t', 'ext4', '-b', '1024', '-O', 'sparse_super2,mmp']],
  ['no filetype', 32, ['-t', 'ext4', '-b', '1024', '-O', '^filetype']],
  ['quota, project', 32, ['-t', 'ext4', '-b', '1024', '-O', 'quota,project']],
]
/** mke2fs -d and quota do not agree with e2fsck here. */
const UNCHECKED = ['quota, project']

describeWithTools('filesystems of mke2fs', () => {
  const path = temporary()
  let tree: string
  let expected: Tree
  beforeAll(async () => {
    tree = await path('tree')
    await makeExt4Tree(tree)
    expected = await treeOf(tree)
  })

  for (const [name, mib, args, hashed] of SETS)
    it(`${name}: the tree, what is free, whose each block is`, async () => {
      const file = await makeExt4(await path('image'), mib, args, tree)
      // 1: changed
      if (hashed) await run('e2fsck', ['-fyD', file], [0, 1])
      if (!UNCHECKED.includes(name)) await run('e2fsck', ['-fn', file])
      const { type, blockSize, clusterSize } = await withExt4(file, async fs => {
        expect(await treeOfExt4(fs)).toEqual(expected)
        expect(await fs.check()).toEqual([])
        const { type, blockSize, clusterSize } = fs.superblock
        return { type, blockSize, clusterSize }
      })
      expect(type).toBe(name.startsWith('ext2') ? 'ext2' : name.startsWith('ext3') ? 'ext3' : 'ext4')
      const blocks = (mib * 2 ** 20) / blockSize

      const free = await freeByDumpe2fs(file, clusterSize / blockSize)
      const ours = new Set<number>()
      const owners = new Map<number, number>()
      const metadata = new Set<number>()
      await withExt4(file, async fs => {
        for (const { start, length } of await collect(fs.freeRuns()))
          for (let at = start; at < start + length; at += blockSize) ours.add(at / blockSize)
        for (const inode of (await collect(fs.sweepInodes())).flatMap(inodes => [...inodes]))
          for (const { start, length } of await fs.ownedRuns(inode))
            for (let at = start; at < start + length; at += blockSize) owners.set(at / blockSize, inode.ino)
        for await (const { start, length } of fs.metadataRuns())
          for (let at = start; at < start + length; at += blockSize) metadata.add(at / blockSize)
      })
      expect(ours.size).toBe(free.size)
      expect([...ours].filter(block => !free.has(block))).toEqual([])
      // Nothing is free and owned; with clusters of one block everything is one of the three.
      const clusters = args.includes('bigalloc')
      for (let block = 0; block < blocks; block++) {
        const taken = owners.has(block) || metadata.has(block)
        if (ours.has(block) ? taken : !taken && !clusters)
          expect.fail(`block ${block}: free ${ours.has(block)}, taken ${taken}`)
      }

      // icheck walks all inodes for each call: one call for a sample of all blocks
      const sample = [...owners.keys()].filter((_, n) => n % 7 === 0)
      const told = (await debugfs(file, [`icheck ${sample.join(' ')}`]))
        .split('\n')
        .flatMap(row => [...row.matchAll(/^(\d+)\t(\d+)$/g)])
      expect(told.length).toBeGreaterThan(sample.length / 2)
      for (const [, block, ino] of told) expect([block, owners.get(Number(block))]).toEqual([block, Number(ino)])
    }, 60_000)
})
