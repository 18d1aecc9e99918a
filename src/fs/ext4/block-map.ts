import { isZero } from '../../block/device.js'
import { crc32c } from '../../bytes/crc32c.js'
import { RO_COMPAT } from './features.js'
import { type Ext4Inode, INODE_FLAG } from './inode.js'
import { hex, type Volume } from './volume.js'

/*
 * Without extents i_block holds 15 block numbers: 12 of data, then one each of a block of block numbers, of a block of
 * such blocks, and of a block of those. 0 is a hole.
 *
 * With extents i_block, and each block of the tree, holds a header and entries, 12 bytes each, little endian:
 *
 *   header   0 u16 eh_magic   2 u16 eh_entries   4 u16 eh_max   6 u16 eh_depth   8 u32 eh_generation
 *   extent   0 u32 ee_block   4 u16 ee_len       6 u16 ee_start_hi               8 u32 ee_start_lo
 *   index    0 u32 ei_block   4 u32 ei_leaf_lo   8 u16 ei_leaf_hi               10 u16 ei_unused
 *
 * ee_len above 32768 is an extent of ee_len - 32768 blocks that were never written. Behind eh_max entries a block of the
 * tree ends with u32 et_checksum: CRC-32C(seed of the inode; what is before it).
 */

const EH_MAGIC = 0xf30a
const MAX_DEPTH = 5
const ENTRY = 12
const MAX_WRITTEN = 32_768
const DIRECT = 12
/** No extent may reach past this block of a file. */
const LOGICAL_END = 2 ** 32

/** Where an inode's blocks are: packed runs in the file's order, neighbours joined. Holes are left out. */
export interface BlockMap {
  /** of each run: first block in the file, first block on the device, blocks */
  readonly logical: readonly number[]
  readonly physical: readonly number[]
  readonly count: readonly number[]
  /** of each run: allocated but never written, reads as zeros */
  readonly unwritten: readonly boolean[]
  /** blocks of the map itself */
  readonly mapBlocks: readonly number[]
}

class Builder implements BlockMap {
  readonly logical: number[] = []
  readonly physical: number[] = []
  readonly count: number[] = []
  readonly unwritten: boolean[] = []
  readonly mapBlocks: number[] = []
  #mapped = 0
  readonly #volume: Volume
  readonly #inode: Ext4Inode
  readonly #most: number
  #known: Set<number> | undefined

  constructor(volume: Volume, inode: Ext4Inode) {
    this.#volume = volume
    this.#inode = inode
    const { blockCount, roCompat } = volume.superblock
    // One block may stand in a file several times only where blocks are shared.
    this.#most = roCompat & RO_COMPAT.shared_blocks ? blockCount * 16 : blockCount
  }

  /** @param at  byte offset of the entry that says so */
  add(at: number, logical: number, physical: number, count: number, unwritten: boolean): void {
    this.#check(at, 'data block', physical, count)
    this.#mapped += count
    this.#limit(at, this.#mapped)
    const last = this.count.length - 1
    if (
      last >= 0 &&
      this.unwritten[last] === unwritten &&
      this.logical[last]! + this.count[last]! === logical &&
      this.physical[last]! + this.count[last]! === physical
    ) {
      this.count[last]! += count
      return
    }
    this.logical.push(logical)
    this.physical.push(physical)
    this.count.push(count)
    this.unwritten.push(unwritten)
  }

  addMap(at: number, block: number): void {
    this.#check(at, 'map block', block, 1)
    // Else a few blocks that name each other would make a map of any length.
    this.#known ??= new Set()
    if (this.#known.has(block))
      throw this.#volume.wrong(at, `map block of inode ${this.#inode.ino}`, 'a block of its own', `${block} again`)
    this.#known.add(block)
    this.mapBlocks.push(block)
  }

  #check(at: number, field: string, block: number, count: number): void {
    const { superblock: sb } = this.#volume
    if (!this.#volume.holds(block, count))
      throw this.#volume.wrong(
        at,
        `${field} of inode ${this.#inode.ino}`,
        `${sb.firstDataBlock + 1} to ${sb.blockCount - count}`,
        block,
      )
  }

  #limit(at: number, count: number): void {
    if (count > this.#most)
      throw this.#volume.wrong(at, `blocks of inode ${this.#inode.ino}`, `at most ${this.#most}`, count)
  }
}

