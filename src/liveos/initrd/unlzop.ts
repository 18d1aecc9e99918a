import type { ByteReader } from '../../bytes/byte-reader.js'
import { CodecError, decodeBlock, loadCodec } from '../../bytes/codecs.js'

/*
 * A file of lzop, all numbers big-endian: magic[9] · u16 version · u16 library · u16 needed (version 0x940 and later) · u8
 * method · u8 level (the same) · u32 flags · u32 filter (flag 0x800) · u32 mode · u32 mtime · u32 mtime high (0x940) · u8
 * length · name · u32 checksum. Blocks: u32 size · u32 stored size · checksums · bytes; a size of 0 ends the file. Stored as it
 * is where both sizes are the same.
 */

const MAGIC_BYTES = 9
const NEW_HEADER = 0x940
const F_ADLER32_D = 1
const F_ADLER32_C = 2
const F_CRC32_D = 0x100
const F_CRC32_C = 0x200
const F_H_FILTER = 0x800
/** what the kernel takes; lzop itself makes blocks of 256 KiB */
const MAX_BLOCK = 256 << 10

const u32 = async (from: ByteReader, field: string): Promise<number> => {
  const bytes = await from.take(4, field)
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
}

/**
 * Unpacks a file of lzop. Its checksums are passed over: the decoder refuses what is no stream of its own.
 *
 * @param begin  called before each block
 * @throws CodecError, CORRUPT  damaged or cut off
 * @see linux lib/decompress_unlzo.c
 */
export async function* unlzop(from: ByteReader, begin: () => void): AsyncGenerator<Uint8Array> {
  await loadCodec('lzo')
  await from.skip(MAGIC_BYTES, 'magic')
  const [high, low] = await from.take(2, 'version')
  const isNew = ((high! << 8) | low!) >= NEW_HEADER
  await from.skip(isNew ? 4 + 1 + 1 : 2 + 1, 'lzop header')
  const flags = await u32(from, 'flags')
  await from.skip((flags & F_H_FILTER ? 4 : 0) + (isNew ? 12 : 8), 'lzop header')
  const [length] = await from.take(1, 'name length')
  await from.skip(length! + 4, 'name')
  const plainSums = (flags & F_ADLER32_D ? 4 : 0) + (flags & F_CRC32_D ? 4 : 0)
  const storedSums = (flags & F_ADLER32_C ? 4 : 0) + (flags & F_CRC32_C ? 4 : 0)
  for (;;) {
    const size = await u32(from, 'block size')
    if (size === 0) return
    begin()
    const stored = await u32(from, 'stored size')
    if (size > MAX_BLOCK || stored > size || stored === 0)
      throw new CodecError(`lzo: a block of ${size} bytes that is stored in ${stored}`)
    await from.skip(plainSums + (stored < size ? storedSums : 0), 'checksums')
    const bytes = await from.take(stored, 'lzo block')
    yield stored === size ? new Uint8Array(bytes) : decodeBlock('lzo', bytes, size)
  }
}
