import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  lutimesSync,
  openSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { isZero } from '../block/device.js'
import { errnoOf, type Landing, type LandingPlace, land } from './copy-place.js'

/**
 * What gets a name in a directory of the target: a small file with all its bytes, a symlink, or what was `made` already under
 * its passing name. Where the passing name is the name, it is made under that at once. Plain values, so that it can go to
 * another thread.
 */
export interface WriteTask {
  readonly kind: 'file' | 'symlink' | 'made'
  /** number of the directory, one for each that was opened */
  readonly place: number
  /** Paths for system calls and names, a character for each byte: how to reach the directory with a slash behind it, the passing name, the name. */
  readonly directory: string
  readonly part: string
  readonly name: string
  /** of a symlink, a character for each byte */
  readonly target: string
  /** this copy made the directory */
  readonly isFresh: boolean
  /** nothing can be at the name */
  readonly isFree: boolean
  readonly overwrite: boolean
  /** undefined where it is not set */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined
  readonly mode: number | undefined
  /** a new file has its mode from the start when it is asked for then */
  readonly hasMode: boolean
  /** as `hostTime` gives it */
  readonly time: number | string
  /** the number of the inode that was made is wanted */
  readonly tellInode: boolean
}

/** An error of the system in a shape that survives the way between threads. */
export interface WriteFailure {
  readonly message: string
  readonly code: string
  readonly syscall: string
}

/** What became of a task; `skipped` where it was not begun. */
export type WriteResult =
  | { readonly landing: Landing; readonly inode?: bigint }
  | { readonly failure: WriteFailure }
  | { readonly skipped: true }

const BLOCK = 4096
/** A new file, never one that is there. */
export const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0)

/** Bytes from the characters that stand for them. */
export const bytesOf = (characters: string): Buffer => Buffer.from(characters, 'latin1')
/** The characters that stand for bytes. */
export const charactersOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

/** Writes a new file; blocks of 4 KiB that are zero become holes. */
const writeFile = (
  at: Buffer,
  bytes: Uint8Array,
  { owner, mode, hasMode, time, tellInode }: WriteTask,
): bigint | undefined => {
  const fd = openSync(at, NEW_FILE, hasMode ? mode : 0o600)
  try {
    let end = 0
    for (let at = 0; at < bytes.length; ) {
      // runs of blocks that hold something; the rest are holes
      let next = at
      const stop = (from: number): number => Math.min(bytes.length, from + BLOCK)
      while (next < bytes.length && (bytes[next] !== 0 || !isZero(bytes.subarray(next, stop(next))))) next = stop(next)
      for (let done = at; done < next; ) {
        const count = writeSync(fd, bytes, done, next - done, done)
        done += count
        end = done
      }
      at = next < bytes.length ? stop(next) : next
    }
    if (end < bytes.length) ftruncateSync(fd, bytes.length)
    if (owner) fchownSync(fd, owner.uid, owner.gid)
    if (mode !== undefined && !hasMode) fchmodSync(fd, mode)
    futimesSync(fd, time, time)
    return tellInode ? fstatSync(fd, { bigint: true }).ino : undefined
  } catch (error) {
    removePart(at)
    throw error
  } finally {
    closeSync(fd)
  }
}

const makeSymlink = (at: Buffer, { target, owner, time }: WriteTask): void => {
  symlinkSync(bytesOf(target), at)
  try {
    if (owner) lchownSync(at, owner.uid, owner.gid)
    lutimesSync(at, time, time)
  } catch (error) {
    removePart(at)
    throw error
  }
}

const removePart = (part: Buffer): void => {
  try {
    unlinkSync(part)
  } catch {
    // never made
  }
}

/** True where a task makes its file or symlink under its own name. */
const isDirect = ({ kind, part, name }: WriteTask): boolean => kind !== 'made' && part === name

/**
 * Removes what a task left.
 *
 * @param inWork  it was begun and not ended: under its own name there is somebody else's at any other time, or a file that is whole
 */
export const removeLeft = (task: WriteTask, inWork: boolean): void => {
  if (inWork || !isDirect(task)) removePart(bytesOf(task.directory + task.part))
}

/** Errors of a target after which no other file would do better. */
export const isFatal = (error: unknown): boolean =>
  error instanceof Error &&
  'code' in error &&
  [
    'ENOSPC',
    'EDQUOT',
    'EROFS',
    'EIO',
    'ENXIO',
    'ENODEV',
    'EMFILE',
    'ENFILE',
    'ENOMEM',
    'ESTALE',
    'NO_SPACE',
    'CANCELLED',
  ].includes(String(error.code))

const packed = (error: unknown): WriteFailure => ({
  message: error instanceof Error ? error.message : String(error),
  code: errnoOf(error),
  syscall: error instanceof Error && 'syscall' in error ? String(error.syscall) : '',
})

/** The error again, as it was thrown. */
export const unpacked = ({ message, code, syscall }: WriteFailure): Error =>
  Object.assign(new Error(message), code === '' ? {} : { code, syscall })

/**
 * Makes what a task says under its passing name and gives it its own. Where that fails nothing is left of it, except of what was
 * made before. What is there already is never replaced by one that has no passing name.
 *
 * @param bytes  of a file
 * @param made   inodes that this copy put into the directory where it may replace others; they are added to
 */
export const perform = (task: WriteTask, bytes: Uint8Array, made: Set<bigint>): WriteResult => {
  const { kind, directory, isFresh } = task
  const place: LandingPlace = { made, isFresh, at: name => bytesOf(directory + charactersOf(name)) }
  const part = bytesOf(directory + task.part)
  let isLeft = false
  try {
    const inode = kind === 'file' ? writeFile(part, bytes, task) : undefined
    if (kind === 'symlink') makeSymlink(part, task)
    isLeft = kind !== 'made'
    const landing = isDirect(task) ? 'done' : land(place, bytesOf(task.part), bytesOf(task.name), task)
    isLeft &&= landing !== 'done'
    return inode === undefined ? { landing } : { landing, inode }
  } catch (error) {
    // Somebody else put it there, where this copy made all.
    return isDirect(task) && errnoOf(error) === 'EEXIST' ? { landing: 'collides' } : { failure: packed(error) }
  } finally {
    if (isLeft) removePart(part)
  }
}
