import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { link, lstat, mkdir, readdir, readFile, readlink, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Squashfs } from '../../src/fs/squashfs/reader.js'
import { statOf } from '../../src/fs/squashfs/reader.js'
import { bytesOf } from './small-stick.js'

const run = promisify(execFile)
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Fifo and devices, which only mksquashfs' pseudo files make without root. */
export const PSEUDO = ['-p', 'pipe i 644 0 0 f', '-p', 'null c 666 0 0 1 3', '-p', 'disk b 660 0 6 259 70000']

/** A varied tree: all kinds of files, names and sizes that reach each part of the format. Repeatable. */
export const makeTree = async (path: string): Promise<void> => {
  await mkdir(join(path, 'LiveOS'), { recursive: true })
  await mkdir(join(path, 'deep/er/and/deeper'), { recursive: true })
  await mkdir(join(path, 'empty'))
  await mkdir(join(path, 'many'))
  await writeFile(join(path, 'LiveOS/rootfs.img'), bytesOf(7, 300_001))
  await writeFile(join(path, 'deep/er/exact'), bytesOf(8, 131072))
  await writeFile(join(path, 'nothing'), '')
  await writeFile(join(path, 'small'), 'a few words')
  await writeFile(
    join(path, 'random'),
    Buffer.from(
      Array.from({ length: 9000 }, (_, n) =>
        Number.parseInt(createHash('md5').update(String(n)).digest('hex').slice(0, 2), 16),
      ),
    ),
  )
  await writeFile(join(path, 'sparse'), 'start')
  await truncate(join(path, 'sparse'), 700_000)
  await link(join(path, 'small'), join(path, 'deep/hard link'))
  await symlink('../small', join(path, 'deep/er/soft'))
  // more than 256 names, and a listing of more than 64 KiB
  for (let n = 0; n < 300; n++)
    await writeFile(join(path, 'many', `${n} ${'a rather long name '.repeat(13)}`.trim()), n % 7 === 0 ? `${n}` : '')
  await run('setfattr', ['-n', 'user.note', '-v', 'short', join(path, 'small')])
  for (const name of ['random', 'nothing', 'deep'])
    await run('setfattr', ['-n', 'user.long', '-v', 'x'.repeat(900), join(path, name)])
}

/** A file of a tree as one line: kind, mode, links, size, content or target. */
export type Listing = ReadonlyMap<string, string>

const line = (kind: string, mode: number, links: number, content: string): string =>
  `${kind} ${(mode & 0o7777).toString(8)} ${kind === 'directory' ? '' : links} ${content}`

/** User attributes of every file below a directory, by one call. */
const attributesBelow = async (path: string): Promise<ReadonlyMap<string, string>> => {
  const { stdout } = await run('getfattr', ['-R', '-h', '-d', '-e', 'hex', '--absolute-names', path], {
    maxBuffer: 1 << 26,
  })
  const found = new Map<string, string>()
  for (const block of stdout.split('\n\n')) {
    const [file = '', ...values] = block.split('\n')
    const name = file
      .replace(/^# file: /, '')
      .replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
    found.set(
      name,
      values
        .filter(text => text.startsWith('user.'))
        .sort()
        .join(' '),
    )
  }
  return found
}

/** What a directory of this computer holds, as the operating system tells it. */
export const listDirectory = async (path: string): Promise<Listing> => {
  const found = new Map<string, string>()
  const known = await attributesBelow(path)
  const visit = async (name: string): Promise<void> => {
    const full = join(path, name)
    const facts = await lstat(full)
    const attributes = known.get(full.replace(/\/$/, '')) ?? ''
    if (facts.isDirectory()) {
      found.set(name, line('directory', facts.mode, 0, attributes))
      for (const child of await readdir(full)) await visit(join(name, child))
    } else if (facts.isSymbolicLink()) found.set(name, line('symlink', 0o777, facts.nlink, await readlink(full)))
    else if (facts.isFile())
      found.set(
        name,
        line('file', facts.mode, facts.nlink, `${facts.size} ${sha256(await readFile(full))} ${attributes}`),
      )
  }
  await visit('/')
  return found
}

/** The same of a squashfs, as our reader tells it. Devices and fifos are listed too, under `special`. */
export const listSquashfs = async (fs: Squashfs): Promise<{ files: Listing; special: Listing }> => {
  const files = new Map<string, string>()
  const special = new Map<string, string>()
  const visit = async (name: string): Promise<void> => {
    const inode = await fs.lookup(name)
    const { kind, mode, linkCount, size, device } = statOf(inode, fs.ids)
    const attributes = (await fs.xattrsOf(inode))
      .map(({ name: key, value }) => `${key}=0x${Buffer.from(value).toString('hex')}`)
      .sort()
      .join(' ')
    if (inode.kind === 'directory') {
      files.set(name, line(kind, mode, 0, attributes))
      for (const { name: child } of await fs.list(name)) await visit(join(name, child))
    } else if (inode.kind === 'file') {
      const file = await fs.open(name)
      files.set(name, line(kind, mode, linkCount, `${size} ${sha256(await file.read(0, size))} ${attributes}`))
    } else if (inode.kind === 'symlink') files.set(name, line(kind, 0o777, linkCount, await fs.readLink(name)))
    else special.set(name, `${kind} ${mode.toString(8)} ${device ? `${device.major}:${device.minor}` : ''}`)
  }
  await visit('/')
  return { files, special }
}
