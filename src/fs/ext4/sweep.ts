import { isZero } from '../../block/device.js'
import { isLiveError, type LiveError } from '../../error.js'
import { readInodeBitmap } from './bitmap.js'
import { type BlockMap, readBlockMap } from './block-map.js'
import { hasMap } from './content.js'
import { type Ext4Inode, parseInode } from './inode.js'
import type { Volume } from './volume.js'

const PIECE = 1 << 20

/** How to go through the inodes. */
export interface SweepOptions {
  /** Told of each inode that is broken, which is then passed over; without it the first one ends the sweep. */
  readonly onCorrupt?: (error: LiveError, ino: number) => void
}

/** A piece of an inode table: from the first inode in use to the last. */
interface Piece {
  /** inode number of the first */
  readonly ino: number
  readonly count: number
  /** byte offset on the device */
  readonly at: number
  isUsed(n: number): boolean
}

async function* usedPieces(volume: Volume): AsyncGenerator<Piece, void> {
  const { inodeSize, inodesPerGroup, blockSize } = volume.superblock
  const perPiece = PIECE / inodeSize
  for (let index = 0; index < volume.geometry.groupCount; index++) {
    const group = await volume.group(index)
    const bitmap = await readInodeBitmap(volume, group)
    if (!bitmap) continue
    const isUsed = (n: number): boolean => ((bitmap[n >>> 3]! >>> (n & 7)) & 1) === 1
    const everUsed = inodesPerGroup - group.unusedInodes
    for (let n = everUsed; n < inodesPerGroup; n++)
      if (isUsed(n))
        throw volume.wrong(
          group.inodeBitmap * blockSize,
          `inode bitmap of group ${index}`,
          `nothing used from inode ${everUsed} of the group`,
          `inode ${n} used`,
        )
    for (let start = 0; start < everUsed; start += perPiece) {
      let first = start
      let end = Math.min(start + perPiece, everUsed)
      while (first < end && !isUsed(first)) first++
      while (end > first && !isUsed(end - 1)) end--
      if (first < end)
        yield {
          ino: index * inodesPerGroup + first + 1,
          count: end - first,
          at: group.inodeTable * blockSize + first * inodeSize,
          isUsed: n => isUsed(first + n),
        }
    }
  }
}

/** Inodes as they are asked for: errors come in their order, between what the caller does with them. */
function* inodesIn(
  volume: Volume,
  { ino: first, count, at, isUsed }: Piece,
  bytes: Uint8Array,
  onCorrupt: SweepOptions['onCorrupt'],
): Iterable<Ext4Inode> {
  const { inodeSize } = volume.superblock
  for (let n = 0; n < count; n++) {
    if (!isUsed(n)) continue
    const skip = n * inodeSize
    let inode: Ext4Inode
    try {
      inode = parseInode(volume, first + n, bytes.subarray(skip, skip + inodeSize), at + skip)
    } catch (error) {
      if (!onCorrupt || !isLiveError(error)) throw error
      onCorrupt(error, first + n)
      continue
    }
    if (inode.kind !== undefined || inode.linkCount > 0 || !isZero(inode.i_block)) yield inode
  }
}

/**
 * All inodes in use, in the order of their tables, those of a large piece together, each row to be gone over once; an inode that is kept keeps its piece. Those
 * of the system are among them, except where nothing was ever written to them. One piece is read ahead.
 *
 * @throws CORRUPT, IO
 */
export async function* sweepInodes(
  volume: Volume,
  { onCorrupt }: SweepOptions = {},
): AsyncIterable<Iterable<Ext4Inode>> {
  const pieces = usedPieces(volume)[Symbol.asyncIterator]()
  const next = async (): Promise<(() => Promise<Iterable<Ext4Inode>>) | undefined> => {
    try {
      const { value: piece, done } = await pieces.next()
      if (done) return undefined
      const reading = volume.device.read(piece.at, piece.count * volume.superblock.inodeSize)
      reading.catch(() => {})
      return async () => inodesIn(volume, piece, await reading, onCorrupt)
    } catch (error) {
      // When its turn comes: what is before it comes first.
      return async () => Promise.reject(error)
    }
  }
  for (let take = await next(); take; ) {
    const following = await next()
    yield await take()
    take = following
  }
}

/** Bytes of the device that an inode has for itself. */
export interface OwnedRun {
  /** first byte on the device */
  readonly start: number
  readonly length: number
  /** its content, the blocks that tell where that is, or extended attributes, which several inodes may share */
  readonly role: 'data' | 'map' | 'xattr'
}

const runsIn = (volume: Volume, inode: Ext4Inode, map: BlockMap | undefined): readonly OwnedRun[] => {
  const { blockSize } = volume.superblock
  const runs: { start: number; length: number; role: OwnedRun['role'] }[] = []
  const add = (role: OwnedRun['role'], block: number, count: number): void => {
    const [start, length] = [block * blockSize, count * blockSize]
    const last = runs.at(-1)
    if (last && last.role === role && last.start + last.length === start) last.length += length
    else runs.push({ start, length, role })
  }
  if (map) {
    for (let n = 0; n < map.count.length; n++) add('data', map.physical[n]!, map.count[n]!)
    for (const block of map.mapBlocks) add('map', block, 1)
  }
  if (inode.fileAcl !== 0) {
    if (!volume.holds(inode.fileAcl))
      throw volume.wrong(inode.offset + 104, `i_file_acl of inode ${inode.ino}`, 'in the filesystem', inode.fileAcl)
    add('xattr', inode.fileAcl, 1)
  }
  return runs
}

/**
 * The blocks of an inode: all that are mapped, those behind the file's end and never written ones too. Data in the inode
 * itself are not told. Like `readBlockMap` it waits only where it must.
 *
 * @throws CORRUPT, IO
 */
export const ownedRuns = (volume: Volume, inode: Ext4Inode): readonly OwnedRun[] | Promise<readonly OwnedRun[]> => {
  const map = hasMap(volume, inode) ? readBlockMap(volume, inode) : undefined
  return map instanceof Promise ? map.then(read => runsIn(volume, inode, read)) : runsIn(volume, inode, map)
}
