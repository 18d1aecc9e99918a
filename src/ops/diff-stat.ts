import { splitPath } from '../fs/filesystem.js'
import { type Change, type ChangeKind, comparePaths } from '../liveos/changes/change.js'

/** Counts of changes, by kind, and what they take together. */
export type Totals = Readonly<Record<ChangeKind, number>> & {
  readonly count: number
  /** bytes of data that are others than before, those of deleted files counted too */
  readonly changedBytes: number
  /** bytes that files grew by, less what went or shrank; holes counted */
  readonly grownBytes: number
}

/** What changed below a directory. */
export interface DirectoryStat extends Totals {
  readonly directory: string
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

const none = (): Mutable<Totals> => ({
  count: 0,
  added: 0,
  deleted: 0,
  modified: 0,
  type: 0,
  renamed: 0,
  attributes: 0,
  changedBytes: 0,
  grownBytes: 0,
})

const sizeOf = (stat: Change['before']): number => (stat?.kind === 'file' ? stat.size : 0)

const count = (totals: Mutable<Totals>, change: Change): void => {
  totals.count++
  totals[change.change]++
  totals.changedBytes += change.changedBytes
  if (change.linkTo === undefined) totals.grownBytes += sizeOf(change.after) - sizeOf(change.before)
}

/** Sums of changes: all, and by the directories that they are in, at most `depth` deep. */
export const statOf = (
  changes: readonly Change[],
  depth: number,
): { readonly totals: Totals; readonly directories: readonly DirectoryStat[] } => {
  const totals = none()
  const byDirectory = new Map<string, Mutable<Totals>>()
  for (const change of changes) {
    count(totals, change)
    const directory = `/${splitPath(change.path).slice(0, -1).slice(0, depth).join('/')}`
    const known = byDirectory.get(directory) ?? none()
    byDirectory.set(directory, known)
    count(known, change)
  }
  return {
    totals,
    directories: [...byDirectory]
      .map(([directory, sums]) => ({ directory, ...sums }))
      .sort((a, b) => comparePaths(a.directory, b.directory)),
  }
}
