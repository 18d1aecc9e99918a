import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type HttpDevice, openHttp } from '../../src/block/http.js'
import { openSquashfs, type Squashfs } from '../../src/fs/squashfs/reader.js'
import { walk } from '../../src/fs/walk.js'
import { collect } from '../support/collect.js'
import { serveFile } from '../support/http-server.js'
import { sameBytes } from '../support/outcome.js'
import { bytesOf } from '../support/small-stick.js'
import { makeImage } from '../support/squashfs-images.js'
import { makeTree } from '../support/squashfs-tree.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()

needTools('mksquashfs', 'setfattr').describe('a squashfs on a web server', () => {
  let device: HttpDevice
  let fs: Squashfs
  let size: number
  beforeAll(async () => {
    const tree = await path('tree')
    await makeTree(tree)
    const bytes = await readFile(await makeImage(tree, await path('image'), ['-noD', '-noF']))
    size = bytes.length
    device = await openHttp((await serveFile({ bytes, etag: '"1"' })).url)
    fs = await openSquashfs(device)
  })
  afterAll(() => device.close())

  it('is opened and listed by a few requests', async () => {
    expect((await fs.list('/')).length).toBeGreaterThan(5)
    expect(device.requests).toBeLessThanOrEqual(4)
    const found = await collect(walk(fs))
    expect(found.length).toBeGreaterThan(300)
    expect(device.requests).toBeLessThanOrEqual(6)
    expect(device.bytesFetched).toBeLessThan(size / 2)
  })

  it('gives a file for little more than its bytes', async () => {
    const before = device.bytesFetched
    const file = await fs.open('/LiveOS/rootfs.img')
    sameBytes(await file.read(0, file.size), bytesOf(7, 300_001))
    expect(device.bytesFetched - before).toBeLessThan(file.size + 3 * 65_536)
  })
})
