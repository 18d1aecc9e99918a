import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import zlib from 'node:zlib'
import { assert } from '../error.js'
import { type Codec, CodecError, ownBytes, type SettingsOf } from './codec.js'
import { missingPackage } from './missing.js'
import { parseZstdBlock, parseZstdHeader, ZSTD_BLOCK_HEADER, ZSTD_MAGIC, type ZstdHeader } from './zstd-layout.js'
import { type DecodeFrame, frameBound, keptDecoder, keptEncoder, type NodeZstd } from './zstd-node.js'

/** What every decoder must support (RFC 8878, 3.1.1.1.2); squashfs windows are at most 1 MiB. */
const MAX_WINDOW_SIZE = 2 ** 23

/** What a frame says of itself; sizes in bytes. */
type Frame = Pick<ZstdHeader, 'windowSize' | 'contentSize'>

const damaged = (what: string): CodecError => new CodecError(`zstd: ${what}`)

/**
 * Parses one frame and walks its blocks to the end: node:zlib gives back a truncated frame's first part as if it were whole.
 *
 * @throws CodecError  it isn't one whole frame and nothing else
 * @see RFC 8878, 3.1.1
 */
export const parseZstdFrame = (input: Uint8Array): Frame => {
  const view = new DataView(input.buffer, input.byteOffset, input.length)
  if (input.length < 6) throw damaged('the frame ends too early')
  if (view.getUint32(0, true) !== ZSTD_MAGIC) throw damaged('not a frame')
  const { length, hasChecksum, ...frame } = parseZstdHeader(input)
  let at = length
  for (let last = false; !last; ) {
    if (at + ZSTD_BLOCK_HEADER > input.length) throw damaged('the frame ends too early')
    const block = parseZstdBlock(input, at)
    last = block.isLast
    at += ZSTD_BLOCK_HEADER + block.stored
  }
  at += hasChecksum ? 4 : 0
  if (at > input.length) throw damaged('the frame ends too early')
  if (at < input.length) throw damaged(`${input.length - at} bytes behind the frame`)
  return frame
}

/** @throws CodecError  the frame is damaged, larger than `capacity`, or needs too much memory */
const checkFrame = (input: Uint8Array, capacity: number): Frame => {
  const frame = parseZstdFrame(input)
  if ((frame.contentSize ?? 0) > capacity)
    throw damaged(`the block has ${frame.contentSize} bytes, more than ${capacity}`)
  if (frame.windowSize > Math.max(MAX_WINDOW_SIZE, capacity))
    throw damaged(`the window has ${frame.windowSize} bytes, more than ${MAX_WINDOW_SIZE}`)
  return frame
}

const checkLength = (frame: Frame, length: number): number => {
  if (frame.contentSize !== undefined && length !== frame.contentSize)
    throw damaged(`the block has ${length} bytes, its frame says ${frame.contentSize}`)
  return length
}

