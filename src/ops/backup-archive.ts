import { checkRange, type Device } from '../block/device.js'
import { linear, type Segment } from '../block/linear.js'
import { CodecError, decodeBlock, loadCodec } from '../bytes/codecs.js'
import { readTar, type TarEntry } from '../bytes/tar-reader.js'
import { isZstd, readZstdFrames } from '../bytes/zstd-frames.js'
import { assert, corrupt, LiveError, unsupported } from '../error.js'
import { decodeName } from '../fs/name.js'
import { type BackupManifest, type BackupPart, MANIFEST, readManifest } from './backup-manifest.js'

/** An archive opened to be read at any place. */
export interface Archive {
  /** by their paths; of a name that comes twice the last one counts, as when it is unpacked */
  readonly members: ReadonlyMap<string, TarEntry>
  /** A file of it as a Device, holes and all. @throws NOT_FOUND */
  open(path: string): Device
}

/** Content of a frame that is expanded at once. */
const MAX_CONTENT = 8 << 20
const MAX_FRAMES = 1 << 20
/** Members of a backup, which has few. */
const MAX_MEMBERS = 10_000
/** Frames that are kept expanded. */
const KEPT = 4

/** Frames of a zstd file; `starts` are bytes of its content, one more than there are frames. */
interface Frames {
  readonly offsets: readonly number[]
  readonly lengths: readonly number[]
  readonly starts: readonly number[]
}

const tooLarge = (file: Device): LiveError =>
  unsupported(
    'zstd frame of more than 8 MiB',
    file.name,
    `${file.name} was compressed in one piece, which can't be read from any place: expand it with 'zstd -d' and restore from the .tar`,
  )

const decodeFrame = async (file: Device, offset: number, length: number, capacity: number): Promise<Uint8Array> => {
  // a block that did not get smaller stands as it is, with 3 bytes before each of at most 128 KiB
  if (length > MAX_CONTENT + 4096) throw tooLarge(file)
  const bytes = await file.read(offset, length)
  try {
    return capacity === 0 ? new Uint8Array(0) : decodeBlock('zstd', bytes, capacity)
  } catch (error) {
    if (!(error instanceof CodecError)) throw error
    throw corrupt(
      { device: file.name, offset, field: 'zstd frame', expected: 'one that can be expanded', found: error.message },
      error,
    )
  }
}

const framesOf = async (file: Device): Promise<Frames> => {
  const frames = { offsets: [] as number[], lengths: [] as number[], starts: [0] }
  for await (const { kind, offset, length, contentSize, contentAtMost } of readZstdFrames(file)) {
    if (kind === 'skippable') continue
    let size = contentSize
    if ((size ?? contentAtMost) > MAX_CONTENT) throw tooLarge(file)
    size ??= (await decodeFrame(file, offset, length, contentAtMost)).length
    if (size === 0) continue
    if (frames.offsets.length >= MAX_FRAMES) throw unsupported('zstd file of more than 1048576 frames', file.name)
    frames.offsets.push(offset)
    frames.lengths.push(length)
    frames.starts.push(frames.starts.at(-1)! + size)
  }
  return frames
}

/**
 * The content of a zstd file as a Device. Each frame is expanded by itself, so any place can be read, in the memory of a few of
 * them. Closing it leaves `file` open.
 *
 * @throws UNSUPPORTED  frames too large to be expanded at once; CORRUPT, IO
 */
