import type { Finding } from '../../finding.js'
import type { Device } from '../device.js'
import { slice } from '../linear.js'

/** What to do where the end of a medium is missing. */
export const COPY_AGAIN =
  'copy or download the image again, onto a medium that has room for all of it; what lies before the end can be read'

/** A partition, as its table states it: it may leave the device, which is told as a finding. */
export interface Partition {
  /** as Linux counts: in an MBR 1 to 4 by place and logical ones from 5, in a GPT by place from 1 */
  readonly number: number
  readonly role: 'primary' | 'extended' | 'logical'
  /** first byte on the device */
  readonly start: number
  readonly length: number
  /** GUID in lower case, or an MBR type such as `0x0c` */
  readonly type: string
  /** what that type is called; undefined where it is not well known */
  readonly typeName: string | undefined
  /** the name a GPT gives it; undefined where there is none */
  readonly name: string | undefined
  /** PARTUUID as blkid spells it; undefined in an MBR without a disk id */
  readonly uuid: string | undefined
  /** an MBR's mark of the partition to boot from */
  readonly active: boolean
  /** the same for a GPT booted by a BIOS, the attribute `legacy_boot` */
  readonly legacyBoot: boolean
}

/** The partitions of one table. */
export interface Listed {
  /** the disk's GUID in a GPT, the signature as 8 digits in an MBR, in blkid's spelling; undefined where it is zero */
  readonly id: string | undefined
  /** in the order of their numbers */
  readonly partitions: readonly Partition[]
}

/**
 * A partition as a Device. What the table puts behind the device's end is left out, as Linux does; `readPartitions` told it as
 * PARTITION_BEYOND_END. Closing it leaves `device` open.
 *
 * @throws OUT_OF_RANGE  the partition starts behind the device's end
 */
export const openPartition = (device: Device, { number, start, length }: Partition): Device =>
  slice(
    device,
    start,
    start < device.size ? Math.min(length, device.size - start) : length,
    `partition ${number} of ${device.name}`,
  )

/** Findings about places: partitions that leave the device, and those that share bytes. An extended one holds its logical ones. */
export const checkPlaces = (partitions: readonly Partition[], device: Device): readonly Finding[] => {
  const findings: Finding[] = []
  for (const { number, start, length } of partitions)
    if (start + length > device.size)
      findings.push({
        code: 'PARTITION_BEYOND_END',
        severity: 'error',
        where: device.name,
        message: `Partition ${number} ends behind the device: the medium is smaller than the one it was made for, or the image is cut`,
        remedy: COPY_AGAIN,
        expected: device.size,
        found: start + length,
      })
  const data = partitions.filter(({ role }) => role !== 'extended').sort((a, b) => a.start - b.start)
  let furthest: Partition | undefined
  for (const partition of data) {
    if (furthest && partition.start < furthest.start + furthest.length)
      findings.push({
        code: 'PARTITIONS_OVERLAP',
        severity: 'note',
        where: device.name,
        message: `Partitions ${furthest.number} and ${partition.number} share bytes, as those of a hybrid ISO do on purpose`,
      })
    if (!furthest || partition.start + partition.length > furthest.start + furthest.length) furthest = partition
  }
  return findings
}
