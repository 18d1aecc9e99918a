import { cursor, type Place } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'

/*
 * ISO 9660 (ECMA-119), sectors of 2048 bytes:
 *
 *   system area 16 sectors · volume descriptors, one a sector, up to the terminator · path tables, directories, files
 *
 * Volume descriptor (1 primary, 2 supplementary: Joliet has its own tree there, 0 boot record, 255 terminator):
 *     0 u8 type             1 id "CD001"           6 u8 version            7 u8 flags
 *     8 system_id 32       40 volume_id 32        80 both32 volume_space_size
 *    88 escape 32         120 both16 volume_set_size   124 both16 volume_sequence_number
 *   128 both16 logical_block_size                132 both32 path_table_size
 *   140 u32 type_l_path_table  144 u32 opt_type_l_path_table  148 u32be type_m_path_table  152 u32be opt_type_m_path_table
 *   156 root_directory_record 34                 190 volume_set_id 128
 *   318 publisher_id 128  446 preparer_id 128   574 application_id 128
 *   702 copyright_file_id 37 · 739 abstract_file_id 37 · 776 bibliographic_file_id 37
 *   813 creation_date 17  830 modification_date 17  847 expiration_date 17  864 effective_date 17
 *   881 u8 file_structure_version               883 application_data 512
 *
 * Directory record; records cross no sector, what is left of a sector is zero:
 *    0 u8 length            1 u8 ext_attr_length (blocks)   2 both32 extent (block)   10 both32 size (bytes)
 *   18 date 7              25 u8 flags            26 u8 file_unit_size     27 u8 interleave
 *   28 both16 volume_sequence_number             32 u8 name_len            33 name · a byte of padding where
 *   name_len is even · system use area (SUSP) up to length
 *
 * both16 and both32 are the number little-endian, then big-endian.
 */

export const SECTOR = 2048
/** sectors before the first volume descriptor */
export const SYSTEM_AREA_SECTORS = 16
/** how far the kernel looks for descriptors: sectors 16 to 99 */
export const DESCRIPTOR_SECTORS = 84
export const DESCRIPTOR_TYPE = { boot: 0, primary: 1, supplementary: 2, terminator: 255 } as const
/** where a descriptor keeps what its application likes */
export const APPLICATION_DATA = { offset: 883, length: 512 } as const

/** Bits of a directory record's flags. */
export const FLAG = { hidden: 0x01, directory: 0x02, associated: 0x04, multiExtent: 0x80 } as const

/** A primary or supplementary volume descriptor; texts are bytes with their padding. */
export interface VolumeDescriptor {
  /** byte offset on the device */
  readonly offset: number
  readonly type: number
  readonly system_id: Uint8Array
  readonly volume_id: Uint8Array
  /** blocks, the little-endian number: programs that make images longer change only that one */
  readonly volume_space_size: number
  /** the same number, big-endian */
  readonly volume_space_size_be: number
  readonly escape: Uint8Array
  /** bytes: 512, 1024 or 2048 */
  readonly logical_block_size: number
  readonly root_directory_record: DirectoryRecord
  readonly publisher_id: Uint8Array
  readonly preparer_id: Uint8Array
  readonly application_id: Uint8Array
  /** 16 digits and a time zone */
  readonly creation_date: Uint8Array
  readonly modification_date: Uint8Array
}

/** A directory record. */
export interface DirectoryRecord {
  /** byte offset on the device */
  readonly offset: number
  /** bytes of the record */
  readonly length: number
  /** blocks of an extended attribute record before the data */
  readonly ext_attr_length: number
  /** first block */
  readonly extent: number
  /** bytes */
  readonly size: number
  readonly date: Uint8Array
  readonly flags: number
  readonly file_unit_size: number
  readonly interleave: number
  readonly name: Uint8Array
  /** what stands behind the name: SUSP entries */
  readonly system_use: Uint8Array
}

/**
 * A number that stands in both byte orders.
 *
 * @throws CORRUPT  the two differ
 */
