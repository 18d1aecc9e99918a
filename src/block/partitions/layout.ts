import { crc32 } from 'node:zlib'
import { cursor } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'

/*
 * Sector 0, the master boot record, little endian (UEFI 2.10, 5.2.1):
 *     0 BootCode[440]   440 u32 UniqueMBRDiskSignature   444 u16 unknown
 *   446 PartitionRecord[4] of 16 bytes                   510 u16 Signature 55 AA
 * Partition record; an extended boot record (EBR) is the same sector with two records in use:
 *     0 u8 BootIndicator   1 StartingCHS[3]   4 u8 OSType   5 EndingCHS[3]   8 u32 StartingLBA   12 u32 SizeInLBA
 *
 * GPT header, in sector 1 and in the last sector (UEFI 2.10, 5.3.2):
 *     0 Signature "EFI PART"    8 u32 Revision            12 u32 HeaderSize     16 u32 HeaderCRC32   20 u32 reserved
 *    24 u64 MyLBA              32 u64 AlternateLBA        40 u64 FirstUsableLBA 48 u64 LastUsableLBA
 *    56 DiskGUID[16]           72 u64 PartitionEntryLBA   80 u32 NumberOfPartitionEntries
 *    84 u32 SizeOfPartitionEntry                          88 u32 PartitionEntryArrayCRC32
 * GPT entry, 128 bytes times a power of two:
 *     0 PartitionTypeGUID[16]  16 UniquePartitionGUID[16] 32 u64 StartingLBA    40 u64 EndingLBA (inclusive)
 *    48 u64 Attributes         56 PartitionName[72], UTF-16
 */

/** A sector; of a 4096-byte sector the MBR is its first 512 bytes. */
export const MBR_SIZE = 512
export const GPT_MARK = 'EFI PART'
const RECORDS = 446
const GPT_HEADER_SIZE = 92
const GPT_ENTRY_SIZE = 128
const LARGEST_ENTRY = 4096
/** bytes of an entry array at most; common tables have 16 KiB */
const LARGEST_ARRAY = 4 << 20
/** OSType of the record that protects a GPT */
export const PROTECTIVE = 0xee

/** A partition record; LBAs are sectors, in an EBR counted from elsewhere than 0. */
export interface MbrRecord {
  readonly BootIndicator: number
  readonly OSType: number
  readonly StartingLBA: number
  readonly SizeInLBA: number
}

/** What an MBR or EBR holds besides code. */
export interface Mbr {
  readonly UniqueMBRDiskSignature: number
  readonly records: readonly MbrRecord[]
}

/**
 * Reads an MBR or EBR.
 *
 * @param bytes  512 bytes
 * @returns  undefined where it has no 55 AA, or a boot indicator that is neither 0 nor 0x80: boot code with no table
 * @see linux block/partitions/msdos.c
 */
export const parseMbr = (bytes: Uint8Array): Mbr | undefined => {
  if (bytes[510] !== 0x55 || bytes[511] !== 0xaa) return undefined
  const at = cursor(bytes, { device: 'MBR', base: 0 })
  at.skip(440)
  const UniqueMBRDiskSignature = at.u32()
  at.skip(RECORDS - 444)
  const records = Array.from({ length: 4 }, (): MbrRecord => {
    const BootIndicator = at.u8()
    at.skip(3)
    const OSType = at.u8()
    at.skip(3)
    return { BootIndicator, OSType, StartingLBA: at.u32(), SizeInLBA: at.u32() }
  })
  if (records.some(({ BootIndicator }) => BootIndicator !== 0 && BootIndicator !== 0x80)) return undefined
  return { UniqueMBRDiskSignature, records }
}

const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0

/**
 * True where the first sector is that of a FAT, NTFS or exFAT volume, which ends in 55 AA as well. A FAT volume may even hold a
 * partition record for itself (mkfs.vfat --mbr).
 *
 * @param bytes  512 bytes
 * @see util-linux libblkid/src/superblocks/vfat.c
 */
export const isVolumeBootSector = (bytes: Uint8Array): boolean => {
  const name = Buffer.from(bytes.subarray(3, 11)).toString('latin1')
  if (name === 'NTFS    ' || name === 'EXFAT   ') return true
  if (!(bytes[0] === 0xeb || bytes[0] === 0xe9)) return false
  const at = cursor(bytes, { device: 'boot sector', base: 0 })
  at.skip(11)
  const sectorSize = at.u16()
  const clusterSectors = at.u8()
  const reservedSectors = at.u16()
  const fats = at.u8()
  at.skip(4)
  const media = at.u8()
  return (
    isPowerOfTwo(sectorSize) &&
    sectorSize >= 512 &&
    sectorSize <= 4096 &&
    isPowerOfTwo(clusterSectors) &&
    reservedSectors > 0 &&
    fats > 0 &&
    (media === 0xf0 || media >= 0xf8)
  )
}

