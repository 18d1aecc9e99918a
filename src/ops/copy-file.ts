import { type FileHandle, open } from 'node:fs/promises'
import { copyData } from '../block/copy.js'
import { type Device, readInto, type WritableDevice } from '../block/device.js'
import { guardReads } from '../block/guard.js'
import type { Spare } from '../bytes/spare.js'
import { assert, isLiveError, type LiveError, systemError } from '../error.js'
import type { Stat } from '../fs/filesystem.js'
import { hostTime, type Keeping, modeFor } from './copy-attributes.js'
import { NEW_FILE } from './copy-write.js'

/** How a file is written. */
export interface FileCopy {
  readonly from: Device
  /** path of a file that is not there yet */
  readonly to: Buffer
  readonly stat: Stat
  readonly keeping: Keeping
  /** what the mode must leave the owner until attributes are set, such as 0o200 */
  readonly extraMode: number
  /** keeps what could be read of a file that can't be read to its end */
  readonly keepPartial: boolean
  readonly signal: AbortSignal
  /** for pieces of 1 MiB */
  readonly spare: Spare
  onBytes(doneBytes: number): void
}

/** What became of it: `error` is why no more than `size` bytes of it could be read. */
export interface FileCopied {
  readonly size: number
  readonly error?: LiveError
}

const BLOCK = 4096

/** The source's error, to be told from one of the target. */
class Unreadable extends Error {
  readonly error: LiveError
  readonly offset: number
  readonly length: number

  constructor(error: LiveError, offset: number, length: number) {
    super(error.message, { cause: error })
    this.error = error
    this.offset = offset
    this.length = length
  }
}

const watched = (from: Device): Device =>
  guardReads(from, async (offset, length, read) => {
    try {
      return await read()
    } catch (error) {
      throw isLiveError(error) && error.code !== 'CANCELLED' ? new Unreadable(error, offset, length) : error
    }
  })

/**
 * All of a small file, or as much as can be read from its start.
 *
 * @param memory  of its size or more, that the bytes may stand in
 * @throws CANCELLED
 */
export const readSmall = async (
  from: Device,
  memory?: ArrayBufferLike,
): Promise<{ bytes: Uint8Array; error?: LiveError }> => {
  try {
    if (!memory) return { bytes: await from.read(0, from.size) }
    const bytes = new Uint8Array(memory, 0, from.size)
    await readInto(from, 0, bytes)
    return { bytes }
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return { bytes: await readUpTo(from, 0, from.size), error }
  }
}

/** What stands before the first spot that can't be read, to a block. */
const readUpTo = async (from: Device, offset: number, end: number): Promise<Uint8Array> => {
  const parts: Uint8Array[] = []
  try {
    for (let at = offset; at < end; at += BLOCK) parts.push(await from.read(at, Math.min(BLOCK, end - at)))
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
  }
  return Buffer.concat(parts)
}

const target = (handle: FileHandle, name: string, size: number): WritableDevice => ({
  name,
  size,
  async read() {
    return assert(false, 'the target of a copy is not read') as never
  },
  async write(offset, bytes) {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done)
      done += bytesWritten
    }
  },
  async flush() {},
  async close() {},
})

/**
 * Writes a new file with owner, mode and time. Holes stay holes, and blocks of 4 KiB that are zero become some.
 *
 * @returns  also where the source can't be read: then the file may be there in part, or not at all
 * @throws   errors of the system where the target can't be written; CANCELLED
 */
export const copyFile = async (copy: FileCopy): Promise<FileCopied> => {
  const { from, to, stat, keeping, extraMode, keepPartial, signal } = copy
  const handle = await open(to, NEW_FILE, 0o600)
  try {
    let done = 0
    let failed: LiveError | undefined
    const into = target(handle, from.name, from.size)
    try {
      await copyData(watched(from), into, {
        signal,
        spare: copy.spare,
        onProgress: doneBytes => {
          done = doneBytes
          copy.onBytes(doneBytes)
        },
      })
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error
      failed = error.error
      if (!keepPartial) return { size: 0, error: failed }
      const rest = await readUpTo(from, error.offset, error.offset + error.length)
      await into.write(error.offset, rest)
      // holes before the bad spot are as good as read
      done = error.offset + rest.length
    }
    const size = failed ? done : from.size
    await handle.truncate(size)
    if (keeping.owners) await handle.chown(stat.uid, stat.gid)
    if (keeping.modes) await handle.chmod(modeFor(stat, keeping) | extraMode)
    const time = hostTime(stat)
    await handle.utimes(time, time)
    return failed ? { size, error: failed } : { size }
  } finally {
    await handle.close()
  }
}

/** An error of the target in words. */
export const targetError = (error: unknown, shown: string): LiveError => systemError(error, `writing ${shown}`)
