import { basename, dirname, join, resolve } from 'node:path'
import { isZero } from '../block/device.js'
import { openFile } from '../block/file.js'
import { slice } from '../block/linear.js'
import type { Partition } from '../block/partitions/partition.js'
import { readPartitions } from '../block/partitions/reader.js'
import { SECTOR } from '../block/snapshot/layout.js'
import { isStore } from '../block/snapshot/store.js'
import { isLiveError, LiveError } from '../error.js'
import { type Folder, factsOf, isHostFolder, linkTarget, openFolder } from '../host/folder.js'
import { nodeOf, partitionUuid } from '../host/partition-node.js'
import { type DevicePart, placeFolder, placeName } from '../host/place-folder.js'
import { RESET_SUFFIX, UNDO_SUFFIX } from './live-directory.js'
import { noFile } from './no-file.js'
import type { HostFile, TargetFile } from './target.js'

/** A partition as a user names it, such as `stick.img:3` or `/dev/sdb:3`. */
export interface NamedPartition {
  /** as it was named */
  readonly disk: string
  readonly number: number
}

/** Reads `FILE:NUMBER`; undefined where a text is none. */
export const parsePartitionName = (text: string): NamedPartition | undefined => {
  const [, disk, number] = /^(.+):([1-9]\d{0,3})$/s.exec(text) ?? []
  return disk === undefined ? undefined : { disk, number: Number(number) }
}

/** Name of a partition for `--overlay`. */
export const partitionName = (disk: string, number: number): string => `${disk}:${number}`

const MOST_LINKS = 40

/** A file by its own name, so that what a verb leaves beside it is found by whatever link it is named next time. */
export const withoutLinks = async (path: string, links = MOST_LINKS): Promise<string> => {
  const to = links > 0 ? await linkTarget(path) : undefined
  return to === undefined ? path : withoutLinks(resolve(dirname(path), to), links - 1)
}

/** What of a partition lies on its device. */
const partOf = (path: string, { number, start, length }: Partition, size: number): DevicePart => ({
  path: resolve(path),
  partition: number,
  start,
  length: Math.min(length, size - start),
})

/**
 * The folder that keeps what a verb leaves beside an overlay that is no file. Beside an image it is the image's own, which goes
 * wherever the image goes; beside a disk that of the base, as /dev is forgotten when the computer is switched off.
 */
const folderBeside = async (path: string, base: TargetFile | undefined): Promise<Folder | undefined> => {
  if ((await factsOf(path))?.kind === 'file') return openFolder(dirname(path))
  return base && isHostFolder(base.folder) && base.facts.kind === 'file' ? base.folder : undefined
}

/** A partition or disk as the file of a target. */
const placeFile = async (named: DevicePart, called: string, base: TargetFile | undefined): Promise<HostFile> => {
  const part = { ...named, path: await withoutLinks(named.path) }
  const isImage = (await factsOf(part.path))?.kind === 'file'
  // what a disk is called today it may not be called tomorrow
  const uuid = isImage || part.partition !== undefined ? undefined : await partitionUuid(part.path)
  const name = uuid === undefined ? placeName(part) : `partition-${uuid}`
  const folder = await placeFolder(part, { name, called, beside: await folderBeside(part.path, base) })
  const facts = await folder.facts(name)
  if (!facts) throw new LiveError('NOT_FOUND', `there is no ${called}`, { path: called })
  return { folder, name, path: called, facts }
}

const wholeDevice = async (path: string, called: string, base: TargetFile | undefined): Promise<HostFile> => {
  const device = await openFile(path)
  const { size } = device
  await device.close()
  return placeFile({ path, partition: undefined, start: 0, length: size }, called, base)
}

/**
 * A partition of an image or disk as the file of a target. One that the kernel shows by itself is taken there.
 *
 * @param part  where it lies
 * @param disk  as it was named
 */
export const partitionFile = async (
  part: DevicePart,
  disk: string,
  base: TargetFile | undefined,
): Promise<HostFile> => {
  const { path, partition: number = 0 } = part
  const called = partitionName(disk, number)
  const node = (await factsOf(path))?.kind === 'other' ? await nodeOf({ disk: path, number }) : undefined
  return node !== undefined && (await factsOf(node)) ? wholeDevice(node, called, base) : placeFile(part, called, base)
}

