import type { ByteReader } from '../../bytes/byte-reader.js'
import { CodecError } from '../../bytes/codecs.js'
import { openPool } from '../../bytes/pool.js'
import { isSkippableZstd, walkZstdFrame, ZSTD_MAGIC, type ZstdSource } from '../../bytes/zstd-layout.js'

/** A frame takes the memory that it unpacks to: no initrd is packed to less than a hundredth. */
const MOST_RATIO = 100
const SMALL = 64 << 20
/** bytes; what the kernel takes */
const MAX_WINDOW = 128 << 20
/** Bytes of a frame as stored; it is held in memory as a whole. */
const MAX_STORED = 512 << 20
const PIECE = 1 << 20

/** A frame's bytes, and how many it unpacks to at most. */
interface Frame {
  readonly bytes: Uint8Array
  readonly capacity: number
}

/** Reads a frame by walking its blocks. */
const readFrame = async (from: ByteReader, most: number): Promise<Frame> => {
  const parts: Uint8Array[] = []
  let stored = 0
  const take: ZstdSource['take'] = async (length, field) => {
    stored += length
    if (stored > MAX_STORED) throw new CodecError(`zstd: a frame of more than ${MAX_STORED} bytes`)
    const bytes = new Uint8Array(await from.take(length, field))
    parts.push(bytes)
    return bytes
  }
  const { windowSize, contentSize, contentAtMost } = await walkZstdFrame(
    {
      take,
      pass: async (length, field) => void (await take(length, field)),
      wrong: (field, expected, found) => new CodecError(`zstd: ${field} is ${found}, expected ${expected}`),
    },
    most,
  )
  const bytes = Buffer.concat(parts)
  const room = Math.min(contentAtMost, contentSize ?? contentAtMost)
  if (room > Math.max(SMALL, MOST_RATIO * bytes.length))
    throw new CodecError(`zstd: ${bytes.length} bytes that unpack to ${room}`)
  // The decoder refuses a window above the room: `zstd --ultra` has one of up to 128 MiB whatever it packs.
  return { bytes, capacity: Math.max(1, room, Math.min(windowSize, MAX_WINDOW)) }
}

/**
 * Unpacks zstd, frame by frame as long as another one follows. No package here unpacks a frame bit by bit, so each is unpacked
 * as a whole in a worker, whose memory is given back.
 *
 * @param most   bytes that all of it may unpack to
 * @param begin  called before each frame
 * @throws CodecError, CORRUPT  damaged, cut off, or too large
 */
export async function* unzstd(from: ByteReader, most: number, begin: () => void): AsyncGenerator<Uint8Array> {
  const pool = openPool({ threads: 1 })
  let left = most
  try {
    for (;;) {
      const head = await from.peek(8)
      if (head.length < 8) return
      const view = new DataView(head.buffer, head.byteOffset)
      const magic = view.getUint32(0, true)
      if (isSkippableZstd(magic)) {
        begin()
        await from.skip(8 + view.getUint32(4, true), 'skippable frame')
        continue
      }
      if (magic !== ZSTD_MAGIC) return
      begin()
      const { bytes, capacity } = await readFrame(from, left)
      const unpacked = await pool.decode('zstd', bytes, capacity)
      left -= unpacked.length
      for (let at = 0; at < unpacked.length; at += PIECE) yield unpacked.subarray(at, at + PIECE)
    }
  } finally {
    await pool.close()
  }
}
