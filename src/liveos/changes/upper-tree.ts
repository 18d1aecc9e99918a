import { corrupt, isLiveError, LiveError, orMissing } from '../../error.js'
import { type Entry, type FileKind, type FileSystem, pathBelow } from '../../fs/filesystem.js'
import type { OverlayFs } from '../../fs/overlayfs/reader.js'
import { MOST_PATH } from './names.js'
import { stopIfAborted, type Told } from './side.js'

/** A name of one of the trees: the base's, or the merged one's. */
export interface Leaf {
  readonly path: string
  readonly kind: FileKind
  /** as the tree tells it */
  readonly inode: number
}

/** What stands in the base and in the root, under one path or renamed. */
export interface LeafPair {
  readonly before: Leaf
  readonly after: Leaf
  readonly renamed: boolean
  /** of a directory: names came, went or were given to something else, which changes its time */
  namesChanged: boolean
}

/** What an upper layer makes of the base, by name. */
export interface UpperTree {
  readonly pairs: readonly LeafPair[]
  readonly added: readonly Leaf[]
  readonly removed: readonly Leaf[]
  /** bytes of the files whose data the upper layer holds, each inode once, holes counted */
  readonly upperBytes: number
}

/** What is compared. */
export interface Comparing {
  readonly base: FileSystem
  readonly root: OverlayFs
  readonly told: Told
  readonly signal: AbortSignal | undefined
}

/** Damage is told, and what it hides is undefined. What only root may read is told in the same way. */
export const trying = async <T>(told: Told, where: string, work: () => Promise<T>): Promise<T | undefined> => {
  try {
    return await work()
  } catch (error) {
    const isClosed = isLiveError(error) && error.code === 'READ_ONLY'
    told.tell(isClosed ? new LiveError('IO', error.message, error.data, error) : error, where)
    return undefined
  }
}

const isMissing = async (fs: FileSystem, path: string): Promise<boolean> =>
  (await orMissing(fs.stat(path))) === undefined

const leafOf = (directory: string, { name, kind, inode }: Entry): Leaf => ({
  path: pathBelow(directory, name),
  kind,
  inode,
})

/** What the upper layer moved: directories merged with another one, and files whose data lie under another name. */
interface Moves {
  /** the path in the base, by the path in the root */
  readonly from: ReadonlyMap<string, string>
  /** the same paths of the base */
  readonly left: ReadonlySet<string>
  readonly upperBytes: number
}

/** Each directory of a tree is entered once, and none deeper than a path can be. */
const gatekeeper = ({ told }: Comparing, device: string) => {
  const entered = new Map<number, string>()
  return ({ path, inode }: Leaf): boolean => {
    const known = entered.get(inode)
    if (known === undefined && path.length <= MOST_PATH) {
      entered.set(inode, path)
      return true
    }
    const wrong =
      known === undefined
        ? { field: 'depth of a directory', expected: `a path of ${MOST_PATH}`, found: path.length }
        : { field: `directory ${inode}`, expected: 'one name', found: 'another one' }
    told.tell(corrupt({ device, offset: 0, ...wrong }), path.length > MOST_PATH ? `${path.slice(0, 100)}…` : path)
    return false
  }
}

const TOP: Leaf = { path: '/', kind: 'directory', inode: 0 }

/** Looks for what was moved, in the upper layer alone. A path that is there before and after was not. */
const findMoves = async (comparing: Comparing): Promise<Moves> => {
  const { base, root, told, signal } = comparing
  const from = new Map<string, string>()
  const left = new Set<string>()
  const enter = gatekeeper(comparing, root.upper.name)
  const counted = new Set<number>()
  let upperBytes = 0
  const open: Leaf[] = [TOP]
  const look = async (leaf: Leaf): Promise<void> => {
    let old: string | undefined
    if (leaf.kind === 'directory') {
      open.push(leaf)
      old = (await root.place(leaf.path)).lower
    } else if (leaf.kind === 'file') {
      old = await root.dataBelow(leaf.path)
      if (old === undefined && !counted.has(leaf.inode)) upperBytes += (await root.stat(leaf.path)).size
      counted.add(leaf.inode)
    }
    if (old === undefined || old === leaf.path || left.has(old)) return
    if ((await isMissing(base, leaf.path)) && (await isMissing(root, old))) {
      from.set(leaf.path, old)
      left.add(old)
    }
  }
  for (let directory = open.pop(); directory; directory = open.pop()) {
    stopIfAborted(signal)
    const { path } = directory
    if (!enter(directory)) continue
    const entries = (await trying(told, path, () => root.upperEntries(path))) ?? []
    for (const entry of entries)
      if (!entry.isWhiteout) {
        const leaf = leafOf(path, entry)
        await trying(told, leaf.path, () => look(leaf))
      }
  }
  return { from, left, upperBytes }
}

