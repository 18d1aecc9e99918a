import { type Codec, CodecError, type SettingsOf } from './codec.js'
import { LZMA_STREAM_END } from './liblzma-native.js'
import { type LiblzmaWasm, loadLiblzmaWasm } from './liblzma-wasm.js'
import { missingPackage } from './missing.js'
import { lzmaProblem } from './xz.js'

/** properties u8, dictionary size u32, decompressed size u64 */
const HEADER_BYTES = 13
const MAX_PROPERTIES = 224
const LEAST_DICTIONARY = 4096

const decode = (lib: LiblzmaWasm, input: Uint8Array, output: Uint8Array): number => {
  if (input.length <= HEADER_BYTES) throw new CodecError('lzma: the block ends too early')
  const view = new DataView(input.buffer, input.byteOffset, input.length)
  const size = view.getBigUint64(5, true)
  if (input[0]! > MAX_PROPERTIES) throw new CodecError('lzma: the header is damaged')
  if (size > BigInt(output.length)) throw new CodecError(`lzma: the block is larger than ${output.length} bytes`)
  // The decoder allocates the dictionary at once, but no distance is valid beyond the bytes written: a block's size is enough.
  const bounded = Uint8Array.from(input)
  const dictionary = Math.max(LEAST_DICTIONARY, 2 ** Math.ceil(Math.log2(Math.max(1, output.length))))
  new DataView(bounded.buffer).setUint32(1, dictionary, true)
  const room = output.subarray(0, Number(size))
  const coded = lib.decode(bounded, room)
  if (coded.ret !== LZMA_STREAM_END) throw new CodecError(`lzma: ${lzmaProblem(coded, output.length)}`)
  if (coded.length !== room.length)
    throw new CodecError(`lzma: the block has ${coded.length} bytes, its header says ${size}`)
  return coded.length
}

/**
 * The old .lzma format with the decompressed size in its header, for reading only: kernels never knew it, mksquashfs can write it.
 *
 * @throws UNSUPPORTED  the package can't be loaded
 * @see squashfs-tools, lzma_xz_wrapper.c
 */
export const loadLzma = async (): Promise<Codec<SettingsOf<'lzma'>>> => {
  const lib = await loadLiblzmaWasm().catch(error => {
    throw missingPackage('lzma', 'node-liblzma', error)
  })
  return { decode: (input, output) => decode(lib, input, output) }
}
