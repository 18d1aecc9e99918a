import {
  areaChunk,
  encodeArea,
  encodeHeader,
  exceptionsPerArea,
  isAreaChunk,
  SECTOR,
  SNAP_MAGIC,
} from '../../src/block/snapshot/layout.js'

/** One chunk of the origin that was changed, and its new content. */
export interface ChangedChunk {
  readonly oldChunk: number
  readonly content: Uint8Array
}

/**
 * A store as the kernel leaves it after these changes, in this order. For tests only: it holds everything in memory.
 *
 * @param slack  chunks of free room behind the last one used
 */
export const storeOf = (changes: readonly ChangedChunk[], chunkSectors: number, slack = 1): Uint8Array => {
  const chunkSize = chunkSectors * SECTOR
  const perArea = exceptionsPerArea(chunkSize)
  const areas = Math.floor(changes.length / perArea) + 1
  let free = 2
  const entries = changes.map(({ oldChunk }) => {
    const entry = { old_chunk: oldChunk, new_chunk: free++ }
    if (isAreaChunk(free, perArea)) free++
    return entry
  })
  const chunks = Math.max(free, areaChunk(areas - 1, perArea) + 1) + slack
  // What the kernel did not write is not zero on a real stick.
  const bytes = new Uint8Array(chunks * chunkSize).fill(0x5a)
  bytes.fill(0, 0, chunkSize)
  bytes.set(encodeHeader({ magic: SNAP_MAGIC, valid: 1, version: 1, chunk_size: chunkSectors }))
  for (let area = 0; area < areas; area++)
    bytes.set(
      encodeArea(entries.slice(area * perArea, (area + 1) * perArea), chunkSize),
      areaChunk(area, perArea) * chunkSize,
    )
  for (const [index, { content }] of changes.entries()) bytes.set(content, entries[index]!.new_chunk * chunkSize)
  return bytes
}
