/** The six compressors of squashfs 4.0, by the names mksquashfs uses. */
export type CompressorName = 'gzip' | 'lzma' | 'lzo' | 'xz' | 'lz4' | 'zstd'

/**
 * A compressor with its settings, as the option block behind a squashfs superblock states them (or its defaults).
 *
 * @see squashfs-tools, gzip_wrapper.h, xz_wrapper.h, lzo_wrapper.h, lz4_wrapper.h, zstd_wrapper.h
 */
export type Compressor =
  /** level 1 to 9, window 2^8 to 2^15 bytes, strategies as a bit mask (1 default, 2 filtered, 4 huffman_only, 8 run_length_encoded, 16 fixed; 0 means default) */
  | { readonly name: 'gzip'; readonly level: number; readonly windowBits: number; readonly strategies: number }
  /** dictionary in bytes; filters as a bit mask (1 x86, 2 powerpc, 4 ia64, 8 arm, 16 armthumb, 32 sparc) tried beside plain LZMA2 */
  | { readonly name: 'xz'; readonly dictionarySize: number; readonly filters: number }
  /** algorithm 0 to 4 (lzo1x_1, 1_11, 1_12, 1_15, 999); level 1 to 9 counts for lzo1x_999 only */
  | { readonly name: 'lzo'; readonly algorithm: number; readonly level: number }
  | { readonly name: 'lz4'; readonly highCompression: boolean }
  | { readonly name: 'zstd'; readonly level: number }
  | { readonly name: 'lzma' }

/** One block as squashfs stores it: compressed, or as it is where compression does not pay. */
export interface StoredBlock {
  readonly bytes: Uint8Array
  readonly compressed: boolean
}

/**
 * Compresses blocks of at most `blockSize` bytes each, in order, one result a block, on as many cores as it likes. Blocks must not be
 * empty.
 *
 * @param onDone  told of a block that is not looked at any more, so that its memory may be taken for another; not of every one
 */
export type BlockEncoder = (
  compressor: Compressor,
  blockSize: number,
  blocks: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
  onDone?: (block: Uint8Array) => void,
) => AsyncIterable<StoredBlock>

/** A block that its codec refuses: damaged, or larger than allowed. It knows no place; who read the block adds one and throws CORRUPT. */
export class CodecError extends Error {
  override readonly name = 'CodecError'
}

/** One compressor at work. Every call is synchronous, and bounded in time and memory by its arguments. */
export interface Codec<C extends Compressor = Compressor> {
  /**
   * Decompresses one whole block into the start of `output`, never past its end, and gives the length. `input` is not empty.
   * Either may lie in a SharedArrayBuffer.
   *
   * @throws CodecError  the block is damaged, or does not fit
   */
  decode(input: Uint8Array, output: Uint8Array): number
  /**
   * As `decode`, into memory of its own of at most `capacity` bytes and few more, where the codec has the result there anyhow.
   * The result begins at the start of an ArrayBuffer that nobody else uses.
   *
   * @throws CodecError
   */
  decodeNew?(input: Uint8Array, capacity: number): Uint8Array
  /** Compresses one block; undefined where the result would not be smaller. Left out where this process can't compress. */
  encode?(settings: C, input: Uint8Array, blockSize: number): Uint8Array | undefined
}

/** The settings of one compressor. */
export type SettingsOf<N extends CompressorName> = Extract<Compressor, { name: N }>

/** The same bytes at the start of an ArrayBuffer of their own; small results of Node lie in a shared pool. */
export const ownBytes = (bytes: Uint8Array): Uint8Array =>
  bytes.byteOffset === 0 && bytes.buffer.byteLength <= bytes.length + 64
    ? new Uint8Array(bytes.buffer, 0, bytes.length)
    : new Uint8Array(bytes)
