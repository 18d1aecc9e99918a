import { basename } from 'node:path/posix'
import { setImmediate } from 'node:timers/promises'
import { extentsOf } from '../block/device.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, type Stat, splitPath } from '../fs/filesystem.js'
import { type Walked, walk } from '../fs/walk.js'
import { openSeen, type Seen } from './copy-seen.js'

/** What to copy: a path of the source, and the names it gets below the target (`''` for the target itself). */
export interface CopyPath {
  readonly path: string
  readonly as: string
}

/** An inode to copy. */
export interface CopyItem {
  /** in the source */
  readonly path: string
  /** names below the target; none for the target itself */
  readonly names: readonly string[]
  readonly stat: Stat
}

/** How much there is to copy. */
export interface Measured {
  /** bytes of files, each inode counted once, holes left out where the source knows them */
  readonly dataBytes: number
  /** bytes of files, holes counted too */
  readonly bytes: number
  readonly items: number
}

export interface CopySource {
  readonly from: FileSystem
  /** Goes over all once, and keeps what it saw where that is not too much. */
  measure(onBytes: (bytes: number) => void): Promise<Measured>
  /** All there is to copy, a directory before what it holds. Findings of the walk are told once. */
  items(): AsyncIterable<CopyItem>
}

/** Items kept from measuring, so that the tree is walked once, and characters of their paths: some 40 MiB at most. */
const KEPT_ITEMS = 200_000
const KEPT_CHARACTERS = 16 << 20
/** After so many of them signals and timers have a turn: nothing else may wait here. */
const TURN_ITEMS = 256
/** Files from this size on are asked for their holes when measured. */
const ASK_HOLES = 1 << 20

/** Names of the target for each path. @throws USAGE  a name that leads elsewhere */
export const copyPaths = (paths: readonly (string | CopyPath)[]): readonly CopyPath[] =>
  paths.map(given => {
    const path = typeof given === 'string' ? given : given.path
    const as = typeof given === 'string' ? basename(`/${splitPath(given).join('/')}`) : given.as
    if (splitPath(as).includes('..') || as.includes('\0'))
      throw new LiveError('USAGE', `${as} leads out of the target`, { path: as })
    return { path, as }
  })

/** A path that is copied, as the walk spells it. */
interface Start {
  /** its names in the target */
  readonly top: readonly string[]
  /** characters of a path in front of the names that it has below `top` */
  readonly skip: number
}

/** Names are made when they are wanted, since they take more room than the rest. */
const itemOf = ({ path, stat }: Walked, { top, skip }: Start): CopyItem => ({
  path,
  names: path.length > skip ? [...top, ...path.slice(skip).split('/')] : top,
  stat,
})

const dataOf = async (from: FileSystem, path: string, size: number): Promise<number> => {
  let data = 0
  try {
    const device = await from.open(path)
    try {
      for await (const { kind, length } of extentsOf(device)) if (kind === 'data') data += length
    } finally {
      await device.close()
    }
  } catch {
    // copying it will tell
    return size
  }
  return data
}

/** What a copy reads. Hard links count once. @throws USAGE  see `copyPaths` */
export const copySource = (
  from: FileSystem,
  paths: readonly (string | CopyPath)[],
  order: 'bytes' | 'medium',
  onFinding: (finding: Finding) => void,
  signal: AbortSignal | undefined,
): CopySource => {
  const wanted = copyPaths(paths)
  const starts = wanted.map(({ path, as }): Start => {
    // the walk gives paths in one spelling
    const depth = splitPath(path).join('/').length
    return { top: splitPath(as), skip: depth === 0 ? 1 : depth + 2 }
  })
  let kept: Seen | undefined

  const read = (start: number, tell: (finding: Finding) => void): AsyncIterable<Walked> =>
    walk(from, wanted[start]!.path, { order, onFinding: tell, signal })

  return {
    from,
    async measure(onBytes) {
      const linked = new Set<number>()
      const findings: Finding[] = []
      let [dataBytes, bytes, items, characters] = [0, 0, 0, 0]
      kept = openSeen()
      const tell = (finding: Finding): void => void (findings.length < 10_000 && findings.push(finding))
      const look = async ({ path, stat }: Walked): Promise<void> => {
        if (stat.linkCount > 1) {
          if (linked.has(stat.inode)) return
          linked.add(stat.inode)
        }
        bytes += stat.size
        dataBytes += stat.size < ASK_HOLES ? stat.size : await dataOf(from, path, stat.size)
        onBytes(bytes)
      }
      for (const start of wanted.keys())
        for await (const item of read(start, tell)) {
          items++
          characters += item.path.length
          if (items > KEPT_ITEMS || characters > KEPT_CHARACTERS) kept = undefined
          kept?.add(item.path, item.stat, start)
          if (item.stat.kind === 'file') await look(item)
        }
      if (kept) for (const finding of findings) onFinding(finding)
      return { dataBytes, bytes, items }
    },
    async *items() {
      if (!kept) {
        for (const [start, how] of starts.entries())
          for await (const item of read(start, onFinding)) yield itemOf(item, how)
        return
      }
      for (let index = 0; index < kept.count; index++) {
        if (signal?.aborted)
          throw new LiveError('CANCELLED', `copying from ${from.name} was cancelled`, {}, signal.reason)
        if (index % TURN_ITEMS === TURN_ITEMS - 1) await setImmediate()
        const item = kept.at(index)
        yield itemOf(item, starts[item.start]!)
      }
    },
  }
}

/** Names of one inode that were met. */
export interface HardLinks<T> {
  /** What stands for the inode already; undefined for its first name, and for inodes with one name. */
  first(item: CopyItem): T | undefined
  /** the first name's copy, for the names that follow */
  remember(item: CopyItem, made: T): void
}

/** Follows files with several names. An inode is forgotten when all its names were met. */
export const hardLinks = <T>(): HardLinks<T> => {
  const known = new Map<number, { made: T; left: number; stat: Stat }>()
  const isLinked = ({ stat }: CopyItem): boolean => stat.kind === 'file' && stat.linkCount > 1
  // a number that two inodes share, on a damaged medium, makes no link of different files
  const isSame = (a: Stat, b: Stat): boolean =>
    a.size === b.size && a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && a.mtime === b.mtime
  return {
    first(item) {
      const found = isLinked(item) ? known.get(item.stat.inode) : undefined
      if (!found || !isSame(found.stat, item.stat)) return undefined
      if (--found.left === 0) known.delete(item.stat.inode)
      return found.made
    },
    remember(item, made) {
      const { stat } = item
      if (isLinked(item)) known.set(stat.inode, { made, left: stat.linkCount - 1, stat })
    },
  }
}
