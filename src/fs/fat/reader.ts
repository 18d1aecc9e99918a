import { cutShort } from '../../block/cut-short.js'
import type { Device } from '../../block/device.js'
import { linear } from '../../block/linear.js'
import { isLiveError, LiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import type { FreeRun, MappedFileSystem, Run, Stat } from '../filesystem.js'
import { type ClusterRun, clusterStart, followChain, readChain, segmentsOf, type Volume } from './chain.js'
import { ATTRIBUTE, decodeLabel, type FatEntry, isDirectory } from './directory.js'
import { BOOT_SECTOR_SIZE, type BootSector, FIRST_CLUSTER, parseBootSector, type Variant } from './layout.js'
import { openTable, type Table } from './table.js'
import { chainOf, type OpenDirectory, openTree, rootChain } from './tree.js'

/** An open FAT volume: a FileSystem whose files lie on the device as they are. */
export interface Fat extends MappedFileSystem {
  readonly type: 'vfat'
  readonly variant: Variant
  /** bytes */
  readonly clusterSize: number
  /** it was not unmounted after the last write: a bit of the boot sector or of the table says so */
  readonly dirty: boolean
  readonly volume: Volume
  /** What was seen at opening: a volume that was left dirty, is larger than its device, or has a root that can't be read. `checkFat` looks at all. */
  findings(): readonly Finding[]
  /** the entry of a path; undefined for the root. @throws NOT_FOUND, CORRUPT, IO */
  lookup(path: string): Promise<FatEntry | undefined>
  /** the directory of an entry, or the root. @throws CORRUPT, IO */
  directory(entry: FatEntry | undefined): Promise<OpenDirectory>
  /** the clusters of a file, a directory or the root as they are found, those before a fault too. @throws CORRUPT, IO */
  follow(entry: FatEntry | undefined): AsyncIterable<ClusterRun>
}

/** the inode number of the root; others have the byte offset of their entry, which is larger */
const ROOT_INODE = 1
/** permissions of a mount with the usual umask of 022 */
const MODE = 0o755
const READ_ONLY_MODE = 0o555
/** values of BS_BootSig: an id follows, or an id and a label */
const HAS_ID = 0x28
const HAS_LABEL = 0x29

/**
 * Opens a FAT12, FAT16 or FAT32 volume, with long names.
 *
 * @throws CORRUPT  also for a device that holds something else, NTFS and exFAT among them
 * @see linux fs/fat; Microsoft FAT32 File System Specification 1.03
 */
export const openFat = async (device: Device): Promise<Fat> => {
  const boot = parseBootSector(await device.read(0, Math.min(BOOT_SECTOR_SIZE, device.size)), device.name)
  if (boot.dataStart > device.size)
    throw cutShort({
      device: device.name,
      offset: 14,
      field: 'tables and root directory',
      size: device.size,
      needed: boot.dataStart,
    })
  const table = openTable(device, boot)
  const volume: Volume = { device, boot, table }
  const tree = openTree(volume)
  const findings: Finding[] = []
  const dirty = await readDirty(volume, findings)
  if (boot.volumeSize > device.size)
    findings.push({
      code: 'FAT_BEYOND_DEVICE',
      severity: 'error',
      where: device.name,
      message: 'The volume is larger than its device: the image was cut, or the partition made smaller',
      expected: boot.volumeSize,
      found: device.size,
      remedy: 'copy out what can be read; then copy or download the image again',
    })
  const rootLabel = await readRootLabel()

  async function readRootLabel(): Promise<string | undefined> {
    try {
      return (await tree.directory(undefined)).label
    } catch (error) {
      // The label is not worth the volume; who lists the root meets the error.
      if (!isLiveError(error) || error.code !== 'CORRUPT') throw error
      const { message } = error
      findings.push({ code: 'FAT_ROOT_DAMAGED', severity: 'error', where: device.name, message })
      return undefined
    }
  }
  const notFound = (path: string, what: string) =>
    new LiveError('NOT_FOUND', `${device.name}: no ${what} ${path}`, { device: device.name, path })
  const fileAt = async (path: string): Promise<{ entry: FatEntry; runs: readonly ClusterRun[] }> => {
    const entry = await tree.lookup(path)
    if (!entry || isDirectory(entry)) throw notFound(path, 'regular file')
    return { entry, runs: await readChain(volume, chainOf(volume, entry, path)) }
  }
  async function* follow(entry: FatEntry | undefined): AsyncIterable<ClusterRun> {
    const chain = entry ? chainOf(volume, entry, JSON.stringify(entry.name)) : rootChain(volume)
    if (chain) yield* followChain(volume, chain)
  }

  return {
    name: device.name,
    type: 'vfat',
    label: rootLabel ?? (boot.BS_BootSig === HAS_LABEL ? decodeLabel(boot.BS_VolLab) : undefined),
    uuid: volumeId(boot),
    variant: boot.variant,
    clusterSize: boot.clusterSize,
    dirty,
    volume,
    findings: () => findings,
    lookup: tree.lookup,
    directory: tree.directory,
    follow,
    async stat(path) {
      const entry = await tree.lookup(path)
      return entry && !isDirectory(entry) ? statOfFile(entry) : statOfDirectory(entry, await tree.directory(entry))
    },
    async list(path) {
      const entry = await tree.lookup(path)
      if (entry && !isDirectory(entry)) throw notFound(path, 'directory')
      return (await tree.directory(entry)).entries.map(listed => ({
        name: listed.name,
        kind: isDirectory(listed) ? 'directory' : 'file',
        inode: listed.position,
      }))
    },
    async readLink(path) {
      await tree.lookup(path)
      throw notFound(path, 'symlink')
    },
    async open(path) {
      const { entry, runs } = await fileAt(path)
      return linear(segmentsOf(volume, runs, entry.size), `${path} in ${device.name}`)
    },
    async extents(path) {
      const { entry, runs } = await fileAt(path)
      let offset = 0
      return segmentsOf(volume, runs, entry.size).map(({ length, deviceOffset }): Run => {
        const run = { offset, length, start: deviceOffset! }
        offset += length
        return run
      })
    },
    freeRuns: () => freeRuns(volume),
    async close() {},
  }
}

const volumeId = ({ variant, BS_BootSig, BS_VolID }: BootSector): string | undefined => {
  const stated = variant === 32 || BS_BootSig === HAS_LABEL || BS_BootSig === HAS_ID
  if (!stated || BS_VolID === 0) return undefined
  const digits = BS_VolID.toString(16).padStart(8, '0').toUpperCase()
  return `${digits.slice(0, 4)}-${digits.slice(4)}`
}

const readDirty = async ({ device, boot, table }: Volume, findings: Finding[]): Promise<boolean> => {
  const bit = { 12: 0, 16: 15, 32: 27 }[boot.variant]
  const state = bit === 0 ? undefined : await table.readState()
  const isUnset = (n: number): boolean => state !== undefined && ((state >>> n) & 1) === 0
  const dirty = (boot.BS_Reserved1 & 1) !== 0 || isUnset(bit)
  if (dirty)
    findings.push({
      code: 'FAT_DIRTY',
      severity: 'warning',
      where: device.name,
      message: 'The volume was not unmounted after the last write',
      remedy: 'fsck.vfat -a on the unmounted volume',
    })
  if (isUnset(bit - 1))
    findings.push({
      code: 'FAT_IO_ERRORS',
      severity: 'warning',
      where: device.name,
      message: 'A system that wrote to the volume met errors of the medium',
    })
  return dirty
}

async function* freeRuns({
  device,
  boot,
  table,
}: Pick<Volume, 'device' | 'boot'> & { table: Table }): AsyncIterable<FreeRun> {
  const inside = Math.floor((device.size - boot.dataStart) / boot.clusterSize)
  const end = FIRST_CLUSTER + Math.min(boot.clusterCount, inside)
  let first: number | undefined
  const run = (from: number, behind: number): FreeRun => ({
    start: clusterStart(boot, from),
    length: (behind - from) * boot.clusterSize,
  })
  for (let cluster = FIRST_CLUSTER; cluster < end; ) {
    const window = await table.window(cluster)
    for (const stop = Math.min(window.end, end); cluster < stop; cluster++) {
      if (window.entry(cluster) === 0) first ??= cluster
      else if (first !== undefined) {
        yield run(first, cluster)
        first = undefined
      }
    }
  }
  if (first !== undefined) yield run(first, end)
}

const NOBODY = { uid: 0, gid: 0, mtimeNanoseconds: 0 }

const statOfFile = ({ position, attributes, size, mtime }: FatEntry): Stat => ({
  kind: 'file',
  inode: position,
  mode: attributes & ATTRIBUTE.readOnly ? READ_ONLY_MODE : MODE,
  size,
  mtime,
  linkCount: 1,
  ...NOBODY,
})

const statOfDirectory = (entry: FatEntry | undefined, { size, entries }: OpenDirectory): Stat => ({
  kind: 'directory',
  inode: entry?.position ?? ROOT_INODE,
  mode: MODE,
  size,
  mtime: entry?.mtime ?? 0,
  linkCount: 2 + entries.filter(isDirectory).length,
  ...NOBODY,
})
