import type { Run } from '../filesystem.js'
import type { Ext4Inode } from './inode.js'
import type { Volume } from './volume.js'
import { inlineRest } from './xattr.js'

const IN_BLOCK = 60

/** Data that stand in the inode: the 60 bytes of i_block, then the value of the attribute system.data. */
export interface InlineData {
  /** one or two pieces */
  readonly pieces: readonly { readonly bytes: Uint8Array /** byte offset on the device */; readonly start: number }[]
}

/**
 * The pieces of an inode with inline data, whole, whatever its size says.
 *
 * @throws CORRUPT  the size is more than there is
 * @see linux fs/ext4/inline.c
 */
export const inlineData = (volume: Volume, inode: Ext4Inode): InlineData => {
  const pieces = [{ bytes: inode.i_block, start: inode.offset + 40 }]
  const rest = inlineRest(volume, inode)
  if (rest?.value && rest.value.length > 0) pieces.push({ bytes: rest.value, start: rest.valueOffset })
  const most = IN_BLOCK + (rest?.value?.length ?? 0)
  if (inode.size > most)
    throw volume.wrong(
      inode.offset + 4,
      `i_size of inode ${inode.ino}, which has its data inside`,
      `at most ${most}`,
      inode.size,
    )
  return { pieces }
}

/** A file's inline data, cut at its size. @throws CORRUPT */
export const inlineBytes = (volume: Volume, inode: Ext4Inode): Uint8Array => {
  const all = Buffer.concat(inlineData(volume, inode).pieces.map(piece => piece.bytes))
  return new Uint8Array(all.subarray(0, inode.size))
}

/** Where a file's inline data stand on the device. @throws CORRUPT */
export const inlineRuns = (volume: Volume, inode: Ext4Inode): Run[] => {
  const runs: Run[] = []
  let offset = 0
  for (const { bytes, start } of inlineData(volume, inode).pieces) {
    const length = Math.min(bytes.length, inode.size - offset)
    if (length > 0) runs.push({ offset, length, start })
    offset += bytes.length
  }
  return runs
}
