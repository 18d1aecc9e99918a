import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lstat, mkdir, open, readdir, readFile, readlink, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { openFile } from '../../src/block/file.js'
import { type Ext4, openExt4 } from '../../src/fs/ext4/reader.js'
import { encodeName } from '../../src/fs/name.js'
import { random } from './random.js'
import { tool } from './tools.js'

const execute = promisify(execFile)

/** Runs a program of e2fsprogs, which may lie outside PATH. The exit codes in `good` are no failure. */
export const run = async (name: string, args: readonly string[], good: readonly number[] = [0]): Promise<string> => {
  try {
    return (await execute(tool(name) ?? name, args, { maxBuffer: 1 << 26 })).stdout
  } catch (error) {
    const { code, stdout } = error as { code?: number; stdout?: string }
    if (code !== undefined && good.includes(code)) return stdout ?? ''
    throw error
  }
}

/** A tree that reaches each part of the format: sizes around what fits in an inode, holes, many extents, long names, many names. Repeatable. */
export const makeExt4Tree = async (path: string): Promise<void> => {
  const noise = random(17)
  await mkdir(join(path, 'deep/er/and/deeper'), { recursive: true })
  await mkdir(join(path, 'many'))
  await mkdir(join(path, 'few'))
  for (const size of [0, 1, 59, 60, 61, 150, 1023, 1024, 5000, 70_000])
    await writeFile(join(path, `size ${size}`), noise.bytes(size))
  await writeFile(join(path, 'deep/big'), noise.bytes(700_001))
  // Every second KiB is a hole: with blocks of 1 KiB an extent tree of depth 2.
  const holes = Buffer.alloc(800 * 1024)
  for (let n = 1; n < 800; n += 2) holes.set(noise.bytes(1024), n * 1024)
  await writeFile(join(path, 'holes'), holes)
  const sparse = await open(join(path, 'sparse'), 'w')
  await sparse.write(noise.bytes(3000), 0, 3000, 5_000_000)
  await sparse.write(noise.bytes(10), 0, 10, 70_000_000)
  await sparse.close()
  for (const length of [1, 59, 60, 61, 300, 1000])
    await symlink('target/'.repeat(200).slice(0, length), join(path, `link ${length}`))
  for (let n = 0; n < 300; n++)
    await writeFile(join(path, 'many', `${n} ${'long '.repeat(n % 40)}end`), n % 9 ? '' : `${n}`)
  for (const name of ['a', 'ünïcode', 'x'.repeat(255)]) await writeFile(join(path, 'few', name), name)
  await writeFile(Buffer.concat([Buffer.from(`${path}/few/latin`), Buffer.of(0xe9, 0xff)]), 'bytes')
  await execute('mkfifo', [join(path, 'pipe')])
  await utimes(join(path, 'size 59'), 1_000_000_000, -1000)
}

/** Makes a filesystem of a size in MiB, with a tree in it. */
export const makeExt4 = async (file: string, mib: number, args: readonly string[], tree?: string): Promise<string> => {
  await writeFile(file, '')
  await truncate(file, mib * 2 ** 20)
  await run('mke2fs', ['-q', '-F', '-E', 'no_copy_xattrs', ...args, ...(tree === undefined ? [] : ['-d', tree]), file])
  return file
}

/** Runs commands of debugfs in order; they may change the filesystem. Gives what it printed. */
export const debugfs = async (file: string, commands: readonly string[], write = false): Promise<string> => {
  const script = `${file}.debugfs`
  await writeFile(script, `${commands.join('\n')}\n`)
  return run('debugfs', [...(write ? ['-w'] : []), '-f', script, file])
}

/** Opens an image for as long as `use` runs. */
export const withExt4 = async <T>(file: string, use: (fs: Ext4) => Promise<T>): Promise<T> => {
  const device = await openFile(file)
  try {
    return await use(await openExt4(device))
  } finally {
    await device.close()
  }
}

/** Paths with kind, mode, owner, time and content, told by another judge or by our reader. */
export type Tree = ReadonlyMap<string, string>

const line = (kind: string, mode: number, uid: number, gid: number, mtime: number, content: string): string =>
  `${kind} ${mode.toString(8)} ${uid}:${gid} ${mtime} ${content}`

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** What this computer shows of a directory, without its own line. */
export const treeOf = async (root: string): Promise<Tree> => {
  const tree = new Map<string, string>()
  const visit = async (path: Buffer, shown: string): Promise<void> => {
    const s = await lstat(path)
    const kind = s.isDirectory() ? 'directory' : s.isSymbolicLink() ? 'symlink' : s.isFile() ? 'file' : 'other'
    let content = ''
    if (kind === 'symlink') content = await readlink(path)
    if (kind === 'file') content = `${s.size} ${sha256(await readFile(path))}`
    if (shown !== '') tree.set(shown, line(kind, s.mode & 0o7777, s.uid, s.gid, Math.floor(s.mtimeMs / 1000), content))
    if (kind !== 'directory') return
    for (const name of await readdir(path, 'buffer'))
      await visit(Buffer.concat([path, Buffer.from('/'), name]), `${shown}/${name.toString('hex')}`)
  }
  await visit(Buffer.from(root), '')
  return tree
}

/** What our reader shows, in the same form, without lost+found. Names are in hex, as bytes tell more than characters. */
export const treeOfExt4 = async (fs: Ext4): Promise<Tree> => {
  const tree = new Map<string, string>()
  const visit = async (path: string, shown: string): Promise<void> => {
    const s = await fs.stat(path)
    const kind = ['directory', 'symlink', 'file'].includes(s.kind) ? s.kind : 'other'
    let content = ''
    if (kind === 'symlink') content = await fs.readLink(path)
    if (kind === 'file') {
      const file = await fs.open(path)
      content = `${s.size} ${sha256(await file.read(0, file.size))}`
    }
    if (shown !== '') tree.set(shown, line(kind, s.mode, s.uid, s.gid, s.mtime, content))
    if (kind !== 'directory') return
    for (const { name } of await fs.list(path))
      if (path !== '' || name !== 'lost+found')
        await visit(`${path}/${name}`, `${shown}/${Buffer.from(encodeName(name)).toString('hex')}`)
  }
  await visit('', '')
  return tree
}

/** The blocks that dumpe2fs calls free. Of the last cluster of a range it names the first block only. */
export const freeByDumpe2fs = async (file: string, clusterBlocks = 1): Promise<ReadonlySet<number>> => {
  const free = new Set<number>()
  for (const [, list] of (await run('dumpe2fs', [file])).matchAll(/^ {2}Free blocks: (.*)$/gm))
    for (const range of list!.split(', ').filter(part => part !== '')) {
      const [from, to] = range.split('-').map(Number) as [number, number?]
      const end = Math.floor((to ?? from) / clusterBlocks + 1) * clusterBlocks
      for (let block = from; block < end; block++) free.add(block)
    }
  return free
}
