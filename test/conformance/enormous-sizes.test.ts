import { link, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { isLiveError } from '../../src/error.js'
import { openExt4 } from '../../src/fs/ext4/reader.js'
import type { FileSystem } from '../../src/fs/filesystem.js'
import { openSquashfs } from '../../src/fs/squashfs/reader.js'
import { debugfs, makeExt4, run } from '../support/ext4-images.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const judged = needTools('mke2fs', 'debugfs', 'mksquashfs')

const SIZE = 0x12345
const ENORMOUS = [2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 53n + 1n]

const makeTree = async (tree: string): Promise<void> => {
  await mkdir(join(tree, 'folder'), { recursive: true })
  await writeFile(join(tree, 'file'), Buffer.alloc(SIZE, 'x'))
  // A second name gives a squashfs inode of 64 bit sizes.
  await link(join(tree, 'file'), join(tree, 'folder', 'name'))
  await writeFile(join(tree, 'other'), 'other')
}

/** All that a verb does with a file: an error of its own, and no memory of that size. The rest of the tree is as it was. */
const expectRefused = async (open: () => Promise<FileSystem>, bad: string): Promise<void> => {
  const fs = await open()
  const before = process.memoryUsage().rss
  for (const use of [() => fs.stat(bad), async () => (await fs.open(bad)).read(0, 100)]) {
    const error: unknown = await use().then(
      () => undefined,
      (error: unknown) => error,
    )
    expect(isLiveError(error) && error.code, bad).toBe('CORRUPT')
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(64 << 20)
  expect(await (await fs.open('/other')).read(0, 5)).toEqual(new Uint8Array(Buffer.from('other')))
  await fs.close()
}

judged.describe('sizes that no file has', () => {
  for (const size of ENORMOUS)
    judged.it(`ext4: ${size}`, async () => {
      const tree = await path(`tree ${size}`)
      await makeTree(tree)
      const image = await makeExt4(await path(`image ${size}`), 8, ['-t', 'ext4', '-b', '1024'], tree)
      await debugfs(image, [`set_inode_field /file size ${size}`], true)
      expect(await debugfs(image, ['stat /file'])).toContain(`Size: ${size}`)
      await expectRefused(async () => openExt4(memory(await readFile(image))), '/file')
    })

  for (const size of ENORMOUS)
    judged.it(`squashfs: ${size}`, async () => {
      const tree = await path(`squashed ${size}`)
      await makeTree(tree)
      const image = await path(`squashfs ${size}`)
      await run('mksquashfs', [tree, image, '-noI', '-no-fragments', '-b', '4096', '-no-progress', '-quiet'])
      const bytes = await readFile(image)
      const sought = Buffer.alloc(8)
      sought.writeBigUInt64LE(BigInt(SIZE))
      const at = bytes.lastIndexOf(sought)
      expect(at).toBeGreaterThan(0)
      bytes.writeBigUInt64LE(size, at)
      await expectRefused(() => openSquashfs(memory(bytes)), '/file')
    })
})
