import { linear } from '../../block/linear.js'
import { corrupt, LiveError } from '../../error.js'
import { splitPath } from '../filesystem.js'
import { type Chain, type ClusterRun, clusterStart, readChain, segmentsOf, type Volume } from './chain.js'
import { type Directory, type FatEntry, isDirectory, parseDirectory } from './directory.js'

/** bytes of a directory at most. @see linux fs/fat/fat.h, FAT_MAX_DIR_SIZE */
const LARGEST_DIRECTORY = 65_536 * 32
/** entries of all directories that are kept at most, besides those of the last one */
const KEPT_ENTRIES = 65_536
/** where the root directory stands in the map of those entered; no cluster has the number */
const FIXED_ROOT = 0

/** A directory that was read. */
export interface OpenDirectory extends Directory {
  /** bytes it takes on the medium */
  readonly size: number
  /** the entry of a name, as written or in any case, long or short */
  find(name: string): FatEntry | undefined
}

/** The directories of a volume. */
export interface Tree {
  /** A directory by its entry; the root has none. @throws CORRUPT  also for one that was entered under another name before */
  directory(entry: FatEntry | undefined): Promise<OpenDirectory>
  /** The entry of a path; undefined for the root. @throws NOT_FOUND, CORRUPT */
  lookup(path: string): Promise<FatEntry | undefined>
}

/** A letter in upper case where that is one letter too, so that names that differ only in case become one. */
const fold = (name: string): string => {
  let folded = ''
  for (const character of name) {
    const upper = character.toUpperCase()
    folded += upper.length === character.length ? upper : character
  }
  return folded
}

const finder = (entries: readonly FatEntry[]): ((name: string) => FatEntry | undefined) => {
  const exact = new Map<string, FatEntry>()
  const folded = new Map<string, FatEntry>()
  const aliases = new Map<string, FatEntry>()
  // The first of a name wins, as under Linux.
  const put = (map: Map<string, FatEntry>, name: string, entry: FatEntry): void => {
    if (!map.has(name)) map.set(name, entry)
  }
  for (const entry of entries) {
    put(exact, entry.name, entry)
    put(folded, fold(entry.name), entry)
    put(aliases, fold(entry.shortName), entry)
  }
  return name => {
    const plain = fold(name.replace(/\.+$/, ''))
    return exact.get(name) ?? folded.get(plain) ?? aliases.get(plain)
  }
}

/** What a file's or directory's chain must be. */
export const chainOf = (volume: Volume, entry: FatEntry, owner: string): Chain => {
  const { clusterSize, clusterCount } = volume.boot
  const position = entry.position + 26
  if (isDirectory(entry))
    return { firstCluster: entry.firstCluster, position, owner, most: Math.floor(LARGEST_DIRECTORY / clusterSize) }
  const exactly = Math.ceil(entry.size / clusterSize)
  if (exactly > clusterCount)
    throw corrupt({
      device: volume.device.name,
      offset: entry.position + 28,
      field: `DIR_FileSize of ${owner}`,
      expected: `at most ${clusterCount * clusterSize}`,
      found: entry.size,
    })
  return { firstCluster: entry.firstCluster, position, owner, exactly, most: exactly }
}

/** The chain of FAT32's root directory; undefined for FAT12 and FAT16, whose root has a place of its own. */
export const rootChain = ({ boot }: Volume): Chain | undefined =>
  boot.variant === 32
    ? {
        firstCluster: boot.BPB_RootClus,
        position: 44,
        owner: 'root directory',
        most: Math.floor(LARGEST_DIRECTORY / boot.clusterSize),
      }
    : undefined