const decodeByNode = (node: NodeZstd, input: Uint8Array, capacity: number): Uint8Array => {
  const frame = checkFrame(input, capacity)
  try {
    const bytes = node.zstdDecompressSync(input, { chunkSize: Math.max(64, capacity + 1), maxOutputLength: capacity })
    checkLength(frame, bytes.length)
    return ownBytes(bytes)
  } catch (error) {
    if (error instanceof CodecError) throw error
    throw new CodecError(`zstd: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

const decodeKept = (node: NodeZstd, kept: DecodeFrame, input: Uint8Array, output: Uint8Array): number => {
  const { contentSize } = checkFrame(input, output.length)
  // Only where the size is known is it certain that nothing was left inside the decoder.
  if (contentSize === undefined || contentSize === 0) {
    const bytes = decodeByNode(node, input, output.length)
    output.set(bytes)
    return bytes.length
  }
  if (!kept(input, output.subarray(0, contentSize))) throw damaged('the block is damaged')
  return contentSize
}

/** where frames are written, kept between blocks */
let room = new Uint8Array(0)

/**
 * @param kept     undefined: a decoder for each block
 * @param keptFor  the same for encoding
 */
const nodeCodec = (
  node: NodeZstd,
  kept = keptDecoder(node),
  keptFor = keptEncoder(node),
): Codec<SettingsOf<'zstd'>> => ({
  ...(kept
    ? { decode: (input, output) => decodeKept(node, kept, input, output) }
    : {
        decode: (input, output) => {
          const bytes = decodeByNode(node, input, output.length)
          output.set(bytes)
          return bytes.length
        },
        decodeNew: (input, capacity) => decodeByNode(node, input, capacity),
      }),
  encode: ({ level }, input) => {
    let bytes: Uint8Array | undefined
    if (keptFor) {
      if (room.length < frameBound(input.length)) room = new Uint8Array(frameBound(input.length))
      const length = keptFor(level, input, room)
      bytes = length === undefined ? undefined : room.slice(0, length)
    }
    if (!bytes) {
      // Of the others only the sync call knows the size beforehand and writes it: the window is then the block itself, never more.
      const params = { [node.constants.ZSTD_c_compressionLevel]: level }
      bytes = node.zstdCompressSync(input, { params, chunkSize: Math.max(64, input.length) })
    }
    assert(parseZstdFrame(bytes).contentSize === input.length, 'node:zlib wrote a zstd frame without its size')
    return bytes.length < input.length ? bytes : undefined
  },
})

/** The C functions in the package's module; pointers and sizes are bytes in its memory, -1 is a failure. */
interface ZstdModule {
  HEAPU8: Uint8Array
  readonly ready: Promise<unknown>
  _malloc(size: number): number
  _compressBound(size: number): number
  _compress(target: number, targetSize: number, source: number, sourceSize: number, level: number): number
  _decompress(target: number, targetSize: number, source: number, sourceSize: number): number
}

/** The package's own wrappers allocate for each block, and copy all of its memory's length: its functions are called directly. */
const wasmCodec = (module: ZstdModule): Codec<SettingsOf<'zstd'>> => {
  const area = { source: 0, sourceSize: 0, target: 0, targetSize: 0 }
  /** Areas for one block each way, kept between calls; they grow to the largest block seen, and the smaller ones are not given back. */
  const place = (source: Uint8Array, targetSize: number): void => {
    if (source.length > area.sourceSize) {
      area.source = module._malloc(source.length)
      area.sourceSize = area.source === 0 ? 0 : source.length
    }
    if (targetSize > area.targetSize) {
      area.target = module._malloc(targetSize)
      area.targetSize = area.target === 0 ? 0 : targetSize
    }
    assert(area.source !== 0 && area.target !== 0, 'no memory for a zstd block')
    module.HEAPU8.set(source, area.source)
  }
  return {
    decode: (input, output) => {
      const frame = checkFrame(input, output.length)
      place(input, Math.max(1, output.length))
      const { source, target } = area
      const length = module._decompress(target, output.length, source, input.length)
      if (length < 0 || length > output.length) throw damaged('the block is damaged or too large')
      output.set(module.HEAPU8.subarray(target, target + length))
      return checkLength(frame, length)
    },
    encode: ({ level }, input) => {
      const bound = module._compressBound(input.length)
      place(input, bound)
      const { source, target } = area
      const length = module._compress(target, bound, source, input.length, level)
      assert(length >= 0, `zstd could not compress ${input.length} bytes at level ${level}`)
      return length < input.length ? module.HEAPU8.slice(target, target + length) : undefined
    },
  }
}

const PACKAGE = '@foxglove/wasm-zstd'
let loading: Promise<ZstdModule> | undefined

const loadWasm = async (): Promise<ZstdModule> => {
  try {
    const require = createRequire(import.meta.url)
    const main = require.resolve(PACKAGE)
    const make = require(join(dirname(main), 'wasm-zstd.js')) as () => Promise<ZstdModule>
    const module = await make()
    await module.ready
    return module
  } catch (error) {
    throw missingPackage('zstd', PACKAGE, error)
  }
}

const theWasm = (): Promise<ZstdModule> => {
  loading ??= loadWasm()
  return loading
}

const nodeZstd = 'zstdDecompressSync' in zlib ? (zlib as unknown as NodeZstd) : undefined

/** True where Node itself compresses by zstd (22.15 and later), with one encoder for many blocks. */
export const compressesZstdFast = (): boolean => nodeZstd !== undefined && keptEncoder(nodeZstd) !== undefined

/**
 * Zstandard: node:zlib where this Node has it (22.15 and later), otherwise WebAssembly, half as fast. One frame a block, and
 * the frame's window never above the block's size.
 *
 * @throws UNSUPPORTED  the package can't be loaded
 */
export const loadZstd = async ({ wasm = false } = {}): Promise<Codec<SettingsOf<'zstd'>>> =>
  nodeZstd && !wasm ? nodeCodec(nodeZstd) : wasmCodec(await theWasm())
