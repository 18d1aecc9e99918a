import type { Device } from '../../block/device.js'
import { parallel } from '../../block/parallel.js'
import { isLiveError } from '../../error.js'
import { ROOT_INODE } from '../../fs/ext4/listing.js'
import type { Entry } from '../../fs/filesystem.js'
import type { ContentComparison, Stretch } from './content.js'
import { type Side, stopIfAborted } from './side.js'
import type { Sweeping, Swept } from './sweep.js'
import { windows } from './windows.js'

const DIRECTORIES_AT_ONCE = 16
const PROGRESS_STEP = 1 << 20

/** Where a directory stands. */
export interface Place {
  readonly parent: number
  readonly name: string
}

/** Names of both sides. What is the same in both is kept once, and of it only what leads to something that may have changed. */
export interface Names {
  /** names of a directory; undefined where it can't be read, which was told */
  listing(side: Side, ino: number): Promise<readonly Entry[] | undefined>
  /** of a directory that is the same in both: directories in it, and candidates; undefined where it can't be read */
  shared(ino: number): readonly Entry[] | undefined
  /** absolute path of a directory; undefined where no name leads to it */
  pathOf(side: Side, ino: number): string | undefined
}

/** No path is longer, in UTF-16; a damaged tree may be any depth. */
export const MOST_PATH = 65_536

/** A directory to be read from the base: of both sides where none is named. */
interface Directory {
  readonly ino: number
  readonly side: Side | undefined
  readonly start: number
  readonly end: number
}

/**
 * Reads every directory once, in the order of the disk: of ext4's inodes only the directories know where they are. What can be
 * compared of contents before names are known is compared on the way: much of it lies beside the directories.
 *
 * @throws CANCELLED
 */
export const readNames = async (sweeping: Sweeping, swept: Swept, contents: ContentComparison): Promise<Names> => {
  const { base, root, told, signal } = sweeping
  const { candidates, shared, places } = swept
  const { blockSize } = root.volume.superblock
  const sharedEntries = new Map<number, readonly Entry[]>()
  const own = new Map<Side, Map<number, readonly Entry[] | undefined>>([
    [base, new Map()],
    [root, new Map()],
  ])
  const parents = { shared: new Map<number, Place>(), base: new Map<number, Place>(), root: new Map<number, Place>() }
  const parentsOf = (side: Side): Map<number, Place> => (side === base ? parents.base : parents.root)

  const read = async (side: Side, ino: number, from?: Device): Promise<readonly Entry[] | undefined> => {
    try {
      return await side.read(ino, from)
    } catch (error) {
      if (!isLiveError(error)) throw error
      told.tell(error, `directory ${ino} of ${side.name}`)
      return undefined
    }
  }
  const learn = (places: Map<number, Place>, parent: number, entries: readonly Entry[]): void => {
    for (const { name, kind, inode } of entries)
      if (kind === 'directory' && !places.has(inode)) places.set(inode, { parent, name })
  }

  const stretches = contents.takeInBase()
  let done = 0
  const total =
    (shared.size + swept.base.length + swept.root.length) * blockSize +
    stretches.reduce((sum, { length }) => sum + length, 0)
  const tell = (bytes: number): void => {
    const before = done
    done += bytes
    if (Math.floor(before / PROGRESS_STEP) !== Math.floor(done / PROGRESS_STEP)) sweeping.onBytes(done, total)
  }
  const readOne = async (ino: number, side: Side | undefined, from?: Device): Promise<void> => {
    // What nothing touched is read from the base: there it lies as it is.
    const entries = await read(side ?? base, ino, from)
    if (side) {
      own.get(side)!.set(ino, entries)
      if (entries) learn(parentsOf(side), ino, entries)
    } else if (entries) {
      learn(parents.shared, ino, entries)
      sharedEntries.set(
        ino,
        entries.filter(({ kind, inode }) => kind === 'directory' || candidates.has(inode)),
      )
    }
    tell(blockSize)
  }

  const placeOf = (ino: number): number => places.get(ino) ?? 0
  const { size } = base.volume.device
  const directory = (ino: number, side: Side | undefined): Directory => {
    const start = placeOf(ino)
    return { ino, side, start, end: Math.min(start + blockSize, size) }
  }
  const inBase = [
    ...Array.from(shared, ino => directory(ino, undefined)),
    ...swept.base.map(ino => directory(ino, base)),
    ...stretches,
  ].sort((a, b) => a.start - b.start)
  for await (const { items, window } of windows<Directory | Stretch>(base, inBase, item => item)) {
    stopIfAborted(signal)
    const here: Stretch[] = []
    for (const item of items)
      if ('file' in item) here.push(item)
      else await readOne(item.ino, item.side, window.device)
    await contents.compare(here, window)
    for (const { length } of here) tell(length)
  }
  // In the root each of them has a chunk of the overlay.
  const inRoot = [...swept.root].sort((a, b) => placeOf(a) - placeOf(b))
  await parallel(inRoot.length, DIRECTORIES_AT_ONCE, async index => {
    stopIfAborted(signal)
    await readOne(inRoot[index]!, root)
  })

  return {
    async listing(side, ino) {
      const known = own.get(side)!
      if (known.has(ino)) return known.get(ino)
      return read(side, ino)
    },
    shared: ino => sharedEntries.get(ino),
    pathOf(side, ino) {
      const names: string[] = []
      const seen = new Set<number>()
      let length = 0
      for (let at = ino; at !== ROOT_INODE; ) {
        const place = parentsOf(side).get(at) ?? parents.shared.get(at)
        // A damaged tree may have rings of directories.
        if (!place || seen.has(at) || length > MOST_PATH) return undefined
        seen.add(at)
        length += place.name.length + 1
        names.push(place.name)
        at = place.parent
      }
      return `/${names.reverse().join('/')}`
    },
  }
}
