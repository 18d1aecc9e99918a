import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { deviceNumber, readMounts } from './medium.js'

const linesOf = async (path: string): Promise<string[]> =>
  (await readFile(path, 'utf8').catch(() => '')).split('\n').filter(line => line !== '')

/** Numbers of a disk and its partitions, or of a partition alone. */
export const withPartitions = async (number: string): Promise<readonly string[]> => {
  const folder = join('/sys/dev/block', number)
  const names = await readdir(folder).catch((): string[] => [])
  const numbers = await Promise.all(names.map(name => readFile(join(folder, name, 'dev'), 'utf8').catch(() => '')))
  return [number, ...numbers.map(text => text.trim()).filter(text => text !== '' && text !== number)]
}

const numberOf = async (path: string): Promise<string | undefined> => {
  const found = await stat(path).catch(() => undefined)
  return found?.isBlockDevice() ? deviceNumber(found.rdev) : undefined
}

/**
 * Who uses a block device or one of its partitions: it is mounted, swapped to, or a part of another device (device-mapper, RAID).
 *
 * @returns  in words, such as `mounted at /mnt`; undefined where nobody does, and of what is no block device
 * @see linux Documentation/filesystems/proc.rst (mountinfo, swaps), Documentation/ABI/stable/sysfs-block (holders)
 */
export const usedAs = async (path: string): Promise<string | undefined> => {
  const number = await numberOf(path)
  if (number === undefined) return undefined
  const numbers = await withPartitions(number)
  const mount = (await readMounts()).find(({ device }) => numbers.includes(device))
  if (mount) return `mounted at ${mount.mountPoint}`
  for (const line of (await linesOf('/proc/swaps')).slice(1)) {
    const swap = line.split(/\s/)[0]!
    const swapNumber = await numberOf(swap)
    if (swapNumber !== undefined && numbers.includes(swapNumber)) return 'used as swap'
  }
  for (const one of numbers) {
    const [holder] = await readdir(
      await realpath(join('/sys/dev/block', one, 'holders')).catch(() => '/dev/null'),
    ).catch((): string[] => [])
    if (holder !== undefined) return `a part of ${holder}`
  }
  return undefined
}