const readDirectory = async (
  volume: Volume,
  entry: FatEntry | undefined,
  cluster: number,
  claim: (clusters: readonly ClusterRun[]) => void,
): Promise<OpenDirectory> => {
  const { device, boot } = volume
  const { variant, rootStart, rootSize, clusterSize } = boot
  const parsed = (bytes: Uint8Array, place: (offset: number) => number): OpenDirectory => {
    const directory = parseDirectory(bytes, device.name, { cluster, wideClusters: variant === 32, place })
    let find: OpenDirectory['find'] | undefined
    return {
      ...directory,
      size: bytes.length,
      find: name => {
        find ??= finder(directory.entries)
        return find(name)
      },
    }
  }
  const chain = entry ? chainOf(volume, entry, `directory ${JSON.stringify(entry.name)}`) : rootChain(volume)
  if (!chain) return parsed(await device.read(rootStart, rootSize), offset => rootStart + offset)
  const runs = await readChain(volume, chain)
  claim(runs)
  const size = runs.reduce((sum, { count }) => sum + count * clusterSize, 0)
  const bytes = await linear(segmentsOf(volume, runs, size), chain.owner).read(0, size)
  return parsed(bytes, offset => {
    let left = Math.floor(offset / clusterSize)
    for (const { first, count } of runs) {
      if (left < count) return clusterStart(boot, first + left) + (offset % clusterSize)
      left -= count
    }
    return 0
  })
}

/** Opens the directories of a volume; those read last are kept. */
export const openTree = (volume: Volume): Tree => {
  const { device, boot } = volume
  const rootCluster = boot.variant === 32 ? boot.BPB_RootClus : FIXED_ROOT
  const kept = new Map<number, Promise<OpenDirectory>>()
  const counts = new Map<number, number>()
  /**
   * Clusters of the directories entered, and the name by which each was. None has two, so that every walk ends, and before it
   * has listed more than the volume holds.
   */
  const namedBy = new Map<number, string>([[rootCluster, 'root']])
  const nameOf = (entry: FatEntry | undefined): string => (entry ? `${entry.parentCluster}:${entry.position}` : 'root')
  const claim = (entry: FatEntry | undefined, cluster: number): void => {
    const name = nameOf(entry)
    const other = namedBy.get(cluster)
    if (other !== undefined && other !== name)
      throw corrupt({
        device: device.name,
        offset: entry ? entry.position + 26 : 44,
        field: entry ? `clusters of directory ${JSON.stringify(entry.name)}` : 'clusters of the root directory',
        expected: 'a directory with one name',
        found: `${cluster}, which is in another directory too, or in one that holds this`,
      })
    namedBy.set(cluster, name)
  }

  const evict = (): void => {
    let total = 0
    for (const count of counts.values()) total += count
    for (const [oldest, count] of counts) {
      if (total <= KEPT_ENTRIES || counts.size === 1) break
      total -= count
      counts.delete(oldest)
      kept.delete(oldest)
    }
  }
  const read = (entry: FatEntry | undefined): Promise<OpenDirectory> => {
    const cluster = entry ? entry.firstCluster : rootCluster
    const known = kept.get(cluster)
    if (known) {
      const count = counts.get(cluster)
      if (count !== undefined) {
        counts.delete(cluster)
        counts.set(cluster, count)
      }
      return known
    }
    const reading = readDirectory(volume, entry, cluster, runs => {
      for (const { first, count } of runs) for (let n = first; n < first + count; n++) claim(entry, n)
    })
    kept.set(cluster, reading)
    reading.then(
      ({ entries }) => {
        if (kept.get(cluster) !== reading) return
        counts.set(cluster, entries.length + 1)
        evict()
      },
      () => kept.delete(cluster),
    )
    return reading
  }
  const enter = async (entry: FatEntry | undefined): Promise<OpenDirectory> => {
    if (entry) claim(entry, entry.firstCluster)
    return read(entry)
  }
  const notFound = (path: string) =>
    new LiveError('NOT_FOUND', `${device.name}: no file or directory ${path}`, { device: device.name, path })
  return {
    directory: enter,
    async lookup(path) {
      let entry: FatEntry | undefined
      for (const name of splitPath(path)) {
        if (entry && !isDirectory(entry)) throw notFound(path)
        entry = (await enter(entry)).find(name)
        if (!entry) throw notFound(path)
      }
      return entry
    },
  }
}
