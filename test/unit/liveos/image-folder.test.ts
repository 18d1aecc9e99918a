import { describe, expect, it } from 'vitest'
import { linear } from '../../../src/block/linear.js'
import { memory } from '../../../src/block/memory.js'
import { LiveError } from '../../../src/error.js'
import { imageFolder, imageTree, soleFile } from '../../../src/liveos/image-folder.js'
import { directory, file, mockFileSystem, symlink } from '../../support/mock-filesystem.js'
import { failure } from '../../support/outcome.js'

const data = memory(new Uint8Array(100).fill(1), 'data')
const sparse = linear([{ device: data, length: 100 }, { length: 400 }], 'sparse')
const fs = mockFileSystem(
  directory({
    LiveOS: directory({
      base: file('12345', { stat: { mtime: 10, mtimeNanoseconds: 2_500_000 } }),
      sparse: file('', { device: sparse }),
      link: symlink('base'),
      away: symlink('/../../../etc/passwd'),
      pipe: { kind: 'fifo' },
    }),
    alias: symlink('LiveOS'),
  }),
)
const folder = imageFolder(fs, 'stick', '/LiveOS', 'server')

describe('a directory in an image as a folder', () => {
  it('lists, and tells what a name is', async () => {
    expect(await folder.list()).toContain('base')
    expect(await folder.facts('base')).toMatchObject({ kind: 'file', size: 5, modified: 10_002 })
    expect(await folder.facts('pipe')).toMatchObject({ kind: 'other' })
    expect(await folder.facts('link')).toMatchObject({ kind: 'file', size: 5 })
    expect(await folder.facts('none')).toBeUndefined()
    // a link that leads out of a mounted stick stays inside of an image
    expect(await folder.facts('away')).toBeUndefined()
  })

  it('passes other errors on', async () => {
    const torn = new LiveError('CORRUPT', 'torn', { device: 'mock' })
    const broken = imageFolder({ ...fs, stat: () => Promise.reject(torn) }, 'stick', '/LiveOS', 'server')
    await failure(broken.facts('base'), 'CORRUPT')
  })

  it('opens files under a name that says where they are, with their holes', async () => {
    const opened = await folder.open('link')
    expect(opened).toMatchObject({ path: 'stick:/LiveOS/link', size: 5, allocated: 5, hasHoles: false })
    expect(await folder.open('sparse')).toMatchObject({ size: 500, allocated: 100, hasHoles: true })
    expect((await folder.openReadBack('base')).from).toBe('server')
    await failure(folder.open('none'), 'NOT_FOUND')
    expect(await folder.freeBytes()).toBe(0)
  })

  it('directories of a tree, also through a link', async () => {
    const tree = imageTree(fs, 'stick', 'page cache')
    expect((await tree.folder(''))?.path).toBe('stick:/')
    expect((await tree.folder('alias'))?.path).toBe('stick:/LiveOS')
    expect(await tree.folder('LiveOS/base')).toBeUndefined()
    expect(await tree.folder('none')).toBeUndefined()
  })
})

it('a device alone as a folder: closing the file leaves the device to who opened it', async () => {
  let closed = 0
  const device = { ...data, close: async () => void closed++ }
  const sole = soleFile(device, 'https://example.org', 'image', 'server')
  expect(await sole.list()).toEqual(['image'])
  expect(await sole.facts('other')).toBeUndefined()
  expect(await sole.facts('image')).toMatchObject({ kind: 'file', size: 100 })
  await (await sole.open('image')).close()
  await (await sole.openReadBack('image')).close()
  expect(closed).toBe(0)
})
