import { cutShort } from '../../block/cut-short.js'
import type { Device } from '../../block/device.js'
import type { Place } from '../../bytes/cursor.js'
import { corrupt, unsupported } from '../../error.js'
import { decodeName } from '../name.js'
import {
  DESCRIPTOR_SECTORS,
  DESCRIPTOR_TYPE,
  parseDescriptor,
  SECTOR,
  SYSTEM_AREA_SECTORS,
  type VolumeDescriptor,
} from './layout.js'
import { utf16 } from './names.js'

/** A boot record descriptor's sector. */
export interface BootRecord {
  /** byte offset on the device */
  readonly offset: number
  readonly bytes: Uint8Array
}

/** The descriptors of a volume. */
export interface Volume {
  readonly primary: VolumeDescriptor
  /** the sector of `primary` */
  readonly primaryBytes: Uint8Array
  /** the supplementary descriptor of the Joliet tree; undefined where there is none */
  readonly joliet: VolumeDescriptor | undefined
  readonly bootRecords: readonly BootRecord[]
}

const textAt = (bytes: Uint8Array, at: number, length: number): string =>
  Buffer.from(bytes.subarray(at, at + length)).toString('latin1')

/** Escape sequences of UCS-2 levels 1 to 3. */
const isJoliet = (sequence: Uint8Array): boolean => ['%/@', '%/C', '%/E'].includes(textAt(sequence, 0, 3))

const SECTORS_AT_ONCE = 16

/**
 * Reads the descriptors of a volume: the first primary one, the first of Joliet, all boot records. Sectors that are no
 * descriptors are passed over, as the kernel does.
 *
 * @throws CORRUPT, UNSUPPORTED, IO
 * @see linux fs/isofs/inode.c, isofs_fill_super
 */
export const readVolume = async (device: Device): Promise<Volume> => {
  let primary: VolumeDescriptor | undefined
  let primaryBytes: Uint8Array | undefined
  let joliet: VolumeDescriptor | undefined
  const bootRecords: BootRecord[] = []
  for await (const { bytes, place } of descriptorSectors(device)) {
    if (textAt(bytes, 1, 5) !== 'CD001') {
      if (textAt(bytes, 9, 5) === 'CDROM' && !primary) throw unsupported('High Sierra', device.name)
      continue
    }
    const type = bytes[0]
    if (type === DESCRIPTOR_TYPE.terminator) break
    if (type === DESCRIPTOR_TYPE.boot) bootRecords.push({ offset: place.base, bytes })
    if (type === DESCRIPTOR_TYPE.primary && !primary) {
      primary = parseDescriptor(bytes, place)
      primaryBytes = bytes
    }
    if (type === DESCRIPTOR_TYPE.supplementary && !joliet && isJoliet(bytes.subarray(88, 120)))
      joliet = parseDescriptor(bytes, place)
  }
  if (!primary && device.size < (SYSTEM_AREA_SECTORS + 1) * SECTOR)
    throw cutShort({
      device: device.name,
      offset: SYSTEM_AREA_SECTORS * SECTOR,
      field: 'volume descriptors',
      size: device.size,
      needed: (SYSTEM_AREA_SECTORS + 1) * SECTOR,
    })
  if (!primary || !primaryBytes)
    throw corrupt({
      device: device.name,
      offset: SYSTEM_AREA_SECTORS * SECTOR,
      field: 'volume descriptors',
      expected: 'a primary volume descriptor of ISO 9660',
      found: 'none',
    })
  return { primary, primaryBytes, joliet, bootRecords }
}

async function* descriptorSectors(device: Device): AsyncIterable<{ bytes: Uint8Array; place: Place }> {
  const end = Math.min(device.size, (SYSTEM_AREA_SECTORS + DESCRIPTOR_SECTORS) * SECTOR)
  const step = SECTORS_AT_ONCE * SECTOR
  for (let offset = SYSTEM_AREA_SECTORS * SECTOR; offset + SECTOR <= end; offset += step) {
    const bytes = await device.read(offset, Math.min(step, end - offset))
    for (let at = 0; at + SECTOR <= bytes.length; at += SECTOR)
      yield { bytes: bytes.subarray(at, at + SECTOR), place: { device: device.name, base: offset + at } }
  }
}

/** A descriptor's text without what pads it; undefined where nothing is left. */
export const descriptorText = (bytes: Uint8Array): string | undefined => {
  const end = bytes.indexOf(0)
  return decodeName(end < 0 ? bytes : bytes.subarray(0, end)).replace(/[ \t\n\v\f\r]+$/, '') || undefined
}

const trimmed = (text: string): string | undefined =>
  text
    .toWellFormed()
    .replace(/\0.*$/s, '')
    .replace(/[ \t\n\v\f\r]+$/, '') || undefined

/**
 * The volume's name as blkid tells it: Joliet's, which has 16 letters at most, and what the plain one has beyond where it
 * is the same name.
 *
 * @see util-linux libblkid/src/superblocks/iso9660.c, merge_utf16be_ascii
 */
export const volumeLabel = ({ primary, joliet }: Volume): string | undefined => {
  if (!joliet) return descriptorText(primary.volume_id)
  return trimmed(mergedLabel(joliet.volume_id, primary.volume_id) ?? utf16(joliet.volume_id))
}

/** Joliet's 16 units, where the plain name's 32 bytes go with them, and what the plain one has beyond; undefined where they differ. */
const mergedLabel = (volumeId: Uint8Array, plainId: Uint8Array): string | undefined => {
  const units = utf16(volumeId)
  let text = ''
  let at = 0
  for (const character of units) {
    const plain = String.fromCharCode(plainId[at++] ?? 0)
    // the plain name has _ for what ASCII has not, and capitals for small letters
    if (plain === '_' || character === '_') text += plain === '_' ? character : plain
    else if (plain.toUpperCase() === character.toUpperCase() && character < '\x80')
      text += plain >= 'A' && plain <= 'Z' ? character : plain
    else return undefined
  }
  return text + Buffer.from(plainId.subarray(at)).toString('latin1')
}

/**
 * The volume's id as blkid tells it: the digits of the modification date, else of the creation date, as
 * YYYY-MM-DD-hh-mm-ss-cc; undefined where neither is set. Whatever stands in place of digits is told as it is.
 *
 * @see util-linux libblkid/src/superblocks/iso9660.c, probe_iso9660_set_uuid
 */
export const volumeUuid = ({ primary }: Volume): string | undefined => {
  for (const date of [primary.modification_date, primary.creation_date]) {
    const digits = textAt(date, 0, 16)
    if (digits === '0'.repeat(16) && date[16] === 0) continue
    const spelled = digits.replace(/^(....)(..)(..)(..)(..)(..)(..)$/s, '$1-$2-$3-$4-$5-$6-$7')
    return spelled.replace(/\0.*$/s, '') || undefined
  }
  return undefined
}
