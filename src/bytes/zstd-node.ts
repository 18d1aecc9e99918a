import { parseZstdHeader } from './zstd-layout.js'

/** What a stream of node:zlib works with; `_writeState` holds bytes of output left and of input left after each call. */
interface ZstdHandle {
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void
  onerror: (message: string) => void
}

/** A stream of node:zlib, as far as it is used here. */
interface ZstdStream {
  readonly _handle: ZstdHandle
  readonly _writeState: Uint32Array
  close(): void
}

/** node:zlib's zstd, which its types for Node 20 don't know. */
export interface NodeZstd {
  zstdDecompressSync(input: Uint8Array, options: object): Buffer
  zstdCompressSync(input: Uint8Array, options: object): Buffer
  createZstdDecompress(): ZstdStream
  createZstdCompress(options: object): ZstdStream
  readonly constants: { readonly ZSTD_c_compressionLevel: number }
}

/** the flag for the end of the input, ZSTD_e_end among it */
const FINISH = 2
/** One frame of one stored byte. */
const PROBE = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, 1, 9, 0, 0, 0x41)

/** Decodes one whole frame that fills `output`; false where it is damaged or does not fill it. */
export type DecodeFrame = (input: Uint8Array, output: Uint8Array) => boolean

/**
 * One decoder of node:zlib for all blocks: making one takes half as long as expanding a megabyte, and `zstdDecompressSync` makes
 * one for each call. What it uses is no public interface, so it is tried at the start.
 *
 * @returns undefined  this Node has it in another form
 */
export const keptDecoder = (node: NodeZstd): DecodeFrame | undefined => {
  let stream: ZstdStream | undefined
  let failed = false
  const decode: DecodeFrame = (input, output) => {
    if (!stream) {
      stream = node.createZstdDecompress()
      stream._handle.onerror = () => {
        failed = true
      }
    }
    const { _handle: handle, _writeState: state } = stream
    failed = false
    handle.writeSync(FINISH, input, 0, input.length, output, 0, output.length)
    if (!failed && state[0] === 0 && state[1] === 0) return true
    // It may be in the middle of a frame.
    stream.close()
    stream = undefined
    return false
  }
  try {
    const output = new Uint8Array(1)
    const tellsDamage = !decode(PROBE.subarray(0, 9), output) && !decode(PROBE.subarray(1), output)
    return tellsDamage && decode(PROBE, output) && output[0] === 0x41 ? decode : undefined
  } catch {
    return undefined
  }
}

/** Encodes one block as one frame into `output`; gives the frame's length, undefined where it does not fit or something went wrong. */
export type EncodeFrame = (level: number, input: Uint8Array, output: Uint8Array) => number | undefined

/** The most that a frame takes: what can't be compressed stands in it as it is, in blocks of 128 KiB with 3 bytes in front of each. */
export const frameBound = (length: number): number => length + (length >>> 8) + 128

/**
 * One encoder of node:zlib for all blocks of a level: `zstdCompressSync` makes one for each call, whose tens of megabytes are not
 * given back before the collector comes by. After its end a frame is followed by another, and where all of it is there at once
 * zstd writes its size into it. As for decoding this is tried at the start.
 *
 * @returns undefined  this Node has it in another form
 */
export const keptEncoder = (node: NodeZstd): EncodeFrame | undefined => {
  let kept: { readonly level: number; readonly stream: ZstdStream } | undefined
  let failed = false
  const drop = (): undefined => {
    kept?.stream.close()
    kept = undefined
    return undefined
  }
  const encode: EncodeFrame = (level, input, output) => {
    if (kept?.level !== level) drop()
    if (!kept) {
      const stream = node.createZstdCompress({ params: { [node.constants.ZSTD_c_compressionLevel]: level } })
      stream._handle.onerror = () => {
        failed = true
      }
      kept = { level, stream }
    }
    const { _handle: handle, _writeState: state } = kept.stream
    failed = false
    handle.writeSync(FINISH, input, 0, input.length, output, 0, output.length)
    // What did not fit would be given out with the next block.
    return failed || state[0] === 0 || state[1] !== 0 ? drop() : output.length - state[0]!
  }
  try {
    const sample = Uint8Array.from({ length: 3000 }, (_, n) => n & (n >>> 5))
    const output = new Uint8Array(frameBound(sample.length))
    for (const length of [sample.length, 1, 2000]) {
      const frame = output.subarray(0, encode(3, sample.subarray(0, length), output) ?? 0)
      const back =
        frame.length > 8 && parseZstdHeader(frame).contentSize === length
          ? node.zstdDecompressSync(frame, {})
          : undefined
      if (back?.compare(sample.subarray(0, length)) !== 0) return drop()
    }
    drop()
    return encode
  } catch {
    return drop()
  }
}