export const openZstd = async (file: Device): Promise<Device> => {
  await loadCodec('zstd')
  const { offsets, lengths, starts } = await framesOf(file)
  const kept = new Map<number, Promise<Uint8Array>>()
  const frame = (index: number): Promise<Uint8Array> => {
    const size = starts[index + 1]! - starts[index]!
    const known =
      kept.get(index) ??
      decodeFrame(file, offsets[index]!, lengths[index]!, size).then(bytes => {
        assert(bytes.length === size, `a frame of ${bytes.length} bytes in the place of ${size}`)
        return bytes
      })
    kept.delete(index)
    kept.set(index, known)
    known.catch(() => kept.delete(index))
    for (const oldest of kept.keys()) {
      if (kept.size <= KEPT) break
      kept.delete(oldest)
    }
    return known
  }
  const frameAt = (offset: number): number => {
    let [low, high] = [0, offsets.length - 1]
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (starts[middle]! <= offset) low = middle
      else high = middle - 1
    }
    return low
  }
  const all: Device = {
    name: file.name,
    size: starts.at(-1)!,
    async read(offset, length) {
      checkRange(all, offset, length)
      const bytes = new Uint8Array(length)
      for (let done = 0, index = frameAt(offset); done < length; index++) {
        const from = offset + done - starts[index]!
        const part = (await frame(index)).subarray(from, from + length - done)
        bytes.set(part, done)
        done += part.length
      }
      return bytes
    },
    async close() {},
  }
  return all
}

/** The content of a member: its runs of data where they stand in the archive, and the holes between them. */
export const contentOf = (archive: Device, { data, size, contentStart, path }: TarEntry): Device => {
  const name = `${archive.name}:${decodeName(path)}`
  if (!data) return linear([{ device: archive, deviceOffset: contentStart, length: size }], name)
  const segments: Segment[] = []
  let at = 0
  let deviceOffset = contentStart
  for (const { offset, length } of data) {
    if (offset > at) segments.push({ length: offset - at })
    segments.push({ device: archive, deviceOffset, length })
    deviceOffset += length
    at = offset + length
  }
  if (size > at) segments.push({ length: size - at })
  return linear(segments, name)
}

/**
 * Opens an archive: compressed with zstd in frames, or not compressed.
 *
 * @throws CORRUPT, UNSUPPORTED, IO  as `openZstd` and `readTar`
 */
export const openArchive = async (file: Device): Promise<Archive> => {
  const isPacked = file.size >= 4 && isZstd(await file.read(0, 4))
  const content = isPacked ? await openZstd(file) : file
  const members = new Map<string, TarEntry>()
  let count = 0
  for await (const entry of readTar(content)) {
    if (++count > MAX_MEMBERS)
      throw corrupt({
        device: file.name,
        offset: entry.offset,
        field: 'members of a backup',
        expected: `at most ${MAX_MEMBERS}`,
        found: count,
      })
    members.set(decodeName(entry.path), entry)
  }
  return {
    members,
    open(path) {
      const entry = members.get(path)
      if (entry?.kind !== 'file') throw new LiveError('NOT_FOUND', `${file.name} holds no file ${path}`, { path })
      return contentOf(content, entry)
    },
  }
}

/** A backup opened to be restored. */
export interface OpenBackup {
  readonly manifest: BackupManifest
  /** A part of it. @throws IO, CORRUPT */
  open(part: BackupPart): Device
}

/**
 * Opens a backup: what it says of itself, held against what is in it. Checksums are not counted yet.
 *
 * @throws USAGE  it is no backup; CORRUPT  a part is missing or has another size; UNSUPPORTED, IO
 */
export const openBackup = async (file: Device): Promise<OpenBackup> => {
  const archive = await openArchive(file)
  if (archive.members.get(MANIFEST)?.kind !== 'file')
    throw new LiveError('USAGE', `${file.name} is no backup that liveos made: it holds no ${MANIFEST}`, {
      path: file.name,
    })
  const manifest = await readManifest(archive.open(MANIFEST))
  for (const { path, size } of manifest.parts) {
    const entry = archive.members.get(path)
    if (entry?.kind !== 'file' || entry.size !== size)
      throw corrupt({
        device: file.name,
        offset: entry?.offset ?? 0,
        field: `member ${path}`,
        expected: `a file of ${size} bytes`,
        found: entry ? `a ${entry.kind} of ${entry.size} bytes` : 'nothing',
      })
  }
  return { manifest, open: ({ path }) => archive.open(path) }
}
