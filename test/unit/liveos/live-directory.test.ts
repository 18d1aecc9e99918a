import { describe, expect, it } from 'vitest'
import { LiveError } from '../../../src/error.js'
import type { FileSystem } from '../../../src/fs/filesystem.js'
import { imageFolder, imageTree } from '../../../src/liveos/image-folder.js'
import {
  expectedOverlay,
  findLiveDirectory,
  findOverlayName,
  liveDirectories,
  overlaysIn,
} from '../../../src/liveos/live-directory.js'
import { medium } from '../../support/boot-media.js'
import { directory, file, mockFileSystem } from '../../support/mock-filesystem.js'
import { failure } from '../../support/outcome.js'

const treeOf = (fs: FileSystem) => imageTree(fs, 'stick', 'page cache')
const names = async (fs: FileSystem) => (await liveDirectories(treeOf(fs))).map(({ name }) => name)
const torn = new LiveError('CORRUPT', 'torn', { device: 'mock' })

describe('liveDirectories', () => {
  it('the root and directories by name, of any of three bases, or what a refresh left', async () => {
    const fs = medium({
      '/rootfs.img': 'r',
      '/F39/squashfs.img': 's',
      '/F10/ext3fs.img': 'e',
      '/LiveOS/squashfs.img.refresh': 'x',
      '/EFI/BOOT/squashfs.img': 'too deep',
      '/odd/squashfs.img/': '',
      '/squashfs.img.txt': 'x',
    })
    expect(await names(fs)).toEqual(['', 'F10', 'F39', 'LiveOS'])
    const found = await liveDirectories(treeOf(fs))
    expect(found.map(({ baseName, lostName }) => [baseName, lostName])).toEqual([
      ['rootfs.img', 'rootfs.img'],
      ['ext3fs.img', 'ext3fs.img'],
      ['squashfs.img', 'squashfs.img'],
      [undefined, 'squashfs.img'],
    ])
  })

  it('one that can’t be looked into takes nothing from the others', async () => {
    const bad = { ...directory({}), kind: 'directory' as const }
    const root = mockFileSystem(directory({ LiveOS: directory({ 'squashfs.img': file('s') }), a: bad }))
    const fs: FileSystem = {
      ...root,
      stat: path => (path.startsWith('/a') ? Promise.reject(torn) : root.stat(path)),
    }
    expect(await names(fs)).toEqual(['LiveOS'])
    const told: string[] = []
    await liveDirectories(treeOf(fs), name => told.push(name))
    expect(told).toEqual(['a'])
    const only = mockFileSystem(directory({ a: bad }))
    const alone: FileSystem = { ...only, stat: path => (path === '/a' ? Promise.reject(torn) : only.stat(path)) }
    await failure(liveDirectories(treeOf(alone)), 'CORRUPT')
    expect(await liveDirectories(treeOf(alone), () => {})).toEqual([])
  })
})

describe('findLiveDirectory', () => {
  const two = medium({ '/F39/squashfs.img': 's', '/F40/squashfs.img': 's' })
  it('LiveOS, else the root, else the only one', async () => {
    const find = async (files: Parameters<typeof medium>[0], image?: string) =>
      (await findLiveDirectory(treeOf(medium(files)), image)).name
    expect(await find({ '/LiveOS/squashfs.img': 's', '/A/squashfs.img': 's', '/squashfs.img': 's' })).toBe('LiveOS')
    expect(await find({ '/A/squashfs.img': 's', '/squashfs.img': 's' })).toBe('')
    expect(await find({ '/A/squashfs.img': 's', '/B/': '' })).toBe('A')
    expect(await find({ '/A/squashfs.img': 's', '/LiveOS/squashfs.img': 's' }, 'A')).toBe('A')
  })
  it('names those that there are', async () => {
    expect((await failure(findLiveDirectory(treeOf(two), undefined), 'USAGE')).message).toContain('F39, F40')
    expect((await failure(findLiveDirectory(treeOf(two), 'F38'), 'NOT_FOUND')).message).toContain('F39, F40')
    await failure(findLiveDirectory(treeOf(medium({ '/a': 'x' })), undefined), 'NOT_FOUND')
  })
})

describe('overlays', () => {
  const id = { label: 'LIVE', uuid: '1-2' }
  const choose = (files: Parameters<typeof medium>[0], identity: Parameters<typeof expectedOverlay>[0] = id) =>
    findOverlayName(imageFolder(medium(files), 'stick', '/', 'page cache'), identity)

  it('are named by label and UUID', () => {
    expect(expectedOverlay(id)).toBe('overlay-LIVE-1-2')
    expect(expectedOverlay({ label: undefined, uuid: '1-2' })).toBe('overlay--1-2')
    expect(expectedOverlay({ label: undefined, uuid: undefined })).toBeUndefined()
  })

  it('the one of that name, file or directory; else the only one', async () => {
    expect(await choose({ '/overlay-LIVE-1-2': 'x', '/overlay-A-1': 'x' })).toMatchObject({
      file: 'overlay-LIVE-1-2',
      foundBy: 'label and UUID',
      directory: undefined,
    })
    // a boot takes the directory of its name, whatever else is there
    expect(await choose({ '/overlay-LIVE-1-2/': '', '/overlay-A-1': 'x' })).toMatchObject({
      file: undefined,
      directory: expect.stringContaining('/overlay-LIVE-1-2'),
    })
    expect(await choose({ '/overlay-A-1': 'x' })).toMatchObject({ file: 'overlay-A-1', foundBy: 'only one' })
    expect(await choose({ '/overlay-A-1': 'x', '/overlay-A-1.reset': 'x' })).toMatchObject({ file: 'overlay-A-1' })
    expect(await choose({ '/other': 'x' })).toMatchObject({ file: undefined, foundBy: undefined })
  })

  it('of several without that name none is guessed, directories count too', async () => {
    for (const files of [
      { '/overlay-A-1': 'x', '/overlay-B-1': 'x' },
      { '/overlay-A-1': 'x', '/overlay-B-1/': '' },
    ]) {
      const error = await failure(choose(files), 'USAGE')
      expect(error.data.candidates).toEqual(['overlay-A-1', 'overlay-B-1'])
      expect(error.message).toContain('overlay-LIVE-1-2, the name that a boot looks for')
    }
    const folder = imageFolder(medium({ '/overlay-B': 'x', '/overlay-A/': '', '/b': 'x' }), 'stick', '/', 'page cache')
    expect(await overlaysIn(folder)).toEqual([
      { name: 'overlay-A', kind: 'directory' },
      { name: 'overlay-B', kind: 'file' },
    ])
  })
})

it('a name that leads out of the stick is refused', async () => {
  const fs = mockFileSystem(directory({ LiveOS: directory({ 'squashfs.img': file('s') }) }))
  for (const image of ['..', '../other', 'LiveOS/../../other', '/../x'])
    await expect(findLiveDirectory(treeOf(fs), image)).rejects.toMatchObject({ code: 'USAGE' })
  expect((await findLiveDirectory(treeOf(fs), 'LiveOS')).name).toBe('LiveOS')
})
