import { corrupt } from '../error.js'

/** Bytes that come in chunks, read one after another. It keeps no more than was asked for at once, and a chunk. */
export interface ByteReader {
  /** for words */
  readonly name: string
  /** bytes passed over so far */
  readonly offset: number
  /** The bytes that come next, at least `length` of them where there are as many; they stay until `advance`. */
  peek(length: number): Promise<Uint8Array>
  /** Passes over bytes that `peek` gave. */
  advance(length: number): void
  /** Takes bytes back that were passed over last, to be read again. */
  putBack(bytes: Uint8Array): void
  /** Exactly so many bytes, not to be changed. @throws CORRUPT  they end earlier */
  take(length: number, field: string): Promise<Uint8Array>
  /** Passes over bytes without keeping them. @throws CORRUPT  they end earlier */
  skip(length: number, field: string, each?: (bytes: Uint8Array) => void): Promise<void>
}

const NONE = new Uint8Array(0)

/** A reader of chunks. Who opened what they come from closes it. */
export const byteReader = (chunks: AsyncIterable<Uint8Array>, name: string): ByteReader => {
  const source = chunks[Symbol.asyncIterator]()
  let buffer: Uint8Array = NONE
  let offset = 0
  let ended = false

  const peek = async (length: number): Promise<Uint8Array> => {
    while (buffer.length < length && !ended) {
      const next = await source.next()
      if (next.done) ended = true
      else buffer = buffer.length === 0 ? next.value : Buffer.concat([buffer, next.value])
    }
    return buffer
  }
  const advance = (length: number): void => {
    buffer = buffer.subarray(length)
    offset += length
  }
  const short = (field: string, wanted: number, found: number) =>
    corrupt({ device: name, offset, field, expected: `${wanted} bytes`, found: `${found} bytes` })

  return {
    name,
    get offset() {
      return offset
    },
    peek,
    advance,
    putBack(bytes) {
      buffer = Buffer.concat([bytes, buffer])
      offset -= bytes.length
    },
    async take(length, field) {
      const found = await peek(length)
      if (found.length < length) throw short(field, length, found.length)
      advance(length)
      return found.subarray(0, length)
    },
    async skip(length, field, each) {
      for (let left = length; left > 0; ) {
        const found = await peek(1)
        if (found.length === 0) throw short(field, left, 0)
        const part = found.subarray(0, left)
        each?.(part)
        left -= part.length
        advance(part.length)
      }
    },
  }
}
