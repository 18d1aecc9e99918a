import type { BigIntStats } from 'node:fs'
import { withPartitions } from './block-use.js'
import { deviceNumber } from './medium.js'

/** Numbers of block devices of which one is the other, or a partition of it. */
const overlap = async (a: bigint, b: bigint): Promise<boolean> => {
  const [one, other] = [deviceNumber(Number(a)), deviceNumber(Number(b))]
  return one === other || (await withPartitions(one)).includes(other) || (await withPartitions(other)).includes(one)
}

/**
 * Whether to write to one file of this computer is to write over another, by whatever names they are known: they are the same
 * file, or the same disk or a disk and its partition, or the first is the disk or partition that the second lies on.
 *
 * @see linux Documentation/ABI/stable/sysfs-block (partition)
 */
export const writesOver = async (written: BigIntStats, kept: BigIntStats): Promise<boolean> => {
  if (written.dev === kept.dev && written.ino === kept.ino) return true
  if (!written.isBlockDevice()) return false
  return overlap(written.rdev, kept.isBlockDevice() ? kept.rdev : kept.dev)
}
