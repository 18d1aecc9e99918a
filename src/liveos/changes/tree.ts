import { corrupt, isLiveError } from '../../error.js'
import type { Ext4Inode } from '../../fs/ext4/inode.js'
import { ROOT_INODE } from '../../fs/ext4/listing.js'
import { type Entry, type FileKind, pathBelow } from '../../fs/filesystem.js'
import { comparePaths } from './change.js'
import { MOST_PATH, type Names } from './names.js'
import { type Side, stopIfAborted } from './side.js'
import type { Sweeping, Swept } from './sweep.js'

/** A path of one side. */
export interface Named {
  readonly path: string
  readonly ino: number
  /** as its directory says */
  readonly kind: FileKind
}

/** What stands for the same thing on both sides: the same path, or the same inode where it was moved. */
export interface Pair {
  readonly before: Named
  readonly after: Named
  readonly renamed: boolean
  /** of a directory: names in it came, went, or lead to other inodes */
  namesChanged: boolean
}

/** Two trees side by side. */
export interface TreeChanges {
  /** all that may differ */
  readonly pairs: readonly Pair[]
  readonly removed: readonly Named[]
  readonly added: readonly Named[]
}

/** True for one file that is there before and after, not two that had the same number after each other. */
export const isSame = (a: Ext4Inode, b: Ext4Inode): boolean =>
  a.ino === b.ino &&
  a.kind === b.kind &&
  a.generation === b.generation &&
  a.crtime?.seconds === b.crtime?.seconds &&
  a.crtime?.nanoseconds === b.crtime?.nanoseconds

/**
 * Compares the names of both sides. What has one path on both is a pair; of what is left, the same inode makes a pair that
 * was renamed. A directory that was renamed takes along what is in it: that makes pairs only where it may have changed.
 *
 * @throws CANCELLED
 */
