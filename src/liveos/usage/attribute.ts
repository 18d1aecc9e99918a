import { isLiveError, LiveError } from '../../error.js'
import { freeRuns } from '../../fs/ext4/bitmap.js'
import { RO_COMPAT } from '../../fs/ext4/features.js'
import { type Ext4Inode, INODE_FLAG } from '../../fs/ext4/inode.js'
import { type InodeShelf, inodeShelf } from '../../fs/ext4/inode-shelf.js'
import { ROOT_INODE } from '../../fs/ext4/listing.js'
import { type MetadataRole, metadataRuns } from '../../fs/ext4/metadata.js'
import { type OwnedRun, ownedRuns, sweepInodes } from '../../fs/ext4/sweep.js'
import type { Volume } from '../../fs/ext4/volume.js'
import type { FileKind } from '../../fs/filesystem.js'
import type { Pieces, Role } from './pieces.js'

/** What the sweep of a filesystem found out besides who owns which piece. */
export interface Attributed {
  /** of each inode that owns a piece and has a name: what it is */
  readonly kinds: ReadonlyMap<number, FileKind | undefined>
  /** numbers of all directories, whether they own a piece or not */
  readonly directories: readonly number[]
  /** directories that lie in one piece, in which the overlay has nothing: where, the end exclusive; of very many only some */
  readonly untouched: readonly { readonly ino: number; readonly start: number; readonly end: number }[]
  /** bytes of the inodes of `untouched` */
  readonly inodes: InodeShelf
  /** what could not be read; pieces that it would have told of are `unknown` */
  readonly errors: readonly LiveError[]
  /** inodes passed over because they are broken */
  readonly brokenInodes: number
}

/** Bytes of inodes that are kept at most. */
const MOST_KEPT = 32 << 20

const ROLE_OF: Readonly<Record<MetadataRole, Role>> = {
  boot: 'superblocks',
  superblock: 'superblocks',
  'group descriptors': 'superblocks',
  'reserved gdt': 'superblocks',
  mmp: 'superblocks',
  'block bitmap': 'bitmaps',
  'inode bitmap': 'bitmaps',
  'inode table': 'inode tables',
  journal: 'journal',
  'orphan file': 'quota',
  quota: 'quota',
}

const roleOf = ({ kind, linkCount, flags }: Ext4Inode, { role }: OwnedRun): Role => {
  if (flags & INODE_FLAG.eaInode) return 'xattrs'
  if (linkCount === 0) return 'deleted'
  if (role === 'map') return 'maps'
  if (role === 'xattr') return 'xattrs'
  return kind === 'directory' ? 'directories' : 'files'
}

/** Errors that tell of damage; anything else ends the work. */
const damage = (error: unknown): LiveError => {
  if (isLiveError(error) && error.code !== 'CANCELLED') return error
  throw error
}

/** The most blocks that all inodes together may map, or read for their maps, as a share of the filesystem's: a whole one has each block once. */
const MOST_BLOCKS = 2
const MOST_SHARED_BLOCKS = 16

/** Counts the blocks that sweeping takes, and ends it where no filesystem has so many: else crossed maps would take for ever. */
const metered = (volume: Volume): { readonly volume: Volume; mapped(bytes: number): void } => {
  const { blockCount, blockSize, roCompat } = volume.superblock
  const most = blockCount * (roCompat & RO_COMPAT.shared_blocks ? MOST_SHARED_BLOCKS : MOST_BLOCKS)
  let mapped = 0
  let read = 0
  const check = (blocks: number): void => {
    if (blocks > most) throw volume.wrong(0, 'blocks of all inodes', `at most ${most}`, blocks)
  }
  return {
    volume: {
      ...volume,
      async block(number) {
        read++
        return volume.block(number)
      },
    },
    mapped(bytes) {
      mapped += bytes / blockSize
      check(mapped)
      check(read)
    },
  }
}

/**
 * Gives each piece to what owns it in a filesystem: metadata first, then inodes in the order of the disk, then what is free.
 * Where an inode is broken the sweep goes on; where a table of them can't be read it ends, and what it had not come to stays
 * `unknown`.
 *
 * @throws CANCELLED
 */
export const attribute = async (volume: Volume, pieces: Pieces, signal?: AbortSignal): Promise<Attributed> => {
  const { superblock: sb } = volume
  const end = sb.blockCount * sb.blockSize
  const errors: LiveError[] = []
  const kinds = new Map<number, FileKind | undefined>()
  const directories: number[] = []
  const inodes = inodeShelf(sb.inodeSize)
  const untouched: Attributed['untouched'][number][] = []
  let brokenInodes = 0
  const broken = (error: LiveError): void => {
    if (brokenInodes++ === 0) errors.push(error)
  }
  const trying = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      errors.push(damage(error))
    }
  }

  if (pieces.count > 0) pieces.claim(end, Number.POSITIVE_INFINITY, 'outside')
  await trying(async () => {
    for await (const { start, length, role } of metadataRuns(volume)) pieces.claim(start, length, ROLE_OF[role])
  })
  const own = new Set([
    sb.journalInode,
    sb.orphanFileInode,
    sb.userQuotaInode,
    sb.groupQuotaInode,
    sb.projectQuotaInode,
  ])
  const meter = metered(volume)
  await trying(async () => {
    for await (const table of sweepInodes(volume, { onCorrupt: broken })) {
      for (const inode of table) {
        if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while inodes were being read', {}, signal.reason)
        const { ino, kind, linkCount, flags } = inode
        // The first inodes are the filesystem's own, and so are files that the superblock names: metadataRuns told of them.
        if ((ino < sb.firstInode && ino !== ROOT_INODE) || own.has(ino)) continue
        const named = linkCount > 0 && (flags & INODE_FLAG.eaInode) === 0
        if (kind === 'directory' && named) directories.push(ino)
        let runs: readonly OwnedRun[] = []
        try {
          const owned = ownedRuns(meter.volume, inode)
          runs = owned instanceof Promise ? await owned : owned
        } catch (error) {
          broken(damage(error))
        }
        meter.mapped(runs.reduce((sum, { length, role }) => sum + (role === 'xattr' ? 0 : length), 0))
        for (const run of runs) {
          const claimed = pieces.claim(run.start, run.length, roleOf(inode, run), named ? ino : 0)
          if (claimed > 0 && named) kinds.set(ino, kind)
        }
        if (kind !== 'directory' || !named) continue
        const [run] = runs
        if (runs.length !== 1 || run!.role !== 'data' || pieces.touches(run!.start, run!.length)) continue
        if (untouched.length * sb.inodeSize >= MOST_KEPT) continue
        inodes.put(ino, inode.bytes)
        untouched.push({ ino, start: run!.start, end: run!.start + run!.length })
      }
    }
  })
  await trying(async () => {
    for await (const { start, length } of freeRuns(volume)) pieces.claim(start, length, 'freed')
  })
  return { kinds, directories, inodes, untouched, errors, brokenInodes }
}
