import { type Device, readInto } from '../../block/device.js'
import { parallel } from '../../block/parallel.js'
import { openSpare, type Spare } from '../../bytes/spare.js'
import { isLiveError } from '../../error.js'
import { ROOT_INODE } from '../../fs/ext4/listing.js'
import type { Entry } from '../../fs/filesystem.js'
import { ahead } from './ahead.js'
import { hulls } from './hulls.js'
import { type Side, stopIfAborted } from './side.js'
import type { Sweeping, Swept } from './sweep.js'

const DIRECTORIES_AT_ONCE = 16
const PIECES_AHEAD = 4

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

/** A piece of the device of a side, read beforehand. */
interface Window {
  /** the whole device. What can't be read in one piece is tried again where it is wanted. */
  readonly device: Device
  /** nobody looks at it any more: its memory is for another one */
  close(): void
}

/** Longer pieces than this are few. */
const PIECE_MEMORY = 1 << 20

const openWindow = async ({ volume }: Side, start: number, end: number, spare: Spare): Promise<Window> => {
  const { cached, device } = volume
  const memory = spare.take(Math.max(end - start, PIECE_MEMORY))
  const close = (): void => spare.give(memory)
  const bytes = new Uint8Array(memory, 0, Math.max(end - start, 0))
  let isRead = bytes.length > 0 && end <= device.size
  try {
    if (isRead) await readInto(device, start, bytes)
  } catch (error) {
    if (!isLiveError(error)) throw error
    isRead = false
  }
  if (!isRead) return { device: cached, close }
  return {
    device: {
      name: device.name,
      size: device.size,
      // A directory only looks at its bytes and keeps none.
      read: async (offset, length) =>
        offset >= start && offset + length <= end
          ? bytes.subarray(offset - start, offset - start + length)
          : cached.read(offset, length),
      close: async () => {},
    },
    close,
  }
}

/** No path is longer, in UTF-16; a damaged tree may be any depth. */
export const MOST_PATH = 65_536

/**
 * Reads every directory once, in the order of the disk: of ext4's inodes only the directories know where they are.
 *
 * @throws CANCELLED
 */
export const readNames = async (sweeping: Sweeping, swept: Swept): Promise<Names> => {
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

  let done = 0
  const total = (shared.size + swept.base.length + swept.root.length) * blockSize
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
    if (++done % 256 === 0) sweeping.onBytes(done * blockSize, total)
  }

  const placeOf = (ino: number): number => places.get(ino) ?? 0
  const inBase = [
    ...Array.from(shared, ino => ({ ino, side: undefined, start: placeOf(ino) })),
    ...swept.base.map(ino => ({ ino, side: base, start: placeOf(ino) })),
  ].sort((a, b) => a.start - b.start)
  const device = base.volume.device
  const pieces = hulls(inBase, ({ start }) => ({ start, end: Math.min(start + blockSize, device.size) }))
  const spare = openSpare()
  for await (const { items, window } of ahead(pieces, PIECES_AHEAD, async ({ start, end, items }) => ({
    items,
    window: await openWindow(base, start, end, spare),
  }))) {
    stopIfAborted(signal)
    for (const { ino, side } of items) await readOne(ino, side, window.device)
    window.close()
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
