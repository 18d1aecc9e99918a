import { corrupt, unsupported } from '../error.js'
import type { TarSource } from './tar-fields.js'

/*
 * A zstd file is frames one behind the other, each decoded by itself. All numbers are little-endian.
 *
 *   frame      magic 0xfd2fb528 · descriptor[1] · window[0 or 1] · dictionary[0, 1, 2, 4] · content size[0, 1, 2, 4, 8]
 *              blocks · checksum[0 or 4]
 *   block      header[3]: bit 0 last, bits 1 and 2 type (0 raw, 1 one byte repeated, 2 compressed), the rest its size · bytes
 *   skippable  magic 0x184d2a50 to 0x184d2a5f · size[4] · bytes that no decoder looks at
 */

const MAGIC = 0xfd2fb528
const SKIPPABLE = 0x184d2a50
/** bytes of content that a block has at most */
const MAX_BLOCK = 1 << 17

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
  return magic === MAGIC || (magic & 0xfffffff0) >>> 0 === SKIPPABLE
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
  const need = async (offset: number, length: number, field: string): Promise<Buffer> => {
    if (offset + length > source.size)
      throw wrong(offset, field, `${length} bytes`, `the end of the file at byte ${source.size}`)
    return Buffer.from(await read(offset, length))
  }
  const wrong = (offset: number, field: string, expected: string | number, found: string | number) =>
    corrupt({ device: source.name, offset, field, expected, found })
  for (let at = 0; at < source.size; ) {
    const offset = at
    const head = await need(at, 5, 'zstd frame')
    const magic = head.readUInt32LE(0)
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) {
      at += 8 + (await need(at + 4, 4, 'size')).readUInt32LE(0)
      if (at > source.size) throw wrong(offset + 4, 'size', `at most ${source.size - offset - 8}`, at - offset - 8)
      yield { kind: 'skippable', offset, length: at - offset, contentSize: 0, contentAtMost: 0 }
      continue
    }
    if (magic !== MAGIC) throw wrong(at, 'magic of a zstd frame', MAGIC, magic)
    const descriptor = head[4]!
    const isSingle = (descriptor & 0x20) !== 0
    const dictionary = [0, 1, 2, 4][descriptor & 3]!
    const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6]!
    const headerLength = 5 + (isSingle ? 0 : 1) + dictionary + sizeBytes
    const header = await need(at, headerLength, 'zstd frame header')
    const sizeAt = headerLength - sizeBytes
    if (header.subarray(sizeAt - dictionary, sizeAt).some(byte => byte !== 0))
      throw unsupported('zstd dictionary', source.name)
    const contentSize = contentSizeOf(header.subarray(sizeAt))
    let contentAtMost = 0
    at += headerLength
    for (let last = false; !last; ) {
      const bits = (await need(at, 3, 'zstd block')).readUIntLE(0, 3)
      last = (bits & 1) !== 0
      const type = (bits >> 1) & 3
      const size = bits >> 3
      if (type === 3 || size > MAX_BLOCK)
        throw wrong(at, 'zstd block', `a known type of at most ${MAX_BLOCK} bytes`, bits)
      contentAtMost += type === 2 ? MAX_BLOCK : size
      at += 3 + (type === 1 ? 1 : size)
    }
    at += (descriptor & 4) !== 0 ? 4 : 0
    if (at > source.size) throw wrong(offset, 'zstd frame', `its end before byte ${source.size}`, at)
    if (contentSize !== undefined && contentSize > contentAtMost)
      throw wrong(offset + sizeAt, 'content size', `at most ${contentAtMost}`, contentSize)
    yield { kind: 'data', offset, length: at - offset, contentSize, contentAtMost }
  }
}

const contentSizeOf = (bytes: Buffer): number | undefined => {
  if (bytes.length === 0) return undefined
  if (bytes.length === 2) return bytes.readUInt16LE(0) + 256
  if (bytes.length === 8) return Number(bytes.readBigUInt64LE(0))
  return bytes.readUIntLE(0, bytes.length)
}

/** A frame that holds bytes as they are, for those that would not get smaller. @param bytes  at least one, less than 4 GiB */
export const encodeStoredFrame = (bytes: Uint8Array): Uint8Array => {
  const parts: Uint8Array[] = []
  const header = Buffer.alloc(9)
  header.writeUInt32LE(MAGIC, 0)
  // one segment, its size in four bytes
  header[4] = 0xa0
  header.writeUInt32LE(bytes.length, 5)
  parts.push(header)
  for (let at = 0; at < bytes.length; at += MAX_BLOCK) {
    const length = Math.min(MAX_BLOCK, bytes.length - at)
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
