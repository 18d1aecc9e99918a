import { SECTOR } from './layout.js'
import type { Store } from './store.js'

/**
 * The line that `dmsetup status` prints for this store once the kernel has activated it, such as
 * `0 98304 snapshot 560/24576 16`: start and length of the origin, sectors allocated of all, sectors of metadata.
 * Overflow is never in it, as the kernel keeps that in memory only: `full` in the Store says it is coming.
 *
 * @param originSize  bytes
 * @see linux drivers/md/dm-snap.c, snapshot_status
 */
export const statusLine = (store: Store, originSize: number): string => {
  const { state, allocatedSectors, totalSectors, metadataSectors } = store
  const usage = state === 'invalid' ? 'Invalid' : `${allocatedSectors}/${totalSectors} ${metadataSectors}`
  return `0 ${Math.floor(originSize / SECTOR)} snapshot ${usage}`
}
