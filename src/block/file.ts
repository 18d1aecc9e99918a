import { readSync, type Stats } from 'node:fs'
import { type FileHandle, open, readFile, stat, statfs } from 'node:fs/promises'
import { LiveError, systemError } from '../error.js'
import { bisectSize } from './bisect.js'
import { checkRange, type PlacingDevice, type SparseDevice, type WritableDevice } from './device.js'
import { openPatience, type Patience } from './patience.js'

/** A file or block device, opened for reading. */
export interface FileDevice extends SparseDevice {
  readonly path: string
  /** bytes that the filesystem had set aside for the file when it was opened; of a block device its size */
  readonly allocated: number
  /** true where the filesystem is known to tell holes and had set aside less than the file's size */
  readonly hasHoles: boolean
}

/** A file or block device of fixed size, opened for reading and writing. */
export interface WritableFile extends WritableDevice {
  readonly path: string
}

/** A file that grows: a write may start at or past its end, and `size` is its size now. What was never written reads zero. */
export interface GrowingFile extends WritableDevice {
  readonly path: string
  /**
   * Makes the file `size` bytes long; what it gains is a hole.
   *
   * @throws NO_SPACE, IO
   */
  truncate(size: number): Promise<void>
}

/** Linux moves at most 0x7ffff000 bytes in a call, and Node takes no more than 2^31 - 1. */
const CALL_LIMIT = 1 << 30

/**
 * Filesystems whose count of allocated blocks says whether a file has data: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, overlay.
 * Others, FUSE above all, may count no blocks for a file full of data.
 */
const TELLS_HOLES = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0xf2f52010, 0x794c7630])

const during = async <T>(doing: string, work: () => T | Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    throw systemError(error, doing)
  }
}

const statMedium = async (path: string): Promise<Stats> => {
  // Before open: opening a pipe would wait for its writer for ever.
  const stats = await during(`opening ${path}`, () => stat(path))
  if (!stats.isFile() && !stats.isBlockDevice())
    throw new LiveError(
      'USAGE',
      `${path} is ${stats.isDirectory() ? 'a directory, not' : 'neither'} a file ${stats.isDirectory() ? 'or' : 'nor a'} block device`,
      {
        path,
      },
    )
  return stats
}

