import { createHash, type Hash } from 'node:crypto'
import { type Device, type Extent, extentsOf, isZero, type SparseDevice } from '../block/device.js'
import type { GrowingFile } from '../block/file.js'
import { linear, type Segment } from '../block/linear.js'
import { memory } from '../block/memory.js'
import type { Compressor } from '../bytes/codec.js'
import { encodeBlock, loadCodec } from '../bytes/codecs.js'
import { openPool } from '../bytes/pool.js'
import { encodeTarMember, tarEnd, tarPadding } from '../bytes/tar.js'
import { encodeSkippableFrame, encodeStoredFrame, readZstdFrames } from '../bytes/zstd-frames.js'
import { isLiveError, LiveError } from '../error.js'
import { encodeName } from '../fs/name.js'
import { openBackup } from './backup-archive.js'
import type { BackupPart } from './backup-manifest.js'
import type { SourcePart } from './backup-parts.js'
import { dataRuns } from './copy-tar.js'
import type { Report } from './progress.js'

const PIECE = 1 << 20
/** Zeros of this length on are told from data. */
const BLOCK = 4096
/** bytes of content in a frame: little enough to be expanded at once, enough to be compressed well */
const FRAME = 1 << 20
const FRAMES_TO_CHECKPOINT = 2
const ZSTD: Compressor = { name: 'zstd', level: 3 }
/** Content below is compressed here: workers take longer to start. */
const SMALL = 8 << 20

const checkCancelled = (signal: AbortSignal | undefined, doing: string): void => {
  if (signal?.aborted) throw new LiveError('CANCELLED', `stopped while ${doing}`, {}, signal.reason)
}

/** A part as it was read: where it has data, and its checksum. */
export interface Scanned extends BackupPart {
  readonly data: readonly { readonly offset: number; readonly length: number }[] | undefined
  /** seconds since 1970 */
  readonly modified: number
}

/** Reads all of a device for its checksum, and tells zeros from data on the way. */
const scanning = (
  device: Device,
  hash: Hash,
  onBytes: (bytes: number) => void,
  signal?: AbortSignal,
): SparseDevice => ({
  ...device,
  async *extents(offset: number, length: number): AsyncIterable<Extent> {
    for await (const extent of extentsOf(device, offset, length))
      for (let at = extent.offset; at < extent.offset + extent.length; at += PIECE) {
        checkCancelled(signal, `${device.name} was being read (the stick is only read; no backup is begun yet)`)
        const count = Math.min(PIECE, extent.offset + extent.length - at)
        const bytes = extent.kind === 'hole' ? new Uint8Array(count) : await device.read(at, count)
        hash.update(bytes)
        if (extent.kind === 'hole') yield { offset: at, length: count, kind: 'hole' }
        else
          for (let from = 0; from < count; from += BLOCK) {
            const block = bytes.subarray(from, from + BLOCK)
            yield { offset: at + from, length: block.length, kind: isZero(block) ? 'hole' : 'data' }
          }
        onBytes(count)
      }
  },
})

