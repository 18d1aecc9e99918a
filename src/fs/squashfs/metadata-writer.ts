import type { Compressor } from '../../bytes/codec.js'
import { canEncode, encodeBlock } from '../../bytes/codecs.js'
import { METADATA_SIZE, METADATA_STORED } from './layout.js'

/** Collects metadata into blocks of 8 KiB and packs each as soon as it is full, since what follows refers to packed positions. */
export interface MetadataWriter {
  /** where the next byte will stand: packed position from the table's start, and byte in the expanded block */
  here(): { readonly block: number; readonly offset: number }
  write(bytes: Uint8Array): void
  /** packs what is left; the whole table, and the position of each block in it */
  finish(): { readonly bytes: Uint8Array; readonly blocks: readonly number[] }
}

/** How metadata is packed: in this process where it has the encoder, otherwise stored as it is (which every reader takes). */
export type MetadataPacker = (bytes: Uint8Array) => Uint8Array | undefined

/**
 * Packer of a compressor. Branch filters are left out: they find no code in tables.
 *
 * @param raw  the image keeps this table uncompressed
 */
export const metadataPacker = (compressor: Compressor, blockSize: number, raw: boolean): MetadataPacker => {
  const plain: Compressor = compressor.name === 'xz' ? { ...compressor, filters: 0 } : compressor
  if (raw || !canEncode(plain)) return () => undefined
  return bytes => encodeBlock(plain, bytes, Math.max(blockSize, METADATA_SIZE))
}

/** Opens an empty table. */
export const metadataWriter = (pack: MetadataPacker): MetadataWriter => {
  const parts: Uint8Array[] = []
  const blocks: number[] = []
  const block = new Uint8Array(METADATA_SIZE)
  let filled = 0
  let position = 0

  const packBlock = (): void => {
    const expanded = block.slice(0, filled)
    const packed = pack(expanded)
    const bytes = packed && packed.length < expanded.length ? packed : expanded
    const header = bytes.length | (bytes === expanded ? METADATA_STORED : 0)
    parts.push(Uint8Array.of(header & 0xff, header >>> 8), bytes)
    blocks.push(position)
    position += 2 + bytes.length
    filled = 0
  }
  return {
    here: () => ({ block: position, offset: filled }),
    write(bytes) {
      for (let at = 0; at < bytes.length; ) {
        const part = bytes.subarray(at, at + METADATA_SIZE - filled)
        block.set(part, filled)
        filled += part.length
        at += part.length
        if (filled === METADATA_SIZE) packBlock()
      }
    },
    finish() {
      if (filled > 0) packBlock()
      return { bytes: Buffer.concat(parts), blocks }
    },
  }
}
