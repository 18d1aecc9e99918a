import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  constants,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { type FileSystem, hasXattrs } from '../../src/fs/filesystem.js'
import { walk } from '../../src/fs/walk.js'
import { needExt4Mount } from './ext4-mount.js'
import { needMount } from './mounting.js'
import type { Random } from './random.js'
import type { Gate } from './tools.js'

const PROGRAMS = ['mksquashfs', 'getfattr', 'setfattr', 'mknod', 'mkfifo']

/** The gate of tests in which this computer's kernel mounts an OverlayFS: root, loop devices, squashfs and overlay. */
export const needOverlayMount = (...names: string[]): Gate => {
  const ext4 = needExt4Mount(...PROGRAMS, ...names)
  if (ext4.reason !== undefined) return ext4
  return needMount('an OverlayFS', scratch => {
    for (const name of ['low', 'up', 'work', 'at']) mkdirSync(join(scratch, name))
    const layers = `lowerdir=${scratch}/low,upperdir=${scratch}/up,workdir=${scratch}/work`
    return ['-t', 'overlay', 'overlay', '-o', layers, join(scratch, 'at')]
  })
}

/** All that is to be seen of an inode, as one object that compares. */
export interface Seen {
  readonly kind: string
  readonly mode: number
  readonly owner: string
  readonly size: number
  readonly mtime: string
  readonly links: number
  readonly content: string
  readonly device: string
  readonly xattrs: Readonly<Record<string, string>>
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex').slice(0, 16)

/** The attributes of all below a directory, by path. */
const attributesBelow = (at: string): Map<string, Record<string, string>> => {
  // names that are listed and not found are no names
  const { stdout: text } = spawnSync('getfattr', ['-R', '-h', '--absolute-names', '-d', '-m', '-', '-e', 'hex', at], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  const found = new Map<string, Record<string, string>>()
  for (const part of text.split('\n\n')) {
    const [head = '', ...lines] = part.trim().split('\n')
    if (!head.startsWith('# file: ')) continue
    const path = head
      .slice(8 + at.length)
      .replace(/\\(\d{3})/g, (_, o: string) => String.fromCharCode(Number.parseInt(o, 8)))
    found.set(path || '/', Object.fromEntries(lines.map(line => line.split('=0x') as [string, string])))
  }
  return found
}

/** What the kernel shows below a directory. Names that it lists and does not find are none. */
export const kernelTree = (at: string): Map<string, Seen> => {
  const xattrs = attributesBelow(at)
  const tree = new Map<string, Seen>()
  const visit = (path: string): void => {
    const full = at + (path === '/' ? '' : path)
    const stats = lstatSync(full, { bigint: true, throwIfNoEntry: false })
    if (!stats) return
    const kind = stats.isFile()
      ? 'file'
      : stats.isDirectory()
        ? 'directory'
        : stats.isSymbolicLink()
          ? 'symlink'
          : stats.isCharacterDevice()
            ? 'character'
            : stats.isBlockDevice()
              ? 'block'
              : stats.isFIFO()
                ? 'fifo'
                : 'socket'
    tree.set(path, {
      kind,
      mode: Number(stats.mode) & 0o7777,
      owner: `${stats.uid}:${stats.gid}`,
      size: kind === 'file' || kind === 'symlink' ? Number(stats.size) : 0,
      mtime: String(stats.mtimeNs),
      links: Number(stats.nlink),
      content: kind === 'file' ? sha256(readFileSync(full)) : kind === 'symlink' ? readlinkSync(full) : '',
      device: kind === 'character' || kind === 'block' ? String(stats.rdev) : '',
      xattrs: xattrs.get(path) ?? {},
    })
    if (kind === 'directory') for (const name of readdirSync(full)) visit(`${path === '/' ? '' : path}/${name}`)
  }
  visit('/')
  return tree
}

/** What a FileSystem of ours shows. */
export const ourTree = async (fs: FileSystem): Promise<Map<string, Seen>> => {
  const tree = new Map<string, Seen>()
  for await (const { path, stat } of walk(fs)) {
    const { kind, device } = stat
    let content = ''
    if (kind === 'file') {
      const file = await fs.open(path)
      content = sha256(await file.read(0, file.size))
      await file.close()
    } else if (kind === 'symlink') content = await fs.readLink(path)
    const xattrs = hasXattrs(fs) ? await fs.xattrs(path) : []
    tree.set(path, {
      kind,
      mode: stat.mode,
      owner: `${stat.uid}:${stat.gid}`,
      size: kind === 'file' || kind === 'symlink' ? stat.size : 0,
      mtime: String(BigInt(stat.mtime) * 1_000_000_000n + BigInt(stat.mtimeNanoseconds)),
      links: stat.linkCount,
      content,
      device: device ? String(device.major * 256 + device.minor) : '',
      xattrs: Object.fromEntries(xattrs.map(({ name, value }) => [name, Buffer.from(value).toString('hex')])),
    })
  }
  return tree
}

/** Edits a mounted tree at random: what can't be done is left out, and the kernel says what that is. */
export const editAtRandom = (at: string, { below }: Random, count: number): void => {
  const random = (): number => below(1 << 20) / (1 << 20)
  const pick = <T>(all: readonly T[]): T | undefined => all[below(all.length)]
  const paths = (): { files: string[]; directories: string[] } => {
    const found = { files: [] as string[], directories: [''] }
    const visit = (path: string): void => {
      for (const entry of readdirSync(at + path, { withFileTypes: true })) {
        const full = `${path}/${entry.name}`
        if (entry.isDirectory()) {
          found.directories.push(full)
          visit(full)
        } else if (lstatSync(at + full, { throwIfNoEntry: false })) found.files.push(full)
      }
    }
    visit('')
    return found
  }
  let serial = 0
  const fresh = (): string => {
    const { files, directories } = paths()
    // now and then a name that is taken, or was once
    const old = random() < 0.25 ? pick([...files, ...gone]) : undefined
    return old ?? `${pick(directories)}/new ${serial++}`
  }
  const gone: string[] = []
  const isLink = (path: string): boolean => lstatSync(at + path).isSymbolicLink()
  const { O_CREAT, O_WRONLY, O_TRUNC, O_APPEND, O_NONBLOCK, O_NOFOLLOW } = constants
  /** Neither follows a link out of the tree nor waits for the other end of a pipe. */
  const change = (path: string, flags: number, use: (file: number) => void): void => {
    const file = openSync(at + path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | flags)
    try {
      use(file)
    } finally {
      closeSync(file)
    }
  }
  const edits: readonly (() => void)[] = [
    () => change(fresh(), O_CREAT | O_TRUNC, file => writeSync(file, `text ${random()}`)),
    () => change(pick(paths().files)!, O_APPEND, file => writeSync(file, 'more')),
    () => change(pick(paths().files)!, 0, file => ftruncateSync(file, below(9000))),
    () => {
      const { files, directories } = paths()
      const path = pick([...files, ...directories])!
      if (path !== '' && !isLink(path)) chmodSync(at + path, below(0o1000) | 0o700)
    },
    () => lchownSync(at + pick(paths().files), below(9), 7),
    () => {
      const path = pick(paths().files)!
      gone.push(path)
      rmSync(at + path)
    },
    () => {
      const path = pick(paths().directories.slice(1))
      if (path === undefined) return
      gone.push(path)
      rmSync(at + path, { recursive: true })
      if (random() < 0.6) {
        mkdirSync(at + path)
        if (random() < 0.7) writeFileSync(`${at}${path}/again`, 'made anew')
      }
    },
    () => renameSync(at + pick(paths().files), at + fresh()),
    () => renameSync(at + pick(paths().directories.slice(1)), at + fresh()),
    () => renameSync(at + pick(paths().directories.slice(1)), at + fresh()),
    () => mkdirSync(at + fresh()),
    () => linkSync(at + pick(paths().files), at + fresh()),
    () => symlinkSync(`nowhere ${random()}`, at + fresh()),
    () => lutimesSync(at + pick(paths().files), 1_500_000_000.25, 1_500_000_001.5),
    () => {
      const { files, directories } = paths()
      const path = pick([...files, ...directories])!
      if (path !== '' && isLink(path)) return
      const name = pick(['user.note', 'trusted.note', 'trusted.overlay.inner', 'security.note'])!
      execFileSync('setfattr', ['-n', name, '-v', String(serial++), at + path], { stdio: 'pipe' })
    },
    () => void execFileSync('mknod', [at + fresh(), 'c', '1', '3'], { stdio: 'pipe' }),
    () => void execFileSync('mkfifo', [at + fresh()], { stdio: 'pipe' }),
  ]
  for (let n = 0; n < count; n++) {
    try {
      pick(edits)!()
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error || 'status' in error)) throw error
    }
  }
}

