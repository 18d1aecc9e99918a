import type { Device } from '../../block/device.js'
import { corrupt, unsupported } from '../../error.js'
import { COMPAT, featureNames, INCOMPAT, RO_COMPAT } from './features.js'
import { checkExt4Size, type Ext4Superblock } from './superblock.js'

/** Neighbouring blocks of the filesystem. */
export interface BlockRange {
  readonly start: number
  readonly count: number
}

/** What stands at the start of a group, if anything. Blocks are numbered over the whole filesystem. */
export interface GroupHead {
  readonly superblock: number | undefined
  readonly descriptors: BlockRange | undefined
  readonly reserved: BlockRange | undefined
}

/** How the filesystem is cut into groups, told by the superblock alone. */
export interface Geometry {
  readonly groupCount: number
  readonly descPerBlock: number
  /** blocks that hold the group descriptors, once */
  readonly descBlockCount: number
  /** blocks of a group's inode table */
  readonly inodeTableBlocks: number
  /** blocks of a cluster: 1 unless bigalloc */
  readonly clusterBlocks: number
  /** group descriptors and uninitialised groups are marked with checksums: metadata_csum or uninit_bg */
  readonly groupChecksums: boolean
  groupStart(group: number): number
  /** blocks of a group; the last may be short */
  groupBlocks(group: number): number
  /** block of the n-th block of group descriptors */
  descBlock(index: number): number
  head(group: number): GroupHead
}

const READABLE =
  INCOMPAT.filetype |
  INCOMPAT.needs_recovery |
  INCOMPAT.meta_bg |
  INCOMPAT.extent |
  INCOMPAT['64bit'] |
  INCOMPAT.mmp |
  INCOMPAT.flex_bg |
  INCOMPAT.ea_inode |
  INCOMPAT.metadata_csum_seed |
  INCOMPAT.large_dir |
  INCOMPAT.inline_data |
  INCOMPAT.encrypt |
  INCOMPAT.casefold

/** True for 3, 5 and 7 with their powers: the groups that sparse_super gives copies of the superblock. */
const isPower = (group: number): boolean =>
  [3, 5, 7].some(base => {
    let power = base
    while (power < group) power *= base
    return power === group
  })

/**
 * Checks the counts of a superblock against each other and the device.
 *
 * @throws CORRUPT      counts that no ext filesystem has, or that leave the device
 * @throws UNSUPPORTED  a feature without which the content can't be read
 * @see linux fs/ext4/super.c, ext4_check_geometry, descriptor_loc; fs/ext4/balloc.c, ext4_bg_has_super, ext4_bg_num_gdb
 */
