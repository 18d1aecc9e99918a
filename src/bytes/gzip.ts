import { constants, deflateSync, inflateSync } from 'node:zlib'
import { type Codec, CodecError, ownBytes, type SettingsOf } from './codec.js'

/** The bits of `strategies`, lowest first. */
const STRATEGIES = [
  constants.Z_DEFAULT_STRATEGY,
  constants.Z_FILTERED,
  constants.Z_HUFFMAN_ONLY,
  constants.Z_RLE,
  constants.Z_FIXED,
]

/** zlib's smallest output chunk */
const LEAST_CHUNK = 64

const isTooLarge = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE'

const decodeNew = (input: Uint8Array, capacity: number): Uint8Array => {
  try {
    // One spare byte, so that a block that fills the capacity ends inside the first chunk and zlib allocates no second one.
    const chunkSize = Math.max(LEAST_CHUNK, capacity + 1)
    return ownBytes(inflateSync(input, { chunkSize, maxOutputLength: capacity }))
  } catch (error) {
    throw new CodecError(
      isTooLarge(error)
        ? `gzip: the block is larger than ${capacity} bytes`
        : `gzip: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    )
  }
}

const decode = (input: Uint8Array, output: Uint8Array): number => {
  const bytes = decodeNew(input, output.length)
  output.set(bytes)
  return bytes.length
}

const deflate = (settings: SettingsOf<'gzip'>, strategy: number, input: Uint8Array): Uint8Array | undefined => {
  const { level, windowBits } = settings
  const maxOutputLength = Math.max(1, input.length - 1)
  const chunkSize = Math.max(LEAST_CHUNK, input.length)
  try {
    return deflateSync(input, { level, windowBits, memLevel: 8, strategy, chunkSize, maxOutputLength })
  } catch (error) {
    if (isTooLarge(error)) return undefined
    throw error
  }
}

const encode = (settings: SettingsOf<'gzip'>, input: Uint8Array): Uint8Array | undefined => {
  const chosen = STRATEGIES.filter((_, bit) => (settings.strategies || 1) & (1 << bit))
  let best: Uint8Array | undefined
  for (const strategy of chosen) {
    const bytes = deflate(settings, strategy, input)
    if (bytes && bytes.length < (best ?? input).length) best = bytes
  }
  return best
}

/**
 * What squashfs calls gzip: a zlib stream (RFC 1950), not a gzip file. As mksquashfs does, every strategy of the settings is
 * tried and the smallest result kept.
 *
 * @see squashfs-tools, gzip_wrapper.c
 */
export const gzip: Codec<SettingsOf<'gzip'>> = { decode, decodeNew, encode }
