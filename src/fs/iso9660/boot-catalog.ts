import type { Device } from '../../block/device.js'
import { slice } from '../../block/linear.js'
import { type Cursor, cursor, type Place } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'
import { SECTOR } from './layout.js'
import { type Iso9660, openIso9660 } from './reader.js'
import { type BootRecord, readVolume } from './volume.js'

/*
 * El Torito. A boot record descriptor with the id "EL TORITO SPECIFICATION" at byte 7 has at byte 71 the u32 sector of the
 * catalog, entries of 32 bytes:
 *
 *   validation  0 u8 1      1 u8 platform    4 id 24    28 u16 checksum   30 55 AA      the u16 of all 32 bytes sum to 0
 *   default     0 u8 88 or 00 (not bootable) 1 u8 media  2 u16 load segment  4 u8 system type  6 u16 sectors of 512
 *               8 u32 sector of the image
 *   section     0 u8 90, 91 the last        1 u8 platform    2 u16 entries   4 id 28
 *   entry of a section: as default; media bit 5: an extension entry (0 u8 44, 1 u8 bit 5: one more) follows
 */

const ENTRY = 32
const ID = 'EL TORITO SPECIFICATION'
/** what is read of a catalog at most: a thousand entries; those seen have a dozen */
const MAX_CATALOG = 32_768
const HEADER = { validation: 1, more: 0x90, last: 0x91, extension: 0x44 }
const BOOTABLE = 0x88
const FOLLOWS = 0x20
const MEDIA = ['none', '1.2M floppy', '1.44M floppy', '2.88M floppy', 'hard disk'] as const
const MEDIA_BYTES: Readonly<Record<string, number>> = {
  '1.2M floppy': 1_228_800,
  '1.44M floppy': 1_474_560,
  '2.88M floppy': 2_949_120,
}

/** Whose firmware starts an entry; a number where El Torito gives it no name. */
export type BootPlatform = 'x86' | 'powerpc' | 'mac' | 'efi' | number

const platformOf = (id: number): BootPlatform =>
  id === 0 ? 'x86' : id === 1 ? 'powerpc' : id === 2 ? 'mac' : id === 0xef ? 'efi' : id

/** An entry of a boot catalog, as it stands there. */
export interface BootEntry {
  readonly platform: BootPlatform
  readonly bootable: boolean
  /** what the firmware shows the image as; `none` is no emulation */
  readonly media: (typeof MEDIA)[number]
  /** where x86 firmware loads the image to, in paragraphs of 16 bytes; 0 is 0x7c0 */
  readonly loadSegment: number
  /** of a partition, with a hard disk image */
  readonly systemType: number
  /** sectors of 512 bytes that the firmware loads */
  readonly sectorCount: number
  /** byte offset of the image on the device */
  readonly offset: number
  /** byte offset of the entry on the device */
  readonly at: number
}

/** An entry and its image. */
export interface BootImage extends BootEntry {
  /** bytes */
  readonly length: number
  /** the file of the tree that starts where the image does, and so tells its length; undefined where there is none */
  readonly path: string | undefined
  /** the image; of EFI firmware a FAT filesystem */
  readonly image: Device
}

/** A boot catalog. */
export interface BootCatalog {
  /** byte offset on the device */
  readonly offset: number
  /** who made it; undefined where it says nothing */
  readonly id: string | undefined
  readonly entries: readonly BootImage[]
}

const checkValidation = (bytes: Uint8Array, place: Place): { platform: number; id: string | undefined } => {
  const fields = cursor(bytes, place)
  const bad = (offset: number, field: string, expected: string | number, found: string | number) =>
    corrupt({ device: place.device, offset: place.base + offset, field, expected, found })
  const header = fields.u8('validation entry header')
  if (header !== HEADER.validation) throw bad(0, 'validation entry header', HEADER.validation, header)
  const platform = fields.u8('validation entry platform')
  fields.skip(2)
  const id = Buffer.from(fields.bytes(24, 'validation entry id')).toString('latin1').replace(/\0.*$/s, '').trimEnd()
  fields.skip(2)
  const key = fields.u16be('validation entry key')
  if (key !== 0x55aa) throw bad(30, 'validation entry key', '55 AA', key.toString(16))
  const words = cursor(bytes, place)
  let sum = 0
  for (let n = 0; n < ENTRY / 2; n++) sum = (sum + words.u16('validation entry')) & 0xffff
  if (sum !== 0) throw bad(28, 'validation entry checksum', 'words that sum to 0', sum)
  return { platform, id: id || undefined }
}

