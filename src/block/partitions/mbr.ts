import type { Finding } from '../../finding.js'
import type { Device } from '../device.js'
import { MBR_SIZE, type Mbr, type MbrRecord, PROTECTIVE, parseMbr } from './layout.js'
import type { Listed, Partition } from './partition.js'
import { typeNameOf } from './type-names.js'

const EXTENDED = [0x05, 0x0f, 0x85]
/** extended boot records followed at most, as Linux does */
const MOST_RECORDS = 100

const isExtended = ({ OSType }: MbrRecord): boolean => EXTENDED.includes(OSType)

/** Records that Linux makes partitions of: those with a size, whatever the type says. */
export const isUsed = ({ OSType, SizeInLBA }: MbrRecord): boolean => SizeInLBA > 0 && OSType !== PROTECTIVE

/** The primary partitions of an MBR and the logical ones of its extended partitions. A chain that breaks is told in `findings` and what was found of it kept. */
export const readMbr = async (device: Device, mbr: Mbr, sectorSize: number, findings: Finding[]): Promise<Listed> => {
  const signature = mbr.UniqueMBRDiskSignature
  const id = signature === 0 ? undefined : signature.toString(16).padStart(8, '0')
  const partitionOf = (record: MbrRecord, number: number, start: number, role: Partition['role']): Partition => {
    const type = `0x${record.OSType.toString(16).padStart(2, '0')}`
    return {
      number,
      role,
      start,
      length: record.SizeInLBA * sectorSize,
      type,
      typeName: typeNameOf(type),
      name: undefined,
      uuid: id && `${id}-${number.toString(16).padStart(2, '0')}`,
      active: record.BootIndicator === 0x80,
      legacyBoot: false,
    }
  }

  const partitions = mbr.records.flatMap((record, index) =>
    isUsed(record)
      ? [partitionOf(record, index + 1, record.StartingLBA * sectorSize, isExtended(record) ? 'extended' : 'primary')]
      : [],
  )
  const seen = new Set<number>()
  let number = 5
  for (const container of partitions.filter(({ role }) => role === 'extended'))
    for await (const { record, start } of logicalRecords(device, container, sectorSize, seen, findings))
      partitions.push(partitionOf(record, number++, start, 'logical'))
  return { id, partitions }
}

/**
 * Follows the chain of extended boot records in an extended partition. It ends at a record that was there before, leaves the
 * partition or the device, or is none.
 *
 * @see linux block/partitions/msdos.c, parse_extended
 */
async function* logicalRecords(
  device: Device,
  container: Partition,
  sectorSize: number,
  seen: Set<number>,
  findings: Finding[],
): AsyncIterable<{ readonly record: MbrRecord; readonly start: number }> {
  const containerEnd = container.start + container.length
  const told = (message: string, found: number): void => {
    findings.push({
      code: 'EXTENDED_CHAIN_BROKEN',
      severity: 'error',
      where: device.name,
      message: `The chain of logical partitions in partition ${container.number} breaks: ${message}; later ones are missing here`,
      found,
    })
  }
  let recordLength = container.length
  for (let at = container.start; ; ) {
    if (seen.has(at)) return told('it comes back to a record it had before', at)
    if (seen.size === MOST_RECORDS) return told(`it has more than ${MOST_RECORDS} records`, at)
    if (at < container.start || at >= containerEnd) return told('it leaves the extended partition', at)
    if (at + MBR_SIZE > device.size) return told('it leaves the device', at)
    seen.add(at)
    const ebr = parseMbr(await device.read(at, MBR_SIZE))
    if (!ebr) return told('there is no extended boot record', at)
    for (const [index, record] of ebr.records.entries()) {
      if (!isUsed(record) || isExtended(record)) continue
      const start = at + record.StartingLBA * sectorSize
      const end = start + record.SizeInLBA * sectorSize
      // The last two records are not in use and sometimes hold garbage.
      if (index >= 2 && (end - at > recordLength || start < container.start || end > containerEnd)) continue
      if (end > containerEnd)
        findings.push({
          code: 'LOGICAL_OUTSIDE',
          severity: 'warning',
          where: device.name,
          message: `A logical partition ends outside partition ${container.number}, which holds it`,
          expected: containerEnd,
          found: end,
        })
      yield { record, start }
    }
    const next = ebr.records.find(record => isUsed(record) && isExtended(record))
    if (!next) return
    at = container.start + next.StartingLBA * sectorSize
    recordLength = next.SizeInLBA * sectorSize
  }
}
