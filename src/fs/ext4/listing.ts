import { unsupported } from '../../error.js'
import type { Entry, FileKind } from '../filesystem.js'
import { type BlockMap, readBlockMap } from './block-map.js'
import { checkBlock, parseEntries, type StoredEntry } from './directory.js'
import { inlineData } from './inline.js'
import { type Ext4Inode, INODE_FLAG, readInode } from './inode.js'
import type { Volume } from './volume.js'

export const ROOT_INODE = 2
const PARENT_BYTES = 4

/** The listing of a directory, in the order of the medium. */
export interface Listing {
  readonly entries: readonly Entry[]
  /** inode of the directory that `..` names */
  readonly parent: number
}

const inlineListing = (volume: Volume, inode: Ext4Inode): { names: StoredEntry[]; parent: number } => {
  const [first, rest] = inlineData(volume, inode).pieces
  const parent = new DataView(first!.bytes.buffer, first!.bytes.byteOffset).getUint32(0, true)
  const names = [...parseEntries(volume, inode, { bytes: first!.bytes, at: first!.start }, PARENT_BYTES)]
  if (rest) names.push(...parseEntries(volume, inode, { bytes: rest.bytes, at: rest.start }))
  return { names, parent }
}

/** How many blocks are read at one time. */
const BLOCKS_AT_ONCE = 64

const blockListing = async (volume: Volume, inode: Ext4Inode): Promise<{ names: StoredEntry[]; parent: number }> => {
  const { blockSize } = volume.superblock
  const blocks = inode.size / blockSize
  if (blocks === 0 || !Number.isInteger(blocks))
    throw volume.wrong(inode.offset + 4, `i_size of directory ${inode.ino}`, `a multiple of ${blockSize}`, inode.size)
  const map: BlockMap = await readBlockMap(volume, inode)
  const names: StoredEntry[] = []
  const dots: StoredEntry[] = []
  /** told as soon as one comes again: a small block that is mapped a million times would fill the memory first */
  const known = new Set<string>()
  const add = (entry: StoredEntry): void => {
    if (known.has(entry.name))
      throw volume.wrong(inode.offset, `entry ${JSON.stringify(entry.name)} of directory ${inode.ino}`, 'once', 'twice')
    known.add(entry.name)
    names.push(entry)
  }
  let next = 0
  const block = (bytes: Uint8Array, at: number): void => {
    const length = checkBlock(volume, inode, { bytes, at }, next)
    const entries = parseEntries(volume, inode, { bytes: bytes.subarray(0, length), at })
    if (next === 0) {
      dots.push(...entries.slice(0, 2))
      if (dots[0]?.name !== '.' || dots[0].inode !== inode.ino || dots[1]?.name !== '..')
        throw volume.wrong(at, `start of directory ${inode.ino}`, '. and ..', JSON.stringify(dots.map(dot => dot.name)))
      for (let n = 2; n < entries.length; n++) add(entries[n]!)
    } else for (const entry of entries) add(entry)
    next++
  }
  for (let run = 0; run < map.count.length && next < blocks; run++) {
    if (map.logical[run] !== next || map.unwritten[run]) break
    const end = Math.min(blocks, next + map.count[run]!)
    for (let skip = 0; next < end; skip += BLOCKS_AT_ONCE) {
      const at = (map.physical[run]! + skip) * blockSize
      const count = Math.min(BLOCKS_AT_ONCE, end - next)
      const bytes = await volume.cached.read(at, count * blockSize)
      for (let n = 0; n < count; n++) block(bytes.subarray(n * blockSize, (n + 1) * blockSize), at + n * blockSize)
    }
  }
  if (next < blocks)
    throw volume.wrong(inode.offset + 4, `blocks of directory ${inode.ino}`, `${blocks} without a hole`, `${next}`)
  return { names, parent: dots[1]!.inode }
}

/**
 * Reads the names in a directory, `.` and `..` left out. Hashed directories are read as lists.
 *
 * @throws CORRUPT      broken blocks, a hole, a name twice, a directory that contains the root or itself
 * @throws UNSUPPORTED  its names are encrypted
 * @throws IO
 */
export const readListing = async (volume: Volume, inode: Ext4Inode): Promise<Listing> => {
  const { superblock: sb } = volume
  if (inode.flags & INODE_FLAG.encrypt)
    throw unsupported('encrypted directory', `${volume.device.name}: inode ${inode.ino}`)
  const inline = (inode.flags & INODE_FLAG.inlineData) !== 0
  const { names, parent } = inline ? inlineListing(volume, inode) : await blockListing(volume, inode)
  const wrong = (name: string, expected: string, found: string | number) =>
    volume.wrong(inode.offset, `entry ${JSON.stringify(name)} of directory ${inode.ino}`, expected, found)
  if (parent === 0 || parent > sb.inodeCount) throw wrong('..', `1 to ${sb.inodeCount}`, parent)
  const known = new Set<string>()
  const entries: Entry[] = []
  for (const { name, inode: ino, kind } of names) {
    if (name === '.' || name === '..') throw wrong(name, 'once, at the start', 'again')
    if (known.has(name)) throw wrong(name, 'once', 'twice')
    known.add(name)
    if (ino < sb.firstInode) throw wrong(name, `an inode from ${sb.firstInode}`, ino)
    if (ino === inode.ino) throw wrong(name, 'another inode', 'the directory itself')
    entries.push({ name, inode: ino, kind: kind ?? (await kindOf(volume, ino, inode)) })
  }
  return { entries, parent }
}

const kindOf = async (volume: Volume, ino: number, directory: Ext4Inode): Promise<FileKind> => {
  const inode = await readInode(volume, ino, directory.offset)
  if (inode.kind === undefined) throw volume.wrong(inode.offset, `i_mode of inode ${ino}`, 'a kind of file', 'none')
  return inode.kind
}