/** Reads nodes of an extent tree, the root first and each below it in the file's order. */
const extentReader = (volume: Volume, inode: Ext4Inode, to: Builder) => {
  const { blockSize, metadataCsum } = volume.superblock
  const wrong = (at: number, field: string, expected: string | number, found: string | number) =>
    volume.wrong(at, `${field} of inode ${inode.ino}`, expected, found)
  /** first block of the file that no entry so far has reached */
  let reached = 0

  /** Level and number of entries. `depth` is what the level must be; undefined for the root. */
  const header = (bytes: Uint8Array, view: DataView, at: number, depth?: number): readonly [number, number] => {
    const root = depth === undefined
    const magic = view.getUint16(0, true)
    if (magic !== EH_MAGIC) throw wrong(at, 'eh_magic', hex(EH_MAGIC), hex(magic))
    const entries = view.getUint16(2, true)
    const max = view.getUint16(4, true)
    const level = view.getUint16(6, true)
    const room = Math.floor((bytes.length - ENTRY) / ENTRY)
    if (max === 0 || max > room) throw wrong(at + 4, 'eh_max', `1 to ${room}`, max)
    if (root ? level > MAX_DEPTH : level !== depth)
      throw wrong(at + 6, 'eh_depth', root ? `at most ${MAX_DEPTH}` : depth, level)
    if (!root && metadataCsum) {
      const tail = ENTRY + max * ENTRY
      if (tail + 4 > bytes.length) throw wrong(at + 4, 'eh_max', 'room for a checksum', max)
      const stored = view.getUint32(tail, true)
      const sum = crc32c(inode.checksumSeed, bytes.subarray(0, tail))
      if (stored !== sum) throw wrong(at + tail, 'et_checksum', hex(sum), hex(stored))
    }
    if (entries > max || (entries === 0 && level > 0))
      throw wrong(at + 2, 'eh_entries', `${level > 0 ? 1 : 0} to ${max}`, entries)
    return [level, entries]
  }
  /** First block in the file of an entry, which must not be before what was reached. */
  const logicalOf = (view: DataView, at: number, here: number, level: number, end: number): number => {
    const logical = view.getUint32(here, true)
    if (logical < reached || logical >= end)
      throw wrong(at + here, level > 0 ? 'ei_block' : 'ee_block', `${reached} to ${end - 1}`, logical)
    return logical
  }
  const leaf = (view: DataView, at: number, entries: number, end: number): void => {
    for (let n = 0; n < entries; n++) {
      const here = ENTRY + n * ENTRY
      const logical = logicalOf(view, at, here, 0, end)
      const length = view.getUint16(here + 4, true)
      const unwritten = length > MAX_WRITTEN
      const count = unwritten ? length - MAX_WRITTEN : length
      if (count === 0 || logical + count > end)
        throw wrong(at + here + 4, 'ee_len', `1 to ${end - logical} blocks`, count)
      const physical = view.getUint32(here + 8, true) + view.getUint16(here + 6, true) * 2 ** 32
      to.add(at + here + 4, logical, physical, count, unwritten)
      reached = logical + count
    }
  }
  /** A node of the tree; the promise is of those below it. */
  const node = (bytes: Uint8Array, at: number, depth: number | undefined, end: number): Promise<void> | undefined => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const [level, entries] = header(bytes, view, at, depth)
    if (level > 0) return index(view, at, level, entries, end)
    leaf(view, at, entries, end)
    return undefined
  }
  const index = async (view: DataView, at: number, level: number, entries: number, end: number): Promise<void> => {
    for (let n = 0; n < entries; n++) {
      const here = ENTRY + n * ENTRY
      const logical = logicalOf(view, at, here, level, end)
      const block = view.getUint32(here + 4, true) + view.getUint16(here + 8, true) * 2 ** 32
      const next = n + 1 < entries ? view.getUint32(here + ENTRY, true) : end
      if (next <= logical || next > end)
        throw wrong(at + here + ENTRY, 'ei_block', `${logical + 1} to ${end - 1}`, next)
      to.addMap(at + here + 4, block)
      reached = logical
      await node(await volume.block(block), block * blockSize, level - 1, next)
    }
  }
  return node
}

const readIndirect = (volume: Volume, inode: Ext4Inode, to: Builder): Promise<void> | undefined => {
  const { blockSize } = volume.superblock
  const perBlock = blockSize / 4
  const data = (bytes: Uint8Array, at: number, first: number): void => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let here = 0; here < bytes.length; here += 4) {
      const block = view.getUint32(here, true)
      if (block !== 0) to.add(at + here, first + here / 4, block, 1, false)
    }
  }
  const pointers = async (bytes: Uint8Array, at: number, first: number, depth: number): Promise<void> => {
    if (depth === 0) return data(bytes, at, first)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const span = perBlock ** depth
    for (let here = 0; here < bytes.length; here += 4) {
      const block = view.getUint32(here, true)
      if (block === 0) continue
      to.addMap(at + here, block)
      await pointers(await volume.block(block), block * blockSize, first + (here / 4) * span, depth - 1)
    }
  }
  const at = inode.offset + 40
  const { i_block } = inode
  data(i_block.subarray(0, DIRECT * 4), at, 0)
  if (isZero(i_block.subarray(DIRECT * 4))) return undefined
  const behind = async (): Promise<void> => {
    let first = DIRECT
    for (let depth = 1; depth <= 3; depth++) {
      const here = (DIRECT + depth - 1) * 4
      // The pointer itself is one level above the blocks it leads to.
      await pointers(i_block.subarray(here, here + 4), at + here, first, depth)
      first += perBlock ** depth
    }
  }
  return behind()
}

/**
 * Reads where an inode's blocks are; an inode without a map (inline data, a short symlink) must not come here. Where the whole
 * map stands in the inode, as most do, nothing is waited for: millions of inodes are looked at.
 *
 * @throws CORRUPT  broken map: a block outside the filesystem, more blocks than it has, overlaps, wrong checksum; at once, or later
 * @see linux fs/ext4/extents.c, __ext4_ext_check; fs/ext4/indirect.c
 */
export const readBlockMap = (volume: Volume, inode: Ext4Inode): BlockMap | Promise<BlockMap> => {
  const builder = new Builder(volume, inode)
  const more =
    inode.flags & INODE_FLAG.extents
      ? extentReader(volume, inode, builder)(inode.i_block, inode.offset + 40, undefined, LOGICAL_END)
      : readIndirect(volume, inode, builder)
  return more ? more.then(() => builder) : builder
}
