import { execFile } from 'node:child_process'
import { lstat, mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { memory } from '../../src/block/memory.js'
import { type CodecPool, openPool } from '../../src/bytes/pool.js'
import { openSquashfs } from '../../src/fs/squashfs/reader.js'
import { deviceContract } from '../contract/device.js'
import { fileSystemContract, type KnownPath } from '../contract/filesystem.js'
import { bytesOf } from '../support/small-stick.js'
import { makeImage, WRITTEN, withSquashfs } from '../support/squashfs-images.js'
import {
  type Listing,
  listDirectory,
  listSquashfs,
  makeSmallTree,
  makeTree,
  SPECIAL,
} from '../support/squashfs-tree.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const run = promisify(execFile)
const path = temporary()
const tools = needTools('mksquashfs', 'unsquashfs', 'setfattr', 'getfattr')

tools.describe('squashfs, read', () => {
  let tree: string
  let truth: Listing
  let pool: CodecPool
  beforeAll(async () => {
    tree = await path('tree')
    await makeTree(tree)
    truth = await listDirectory(tree)
    pool = openPool()
  })
  afterAll(() => pool.close())

  it.each([
    ...[...WRITTEN, 'lzma'].flatMap(comp => ['4K', '128K', '1M'].map(size => `-comp ${comp} -b ${size}`)),
    '-comp xz -Xbcj x86,arm -Xdict-size 64K',
    '-comp xz -Xdict-size 75% -b 64K',
    '-comp gzip -Xcompression-level 3 -Xwindow-size 10 -Xstrategy filtered,huffman_only',
    '-comp zstd -Xcompression-level 19 -always-use-fragments',
    '-comp lz4 -Xhc -no-fragments',
    ...['lzo1x_1', 'lzo1x_1_11', 'lzo1x_1_12', 'lzo1x_1_15'].map(name => `-comp lzo -Xalgorithm ${name} -b 16K`),
    '-comp lzo -Xalgorithm lzo1x_999 -Xcompression-level 3',
    '-always-use-fragments -b 8K',
    '-noI -noD -noF -noX -no-exports',
    '-noId -noX -b 4K',
    '-no-duplicates -no-sparse -noI',
    '-nopad',
  ])('reads what mksquashfs %s wrote', async words => {
    const file = await makeImage(tree, await path(`read${words.replace(/\W/g, '')}`), words.split(' '))
    const { files, special } = await withSquashfs(file, listSquashfs, pool)
    expect(special).toEqual(SPECIAL)
    expect(files).toEqual(truth)
  })

  it('has no attributes where the image has none', async () => {
    const file = await makeImage(tree, await path('no-xattrs'), ['-no-xattrs'])
    const { files } = await withSquashfs(file, listSquashfs)
    const without = [...truth].map(([name, text]) => [name, text.replace(/ (user|trusted)\..*/, ' ')])
    expect([...files]).toEqual(without)
  })

  it('counts inodes, ids and fragments as unsquashfs does', async () => {
    const file = await makeImage(tree, await path('counted'), ['-always-use-fragments'])
    const { stdout } = await run('unsquashfs', ['-s', file])
    const told = (words: string): number => Number(new RegExp(`${words} (\\d+)`).exec(stdout)?.[1])
    await withSquashfs(file, async ({ superblock, fragments, ids }) => {
      expect(superblock.inodes).toBe(told('Number of inodes'))
      expect(superblock.block_size).toBe(told('Block size'))
      expect(fragments.length).toBe(told('Number of fragments'))
      expect(ids.length).toBe(told('Number of ids'))
    })
  })

  it('goes as deep as a path may be, and no name stops it that a filesystem takes', async () => {
    const deep = await path('deep')
    const bottom = join(deep, 'd/'.repeat(1500))
    await mkdir(bottom, { recursive: true })
    await writeFile(join(bottom, 'f'), 'x\n')
    await writeFile(join(deep, 'ünïcode\nline "quoted" \\ *'), 'odd')
    const file = await makeImage(deep, `${deep}.img`, ['-comp', 'lz4'])
    await withSquashfs(file, async fs => {
      expect((await fs.stat(`${'/d'.repeat(1500)}/f`)).size).toBe(2)
      expect((await fs.stat('/ünïcode\nline "quoted" \\ *')).size).toBe(3)
    })
  })
})

if (tools.reason === undefined) {
  const opened = async (name: string, args: readonly string[]) => {
    const dir = await path(`contract-${name}`)
    await mkdir(dir)
    await writeFile(join(dir, 'file'), Buffer.concat([bytesOf(11, 20_001), new Uint8Array(9000), bytesOf(12, 20_000)]))
    await run('mksquashfs', [dir, `${dir}.img`, '-noappend', '-no-progress', '-b', '4K', ...args])
    return openSquashfs(memory(new Uint8Array(await readFile(`${dir}.img`)), 'image'))
  }
  for (const [name, args] of [
    ['blocks and holes', ['-no-fragments', '-comp', 'lz4']],
    ['an end in a fragment', ['-always-use-fragments', '-comp', 'gzip']],
  ] as const)
    deviceContract(`a file in a squashfs (${name})`, async () => ({
      device: await (await opened(name, args)).open('/file'),
      bytes: new Uint8Array(await readFile(join(await path(`contract-${name}`), 'file'))),
    }))

  fileSystemContract('squashfs', async () => {
    const tree = await path('contract-tree')
    await makeSmallTree(tree)
    await run('mksquashfs', [tree, `${tree}.img`, '-noappend', '-no-progress', '-b', '4K'])
    const image = await openFile(`${tree}.img`)
    const known: KnownPath[] = []
    const visit = async (at: string): Promise<void> => {
      const full = join(tree, at)
      const stats = await lstat(full)
      const mode = stats.mode & 0o7777
      if (stats.isSymbolicLink()) known.push({ path: at, kind: 'symlink', mode, target: await readlink(full) })
      else if (stats.isFile()) known.push({ path: at, kind: 'file', mode, content: await readFile(full) })
      else {
        const names = await readdir(full)
        known.push({ path: at, kind: 'directory', mode, names })
        for (const child of names) await visit(join(at, child))
      }
    }
    await visit('/')
    return { fs: await openSquashfs(image), known, close: () => image.close() }
  })
}
