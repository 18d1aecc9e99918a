import { chmod, link, lstat, mkdir, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { extentsOf } from '../../../src/block/device.js'
import { systemError } from '../../../src/error.js'
import { encodeName } from '../../../src/fs/name.js'
import { openDirectory, permissionError } from '../../../src/host/directory.js'
import { deviceContract } from '../../contract/device.js'
import { fileSystemContract } from '../../contract/filesystem.js'
import { collect } from '../../support/collect.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const content = random(11).bytes(70_001)

const makeTree = async (name: string): Promise<string> => {
  const root = await path(name)
  await mkdir(join(root, 'dir/deeper'), { recursive: true })
  await writeFile(join(root, 'dir/file with spaces'), content)
  await writeFile(join(root, 'empty'), '')
  await symlink('dir', join(root, 'link'))
  await symlink('/etc', join(root, 'out'))
  await link(join(root, 'empty'), join(root, 'dir/again'))
  await chmod(join(root, 'dir'), 0o755)
  await chmod(join(root, 'dir/file with spaces'), 0o640)
  await chmod(root, 0o755)
  return root
}

fileSystemContract('a directory', async () => {
  const fs = await openDirectory(await makeTree('contract'))
  return {
    fs,
    known: [
      { path: '/', kind: 'directory', mode: 0o755, names: ['dir', 'empty', 'link', 'out'] },
      { path: '/dir', kind: 'directory', mode: 0o755, names: ['deeper', 'file with spaces', 'again'] },
      { path: '/dir/file with spaces', kind: 'file', mode: 0o640, content },
      { path: '/link', kind: 'symlink', mode: 0o777, target: 'dir' },
      { path: '/out', kind: 'symlink', mode: 0o777, target: '/etc' },
    ],
    close: () => fs.close(),
  }
})

deviceContract('a file in a directory', async () => {
  const fs = await openDirectory(await makeTree('device'))
  return { device: await fs.open('/dir/file with spaces'), bytes: content }
})

describe('a directory as a FileSystem', () => {
  test('tells what the system tells', async () => {
    const root = await makeTree('facts')
    await utimes(join(root, 'empty'), 1_700_000_000.25, 1_700_000_000.25)
    const fs = await openDirectory(root)
    const [stat, truth] = await Promise.all([fs.stat('/empty'), lstat(join(root, 'empty'))])
    expect(stat).toEqual({
      kind: 'file',
      inode: truth.ino,
      mode: truth.mode & 0o7777,
      uid: truth.uid,
      gid: truth.gid,
      size: 0,
      mtime: 1_700_000_000,
      mtimeNanoseconds: 250_000_000,
      linkCount: 2,
    })
    expect(fs.path).toBe(root)
    expect(fs.type).toBe(fs.medium.type)
  })

  test('tells times before 1970', async () => {
    const root = await makeTree('old')
    await utimes(join(root, 'empty'), '-1.75', '-1.75')
    const { mtime, mtimeNanoseconds } = await (await openDirectory(root)).stat('/empty')
    expect([mtime, mtimeNanoseconds]).toEqual([-2, 250_000_000])
  })

  test('tells a device by its numbers', async () => {
    const stat = await (await openDirectory('/dev')).stat('/null')
    expect([stat.kind, stat.device]).toEqual(['character', { major: 1, minor: 3 }])
  })

  test('keeps names that are no UTF-8', async () => {
    const root = await makeTree('bytes')
    const name = Buffer.from([0x61, 0xff, 0xfe, 0x62])
    await writeFile(Buffer.concat([Buffer.from(`${root}/`), name]), 'odd')
    const fs = await openDirectory(root)
    const found = (await fs.list('/')).find(entry => entry.name.startsWith('a'))!
    expect(Buffer.from(encodeName(found.name))).toEqual(name)
    const device = await fs.open(`/${found.name}`)
    sameBytes(await device.read(0, 3), Buffer.from('odd'))
    expect((await fs.stat(`/${found.name}`)).inode).toBe(found.inode)
    await device.close()
  })

  test('knows a file that is all hole', async () => {
    const root = await makeTree('holes')
    await truncate(join(root, 'empty'), 1 << 20)
    const device = await (await openDirectory(root)).open('/empty')
    expect((await collect(extentsOf(device))).map(({ length }) => length)).toEqual([1 << 20])
    await device.close()
  })

  test('never leaves the directory', async () => {
    const root = await makeTree('inside')
    const fs = await openDirectory(join(root, 'dir'))
    for (const where of ['/..', '/../empty', '/deeper/../../empty', '/deeper/..', '/again/\0'])
      await failure(fs.stat(where), 'NOT_FOUND')
    const outer = await openDirectory(root)
    for (const where of ['/out/passwd', '/link/again']) {
      await failure(outer.stat(where), 'NOT_FOUND')
      await failure(outer.open(where), 'NOT_FOUND')
    }
    await failure(outer.list('/out'), 'NOT_FOUND')
  })

  test('a directory that is a link itself is opened, and shows its own facts', async () => {
    const root = await makeTree('linked')
    const fs = await openDirectory(join(root, 'link'))
    expect((await fs.stat('/')).kind).toBe('directory')
    expect((await fs.list('/')).length).toBe(3)
  })

  test('a file keeps its name in errors, and what it held when it was opened', async () => {
    const root = await makeTree('cut')
    const fs = await openDirectory(root)
    const device = await fs.open('/dir/file with spaces')
    await rename(join(root, 'dir/file with spaces'), join(root, 'moved'))
    sameBytes(await device.read(5, 10), content.subarray(5, 15))
    await truncate(join(root, 'moved'), 100)
    const error = await failure(device.read(0, 1000), 'IO')
    expect(error.message).toContain(join(root, 'dir/file with spaces'))
    expect(error.message).not.toContain('/proc')
    await device.close()
  })

  test('what is no directory is NOT_FOUND', async () => {
    const root = await makeTree('none')
    await failure(openDirectory(join(root, 'empty')), 'NOT_FOUND')
    await failure(openDirectory(join(root, 'nowhere')), 'NOT_FOUND')
    const fs = await openDirectory(root)
    await rm(root, { recursive: true })
    await failure(fs.list('/'), 'NOT_FOUND')
  })

  test('permission denied names the owner, the mode and what to type', async () => {
    const root = await makeTree('closed')
    await chmod(join(root, 'dir'), 0o700)
    const refused = Object.assign(new Error('EACCES'), { code: 'EACCES' })
    const error = await permissionError(join(root, 'dir'), refused)
    const { uid } = await lstat(root)
    expect(error.code).toBe('READ_ONLY')
    expect(error.data).toMatchObject({ closed: join(root, 'dir'), mode: '0700', uid, errno: 'EACCES' })
    expect(error.message).toContain('its mode is 0700')
    expect(error.message).toMatch(/sudo (-u '#\d+' )?liveos …$/)
    // one that another layer made already
    expect((await permissionError(root, systemError(refused, 'x'))).data.errno).toBe('EACCES')
    const other = await permissionError(root, Object.assign(new Error('EIO'), { code: 'EIO' }))
    expect(other.code).toBe('IO')
  })
})
