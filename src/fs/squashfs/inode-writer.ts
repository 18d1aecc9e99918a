import { encodeRdev, inodeSize, typeOfKind } from './inode.js'
import { NO_XATTR } from './layout.js'
import type { SquashNode } from './tree.js'

/** What an inode says beyond its node. */
export interface InodeParts {
  readonly inode: number
  readonly uidIndex: number
  readonly gidIndex: number
  readonly xattr: number | undefined
  readonly linkCount: number
  /** inode number of the directory above */
  readonly parent: number
  /** of a directory: where its listing is in the directory table, and bytes of it as file_size counts them */
  readonly listing: { readonly startBlock: number; readonly offset: number; readonly size: number } | undefined
  readonly file:
    | {
        readonly size: number
        readonly startBlock: number
        readonly words: Uint32Array
        readonly holeBytes: number
        readonly fragment: number
        readonly fragmentOffset: number
      }
    | undefined
}

const U16 = 0xffff
const U32 = 0xffff_ffff

/**
 * The bytes of an inode with all that follows it; the extended form only where the basic one can't say it.
 *
 * @see linux fs/squashfs/squashfs_fs.h, struct squashfs_*_inode
 */
export const encodeInode = (node: SquashNode, parts: InodeParts): Uint8Array => {
  const { xattr, linkCount, listing, file } = parts
  const wide =
    xattr !== undefined ||
    (listing !== undefined && listing.size > U16) ||
    (file !== undefined && (file.size > U32 || file.startBlock > U32 || linkCount > 1 || file.holeBytes > 0))
  const type = typeOfKind(node.kind) + (wide ? 7 : 0)
  const behind = file ? file.words.length * 4 : node.kind === 'symlink' ? node.target.length + (wide ? 4 : 0) : 0
  // the table of sizes counts a symlink's xattr index, which stands behind the target
  const size = node.kind === 'symlink' ? 24 : inodeSize(type)!
  const bytes = new Uint8Array(size + behind)
  const view = new DataView(bytes.buffer)
  let at = 0
  const u16 = (value: number) => {
    view.setUint16(at, value, true)
    at += 2
  }
  const u32 = (value: number) => {
    view.setUint32(at, value, true)
    at += 4
  }
  const u64 = (value: number) => {
    view.setBigUint64(at, BigInt(value), true)
    at += 8
  }
  const xattrIndex = () => {
    if (wide) u32(xattr ?? NO_XATTR)
  }
  u16(type)
  u16(node.mode)
  u16(parts.uidIndex)
  u16(parts.gidIndex)
  u32(node.mtime)
  u32(parts.inode)
  switch (node.kind) {
    case 'directory':
      if (wide) {
        u32(linkCount)
        u32(listing!.size)
        u32(listing!.startBlock)
        u32(parts.parent)
        u16(0)
        u16(listing!.offset)
        xattrIndex()
      } else {
        u32(listing!.startBlock)
        u32(linkCount)
        u16(listing!.size)
        u16(listing!.offset)
        u32(parts.parent)
      }
      break
    case 'file':
      if (wide) {
        u64(file!.startBlock)
        u64(file!.size)
        u64(file!.holeBytes)
        u32(linkCount)
      } else u32(file!.startBlock)
      u32(file!.fragment)
      u32(file!.fragmentOffset)
      if (!wide) u32(file!.size)
      xattrIndex()
      for (const word of file!.words) u32(word)
      break
    case 'symlink':
      u32(linkCount)
      u32(node.target.length)
      bytes.set(node.target, at)
      at += node.target.length
      xattrIndex()
      break
    case 'block':
    case 'character':
      u32(linkCount)
      u32(encodeRdev(node.device))
      xattrIndex()
      break
    case 'fifo':
    case 'socket':
      u32(linkCount)
      xattrIndex()
  }
  return bytes
}
