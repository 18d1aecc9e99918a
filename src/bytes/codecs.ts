import { assert, unsupported } from '../error.js'
import { type Codec, CodecError, type Compressor, type CompressorName } from './codec.js'

export { CodecError }

/** Codecs come with binaries and WebAssembly, so each is imported only once a block of its kind turns up. */
const LOADERS: { readonly [N in CompressorName]: () => Promise<Codec> } = {
  gzip: async () => (await import('./gzip.js')).gzip,
  lzma: async () => (await import('./lzma.js')).loadLzma(),
  lzo: async () => (await import('./lzo.js')).lzo,
  xz: async () => (await import('./xz.js')).loadXz(),
  lz4: async () => (await import('./lz4.js')).loadLz4(),
  zstd: async () => (await import('./zstd.js')).loadZstd(),
}

const loading = new Map<CompressorName, Promise<Codec>>()
const loaded = new Map<CompressorName, Codec>()

/**
 * Loads a codec; to be awaited once before `decodeBlock` and `encodeBlock` of that name. Later calls cost nothing.
 *
 * @throws UNSUPPORTED  its package can't be loaded on this computer
 */
export const loadCodec = async (name: CompressorName): Promise<void> => {
  const codec = loading.get(name) ?? LOADERS[name]()
  loading.set(name, codec)
  loaded.set(name, await codec)
}

/** True once `loadCodec(name)` is done. */
export const isCodecLoaded = (name: CompressorName): boolean => loaded.has(name)

const codecOf = (name: CompressorName): Codec => {
  const codec = loaded.get(name)
  assert(codec, `loadCodec('${name}') must be awaited first`)
  return codec
}

/**
 * Decompresses one block of at most `capacity` bytes, within that much memory and a small constant. The result is the caller's
 * own, at the start of an ArrayBuffer of its own.
 *
 * @throws CodecError  the block is damaged or larger than `capacity`; who knows its place turns it into CORRUPT
 */
export const decodeBlock = (name: CompressorName, input: Uint8Array, capacity: number): Uint8Array => {
  assert(capacity > 0, 'a block of no bytes')
  if (input.length === 0) throw new CodecError(`${name}: the block is empty`)
  const codec = codecOf(name)
  if (codec.decodeNew) return codec.decodeNew(input, capacity)
  const output = new Uint8Array(Buffer.allocUnsafeSlow(capacity).buffer)
  const length = codec.decode(input, output)
  return length === capacity ? output : output.slice(0, length)
}

/**
 * As `decodeBlock`, into memory that is given; never past its end. It may be shared.
 *
 * @returns bytes written
 * @throws CodecError  the block is damaged or larger
 */
export const decodeBlockInto = (name: CompressorName, input: Uint8Array, output: Uint8Array): number => {
  assert(output.length > 0, 'a block of no bytes')
  if (input.length === 0) throw new CodecError(`${name}: the block is empty`)
  return codecOf(name).decode(input, output)
}

/** True where this process compresses with exactly these settings; elsewhere it is a task for mksquashfs. */
export const canEncode = (compressor: Compressor): boolean => {
  switch (compressor.name) {
    case 'gzip':
    case 'xz':
    case 'zstd':
      return true
    case 'lz4':
      return !compressor.highCompression
    case 'lzo':
    case 'lzma':
      return false
  }
}

/**
 * Throws unless `canEncode`.
 *
 * @throws UNSUPPORTED
 */
export const checkEncodable = (compressor: Compressor): void => {
  if (!canEncode(compressor)) throw unsupported(`compressing with ${compressor.name}`, 'this process')
}

/**
 * Compresses one block of 1 to `blockSize` bytes, or gives undefined where it would not get smaller and is stored as it is.
 *
 * @throws UNSUPPORTED  not `canEncode`
 */
export const encodeBlock = (compressor: Compressor, input: Uint8Array, blockSize: number): Uint8Array | undefined => {
  checkEncodable(compressor)
  assert(
    input.length > 0 && input.length <= blockSize,
    `a block of ${input.length} bytes where ${blockSize} are the most`,
  )
  const codec = codecOf(compressor.name)
  assert(codec.encode, `${compressor.name} has no encoder`)
  return codec.encode(compressor, input, blockSize)
}
