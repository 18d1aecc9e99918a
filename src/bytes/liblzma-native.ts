import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/** liblzma's return codes (lzma/base.h). */
export const LZMA_OK = 0
export const LZMA_STREAM_END = 1

/** lzma_action: all input is there. */
const LZMA_FINISH = 3
const LZMA_CHECK_CRC32 = 1
const STREAM_ENCODE = 0
const STREAM_DECODE = 1
const LZMA_FILTER_LZMA2 = 0x21
const PRESET = 6

/** One lzma_stream of node-liblzma's binary. */
interface NativeStream {
  /** gives lzma_ret, bytes of input left, bytes of output left */
  codeSync(
    action: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
  ): [ret: number, inputLeft: number, outputLeft: number]
  close(): void
}

interface NativeLiblzma {
  LZMA: new (
    mode: number,
    options: { check: number; preset: number; filters: number[]; threads: number },
  ) => NativeStream
}

/** The outcome of one call of liblzma. */
export interface Coded {
  /** an lzma_ret: 1 is the whole stream, 0 means no room left */
  readonly ret: number
  /** bytes written */
  readonly length: number
}

/** liblzma in machine code; xz streams only, from one whole buffer into another. */
export interface LiblzmaNative {
  decode(input: Uint8Array, output: Uint8Array): Coded
  /** Encodes with the settings of preset 6, an 8 MiB dictionary among them; `bcj` is the id of a filter in front of LZMA2, or 0. */
  encode(input: Uint8Array, output: Uint8Array, bcj: number): Coded
}

/**
 * Loads the binary of node-liblzma. Its own interface is made of streams and copies every block twice, so the class below it
 * is used, found the way the package itself finds it.
 *
 * @throws Error  there is none for this platform
 */
export const loadLiblzmaNative = (): LiblzmaNative => {
  const require = createRequire(import.meta.url)
  const main = require.resolve('node-liblzma')
  const load = createRequire(main)('node-gyp-build') as (folder: string) => NativeLiblzma
  const { LZMA } = load(join(dirname(main), '..'))
  const code = (mode: number, filters: number[], input: Uint8Array, output: Uint8Array): Coded => {
    const stream = new LZMA(mode, { check: LZMA_CHECK_CRC32, preset: PRESET, filters, threads: 1 })
    try {
      const [ret, , outputLeft] = stream.codeSync(LZMA_FINISH, input, 0, input.length, output, 0)
      return { ret, length: output.length - outputLeft }
    } finally {
      stream.close()
    }
  }
  return {
    decode: (input, output) => code(STREAM_DECODE, [LZMA_FILTER_LZMA2], input, output),
    encode: (input, output, bcj) =>
      code(STREAM_ENCODE, bcj === 0 ? [LZMA_FILTER_LZMA2] : [bcj, LZMA_FILTER_LZMA2], input, output),
  }
}
