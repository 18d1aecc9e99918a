import { parallel } from '../../block/parallel.js'
import { isLiveError } from '../../error.js'
import { ROOT_INODE } from '../../fs/ext4/listing.js'
import type { Entry } from '../../fs/filesystem.js'
import { type Side, stopIfAborted } from './side.js'
import type { Sweeping, Swept } from './sweep.js'

const DIRECTORIES_AT_ONCE = 16

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

/** The path of a name in a directory. */
export const below = (directory: string, name: string): string => `${directory === '/' ? '' : directory}/${name}`

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

  const read = async (side: Side, ino: number): Promise<readonly Entry[] | undefined> => {
    try {
      return await side.read(ino)
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

  const work: { readonly ino: number; readonly side: Side | undefined; readonly place: number }[] = []
  const add = (inos: Iterable<number>, side: Side | undefined): void => {
    for (const ino of inos) work.push({ ino, side, place: places.get(ino) ?? 0 })
  }
  add(shared, undefined)
  add(swept.base, base)
  add(swept.root, root)
  work.sort((a, b) => a.place - b.place)
  let done = 0
  await parallel(work.length, DIRECTORIES_AT_ONCE, async index => {
    stopIfAborted(signal)
    const { ino, side } = work[index]!
    const entries = await read(side ?? root, ino)
    if (side) {
      own.get(side)!.set(ino, entries)
      if (entries) learn(parentsOf(side), ino, entries)
    } else if (entries) {
      learn(parents.shared, ino, entries)
      const kept = entries.filter(({ kind, inode }) => kind === 'directory' || candidates.has(inode))
      sharedEntries.set(ino, kept)
    }
    if (++done % 256 === 0) sweeping.onBytes(done * blockSize, work.length * blockSize)
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
      for (let at = ino; at !== ROOT_INODE; ) {
        const place = parentsOf(side).get(at) ?? parents.shared.get(at)
        // A damaged tree may have rings of directories.
        if (!place || seen.has(at)) return undefined
        seen.add(at)
        names.push(place.name)
        at = place.parent
      }
      return `/${names.reverse().join('/')}`
    },
  }
}
