import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import type { Coded } from './liblzma-native.js'

const LZMA_FINISH = 3
const LZMA_CHECK_CRC32 = 1
/** Looks at what comes behind the stream, and takes nothing but another one, as the machine code of node-liblzma does. */
const LZMA_CONCATENATED = 8
const LZMA_MODE_NORMAL = 2
const LZMA_MF_BT4 = 0x14
const LZMA_FILTER_LZMA2 = 0x21

/** sizes of C structs on wasm32, rounded up */
const STREAM_BYTES = 128
const OPTIONS_BYTES = 256
const FILTER_BYTES = 16

/** Decoders refuse to allocate more: what unsquashfs allows too. */
const MEMORY_LIMIT = 32 * 2 ** 20

/** The C functions of node-liblzma's WebAssembly module. Pointers are offsets in HEAPU8; 64-bit arguments come as two words. */
interface WasmLiblzma {
  HEAPU8: Uint8Array
  HEAPU32: Uint32Array
  _malloc(size: number): number
  _free(pointer: number): void
  _lzma_auto_decoder(stream: number, limitLow: number, limitHigh: number, flags: number): number
  _lzma_code(stream: number, action: number): number
  _lzma_end(stream: number): void
  _lzma_stream_buffer_encode(
    filters: number,
    check: number,
    allocator: number,
    input: number,
    inputSize: number,
    output: number,
    outputPosition: number,
    outputSize: number,
  ): number
}

/** liblzma in WebAssembly: slower than machine code, but everywhere, with every option, and with the old .lzma format. */
export interface LiblzmaWasm {
  /** Decodes an xz stream or an .lzma file. */
  decode(input: Uint8Array, output: Uint8Array): Coded
  /** Encodes an xz stream as preset 6 does, but with this dictionary; `bcj` is the id of a filter in front of LZMA2, or 0. */
  encode(input: Uint8Array, output: Uint8Array, bcj: number, dictionarySize: number): Coded
}

/**
 * Loads the WebAssembly module of node-liblzma. Its file has to be read here: the package's loader can only fetch, which Node
 * can't do from a disk, and its entry without a file, node-liblzma/inline, carries a module of another version (4.0.2).
 *
 * @throws Error  the package is not there
 */
export const loadLiblzmaWasm = async (): Promise<LiblzmaWasm> => {
  const require = createRequire(import.meta.url)
  const url = pathToFileURL(require.resolve('node-liblzma/wasm/liblzma.js')).href
  const glue = (await import(url)) as { default(options: { wasmBinary: Uint8Array }): Promise<WasmLiblzma> }
  const module = await glue.default({ wasmBinary: await readFile(require.resolve('node-liblzma/wasm/liblzma.wasm')) })

  const write = (pointer: number, words: readonly number[]): void => {
    module.HEAPU32.set(words, pointer >> 2)
  }
  const read = (pointer: number): number => module.HEAPU32[pointer >> 2]!

  /** Runs `work` with areas for both buffers and one zeroed struct, and copies out what it wrote. */
  const within = (
    input: Uint8Array,
    output: Uint8Array,
    structBytes: number,
    work: (source: number, target: number, struct: number) => Coded,
  ): Coded => {
    const target = structBytes + input.length
    const struct = module._malloc(target + output.length)
    if (struct === 0) throw new RangeError('no memory left for liblzma')
    try {
      module.HEAPU8.fill(0, struct, struct + structBytes)
      module.HEAPU8.set(input, struct + structBytes)
      const coded = work(struct + structBytes, struct + target, struct)
      output.set(module.HEAPU8.subarray(struct + target, struct + target + coded.length))
      return coded
    } finally {
      module._free(struct)
    }
  }

  return {
    decode: (input, output) =>
      within(input, output, STREAM_BYTES, (source, target, stream) => {
        let ret = module._lzma_auto_decoder(stream, MEMORY_LIMIT, 0, LZMA_CONCATENATED)
        if (ret !== 0) return { ret, length: 0 }
        write(stream, [source, input.length])
        write(stream + 16, [target, output.length])
        ret = module._lzma_code(stream, LZMA_FINISH)
        const length = output.length - read(stream + 20)
        module._lzma_end(stream)
        return { ret, length }
      }),
    encode: (input, output, bcj, dictionarySize) =>
      within(input, output, OPTIONS_BYTES + 4 * FILTER_BYTES, (source, target, options) => {
        // struct lzma_options_lzma: dict_size, preset_dict, preset_dict_size, lc, lp, pb, mode, nice_len, mf, depth
        write(options, [dictionarySize, 0, 0, 3, 0, 2, LZMA_MODE_NORMAL, 64, LZMA_MF_BT4, 0])
        // lzma_filter[]: a 64-bit id, a pointer to options, padding; the id of the end is all ones
        const filters = options + OPTIONS_BYTES
        const front = bcj === 0 ? [] : [bcj, 0, 0, 0]
        write(filters, [...front, LZMA_FILTER_LZMA2, 0, options, 0, 0xffffffff, 0xffffffff, 0, 0])
        const position = filters + 3 * FILTER_BYTES
        const { length } = output
        const check = LZMA_CHECK_CRC32
        const ret = module._lzma_stream_buffer_encode(filters, check, 0, source, input.length, target, position, length)
        // this call says LZMA_OK where the streams say LZMA_STREAM_END, and LZMA_BUF_ERROR where there is no room
        return ret === 0 ? { ret: 1, length: read(position) } : { ret: ret === 10 ? 0 : ret, length: 0 }
      }),
  }
}