/**
 * Compares the names of the base and of the root, as far as the upper layer reaches: what only the base has is not looked at,
 * and a directory is listed where it was changed, moved or deleted.
 *
 * @throws CANCELLED
 */
export const compareUpper = async (comparing: Comparing): Promise<UpperTree> => {
  const { base, root, told, signal } = comparing
  const moves = await findMoves(comparing)
  const hasIndex = (await trying(told, '/', () => root.hasIndex())) ?? false
  const pairs: LeafPair[] = []
  const added: Leaf[] = []
  const removed: Leaf[] = []
  const open: LeafPair[] = []
  const come: Leaf[] = []
  const gone: Leaf[] = []
  const enterRoot = gatekeeper(comparing, root.name)
  const enterBase = gatekeeper(comparing, base.name)

  /** Names of a directory of the base. A character device 0:0 is none in a lower layer. */
  const inBase = async (path: string): Promise<readonly Leaf[]> => {
    const leaves: Leaf[] = []
    for (const entry of (await trying(told, path, () => base.list(path))) ?? []) {
      const leaf = leafOf(path, entry)
      const stat = entry.kind === 'character' ? await trying(told, leaf.path, () => base.stat(leaf.path)) : undefined
      if (stat?.device?.major !== 0 || stat.device.minor !== 0) leaves.push(leaf)
    }
    return leaves
  }
  const inRoot = async (path: string): Promise<readonly Leaf[]> =>
    ((await trying(told, path, () => root.list(path))) ?? []).map(entry => leafOf(path, entry))

  /** True where the root shows the very inode of the base, and nothing below it can be another one. */
  const isUntouched = async ({ path, kind }: Leaf, before: string): Promise<boolean> => {
    const place = await root.place(path)
    return place.upper === undefined && place.lower === before && !(hasIndex && kind === 'directory')
  }
  /** True where an upper inode is not the copy of that of the base: the name was given to it. */
  const isOther = async (before: Leaf, after: Leaf): Promise<boolean> => {
    if (before.kind !== after.kind) return true
    const place = await root.place(after.path)
    if (place.upper === undefined || after.kind === 'directory') return place.lower !== before.path
    return (await root.originInode(after.path)) !== root.lowerInode(before.inode)
  }

  const meet = async (parent: LeafPair, before: Leaf, after: Leaf): Promise<void> => {
    if (await isUntouched(after, before.path)) return
    const from = moves.from.get(after.path)
    // of a directory that was renamed itself, names may have been moved out of it or into it
    if (from === undefined ? moves.left.has(before.path) : from !== before.path) {
      parent.namesChanged = true
      gone.push(before)
      come.push(after)
      return
    }
    if (await isOther(before, after)) parent.namesChanged = true
    const pair: LeafPair = { before, after, renamed: false, namesChanged: false }
    pairs.push(pair)
    if (before.kind === 'directory' && after.kind === 'directory') open.push(pair)
    else {
      if (before.kind === 'directory') for (const leaf of await inBase(before.path)) gone.push(leaf)
      if (after.kind === 'directory') for (const leaf of await inRoot(after.path)) come.push(leaf)
    }
  }

  const compareDirectories = async (pair: LeafPair): Promise<void> => {
    const { before, after } = pair
    const were = new Map((await inBase(before.path)).map(leaf => [leaf.path.slice(before.path.length), leaf]))
    const nameOf = ({ path }: Leaf): string => path.slice(after.path.length)
    const place = await root.place(after.path)
    // what is neither in the upper directory nor deleted by it is as it was
    if (place.lower === before.path && !hasIndex) {
      for (const entry of await root.upperEntries(after.path)) {
        const leaf = leafOf(after.path, entry)
        const old = were.get(nameOf(leaf))
        if (!old || entry.isWhiteout) pair.namesChanged ||= !entry.isWhiteout || old !== undefined
        if (entry.isWhiteout) {
          if (old) gone.push(old)
        } else if (old) await trying(told, leaf.path, () => meet(pair, old, leaf))
        else come.push(leaf)
      }
      return
    }
    for (const leaf of await inRoot(after.path)) {
      const old = were.get(nameOf(leaf))
      were.delete(nameOf(leaf))
      if (old) await trying(told, leaf.path, () => meet(pair, old, leaf))
      else {
        pair.namesChanged = true
        come.push(leaf)
      }
    }
    if (were.size > 0) pair.namesChanged = true
    gone.push(...were.values())
  }

  const whole: LeafPair = { before: TOP, after: TOP, renamed: false, namesChanged: false }
  pairs.push(whole)
  open.push(whole)
  while (open.length + come.length + gone.length > 0) {
    stopIfAborted(signal)
    const pair = open.pop()
    if (pair) {
      if (enterRoot(pair.after) && enterBase(pair.before))
        await trying(told, pair.after.path, () => compareDirectories(pair))
      continue
    }
    const leaf = come.pop()
    if (leaf) {
      const old = moves.from.get(leaf.path)
      if (old !== undefined) {
        const inode = (await trying(told, old, () => base.stat(old)))?.inode ?? 0
        const moved: LeafPair = {
          before: { path: old, kind: leaf.kind, inode },
          after: leaf,
          renamed: true,
          namesChanged: false,
        }
        pairs.push(moved)
        if (leaf.kind === 'directory') open.push(moved)
        continue
      }
      added.push(leaf)
      if (leaf.kind === 'directory' && enterRoot(leaf)) for (const inner of await inRoot(leaf.path)) come.push(inner)
      continue
    }
    const old = gone.pop()
    if (!old || moves.left.has(old.path)) continue
    removed.push(old)
    if (old.kind === 'directory' && enterBase(old)) for (const inner of await inBase(old.path)) gone.push(inner)
  }
  return { ...(await pairCopies(comparing, { pairs, added, removed })), upperBytes: moves.upperBytes }
}

