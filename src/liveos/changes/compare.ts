import { isLiveError } from '../../error.js'
import type { Ext4Inode } from '../../fs/ext4/inode.js'
import type { Stat } from '../../fs/filesystem.js'
import { compareXattrs, liveStat, statAspects, targetOf } from './attributes.js'
import { type Aspect, type Change, type ChangeKind, comparePaths } from './change.js'
import { type Compared, type ContentComparison, dataBytes } from './content.js'
import { stopIfAborted } from './side.js'
import type { Sweeping } from './sweep.js'
import type { Named, Pair, TreeChanges } from './tree.js'

/** A change whose contents may still have to be compared. */
interface Draft {
  readonly change: Change
  readonly content?: Compared | undefined
}

const INSIDE: readonly Aspect[] = ['content', 'target', 'device']

/** The draft once contents were compared; undefined where nothing changed after all. */
const finished = ({ change, content }: Draft): Change | undefined => {
  const kind = change.change
  if (kind === 'added' || kind === 'deleted' || kind === 'type') return change
  const changed: readonly Aspect[] = content?.changed ? ['content', ...change.changed] : change.changed
  // Of an inode with several names one of them counts the bytes.
  const changedBytes = change.linkTo === undefined ? (content?.changedBytes ?? 0) : 0
  if (kind === 'renamed') return { ...change, changed, changedBytes }
  if (changed.length === 0) return undefined
  const modified: ChangeKind = changed.some(aspect => INSIDE.includes(aspect)) ? 'modified' : 'attributes'
  return { ...change, change: modified, changed, changedBytes }
}

/** For each inode the name that stands for it: one that was there before and after, else the first one. */
const firstNames = (kept: readonly Named[], others: readonly Named[]): ReadonlyMap<number, string> => {
  const names = new Map<number, string>()
  const add = (files: readonly Named[]): void => {
    const found = new Map<number, string>()
    for (const { ino, path, kind } of files) {
      if (kind === 'directory' || names.has(ino)) continue
      const known = found.get(ino)
      if (known === undefined || comparePaths(path, known) < 0) found.set(ino, path)
    }
    for (const [ino, path] of found) names.set(ino, path)
  }
  add(kept)
  add(others)
  return names
}

/**
 * Compares the inodes of all that may differ.
 *
 * @param wanted  which paths; a rename counts where either of its paths does
 * @returns in the order of the paths' bytes
 * @throws CANCELLED
 */
export const compareInodes = async (
  sweeping: Sweeping,
  trees: TreeChanges,
  contents: ContentComparison,
  wanted: (path: string) => boolean,
): Promise<readonly Change[]> => {
  const { base, root, touched, told, signal } = sweeping
  const drafts: Draft[] = []

  const draft = async (path: string, work: () => Promise<Draft>): Promise<void> => {
    stopIfAborted(signal)
    try {
      drafts.push(await work())
    } catch (error) {
      if (!isLiveError(error)) throw error
      told.tell(error, path)
    }
  }

  const comparePair = async ({ before: old, after: now, renamed, namesChanged }: Pair): Promise<Draft> => {
    const [was, is] = [await base.inode(old.ino), await root.inode(now.ino)]
    const [before, after] = [liveStat(base, was), liveStat(root, is)]
    const from = old.path === now.path ? {} : { from: old.path }
    const target = { before: await targetOf(base, was), after: await targetOf(root, is) }
    const shownTarget = target.before === target.after ? {} : { target }
    const common = { path: now.path, ...from, before, after, changedBytes: 0, ...shownTarget }
    if (before.kind !== after.kind) {
      const changedBytes = await dataBytes(root, is)
      return { change: { ...common, change: 'type', changed: [], changedBytes } }
    }
    const xattrs = await compareXattrs(base, root, was, is, touched)
    const changed: Aspect[] = [
      ...(target.before === target.after ? [] : (['target'] as const)),
      ...statAspects(before, after, namesChanged),
      ...(xattrs ? (['xattrs'] as const) : []),
    ]
    const content = after.kind === 'file' ? await compareContents(now.path, was, is) : undefined
    const link = linkTo(rootNames, now, after)
    const change = renamed ? ('renamed' as const) : ('attributes' as const)
    return { change: { ...common, change, changed, ...(xattrs ? { xattrs } : {}), ...link }, content }
  }

  const rootNames = firstNames(
    trees.pairs.map(({ after }) => after),
    trees.added,
  )
  const baseNames = firstNames(
    trees.pairs.map(({ before }) => before),
    trees.removed,
  )
  const linkTo = (names: ReadonlyMap<number, string>, { ino, path }: Named, stat: Stat): { linkTo?: string } => {
    const first = names.get(ino)
    return stat.kind !== 'directory' && stat.linkCount > 1 && first !== undefined && first !== path
      ? { linkTo: first }
      : {}
  }
  /** Contents of inodes with several names, compared once. */
  const linked = new Map<string, Promise<Compared>>()
  const compareContents = (path: string, was: Ext4Inode, is: Ext4Inode): Promise<Compared> => {
    if (is.linkCount < 2) return contents.add(path, was, is)
    const key = `${was.ino} ${is.ino}`
    const found = linked.get(key) ?? contents.add(path, was, is)
    linked.set(key, found)
    return found
  }

  const compareAdded = async (named: Named): Promise<Draft> => {
    const inode = await root.inode(named.ino)
    const after = liveStat(root, inode)
    const link = linkTo(rootNames, named, after)
    const changedBytes = link.linkTo === undefined ? await dataBytes(root, inode) : 0
    const target = after.kind === 'symlink' ? { target: { before: null, after: await targetOf(root, inode) } } : {}
    const change = { path: named.path, change: 'added', changed: [], before: null, after, changedBytes } as const
    return { change: { ...change, ...target, ...link } }
  }
  const compareRemoved = async (named: Named): Promise<Draft> => {
    const inode = await base.inode(named.ino)
    const before = liveStat(base, inode)
    // What other names still lead to is not gone, and what is gone counts once.
    const { linkTo: other } = linkTo(baseNames, named, before)
    const changedBytes = other === undefined ? await dataBytes(base, inode) : 0
    const target = before.kind === 'symlink' ? { target: { before: await targetOf(base, inode), after: null } } : {}
    const change = { path: named.path, change: 'deleted', changed: [], before, after: null, changedBytes } as const
    return { change: { ...change, ...target } }
  }

  for (const pair of trees.pairs)
    if (wanted(pair.after.path) || (pair.renamed && wanted(pair.before.path)))
      await draft(pair.after.path, () => comparePair(pair))
  for (const named of trees.added) if (wanted(named.path)) await draft(named.path, () => compareAdded(named))
  for (const named of trees.removed) if (wanted(named.path)) await draft(named.path, () => compareRemoved(named))
  await contents.run(sweeping.onBytes)
  return drafts
    .map(finished)
    .filter(change => change !== undefined)
    .sort((a, b) => comparePaths(a.path, b.path))
}