export const compareTrees = async (sweeping: Sweeping, swept: Swept, names: Names): Promise<TreeChanges> => {
  const { base, root, told, signal } = sweeping
  const { candidates, shared } = swept
  const pairs: Pair[] = []
  /** what lost its path, or its kind there; and what got one */
  const gone: (Named & { readonly pathStays: boolean })[] = []
  const come: (Named & { readonly pathStays: boolean })[] = []
  const visited = new Map<Side, Set<number>>([
    [base, new Set()],
    [root, new Set()],
  ])

  /** False where a directory was met before: a damaged tree may show one in two places. */
  const enter = (side: Side, { ino, path }: Named): boolean => {
    const seen = visited.get(side)!
    const { device } = side.volume
    if (path.length > MOST_PATH) {
      const short = `${path.slice(0, 100)}…`
      const field = `depth of directory ${ino}`
      told.tell(
        corrupt({ device: device.name, offset: 0, field, expected: `a path of ${MOST_PATH}`, found: path.length }),
        short,
      )
      return false
    }
    if (!seen.has(ino)) {
      seen.add(ino)
      return true
    }
    const field = `directory ${ino}`
    told.tell(corrupt({ device: device.name, offset: 0, field, expected: 'one name', found: 'another one' }), path)
    return false
  }

  /** Compares two directories and all below them. */
  const visit = async (start: Pair): Promise<void> => {
    const open: Pair[] = [start]
    for (let pair = open.pop(); pair; pair = open.pop()) {
      stopIfAborted(signal)
      const { before, after } = pair
      const entered = [enter(base, before), enter(root, after)]
      if (!entered[0] || !entered[1]) continue
      const meet = (was: Entry, is: Entry): void => {
        const next = pairOf(named(before, was), named(after, is))
        if (was.inode !== is.inode || candidates.has(is.inode)) pairs.push(next)
        if (was.kind === 'directory' && is.kind === 'directory') open.push(next)
        else {
          if (was.kind === 'directory') gone.push({ ...next.before, pathStays: true })
          if (is.kind === 'directory') come.push({ ...next.after, pathStays: true })
        }
      }
      if (before.ino === after.ino && shared.has(before.ino)) {
        for (const entry of names.shared(before.ino) ?? []) meet(entry, entry)
        continue
      }
      const was = await names.listing(base, before.ino)
      const is = await names.listing(root, after.ino)
      if (!was || !is) continue
      const left = new Map(was.map(entry => [entry.name, entry]))
      for (const entry of is) {
        const old = left.get(entry.name)
        left.delete(entry.name)
        if (old?.inode !== entry.inode) pair.namesChanged = true
        if (old) meet(old, entry)
        else come.push({ ...named(after, entry), pathStays: false })
      }
      for (const entry of left.values()) {
        pair.namesChanged = true
        gone.push({ ...named(before, entry), pathStays: false })
      }
    }
  }

  const entriesBelow = async (side: Side, directory: Named): Promise<readonly Named[]> => {
    if (!enter(side, directory)) return []
    return ((await names.listing(side, directory.ino)) ?? []).map(entry => named(directory, entry))
  }
  const sameOnBoth = async (ino: number): Promise<boolean> => {
    try {
      return isSame(await base.inode(ino), await root.inode(ino))
    } catch (error) {
      // What can't be read is no proof of being the same.
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      return false
    }
  }
  /** Where a removed directory went. One that was compared already has a name of its own. */
  const movedTo = async (directory: Named): Promise<Named | undefined> => {
    if (visited.get(root)!.has(directory.ino) || visited.get(base)!.has(directory.ino)) return undefined
    const path = names.pathOf(root, directory.ino)
    return path !== undefined && (await sameOnBoth(directory.ino)) ? { ...directory, path } : undefined
  }

  const top: Named = { path: '/', ino: ROOT_INODE, kind: 'directory' }
  const whole = pairOf(top, top)
  if (candidates.has(ROOT_INODE)) pairs.push(whole)
  await visit(whole)

  // From the top down: what a renamed directory took along is met in it, and not looked for any more.
  const removed: Named[] = []
  for (let next = 0; next < gone.length; next++) {
    stopIfAborted(signal)
    const { pathStays, ...found } = gone[next]!
    if (found.kind === 'directory') {
      const after = pathStays ? undefined : await movedTo(found)
      if (after) {
        const pair = pairOf(found, after, true)
        pairs.push(pair)
        await visit(pair)
        continue
      }
      for (const entry of await entriesBelow(base, found)) gone.push({ ...entry, pathStays: false })
    }
    if (!pathStays) removed.push(found)
  }
  const added: Named[] = []
  for (let next = 0; next < come.length; next++) {
    stopIfAborted(signal)
    const { pathStays, ...found } = come[next]!
    if (found.kind === 'directory') {
      if (visited.get(root)!.has(found.ino)) continue
      for (const entry of await entriesBelow(root, found)) come.push({ ...entry, pathStays: false })
    }
    if (!pathStays) added.push(found)
  }
  return { ...(await pairFiles(removed, added, pairs, sameOnBoth)) }
}

const named = ({ path }: Named, { name, inode, kind }: Entry): Named => ({
  path: pathBelow(path, name),
  ino: inode,
  kind,
})

const pairOf = (before: Named, after: Named, renamed = false): Pair => ({ before, after, renamed, namesChanged: false })

const byInode = (files: readonly Named[]): Map<number, Named[]> => {
  const map = new Map<number, Named[]>()
  for (const file of files) {
    if (file.kind === 'directory') continue
    const known = map.get(file.ino)
    if (known) known.push(file)
    else map.set(file.ino, [file])
  }
  return map
}

/** Makes pairs of removed and added names of one inode; of several names in the order of their bytes. */
const pairFiles = async (
  removed: readonly Named[],
  added: readonly Named[],
  pairs: readonly Pair[],
  sameOnBoth: (ino: number) => Promise<boolean>,
): Promise<TreeChanges> => {
  const found: Pair[] = []
  const used = new Set<Named>()
  const newNames = byInode(added)
  for (const [ino, old] of byInode(removed)) {
    const now = newNames.get(ino)
    if (!now || !(await sameOnBoth(ino))) continue
    old.sort((a, b) => comparePaths(a.path, b.path))
    now.sort((a, b) => comparePaths(a.path, b.path))
    for (const [index, before] of old.entries()) {
      const after = now[index]
      if (!after) break
      found.push(pairOf(before, after, true))
      used.add(before).add(after)
    }
  }
  return {
    pairs: [...pairs, ...found],
    removed: removed.filter(file => !used.has(file)),
    added: added.filter(file => !used.has(file)),
  }
}
