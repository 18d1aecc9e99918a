import type { Device } from '../block/device.js'
import { isStore } from '../block/snapshot/store.js'

/** Filesystems and containers that are told apart by their marks. */
export type FsType =
  | 'squashfs'
  | 'erofs'
  | 'ext4'
  | 'xfs'
  | 'btrfs'
  | 'f2fs'
  | 'luks'
  | 'swap'
  | 'iso9660'
  | 'vfat'
  | 'exfat'
  | 'ntfs'
  | 'hfsplus'
  | 'LVM2'

interface Signature {
  readonly type: FsType
  readonly offset: number
  readonly bytes: readonly number[]
}

const text = (type: FsType, offset: number, mark: string): Signature => ({
  type,
  offset,
  bytes: [...Buffer.from(mark)],
})

const SIGNATURES: readonly Signature[] = [
  text('squashfs', 0, 'hsqs'),
  text('xfs', 0, 'XFSB'),
  { type: 'luks', offset: 0, bytes: [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] },
  text('LVM2', 512, 'LABELONE'),
  { type: 'erofs', offset: 1024, bytes: [0xe2, 0xe1, 0xf5, 0xe0] },
  { type: 'f2fs', offset: 1024, bytes: [0x10, 0x20, 0xf5, 0xf2] },
  { type: 'ext4', offset: 1080, bytes: [0x53, 0xef] },
  text('swap', 4086, 'SWAPSPACE2'),
  text('btrfs', 65600, '_BHRfS_M'),
  text('hfsplus', 1024, 'H+'),
  text('iso9660', 32769, 'CD001'),
  text('exfat', 3, 'EXFAT   '),
  text('ntfs', 3, 'NTFS    '),
]

/** A FAT says what it is only by sane numbers in its first sector: a jump, sectors and clusters of a power of two, one or two FATs. */
const looksLikeFat = (head: Uint8Array): boolean => {
  if (head.length < 512 || head[510] !== 0x55 || head[511] !== 0xaa) return false
  if (head[0] !== 0xe9 && !(head[0] === 0xeb && head[2] === 0x90)) return false
  const view = new DataView(head.buffer, head.byteOffset, 512)
  const sectorSize = view.getUint16(11, true)
  const perCluster = view.getUint8(13)
  const fats = view.getUint8(16)
  const media = view.getUint8(21)
  return (
    [512, 1024, 2048, 4096].includes(sectorSize) &&
    perCluster > 0 &&
    (perCluster & (perCluster - 1)) === 0 &&
    view.getUint16(14, true) > 0 &&
    fats > 0 &&
    fats <= 2 &&
    (media === 0xf0 || media >= 0xf8)
  )
}

/** What a device holds, by its marks (ext4 stands for ext2 and ext3 too); undefined where nothing is known. @see libblkid */
export const detectFs = async (device: Device): Promise<FsType | undefined> => {
  const head = await device.read(0, Math.min(device.size, 65608))
  const found = SIGNATURES.find(({ offset, bytes }) => bytes.every((byte, n) => head[offset + n] === byte))?.type
  return found ?? (looksLikeFat(head) ? 'vfat' : undefined)
}

/** The filesystem that the file of an overlay is; undefined for a snapshot store, and where nothing is known. @throws IO */
export const overlayFsType = async (file: Device): Promise<FsType | undefined> =>
  (await isStore(file)) ? undefined : detectFs(file)