export const parseGeometry = (sb: Ext4Superblock, device: Device): Geometry => {
  if (sb.incompat & INCOMPAT.journal_dev)
    throw unsupported(
      'external journal device',
      device.name,
      'this is the journal of another ext4 filesystem, it holds no files',
    )
  const [unknown] = featureNames(sb.incompat & ~READABLE, INCOMPAT)
  if (unknown !== undefined) throw unsupported(`ext4 feature ${unknown}`, device.name)
  const wrong = (offset: number, field: string, expected: string, found: number) =>
    corrupt({ device: device.name, offset: 1024 + offset, field, expected, found })
  const { blockSize, blockCount, firstDataBlock, blocksPerGroup, inodesPerGroup, clustersPerGroup } = sb
  const clusterBlocks = sb.clusterSize / blockSize
  const most = blockSize * 8
  const first = blockSize === 1024 && clusterBlocks === 1 ? 1 : 0
  if (firstDataBlock !== first) throw wrong(20, 's_first_data_block', String(first), firstDataBlock)
  if (clustersPerGroup < 8 || clustersPerGroup > most || clustersPerGroup % 8 !== 0)
    throw wrong(36, 's_clusters_per_group', `a multiple of 8, at most ${most}`, clustersPerGroup)
  if (blocksPerGroup !== clustersPerGroup * clusterBlocks)
    throw wrong(32, 's_blocks_per_group', String(clustersPerGroup * clusterBlocks), blocksPerGroup)
  const inodesPerBlock = blockSize / sb.inodeSize
  if (inodesPerGroup < inodesPerBlock || inodesPerGroup > most)
    throw wrong(40, 's_inodes_per_group', `${inodesPerBlock} to ${most}`, inodesPerGroup)
  if (sb.firstInode < 11 || sb.firstInode > sb.inodeCount)
    throw wrong(84, 's_first_ino', `11 to ${sb.inodeCount}`, sb.firstInode)
  if (blockCount <= firstDataBlock + 1) throw wrong(4, 's_blocks_count', `at least ${firstDataBlock + 2}`, blockCount)
  checkExt4Size(sb, device)
  const groupCount = Math.ceil((blockCount - firstDataBlock) / blocksPerGroup)
  if (groupCount * inodesPerGroup !== sb.inodeCount)
    throw wrong(0, 's_inodes_count', `${groupCount * inodesPerGroup}, ${inodesPerGroup} a group`, sb.inodeCount)
  const descPerBlock = blockSize / sb.descSize
  const descBlockCount = Math.ceil(groupCount / descPerBlock)
  const metaBg = (sb.incompat & INCOMPAT.meta_bg) !== 0
  const firstMetaBg = metaBg ? sb.firstMetaBg : descBlockCount
  if (firstMetaBg > descBlockCount) throw wrong(260, 's_first_meta_bg', `at most ${descBlockCount}`, firstMetaBg)
  // bigalloc with blocks of 1 KiB: group 0 starts with the boot block
  const bootBlock = blockSize === 1024 && firstDataBlock === 0
  const groupStart = (group: number): number => firstDataBlock + group * blocksPerGroup
  const headStart = (group: number): number => groupStart(group) + (group === 0 && bootBlock ? 1 : 0)
  const lastHead = headStart(0) + 1 + firstMetaBg + (metaBg ? 0 : sb.reservedGdtBlocks)
  if (lastHead > blockCount) throw wrong(206, 's_reserved_gdt_blocks', 'descriptors that fit', sb.reservedGdtBlocks)
  const hasSuper = (group: number): boolean => {
    if (group === 0) return true
    if (sb.compat & COMPAT.sparse_super2) return sb.backupGroups.includes(group)
    return group === 1 || !(sb.roCompat & RO_COMPAT.sparse_super) || isPower(group)
  }
  /** Groups of which the descriptors stand in one block share it in their first, second and last group. */
  const holdsMetaBg = (group: number): boolean => {
    const within = group % descPerBlock
    return within === 0 || within === 1 || within === descPerBlock - 1
  }
  return {
    groupCount,
    descPerBlock,
    descBlockCount,
    inodeTableBlocks: Math.ceil((inodesPerGroup * sb.inodeSize) / blockSize),
    clusterBlocks,
    groupChecksums: (sb.roCompat & (RO_COMPAT.metadata_csum | RO_COMPAT.uninit_bg)) !== 0,
    groupStart,
    groupBlocks: group => Math.min(blocksPerGroup, blockCount - groupStart(group)),
    descBlock(index) {
      if (index < firstMetaBg) return headStart(0) + 1 + index
      const group = index * descPerBlock
      return headStart(group) + (hasSuper(group) ? 1 : 0)
    },
    head(group) {
      const start = headStart(group)
      const copy = hasSuper(group)
      const superblock = copy ? start : undefined
      const behind = start + (copy ? 1 : 0)
      if (group >= firstMetaBg * descPerBlock && metaBg) {
        const descriptors = holdsMetaBg(group) ? { start: behind, count: 1 } : undefined
        return { superblock, descriptors, reserved: undefined }
      }
      if (!copy) return { superblock, descriptors: undefined, reserved: undefined }
      const reservedCount = metaBg ? 0 : sb.reservedGdtBlocks
      return {
        superblock,
        descriptors: firstMetaBg > 0 ? { start: behind, count: firstMetaBg } : undefined,
        reserved: reservedCount > 0 ? { start: behind + firstMetaBg, count: reservedCount } : undefined,
      }
    },
  }
}
