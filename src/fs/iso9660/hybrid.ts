import type { Device } from '../../block/device.js'
import { cursor } from '../../bytes/cursor.js'

/*
 * The system area's first sector as a master boot record that starts the same system from a disk:
 *
 *     0 code       432 u64 sector (512 bytes) of what the code loads       440 disk signature, partition table
 *   510 55 AA
 */

/** What starts an image from a disk. */
export interface Hybrid {
  /** whose code stands in the master boot record */
  readonly loader: 'isolinux' | 'grub2'
  /** byte offset on the device of what that code loads */
  readonly loads: number
}

const MBR = 512
const LOADS = 432
/** ISOLINUX has this mark at byte 64, put there for hybrid images */
const ISOLINUX_MARK = { offset: 64, bytes: [0xfb, 0xc0, 0x78, 0x70] }
const ISOLINUX_TEXT = 'isolinux.bin missing or corrupt.'
/** the first words of GRUB's messages */
const GRUB_TEXT = 'GRUB \0Geom\0Hard Disk\0Read\0 Error'

/**
 * The boot code that makes an image start from a disk too; undefined where there is none, or none that is known for sure:
 * the code must be there, and what it loads must lie on the device (of ISOLINUX: must be ISOLINUX).
 *
 * @throws IO
 * @see syslinux mbr/isohdpfx.S, utils/isohybrid.c; grub-core/boot/i386/pc/boot.S (HYBRID_BOOT)
 */
export const readHybrid = async (device: Device): Promise<Hybrid | undefined> => {
  if (device.size < MBR) return undefined
  const bytes = await device.read(0, MBR)
  if (bytes[510] !== 0x55 || bytes[511] !== 0xaa) return undefined
  const fields = cursor(bytes, { device: device.name, base: 0 })
  fields.skip(LOADS)
  const sector = fields.big64()
  if (sector === 0n || sector * 512n + 512n > BigInt(device.size)) return undefined
  const loads = Number(sector) * 512
  const text = Buffer.from(bytes.subarray(0, LOADS)).toString('latin1')
  // GRUB's plain boot.img keeps its sector at byte 92, and from a disk's start 1: what no image has there.
  if (text.includes(GRUB_TEXT)) return loads >= 32_768 ? { loader: 'grub2', loads } : undefined
  if (!text.includes(ISOLINUX_TEXT)) return undefined
  const mark = await device.read(loads + ISOLINUX_MARK.offset, ISOLINUX_MARK.bytes.length)
  return ISOLINUX_MARK.bytes.every((byte, n) => mark[n] === byte) ? { loader: 'isolinux', loads } : undefined
}
