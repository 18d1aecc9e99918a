import type { ByteRuns } from '../../block/byte-runs.js'
import { readTarget } from '../../fs/ext4/content.js'
import { type Ext4Inode, statOf } from '../../fs/ext4/inode.js'
import { readXattrs } from '../../fs/ext4/xattr.js'
import type { Stat } from '../../fs/filesystem.js'
import type { Aspect, Change } from './change.js'
import type { Side } from './side.js'

/** Aspects of two inodes of one kind that their own bytes tell. */
export const statAspects = (before: Stat, after: Stat, namesChanged: boolean): Aspect[] => {
  const aspects: Aspect[] = []
  const { kind } = after
  if (before.device?.major !== after.device?.major || before.device?.minor !== after.device?.minor)
    aspects.push('device')
  if (before.mode !== after.mode) aspects.push('mode')
  if (before.uid !== after.uid || before.gid !== after.gid) aspects.push('owner')
  // What changes names in a directory changes its time: that is told by the names.
  const time = before.mtime !== after.mtime || before.mtimeNanoseconds !== after.mtimeNanoseconds
  if (time && !namesChanged) aspects.push('mtime')
  if (kind !== 'directory' && before.linkCount !== after.linkCount) aspects.push('links')
  return aspects
}

/** True where the attributes are stored in the same bytes on both sides. */
const sameStored = (side: Side, before: Ext4Inode, after: Ext4Inode, touched: ByteRuns): boolean => {
  if (before.fileAcl !== after.fileAcl || before.xattrStart !== after.xattrStart) return false
  const { blockSize } = side.volume.superblock
  const at = after.fileAcl * blockSize
  if (after.fileAcl !== 0 && touched.touches(at, at + blockSize)) return false
  const start = after.xattrStart
  return Buffer.compare(before.bytes.subarray(start), after.bytes.subarray(start)) === 0
}

/** Names of the extended attributes that differ; undefined where none does. @throws CORRUPT, IO */
export const compareXattrs = async (
  base: Side,
  root: Side,
  before: Ext4Inode,
  after: Ext4Inode,
  touched: ByteRuns,
): Promise<Change['xattrs']> => {
  if (sameStored(root, before, after, touched)) return undefined
  const was = new Map((await readXattrs(base.volume, before)).map(({ name, value }) => [name, value]))
  const is = new Map((await readXattrs(root.volume, after)).map(({ name, value }) => [name, value]))
  const added = [...is.keys()].filter(name => !was.has(name))
  const removed = [...was.keys()].filter(name => !is.has(name))
  const changed = [...is.keys()].filter(name => was.has(name) && Buffer.compare(was.get(name)!, is.get(name)!) !== 0)
  return added.length + removed.length + changed.length > 0
    ? { added: added.sort(), removed: removed.sort(), changed: changed.sort() }
    : undefined
}

/** Where a symlink points to; null where it is none. @throws CORRUPT, UNSUPPORTED, IO */
export const targetOf = async ({ volume }: Side, inode: Ext4Inode): Promise<string | null> =>
  inode.kind === 'symlink' ? readTarget(volume, inode) : null

/** What `stat` tells of an inode in use. @throws CORRUPT  it is deleted, or has no kind */
export const liveStat = ({ volume }: Side, inode: Ext4Inode): Stat => {
  if (inode.linkCount === 0)
    throw volume.wrong(inode.offset + 26, `i_links_count of inode ${inode.ino}`, 'at least 1', 'deleted')
  return statOf(volume, inode)
}