const parseEntry = (bytes: Uint8Array, platform: number, place: Place): BootEntry & { extended: boolean } => {
  const fields: Cursor = cursor(bytes, place)
  const bad = (offset: number, field: string, expected: string, found: number) =>
    corrupt({ device: place.device, offset: place.base + offset, field, expected, found })
  const indicator = fields.u8('boot indicator')
  if (indicator !== BOOTABLE && indicator !== 0) throw bad(0, 'boot indicator', '0x88 or 0', indicator)
  const mediaByte = fields.u8('boot media type')
  const media = MEDIA[mediaByte & 0x0f]
  if (!media) throw bad(1, 'boot media type', `0 to ${MEDIA.length - 1}`, mediaByte & 0x0f)
  const loadSegment = fields.u16('load segment')
  const systemType = fields.u8('system type')
  fields.skip(1)
  const sectorCount = fields.u16('sector count')
  const offset = fields.u32('load RBA') * SECTOR
  return {
    platform: platformOf(platform),
    bootable: indicator === BOOTABLE,
    media,
    loadSegment,
    systemType,
    sectorCount,
    offset,
    at: place.base,
    extended: (mediaByte & FOLLOWS) !== 0,
  }
}

/**
 * Reads the entries of a catalog: the default one, then those of all sections, extensions passed over.
 *
 * @param bytes  from the catalog's start on; `place` is of the first byte
 * @throws CORRUPT  also where the bytes end before the catalog
 * @see El Torito Bootable CD-ROM Format Specification 1.0, 2
 */
export const parseCatalog = (
  bytes: Uint8Array,
  place: Place,
): { readonly id: string | undefined; readonly entries: readonly BootEntry[] } => {
  const all = cursor(bytes, place)
  const next = (field: string): { entry: Uint8Array; place: Place } => {
    const base = place.base + all.offset
    return { entry: all.bytes(ENTRY, field), place: { device: place.device, base } }
  }
  const first = next('validation entry')
  const { platform, id } = checkValidation(first.entry, first.place)
  const entries: BootEntry[] = []
  const add = (owner: number): void => {
    const { entry, place: here } = next('boot entry')
    const { extended, ...parsed } = parseEntry(entry, owner, here)
    entries.push(parsed)
    for (let more = extended; more; ) {
      const extension = next('section extension entry')
      // A writer that sets the bit and adds no extension: the entry belongs to what follows.
      if (extension.entry[0] !== HEADER.extension) {
        all.offset -= ENTRY
        break
      }
      more = (extension.entry[1]! & FOLLOWS) !== 0
    }
  }
  add(platform)
  while (all.remaining >= ENTRY) {
    const header = next('section header')
    const indicator = header.entry[0]
    if (indicator !== HEADER.more && indicator !== HEADER.last) break
    const count = header.entry[2]! | (header.entry[3]! << 8)
    for (let n = 0; n < count; n++) add(header.entry[1]!)
    if (indicator === HEADER.last) break
  }
  return { id, entries }
}

const catalogRecord = ({ bytes }: BootRecord): boolean =>
  Buffer.from(bytes.subarray(7, 7 + ID.length)).toString('latin1') === ID

/**
 * Reads the boot catalog of an image; undefined where it has none.
 *
 * An image without emulation is as long as the file of the tree that starts where it does. Where there is none, it is as
 * long as the sectors to be loaded, or, for EFI with a count of 0 or 1, goes on to the volume's end (as UEFI says).
 *
 * @param iso  the device's tree, of which the paths are; opened here where it is left out
 * @throws CORRUPT, UNSUPPORTED, IO
 */
export const readBootCatalog = async (device: Device, iso?: Iso9660): Promise<BootCatalog | undefined> => {
  const { bootRecords } = await readVolume(device)
  const record = bootRecords.find(catalogRecord)
  if (!record) return undefined
  const sector = cursor(record.bytes.subarray(71), { device: device.name, base: record.offset + 71 }).u32(
    'boot catalog',
  )
  const offset = sector * SECTOR
  const outside = (at: number, field: string, found: number) =>
    corrupt({ device: device.name, offset: at, field, expected: `within ${device.size}`, found })
  if (offset + 2 * ENTRY > device.size) throw outside(record.offset + 71, 'boot catalog', offset)
  const bytes = await device.read(offset, Math.min(MAX_CATALOG, device.size - offset))
  const { id, entries } = parseCatalog(bytes, { device: device.name, base: offset })
  const opened = iso ?? (await openIso9660(device))
  const files = await opened.filesAt(new Set(entries.map(entry => entry.offset)))
  const images = entries.map((entry): BootImage => {
    if (entry.offset > device.size) throw outside(entry.at + 8, 'load RBA', entry.offset)
    const file = MEDIA_BYTES[entry.media] === undefined ? files.get(entry.offset) : undefined
    const length =
      file?.size ?? lengthWithoutFile(entry, Math.min(device.size, Math.max(opened.volumeSize, entry.offset)))
    if (entry.offset + length > device.size) throw outside(entry.at + 6, 'end of a boot image', entry.offset + length)
    const name = `${entry.platform} boot image of ${device.name}`
    return { ...entry, length, path: files.get(entry.offset)?.path, image: slice(device, entry.offset, length, name) }
  })
  return { offset, id, entries: images }
}

const lengthWithoutFile = ({ media, platform, sectorCount, offset }: BootEntry, volumeEnd: number): number => {
  if (platform === 'efi' && sectorCount <= 1) return volumeEnd - offset
  return MEDIA_BYTES[media] ?? sectorCount * 512
}
