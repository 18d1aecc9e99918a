import { CRC32C_START, crc32c } from '../../../bytes/crc32c.js'
import { COMMIT_CHECKSUM_OFFSET, type JournalSuperblock, TAIL_SIZE } from './layout.js'

const SUPERBLOCK_CHECKSUM_OFFSET = 252
/** polynomial of CRC-32, not reflected */
const POLYNOMIAL = 0x04c11db7

const CRC32BE_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 24
  for (let bit = 0; bit < 8; bit++) value = value < 0 ? (value << 1) ^ POLYNOMIAL : value << 1
  return value
})

/** What the register of `crc32be` starts with. */
export const CRC32BE_START = 0xffff_ffff

/**
 * Carries the register of a CRC-32, highest bit first and not inverted at the end, on over more bytes: the checksum v1 of
 * transactions.
 *
 * @see linux lib/crc32.c, crc32_be
 */
export const crc32be = (register: number, bytes: Uint8Array): number => {
  let crc = register | 0
  for (let at = 0; at < bytes.length; at++) crc = (crc << 8) ^ CRC32BE_TABLE[(crc >>> 24) ^ bytes[at]!]!
  return crc >>> 0
}

const ZEROS = new Uint8Array(4)
const u32be = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}

/** The CRC-32C of bytes in which the four at `offset`, the checksum itself, count as zeros. */
const sumAround = (register: number, bytes: Uint8Array, offset: number): number =>
  crc32c(crc32c(crc32c(register, bytes.subarray(0, offset)), ZEROS), bytes.subarray(offset + 4))

const holds = (bytes: Uint8Array, offset: number, sum: number): boolean =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(offset) === sum

/** The checksum of the journal's superblock, of its 1024 bytes. @see linux fs/jbd2/journal.c, jbd2_superblock_csum */
export const superblockSum = (bytes: Uint8Array): number => sumAround(CRC32C_START, bytes, SUPERBLOCK_CHECKSUM_OFFSET)

/** The register from which the checksums v2 and v3 of a journal's blocks start. */
export const seedOf = ({ s_uuid }: Pick<JournalSuperblock, 's_uuid'>): number => crc32c(CRC32C_START, s_uuid)

/** Whether the tail of a descriptor or revoke block is right. @see linux fs/jbd2/recovery.c, jbd2_descriptor_block_csum_verify */
export const tailHolds = (block: Uint8Array, seed: number): boolean => {
  const offset = block.length - TAIL_SIZE
  return holds(block, offset, sumAround(seed, block, offset))
}

/** Whether the checksum v2 or v3 of a commit block is right. @see linux fs/jbd2/recovery.c, jbd2_commit_block_csum_verify */
export const commitHolds = (block: Uint8Array, seed: number): boolean =>
  holds(block, COMMIT_CHECKSUM_OFFSET, sumAround(seed, block, COMMIT_CHECKSUM_OFFSET))

/**
 * The checksum v3 that the tag of a copied block should carry; v2 has its low 16 bits.
 *
 * @param block  as it lies in the journal, its magic still escaped
 * @see linux fs/jbd2/recovery.c, jbd2_block_tag_csum_verify
 */
export const copySum = (block: Uint8Array, sequence: number, seed: number): number =>
  crc32c(crc32c(seed, u32be(sequence)), block)
