import { type BigIntStats, constants } from 'node:fs'
import { access, lstat, open, readdir, readlink } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Device } from '../block/device.js'
import { openFile } from '../block/file.js'
import { guardReads } from '../block/guard.js'
import { parallel } from '../block/parallel.js'
import { isLiveError, LiveError, systemError } from '../error.js'
import { type Entry, type FileKind, type FileSystem, type Stat, splitPath } from '../fs/filesystem.js'
import { decodeName, encodeName, printableName } from '../fs/name.js'
import { deviceNumber, type Medium, mediumOf } from './medium.js'

/** A directory of this computer as a FileSystem; its root is that directory. */
export interface DirectoryFileSystem extends FileSystem {
  /** absolute path of the directory */
  readonly path: string
  /** what the directory is on */
  readonly medium: Medium
}

const LOOKS_AT_ONCE = 16
/** Filesystems that keep no owners: the mount says who may read. */
const WITHOUT_OWNERS = new Set(['vfat', 'msdos', 'exfat', 'ntfs', 'ntfs3', 'fuseblk', 'hfs'])

const errnoOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''

const kindOf = (stats: BigIntStats): FileKind => {
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'directory'
  if (stats.isSymbolicLink()) return 'symlink'
  if (stats.isBlockDevice()) return 'block'
  if (stats.isCharacterDevice()) return 'character'
  return stats.isFIFO() ? 'fifo' : 'socket'
}

/** A word of a command line as a shell takes it. */
const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)

/** The first name on the way to a path that shuts the caller out: a directory without search permission, or the path. */
const closedAt = async (path: string): Promise<string> => {
  const way: string[] = []
  for (let at = resolve(path); ; at = dirname(at)) {
    way.unshift(at)
    if (at === dirname(at)) break
  }
  for (const at of way.slice(0, -1)) {
    try {
      await access(at, constants.X_OK)
    } catch (error) {
      if (errnoOf(error) === 'EACCES') return at
    }
  }
  return resolve(path)
}

/**
 * Makes an error about permissions one that says who owns what is closed, its mode, and what to type. Other errors become
 * what `systemError` makes of them.
 *
 * @param path  what was asked for
 */
export const permissionError = async (path: string, error: unknown): Promise<LiveError> => {
  const errno = errnoOf(isLiveError(error) ? error.cause : error)
  if (errno !== 'EACCES' && errno !== 'EPERM') return systemError(error, `reading ${printableName(path)}`)
  const closed = await closedAt(path)
  const [facts, medium] = await Promise.all([
    lstat(closed).catch(() => undefined),
    mediumOf(closed).catch(() => undefined),
  ])
  const owner = facts ? (facts.uid === 0 ? 'root' : `user ${facts.uid}`) : 'another user'
  const mode = facts ? (facts.mode & 0o7777).toString(8).padStart(4, '0') : 'unknown'
  const shut = `${printableName(closed)} belongs to ${owner} and its mode is ${mode}`
  const remedy =
    medium?.source && WITHOUT_OWNERS.has(medium.type)
      ? // the kernel takes a new umask of vfat at mounting only, and silently none at remounting
        `a ${medium.type} keeps no owners, so chown and chmod don't help: run liveos with sudo, or mount it for everyone: ` +
        `sudo umount ${quoted(medium.mountPoint)} && sudo mount -o ${medium.readOnly ? 'ro,' : ''}umask=0022 ` +
        `${quoted(medium.source)} ${quoted(medium.mountPoint)}`
      : `run it as ${owner}: sudo ${facts && facts.uid !== 0 ? `-u '#${facts.uid}' ` : ''}liveos …`
  return new LiveError(
    'READ_ONLY',
    `${printableName(path)}: permission denied: ${shut}; ${remedy}`,
    { path, closed, mode, errno, ...(facts ? { uid: facts.uid, gid: facts.gid } : {}) },
    error,
  )
}

const statOf = (stats: BigIntStats, inode: number): Stat => {
  const seconds = stats.mtimeNs / 1_000_000_000n
  const rest = stats.mtimeNs % 1_000_000_000n
  const kind = kindOf(stats)
  return {
    kind,
    inode,
    mode: Number(stats.mode) & 0o7777,
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    // the size of a directory is the filesystem's own affair
    size: kind === 'file' || kind === 'symlink' ? Number(stats.size) : 0,
    mtime: Number(seconds) - (rest < 0n ? 1 : 0),
    mtimeNanoseconds: Number(rest < 0n ? rest + 1_000_000_000n : rest),
    linkCount: Math.max(1, Number(stats.nlink)),
    ...(kind === 'block' || kind === 'character' ? { device: splitDevice(stats.rdev) } : {}),
  }
}

const splitDevice = (rdev: bigint): { major: number; minor: number } => {
  const [major = 0, minor = 0] = deviceNumber(Number(rdev)).split(':').map(Number)
  return { major, minor }
}

/** A Device whose errors say which file they are about: it was opened by a number. */
const named = (device: Device, name: string): Device =>
  guardReads({ ...device, name }, async (offset, length, read) => {
    try {
      return await read()
    } catch (error) {
      if (!isLiveError(error) || error.code === 'OUT_OF_RANGE') throw error
      throw new LiveError(
        error.code,
        `${printableName(name)}: bytes ${offset} to ${offset + length} can't be read`,
        { ...error.data, path: name, offset, length },
        error,
      )
    }
  })

