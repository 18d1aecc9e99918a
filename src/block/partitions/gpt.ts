import { crc32 } from 'node:zlib'
import { corrupt, isLiveError, type LiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import type { Device } from '../device.js'
import { GPT_MARK, type GptEntry, type GptHeader, parseGptEntries, parseGptHeader } from './layout.js'
import { COPY_AGAIN, type Listed, type Partition } from './partition.js'
import { typeNameOf } from './type-names.js'

const NO_GUID = '00000000-0000-0000-0000-000000000000'
/** bit of `Attributes`: a BIOS boots from it */
const LEGACY_BOOT = 4n

/** One of a GPT's two copies, its checksums proven. */
interface Copy {
  readonly header: GptHeader
  readonly entries: Uint8Array
}

/** A GPT as read, from its primary or its backup copy. */
export interface Gpt extends Listed {
  readonly sectorSize: number
}

/** The size of sector behind whose first one a primary GPT's mark stands; undefined where none does. */
export const findGpt = async (device: Device, sectorSizes: readonly number[]): Promise<number | undefined> => {
  for (const sectorSize of sectorSizes) {
    if (device.size < sectorSize * 2) continue
    const mark = await device.read(sectorSize, GPT_MARK.length)
    if (Buffer.from(mark).toString('latin1') === GPT_MARK) return sectorSize
  }
  return undefined
}

/**
 * Reads a copy and proves it.
 *
 * @throws CORRUPT  also for an entry array that leaves the device
 */
const readCopy = async (device: Device, sectorSize: number, lba: number): Promise<Copy> => {
  const offset = lba * sectorSize
  if (!(lba > 0 && offset + sectorSize <= device.size))
    throw corrupt({
      device: device.name,
      offset: device.size,
      field: 'GPT header',
      expected: `a sector at byte ${offset}`,
      found: `${device.size} bytes`,
    })
  const header = parseGptHeader(await device.read(offset, sectorSize), device.name, offset)
  const start = header.PartitionEntryLBA * sectorSize
  const length = header.NumberOfPartitionEntries * header.SizeOfPartitionEntry
  if (header.PartitionEntryLBA === 0 || start + length > device.size)
    throw corrupt({
      device: device.name,
      offset: offset + 72,
      field: 'GPT PartitionEntryLBA',
      expected: `${length} bytes behind sector 0 in ${device.size}`,
      found: header.PartitionEntryLBA,
    })
  const entries = await device.read(start, length)
  if (crc32(entries) !== header.PartitionEntryArrayCRC32)
    throw corrupt({
      device: device.name,
      offset: offset + 88,
      field: 'GPT PartitionEntryArrayCRC32',
      expected: crc32(entries),
      found: header.PartitionEntryArrayCRC32,
    })
  return { header, entries }
}

/** A copy, or why it can't be used: damaged, or on a part of the medium that can't be read. */
const tryCopy = async (device: Device, sectorSize: number, lba: number): Promise<Copy | LiveError> => {
  try {
    return await readCopy(device, sectorSize, lba)
  } catch (error) {
    if (isLiveError(error) && (error.code === 'CORRUPT' || error.code === 'IO')) return error
    throw error
  }
}

/**
 * Reads a GPT from its primary copy, else from its backup, and tells in `findings` what is wrong with either.
 *
 * @param sectorSizes  what a sector may be, in bytes; the size behind whose first sector the primary's mark stands is taken
 * @param onIso  there is an ISO 9660 beside it: written to a larger stick its backup is not at the end, which is no fault
 * @returns  the table; a LiveError where neither copy is right
 */
export const readGpt = async (
  device: Device,
  sectorSizes: readonly number[],
  onIso: boolean,
  findings: Finding[],
): Promise<Gpt | LiveError> => {
  const tell = (code: string, severity: Finding['severity'], message: string): void => {
    findings.push({ code, severity, where: device.name, message })
  }
  const marked = await findGpt(device, sectorSizes).catch((error: unknown) => {
    // An unreadable first sector of the GPT is what the backup is for.
    if (isLiveError(error) && error.code === 'IO') return undefined
    throw error
  })
  const primary = await tryCopy(device, marked ?? sectorSizes[0]!, 1)
  if (!isLiveError(primary)) {
    await checkBackup(device, primary, marked!, onIso, tell)
    return listed(primary, device, marked!, findings)
  }
  for (const sectorSize of marked === undefined ? sectorSizes : [marked, ...sectorSizes.filter(s => s !== marked)]) {
    const backup = await tryCopy(device, sectorSize, Math.floor(device.size / sectorSize) - 1)
    if (isLiveError(backup)) continue
    findings.push({
      code: 'GPT_PRIMARY_DAMAGED',
      severity: 'warning',
      where: device.name,
      message: `The primary GPT can't be used, its backup was read: ${primary.message}`,
      remedy: 'with nothing of it mounted, sudo sgdisk -e DISK writes it anew from the backup',
    })
    return listed(backup, device, sectorSize, findings)
  }
  return primary
}

const checkBackup = async (
  device: Device,
  { header }: Copy,
  sectorSize: number,
  onIso: boolean,
  tell: (code: string, severity: Finding['severity'], message: string) => void,
): Promise<void> => {
  const mild = onIso ? 'note' : 'warning'
  const lastLba = Math.floor(device.size / sectorSize) - 1
  const stated = await tryCopy(device, sectorSize, header.AlternateLBA)
  const backup =
    isLiveError(stated) && header.AlternateLBA !== lastLba ? await tryCopy(device, sectorSize, lastLba) : stated
  if (isLiveError(backup)) {
    tell('GPT_BACKUP_DAMAGED', mild, `The backup of the GPT is missing or damaged: ${backup.message}`)
    return
  }
  if (backup.header.MyLBA !== lastLba)
    tell(
      'GPT_BACKUP_MISPLACED',
      mild,
      `The backup of the GPT is in sector ${backup.header.MyLBA}, not in the last one, ${lastLba}: the medium is larger than what was written to it`,
    )
  const differs = (['DiskGUID', 'PartitionEntryArrayCRC32', 'FirstUsableLBA', 'LastUsableLBA'] as const).filter(
    field => backup.header[field] !== header[field],
  )
  if (differs.length > 0)
    tell('GPT_COPIES_DIFFER', 'warning', `The GPT and its backup differ in ${differs.join(', ')}; the primary is used`)
}

const listed = ({ header, entries }: Copy, device: Device, sectorSize: number, findings: Finding[]): Gpt => {
  if ((header.LastUsableLBA + 1) * sectorSize > device.size)
    findings.push({
      code: 'GPT_LARGER_THAN_DEVICE',
      severity: 'error',
      where: device.name,
      message: 'The GPT was made for a larger medium: this one is cut, or a smaller copy',
      remedy: COPY_AGAIN,
      expected: Math.floor(device.size / sectorSize),
      found: header.LastUsableLBA + 1,
    })
  return {
    id: header.DiskGUID === NO_GUID ? undefined : header.DiskGUID,
    sectorSize,
    partitions: parseGptEntries(entries, header.SizeOfPartitionEntry).flatMap(entry => {
      const partition = partitionOf(entry, sectorSize)
      if (partition) return [partition]
      findings.push({
        code: 'PARTITION_INVALID',
        severity: 'error',
        where: device.name,
        message: `Partition ${entry.number} is left out: it goes from sector ${entry.StartingLBA} to ${entry.EndingLBA}`,
      })
      return []
    }),
  }
}

const partitionOf = (entry: GptEntry, sectorSize: number): Partition | undefined => {
  const { StartingLBA, EndingLBA, PartitionTypeGUID: type, PartitionName, Attributes } = entry
  const end = (EndingLBA + 1n) * BigInt(sectorSize)
  if (StartingLBA > EndingLBA || end > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  const start = Number(StartingLBA) * sectorSize
  return {
    number: entry.number,
    role: 'primary',
    start,
    length: Number(end) - start,
    type,
    typeName: typeNameOf(type),
    name: PartitionName === '' ? undefined : PartitionName,
    uuid: entry.UniquePartitionGUID,
    active: false,
    legacyBoot: (Attributes & LEGACY_BOOT) !== 0n,
  }
}
