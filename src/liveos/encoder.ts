import { availableParallelism } from 'node:os'
import type { BlockEncoder, Compressor } from '../bytes/codec.js'
import { canEncode } from '../bytes/codecs.js'
import { poolEncoder } from '../bytes/encoder.js'
import type { CodecPool } from '../bytes/pool.js'
import { compressesZstdFast } from '../bytes/zstd.js'
import { unsupported } from '../error.js'
import { batchEncoder } from '../fs/squashfs/batch.js'
import { findMksquashfs, hasCompressor } from '../host/mksquashfs.js'

/** What will compress, and how it is called. */
export interface ChosenEncoder {
  readonly encode: BlockEncoder
  /** such as "mksquashfs 4.5.1" */
  readonly name: string
}

/** True for codecs of this process that are as fast as the ones in mksquashfs, which shares the processors with what feeds it. */
const isFastHere = (name: Compressor['name']): boolean => name === 'gzip' || (name === 'zstd' && compressesZstdFast())

/**
 * Chooses what compresses: mksquashfs where it is installed, as it has every filter and runs at native speed; codecs of
 * this process where they are as good, or where it is missing.
 *
 * @throws UNSUPPORTED  nothing here can write this compressor with these options
 */
export const chooseEncoder = async (compressor: Compressor, pool: CodecPool): Promise<ChosenEncoder> => {
  const here: ChosenEncoder | undefined = canEncode(compressor)
    ? { encode: poolEncoder(pool), name: `${compressor.name} in ${pool.threads} threads` }
    : undefined
  if (here && isFastHere(compressor.name)) return here
  const tool = compressor.name === 'lzma' ? undefined : await findMksquashfs()
  if (tool && hasCompressor(tool, compressor.name))
    return { encode: batchEncoder(tool.start, availableParallelism()), name: `mksquashfs ${tool.version}` }
  if (here) return here
  if (compressor.name === 'lzma')
    throw unsupported(
      'writing lzma',
      'squashfs',
      'kernels do not mount a squashfs compressed with lzma, so none is written: choose another compressor with --comp xz',
    )
  throw unsupported(
    `writing ${compressor.name} without squashfs-tools`,
    'squashfs',
    `writing ${compressor.name} with these options wants mksquashfs 4.5 or later with that compressor: install the package squashfs-tools, and leave it 256 MiB in TMPDIR`,
  )
}
