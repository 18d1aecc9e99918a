import type { Device } from '../block/device.js'
import { isLiveError, type LiveError } from '../error.js'

/** What an inode is. */
export type FileKind = 'file' | 'directory' | 'symlink' | 'block' | 'character' | 'fifo' | 'socket'

/** What is known of an inode without reading its data. */
export interface Stat {
  readonly kind: FileKind
  /** number of the inode */
  readonly inode: number
  /** permission bits with set-uid, set-gid and sticky, no file kind (0 to 0o7777) */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** bytes; of a symlink the length of its target */
  readonly size: number
  /** last change of the content: seconds since 1970, negative before */
  readonly mtime: number
  /** what of the last change is less than a second; 0 where the filesystem keeps seconds only */
  readonly mtimeNanoseconds: number
  readonly linkCount: number
  /** where its filesystem finds it again without a path, for `openAt`; only `stats` tells it */
  readonly place?: number
  /** of a block or character device */
  readonly device?: { readonly major: number; readonly minor: number }
}

/** A name in a directory. */
export interface Entry {
  /** as `decodeName` gives it: bytes that are no UTF-8 come back by `encodeName` */
  readonly name: string
  readonly kind: FileKind
  readonly inode: number
}

/** An extended attribute, its full name such as `security.selinux` or `user.note`. */
export interface Xattr {
  readonly name: string
  readonly value: Uint8Array
}

/**
 * Names to Devices. Paths are absolute, separated by `/`; the last name is never followed when it is a symlink,
 * and symlinks on the way are not followed either: who wants that resolves them with `readLink`.
 */
export interface FileSystem {
  readonly name: string
  /** squashfs, ext4, vfat, iso9660 … as blkid says */
  readonly type: string
  /** the volume's name; undefined where it has none */
  readonly label: string | undefined
  /** the volume's id in the spelling of blkid; undefined where it has none */
  readonly uuid: string | undefined
  /** @throws NOT_FOUND, CORRUPT, IO */
  stat(path: string): Promise<Stat>
  /**
   * What `stat` gives for names of one directory, or the error that it throws, in their order. It saves finding the directory for
   * each; only where a filesystem can.
   *
   * @throws NOT_FOUND, CORRUPT, IO  of the directory
   */
  stats?: ((directory: string, names: readonly string[]) => Promise<readonly (Stat | LiveError)[]>) | undefined
  /** The names in a directory, without `.` and `..`, in the order of the medium. @throws NOT_FOUND, CORRUPT, IO */
  list(path: string): Promise<readonly Entry[]>
  /** @throws NOT_FOUND  also where it is no symlink */
  readLink(path: string): Promise<string>
  /** A regular file as a Device. @throws NOT_FOUND  also where it is no regular file */
  open(path: string): Promise<Device>
  /**
   * The same by the place that `stats` told; only where a filesystem can.
   *
   * @param path  for its name
   * @throws CORRUPT, IO
   */
  openAt?: ((place: number, path: string) => Promise<Device>) | undefined
  close(): Promise<void>
}

/** A FileSystem that keeps extended attributes. */
export interface XattrFileSystem extends FileSystem {
  /** In the order of the medium. @throws NOT_FOUND, CORRUPT, IO */
  xattrs(path: string): Promise<readonly Xattr[]>
}

/** Bytes of a file that lie in one piece on the device. What lies between two runs of a file is a hole. */
export interface Run {
  /** first byte in the file */
  readonly offset: number
  readonly length: number
  /** first byte on the device */
  readonly start: number
}

/** A run of the device that no file uses. */
export interface FreeRun {
  /** first byte on the device */
  readonly start: number
  readonly length: number
}

/** A FileSystem whose files lie on its device as they are: where, and what is free. */
export interface MappedFileSystem extends FileSystem {
  /** Where a regular file's data lie, in the file's order. @throws NOT_FOUND, CORRUPT, IO */
  extents(path: string): Promise<readonly Run[]>
  /** What is free, in the device's order, touching runs joined. @throws CORRUPT, IO */
  freeRuns(): AsyncIterable<FreeRun>
}

/** True where extended attributes can be asked for. */
export const hasXattrs = (fs: FileSystem): fs is XattrFileSystem => 'xattrs' in fs

/** True where files have places on the device. */
export const isMapped = (fs: FileSystem): fs is MappedFileSystem => 'freeRuns' in fs

/** What `look` gives for each, or the LiveError that it throws; it waits only where `look` does. */
export const eachOrError = async <T, R>(
  all: readonly T[],
  look: (one: T) => R | Promise<R>,
): Promise<(R | LiveError)[]> => {
  const found: (R | LiveError)[] = []
  for (const one of all) {
    try {
      const result = look(one)
      found.push(result instanceof Promise ? await result : result)
    } catch (error) {
      if (!isLiveError(error)) throw error
      found.push(error)
    }
  }
  return found
}

/** Path of a name in a directory, both absolute. */
export const pathBelow = (directory: string, name: string): string => `${directory === '/' ? '' : directory}/${name}`

/** The names of an absolute path, `.` and empty ones left out. */
export const splitPath = (path: string): readonly string[] =>
  path.split('/').filter(name => name !== '' && name !== '.')
