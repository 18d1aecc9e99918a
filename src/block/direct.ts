import { constants } from 'node:fs'
import { type FileHandle, open, statfs } from 'node:fs/promises'
import { LiveError, systemError } from '../error.js'
import { checkRange, type Device, type PlacingDevice } from './device.js'
import { openFile } from './file.js'

/** A Device for reading back what was written, that says where its bytes come from. */
export interface ReadBackDevice extends Device {
  readonly path: string
  /** `medium` where the reads went around the page cache, as far as the filesystem keeps O_DIRECT's promise */
  readonly from: 'medium' | 'page cache'
}

/** Offsets, lengths and memory addresses of direct reads are multiples of the logical sector, 4096 at most. */
const ALIGNMENT = 4096
/** bytes of one direct read */
const PIECE = 1 << 20
const WASM_PAGE = 65_536

// The types of Node 20 leave this global out.
declare const WebAssembly: { readonly Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer } }

/** tmpfs, ramfs. @see linux include/uapi/linux/magic.h */
const IN_MEMORY = new Set([0x01021994, 0x858458f6])

const refuses = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && ['EINVAL', 'EOPNOTSUPP', 'ENOTSUP'].includes(String(error.code))

// A Node Buffer starts anywhere, and an unaligned one gives EINVAL; the memory of WebAssembly starts on a page.
const alignedBuffer = (): Uint8Array => new Uint8Array(new WebAssembly.Memory({ initial: PIECE / WASM_PAGE }).buffer)

const openDirect = async (path: string, buffer: Uint8Array): Promise<FileHandle | undefined> => {
  // Not every system has the flag, whatever its type says.
  const flag: number | undefined = constants.O_DIRECT
  if (flag === undefined) return undefined
  // These take the flag and read from memory all the same.
  if (IN_MEMORY.has((await statfs(path)).type)) return undefined
  let handle: FileHandle | undefined
  try {
    handle = await open(path, constants.O_RDONLY | flag)
    // Some filesystems take the flag and refuse the first read.
    await handle.read(buffer, 0, ALIGNMENT, 0)
    return handle
  } catch (error) {
    await handle?.close()
    if (refuses(error)) return undefined
    throw systemError(error, `opening ${path} for direct reading`)
  }
}

/**
 * Opens a file or block device to compare it with what was written: past the page cache where the filesystem can
 * (O_DIRECT), else through it, and `from` says which. Reads run one after another. Whoever wrote must have flushed before.
 *
 * @throws NOT_FOUND, USAGE, READ_ONLY  as `openFile`
 * @throws IO  the medium can't be read
 * @see open(2), O_DIRECT
 */
export const openReadBack = async (
  path: string,
  { name = path }: { name?: string } = {},
): Promise<ReadBackDevice & PlacingDevice> => {
  const buffered = await openFile(path, { name })
  const buffer = alignedBuffer()
  let handle: FileHandle | undefined
  try {
    handle = await openDirect(path, buffer)
  } catch (error) {
    await buffered.close()
    throw error
  }
  const { size } = buffered
  if (!handle) {
    const { read, readInto, close } = buffered
    return { name, path, size, from: 'page cache', read, readInto, close }
  }
  await buffered.close()
  const direct = handle

  const readPieces = async (offset: number, bytes: Uint8Array): Promise<void> => {
    const { length } = bytes
    const end = offset + length
    for (let at = offset; at < end; ) {
      const start = at - (at % ALIGNMENT)
      const wanted = Math.min(PIECE, Math.ceil((end - start) / ALIGNMENT) * ALIGNMENT)
      // At the end of the medium the read is short, else it may be: what came is used, the rest is asked again.
      const { bytesRead } = await direct.read(buffer, 0, wanted, start)
      const count = Math.min(start + bytesRead, end) - at
      if (count <= 0)
        throw new LiveError(
          'IO',
          `reading ${path}: it ends at byte ${start + bytesRead}, it was longer when it was opened`,
          {
            path,
            offset,
            length,
          },
        )
      bytes.set(buffer.subarray(at - start, at - start + count), at - offset)
      at += count
    }
  }

  // One aligned buffer serves all reads, so they take turns.
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work)
    last = turn.catch(() => {})
    return turn
  }
  const place = async (offset: number, bytes: Uint8Array): Promise<void> => {
    try {
      await inTurn(() => readPieces(offset, bytes))
    } catch (error) {
      throw systemError(error, `reading ${bytes.length} bytes at ${offset} of ${path}`)
    }
  }
  const device: ReadBackDevice & PlacingDevice = {
    name,
    path,
    size,
    from: 'medium',
    async read(offset, length) {
      checkRange(device, offset, length)
      const bytes = Buffer.allocUnsafeSlow(length)
      await place(offset, bytes)
      return bytes
    },
    async readInto(offset, target) {
      checkRange(device, offset, target.length)
      await place(offset, target)
    },
    close: () => inTurn(() => direct.close()),
  }
  return device
}
