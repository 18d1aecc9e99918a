import { CodecError } from './codec.js'

/*
 * A zstd frame. All numbers are little-endian.
 *
 *   frame      magic 0xfd2fb528 · descriptor[1] · window[0 or 1] · dictionary[0, 1, 2, 4] · content size[0, 1, 2, 4, 8]
 *              blocks · checksum[0 or 4]
 *   block      header[3]: bit 0 last, bits 1 and 2 type (0 raw, 1 one byte repeated, 2 compressed), the rest its size · bytes
 *   skippable  magic 0x184d2a50 to 0x184d2a5f · size[4] · bytes that no decoder looks at
 *
 * See RFC 8878, 3.1.
 */

export const ZSTD_MAGIC = 0xfd2fb528
/** bytes of content that a block has at most */
export const MAX_ZSTD_BLOCK = 1 << 17
/** the magic and the descriptor, which tells how long the header is */
export const ZSTD_HEADER_START = 5
export const ZSTD_BLOCK_HEADER = 3

/** True for the magic of a frame that no decoder looks at. */
export const isSkippableZstd = (magic: number): boolean => magic >>> 4 === 0x184d2a5

/** What a frame says of itself; sizes are bytes. */
export interface ZstdHeader {
  /** of the header, magic among them */
  readonly length: number
  /** that a decoder keeps */
  readonly windowSize: number
  /** undefined where it does not say */
  readonly contentSize: number | undefined
  readonly hasDictionary: boolean
  readonly hasChecksum: boolean
}

const sizesOf = (descriptor: number) => {
  const isSingle = (descriptor & 0x20) !== 0
  return {
    window: isSingle ? 0 : 1,
    dictionary: [0, 1, 2, 4][descriptor & 3]!,
    content: [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6]!,
  }
}

/** Bytes of a frame's header by its fifth byte. */
export const zstdHeaderLength = (descriptor: number): number => {
  const { window, dictionary, content } = sizesOf(descriptor)
  return ZSTD_HEADER_START + window + dictionary + content
}

/**
 * Parses the header of a frame, whose magic was looked at.
 *
 * @throws CodecError  there is less of it than `zstdHeaderLength` says
 */
export const parseZstdHeader = (bytes: Uint8Array): ZstdHeader => {
  const descriptor = bytes[4] ?? 0
  const length = zstdHeaderLength(descriptor)
  if (bytes.length < length) throw new CodecError('zstd: the frame ends too early')
  const { window, dictionary, content } = sizesOf(descriptor)
  const view = new DataView(bytes.buffer, bytes.byteOffset, length)
  const at = length - content
  const contentSize =
    content === 0
      ? undefined
      : content === 1
        ? view.getUint8(at)
        : content === 2
          ? view.getUint16(at, true) + 256
          : content === 4
            ? view.getUint32(at, true)
            : Number(view.getBigUint64(at, true))
  const base = 2 ** (10 + (bytes[ZSTD_HEADER_START]! >> 3))
  return {
    length,
    windowSize: window === 0 ? (contentSize ?? 0) : base + (base / 8) * (bytes[ZSTD_HEADER_START]! & 7),
    contentSize,
    hasDictionary: bytes.subarray(at - dictionary, at).some(byte => byte !== 0),
    hasChecksum: (descriptor & 4) !== 0,
  }
}

/** A block's header; sizes are bytes. */
export interface ZstdBlock {
  readonly isLast: boolean
  /** of what follows the header; a block of one byte repeated stores that byte */
  readonly stored: number
  /** that come out of it, at most */
  readonly contentAtMost: number
  /** false: a kind that there is none of, or too large */
  readonly isValid: boolean
}

const RLE = 1
const COMPRESSED = 2

/** Parses the header of a block, `ZSTD_BLOCK_HEADER` bytes of it. */
export const parseZstdBlock = (bytes: Uint8Array, at = 0): ZstdBlock => {
  const word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16)
  const type = (word >> 1) & 3
  const size = word >> 3
  return {
    isLast: (word & 1) !== 0,
    stored: type === RLE ? 1 : size,
    contentAtMost: type === COMPRESSED ? MAX_ZSTD_BLOCK : size,
    isValid: type <= COMPRESSED && size <= MAX_ZSTD_BLOCK,
  }
}

/** A frame's bytes one after another. What its blocks hold is only passed over. */
export interface ZstdSource {
  /** Exactly so many bytes. @throws CORRUPT  there are fewer */
  take(length: number, field: string): Promise<Uint8Array>
  /** Passes over bytes. @throws CORRUPT  there are fewer */
  pass(length: number, field: string): Promise<void>
  /** The error of something that can't be, in what was taken last. */
  wrong(field: string, expected: string | number, found: string | number): Error
}

/** A frame that was walked to its end. */
export interface WalkedZstd extends ZstdHeader {
  /** bytes that come out of it at most, by its blocks */
  readonly contentAtMost: number
}

/**
 * Walks a frame from block to block.
 *
 * @param most  bytes that may come out of it, beyond which it is not walked further
 * @throws CORRUPT  damaged or cut off, as the source says; whatever else it throws
 */
export const walkZstdFrame = async (from: ZstdSource, most = Number.POSITIVE_INFINITY): Promise<WalkedZstd> => {
  const start = await from.take(ZSTD_HEADER_START, 'zstd frame')
  const magic = new DataView(start.buffer, start.byteOffset).getUint32(0, true)
  if (magic !== ZSTD_MAGIC) throw from.wrong('magic of a zstd frame', ZSTD_MAGIC, magic)
  const rest = await from.take(zstdHeaderLength(start[4]!) - ZSTD_HEADER_START, 'zstd frame header')
  const header = parseZstdHeader(Buffer.concat([start, rest]))
  let contentAtMost = 0
  for (let last = false; !last; ) {
    const bytes = await from.take(ZSTD_BLOCK_HEADER, 'zstd block')
    const block = parseZstdBlock(bytes)
    if (!block.isValid)
      throw from.wrong(
        'zstd block',
        `a known type of at most ${MAX_ZSTD_BLOCK} bytes`,
        Buffer.from(bytes).readUIntLE(0, ZSTD_BLOCK_HEADER),
      )
    last = block.isLast
    contentAtMost += block.contentAtMost
    if (contentAtMost - MAX_ZSTD_BLOCK > most) throw from.wrong('unpacked size', `at most ${most} bytes`, 'more')
    await from.pass(block.stored, 'zstd block content')
  }
  if (header.hasChecksum) await from.pass(4, 'zstd checksum')
  if (header.contentSize !== undefined && header.contentSize > contentAtMost)
    throw from.wrong('content size', `at most ${contentAtMost}`, header.contentSize)
  return { ...header, contentAtMost }
}