/** Reads a part once. */
export const scanPart = async (
  { kind, path, modified, sparse, open }: SourcePart,
  onBytes: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<Scanned> => {
  const device = await open()
  try {
    const hash = createHash('sha256')
    const data = await dataRuns(scanning(device, hash, onBytes, signal))
    return {
      kind,
      path,
      size: device.size,
      sha256: hash.digest('hex'),
      sparse,
      data,
      modified: Math.trunc(modified / 1000),
    }
  } finally {
    await device.close()
  }
}

/** A file of an archive that is to be written. */
export interface Member {
  readonly path: string
  /** seconds since 1970 */
  readonly modified: number
  readonly device: Device
  readonly data?: Scanned['data']
}

/** An archive before it is compressed, as a Device: headers from memory, contents from where they are. The same members make the same bytes. */
export const archiveOf = (members: readonly Member[], name: string): Device => {
  const segments: Segment[] = []
  const add = (bytes: Uint8Array): void => {
    segments.push({ device: memory(bytes), length: bytes.length })
  }
  for (const { path, modified, device, data } of members) {
    const { size } = device
    add(
      encodeTarMember({
        path: encodeName(path),
        kind: 'file',
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: modified,
        mtimeNanoseconds: 0,
        size,
        data,
      }),
    )
    const runs = data ?? [{ offset: 0, length: size }]
    for (const { offset, length } of runs) segments.push({ device, deviceOffset: offset, length })
    segments.push({ length: tarPadding(runs.reduce((sum, { length }) => sum + length, 0)) })
  }
  add(tarEnd())
  return linear(segments, name)
}

/** What a part of the file vouches for. */
interface Checkpoint {
  /** bytes of content in all frames before it */
  readonly contentBytes: number
  /** SHA-256 over the file from the last checkpoint to this one, hex */
  readonly sha256: string
}

const checkpointFrame = (checkpoint: Checkpoint): Uint8Array =>
  encodeSkippableFrame(Buffer.from(JSON.stringify({ liveos: 'checkpoint', ...checkpoint })))

const parseCheckpoint = (bytes: Uint8Array): Checkpoint | undefined => {
  try {
    const value = JSON.parse(Buffer.from(bytes).toString()) as Partial<Checkpoint & { liveos: string }> | null
    const { liveos, contentBytes, sha256 } = value ?? {}
    if (liveos !== 'checkpoint' || typeof contentBytes !== 'number' || typeof sha256 !== 'string') return undefined
    return { contentBytes, sha256 }
  } catch {
    return undefined
  }
}

const MAX_CHECKPOINT = 1024

const hashRange = async (file: Device, from: number, to: number): Promise<string> => {
  const hash = createHash('sha256')
  for (let at = from; at < to; at += PIECE) hash.update(await file.read(at, Math.min(PIECE, to - at)))
  return hash.digest('hex')
}

/** How much of a file that a run left behind can be gone on with. */
export interface Written {
  /** bytes of the file up to the end of its last good checkpoint */
  readonly fileBytes: number
  readonly contentBytes: number
}

/** Finds the last checkpoint up to which all is as it was written. What follows may be anything: the power may have gone. */
export const findWritten = async (file: Device): Promise<Written> => {
  let written: Written = { fileBytes: 0, contentBytes: 0 }
  let contentBytes = 0
  try {
    for await (const { kind, offset, length, contentSize } of readZstdFrames(file)) {
      if (kind === 'data') {
        // ours say their size
        if (contentSize === undefined) return written
        contentBytes += contentSize
        continue
      }
      if (length > MAX_CHECKPOINT) return written
      const checkpoint = parseCheckpoint(await file.read(offset + 8, length - 8))
      if (checkpoint?.contentBytes !== contentBytes) return written
      if ((await hashRange(file, written.fileBytes, offset)) !== checkpoint.sha256) return written
      written = { fileBytes: offset + length, contentBytes }
    }
  } catch (error) {
    if (!isLiveError(error) || (error.code !== 'CORRUPT' && error.code !== 'UNSUPPORTED')) throw error
  }
  return written
}

/** Makes a frame of a piece, here or on a worker. */
type Pack = (bytes: Uint8Array) => Promise<Uint8Array>

const packHere = async (): Promise<Pack> => {
  await loadCodec(ZSTD.name)
  return async bytes => encodeBlock(ZSTD, bytes, FRAME) ?? encodeStoredFrame(bytes)
}

/** Frames of all pieces of a device from a byte on, in order; so many at once that no worker waits, and no more. */
async function* framesOf(
  content: Device,
  from: number,
  pack: Pack,
  atOnce: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const flying: Promise<Uint8Array>[] = []
  for (let at = from; at < content.size || flying.length > 0; ) {
    checkCancelled(signal, 'the backup was being written')
    if (at < content.size && flying.length < atOnce) {
      const frame = pack(await content.read(at, Math.min(FRAME, content.size - at)))
      // one that fails while an earlier one is waited for throws when its turn comes
      frame.catch(() => {})
      flying.push(frame)
      at += FRAME
    } else yield await flying.shift()!
  }
}

/**
 * Compresses content into frames behind what a file has already, with a checkpoint behind each few of them. All is on the
 * medium when this returns.
 *
 * @throws NO_SPACE, IO, CANCELLED  what is written so far can be gone on with
 */
export const writeFrames = async (
  content: Device,
  file: GrowingFile,
  { fileBytes, contentBytes }: Written,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<void> => {
  const pool = content.size - contentBytes > SMALL ? openPool() : undefined
  const pack: Pack = pool
    ? async bytes => (await pool.encode(ZSTD, bytes, FRAME)) ?? encodeStoredFrame(bytes)
    : await packHere()
  let hash = createHash('sha256')
  let [at, done, frames] = [fileBytes, contentBytes, 0]
  try {
    for await (const frame of framesOf(content, contentBytes, pack, pool ? 2 * pool.threads : 1, signal)) {
      await file.write(at, frame)
      hash.update(frame)
      at += frame.length
      done = Math.min(content.size, done + FRAME)
      if (++frames % FRAMES_TO_CHECKPOINT === 0 || done === content.size) {
        const checkpoint = checkpointFrame({ contentBytes: done, sha256: hash.digest('hex') })
        await file.write(at, checkpoint)
        at += checkpoint.length
        hash = createHash('sha256')
      }
      report({ phase: 'write', doneBytes: done, totalBytes: content.size })
    }
    await file.flush()
  } finally {
    await pool?.close()
  }
}

/** Goes over all bytes of a device in order. */
export const eachPiece = async (
  device: Device,
  doing: string,
  signal: AbortSignal | undefined,
  take: (bytes: Uint8Array, offset: number) => void | Promise<void>,
): Promise<void> => {
  for (let at = 0; at < device.size; at += PIECE) {
    checkCancelled(signal, doing)
    await take(await device.read(at, Math.min(PIECE, device.size - at)), at)
  }
}

/**
 * Reads a backup back and counts every checksum anew.
 *
 * @returns the part that differs; undefined where all are as they should be
 * @throws CORRUPT  it can't be read as an archive; IO, CANCELLED
 */
export const verifyBackup = async (
  back: Device,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<BackupPart | undefined> => {
  const { manifest, open } = await openBackup(back)
  const totalBytes = manifest.parts.reduce((sum, { size }) => sum + size, 0)
  let doneBytes = 0
  for (const part of manifest.parts) {
    const hash = createHash('sha256')
    await eachPiece(open(part), 'the backup was being read back', signal, bytes => {
      hash.update(bytes)
      doneBytes += bytes.length
      report({ phase: 'verify', doneBytes, totalBytes })
    })
    if (hash.digest('hex') !== part.sha256) return part
  }
  return undefined
}
