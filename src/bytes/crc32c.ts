/** Reflected polynomials: Castagnoli's, and that of CRC-16/ARC. */
const CASTAGNOLI = 0x82f63b78
const CRC16 = 0xa001

const byteTable = (polynomial: number): Uint32Array =>
  Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1
    return value >>> 0
  })

/** Eight tables in one array: table n tells what a byte does that n more bytes follow. */
const sliceTables = (first: Uint32Array): Int32Array => {
  const tables = new Int32Array(8 * 256)
  tables.set(first)
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256]!
    tables[at] = (before >>> 8) ^ first[before & 0xff]!
  }
  return tables
}

const CRC32C_TABLES = sliceTables(byteTable(CASTAGNOLI))
const CRC16_TABLE = byteTable(CRC16)

/** What the registers of ext4's checksums start with, of CRC-32C and of CRC-16. */
export const CRC32C_START = 0xffff_ffff
export const CRC16_START = 0xffff

/**
 * Carries the register of a CRC-32C on over more bytes, without the inversion at the end that other users of this CRC make:
 * `crc32c(CRC32C_START, b) ^ 0xffffffff` is the CRC of iSCSI.
 *
 * @param register  32 bits: `CRC32C_START`, or what an earlier call gave
 * @param start     first byte that counts, and one past the last: all if left out
 * @see RFC 3720 section 12.1; linux lib/crc32.c, __crc32c_le
 */
export const crc32c = (register: number, bytes: Uint8Array, start = 0, end = bytes.length): number => {
  const tables = CRC32C_TABLES
  let crc = register | 0
  let at = start
  for (const last = end - 7; at < last; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    crc =
      tables[1792 + (crc & 0xff)]! ^
      tables[1536 + ((crc >>> 8) & 0xff)]! ^
      tables[1280 + ((crc >>> 16) & 0xff)]! ^
      tables[1024 + (crc >>> 24)]! ^
      tables[768 + bytes[at + 4]!]! ^
      tables[512 + bytes[at + 5]!]! ^
      tables[256 + bytes[at + 6]!]! ^
      tables[bytes[at + 7]!]!
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ tables[(crc ^ bytes[at]!) & 0xff]!
  return crc >>> 0
}

/** The same over the four bytes of a number of 32 bits, little endian. */
export const crc32cOfU32 = (register: number, value: number): number => {
  const tables = CRC32C_TABLES
  const crc = register ^ value
  return (
    (tables[768 + (crc & 0xff)]! ^
      tables[512 + ((crc >>> 8) & 0xff)]! ^
      tables[256 + ((crc >>> 16) & 0xff)]! ^
      tables[crc >>> 24]!) >>>
    0
  )
}

/**
 * Carries the register of a CRC-16 (polynomial 0x8005, reflected) on over more bytes.
 *
 * @param register  16 bits: `CRC16_START` in ext4, or what an earlier call gave
 * @see linux lib/crc16.c
 */
export const crc16 = (register: number, bytes: Uint8Array): number => {
  let crc = register
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC16_TABLE[(crc ^ byte) & 0xff]!
  return crc
}
