import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Entry, type FileSystem, pathBelow, type Stat, splitPath } from './filesystem.js'
import { encodeName, printableName } from './name.js'

/** An inode met on a walk, under one of its names. */
export interface Walked {
  /** absolute, without a slash at the end; `/` for the root */
  readonly path: string
  readonly stat: Stat
}

export interface WalkOptions {
  /**
   * `bytes`: names of a directory by their bytes, the same on every medium; `medium` if left out: by inode number, as inodes
   * and their data lie on the medium in about that order, and a list, as by the hashes of ext4, in none
   */
  readonly order?: 'bytes' | 'medium'
  /** how many directories deep: 1 gives what the path holds and no more. Past 1024 there is a finding in any case. */
  readonly maxDepth?: number
  /** told of what can't be read, and the walk goes on; without it the walk ends with the error */
  readonly onFinding?: (finding: Finding) => void
  readonly signal?: AbortSignal | undefined
}

const MAX_DEPTH = 1024
/** Where a walk of a directory begins. */
const FIRST = { next: 0, stats: [], statsFrom: 0 } as const

const byBytes = (entries: readonly Entry[]): readonly Entry[] =>
  entries
    .map(entry => ({ entry, bytes: encodeName(entry.name) }))
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .map(({ entry }) => entry)

const byInode = (entries: readonly Entry[]): readonly Entry[] => entries.toSorted((a, b) => a.inode - b.inode)

const isName = (name: string): boolean => name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name)

/** So many of a directory's names are looked at together. */
const STATS_AT_ONCE = 256

/** A directory whose entries are being walked. */
interface Level {
  readonly path: string
  readonly entries: readonly Entry[]
  next: number
  /** of the entries from `statsFrom` on */
  stats: readonly (Stat | LiveError)[]
  statsFrom: number
}

/**
 * Walks a path and all below it: depth first, a directory before what it holds. Symlinks are given and never followed.
 * Every directory is entered once, so a walk of a damaged filesystem ends.
 *
 * @param path  where to start; no symlink on its way is followed
 * @throws CANCELLED  the signal was aborted
 * @throws NOT_FOUND, CORRUPT, IO  the path itself; without `onFinding`, anything below it
 */
export async function* walk(
  fs: FileSystem,
  path = '/',
  { order = 'medium', maxDepth = Number.POSITIVE_INFINITY, onFinding, signal }: WalkOptions = {},
): AsyncGenerator<Walked, void> {
  const tell = (error: LiveError, where: string): void => {
    if (!onFinding || error.code === 'CANCELLED') throw error
    const message = error.message.includes(where) ? error.message : `${printableName(where)}: ${error.message}`
    onFinding({ code: `WALK_${error.code}`, severity: 'error', where, message })
  }
  const trying = async <T>(where: string, work: () => Promise<T>): Promise<T | undefined> => {
    if (signal?.aborted) throw new LiveError('CANCELLED', `walking ${fs.name} was cancelled`, {}, signal.reason)
    try {
      return await work()
    } catch (error) {
      if (!isLiveError(error)) throw error
      tell(error, where)
      return undefined
    }
  }
  const damaged = (where: string, why: string): void =>
    tell(
      new LiveError('CORRUPT', `${fs.name}: ${printableName(where)}: ${why}`, { device: fs.name, path: where }),
      where,
    )

  const entered = new Map<number, string>()
  const levels: Level[] = []
  const enter = async (where: string, stat: Stat): Promise<void> => {
    if (levels.length >= maxDepth) return
    if (levels.length >= MAX_DEPTH) {
      tell(new LiveError('OUT_OF_RANGE', `${printableName(where)} is more than ${MAX_DEPTH} directories deep`), where)
      return
    }
    const other = entered.get(stat.inode)
    if (other !== undefined) {
      damaged(where, `a directory that was met as ${printableName(other)} before`)
      return
    }
    entered.set(stat.inode, where)
    const listed = await trying(where, () => fs.list(where))
    if (listed) levels.push({ path: where, entries: order === 'bytes' ? byBytes(listed) : byInode(listed), ...FIRST })
  }
  const statOf = async (level: Level, index: number, where: string): Promise<Stat> => {
    if (!fs.stats) return fs.stat(where)
    if (index >= level.statsFrom + level.stats.length) {
      const names = level.entries.slice(index, index + STATS_AT_ONCE).map(({ name }) => name)
      level.stats = await fs.stats(level.path, names)
      level.statsFrom = index
    }
    const found = level.stats[index - level.statsFrom]!
    if (isLiveError(found)) throw found
    return found
  }

  if (signal?.aborted) throw new LiveError('CANCELLED', `walking ${fs.name} was cancelled`, {}, signal.reason)
  const start = `/${splitPath(path).join('/')}`
  const stat = await fs.stat(start)
  yield { path: start, stat }
  if (stat.kind === 'directory') await enter(start, stat)
  for (let level = levels.at(-1); level; level = levels.at(-1)) {
    const index = level.next++
    const entry = level.entries[index]
    if (!entry) {
      levels.pop()
      continue
    }
    const where = pathBelow(level.path, entry.name)
    if (!isName(entry.name)) {
      damaged(where, 'a name that can be none')
      continue
    }
    const found = await trying(where, () => statOf(level, index, where))
    if (!found) continue
    yield { path: where, stat: found }
    if (found.kind === 'directory') await enter(where, found)
  }
}
