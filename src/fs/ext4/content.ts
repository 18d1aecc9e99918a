import type { SparseDevice } from '../../block/device.js'
import { linear } from '../../block/linear.js'
import { memory } from '../../block/memory.js'
import { unsupported } from '../../error.js'
import type { Run } from '../filesystem.js'
import { decodeName } from '../name.js'
import { readBlockMap } from './block-map.js'
import { INCOMPAT } from './features.js'
import { fileDevice, runsOf } from './file.js'
import { inlineBytes, inlineRuns } from './inline.js'
import { type Ext4Inode, INODE_FLAG } from './inode.js'
import type { Volume } from './volume.js'

const FAST_SIZE = 60
/** Files up to this size are read with what lies around them, which is often the next ones. */
const SMALL_FILE = 1 << 17

const isInline = (inode: Ext4Inode): boolean => (inode.flags & INODE_FLAG.inlineData) !== 0

/** True where a symlink's target stands in i_block. @see linux fs/ext4/inode.c, ext4_inode_is_fast_symlink */
const isFastLink = (volume: Volume, inode: Ext4Inode): boolean => {
  if (inode.kind !== 'symlink' || isInline(inode)) return false
  const { incompat, clusterSize } = volume.superblock
  if (incompat & INCOMPAT.ea_inode) return inode.size > 0 && inode.size < FAST_SIZE
  return inode.allocated === (inode.fileAcl > 0 ? clusterSize : 0)
}

/** True where i_block is the root of a block map. */
export const hasMap = (volume: Volume, inode: Ext4Inode): boolean => {
  if (isInline(inode) || isFastLink(volume, inode)) return false
  const { kind } = inode
  return kind === 'file' || kind === 'directory' || kind === 'symlink' || kind === undefined
}

const refuseEncrypted = (volume: Volume, inode: Ext4Inode): void => {
  if (inode.flags & INODE_FLAG.encrypt) throw unsupported('encrypted file', `${volume.device.name}: inode ${inode.ino}`)
}

/** A regular file as a Device. @throws CORRUPT, UNSUPPORTED, IO */
export const openFileOf = async (volume: Volume, inode: Ext4Inode, name: string): Promise<SparseDevice> => {
  refuseEncrypted(volume, inode)
  if (isInline(inode)) {
    const bytes = inlineBytes(volume, inode)
    return linear([{ device: memory(bytes, name), length: bytes.length }], name)
  }
  const device = inode.size <= SMALL_FILE ? volume.nearby : volume.device
  return fileDevice(device, await readBlockMap(volume, inode), volume.superblock.blockSize, inode.size, name)
}

/** Where a regular file's data are. @throws CORRUPT, UNSUPPORTED, IO */
export const extentsOfFile = async (volume: Volume, inode: Ext4Inode): Promise<readonly Run[]> => {
  refuseEncrypted(volume, inode)
  if (isInline(inode)) return inlineRuns(volume, inode)
  return runsOf(await readBlockMap(volume, inode), volume.superblock.blockSize, inode.size)
}

/** A symlink's target. @throws CORRUPT, UNSUPPORTED, IO */
export const readTarget = async (volume: Volume, inode: Ext4Inode): Promise<string> => {
  if (inode.flags & INODE_FLAG.encrypt)
    throw unsupported('encrypted symlink', `${volume.device.name}: inode ${inode.ino}`)
  const { blockSize } = volume.superblock
  const { size, ino, offset } = inode
  const fast = isFastLink(volume, inode)
  const most = fast ? FAST_SIZE - 1 : blockSize
  if (size < 1 || size > most) throw volume.wrong(offset + 4, `i_size of symlink ${ino}`, `1 to ${most}`, size)
  let target: Uint8Array
  if (fast) target = inode.i_block.subarray(0, size)
  else if (isInline(inode)) target = inlineBytes(volume, inode)
  else
    target = await fileDevice(volume.cached, await readBlockMap(volume, inode), blockSize, size, `symlink ${ino}`).read(
      0,
      size,
    )
  const end = target.indexOf(0)
  if (end >= 0) throw volume.wrong(offset, `target of symlink ${ino}`, `${size} bytes without NUL`, `NUL at ${end}`)
  return decodeName(target)
}
