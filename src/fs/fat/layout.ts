import { cursor } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'

/*
 * Boot sector, little endian (Microsoft FAT32 File System Specification 1.03; reserved bytes as Linux uses them):
 *     0 BS_jmpBoot[3]        3 BS_OEMName[8]       11 u16 BPB_BytsPerSec   13 u8 BPB_SecPerClus   14 u16 BPB_RsvdSecCnt
 *    16 u8 BPB_NumFATs      17 u16 BPB_RootEntCnt  19 u16 BPB_TotSec16     21 u8 BPB_Media        22 u16 BPB_FATSz16
 *    24 u16 BPB_SecPerTrk   26 u16 BPB_NumHeads    28 u32 BPB_HiddSec      32 u32 BPB_TotSec32
 *   FAT12, FAT16:
 *    36 u8 BS_DrvNum        37 u8 BS_Reserved1     38 u8 BS_BootSig        39 u32 BS_VolID
 *    43 BS_VolLab[11]       54 BS_FilSysType[8]
 *   FAT32, where BPB_FATSz16 is 0:
 *    36 u32 BPB_FATSz32     40 u16 BPB_ExtFlags    42 u16 BPB_FSVer        44 u32 BPB_RootClus    48 u16 BPB_FSInfo
 *    50 u16 BPB_BkBootSec   52 reserved[12]        64 u8 BS_DrvNum         65 u8 BS_Reserved1     66 u8 BS_BootSig
 *    67 u32 BS_VolID        71 BS_VolLab[11]       82 BS_FilSysType[8]
 *   510 55 AA
 *
 * Behind BPB_RsvdSecCnt sectors: BPB_NumFATs tables · FAT12 and FAT16: root directory of BPB_RootEntCnt entries · clusters from number 2.
 * FSInfo sector: 484 u32 FSI_StrucSig 0x61417272 · 488 u32 FSI_Free_Count.
 */

export const BOOT_SECTOR_SIZE = 512
/** bytes of a directory entry */
export const ENTRY_SIZE = 32
/** number of the first cluster that holds data */
export const FIRST_CLUSTER = 2

export type Variant = 12 | 16 | 32

/** Clusters at most, by variant. @see linux fs/fat/fat.h, MAX_FAT12 and its like */
const MOST_CLUSTERS = { 12: 0xff4, 16: 0xfff4, 32: 0x0ffffff6 } as const
/** the lowest value of a table's entry that ends a chain; the one below marks a bad cluster */
export const END_OF_CHAIN = { 12: 0xff8, 16: 0xfff8, 32: 0x0ffffff8 } as const

/** A boot sector, and where it says that things are. Offsets and sizes are bytes. */
export interface BootSector {
  readonly variant: Variant
  readonly BPB_BytsPerSec: number
  readonly BPB_NumFATs: number
  readonly BPB_Media: number
  /** FAT32 only, else 0 */
  readonly BPB_ExtFlags: number
  readonly BPB_RootClus: number
  readonly BPB_FSInfo: number
  readonly BPB_BkBootSec: number
  readonly BS_Reserved1: number
  readonly BS_BootSig: number
  readonly BS_VolID: number
  readonly BS_VolLab: Uint8Array
  readonly clusterSize: number
  /** first byte of the first table */
  readonly fatStart: number
  readonly fatSize: number
  /** which of the tables counts; the others mirror it unless BPB_ExtFlags says that they don't */
  readonly activeFat: number
  /** the root directory of FAT12 and FAT16; 0 bytes in FAT32 */
  readonly rootStart: number
  readonly rootSize: number
  /** first byte of the cluster number 2 */
  readonly dataStart: number
  readonly clusterCount: number
  /** bytes of the whole volume */
  readonly volumeSize: number
}

const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0

/**
 * Reads a boot sector and holds it against itself.
 *
 * @param bytes  512 bytes
 * @throws CORRUPT  it is that of no FAT volume: NTFS, exFAT and MBRs among them
 * @see linux fs/fat/inode.c, fat_read_bpb and fat_fill_super
 */
