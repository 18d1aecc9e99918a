import type { Device } from '../../block/device.js'
import { corrupt } from '../../error.js'
import { pathBelow, type Xattr } from '../filesystem.js'
import type { SquashFile } from './file.js'
import type { DirectoryInode } from './inode.js'
import { parseRdev } from './inode.js'
import { type InodeReference, referenceKey, type Squashfs } from './reader.js'
import { parseReference } from './tables.js'

/** What every node of a tree to be written has. Times are seconds since 1970. */
export interface NodeHead {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtime: number
  readonly xattrs: readonly Xattr[]
}

export interface DirectoryNode extends NodeHead {
  readonly kind: 'directory'
  /** one name each; a node under two names is a hard link */
  readonly entries: readonly { readonly name: Uint8Array; readonly node: SquashNode }[]
}

/** Blocks that may be taken over as they stand in another squashfs of the same block size and compressor. */
export interface Reuse {
  readonly file: SquashFile
  readonly source: Squashfs
  /** true where the new content may differ from the block (the tail in a fragment is block `file.blockCount`) */
  changed(block: number): boolean
  /** true where the new content is known to be all zero: the block becomes a hole, unread */
  empty(block: number): boolean
}

export interface FileNode extends NodeHead {
  readonly kind: 'file'
  /** the content of every block that is not reused */
  readonly content: Device
  readonly reuse?: Reuse
}

export interface SymlinkNode extends NodeHead {
  readonly kind: 'symlink'
  readonly target: Uint8Array
}

export interface DeviceNode extends NodeHead {
  readonly kind: 'block' | 'character'
  readonly device: { readonly major: number; readonly minor: number }
}

export interface PlainNode extends NodeHead {
  readonly kind: 'fifo' | 'socket'
}

/** A node of a tree that a squashfs is written from. */
export type SquashNode = DirectoryNode | FileNode | SymlinkNode | DeviceNode | PlainNode

/** Half of the longest path that Linux takes, as each name has a slash. */
const MAX_DEPTH = 2048

/**
 * The tree of an open squashfs as a tree to be written, every file reusing its blocks.
 *
 * @param replace  gives another node for a path such as `/LiveOS/rootfs.img`, or undefined to keep it
 * @throws CORRUPT  also for directories that contain each other or are deeper than any path
 */
export const readTree = async (
  fs: Squashfs,
  replace?: (path: string, node: FileNode) => SquashNode | undefined,
): Promise<DirectoryNode> => {
  const known = new Map<number, SquashNode>()
  const root = parseReference(fs.superblock.root_inode)

  const node = async (entry: InodeReference, path: string, depth: number): Promise<SquashNode> => {
    const inode = await fs.inodeAt(entry)
    const again = known.get(referenceKey(entry))
    if (again) return again
    const head: NodeHead = {
      mode: inode.mode,
      uid: fs.ids[inode.uidIndex]!,
      gid: fs.ids[inode.gidIndex]!,
      mtime: inode.mtime,
      xattrs: await fs.xattrsOf(inode),
    }
    let made: SquashNode
    if (inode.kind === 'directory') made = await directory(inode, head, path, depth)
    else if (inode.kind === 'file') {
      const file = await fs.file(inode, `${path} in ${fs.name}`)
      const plain: FileNode = {
        kind: 'file',
        ...head,
        content: file,
        reuse: { file, source: fs, changed: () => false, empty: () => false },
      }
      made = replace?.(path, plain) ?? plain
    } else if (inode.kind === 'symlink') made = { kind: 'symlink', ...head, target: await fs.target(inode) }
    else if (inode.kind === 'block' || inode.kind === 'character')
      made = { kind: inode.kind, ...head, device: parseRdev(inode.rdev) }
    else made = { kind: inode.kind, ...head }
    known.set(referenceKey(entry), made)
    return made
  }

  const directory = async (
    inode: DirectoryInode,
    head: NodeHead,
    path: string,
    depth: number,
  ): Promise<DirectoryNode> => {
    if (depth > MAX_DEPTH)
      throw corrupt({
        device: fs.name,
        offset: fs.superblock.directory_table_start,
        field: `directory ${path}`,
        expected: `at most ${MAX_DEPTH} directories in each other`,
        found: depth,
      })
    const entries: { name: Uint8Array; node: SquashNode }[] = []
    for (const entry of await fs.listing(inode))
      entries.push({
        name: entry.name,
        node: await node(entry, pathBelow(path, Buffer.from(entry.name).toString()), depth + 1),
      })
    return { kind: 'directory', ...head, entries }
  }

  const made = await node({ startBlock: root.block, offset: root.offset }, '/', 0)
  if (made.kind !== 'directory')
    throw corrupt({ device: fs.name, offset: 32, field: 'root_inode', expected: 'a directory', found: made.kind })
  return made
}
