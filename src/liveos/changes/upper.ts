import type { Device } from '../../block/device.js'
import { fileDataLength } from '../../fs/data-length.js'
import { type FileSystem, hasXattrs, type Stat } from '../../fs/filesystem.js'
import type { OverlayFs } from '../../fs/overlayfs/reader.js'
import { closeAll } from '../../host/folder.js'
import { statAspects } from './attributes.js'
import { type Aspect, type Change, type Changes, comparePaths } from './change.js'
import type { ChangesOptions } from './read.js'
import { stopIfAborted, told } from './side.js'
import { type Comparing, compareUpper, type Leaf, type LeafPair, trying } from './upper-tree.js'

const PIECE = 1 << 20
const INSIDE: readonly Aspect[] = ['content', 'target', 'device']

const isWithin = (path: string, filter: string): boolean =>
  filter === '/' || path === filter || path.startsWith(`${filter}/`)

/** Bytes of a file that are no holes, of anything else none. */
const dataBytes = async (fs: FileSystem, path: string, { kind, size }: Stat): Promise<number> =>
  kind !== 'file' || size === 0 ? 0 : fileDataLength(fs, path)

/** Names of the attributes that differ; undefined where none does. */
const comparedXattrs = async ({ base, root }: Comparing, before: Leaf, after: Leaf): Promise<Change['xattrs']> => {
  const was = new Map(
    (hasXattrs(base) ? await root.lowerXattrs(before.path) : []).map(({ name, value }) => [name, value]),
  )
  const is = new Map((await root.xattrs(after.path)).map(({ name, value }) => [name, value]))
  const added = [...is.keys()].filter(name => !was.has(name)).sort()
  const removed = [...was.keys()].filter(name => !is.has(name)).sort()
  const changed = [...is.keys()].filter(name => was.has(name) && Buffer.compare(was.get(name)!, is.get(name)!) !== 0)
  return added.length + removed.length + changed.length > 0 ? { added, removed, changed: changed.sort() } : undefined
}

/** For each inode with several names the one that stands for it: one that was there before, else the first. */
const firstNames = (kept: readonly Leaf[], others: readonly Leaf[]): ReadonlyMap<number, string> => {
  const names = new Map<number, string>()
  for (const leaves of [kept, others]) {
    const found = new Map<number, string>()
    for (const { inode, path, kind } of leaves) {
      if (kind === 'directory' || names.has(inode)) continue
      const known = found.get(inode)
      if (known === undefined || comparePaths(path, known) < 0) found.set(inode, path)
    }
    for (const [inode, path] of found) names.set(inode, path)
  }
  return names
}

const linkTo = (names: ReadonlyMap<number, string>, { inode, path }: Leaf, stat: Stat): { linkTo?: string } => {
  const first = names.get(inode)
  return stat.kind !== 'directory' && stat.linkCount > 1 && first !== undefined && first !== path
    ? { linkTo: first }
    : {}
}

const targetOf = async (fs: FileSystem, path: string, { kind }: Stat): Promise<string | null> =>
  kind === 'symlink' ? fs.readLink(path) : null

/**
 * Finds what an OverlayFS changed, by file. Only what the upper layer holds is looked at, and what it moved or deleted; contents
 * are compared where it has a copy of the same size. Damage is told in the findings, and what it hides is not compared.
 *
 * Memory grows with the number of names in the upper layer and of what was deleted, not with their contents.
 *
 * @param base  the lower layer of `root`
 * @throws CANCELLED
 */
