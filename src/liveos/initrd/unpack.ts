import type { ByteReader } from '../../bytes/byte-reader.js'
import { CodecError, decodeBlock, loadCodec } from '../../bytes/codecs.js'
import { corrupt, isLiveError, unsupported } from '../../error.js'
import type { Packing } from './compression.js'
import { gunzip } from './gunzip.js'
import { unlzop } from './unlzop.js'
import { unxz } from './unxz.js'
import { unzstd } from './unzstd.js'

/** bytes that an initrd may have unpacked: beyond it, it is no initrd but a bomb */
export const MAX_UNPACKED = 2 * 2 ** 30

/** Members, frames and blocks of all pieces. The blocks of lzop are the smallest that anybody makes: 256 KiB unpacked. */
const MAX_PARTS = MAX_UNPACKED / (256 << 10)

/** What is left for all pieces of an initrd: of `MAX_UNPACKED`, and of the parts that its streams may be made of. */
export interface Budget {
  left: number
  parts: number
}

/** What an initrd may have. */
export const wholeBudget = (): Budget => ({ left: MAX_UNPACKED, parts: MAX_PARTS })

const LZ4_BLOCK = 8 << 20
/** a byte stands for so many at most, in a length that goes on */
const LZ4_RATIO = 256
/** what LZ4_compressBound gives for such a block */
const LZ4_STORED = LZ4_BLOCK + Math.floor(LZ4_BLOCK / 255) + 16

/** `lz4 -l`: a magic, then blocks with their sizes before them. What can't be a size is what comes behind. */
async function* unlz4(from: ByteReader, begin: () => void): AsyncGenerator<Uint8Array> {
  await loadCodec('lz4')
  await from.skip(4, 'magic')
  for (;;) {
    const head = await from.peek(4)
    if (head.length < 4) return
    const size = new DataView(head.buffer, head.byteOffset).getUint32(0, true)
    if (size === 0 || size > LZ4_STORED) return
    begin()
    from.advance(4)
    yield decodeBlock('lz4', await from.take(size, 'lz4 block'), Math.min(LZ4_BLOCK, size * LZ4_RATIO))
  }
}

const chunksIn = (packing: Packing, from: ByteReader, budget: Budget): AsyncGenerator<Uint8Array> => {
  const begin = (): void => {
    if (--budget.parts < 0) throw new CodecError(`${packing}: more than ${MAX_PARTS} parts`)
  }
  switch (packing) {
    case 'gzip':
      return gunzip(from, begin)
    case 'xz':
      return unxz(from)
    case 'zstd':
      return unzstd(from, budget.left, begin)
    case 'lz4':
      return unlz4(from, begin)
    case 'lzo':
      return unlzop(from, begin)
    default:
      throw unsupported(
        `initrd compressed with ${packing}`,
        from.name,
        `this initrd is compressed with ${packing}, which is not read here: what is in it is not known`,
      )
  }
}

/**
 * Unpacks a piece of an initrd in chunks; the reader stands behind the piece at the end.
 *
 * @param budget  what is unpacked is taken from it
 * @throws CORRUPT      it is damaged, or unpacks to more than the budget
 * @throws UNSUPPORTED  nothing here unpacks it
 */
export async function* unpack(packing: Packing, from: ByteReader, budget: Budget): AsyncGenerator<Uint8Array> {
  const start = from.offset
  try {
    for await (const chunk of chunksIn(packing, from, budget)) {
      budget.left -= chunk.length
      if (budget.left < 0) throw tooLarge(from.name, start)
      if (chunk.length > 0) yield chunk
    }
  } catch (error) {
    if (isLiveError(error) || !(error instanceof CodecError)) throw error
    const found = error.message
    throw corrupt({ device: from.name, offset: start, field: packing, expected: 'a whole stream', found }, error)
  }
}

/** The error of what unpacks to more than an initrd may have. */
export const tooLarge = (device: string, offset: number) =>
  corrupt({ device, offset, field: 'unpacked size', expected: `at most ${MAX_UNPACKED} bytes`, found: 'more' })
