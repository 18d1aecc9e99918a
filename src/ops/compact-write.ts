import { createHash } from 'node:crypto'
import type { Device } from '../block/device.js'
import type { GrowingFile } from '../block/file.js'
import {
  areaChunk,
  type DiskException,
  encodeArea,
  encodeHeader,
  exceptionsPerArea,
  SNAP_MAGIC,
  SNAPSHOT_DISK_VERSION,
} from '../block/snapshot/layout.js'
import { readStore } from '../block/snapshot/store.js'
import { assert, corrupt, LiveError } from '../error.js'
import { appendZeros } from './append-zeros.js'
import type { KeptChunk } from './compact-chunks.js'

/** A store as it is written: its geometry, in bytes and chunks. */
export interface PackedSize {
  readonly chunkSize: number
  readonly nextFreeChunk: number
  readonly areaCount: number
  readonly exceptions: { readonly count: number }
}

/** The chunk that a packed store keeps its data number `index` in, counted from 0. */
const packedChunk = (index: number, perArea: number): number => 2 + index + Math.floor(index / perArea)

/** What a packed store of so many chunks takes. */
export const packedSize = (count: number, chunkSize: number): PackedSize => {
  const perArea = exceptionsPerArea(chunkSize)
  return {
    chunkSize,
    nextFreeChunk: packedChunk(count, perArea),
    areaCount: Math.floor(count / perArea) + 1,
    exceptions: { count },
  }
}

/** What was written, to be held against what is read back. */
export interface WrittenStore {
  readonly count: number
  /** chunks of the origin, in the order in which they were written */
  readonly oldChunks: Float64Array
  /** SHA-256 over the contents in that order, hex */
  readonly digest: string
}

const PIECE = 1 << 20

/**
 * Writes a store: chunks one after another as they come, each metadata area when its exceptions are known, header last, all
 * flushed before it. A store that was cut off in the middle is none, as its first sector is clear.
 *
 * @param file  empty
 * @param most  how many chunks may come
 * @param size  bytes that the file has in the end; left out: no more than the store takes
 * @param sparse  what no chunk takes becomes a hole; else it is zeros that are written
 * @throws NO_SPACE, IO, CANCELLED
 */
export const writePacked = async (
  file: GrowingFile,
  chunks: AsyncIterable<readonly KeptChunk[]>,
  {
    chunkSize,
    most,
    size = 0,
    sparse,
  }: { chunkSize: number; most: number; size?: number | undefined; sparse: boolean },
  signal: AbortSignal | undefined,
): Promise<WrittenStore> => {
  const perArea = exceptionsPerArea(chunkSize)
  const oldChunks = new Float64Array(most)
  const hash = createHash('sha256')
  let count = 0
  let area: DiskException[] = []
  let areaNumber = 0
  let pending: Uint8Array[] = []
  let pendingAt = 2 * chunkSize
  let pendingBytes = 0
  const writePending = async (): Promise<void> => {
    if (pending.length > 0) await file.write(pendingAt, Buffer.concat(pending))
    pending = []
    pendingAt = packedChunk(count, perArea) * chunkSize
    pendingBytes = 0
  }
  const writeArea = async (): Promise<void> => {
    await file.write(areaChunk(areaNumber++, perArea) * chunkSize, encodeArea(area, chunkSize))
    area = []
  }
  await file.write(0, new Uint8Array(chunkSize))
  for await (const some of chunks)
    for (const { oldChunk, content } of some) {
      assert(count < most, 'more chunks than there were')
      hash.update(content)
      oldChunks[count] = oldChunk
      area.push({ old_chunk: oldChunk, new_chunk: packedChunk(count, perArea) })
      count++
      pending.push(content)
      pendingBytes += content.length
      if (area.length === perArea) {
        await writePending()
        await writeArea()
      } else if (pendingBytes >= PIECE) await writePending()
    }
  await writePending()
  // the last area, with a free entry at its end, or the one behind a full one, empty
  await writeArea()
  if (size > file.size && sparse) await file.truncate(size)
  else if (size > file.size) await appendZeros(file, size, { signal })
  await file.flush()
  await file.write(
    0,
    encodeHeader({ magic: SNAP_MAGIC, valid: 1, version: SNAPSHOT_DISK_VERSION, chunk_size: chunkSize / 512 }),
  )
  await file.flush()
  return { count, oldChunks: oldChunks.subarray(0, count), digest: hash.digest('hex') }
}

/**
 * Reads a written store back: its list, parsed again, and each chunk by that list, against what was written.
 *
 * @throws CORRUPT  it differs; IO, CANCELLED
 */
export const checkPacked = async (
  back: Device,
  { count, oldChunks, digest }: WrittenStore,
  size: number,
  onProgress: (doneBytes: number, totalBytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> => {
  const differs = (field: string, expected: string | number, found: string | number, offset = 0): LiveError =>
    corrupt({ device: back.name, offset, field: `${field} read back`, expected, found })
  if (back.size !== size) throw differs('size', size, back.size)
  const store = await readStore(back)
  const { chunkSize, exceptions } = store
  if (store.state !== 'ok' || store.truncated || exceptions.count !== count)
    throw differs('list', `${count} chunks`, `${exceptions.count}, ${store.state}`)
  const hash = createHash('sha256')
  let index = 0
  let run = { offset: 0, length: 0 }
  const readRun = async (): Promise<void> => {
    if (run.length > 0) hash.update(await back.read(run.offset, run.length))
  }
  for (const { oldChunk, newChunk } of exceptions.stored()) {
    if (oldChunk !== oldChunks[index]) throw differs('old_chunk', oldChunks[index]!, oldChunk)
    index++
    const offset = newChunk * chunkSize
    if (run.offset + run.length === offset && run.length < PIECE) {
      run.length += chunkSize
      continue
    }
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while the new overlay was being verified')
    await readRun()
    onProgress(index * chunkSize, count * chunkSize)
    run = { offset, length: chunkSize }
  }
  await readRun()
  const found = hash.digest('hex')
  if (found !== digest) throw differs('chunks', digest, found)
}
