import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import type { Stats } from 'node:fs'
import { chown, link, lstat, mkdir, readdir, readFile, readlink, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Inode } from '../../src/fs/squashfs/inode.js'
import type { Squashfs } from '../../src/fs/squashfs/reader.js'
import { statOf } from '../../src/fs/squashfs/reader.js'
import { random } from './random.js'
import { bytesOf } from './small-stick.js'

const run = promisify(execFile)
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Fifo, socket and devices, which only mksquashfs' pseudo files make without root. */
export const PSEUDO = [
  ...['-p', 'pipe i 644 0 0 f', '-p', 'socket i 600 0 0 s'],
  ...['-p', 'null c 666 0 0 1 3', '-p', 'disk b 660 0 6 259 70000'],
]

/** What PSEUDO makes, as `listSquashfs` tells it. */
export const SPECIAL: ReadonlyMap<string, string> = new Map([
  ['/disk', 'block 660 0:6 259:70000'],
  ['/null', 'character 666 0:0 1:3'],
  ['/pipe', 'fifo 644 0:0 '],
  ['/socket', 'socket 600 0:0 '],
])

/** A tree of few files that still has every kind of data: blocks, a short last block, ends in fragments, a hole, a hard link. */
export const makeSmallTree = async (path: string): Promise<void> => {
  await mkdir(join(path, 'LiveOS'), { recursive: true })
  await mkdir(join(path, 'd/empty'), { recursive: true })
  await writeFile(join(path, 'LiveOS/rootfs.img'), bytesOf(7, 50_001))
  await writeFile(join(path, 'small'), 'a few words')
  await writeFile(join(path, 'noise'), random(5).bytes(9000))
  await writeFile(join(path, 'sparse'), 'start')
  await truncate(join(path, 'sparse'), 30_000)
  await link(join(path, 'small'), join(path, 'd/hard link'))
  await symlink('../small', join(path, 'd/soft'))
  await run('setfattr', ['-n', 'user.note', '-v', 'short', join(path, 'small')])
  for (const name of ['noise', 'd']) await run('setfattr', ['-n', 'user.long', '-v', 'y'.repeat(900), join(path, name)])
}

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
  await writeFile(join(path, 'random'), random(5).bytes(9000))
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
  await run('setfattr', ['-n', 'user.large', '-v', 'z'.repeat(2500), join(path, 'many')])
  // only root may do these
  await run('setfattr', ['-n', 'trusted.overlay', '-v', 'y', join(path, 'empty')]).catch(() => undefined)
  await chown(join(path, 'deep/er/exact'), 1234, 56789).catch(() => undefined)
}

/** A file of a tree as one line: kind, mode, owner, time, links, size, content or target, attributes. */
export type Listing = ReadonlyMap<string, string>

interface Facts {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtime: number
  readonly links: number
}

const factsOf = (stats: Stats): Facts => ({ ...stats, links: stats.nlink, mtime: Math.floor(stats.mtimeMs / 1000) })

const line = (kind: string, { mode, uid, gid, mtime, links }: Facts, content: string): string => {
  const bits = kind === 'symlink' ? '' : (mode & 0o7777).toString(8)
  return `${kind} ${bits} ${uid}:${gid} ${mtime} ${kind === 'directory' ? '' : links} ${content}`
}

/** User and trusted attributes of every file below a directory, by one call. */
const attributesBelow = async (path: string): Promise<ReadonlyMap<string, string>> => {
  const { stdout } = await run('getfattr', ['-R', '-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', path], {
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
        .filter(text => /^(user|trusted)\./.test(text))
        .sort()
        .join(' '),
    )
  }
  return found
}

/** What a directory of this computer holds, as the operating system tells it; devices and the like left out. */
export const listDirectory = async (path: string): Promise<Listing> => {
  const found = new Map<string, string>()
  const known = await attributesBelow(path)
  const visit = async (name: string): Promise<void> => {
    const full = join(path, name)
    const stats = await lstat(full)
    const facts = factsOf(stats)
    const attributes = known.get(full.replace(/\/$/, '')) ?? ''
    if (stats.isDirectory()) {
      found.set(name, line('directory', facts, attributes))
      for (const child of await readdir(full)) await visit(join(name, child))
    } else if (stats.isSymbolicLink()) found.set(name, line('symlink', facts, await readlink(full)))
    else if (stats.isFile())
      found.set(name, line('file', facts, `${stats.size} ${sha256(await readFile(full))} ${attributes}`))
  }
  await visit('/')
  return found
}

/** The devices, fifos and sockets right in a directory, as the operating system tells them. */
export const listSpecial = async (path: string): Promise<Listing> => {
  const found = new Map<string, string>()
  for (const name of await readdir(path)) {
    const stats = await lstat(join(path, name))
    const kind = stats.isBlockDevice()
      ? 'block'
      : stats.isCharacterDevice()
        ? 'character'
        : stats.isFIFO()
          ? 'fifo'
          : stats.isSocket()
            ? 'socket'
            : undefined
    if (!kind) continue
    const major = (stats.rdev >>> 8) & 0xfff
    const minor = (stats.rdev & 0xff) | ((stats.rdev >>> 12) & 0xfff00)
    found.set(`/${name}`, special(kind, factsOf(stats), stats.rdev ? `${major}:${minor}` : ''))
  }
  return found
}

const special = (kind: string, { mode, uid, gid }: Facts, device: string): string =>
  `${kind} ${(mode & 0o7777).toString(8)} ${uid}:${gid} ${device}`

/** The same of a squashfs, as our reader tells it. Devices and fifos are listed too, under `special`. */
export const listSquashfs = async (fs: Squashfs): Promise<{ files: Listing; special: Listing }> => {
  const files = new Map<string, string>()
  const specials = new Map<string, string>()
  const visit = async (name: string, inode: Inode): Promise<void> => {
    const { kind, linkCount, size, device, ...rest } = statOf(inode, fs.ids)
    const facts = { ...rest, links: linkCount }
    const attributes = (await fs.xattrsOf(inode))
      .map(({ name: key, value }) => `${key}=0x${Buffer.from(value).toString('hex')}`)
      .sort()
      .join(' ')
    if (inode.kind === 'directory') {
      files.set(name, line(kind, facts, attributes))
      for (const entry of await fs.listing(inode))
        await visit(join(name, Buffer.from(entry.name).toString()), await fs.inodeAt(entry))
    } else if (inode.kind === 'file') {
      const file = await fs.file(inode, name)
      files.set(name, line(kind, facts, `${size} ${sha256(await file.read(0, size))} ${attributes}`))
    } else if (inode.kind === 'symlink') files.set(name, line(kind, facts, await fs.readLink(name)))
    else specials.set(name, special(kind, facts, device ? `${device.major}:${device.minor}` : ''))
  }
  await visit('/', await fs.lookup('/'))
  return { files, special: specials }
}