/** A GPT header; LBAs are sectors of the table's sector size. */
export interface GptHeader {
  readonly MyLBA: number
  readonly AlternateLBA: number
  readonly FirstUsableLBA: number
  readonly LastUsableLBA: number
  /** as blkid spells it */
  readonly DiskGUID: string
  readonly PartitionEntryLBA: number
  readonly NumberOfPartitionEntries: number
  readonly SizeOfPartitionEntry: number
  readonly PartitionEntryArrayCRC32: number
}

/**
 * Reads a GPT header and holds it against itself: mark, size, checksum, its own place, a size of the entry array that is bounded.
 *
 * @param bytes  a sector
 * @param offset  of that sector in the device
 * @throws CORRUPT
 */
export const parseGptHeader = (bytes: Uint8Array, device: string, offset: number): GptHeader => {
  const wrong = (at: number, field: string, expected: string | number, found: string | number) =>
    corrupt({ device, offset: offset + at, field: `GPT ${field}`, expected, found })
  const at = cursor(bytes, { device, base: offset })
  const mark = Buffer.from(at.bytes(8, 'GPT Signature')).toString('latin1')
  if (mark !== GPT_MARK) throw wrong(0, 'Signature', GPT_MARK, JSON.stringify(mark))
  at.skip(4)
  const size = at.u32()
  if (size < GPT_HEADER_SIZE || size > bytes.length)
    throw wrong(12, 'HeaderSize', `${GPT_HEADER_SIZE} to ${bytes.length}`, size)
  const stated = at.u32()
  const summed = Buffer.from(bytes.subarray(0, size))
  summed.fill(0, 16, 20)
  if (crc32(summed) !== stated) throw wrong(16, 'HeaderCRC32', crc32(summed), stated)
  at.skip(4)
  const header: GptHeader = {
    MyLBA: at.u64('GPT MyLBA'),
    AlternateLBA: at.u64('GPT AlternateLBA'),
    FirstUsableLBA: at.u64('GPT FirstUsableLBA'),
    LastUsableLBA: at.u64('GPT LastUsableLBA'),
    DiskGUID: parseGuid(at.bytes(16)),
    PartitionEntryLBA: at.u64('GPT PartitionEntryLBA'),
    NumberOfPartitionEntries: at.u32(),
    SizeOfPartitionEntry: at.u32(),
    PartitionEntryArrayCRC32: at.u32(),
  }
  const { MyLBA, NumberOfPartitionEntries: count, SizeOfPartitionEntry: entrySize } = header
  if (MyLBA !== offset / bytes.length) throw wrong(24, 'MyLBA', offset / bytes.length, MyLBA)
  if (!isPowerOfTwo(entrySize) || entrySize < GPT_ENTRY_SIZE || entrySize > LARGEST_ENTRY)
    throw wrong(84, 'SizeOfPartitionEntry', `a power of two from ${GPT_ENTRY_SIZE} to ${LARGEST_ENTRY}`, entrySize)
  if (count === 0 || count > LARGEST_ARRAY / entrySize)
    throw wrong(80, 'NumberOfPartitionEntries', `1 to ${LARGEST_ARRAY / entrySize}`, count)
  return header
}

/** A GPT entry in use; LBAs are sectors and may be any 64-bit number, the ending one is the partition's last sector. */
export interface GptEntry {
  /** from 1, as Linux counts */
  readonly number: number
  readonly PartitionTypeGUID: string
  readonly UniquePartitionGUID: string
  readonly StartingLBA: bigint
  readonly EndingLBA: bigint
  readonly Attributes: bigint
  readonly PartitionName: string
}

const NO_GUID = '00000000-0000-0000-0000-000000000000'
const utf16 = new TextDecoder('utf-16le', { ignoreBOM: true })

/** Reads the entries in use of a whole entry array. */
export const parseGptEntries = (bytes: Uint8Array, entrySize: number): readonly GptEntry[] => {
  const found: GptEntry[] = []
  for (let start = 0, number = 1; start < bytes.length; start += entrySize, number++) {
    const at = cursor(bytes.subarray(start, start + GPT_ENTRY_SIZE), { device: 'GPT entries', base: start })
    const PartitionTypeGUID = parseGuid(at.bytes(16))
    if (PartitionTypeGUID === NO_GUID) continue
    found.push({
      number,
      PartitionTypeGUID,
      UniquePartitionGUID: parseGuid(at.bytes(16)),
      StartingLBA: at.big64(),
      EndingLBA: at.big64(),
      Attributes: at.big64(),
      PartitionName: utf16.decode(at.bytes(72)).split('\0', 1)[0]!,
    })
  }
  return found
}

/** A GUID as blkid spells it: its first three numbers are little endian. */
export const parseGuid = (bytes: Uint8Array): string => {
  const hex = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString('hex')
  const swapped = (from: number, to: number): string =>
    Buffer.from(bytes.subarray(from, to).toReversed()).toString('hex')
  return `${swapped(0, 4)}-${swapped(4, 6)}-${swapped(6, 8)}-${hex(8, 10)}-${hex(10, 16)}`
}
