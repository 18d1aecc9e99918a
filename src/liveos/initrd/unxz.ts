import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { ByteReader } from '../../bytes/byte-reader.js'
import { CodecError } from '../../bytes/codecs.js'
import { LZMA_OK, LZMA_STREAM_END } from '../../bytes/liblzma-native.js'
import { missingPackage } from '../../bytes/missing.js'
import { lzmaProblem } from '../../bytes/xz.js'

/** lzma_action: more may come, or all is there. */
const LZMA_RUN = 0
const LZMA_FINISH = 3
const LZMA_CHECK_CRC32 = 1
const STREAM_DECODE = 1
const LZMA2 = 0x21
const OUTPUT = 1 << 18
/** bytes, of the footer too */
const STREAM_HEADER = 12
/** what was passed over last is kept so far back: the padding behind a stream, as it may be */
const KEPT = 1 << 16
/** LZMA2's byte of 64 MiB, the dictionary of `xz -9`: the decoder takes that much memory at once */
const MAX_DICTIONARY = 30

/** The one stream of node-liblzma that is fed bit by bit. */
interface Stream {
  codeSync(action: number, input: Uint8Array, at: number, length: number, output: Uint8Array, to: number): number[]
  close(): void
}
type StreamClass = new (mode: number, options: object) => Stream

const openStream = (): Stream => {
  try {
    const main = createRequire(import.meta.url).resolve('node-liblzma')
    const load = createRequire(main)('node-gyp-build') as (folder: string) => { LZMA: StreamClass }
    const { LZMA } = load(join(dirname(main), '..'))
    return new LZMA(STREAM_DECODE, { check: LZMA_CHECK_CRC32, preset: 6, filters: [LZMA2], threads: 1 })
  } catch (error) {
    throw missingPackage('xz', 'node-liblzma', error)
  }
}

/** @throws CodecError  the first block wants more memory than xz ever does */
const checkDictionary = (head: Uint8Array): void => {
  const end = STREAM_HEADER + (head[STREAM_HEADER] ?? 0) * 4
  // LZMA2 is the last filter of a block header: its id, one byte of properties, the dictionary
  for (let at = Math.min(end, head.length) - 3; at > STREAM_HEADER; at--)
    if (head[at] === LZMA2 && head[at + 1] === 1 && head[at + 2]! <= 40) {
      if (head[at + 2]! > MAX_DICTIONARY) throw new CodecError('xz: the dictionary is larger than 64 MiB')
      return
    }
}

/** True where bytes end in the footer of a stream, and NULs behind it. @see the .xz file format, 2.1.2 */
const endsInFooter = (bytes: Uint8Array): boolean => {
  let end = bytes.length
  while (end > 0 && bytes[end - 1] === 0) end--
  if (end < STREAM_HEADER) return false
  const footer = Buffer.from(bytes.subarray(end - STREAM_HEADER, end))
  return footer.toString('latin1', 10) === 'YZ' && footer.readUInt32LE(0) === crc32(footer.subarray(4, 10))
}

/**
 * What comes behind the last stream: liblzma takes as much of it as the header of another one has before it says that it is none.
 *
 * @param taken  the last bytes that it took
 */
const behind = (taken: Uint8Array): Uint8Array | undefined => {
  const start = taken.length - STREAM_HEADER
  return start > 0 && endsInFooter(taken.subarray(0, start)) ? taken.slice(start) : undefined
}

/**
 * Unpacks xz streams, one behind the other, with the memory of their dictionary. The reader stands behind the last one then, and
 * behind the NULs that follow it.
 *
 * @throws CodecError   damaged or cut off
 * @throws UNSUPPORTED  the package has no machine code for this platform
 */
export async function* unxz(from: ByteReader): AsyncGenerator<Uint8Array> {
  checkDictionary(await from.peek(STREAM_HEADER + 1024))
  const stream = openStream()
  let last: Uint8Array = new Uint8Array(0)
  try {
    for (;;) {
      const input = await from.peek(1)
      const output = new Uint8Array(OUTPUT)
      const action = input.length === 0 ? LZMA_FINISH : LZMA_RUN
      const [ret, inputLeft, outputLeft] = stream.codeSync(action, input, 0, input.length, output, 0)
      const taken = input.length - inputLeft!
      last = Buffer.concat([last, input.subarray(0, taken)].map(part => part.subarray(-KEPT))).subarray(-KEPT)
      from.advance(taken)
      const length = OUTPUT - outputLeft!
      if (length > 0) yield output.subarray(0, length)
      if (ret === LZMA_STREAM_END) return
      if (ret === LZMA_OK) continue
      const rest = behind(last)
      if (!rest) throw new CodecError(`xz: ${lzmaProblem({ ret: ret!, length }, OUTPUT)}`)
      from.putBack(rest)
      return
    }
  } finally {
    stream.close()
  }
}