/** Makes pairs of files that went and of their copies that came under another name, as a rename in an OverlayFS leaves them. */
const pairCopies = async (
  { root, told }: Comparing,
  { pairs, added, removed }: Omit<UpperTree, 'upperBytes'>,
): Promise<Omit<UpperTree, 'upperBytes'>> => {
  const lost = new Map<number, Leaf[]>()
  for (const leaf of removed) {
    if (leaf.kind === 'directory') continue
    const inode = root.lowerInode(leaf.inode)
    const known = lost.get(inode)
    if (known) known.push(leaf)
    else lost.set(inode, [leaf])
  }
  const found: LeafPair[] = []
  const used = new Set<Leaf>()
  const byPath = (a: Leaf, b: Leaf): number => (a.path < b.path ? -1 : 1)
  for (const leaves of lost.values()) leaves.sort(byPath)
  for (const after of [...added].sort(byPath)) {
    if (after.kind === 'directory' || lost.size === 0) continue
    const origin = await trying(told, after.path, () => root.originInode(after.path))
    const left = origin === undefined ? undefined : lost.get(origin)
    if (left?.[0]?.kind !== after.kind) continue
    const before = left.shift()!
    found.push({ before, after, renamed: true, namesChanged: false })
    used.add(before).add(after)
  }
  return {
    pairs: [...pairs, ...found],
    added: added.filter(leaf => !used.has(leaf)),
    removed: removed.filter(leaf => !used.has(leaf)),
  }
}
