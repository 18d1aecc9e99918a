import { readBlockMap } from './block-map.js'
import { COMPAT } from './features.js'
import { INODE_FLAG, readInode } from './inode.js'
import type { Volume } from './volume.js'

/** What the filesystem keeps for itself. */
export type MetadataRole =
  | 'boot'
  | 'superblock'
  | 'group descriptors'
  | 'reserved gdt'
  | 'block bitmap'
  | 'inode bitmap'
  | 'inode table'
  | 'journal'
  | 'orphan file'
  | 'quota'
  | 'mmp'

/** Bytes of the device that belong to no file of the tree. */
export interface MetadataRun {
  /** first byte on the device */
  readonly start: number
  readonly length: number
  readonly role: MetadataRole
  /** group that it belongs to, which is not always the one it lies in; undefined of the whole filesystem's */
  readonly group: number | undefined
}

const RESIZE_INODE = 7
/** where i_block of the resize inode names its only block of its own */
const DOUBLE_INDIRECT_AT = 13 * 4

/**
 * All metadata with a place of its own: each group's first, then the journal, quota and orphan files. Blocks of block maps
 * and of extended attributes belong to their inodes.
 *
 * @throws CORRUPT, IO
 */
export async function* metadataRuns(volume: Volume): AsyncIterable<MetadataRun> {
  const { superblock: sb, geometry } = volume
  const { blockSize } = sb
  const run = (role: MetadataRole, group: number | undefined, block: number, count = 1): MetadataRun => ({
    start: block * blockSize,
    length: count * blockSize,
    role,
    group,
  })
  if (blockSize === 1024) yield run('boot', undefined, 0)
  for (let index = 0; index < geometry.groupCount; index++) {
    const { superblock, descriptors, reserved } = geometry.head(index)
    if (superblock !== undefined) yield run('superblock', index, superblock)
    if (descriptors) yield run('group descriptors', index, descriptors.start, descriptors.count)
    if (reserved) yield run('reserved gdt', index, reserved.start, reserved.count)
    const group = await volume.group(index)
    yield run('block bitmap', index, group.blockBitmap)
    yield run('inode bitmap', index, group.inodeBitmap)
    yield run('inode table', index, group.inodeTable, geometry.inodeTableBlocks)
  }
  if (sb.mmpBlock > 0 && volume.holds(sb.mmpBlock)) yield run('mmp', undefined, sb.mmpBlock)
  if (sb.compat & COMPAT.resize_inode) {
    const { i_block } = await readInode(volume, RESIZE_INODE)
    const block = new DataView(i_block.buffer, i_block.byteOffset).getUint32(DOUBLE_INDIRECT_AT, true)
    if (block !== 0 && volume.holds(block)) yield run('reserved gdt', undefined, block)
  }
  const files: readonly (readonly [MetadataRole, number])[] = [
    ['journal', sb.compat & COMPAT.has_journal ? sb.journalInode : 0],
    ['orphan file', sb.orphanFileInode],
    ['quota', sb.userQuotaInode],
    ['quota', sb.groupQuotaInode],
    ['quota', sb.projectQuotaInode],
  ]
  for (const [role, ino] of files) {
    if (ino === 0) continue
    const inode = await readInode(volume, ino)
    if (inode.linkCount === 0 || inode.flags & INODE_FLAG.inlineData) continue
    const map = await readBlockMap(volume, inode)
    for (let n = 0; n < map.count.length; n++) yield run(role, undefined, map.physical[n]!, map.count[n]!)
    for (const block of map.mapBlocks) yield run(role, undefined, block)
  }
}

/** Blocks that metadata take: packed, in order, touching ranges joined. Ends are exclusive. */
export interface MetadataBlocks {
  readonly starts: Float64Array
  readonly ends: Float64Array
}

/** Collects `metadataRuns`. @throws CORRUPT  also where two of them overlap */
export const readMetadataBlocks = async (volume: Volume): Promise<MetadataBlocks> => {
  const { blockSize } = volume.superblock
  const runs: { start: number; end: number; role: MetadataRole }[] = []
  for await (const { start, length, role } of metadataRuns(volume)) {
    const last = runs.at(-1)
    if (last && last.end === start && last.role === role) last.end += length
    else runs.push({ start, end: start + length, role })
  }
  runs.sort((a, b) => a.start - b.start)
  const starts: number[] = []
  const ends: number[] = []
  let before: (typeof runs)[number] | undefined
  for (const run of runs) {
    if (before && run.start < before.end)
      throw volume.wrong(
        run.start,
        run.role,
        `a place apart from ${before.role}`,
        `in bytes ${before.start} to ${before.end}`,
      )
    if (before && run.start === before.end) ends[ends.length - 1] = run.end / blockSize
    else {
      starts.push(run.start / blockSize)
      ends.push(run.end / blockSize)
    }
    before = run
  }
  return { starts: Float64Array.from(starts), ends: Float64Array.from(ends) }
}
