import { cache } from '../../block/cache.js'
import type { Device } from '../../block/device.js'
import { isLiveError, LiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import { type Ext4Inode, parseInode, readInode } from '../../fs/ext4/inode.js'
import { inodeShelf } from '../../fs/ext4/inode-shelf.js'
import { type Listing, readListing } from '../../fs/ext4/listing.js'
import { openVolume, type Volume } from '../../fs/ext4/volume.js'
import { printableName } from '../../fs/name.js'

/** Findings that are told one by one; a damaged medium may have millions. */
export const MAX_FINDINGS = 1000

/** What can't be read, once for each place. */
export interface Told {
  /** Tells of an error that one place of the image has. Everything but damage goes on as it is. @throws what is no damage */
  tell(error: unknown, where: string): void
  all(): readonly Finding[]
}

export const told = (): Told => {
  const findings = new Map<string, Finding>()
  let more = 0
  return {
    tell(error, where) {
      if (!isLiveError(error) || !['CORRUPT', 'UNSUPPORTED', 'IO', 'NOT_FOUND'].includes(error.code)) throw error
      const key = `${where}\n${error.message}`
      if (findings.has(key)) return
      if (findings.size >= MAX_FINDINGS) {
        more++
        return
      }
      findings.set(key, {
        code: error.code === 'UNSUPPORTED' ? 'DIFF_UNSUPPORTED' : 'DIFF_UNREADABLE',
        severity: 'error',
        where,
        message: `${printableName(where)} could not be compared: ${error.message}`,
      })
    },
    all() {
      const all = [...findings.values()]
      if (more > 0)
        all.push({
          code: 'MORE_FINDINGS',
          severity: 'error',
          where: all[0]!.where,
          message: `${more} more findings were not kept`,
        })
      return all
    },
  }
}

/** @throws CANCELLED */
export const stopIfAborted = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw new LiveError('CANCELLED', 'comparing with the base was cancelled', {}, signal.reason)
}

/** One of the two filesystems that are compared. */
export interface Side {
  /** for words: `the base` or `the root` */
  readonly name: string
  readonly volume: Volume
  /** Keeps an inode that will be asked for. */
  keep(ino: number, bytes: Uint8Array): void
  /** @throws CORRUPT, IO */
  inode(ino: number): Promise<Ext4Inode>
  /**
   * Names of a directory that is in use.
   *
   * @param from  where its blocks are read, if not on the side's own device
   * @throws CORRUPT, UNSUPPORTED, IO
   */
  read(ino: number, from?: Device): Promise<Listing>
}

/** Most directories are a block, and far from each other. */
const DIRECTORY_CACHE = { blockSize: 4096, blocks: 2048 }

/** Opens a side. Nothing of its device may change meanwhile. @throws CORRUPT, UNSUPPORTED, IO */
export const openSide = async (name: string, device: Device): Promise<Side> => {
  const opened = await openVolume(device)
  const volume: Volume = { ...opened, cached: cache(device, DIRECTORY_CACHE) }
  const { inodeSize, inodesPerGroup, blockSize } = volume.superblock
  const shelf = inodeShelf(inodeSize)
  const inode = async (ino: number): Promise<Ext4Inode> => {
    const bytes = shelf.get(ino)
    if (!bytes) return readInode(volume, ino)
    const group = await volume.group(Math.floor((ino - 1) / inodesPerGroup))
    const offset = group.inodeTable * blockSize + ((ino - 1) % inodesPerGroup) * inodeSize
    return parseInode(volume, ino, bytes, offset)
  }
  return {
    name,
    volume,
    keep: (ino, bytes) => shelf.put(ino, bytes),
    inode,
    async read(ino, from) {
      const directory = await inode(ino)
      if (directory.kind !== 'directory' || directory.linkCount === 0)
        throw volume.wrong(
          directory.offset,
          `i_mode of inode ${ino}`,
          'a directory',
          directory.linkCount === 0 ? 'deleted' : (directory.kind ?? 'none'),
        )
      return readListing(from ? { ...volume, cached: from } : volume, directory)
    },
  }
}
