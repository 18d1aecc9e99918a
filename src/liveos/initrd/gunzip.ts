import { crc32, createInflateRaw } from 'node:zlib'
import type { ByteReader } from '../../bytes/byte-reader.js'
import { CodecError } from '../../bytes/codecs.js'

const FHCRC = 2
const FEXTRA = 4
const FNAME = 8
const FCOMMENT = 16
/** bytes given to zlib at once: it may make a thousand times as many of them before anybody looks */
const PIECE = 1 << 14

const skipHeader = async (from: ByteReader): Promise<void> => {
  const head = await from.take(10, 'gzip header')
  const flags = head[3]!
  if (head[2] !== 8) throw new CodecError(`gzip: compression method ${head[2]}`)
  if (flags & FEXTRA) {
    const length = await from.take(2, 'XLEN')
    await from.skip(length[0]! | (length[1]! << 8), 'extra field')
  }
  for (const flag of [FNAME, FCOMMENT])
    if (flags & flag) {
      let last: number | undefined
      await from.skip(1, 'name', bytes => {
        last = bytes[0]
      })
      while (last !== 0)
        await from.skip(1, 'name', bytes => {
          last = bytes[0]
        })
    }
  if (flags & FHCRC) await from.skip(2, 'CRC16')
}

/** One member's deflated bytes, by zlib's stream: what it does not take stays in the reader. */
async function* inflate(from: ByteReader): AsyncGenerator<Uint8Array> {
  const stream = createInflateRaw({ chunkSize: 1 << 16 })
  const start = from.offset
  let failure: unknown
  let ended = false
  const closed = new Promise<void>(resolve => {
    const done = (): void => {
      ended = true
      resolve()
    }
    stream.on('end', done)
    stream.on('close', done)
    stream.on('error', error => {
      failure = error
      done()
    })
  })
  const pump = async (): Promise<void> => {
    while (!ended) {
      const piece = Uint8Array.from((await from.peek(1)).subarray(0, PIECE))
      if (ended) return
      if (piece.length === 0) {
        stream.end()
        return
      }
      await Promise.race([closed, new Promise<void>(resolve => stream.write(piece, () => resolve()))])
      // where the stream ends in this piece, what is behind it stays
      from.advance(Math.min(piece.length, stream.bytesWritten - (from.offset - start)))
    }
  }
  const pumping = pump().catch((error: unknown) => {
    failure ??= error
    stream.destroy()
  })
  try {
    for await (const chunk of stream) yield chunk as Uint8Array
    await pumping
  } catch (error) {
    const cause = failure ?? error
    if (cause instanceof Error && 'code' in cause && String(cause.code).startsWith('Z_'))
      throw new CodecError(`gzip: ${cause.message}`, { cause })
    throw cause
  } finally {
    stream.destroy()
  }
}

/**
 * Unpacks gzip, member by member as long as another one follows.
 *
 * @param begin  called before each member
 * @throws CodecError, CORRUPT  damaged or cut off
 * @see RFC 1952
 */
export async function* gunzip(from: ByteReader, begin: () => void): AsyncGenerator<Uint8Array> {
  for (;;) {
    begin()
    await skipHeader(from)
    let crc = 0
    let length = 0
    for await (const chunk of inflate(from)) {
      crc = crc32(chunk, crc)
      length += chunk.length
      yield chunk
    }
    const trailer = await from.take(8, 'gzip trailer')
    const view = new DataView(trailer.buffer, trailer.byteOffset)
    if (view.getUint32(0, true) !== crc || view.getUint32(4, true) !== length % 2 ** 32)
      throw new CodecError('gzip: the checksum is wrong')
    const [a, b] = await from.peek(2)
    if (a !== 0x1f || b !== 0x8b) return
  }
}
