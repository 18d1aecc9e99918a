import { crc32 } from 'node:zlib'
import { assert } from '../error.js'
import { type Codec, CodecError, type SettingsOf } from './codec.js'
import { type Coded, type LiblzmaNative, LZMA_OK, LZMA_STREAM_END, loadLiblzmaNative } from './liblzma-native.js'
import { type LiblzmaWasm, loadLiblzmaWasm } from './liblzma-wasm.js'
import { missingPackage } from './missing.js'

const STREAM_HEADER_BYTES = 12
const LZMA2 = 0x21
/** Dictionary byte of 32 MiB: unsquashfs has no memory for it, and the kernel takes no more than a squashfs block. */
const TOO_LARGE_DICTIONARY = 28

/** liblzma's ids of the filters in the bits of `filters`, lowest first: x86, powerpc, ia64, arm, armthumb, sparc. */
const BCJ = [4, 5, 6, 7, 8, 9]

const RETURN_CODES = new Map([
  [2, 'no check'],
  [3, 'an unknown check'],
  [5, 'no memory'],
  [6, 'it needs too much memory'],
  [7, 'not an xz stream'],
  [8, 'unknown options'],
  [9, 'the data is damaged'],
  [10, 'the stream ends too early'],
])

/** Says what an lzma_ret that is not success means. */
export const lzmaProblem = ({ ret, length }: Coded, capacity: number): string =>
  // Full, and not at the end: liblzma asks for more room either way.
  (ret === LZMA_OK || ret === 10) && length === capacity
    ? `the block is larger than ${capacity} bytes`
    : (RETURN_CODES.get(ret) ?? `liblzma's error ${ret}`)

/** The block header of an xz stream, as far as the dictionary needs it. */
interface BlockHeader {
  readonly start: number
  /** offset of the CRC32 at the header's end */
  readonly crcAt: number
  /** offset of LZMA2's only property byte */
  readonly dictionaryAt: number
}

/**
 * Finds the first block header's dictionary byte.
 *
 * @throws CodecError  there is no block with LZMA2 as its last filter
 * @see xz, doc/xz-file-format.txt, 3.1
 */
const parseBlockHeader = (input: Uint8Array): BlockHeader => {
  const start = STREAM_HEADER_BYTES
  const crcAt = start + (input[start] ?? 0) * 4
  if (crcAt === start || crcAt + 4 > input.length) throw new CodecError('xz: there is no whole block header')
  let at = start + 1
  const integer = (): number => {
    let value = 0
    for (let scale = 1; at < crcAt; scale *= 128) {
      const byte = input[at++]!
      value += (byte & 127) * scale
      if (byte < 128) break
    }
    return value
  }
  const flags = input[at++]!
  if (flags & 0x40) integer()
  if (flags & 0x80) integer()
  for (let left = (flags & 3) + 1; left > 0 && at < crcAt; left--) {
    const filter = integer()
    const propertyBytes = integer()
    if (filter === LZMA2 && left === 1 && propertyBytes === 1 && at < crcAt) return { start, crcAt, dictionaryAt: at }
    at += propertyBytes
  }
  throw new CodecError('xz: the block header is damaged, or its last filter is not LZMA2')
}

/** LZMA2's property byte: sizes are 2^n and 3 * 2^(n-1), from 4 KiB on. Gives the largest one that is not above `size`. */
const dictionaryByte = (size: number): number => {
  let byte = 0
  while (byte < 39 && dictionaryBytes(byte + 1) <= size) byte++
  return byte
}

const dictionaryBytes = (byte: number): number => (2 | (byte & 1)) * 2 ** ((byte >> 1) + 11)

const decode = (lib: LiblzmaNative | LiblzmaWasm, input: Uint8Array, output: Uint8Array): number => {
  if (input[parseBlockHeader(input).dictionaryAt]! >= TOO_LARGE_DICTIONARY)
    throw new CodecError('xz: the dictionary is larger than 32 MiB')
  const coded = lib.decode(input, output)
  if (coded.ret !== LZMA_STREAM_END) throw new CodecError(`xz: ${lzmaProblem(coded, output.length)}`)
  return coded.length
}

/**
 * Machine code knows no dictionary but the preset's 8 MiB, which the kernel refuses. No match reaches back beyond the block's
 * start, so a block that is not larger than the wanted dictionary is right for it too: only the header has to say so.
 */
const writeDictionary = (stream: Uint8Array, byte: number): void => {
  const { start, crcAt, dictionaryAt } = parseBlockHeader(stream)
  stream[dictionaryAt] = byte
  const crc = crc32(stream.subarray(start, crcAt))
  new DataView(stream.buffer, stream.byteOffset).setUint32(crcAt, crc, true)
}

const encodeFiltered = (
  native: LiblzmaNative | undefined,
  wasm: LiblzmaWasm,
  input: Uint8Array,
  room: number,
  bcj: number,
  dictionary: number,
): Uint8Array | undefined => {
  const output = Buffer.allocUnsafeSlow(room)
  const exact = native === undefined || input.length > dictionaryBytes(dictionary)
  const coded = exact ? wasm.encode(input, output, bcj, dictionaryBytes(dictionary)) : native.encode(input, output, bcj)
  if (coded.ret === LZMA_OK || (coded.ret === 10 && coded.length === room)) return undefined
  assert(coded.ret === LZMA_STREAM_END, `liblzma could not compress: error ${coded.ret}`)
  const bytes = output.subarray(0, coded.length)
  if (!exact) writeDictionary(bytes, dictionary)
  return bytes
}

const encode = (
  native: LiblzmaNative | undefined,
  wasm: LiblzmaWasm,
  settings: SettingsOf<'xz'>,
  input: Uint8Array,
  blockSize: number,
): Uint8Array | undefined => {
  const dictionary = dictionaryByte(Math.min(settings.dictionarySize, blockSize))
  let best: Uint8Array | undefined
  for (const bcj of [0, ...BCJ.filter((_, bit) => settings.filters & (1 << bit))]) {
    const room = (best ?? input).length - 1
    const bytes = room > 0 ? encodeFiltered(native, wasm, input, room, bcj, dictionary) : undefined
    if (bytes) best = bytes
  }
  return best && new Uint8Array(best)
}

/**
 * xz, by liblzma: machine code where there is some for this platform, WebAssembly otherwise and where only it can do what the
 * settings say. As mksquashfs does, plain LZMA2 and every filter of the settings are tried and the smallest result kept; the
 * dictionary is the one of the settings, at most the block size, because the kernel reads no other.
 *
 * @throws UNSUPPORTED  the package can't be loaded
 * @see squashfs-tools, xz_wrapper.c; kernel, fs/squashfs/xz_wrapper.c
 */
export const loadXz = async ({ wasmOnly = false } = {}): Promise<Codec<SettingsOf<'xz'>>> => {
  let native: LiblzmaNative | undefined
  try {
    if (!wasmOnly) native = loadLiblzmaNative()
  } catch {
    // no binary for this platform: WebAssembly does the same, slower
  }
  const wasm = await loadLiblzmaWasm().catch(error => {
    throw missingPackage('xz', 'node-liblzma', error)
  })
  const decoder = native ?? wasm
  return {
    decode: (input, output) => decode(decoder, input, output),
    encode: (settings, input, blockSize) => encode(native, wasm, settings, input, blockSize),
  }
}
