import type { Device } from '../block/device.js'

/** Filesystems that are told apart by their marks. */
export type FsType = 'squashfs' | 'erofs' | 'ext4' | 'xfs' | 'btrfs' | 'f2fs' | 'luks' | 'swap'

const SIGNATURES: readonly { readonly type: FsType; readonly offset: number; readonly bytes: readonly number[] }[] = [
  { type: 'squashfs', offset: 0, bytes: [0x68, 0x73, 0x71, 0x73] },
  { type: 'xfs', offset: 0, bytes: [0x58, 0x46, 0x53, 0x42] },
  { type: 'luks', offset: 0, bytes: [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] },
  { type: 'erofs', offset: 1024, bytes: [0xe2, 0xe1, 0xf5, 0xe0] },
  { type: 'f2fs', offset: 1024, bytes: [0x10, 0x20, 0xf5, 0xf2] },
  { type: 'ext4', offset: 1080, bytes: [0x53, 0xef] },
  { type: 'swap', offset: 4086, bytes: [...Buffer.from('SWAPSPACE2')] },
  { type: 'btrfs', offset: 65600, bytes: [...Buffer.from('_BHRfS_M')] },
]

/** What a device holds, by its marks (ext4 stands for ext2 and ext3 too); undefined where nothing is known. @see libblkid */
export const detectFs = async (device: Device): Promise<FsType | undefined> => {
  const head = await device.read(0, Math.min(device.size, 65608))
  return SIGNATURES.find(({ offset, bytes }) => bytes.every((byte, n) => head[offset + n] === byte))?.type
}