const findPartition = async ({ disk, number }: NamedPartition): Promise<DevicePart> => {
  const device = await openFile(resolve(disk))
  try {
    const { partitions = [] } = (await readPartitions(device)) ?? {}
    const found = partitions.find(partition => partition.number === number)
    if (found && found.role !== 'extended' && found.start < device.size) return partOf(disk, found, device.size)
    const numbers = partitions.filter(({ role }) => role !== 'extended').map(partition => partition.number)
    throw new LiveError(
      'NOT_FOUND',
      `${disk} has no partition ${number}${numbers.length > 0 ? `: there are ${numbers.join(', ')}` : ', as it has no partitions'}`,
      { path: disk },
    )
  } finally {
    await device.close()
  }
}

/** Partitions of a disk or image that hold a store, or beside which a verb left that it was at one. @throws IO */
export const storePartitions = async (path: string): Promise<readonly DevicePart[]> => {
  const device = await openFile(path)
  try {
    const table = await readPartitions(device).catch((error: unknown) => {
      if (isLiveError(error) && error.code === 'CORRUPT') return undefined
      throw error
    })
    const own = await withoutLinks(resolve(path))
    const isImage = (await factsOf(own))?.kind === 'file'
    const found: DevicePart[] = []
    for (const partition of table?.partitions ?? []) {
      if (partition.role === 'extended' || partition.start + SECTOR > device.size) continue
      const part = partOf(own, partition, device.size)
      const left = [UNDO_SUFFIX, RESET_SUFFIX].map(end => join(dirname(own), placeName(part) + end))
      const isLeft = isImage && (await Promise.all(left.map(factsOf))).some(facts => facts !== undefined)
      if (isLeft || (await isStore(slice(device, part.start, part.length)))) found.push(part)
    }
    return found
  } finally {
    await device.close()
  }
}

/** A disk begins with zeros where nothing boots from it, as an overlay does that was never used. @throws USAGE  it is one */
const checkNoTable = async (path: string, named: string): Promise<void> => {
  const device = await openFile(path)
  try {
    if (!isZero(await device.read(0, 4))) return
    const { partitions = [] } = (await readPartitions(device).catch(() => undefined)) ?? {}
    const numbers = partitions.filter(({ role }) => role !== 'extended').map(({ number }) => number)
    if (numbers.length === 0) return
    throw new LiveError(
      'USAGE',
      `${named} is a disk with partitions, and no overlay itself: say which of them is one (${numbers.join(', ')}), such as --overlay ${partitionName(named, numbers[0]!)}`,
      { path: named },
    )
  } finally {
    await device.close()
  }
}

/** An image that was named where only its partition can be meant. @throws USAGE  it is one */
const checkNoDisk = async (path: string, named: string): Promise<void> => {
  const device = await openFile(path).catch((error: unknown) => {
    // whoever opens it to use it says so
    if (isLiveError(error) && error.code === 'READ_ONLY') return undefined
    throw error
  })
  if (!device) return
  try {
    if (device.size < 2 * SECTOR || (await isStore(device))) return
  } finally {
    await device.close()
  }
  const found = await storePartitions(path)
  if (found.length === 0) return checkNoTable(path, named)
  const names = found.map(({ partition = 0 }) => partitionName(named, partition))
  throw new LiveError(
    'USAGE',
    `${named} is a disk with partitions, and no overlay itself: say --overlay ${names.join(' or --overlay ')}`,
    { path: named, candidates: names },
  )
}

/**
 * What `--overlay` names: a file, a block device, or a partition of either, such as `stick.img:3`.
 *
 * @param base  of the target, where that is known
 * @throws NOT_FOUND, USAGE, READ_ONLY, IO
 */
export const overlayFile = async (path: string, base: TargetFile | undefined): Promise<HostFile> => {
  const full = resolve(path)
  const facts = await factsOf(full)
  if (!facts) {
    const named = parsePartitionName(path)
    const disk = named && (await factsOf(resolve(named.disk)))
    if (!named || !disk) throw noFile(path, 'overlay')
    if (disk.kind === 'directory')
      throw new LiveError('USAGE', `${named.disk} is a directory, and has no partitions`, { path })
    return partitionFile(await findPartition(named), named.disk, base)
  }
  if (facts.kind === 'directory') throw new LiveError('USAGE', `${path} is a directory, not an overlay`, { path })
  await checkNoDisk(full, path)
  if (facts.kind === 'other') return wholeDevice(full, full, base)
  const own = await withoutLinks(full)
  const folder = await openFolder(dirname(own))
  return { folder, name: basename(own), path: own, facts }
}