export const parseBoth = (bytes: Uint8Array, at: number, size: 2 | 4, field: string, place: Place): number => {
  const fields = cursor(bytes.subarray(at), { device: place.device, base: place.base + at })
  const little = size === 2 ? fields.u16(field) : fields.u32(field)
  const big = size === 2 ? fields.u16be(field) : fields.u32be(field)
  if (little !== big)
    throw corrupt({
      device: place.device,
      offset: place.base + at,
      field,
      expected: `one number in both byte orders`,
      found: `${little} and ${big}`,
    })
  return little
}

/** bytes of a directory record without its name */
const RECORD_HEAD = 33

/**
 * Reads the directory record at `at`.
 *
 * @param bytes  from anywhere before the record on; `place` is of their first byte
 * @throws CORRUPT  also where the record leaves its bytes
 * @see linux fs/isofs/isofs.h, struct iso_directory_record; ECMA-119 9.1
 */
export const parseRecord = (bytes: Uint8Array, at: number, place: Place): DirectoryRecord => {
  const here: Place = { device: place.device, base: place.base + at }
  const bad = (offset: number, field: string, expected: string, found: string | number) =>
    corrupt({ device: here.device, offset: here.base + offset, field, expected, found })
  const length = bytes[at] ?? 0
  if (length <= RECORD_HEAD || at + length > bytes.length)
    throw bad(0, 'directory record length', `${RECORD_HEAD + 1} to ${bytes.length - at}`, length)
  const record = bytes.subarray(at, at + length)
  const name_len = record[32]!
  if (name_len === 0 || RECORD_HEAD + name_len > length)
    throw bad(32, 'directory record name_len', `1 to ${length - RECORD_HEAD}`, name_len)
  const behind = RECORD_HEAD + name_len
  return {
    offset: here.base,
    length,
    ext_attr_length: record[1]!,
    extent: parseBoth(record, 2, 4, 'directory record extent', here),
    size: parseBoth(record, 10, 4, 'directory record size', here),
    date: record.subarray(18, 25),
    flags: record[25]!,
    file_unit_size: record[26]!,
    interleave: record[27]!,
    name: record.subarray(RECORD_HEAD, behind),
    system_use: record.subarray(behind + (behind & 1)),
  }
}

/**
 * Reads a primary or supplementary volume descriptor.
 *
 * @param bytes  its sector; `place` is of the first byte
 * @throws CORRUPT
 * @see linux fs/isofs/isofs.h, struct iso_primary_descriptor; ECMA-119 8.4, 8.5
 */
export const parseDescriptor = (bytes: Uint8Array, place: Place): VolumeDescriptor => {
  const logical_block_size = parseBoth(bytes, 128, 2, 'logical_block_size', place)
  if (![512, 1024, 2048].includes(logical_block_size))
    throw corrupt({
      device: place.device,
      offset: place.base + 128,
      field: 'logical_block_size',
      expected: '512, 1024 or 2048',
      found: logical_block_size,
    })
  const root = parseRecord(bytes.subarray(0, 190), 156, place)
  if (!(root.flags & FLAG.directory))
    throw corrupt({
      device: place.device,
      offset: root.offset + 25,
      field: 'root_directory_record flags',
      expected: 'a directory',
      found: root.flags,
    })
  const space = cursor(bytes.subarray(80), { device: place.device, base: place.base + 80 })
  return {
    offset: place.base,
    type: bytes[0]!,
    system_id: bytes.subarray(8, 40),
    volume_id: bytes.subarray(40, 72),
    volume_space_size: space.u32('volume_space_size'),
    volume_space_size_be: space.u32be('volume_space_size'),
    escape: bytes.subarray(88, 120),
    logical_block_size,
    root_directory_record: root,
    publisher_id: bytes.subarray(318, 446),
    preparer_id: bytes.subarray(446, 574),
    application_id: bytes.subarray(574, 702),
    creation_date: bytes.subarray(813, 830),
    modification_date: bytes.subarray(830, 847),
  }
}

/** True for the record of the directory itself or of its parent, whose names are the bytes 0 and 1. */
export const isDots = ({ name }: DirectoryRecord): boolean => name.length === 1 && name[0]! <= 1