/**
 * Opens a directory, such as a mounted stick, as a FileSystem. Its paths never leave the directory: `..` is no name and
 * symlinks on the way are not followed. Other filesystems mounted below it are shown with it.
 *
 * @param path  a directory; symlinks up to it are followed
 * @throws NOT_FOUND  there is no such directory
 * @throws READ_ONLY  permission denied: the message says what is closed and what to type
 */
export const openDirectory = async (path: string): Promise<DirectoryFileSystem> => {
  const root = resolve(path)
  const failed = async (where: string, error: unknown): Promise<LiveError> =>
    isLiveError(error) && error.code !== 'READ_ONLY' ? error : permissionError(where, error)
  let rootDevice: bigint
  try {
    // a symlink is as good as the directory here: the caller chose it
    const handle = await open(root, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      rootDevice = (await handle.stat({ bigint: true })).dev
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') throw new LiveError('NOT_FOUND', `${path} is no directory`, { path }, error)
    throw await failed(root, error)
  }
  const medium = await mediumOf(root)
  const rootBytes = Buffer.from(root === '/' ? '' : root)

  /** Inodes that have no number of their own here: of other filesystems, or above 2^53. */
  const strangers = new Map<string, number>()
  const inodeOf = ({ dev, ino }: BigIntStats): number => {
    if (dev === rootDevice && ino < 2n ** 52n) return Number(ino)
    const key = `${dev}:${ino}`
    const inode = strangers.get(key) ?? 2 ** 52 + strangers.size
    strangers.set(key, inode)
    return inode
  }

  const namesOf = (where: string): readonly string[] => {
    const names = splitPath(where)
    if (names.some(name => name === '..' || name.includes('\0'))) throw notFound(where)
    return names
  }
  const notFound = (where: string, what = 'file or directory', cause?: unknown) =>
    new LiveError('NOT_FOUND', `${root}: no ${what} ${printableName(where)}`, { device: root, path: where }, cause)
  const bytesOf = (names: readonly string[]): Buffer =>
    names.length === 0
      ? Buffer.from(root)
      : Buffer.concat([rootBytes, ...names.flatMap(name => [Buffer.from('/'), encodeName(name)])])
  const hostPath = (where: string): string => `${root === '/' ? '' : root}/${splitPath(where).join('/')}`

  const during = async <T>(where: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      if (isLiveError(error) && error.code === 'NOT_FOUND') throw error
      if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'].includes(errnoOf(error)))
        throw notFound(where, 'file or directory', error)
      throw await failed(hostPath(where), error)
    }
  }

  /** The inode of a path; each name on the way must be a directory and no link to one. */
  const look = (where: string): Promise<{ bytes: Buffer; stats: BigIntStats }> =>
    during(where, async () => {
      const names = namesOf(where)
      for (let n = 1; n < names.length; n++)
        if (!(await lstat(bytesOf(names.slice(0, n)))).isDirectory()) throw notFound(where)
      const bytes = bytesOf(names)
      const noFollow = names.length === 0 ? Buffer.concat([bytes, Buffer.from('/.')]) : bytes
      return { bytes, stats: await lstat(noFollow, { bigint: true }) }
    })

  const list = (where: string): Promise<readonly Entry[]> =>
    during(where, async () => {
      const { bytes, stats } = await look(where)
      if (!stats.isDirectory()) throw notFound(where, 'directory')
      const names = await readdir(bytes, { encoding: 'buffer' })
      const entries: (Entry | undefined)[] = new Array(names.length)
      await parallel(names.length, LOOKS_AT_ONCE, async index => {
        const name = names[index]!
        try {
          const found = await lstat(Buffer.concat([bytes, Buffer.from('/'), name]), { bigint: true })
          entries[index] = { name: decodeName(name), kind: kindOf(found), inode: inodeOf(found) }
        } catch (error) {
          // removed since the names were read
          if (errnoOf(error) !== 'ENOENT') throw error
        }
      })
      return entries.filter(entry => entry !== undefined)
    })

  const openAt = (where: string): Promise<Device> =>
    during(where, async () => {
      const { bytes, stats } = await look(where)
      if (!stats.isFile()) throw notFound(where, 'regular file')
      // A name that became a link or a pipe since: neither is followed nor waited for.
      const handle = await open(bytes, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
      try {
        const now = await handle.stat({ bigint: true })
        if (!now.isFile() || now.ino !== stats.ino || now.dev !== stats.dev) throw notFound(where, 'regular file')
        // By its number the same inode is opened again; where the system has no such path, by its name.
        const byNumber = `/proc/self/fd/${handle.fd}`
        const known = await access(byNumber).then(
          () => true,
          () => false,
        )
        return named(await openFile(known ? byNumber : hostPath(where)), hostPath(where))
      } finally {
        await handle.close()
      }
    })

  return {
    name: root,
    path: root,
    medium,
    type: medium.type,
    label: medium.label,
    uuid: medium.uuid,
    async stat(where) {
      const { stats } = await look(where)
      return statOf(stats, inodeOf(stats))
    },
    list,
    async readLink(where) {
      const { bytes, stats } = await look(where)
      if (!stats.isSymbolicLink()) throw notFound(where, 'symlink')
      return during(where, async () => decodeName(await readlink(bytes, { encoding: 'buffer' })))
    },
    open: openAt,
    async close() {},
  }
}
