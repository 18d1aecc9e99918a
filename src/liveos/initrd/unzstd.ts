import type { ByteReader } from '../../bytes/byte-reader.js'
import { CodecError } from '../../bytes/codecs.js'
import { openPool } from '../../bytes/pool.js'
import { parseZstdFrame } from '../../bytes/zstd.js'

const MAGIC = 0xfd2fb528
/** magics of frames that hold no data: 0x184d2a50 to 0x184d2a5f */
const SKIPPABLE = 0x184d2a5
/** what a block unpacks to at most */
const MAX_BLOCK = 128 << 10
const RLE = 1
const COMPRESSED = 2
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

/** Reads a frame by walking its blocks. @see RFC 8878, 3.1.1 */
const readFrame = async (from: ByteReader, most: number): Promise<Frame> => {
  const parts: Uint8Array[] = []
  let stored = 0
  const keep = async (length: number, field: string): Promise<Uint8Array> => {
    stored += length
    if (stored > MAX_STORED) throw new CodecError(`zstd: a frame of more than ${MAX_STORED} bytes`)
    const bytes = new Uint8Array(await from.take(length, field))
    parts.push(bytes)
    return bytes
  }
  const descriptor = (await keep(5, 'Frame_Header'))[4]!
  const single = (descriptor & 0x20) !== 0
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!
  await keep((single ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + sizeBytes, 'Frame_Header')
  let capacity = 0
  for (let last = false; !last; ) {
    const header = await keep(3, 'Block_Header')
    const word = header[0]! | (header[1]! << 8) | (header[2]! << 16)
    last = (word & 1) !== 0
    const type = (word >> 1) & 3
    await keep(type === RLE ? 1 : word >> 3, 'Block_Content')
    capacity += type === COMPRESSED ? MAX_BLOCK : Math.min(MAX_BLOCK, word >> 3)
    if (capacity - MAX_BLOCK > most) throw new CodecError(`zstd: it unpacks to more than ${most} bytes`)
  }
  if (descriptor & 4) await keep(4, 'Content_Checksum')
  const bytes = Buffer.concat(parts)
  const { windowSize, contentSize } = parseZstdFrame(bytes)
  const room = Math.min(capacity, contentSize ?? capacity)
  if (room > Math.max(SMALL, MOST_RATIO * bytes.length))
    throw new CodecError(`zstd: ${bytes.length} bytes that unpack to ${room}`)
  // The decoder refuses a window above the room: `zstd --ultra` has one of up to 128 MiB whatever it packs.
  return { bytes, capacity: Math.max(1, room, Math.min(windowSize, MAX_WINDOW)) }
}

/**
 * Unpacks zstd, frame by frame as long as another one follows. No package here unpacks a frame bit by bit, so each is unpacked
 * as a whole in a worker, whose memory is given back.
 *
 * @param most  bytes that all of it may unpack to
 * @throws CodecError, CORRUPT  damaged, cut off, or too large
 */
export async function* unzstd(from: ByteReader, most: number): AsyncGenerator<Uint8Array> {
  const pool = openPool({ threads: 1 })
  let left = most
  try {
    for (;;) {
      const head = await from.peek(8)
      if (head.length < 8) return
      const view = new DataView(head.buffer, head.byteOffset)
      const magic = view.getUint32(0, true)
      if (magic >>> 4 === SKIPPABLE) {
        await from.skip(8 + view.getUint32(4, true), 'skippable frame')
        continue
      }
      if (magic !== MAGIC) return
      const { bytes, capacity } = await readFrame(from, left)
      const unpacked = await pool.decode('zstd', bytes, capacity)
      left -= unpacked.length
      for (let at = 0; at < unpacked.length; at += PIECE) yield unpacked.subarray(at, at + PIECE)
    }
  } finally {
    await pool.close()
  }
}
