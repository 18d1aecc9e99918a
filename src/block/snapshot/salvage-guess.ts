import type { Device } from '../device.js'
import { exceptionsPerArea, MAX_CHUNK_SECTORS, SECTOR } from './layout.js'
import { readEntries } from './salvage-list.js'

/**
 * Finds the chunk size of a store without a usable header by the lists that it would have: the size with the longest list that
 * starts as every list does, with the chunk behind its area. 8 sectors, the size of LiveOS, wins where two are alike.
 *
 * @returns  sectors; undefined where no size gives a list
 */
export const guessChunkSectors = async (cow: Device, originBytes: number): Promise<number | undefined> => {
  let best: { chunkSectors: number; count: number } | undefined
  for (const chunkSectors of [8, 1, 2, 4, 16, 32, 64, 128, 256, 512, 1024, MAX_CHUNK_SECTORS]) {
    const chunkSize = chunkSectors * SECTOR
    const chunkCount = Math.floor(cow.size / chunkSize)
    if (chunkCount < 3) continue
    const perArea = exceptionsPerArea(chunkSize)
    const originChunks = Math.ceil(originBytes / chunkSize)
    const { newChunks, tear } = await readEntries(cow, { chunkSize, perArea, chunkCount, originChunks })
    const count = newChunks.length
    if (count === 0 || newChunks.reduce((least, chunk) => Math.min(least, chunk)) !== 2) continue
    // An area that makes no sense after a few entries is another size's data.
    if (tear && tear.kind !== 'truncated' && count < perArea) continue
    if (!best || count > best.count) best = { chunkSectors, count }
  }
  return best?.chunkSectors
}
