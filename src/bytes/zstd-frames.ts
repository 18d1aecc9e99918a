import { corrupt, unsupported } from '../error.js'
import type { TarSource } from './tar-fields.js'
import { isSkippableZstd, MAX_ZSTD_BLOCK, walkZstdFrame, ZSTD_MAGIC, type ZstdSource } from './zstd-layout.js'

const SKIPPABLE = 0x184d2a50
/** a magic and a size, before the bytes that no decoder looks at */
const SKIPPABLE_HEADER = 8

/** A frame of a zstd file. Offsets and lengths are bytes of the file. */
export interface ZstdFrame {
  readonly kind: 'data' | 'skippable'
  readonly offset: number
  readonly length: number
  /** bytes that come out of it, where it says so */
  readonly contentSize: number | undefined
  /** bytes that can come out of it, by its blocks */
  readonly contentAtMost: number
}

/** True for the first four bytes of a zstd file. */
export const isZstd = (first: Uint8Array): boolean => {
  const magic = Buffer.from(first.subarray(0, 4)).readUInt32LE(0)
  return magic === ZSTD_MAGIC || isSkippableZstd(magic)
}

/** Reads ahead a little, as headers lie close together or far apart. */
const ahead = (source: TarSource) => {
  let start = 0
  let kept = new Uint8Array(0)
  return async (offset: number, length: number): Promise<Uint8Array> => {
    if (offset < start || offset + length > start + kept.length) {
      start = offset
      kept = new Uint8Array(await source.read(offset, Math.min(Math.max(length, 4096), source.size - offset)))
    }
    return kept.subarray(offset - start, offset - start + length)
  }
}

/**
 * Walks the frames of a zstd file from block to block, and reads nothing of what they hold.
 *
 * @throws CORRUPT  a frame is damaged, or the file was cut off in the middle of one
 * @throws UNSUPPORTED  a frame wants a dictionary; IO
 * @see RFC 8878, 3.1
 */
export async function* readZstdFrames(source: TarSource): AsyncGenerator<ZstdFrame> {
  const read = ahead(source)
  let at = 0
  /** where what was taken last begins */
  let taken = 0
  const wrong = (offset: number, field: string, expected: string | number, found: string | number) =>
    corrupt({ device: source.name, offset, field, expected, found })
  const pass: ZstdSource['pass'] = async (length, field) => {
    if (at + length > source.size)
      throw wrong(at, field, `${length} bytes`, `the end of the file at byte ${source.size}`)
    at += length
  }
  const from: ZstdSource = {
    async take(length, field) {
      taken = at
      await pass(length, field)
      return Buffer.from(await read(taken, length))
    },
    pass,
    wrong: (field, expected, found) => wrong(taken, field, expected, found),
  }
  while (at < source.size) {
    const offset = at
    const head = Buffer.from(await from.take(4, 'zstd frame'))
    if (isSkippableZstd(head.readUInt32LE(0))) {
      const size = Buffer.from(await from.take(4, 'size')).readUInt32LE(0)
      await pass(size, 'skippable frame')
      yield { kind: 'skippable', offset, length: SKIPPABLE_HEADER + size, contentSize: 0, contentAtMost: 0 }
      continue
    }
    at = offset
    const { contentSize, contentAtMost, hasDictionary } = await walkZstdFrame(from)
    if (hasDictionary) throw unsupported('zstd dictionary', source.name)
    yield { kind: 'data', offset, length: at - offset, contentSize, contentAtMost }
  }
}

/** A frame that holds bytes as they are, for those that would not get smaller. @param bytes  at least one, less than 4 GiB */
export const encodeStoredFrame = (bytes: Uint8Array): Uint8Array => {
  const parts: Uint8Array[] = []
  const header = Buffer.alloc(9)
  header.writeUInt32LE(ZSTD_MAGIC, 0)
  // one segment, its size in four bytes
  header[4] = 0xa0
  header.writeUInt32LE(bytes.length, 5)
  parts.push(header)
  for (let at = 0; at < bytes.length; at += MAX_ZSTD_BLOCK) {
    const length = Math.min(MAX_ZSTD_BLOCK, bytes.length - at)
    const block = Buffer.alloc(3)
    block.writeUIntLE((length << 3) | (at + length === bytes.length ? 1 : 0), 0, 3)
    parts.push(block, bytes.subarray(at, at + length))
  }
  return Buffer.concat(parts)
}

/** A frame that no decoder looks at. */
export const encodeSkippableFrame = (content: Uint8Array): Uint8Array => {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(SKIPPABLE, 0)
  header.writeUInt32LE(content.length, 4)
  return Buffer.concat([header, content])
}
