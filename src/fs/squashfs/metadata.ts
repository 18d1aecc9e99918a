import type { Device } from '../../block/device.js'
import type { CompressorName } from '../../bytes/codec.js'
import { decodeBlock } from '../../bytes/codecs.js'
import { openRecent } from '../../bytes/recent.js'
import { corrupt, isLiveError } from '../../error.js'
import { METADATA_SIZE, METADATA_STORED } from './layout.js'

const CACHED_BLOCKS = 128

interface MetadataBlock {
  readonly bytes: Uint8Array
  /** position of the following block in the image */
  readonly next: number
}

/** Bytes read across metadata blocks, and where reading can go on. */
export interface MetadataRead {
  readonly bytes: Uint8Array
  /** position of the block, in the image, and byte in it, behind what was read */
  readonly position: number
  readonly offset: number
}

/** Reads expanded metadata of one image. Positions are bytes in the image; every table is bounded by its end. */
export interface MetadataReader {
  /**
   * Reads `length` expanded bytes from byte `offset` of the block at `position`, on into the following blocks.
   *
   * @param end  position in the image that the table doesn't cross
   * @throws CORRUPT  the table ends before, or a block can't be expanded
   */
  read(position: number, offset: number, length: number, end: number, field: string): Promise<MetadataRead>
  /** The expanded block at `position` where a read left it in memory, not to be changed; undefined where it is to be read. */
  kept(position: number): Uint8Array | undefined
}

/** Parts behind each other, `length` bytes together. */
export const joinParts = (parts: readonly Uint8Array[], length: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** Opens the metadata of an image; keeps up to 128 blocks (1 MiB) expanded. */
export const openMetadata = (image: Device, compression: CompressorName): MetadataReader => {
  const kept = openRecent<number, MetadataBlock>(CACHED_BLOCKS)
  /** the block used last, which needs no look-up */
  let latest: { readonly position: number; readonly block: MetadataBlock } | undefined

  const keptBlock = (position: number): MetadataBlock | undefined => {
    if (latest?.position === position) return latest.block
    const known = kept.get(position)
    if (!known) return undefined
    latest = { position, block: known }
    return known
  }
  const block = async (position: number, end: number, field: string): Promise<MetadataBlock> => {
    const known = keptBlock(position)
    if (known) return known
    const bad = (expected: string, found: string | number, offset = position, cause?: unknown) =>
      corrupt({ device: image.name, offset, field: `${field} (metadata block)`, expected, found }, cause)
    if (position + 2 > end) throw bad(`inside the table, which ends at ${end}`, position)
    const header = await image.read(position, 2)
    const word = header[0]! | (header[1]! << 8)
    const length = word & (METADATA_STORED - 1)
    if (length === 0 || length > METADATA_SIZE || position + 2 + length > end)
      throw bad(`1 to ${Math.min(METADATA_SIZE, end - position - 2)} bytes`, length)
    const stored = await image.read(position + 2, length)
    let bytes: Uint8Array
    try {
      bytes = word & METADATA_STORED ? stored : decodeBlock(compression, stored, METADATA_SIZE)
    } catch (error) {
      if (isLiveError(error)) throw error
      throw bad(`${compression} data`, `${length} bytes that can't be expanded`, position + 2, error)
    }
    if (bytes.length === 0) throw bad('expanded bytes', 'none', position + 2)
    const found = { bytes, next: position + 2 + length }
    kept.set(position, found, 1)
    return found
  }

  return {
    kept: position => keptBlock(position)?.bytes,
    async read(position, offset, length, end, field) {
      // expanded bytes are at most 8 KiB for each 3 on the medium: a longer claim is refused before it is allocated
      if (length > Math.ceil((end - position) / 3) * METADATA_SIZE)
        throw corrupt({
          device: image.name,
          offset: position,
          field,
          expected: `at most what the table ending at ${end} can hold`,
          found: length,
        })
      // The bound above is far from what really stands there, so memory grows with what was read.
      const parts: Uint8Array[] = []
      // Nothing may stand behind the last block's last byte.
      if (length === 0) return { bytes: new Uint8Array(0), position, offset }
      let at = position
      let skip = offset
      for (let done = 0; ; ) {
        const { bytes: expanded, next } = await block(at, end, field)
        if (skip >= expanded.length)
          throw corrupt({
            device: image.name,
            offset: at,
            field,
            expected: `a byte below ${expanded.length} in its block`,
            found: skip,
          })
        const part = expanded.subarray(skip, Math.min(expanded.length, skip + length - done))
        parts.push(part)
        done += part.length
        if (done === length) {
          const inside = skip + part.length < expanded.length
          return inside
            ? { bytes: joinParts(parts, length), position: at, offset: skip + part.length }
            : { bytes: joinParts(parts, length), position: next, offset: 0 }
        }
        at = next
        skip = 0
      }
    },
  }
}