export const parseBootSector = (bytes: Uint8Array, device: string): BootSector => {
  const at = cursor(bytes, { device, base: 0 })
  const check = (right: boolean, offset: number, field: string, expected: string | number, found: string | number) => {
    if (!right) throw corrupt({ device, offset, field, expected, found })
  }
  const jump = at.bytes(3, 'BS_jmpBoot')
  const name = Buffer.from(at.bytes(8, 'BS_OEMName')).toString('latin1')
  check(name !== 'NTFS    ' && name !== 'EXFAT   ', 3, 'BS_OEMName', 'a FAT volume', name.trim())
  const signed = bytes[510] === 0x55 && bytes[511] === 0xaa
  // Floppies of old have no 55 AA.
  check(signed || jump[0] === 0xeb || jump[0] === 0xe9, 510, 'signature of the boot sector', '55 AA', 'none')
  const BPB_BytsPerSec = at.u16()
  check(
    isPowerOfTwo(BPB_BytsPerSec) && BPB_BytsPerSec >= 512 && BPB_BytsPerSec <= 4096,
    11,
    'BPB_BytsPerSec',
    '512, 1024, 2048 or 4096',
    BPB_BytsPerSec,
  )
  const BPB_SecPerClus = at.u8()
  check(isPowerOfTwo(BPB_SecPerClus), 13, 'BPB_SecPerClus', 'a power of two', BPB_SecPerClus)
  const BPB_RsvdSecCnt = at.u16()
  check(BPB_RsvdSecCnt > 0, 14, 'BPB_RsvdSecCnt', 'at least 1', BPB_RsvdSecCnt)
  const BPB_NumFATs = at.u8()
  check(BPB_NumFATs > 0, 16, 'BPB_NumFATs', 'at least 1', BPB_NumFATs)
  const BPB_RootEntCnt = at.u16()
  const BPB_TotSec16 = at.u16()
  const BPB_Media = at.u8()
  check(BPB_Media === 0xf0 || BPB_Media >= 0xf8, 21, 'BPB_Media', '0xf0 or 0xf8 to 0xff', BPB_Media)
  const BPB_FATSz16 = at.u16()
  at.skip(8)
  const BPB_TotSec32 = at.u32()
  const is32 = BPB_FATSz16 === 0
  const BPB_FATSz32 = is32 ? at.u32() : 0
  const BPB_ExtFlags = is32 ? at.u16() : 0
  if (is32) at.skip(2, 'BPB_FSVer')
  const BPB_RootClus = is32 ? at.u32() : 0
  const BPB_FSInfo = is32 ? at.u16() : 0
  const BPB_BkBootSec = is32 ? at.u16() : 0
  if (is32) at.skip(12)
  at.skip(1, 'BS_DrvNum')
  const BS_Reserved1 = at.u8()
  const BS_BootSig = at.u8()
  const BS_VolID = at.u32()
  const BS_VolLab = at.bytes(11)

  const fatSize = (BPB_FATSz16 || BPB_FATSz32) * BPB_BytsPerSec
  check(fatSize > 0, is32 ? 36 : 22, is32 ? 'BPB_FATSz32' : 'BPB_FATSz16', 'at least 1', 0)
  const rootSize = is32 ? 0 : BPB_RootEntCnt * ENTRY_SIZE
  check(
    is32 || (rootSize > 0 && rootSize % BPB_BytsPerSec === 0),
    17,
    'BPB_RootEntCnt',
    'whole sectors of entries',
    BPB_RootEntCnt,
  )
  const fatStart = BPB_RsvdSecCnt * BPB_BytsPerSec
  const rootStart = fatStart + BPB_NumFATs * fatSize
  const dataStart = rootStart + rootSize
  const clusterSize = BPB_SecPerClus * BPB_BytsPerSec
  const volumeSize = (BPB_TotSec16 || BPB_TotSec32) * BPB_BytsPerSec
  const total = Math.floor((volumeSize - dataStart) / clusterSize)
  check(total > 0, BPB_TotSec16 ? 19 : 32, 'total sectors', 'room for a cluster', BPB_TotSec16 || BPB_TotSec32)
  const variant: Variant = is32 ? 32 : total > MOST_CLUSTERS[12] ? 16 : 12
  // Clusters that the table has no entry for can't be used.
  const clusterCount = Math.min(total, Math.floor((fatSize * 8) / variant) - FIRST_CLUSTER)
  check(
    clusterCount > 0 && clusterCount <= MOST_CLUSTERS[variant],
    BPB_TotSec16 ? 19 : 32,
    `clusters of FAT${variant}`,
    `1 to ${MOST_CLUSTERS[variant]}`,
    clusterCount,
  )
  const activeFat = BPB_ExtFlags & 0x80 ? BPB_ExtFlags & 0x0f : 0
  check(activeFat < BPB_NumFATs, 40, 'BPB_ExtFlags', `a table below ${BPB_NumFATs}`, activeFat)
  return {
    variant,
    BPB_BytsPerSec,
    BPB_NumFATs,
    BPB_Media,
    BPB_ExtFlags,
    BPB_RootClus,
    BPB_FSInfo,
    BPB_BkBootSec,
    BS_Reserved1,
    BS_BootSig,
    BS_VolID,
    BS_VolLab,
    clusterSize,
    fatStart,
    fatSize,
    activeFat,
    rootStart,
    rootSize,
    dataStart,
    clusterCount,
    volumeSize,
  }
}

/** True where a first sector is that of a FAT volume. @param bytes  at least 512 bytes of the start of the device */
export const isFat = (bytes: Uint8Array): boolean => {
  try {
    parseBootSector(bytes, '')
    return true
  } catch {
    return false
  }
}

/** The free clusters that an FSInfo sector states; undefined where it has no marks or says it doesn't know. */
export const parseFreeCount = (bytes: Uint8Array, place: { device: string; base: number }): number | undefined => {
  const at = cursor(bytes, place)
  if (at.u32('FSI_LeadSig') !== 0x41615252) return undefined
  at.skip(480)
  if (at.u32('FSI_StrucSig') !== 0x61417272) return undefined
  const count = at.u32('FSI_Free_Count')
  return count === 0xffff_ffff ? undefined : count
}
