import { createRequire } from 'node:module'
import { type Codec, CodecError, type SettingsOf } from './codec.js'
import { missingPackage } from './missing.js'

/** The part of lz4-napi in use: raw blocks behind their decompressed size, as 4 bytes little-endian. */
interface Lz4Napi {
  compressSync(data: Buffer): Buffer
  uncompressSync(data: Uint8Array): Buffer
}

const PREFIX_BYTES = 4

const decode = (native: Lz4Napi, input: Uint8Array, output: Uint8Array): number => {
  // The package allocates what the prefix says and gives back what the block held: the capacity is a size that it can't pass.
  const prefixed = Buffer.allocUnsafe(PREFIX_BYTES + input.length)
  prefixed.writeUInt32LE(output.length)
  prefixed.set(input, PREFIX_BYTES)
  try {
    const bytes = native.uncompressSync(prefixed)
    output.set(bytes)
    return bytes.length
  } catch (error) {
    throw new CodecError(`lz4: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

const encode = (native: Lz4Napi, input: Uint8Array): Uint8Array | undefined => {
  const bytes = native.compressSync(Buffer.from(input.buffer, input.byteOffset, input.length))
  return bytes.length - PREFIX_BYTES < input.length ? bytes.subarray(PREFIX_BYTES) : undefined
}

/**
 * LZ4 raw blocks by lz4-napi, which compresses fast only (no high compression).
 *
 * @throws UNSUPPORTED  the package has no binary for this platform
 */
export const loadLz4 = (): Codec<SettingsOf<'lz4'>> => {
  let native: Lz4Napi
  try {
    native = createRequire(import.meta.url)('lz4-napi') as Lz4Napi
  } catch (error) {
    throw missingPackage('lz4', 'lz4-napi', error)
  }
  return {
    decode: (input, output) => decode(native, input, output),
    encode: (_settings, input) => encode(native, input),
  }
}