export const readUpperChanges = async (
  base: FileSystem,
  root: OverlayFs,
  { path: filter = '/', signal, onProgress = () => {} }: ChangesOptions = {},
): Promise<Changes> => {
  const findings = told()
  const comparing: Comparing = { base, root, told: findings, signal }
  onProgress('names', 0, 0)
  const { pairs, added, removed, upperBytes } = await compareUpper(comparing)
  const rootNames = firstNames(
    pairs.map(({ after }) => after),
    added,
  )
  const baseNames = firstNames(
    pairs.map(({ before }) => before),
    removed,
  )
  let doneBytes = 0
  const changes: Change[] = []

  /** True where the contents are the same. */
  const isSameContent = async ({ before, after }: LeafPair, size: number): Promise<boolean> => {
    const data = await root.dataBelow(after.path)
    const place = await root.place(after.path)
    if ((data ?? (place.upper === undefined ? place.lower : undefined)) === before.path) return true
    const open: Device[] = []
    try {
      for (const [fs, path] of [
        [base, before.path],
        [root, after.path],
      ] as const)
        open.push(await fs.open(path))
      for (let at = 0; at < size; at += PIECE) {
        stopIfAborted(signal)
        const length = Math.min(PIECE, size - at)
        const [a, b] = await Promise.all(open.map(file => file.read(at, length)))
        if (Buffer.compare(a!, b!) !== 0) return false
      }
      return true
    } finally {
      await closeAll(open)
    }
  }

  const comparePair = async (pair: LeafPair): Promise<Change | undefined> => {
    const { before: old, after: now, renamed, namesChanged } = pair
    const [before, after] = [await base.stat(old.path), await root.stat(now.path)]
    const from = old.path === now.path ? {} : { from: old.path }
    const target = { before: await targetOf(base, old.path, before), after: await targetOf(root, now.path, after) }
    const link = linkTo(rootNames, now, after)
    const common = {
      path: now.path,
      ...from,
      before,
      after,
      changedBytes: 0,
      ...(target.before === target.after ? {} : { target }),
    }
    if (before.kind !== after.kind)
      return { ...common, change: 'type', changed: [], changedBytes: await dataBytes(root, now.path, after) }
    const xattrs = await comparedXattrs(comparing, old, now)
    const isOther = after.kind === 'file' && (before.size !== after.size || !(await isSameContent(pair, after.size)))
    const changed: Aspect[] = [
      ...(isOther ? (['content'] as const) : []),
      ...(target.before === target.after ? [] : (['target'] as const)),
      ...statAspects(before, after, namesChanged),
      ...(xattrs ? (['xattrs'] as const) : []),
    ]
    if (changed.length === 0 && !renamed) return undefined
    const isInside = changed.some(aspect => INSIDE.includes(aspect))
    return {
      ...common,
      change: renamed ? 'renamed' : isInside ? 'modified' : 'attributes',
      changed,
      changedBytes: isOther && link.linkTo === undefined ? await dataBytes(root, now.path, after) : 0,
      ...(xattrs ? { xattrs } : {}),
      ...link,
    }
  }
  const compareAdded = async (leaf: Leaf): Promise<Change> => {
    const after = await root.stat(leaf.path)
    const link = linkTo(rootNames, leaf, after)
    return {
      path: leaf.path,
      change: 'added',
      changed: [],
      before: null,
      after,
      changedBytes: link.linkTo === undefined ? await dataBytes(root, leaf.path, after) : 0,
      ...(after.kind === 'symlink' ? { target: { before: null, after: await root.readLink(leaf.path) } } : {}),
      ...link,
    }
  }
  const compareRemoved = async (leaf: Leaf): Promise<Change> => {
    const before = await base.stat(leaf.path)
    const isOnly = linkTo(baseNames, leaf, before).linkTo === undefined
    return {
      path: leaf.path,
      change: 'deleted',
      changed: [],
      before,
      after: null,
      changedBytes: isOnly ? await dataBytes(base, leaf.path, before) : 0,
      ...(before.kind === 'symlink' ? { target: { before: await base.readLink(leaf.path), after: null } } : {}),
    }
  }
  const draft = async (path: string, work: () => Promise<Change | undefined>): Promise<void> => {
    stopIfAborted(signal)
    const change = await trying(findings, path, work)
    if (change) changes.push(change)
    doneBytes += change?.after?.kind === 'file' ? change.after.size : 0
    onProgress('contents', Math.min(doneBytes, upperBytes), upperBytes)
  }

  for (const pair of pairs)
    if (isWithin(pair.after.path, filter) || (pair.renamed && isWithin(pair.before.path, filter)))
      await draft(pair.after.path, () => comparePair(pair))
  for (const leaf of added) if (isWithin(leaf.path, filter)) await draft(leaf.path, () => compareAdded(leaf))
  for (const leaf of removed) if (isWithin(leaf.path, filter)) await draft(leaf.path, () => compareRemoved(leaf))
  changes.sort((a, b) => comparePaths(a.path, b.path))
  return { changes, touchedBytes: upperBytes, findings: findings.all() }
}
