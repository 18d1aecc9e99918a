import { assert, isLiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import type { Device } from '../device.js'
import { findGpt, type Gpt, readGpt } from './gpt.js'
import { isVolumeBootSector, MBR_SIZE, PROTECTIVE, parseMbr } from './layout.js'
import { isUsed, readMbr } from './mbr.js'
import { checkPlaces, type Listed } from './partition.js'

/** A device's partitions and what is wrong with their tables. */
export interface PartitionTable extends Listed {
  /** hybrid: an MBR with partitions and a GPT */
  readonly scheme: 'mbr' | 'gpt' | 'hybrid'
  /** bytes */
  readonly sectorSize: number
  /** of a hybrid the other table, whose partitions Linux does not show */
  readonly hidden: Listed | undefined
  readonly findings: readonly Finding[]
}

export interface PartitionOptions {
  /** bytes of the medium's sectors, 512 or 4096. Left out: a GPT tells by the place of its mark, an MBR is read with 512. */
  readonly sectorSize?: 512 | 4096
}

const ISO_MARK = { offset: 32_769, text: 'CD001' }

/**
 * Reads the partition table of a disk, stick or image. `partitions` are those that Linux shows: a GPT's where the MBR
 * has a record that protects one, else the MBR's.
 *
 * @returns  undefined where there is no table, such as on a device that holds a filesystem; an empty table has no partitions
 * @throws CORRUPT  there is a GPT, and neither it nor its backup is right
 * @throws IO
 * @see UEFI 2.10, 5; linux block/partitions/efi.c, msdos.c
 */
export const readPartitions = async (
  device: Device,
  { sectorSize }: PartitionOptions = {},
): Promise<PartitionTable | undefined> => {
  assert(sectorSize === undefined || sectorSize === 512 || sectorSize === 4096, `sectors of ${sectorSize} bytes`)
  if (device.size < MBR_SIZE) return undefined
  const first = await device.read(0, MBR_SIZE)
  if (isVolumeBootSector(first)) return undefined
  const mbr = parseMbr(first)
  const guarded = mbr?.records.some(({ OSType }) => OSType === PROTECTIVE) ?? false
  const sectorSizes = sectorSize === undefined ? [512, 4096] : [sectorSize]
  const findings: Finding[] = []
  const gpt =
    guarded || (await findGpt(device, sectorSizes)) !== undefined
      ? await readGpt(device, sectorSizes, await isIso(device), findings)
      : undefined
  const hasRecords = mbr?.records.some(isUsed) ?? false
  if (isLiveError(gpt)) {
    // Linux reads no MBR beside a protected GPT, and reads no GPT that is not protected.
    if (guarded || !hasRecords) throw gpt
    findings.push({
      code: 'GPT_DAMAGED',
      severity: 'warning',
      where: device.name,
      message: `A GPT that Linux does not look at is left beside the MBR, and it is damaged: ${gpt.message}`,
    })
  }
  const usable: Gpt | undefined = isLiveError(gpt) ? undefined : gpt
  const records =
    mbr && (hasRecords || !usable)
      ? await readMbr(device, mbr, usable?.sectorSize ?? sectorSize ?? 512, findings)
      : undefined
  if (usable && !guarded)
    findings.push({
      code: 'GPT_UNPROTECTED',
      severity: records ? 'note' : 'warning',
      where: device.name,
      message: records
        ? 'No record of the MBR protects the GPT: Linux shows the partitions of the MBR'
        : 'No record of an MBR protects the GPT: Linux shows no partitions unless its command line says gpt',
    })
  const shown = usable && (guarded || !records) ? usable : records
  if (!shown) return undefined
  const hidden = usable && records ? (shown === usable ? records : usable) : undefined
  return {
    scheme: hidden ? 'hybrid' : usable ? 'gpt' : 'mbr',
    sectorSize: usable?.sectorSize ?? sectorSize ?? 512,
    id: shown.id,
    partitions: shown.partitions,
    hidden: hidden && { id: hidden.id, partitions: hidden.partitions },
    findings: [...findings, ...checkPlaces(shown.partitions, device)],
  }
}

const isIso = async (device: Device): Promise<boolean> =>
  device.size >= ISO_MARK.offset + ISO_MARK.text.length &&
  Buffer.from(await device.read(ISO_MARK.offset, ISO_MARK.text.length)).toString('latin1') === ISO_MARK.text
