import { COMPAT, INCOMPAT, RO_COMPAT } from '../../fs/ext4/features.js'
import { readInode } from '../../fs/ext4/inode.js'
import { metadataRuns } from '../../fs/ext4/metadata.js'
import type { Volume } from '../../fs/ext4/volume.js'

/** The numbers of `df` for a filesystem, as statfs would give them once it is mounted. All are bytes but the inodes. */
export interface FreeSpace {
  readonly blockSize: number
  /** without what the filesystem keeps for itself */
  readonly totalBytes: number
  readonly freeBytes: number
  /** for everyone but root */
  readonly availableBytes: number
  readonly inodes: number
  readonly freeInodes: number
}

/** Clusters that the kernel keeps back so that delayed writes never fail: a fiftieth, at most 4096. */
const KEPT_SHARE = 50
const KEPT_MOST = 4096

const overheadBlocks = async (volume: Volume): Promise<number> => {
  const { superblock: sb, geometry } = volume
  // With clusters the kernel believes the number in the superblock, as long as it can be.
  const stored = sb.overheadBlocks * geometry.clusterBlocks
  if (sb.roCompat & RO_COMPAT.bigalloc && stored > 0 && stored <= sb.blockCount) return stored
  let blocks = sb.firstDataBlock
  for await (const { length, role, group } of metadataRuns(volume))
    if (group !== undefined && role !== 'journal') blocks += length / sb.blockSize
  if (sb.compat & COMPAT.has_journal && sb.journalInode > 0)
    blocks += Math.floor((await readInode(volume, sb.journalInode)).size / sb.blockSize)
  return blocks
}

/**
 * Reads what `df` would say. Files that were deleted while open are still counted as used, until a mount clears them away.
 *
 * @throws CORRUPT, IO
 * @see linux fs/ext4/super.c, ext4_statfs, ext4_calculate_overhead, ext4_set_resv_clusters
 */
export const readFreeSpace = async (volume: Volume): Promise<FreeSpace> => {
  const { superblock: sb, geometry } = volume
  const { blockSize } = sb
  let freeClusters = 0
  let freeInodes = 0
  for (let index = 0; index < geometry.groupCount; index++) {
    const group = await volume.group(index)
    freeClusters += group.freeClusters
    freeInodes += group.freeInodes
  }
  const { clusterBlocks } = geometry
  const clusters = Math.floor(sb.blockCount / clusterBlocks)
  const kept =
    sb.incompat & INCOMPAT.extent ? Math.min(Math.floor(clusters / KEPT_SHARE), KEPT_MOST) * clusterBlocks : 0
  const free = freeClusters * clusterBlocks
  return {
    blockSize,
    totalBytes: Math.max(0, sb.blockCount - (await overheadBlocks(volume))) * blockSize,
    freeBytes: free * blockSize,
    availableBytes: Math.max(0, free - sb.reservedBlockCount - kept) * blockSize,
    inodes: sb.inodeCount,
    freeInodes,
  }
}