/** A tree that an OverlayFS is to lie over. */
export const makeLowerTree = (at: string): void => {
  for (const directory of ['usr/bin', 'usr/lib/deep/er', 'etc/conf.d', 'home/user/.cache', 'var/log', 'srv/empty'])
    mkdirSync(join(at, directory), { recursive: true })
  for (let n = 0; n < 12; n++) writeFileSync(join(at, `usr/bin/tool${n}`), `tool ${n} `.repeat(n * 97))
  for (const name of [
    'etc/passwd',
    'etc/conf.d/a',
    'etc/conf.d/b',
    'usr/lib/deep/er/x',
    'home/user/file',
    'var/log/log',
  ])
    writeFileSync(join(at, name), `${name}\n`.repeat(300))
  linkSync(join(at, 'usr/bin/tool3'), join(at, 'usr/bin/linked'))
  linkSync(join(at, 'usr/bin/tool3'), join(at, 'etc/linked too'))
  linkSync(join(at, 'etc/passwd'), join(at, 'home/user/passwd'))
  symlinkSync('../usr/bin', join(at, 'etc/link'))
  execFileSync('mkfifo', [join(at, 'var/pipe')])
  execFileSync('mknod', [join(at, 'srv/null'), 'c', '1', '3'])
  execFileSync('mknod', [join(at, 'srv/deleted'), 'c', '0', '0'])
  execFileSync('setfattr', ['-n', 'user.kept', '-v', 'value', join(at, 'etc/passwd')])
  execFileSync('setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', join(at, 'usr/lib/deep')])
  chmodSync(join(at, 'usr/bin/tool5'), 0o4755)
  lchownSync(join(at, 'home/user'), 1000, 1000)
}
