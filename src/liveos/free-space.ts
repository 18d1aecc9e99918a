import { type ByteRuns, runKeeper } from '../block/byte-runs.js'
import type { Device } from '../block/device.js'
import { isLiveError } from '../error.js'
import { freeByGroup, freeInodesOf } from '../fs/ext4/bitmap.js'
import { COMPAT, featureNames, RO_COMPAT } from '../fs/ext4/features.js'
import type { Ext4Inode } from '../fs/ext4/inode.js'
import type { Ext4Superblock } from '../fs/ext4/superblock.js'
import { type OwnedRun, ownedRuns, sweepInodes } from '../fs/ext4/sweep.js'
import { openVolume, type Volume } from '../fs/ext4/volume.js'

/** What a filesystem has free, in bytes of its device. */
export interface FreeSpace {
  readonly runs: ByteRuns
  /** bytes in the shortest runs, left out where there are too many */
  readonly leftOut: number
}

/** Why nothing may be taken for free: the end of a sentence. */
export interface Doubt {
  readonly doubt: string
  /** the filesystem itself is marked as damaged */
  readonly hasErrors?: true
}

/** Runs that are kept; 16 bytes each, and once more while they are collected. */
const MOST_RUNS = 1 << 19

/** Features with which a free block is still one that nobody reads. Unknown ones may keep data there, as snapshots did. */
const KNOWN = {
  compat:
    COMPAT.dir_prealloc |
    COMPAT.imagic_inodes |
    COMPAT.has_journal |
    COMPAT.ext_attr |
    COMPAT.resize_inode |
    COMPAT.dir_index |
    COMPAT.sparse_super2 |
    COMPAT.fast_commit |
    COMPAT.stable_inodes |
    COMPAT.orphan_file,
  roCompat:
    RO_COMPAT.sparse_super |
    RO_COMPAT.large_file |
    RO_COMPAT.btree_dir |
    RO_COMPAT.huge_file |
    RO_COMPAT.uninit_bg |
    RO_COMPAT.dir_nlink |
    RO_COMPAT.extra_isize |
    RO_COMPAT.quota |
    RO_COMPAT.bigalloc |
    RO_COMPAT.metadata_csum |
    RO_COMPAT['read-only'] |
    RO_COMPAT.project |
    RO_COMPAT.shared_blocks |
    RO_COMPAT.verity |
    RO_COMPAT.orphan_present,
} as const

/** What the superblock says against believing the bitmaps; undefined for nothing. */
const doubtOf = (sb: Ext4Superblock): Doubt | undefined => {
  if (sb.hasErrors || sb.errorCount > 0)
    return { doubt: `it carries the mark of errors (${sb.errorCount} counted)`, hasErrors: true }
  if (sb.needsRecovery) return { doubt: 'its journal was not replayed' }
  // With a journal the kernel keeps this mark while it is mounted, as the journal makes up for it.
  if (!sb.clean) return { doubt: 'it was not unmounted cleanly, and no journal makes up for that' }
  const unknown = [
    ...featureNames(sb.compat & ~KNOWN.compat, COMPAT),
    ...featureNames(sb.roCompat & ~KNOWN.roCompat, RO_COMPAT),
  ]
  return unknown.length > 0 ? { doubt: `it has the feature ${unknown.join(', ')}, which is not known here` } : undefined
}

/**
 * What an ext2, ext3 or ext4 filesystem has free, or why that can't be known for certain. Blocks count as free where all of
 * this holds for the whole filesystem:
 *
 * - it was unmounted cleanly, or its journal was replayed; it carries no mark of errors and no unknown feature
 * - checksums of descriptors and bitmaps fit where there are any
 * - each group's count of free clusters and of free inodes is that of its bitmaps
 * - no metadata lies in free blocks: group heads, reserved descriptors, bitmaps, inode tables, journal, quota, orphan file, MMP
 * - every inode in use can be read and owns no free block. Orphans own theirs until somebody finishes them
 *
 * The last needs all inode tables, some hundred MB a second. It is what tells an overlay over a base that is not its own, and
 * a stale bitmap where no checksum covers it.
 *
 * @param device  with its journal replayed
 * @param most    runs that are kept
 * @throws IO
 */
export const readFreeSpace = async (device: Device, most = MOST_RUNS): Promise<FreeSpace | Doubt> => {
  try {
    const volume = await openVolume(device)
    const doubt = doubtOf(volume.superblock)
    if (doubt) return doubt
    const keeper = runKeeper(most)
    const { blockSize } = volume.superblock
    for await (const { group, ranges, clusters } of freeByGroup(volume)) {
      const differs = (field: string, expected: number, found: number) =>
        volume.wrong(group.blockBitmap * blockSize, `${field} of group ${group.index}`, expected, found)
      if (clusters !== group.freeClusters) throw differs('free clusters', group.freeClusters, clusters)
      const inodes = (await freeInodesOf(volume, group)).reduce((sum, { count }) => sum + count, 0)
      if (inodes !== group.freeInodes) throw differs('free inodes', group.freeInodes, inodes)
      for (const [from, to] of ranges) keeper.add(from * blockSize, (to - from) * blockSize)
    }
    const runs = keeper.runs()
    await checkOwners(volume, runs)
    return { runs, leftOut: keeper.leftOut }
  } catch (error) {
    if (isLiveError(error) && (error.code === 'CORRUPT' || error.code === 'UNSUPPORTED'))
      return { doubt: `what it has free can't be told (${error.message})` }
    throw error
  }
}

/** @throws CORRUPT  an inode can't be read, or owns a block that is free */
const checkOwners = async (volume: Volume, free: ByteRuns): Promise<void> => {
  const check = ({ ino, offset }: Ext4Inode, runs: readonly OwnedRun[]): void => {
    for (const { start, length } of runs)
      if (free.touches(start, start + length))
        throw volume.wrong(offset, `blocks of inode ${ino}`, 'used', `bytes ${start} to ${start + length} free`)
  }
  for await (const inodes of sweepInodes(volume))
    for (const inode of inodes) {
      const runs = ownedRuns(volume, inode)
      check(inode, runs instanceof Promise ? await runs : runs)
    }
}
