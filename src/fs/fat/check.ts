import { type ErrorData, isLiveError, LiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import { printableName } from '../name.js'
import type { ClusterRun } from './chain.js'
import { type FatEntry, isDirectory } from './directory.js'
import { BOOT_SECTOR_SIZE, END_OF_CHAIN, FIRST_CLUSTER, parseFreeCount } from './layout.js'
import type { Fat } from './reader.js'

/** findings told at most; of a volume with more the rest is only counted */
const MOST_FINDINGS = 1000
/** characters of a path that is still followed; Linux opens none so long */
const LONGEST_PATH = 16_384
/** bytes of two tables compared at a time */
const PIECE = 65_536

/** A name met on the walk over the whole volume. */
interface Met {
  readonly path: string
  /** undefined for the root */
  readonly entry: FatEntry | undefined
}

/** The directories and files of a volume, a directory before what it holds; of a directory that can't be read `broken` is told. */
async function* metNames(fat: Fat, broken: (path: string, error: LiveError) => void): AsyncGenerator<Met, void> {
  const ahead: Met[] = [{ path: '', entry: undefined }]
  for (let met = ahead.pop(); met; met = ahead.pop()) {
    const { path, entry } = met
    yield met
    if (entry && !isDirectory(entry)) continue
    const directory = await damaged(fat.directory(entry))
    if (isLiveError(directory)) broken(path === '' ? '/' : path, directory)
    else
      for (const child of directory.entries) {
        const below = `${path}/${child.name}`
        if (below.length <= LONGEST_PATH) ahead.push({ path: below, entry: child })
        else
          broken(path, new LiveError('OUT_OF_RANGE', `what it holds has paths of more than ${LONGEST_PATH} characters`))
      }
  }
}

/** A value, or the fault of the volume in its place. Other errors pass. */
const damaged = async <T>(promise: Promise<T>): Promise<T | LiveError> => {
  try {
    return await promise
  } catch (error) {
    if (isLiveError(error) && error.code === 'CORRUPT') return error
    throw error
  }
}

const stated = ({ expected, found }: ErrorData): Pick<Finding, 'expected' | 'found'> => ({
  ...(typeof expected === 'string' || typeof expected === 'number' ? { expected } : {}),
  ...(typeof found === 'string' || typeof found === 'number' ? { found } : {}),
})

/**
 * Looks at a whole volume: every directory and every chain, clusters that two names share or no name has, whether the tables agree,
 * the backup of the boot sector, and the count of free clusters. Nothing is changed. Memory: a bit a cluster.
 *
 * @returns  what was seen at opening, then what was found; none for a volume in order
 * @throws IO
 */
export const checkFat = async (fat: Fat): Promise<readonly Finding[]> => {
  const findings: Finding[] = []
  let more = 0
  const tell = (code: string, severity: Finding['severity'], message: string, rest: Partial<Finding> = {}): void => {
    if (findings.length < MOST_FINDINGS) findings.push({ code, severity, where: fat.name, message, ...rest })
    else more++
  }
  const used = await checkChains(fat, tell)
  await checkTable(fat, used, tell)
  await checkCopies(fat, tell)
  if (more > 0) tellRest(findings, fat.name, more)
  return [...fat.findings().filter(({ code }) => code !== 'FAT_ROOT_DAMAGED'), ...findings]
}

const tellRest = (findings: Finding[], where: string, more: number): void => {
  findings.push({ code: 'FAT_MORE', severity: 'note', where, message: `${more} more faults are not listed` })
}

type Tell = (code: string, severity: Finding['severity'], message: string, rest?: Partial<Finding>) => void

interface Bitmap {
  has(cluster: number): boolean
  add(cluster: number): void
}

/** A bit for each cluster of a volume. */
const bitmap = (clusterCount: number): Bitmap => {
  const bits = new Uint8Array(Math.ceil((clusterCount + FIRST_CLUSTER) / 8))
  return {
    has: cluster => (bits[cluster >>> 3]! & (1 << (cluster & 7))) !== 0,
    add: cluster => {
      bits[cluster >>> 3]! |= 1 << (cluster & 7)
    },
  }
}

/**
 * The runs of a name's chain up to the first cluster that is `used` already, which is told: from there on the chain is another
 * name's. Marks what it gives, at its end: a loop in itself is told by the chain. So all chains together cost the volume's size.
 */
async function* freshRuns(
  fat: Fat,
  entry: FatEntry | undefined,
  used: Bitmap,
  shares: (cluster: number) => void = () => {},
): AsyncGenerator<ClusterRun, void> {
  const own: ClusterRun[] = []
  try {
    for await (const run of fat.follow(entry)) {
      let count = 0
      while (count < run.count && !used.has(run.first + count)) count++
      const fresh = { first: run.first, count }
      own.push(fresh)
      yield fresh
      if (count < run.count) {
        shares(run.first + count)
        return
      }
    }
  } finally {
    for (const { first, count } of own) for (let n = first; n < first + count; n++) used.add(n)
  }
}

/** Follows all chains. @returns the clusters that names have */
const checkChains = async (fat: Fat, tell: Tell): Promise<Bitmap> => {
  const used = bitmap(fat.volume.boot.clusterCount)
  /** clusters that a name shares with one before it */
  const shared = new Map<number, string>()
  const broken = (path: string, error: LiveError): void =>
    tell('FAT_DIRECTORY_DAMAGED', 'error', `${printableName(path)}: ${error.message}`, stated(error.data))
  for await (const { path, entry } of metNames(fat, broken)) {
    const shares = (cluster: number): void => {
      if (!shared.has(cluster) && shared.size < MOST_FINDINGS) shared.set(cluster, path)
      else tell('FAT_CROSS_LINKED', 'error', `${printableName(path)} shares cluster ${cluster}`, { found: cluster })
    }
    const fault = await damaged(
      (async () => {
        for await (const _ of freshRuns(fat, entry, used, shares));
      })(),
    )
    // What is wrong with a directory's chain is told where it is read.
    if (isLiveError(fault) && entry && !isDirectory(entry))
      tell('FAT_CHAIN_DAMAGED', 'error', `${printableName(path)}: ${fault.message}`, stated(fault.data))
    await checkNames(fat, path, entry, tell)
  }
  if (shared.size > 0) await tellOwners(fat, shared, tell)
  return used
}

/** Names that differ in nothing, or in case only: of these Linux shows all and finds the first. */
const checkNames = async (fat: Fat, path: string, entry: FatEntry | undefined, tell: Tell): Promise<void> => {
  if (entry && !isDirectory(entry)) return
  const directory = await damaged(fat.directory(entry))
  if (isLiveError(directory)) return
  for (const child of directory.entries)
    if (directory.find(child.name) !== child)
      tell('FAT_DOUBLE_NAME', 'warning', `${printableName(`${path}/${child.name}`)} is there more than once`)
}

/** Walks a second time to name the first owner of each shared cluster. */
const tellOwners = async (fat: Fat, shared: ReadonlyMap<number, string>, tell: Tell): Promise<void> => {
  const open = new Set(shared.keys())
  const used = bitmap(fat.volume.boot.clusterCount)
  for await (const { path, entry } of metNames(fat, () => {})) {
    if (open.size === 0) return
    const look = async (): Promise<void> => {
      for await (const { first, count } of freshRuns(fat, entry, used))
        for (const cluster of open)
          if (cluster >= first && cluster < first + count) {
            open.delete(cluster)
            tell(
              'FAT_CROSS_LINKED',
              'error',
              `${printableName(shared.get(cluster)!)} and ${printableName(path || '/')} share cluster ${cluster}`,
              { found: cluster, remedy: 'copy both elsewhere before fsck.vfat cuts one of them' },
            )
          }
    }
    await damaged(look())
  }
}

/** Clusters that the table has in use and no name has, and the count of free ones that FAT32 keeps. */
const checkTable = async (fat: Fat, used: Bitmap, tell: Tell): Promise<void> => {
  const { boot, table, device } = fat.volume
  const bad = END_OF_CHAIN[boot.variant] - 1
  let lost = 0
  let free = 0
  for (let cluster = FIRST_CLUSTER; cluster < boot.clusterCount + FIRST_CLUSTER; ) {
    const window = await table.window(cluster)
    for (; cluster < window.end; cluster++) {
      const value = window.entry(cluster)
      if (value === 0) free++
      else if (value !== bad && !used.has(cluster)) lost++
    }
  }
  // Of an image that was cut the rest of a chain can't be told from lost clusters.
  if (lost > 0 && boot.volumeSize <= device.size)
    tell('FAT_LOST_CLUSTERS', 'warning', `${lost} clusters are in use and belong to no name`, {
      found: lost,
      remedy: 'fsck.vfat -a on the unmounted volume',
    })
  const place = boot.BPB_FSInfo * boot.BPB_BytsPerSec
  if (boot.variant !== 32 || place === 0 || place >= boot.fatStart) return
  const count = parseFreeCount(await device.read(place, BOOT_SECTOR_SIZE), { device: device.name, base: place })
  if (count !== undefined && count !== free)
    tell('FAT_FREE_COUNT', 'note', 'The stated number of free clusters is wrong; it is a hint that nobody trusts', {
      expected: free,
      found: count,
    })
}

/** Compares what FAT keeps twice: its tables, and FAT32's boot sector. */
const checkCopies = async (fat: Fat, tell: Tell): Promise<void> => {
  const { boot, device } = fat.volume
  const length = Math.ceil(((boot.clusterCount + FIRST_CLUSTER) * boot.variant) / 8)
  const isMirrored = (boot.BPB_ExtFlags & 0x80) === 0
  for (let index = 1; index < boot.BPB_NumFATs && isMirrored; index++) {
    const differs = await firstDifference(fat, boot.fatStart, boot.fatStart + index * boot.fatSize, length)
    if (differs !== undefined)
      tell('FAT_TABLES_DIFFER', 'warning', `Table ${index + 1} differs from the first at its byte ${differs}`, {
        found: boot.fatStart + index * boot.fatSize + differs,
        remedy: 'fsck.vfat on the unmounted volume',
      })
  }
  const place = boot.BPB_BkBootSec * boot.BPB_BytsPerSec
  if (boot.variant !== 32 || place === 0 || place >= boot.fatStart) return
  const [first, backup] = await Promise.all([device.read(0, BOOT_SECTOR_SIZE), device.read(place, BOOT_SECTOR_SIZE)])
  // The state byte is written to the first only.
  first[65] = backup[65] = 0
  if (Buffer.compare(first, backup) !== 0)
    tell('FAT_BACKUP_BOOT_DIFFERS', 'note', 'The backup of the boot sector differs from it', { found: place })
}

const firstDifference = async (fat: Fat, a: number, b: number, length: number): Promise<number | undefined> => {
  const { device } = fat.volume
  for (let at = 0; at < length; at += PIECE) {
    const size = Math.min(PIECE, length - at)
    const [first, second] = await Promise.all([device.read(a + at, size), device.read(b + at, size)])
    if (Buffer.compare(first, second) !== 0) return at + first.findIndex((byte, index) => byte !== second[index])
  }
  return undefined
}
