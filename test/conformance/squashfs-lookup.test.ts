import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { decodeBlock, loadCodec } from '../../src/bytes/codecs.js'
import { openSquashfs } from '../../src/fs/squashfs/reader.js'
import { sameBytes } from '../support/outcome.js'
import { bytesOf } from '../support/small-stick.js'
import { makeImage } from '../support/squashfs-images.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const tools = needTools('mksquashfs')
const FILES = 300

const nameOf = (n: number): string => `d${n % 7}/f${n}`
const contentOf = (n: number): Uint8Array => bytesOf(n + 1, 100 + ((n * 37) % 3000))

tools.describe('a squashfs of many small files', () => {
  let image: string
  beforeAll(async () => {
    const tree = await path('tree')
    for (let n = 0; n < 7; n++) await mkdir(join(tree, `d${n}`), { recursive: true })
    for (let n = 0; n < FILES; n++) await writeFile(join(tree, nameOf(n)), contentOf(n))
    await mkdir(join(tree, 'd0', 'é'))
    await writeFile(join(tree, 'd0', 'é', 'x'), 'x')
    image = await makeImage(tree, await path('image'), ['-comp', 'gzip', '-b', '16K', '-processors', '1'])
  })

  /** Reads all files, `together` at a time, and tells how often the decoder was asked. */
  const readAll = async (together: number, depth: number): Promise<{ decoded: number; fragments: number }> => {
    const device = await openFile(image)
    await loadCodec('gzip')
    let decoded = 0
    const fs = await openSquashfs(device, {
      decoder: {
        depth,
        async decode(name, input, capacity) {
          decoded++
          return decodeBlock(name, input, capacity)
        },
      },
    })
    for (let n = 0; n < FILES; n += together)
      await Promise.all(
        Array.from({ length: Math.min(together, FILES - n) }, async (_, k) => {
          const file = await fs.open(`/${nameOf(n + k)}`)
          sameBytes(await file.read(0, file.size), contentOf(n + k))
        }),
      )
    const compressed = fs.fragments.filter(fragment => fragment.compressed).length
    await device.close()
    return { decoded, fragments: compressed }
  }

  it.each([
    [1, 0],
    [1, 6],
    [8, 6],
  ])('expands each fragment once and by the decoder given, %i files at a time, depth %i', async (together, depth) => {
    const { decoded, fragments } = await readAll(together, depth)
    expect(fragments).toBeGreaterThan(10)
    expect(decoded).toBe(fragments)
  })

  it('finds the same inode by every spelling of a path, in any order', async () => {
    const device = await openFile(image)
    const fs = await openSquashfs(device)
    const { inode } = await fs.stat('/d0/é/x')
    const other = await fs.stat('/d1/f1')
    // bytes of UTF-8, each escaped by itself
    for (const spelling of ['/d0/\udcc3\udca9/x', '//d0/é//x', '/./d0/./é/x', 'd0/é/x', '/d0/é/x/', '/d0/é/x']) {
      expect((await fs.stat(spelling)).inode, spelling).toBe(inode)
      expect((await fs.stat('/d1/f1')).inode).toBe(other.inode)
    }
    // f8 is in the directory that the lookup before ended in
    await fs.stat('/d1/f15')
    await expect(fs.stat('/d0/f8')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    for (const missing of ['/d0/f1', '/d0/é/x/y', '/d0/é/X', '/d0/é/..', '/d1/é', '/d0/\udcc3'])
      await expect(fs.stat(missing), missing).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await device.close()
  })
})
