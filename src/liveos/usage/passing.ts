import type { ByteRuns } from '../../block/byte-runs.js'
import type { Device } from '../../block/device.js'
import { lowerBound } from '../../bytes/lower-bound.js'
import { isLiveError } from '../../error.js'
import { parseInode } from '../../fs/ext4/inode.js'
import { type Listing, readListing } from '../../fs/ext4/listing.js'
import type { Volume } from '../../fs/ext4/volume.js'
import type { Attributed } from './attribute.js'

/** Directories whose names are read where something else reads what lies around them. */
export interface PassingDirectories {
  /**
   * Bytes of the base, which the merged root has in the same place wherever the overlay has none; they are looked at until it is
   * done.
   */
  pass(start: number, bytes: Uint8Array): Promise<void>
  /** What was read: of its names only those that are wanted, and directories. */
  listing(ino: number): Listing | undefined
}

/** names that a file may have, on average; and some more */
const NAMES_EACH = 4
const SOME_NAMES = 1024

/**
 * Reads directories on the way: of a compressed base each block is expanded once, and not for its names again. Only of groups
 * that have an inode that is wanted, as files are mostly made in the group of their directory.
 *
 * @param wanted    inodes whose names are looked for
 * @param replaced  what the root's journal replaces
 */
export const passingDirectories = (
  volume: Volume,
  { directories, untouched, inodes }: Pick<Attributed, 'directories' | 'untouched' | 'inodes'>,
  wanted: ReadonlySet<number>,
  replaced: ByteRuns,
): PassingDirectories => {
  const { inodesPerGroup } = volume.superblock
  const groupOf = (ino: number): number => Math.floor((ino - 1) / inodesPerGroup)
  const groups = new Set(Array.from(wanted, groupOf))
  const places = untouched
    .filter(({ ino, start, end }) => groups.has(groupOf(ino)) && !replaced.touches(start, end))
    .sort((a, b) => a.start - b.start)
  const listings = new Map<number, Listing>()
  // No directory has two names: where more come than can be, the rest is looked for as it is needed.
  let room = directories.length + wanted.size * NAMES_EACH + SOME_NAMES

  return {
    async pass(start, bytes) {
      const end = start + bytes.length
      for (
        let n = lowerBound(places.length, at => places[at]!.start < start);
        room > 0 && n < places.length && places[n]!.start < end;
        n++
      ) {
        const place = places[n]!
        const { ino } = place
        if (place.end > end || listings.has(ino)) continue
        const piece: Device = {
          name: volume.device.name,
          size: volume.device.size,
          // Only of the directory is it known that nothing touched it.
          read: async (offset, length) =>
            offset >= place.start && offset + length <= place.end
              ? bytes.subarray(offset - start, offset - start + length)
              : volume.cached.read(offset, length),
          close: async () => {},
        }
        try {
          const inode = parseInode(volume, ino, inodes.get(ino)!, 0)
          const { entries, parent } = await readListing({ ...volume, cached: piece }, inode)
          const kept = entries.filter(entry => entry.kind === 'directory' || wanted.has(entry.inode))
          room -= kept.length
          if (room >= 0) listings.set(ino, { entries: kept, parent })
        } catch (error) {
          // It is told when its names are looked for.
          if (!isLiveError(error)) throw error
        }
      }
    },
    listing: ino => listings.get(ino),
  }
}
