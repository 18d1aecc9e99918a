import type { BigIntStats } from 'node:fs'
import { fstatSync, lstatSync } from 'node:fs'
import { lstat, realpath, stat, statfs } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { isLiveError, LiveError } from '../error.js'
import { type FileSystem, splitPath } from '../fs/filesystem.js'
import { encodeName, printableName } from '../fs/name.js'
import { resolvePath } from '../fs/resolve.js'
import { type FolderTraits, traitsOf } from '../host/folder.js'
import { writesOver } from '../host/same-bytes.js'
import { hostName } from './copy-names.js'
import { copySource } from './copy-source.js'

/** A file or device of this computer that is being read. */
interface Kept {
  readonly path: string
  readonly stats: BigIntStats
}

const keptOf = async (files: readonly string[]): Promise<readonly Kept[]> => {
  const kept: Kept[] = []
  for (const path of files) {
    // what is no file of this computer, such as an address of a server, can't be written over
    const stats = await stat(path, { bigint: true }).catch(() => undefined)
    if (stats && !stats.isDirectory()) kept.push({ path, stats })
  }
  return kept
}

const refused = (to: string, { path }: Kept): LiveError =>
  new LiveError(
    'REFUSED',
    `${printableName(to)} ${to === path ? 'is' : `is or holds ${printableName(path)}, which is`} being read, and writing there would lose all it holds: choose another place`,
    { path: to, source: path },
  )

const checkStats = async (to: string, stats: BigIntStats, kept: readonly Kept[]): Promise<void> => {
  for (const one of kept) if (await writesOver(stats, one.stats)) throw refused(to, one)
}

/**
 * Looks whether a stream that is written, such as standard output, leads to what is being read.
 *
 * @param files  that are being read
 * @throws REFUSED
 */
export const checkStream = async (fd: number, files: readonly string[]): Promise<void> => {
  let stats: BigIntStats
  try {
    stats = fstatSync(fd, { bigint: true })
  } catch {
    return
  }
  if (stats.isFile() || stats.isBlockDevice()) await checkStats('standard output', stats, await keptOf(files))
}

/** What is at a path and where it leads, where it is a link. */
const statsAt = async (path: string): Promise<readonly BigIntStats[]> => {
  const found = await Promise.all([
    lstat(path, { bigint: true }).catch(() => undefined),
    stat(path, { bigint: true }).catch(() => undefined),
  ])
  return found.filter(stats => stats !== undefined)
}

/**
 * Looks whether a file that is to be written is one that is being read, by whatever name.
 *
 * @throws REFUSED
 */
export const checkNotSource = async (to: string, files: readonly string[]): Promise<void> => {
  const kept = await keptOf(files)
  for (const stats of await statsAt(to)) await checkStats(to, stats, kept)
}

const isBelow = (path: string, directory: string): boolean =>
  path.startsWith(directory.endsWith(sep) ? directory : directory + sep)

/** Files that are read and may have a name below a directory: their path says so, or they have further names. */
const keptBelow = async (directory: string, kept: readonly Kept[]): Promise<readonly Kept[]> => {
  const { dev } = await stat(directory, { bigint: true })
  const found: Kept[] = []
  for (const one of kept) {
    const isLinked = one.stats.nlink > 1n && one.stats.dev === dev
    if (isLinked || isBelow(await realpath(one.path), directory)) found.push(one)
  }
  return found
}

/** What is at a name below a directory, by names that may be no UTF-8. */
const statBelow = (
  directory: string,
  names: readonly string[],
  kind: FolderTraits['kind'],
): BigIntStats | undefined => {
  const parts = names.flatMap(name => [Buffer.from('/'), hostName(encodeName(name), kind).name])
  try {
    return lstatSync(Buffer.concat([Buffer.from(directory), ...parts]), { bigint: true, throwIfNoEntry: false })
  } catch {
    // no such place: nothing is replaced there
    return undefined
  }
}

const checkTree = async (
  from: FileSystem,
  paths: readonly string[],
  directory: string,
  kept: readonly Kept[],
): Promise<void> => {
  const { kind } = traitsOf((await statfs(directory)).type)
  const found: string[] = []
  for (const path of paths)
    found.push(await resolvePath(from, path, { followLast: path.endsWith('/') && splitPath(path).length > 0 }))
  for await (const { names, stat } of copySource(from, found, 'medium', () => {}, undefined).items()) {
    if (stat.kind === 'directory') continue
    const there = statBelow(directory, names, kind)
    if (there) await checkStats(join(directory, ...names), there, kept)
  }
}

/**
 * Looks whether a copy would replace what it is made from: the image, overlay, disk or stick that is being read, by whatever
 * name, also in a directory that files are copied into.
 *
 * @param to       as `copyOut` takes it
 * @param files    that are being read
 * @param replaces  files in a directory are replaced
 * @throws REFUSED  before anything is written
 */
export const checkNotOnto = async (
  {
    from,
    paths,
    to,
    files,
  }: {
    readonly from: FileSystem
    readonly paths: readonly string[]
    readonly to: string
    readonly files: readonly string[]
  },
  replaces: boolean,
): Promise<void> => {
  if (to === '-') return checkStream(1, files)
  await checkNotSource(to, files)
  const kept = await keptOf(files)
  const directory = replaces ? await realpath(to).catch(() => undefined) : undefined
  if (directory === undefined || !(await stat(directory)).isDirectory()) return
  const below = await keptBelow(directory, kept)
  if (below.length === 0) return
  try {
    await checkTree(from, paths, directory, below)
  } catch (error) {
    // what else is wrong the copy tells in its own words
    if (isLiveError(error) && error.code === 'REFUSED') throw error
  }
}
