import type { Device } from '../block/device.js'

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
  /** seconds since 1970 */
  readonly mtime: number
  readonly linkCount: number
  /** of a block or character device */
  readonly device?: { readonly major: number; readonly minor: number }
}

/** A name in a directory. */
export interface Entry {
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
  /** squashfs, ext4, vfat, iso9660 … */
  readonly type: string
  /** @throws NOT_FOUND, CORRUPT, IO */
  stat(path: string): Promise<Stat>
  /** The names in a directory, without `.` and `..`, in the order of the medium. @throws NOT_FOUND, CORRUPT, IO */
  list(path: string): Promise<readonly Entry[]>
  /** @throws NOT_FOUND  also where it is no symlink */
  readLink(path: string): Promise<string>
  /** A regular file as a Device. @throws NOT_FOUND  also where it is no regular file */
  open(path: string): Promise<Device>
  close(): Promise<void>
}

/** The names of an absolute path, `.` and empty ones left out. */
export const splitPath = (path: string): readonly string[] =>
  path.split('/').filter(name => name !== '' && name !== '.')
