import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { openFile } from '../block/file.js'
import { readPartitions } from '../block/partitions/reader.js'
import { deviceNumber } from './medium.js'

/** A partition as the kernel knows it. */
export interface KernelPartition {
  /** such as /dev/sdb */
  readonly disk: string
  readonly number: number
}

/** Path of a block device by its name in sysfs, where `!` stands for a slash. @see linux Documentation/ABI/stable/sysfs-block */
export const devicePath = (name: string): string => join('/dev', name.replaceAll('!', '/'))

const textOf = (path: string): Promise<string | undefined> =>
  readFile(path, 'utf8').then(
    text => text.trim(),
    () => undefined,
  )

const sysfsOf = async (path: string): Promise<string | undefined> => {
  const found = await stat(path).catch(() => undefined)
  if (!found?.isBlockDevice()) return undefined
  return realpath(join('/sys/dev/block', deviceNumber(found.rdev))).catch(() => undefined)
}

/**
 * The disk that a block device is a partition of; undefined where it is none.
 *
 * @see linux Documentation/ABI/stable/sysfs-block, partition
 */
export const partitionOf = async (path: string): Promise<KernelPartition | undefined> => {
  const folder = await sysfsOf(path)
  const number = folder && Number(await textOf(join(folder, 'partition')))
  return folder && number ? { disk: devicePath(basename(dirname(folder))), number } : undefined
}

/** The block device by which the kernel shows a partition of a disk, such as /dev/sdb3; undefined where it shows none. */
export const nodeOf = async ({ disk, number }: KernelPartition): Promise<string | undefined> => {
  const folder = await sysfsOf(disk)
  if (folder === undefined) return undefined
  for (const name of await readdir(folder).catch((): string[] => []))
    if (Number(await textOf(join(folder, name, 'partition'))) === number) return devicePath(name)
  return undefined
}

/** PARTUUID of a block device that is a partition, as its table says, whatever the device is called today; undefined where that can't be told. */
export const partitionUuid = async (path: string): Promise<string | undefined> => {
  const partition = await partitionOf(path)
  if (!partition) return undefined
  try {
    const disk = await openFile(partition.disk)
    try {
      const table = await readPartitions(disk)
      return table?.partitions.find(({ number }) => number === partition.number)?.uuid
    } finally {
      await disk.close()
    }
  } catch {
    return undefined
  }
}
