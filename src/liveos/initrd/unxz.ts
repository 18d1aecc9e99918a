import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
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
const STREAM_HEADER = 12
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

/**
 * Unpacks xz streams, one behind the other, with the memory of their dictionary. What follows that is no xz is damage to it: the
 * reader stands somewhere behind the last stream then.
 *
 * @throws CodecError   damaged or cut off
 * @throws UNSUPPORTED  the package has no machine code for this platform
 */
export async function* unxz(from: ByteReader): AsyncGenerator<Uint8Array> {
  checkDictionary(await from.peek(STREAM_HEADER + 1024))
  const stream = openStream()
  try {
    for (;;) {
      const input = await from.peek(1)
      const output = new Uint8Array(OUTPUT)
      const action = input.length === 0 ? LZMA_FINISH : LZMA_RUN
      const [ret, inputLeft, outputLeft] = stream.codeSync(action, input, 0, input.length, output, 0)
      from.advance(input.length - inputLeft!)
      const length = OUTPUT - outputLeft!
      if (length > 0) yield output.subarray(0, length)
      if (ret === LZMA_STREAM_END) return
      if (ret !== LZMA_OK) throw new CodecError(`xz: ${lzmaProblem({ ret: ret!, length }, OUTPUT)}`)
    }
  } finally {
    stream.close()
  }
}