const blockDeviceSize = async (handle: FileHandle, rdev: number): Promise<number> => {
  // Node can't seek, and stat says 0. A number and not the path's name: /dev/disk/by-id and /dev/mapper hold links.
  const major = ((rdev >>> 8) & 0xfff) + Math.floor(rdev / 2 ** 44) * 4096
  const minor = (rdev & 0xff) + (Math.floor(rdev / 2 ** 20) % 2 ** 24) * 256
  try {
    const sectors = Number((await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8')).trim())
    if (Number.isSafeInteger(sectors) && sectors >= 0) return sectors * 512
  } catch {
    // No /sys, as in some containers: the reads below find it.
  }
  const byte = new Uint8Array(1)
  return bisectSize(async offset => {
    try {
      return (await handle.read(byte, 0, 1, offset)).bytesRead > 0
    } catch {
      // Past the end a read gives nothing; an error comes from a bad spot inside.
      return true
    }
  })
}

const fill = async (
  handle: FileHandle,
  path: string,
  offset: number,
  bytes: Uint8Array,
  patience?: Patience,
): Promise<void> => {
  const { length } = bytes
  const doing = `reading ${length} bytes at ${offset} of ${path}`
  for (let done = 0; done < length; ) {
    const [at, count] = [done, Math.min(length - done, CALL_LIMIT)]
    const bytesRead = await during(
      doing,
      () =>
        patience?.wait(count, () => readSync(handle.fd, bytes, at, count, offset + at)) ??
        handle.read(bytes, at, count, offset + at).then(read => read.bytesRead),
    )
    if (bytesRead === 0)
      throw new LiveError('IO', `${doing}: it ends at byte ${offset + done}, it was longer when it was opened`, {
        path,
        offset,
        length,
      })
    done += bytesRead
  }
}

const readFully = async (
  handle: FileHandle,
  path: string,
  offset: number,
  length: number,
  patience?: Patience,
): Promise<Uint8Array> => {
  const bytes = Buffer.allocUnsafeSlow(length)
  await fill(handle, path, offset, bytes, patience)
  return bytes
}

const writeFully = async (handle: FileHandle, path: string, offset: number, bytes: Uint8Array): Promise<void> => {
  const doing = `writing ${bytes.length} bytes at ${offset} of ${path}`
  for (let done = 0; done < bytes.length; ) {
    const count = Math.min(bytes.length - done, CALL_LIMIT)
    const { bytesWritten } = await during(doing, () => handle.write(bytes, done, count, offset + done))
    if (bytesWritten === 0) throw new LiveError('IO', `${doing}: the system wrote nothing`, { path, offset })
    done += bytesWritten
  }
}

// The handle and not its number is kept, everywhere: Node closes a FileHandle that nobody holds any more.
const openMedium = async (path: string, flags: string): Promise<{ handle: FileHandle; stats: Stats; size: number }> => {
  const stats = await statMedium(path)
  const handle = await during(`opening ${path}`, () => open(path, flags))
  try {
    const now = await during(`opening ${path}`, () => handle.stat())
    return { handle, stats: now, size: stats.isFile() ? now.size : await blockDeviceSize(handle, now.rdev) }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** More filesystems of media of this computer: FAT, exFAT, ISO 9660, squashfs, NTFS. */
const LOCAL = new Set([...TELLS_HOLES, 0x4d44, 0x2011bab0, 0x9660, 0x73717368, 0x7366746e])
/** Major numbers of the kernel's NBD, and of loop devices, whose file may lie anywhere. */
const SERVED_MAJORS = [43, 7]

const filesystemOf = async (path: string): Promise<number | undefined> => {
  try {
    return (await statfs(path)).type
  } catch {
    return undefined
  }
}

/**
 * Where a program answers, or a network does, nobody waits for a read in this thread: it may be this very process that is to
 * answer. What lies deeper, such as a device mapper's table over NBD, is not seen.
 */
const patienceFor = (stats: Stats, filesystem: number | undefined): Patience | undefined => {
  const device = stats.isFile() ? stats.dev : stats.rdev
  if (SERVED_MAJORS.includes((device >>> 8) & 0xfff)) return undefined
  const isLocal = !stats.isFile() || (filesystem !== undefined && LOCAL.has(filesystem))
  return isLocal ? openPatience() : undefined
}

/**
 * Opens a file or block device for reading. Its size is the one it has now: a read that finds it shorter later fails with IO.
 *
 * Node has no SEEK_HOLE, so its extents know only two cases: a file with no block allocated is one hole, any other is data.
 *
 * @throws NOT_FOUND  there is no such file
 * @throws USAGE      it is a directory, pipe or the like
 * @throws READ_ONLY  permission denied
 */
export const openFile = async (
  path: string,
  { name = path }: { name?: string } = {},
): Promise<FileDevice & PlacingDevice> => {
  const { handle, stats, size } = await openMedium(path, 'r')
  const filesystem = stats.isFile() ? await filesystemOf(path) : undefined
  const told = filesystem !== undefined && TELLS_HOLES.has(filesystem)
  const allocated = stats.isFile() ? stats.blocks * 512 : size
  const patience = patienceFor(stats, filesystem)
  const device: FileDevice & PlacingDevice = {
    name,
    path,
    size,
    allocated,
    hasHoles: told && allocated < size,
    async read(offset, length) {
      checkRange(device, offset, length)
      return readFully(handle, path, offset, length, patience)
    },
    async readInto(offset, target) {
      checkRange(device, offset, target.length)
      await fill(handle, path, offset, target, patience)
    },
    async *extents(offset, length) {
      checkRange(device, offset, length)
      if (length > 0) yield { offset, length, kind: told && allocated === 0 ? 'hole' : 'data' }
    },
    close: () => during(`closing ${path}`, () => handle.close()),
  }
  return device
}

/**
 * Opens a file or block device for reading and writing, at the size it has.
 *
 * @throws NOT_FOUND, USAGE, READ_ONLY  as `openFile`; READ_ONLY also where it can't be written
 */
export const openWritableFile = async (
  path: string,
  { name = path }: { name?: string } = {},
): Promise<WritableFile> => {
  const { handle, size } = await openMedium(path, 'r+')
  const device: WritableFile = {
    name,
    path,
    size,
    async read(offset, length) {
      checkRange(device, offset, length)
      return readFully(handle, path, offset, length)
    },
    async write(offset, bytes) {
      checkRange(device, offset, bytes.length)
      await writeFully(handle, path, offset, bytes)
    },
    flush: () => during(`flushing ${path}`, () => handle.sync()),
    close: () => during(`closing ${path}`, () => handle.close()),
  }
  return device
}

/** @param length  bytes it has now */
const growing = (handle: FileHandle, path: string, length: number): GrowingFile => {
  let size = length
  const file: GrowingFile = {
    name: path,
    path,
    get size() {
      return size
    },
    async read(offset, length) {
      checkRange(file, offset, length)
      return readFully(handle, path, offset, length)
    },
    async write(offset, bytes) {
      checkRange({ name: path, size: Number.MAX_SAFE_INTEGER }, offset, bytes.length)
      await writeFully(handle, path, offset, bytes)
      if (bytes.length > 0) size = Math.max(size, offset + bytes.length)
    },
    async truncate(length) {
      checkRange({ name: path, size: Number.MAX_SAFE_INTEGER }, 0, length)
      await during(`setting the size of ${path} to ${length}`, () => handle.truncate(length))
      size = length
    },
    // fsync and not fdatasync: the size must be on the medium too.
    flush: () => during(`flushing ${path}`, () => handle.sync()),
    close: () => during(`closing ${path}`, () => handle.close()),
  }
  return file
}

/**
 * Makes a file to be written, empty at first. A file of that name loses its content, unless `exclusive`.
 *
 * @param mode  permission bits before the umask, 0o666 if left out
 * @throws USAGE  the path is a device, pipe or the like
 * @throws REFUSED  `exclusive`, and there is a file of that name
 * @throws NOT_FOUND  its directory is missing
 * @throws READ_ONLY, NO_SPACE, IO
 */
export const createFile = async (
  path: string,
  { mode = 0o666, exclusive = false }: { mode?: number; exclusive?: boolean } = {},
): Promise<GrowingFile> => {
  let handle: FileHandle
  try {
    handle = await open(path, exclusive ? 'wx+' : 'w+', mode)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST')
      throw new LiveError('REFUSED', `${path} is there already`, { path }, error)
    throw systemError(error, `creating ${path}`)
  }
  // A disk would open just as well, and does not grow.
  const stats = await during(`creating ${path}`, () => handle.stat())
  if (!stats.isFile()) {
    await handle.close()
    throw new LiveError('USAGE', `${path} is no regular file`, { path })
  }
  return growing(handle, path, 0)
}

/**
 * Opens a regular file for reading and writing that may also grow or shrink. Its content stays.
 *
 * @throws NOT_FOUND, USAGE  there is none, or it is no regular file
 * @throws READ_ONLY  permission denied
 */
export const openGrowingFile = async (path: string): Promise<GrowingFile> => {
  const { handle, stats, size } = await openMedium(path, 'r+')
  if (stats.isFile()) return growing(handle, path, size)
  await handle.close()
  throw new LiveError('USAGE', `${path} is no regular file`, { path })
}
