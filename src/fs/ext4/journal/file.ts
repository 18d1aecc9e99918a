import type { Device } from '../../../block/device.js'
import { crc32cOfU32 } from '../../../bytes/crc32c.js'
import { corrupt, isLiveError, type LiveError, unsupported } from '../../../error.js'
import type { Run } from '../../filesystem.js'
import { readBlockMap } from '../block-map.js'
import { COMPAT } from '../features.js'
import { runsOf } from '../file.js'
import { type Ext4Inode, INODE_FLAG, readInode } from '../inode.js'
import type { Ext4Superblock } from '../superblock.js'
import { openVolume, type Volume } from '../volume.js'
import { MIN_JOURNAL_BLOCKS } from './layout.js'

/** Where a journal lies in its filesystem. */
export interface JournalFile {
  /** in the file's order, without holes */
  readonly runs: readonly Run[]
  /** bytes */
  readonly size: number
  /** bytes of a block */
  readonly blockSize: number
}

/**
 * Finds the journal of a filesystem: by its inode or, where that is damaged, by the copy of it in the superblock.
 *
 * @throws CORRUPT      there is no journal, or neither inode nor copy tells where it lies
 * @throws UNSUPPORTED  the journal lies on a device of its own
 * @throws IO
 * @see linux fs/ext4/super.c, ext4_load_journal; e2fsprogs e2fsck/journal.c, e2fsck_get_journal
 */
export const readJournalFile = async (device: Device, superblock: Ext4Superblock): Promise<JournalFile> => {
  const { journalInode, journalDevice, journalUuidBytes, journalBackup } = superblock
  const wrong = (offset: number, field: string, expected: string, found: string | number): LiveError =>
    corrupt({ device: device.name, offset: 1024 + offset, field, expected, found })
  if (!(superblock.compat & COMPAT.has_journal))
    throw wrong(92, 's_feature_compat', 'has_journal where needs_recovery is set', 'no journal')
  if (journalInode === 0) {
    if (journalDevice === 0 && journalUuidBytes.every(byte => byte === 0))
      throw wrong(224, 's_journal_inum', 'an inode or a device', 0)
    throw unsupported(
      'external journal',
      device.name,
      'its journal lies on another device and must be replayed; mount it once with that device, or run e2fsck',
    )
  }
  const volume = await openVolume(device)
  try {
    return await journalOf(volume, await readInode(volume, journalInode, 1024 + 224))
  } catch (error) {
    if (journalBackup === undefined || !isLiveError(error) || error.code !== 'CORRUPT') throw error
    // The first error tells more than that of the copy would.
    return journalOf(volume, savedInode(volume, journalInode, journalBackup)).catch(() => {
      throw error
    })
  }
}

/** @throws CORRUPT  it is no file that could hold a journal */
const journalOf = async (volume: Volume, inode: Ext4Inode): Promise<JournalFile> => {
  const { blockSize, blockCount } = volume.superblock
  const wrong = (offset: number, field: string, expected: string, found: string | number): LiveError =>
    volume.wrong(inode.offset + offset, `${field} of the journal's inode ${inode.ino}`, expected, found)
  if (inode.kind !== 'file') throw wrong(0, 'i_mode', 'a regular file', inode.kind ?? 'no kind')
  if (inode.linkCount === 0) throw wrong(26, 'i_links_count', 'at least 1', 0)
  if (inode.flags & (INODE_FLAG.encrypt | INODE_FLAG.inlineData))
    throw wrong(32, 'i_flags', 'plain blocks', inode.flags)
  const blocks = Math.floor(inode.size / blockSize)
  if (blocks < MIN_JOURNAL_BLOCKS || blocks > blockCount)
    throw wrong(4, 'i_size', `${MIN_JOURNAL_BLOCKS} to ${blockCount} blocks`, blocks)
  const size = blocks * blockSize
  const runs = runsOf(await readBlockMap(volume, inode), blockSize, size)
  const hole = firstHole(runs, size)
  if (hole !== undefined) throw wrong(40, 'i_block', 'no hole', `a hole at byte ${hole}`)
  return { runs, size, blockSize }
}

/** The first byte of the file that no run holds; undefined where there is none. */
const firstHole = (runs: readonly Run[], size: number): number | undefined => {
  let at = 0
  for (const run of runs) {
    if (run.offset !== at) break
    at += run.length
  }
  return at < size ? at : undefined
}

const EXTENTS_MAGIC = 0xf30a

/** The journal's inode as far as the superblock saved it. Its flags were not: extents show by their magic. */
const savedInode = (
  { superblock }: Volume,
  ino: number,
  { i_block, size }: { readonly i_block: Uint8Array; readonly size: number },
): Ext4Inode => {
  const time = { seconds: 0, nanoseconds: 0 }
  const mapped = i_block[0]! + i_block[1]! * 256 === EXTENTS_MAGIC
  return {
    ino,
    // The map's place in errors: byte 40 of an inode, byte 268 of the superblock.
    offset: 1024 + 268 - 40,
    kind: 'file',
    mode: 0o600,
    uid: 0,
    gid: 0,
    size,
    linkCount: 1,
    flags: mapped ? INODE_FLAG.extents : 0,
    generation: 0,
    allocated: 0,
    atime: time,
    ctime: time,
    mtime: time,
    crtime: undefined,
    dtime: 0,
    projectId: 0,
    device: undefined,
    i_block,
    fileAcl: 0,
    xattrStart: 0,
    bytes: new Uint8Array(0),
    checksumSeed: crc32cOfU32(crc32cOfU32(superblock.checksumSeed, ino), 0),
  }
}
