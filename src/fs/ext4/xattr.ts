import { crc32c } from '../../bytes/crc32c.js'
import type { Xattr } from '../filesystem.js'
import { decodeName } from '../name.js'
import { readBlockMap } from './block-map.js'
import { fileDevice } from './file.js'
import { type Ext4Inode, INODE_FLAG, readInode } from './inode.js'
import { posixAcl } from './posix-acl.js'
import { hex, type Volume } from './volume.js'

/*
 * In the inode, behind i_extra_isize: u32 h_magic, then entries; values count from the first entry.
 * In the block i_file_acl, which inodes may share; values count from the block's start:
 *    0 u32 h_magic   4 u32 h_refcount   8 u32 h_blocks   12 u32 h_hash   16 u32 h_checksum   20 reserved   32 entries
 * h_checksum: CRC-32C(seed; u64 block number, the block with 0 for it).
 *
 * Entry, a multiple of 4 bytes; a u32 of 0 ends them:
 *    0 u8 e_name_len   1 u8 e_name_index   2 u16 e_value_offs   4 u32 e_value_inum   8 u32 e_value_size   12 u32 e_hash
 *   16 name
 * With e_value_inum the value is the content of that inode.
 */

const MAGIC = 0xea020000
const HEADER = 32
const ENTRY = 16
/** Values, all of an inode together, for which Linux allows 64 KiB each. */
const MAX_VALUES = 1 << 24

/** Beginnings of names by e_name_index. Attributes of other indices are shown nowhere, as in the kernel. */
const PREFIXES: Readonly<Record<number, string>> = {
  1: 'user.',
  2: 'system.posix_acl_access',
  3: 'system.posix_acl_default',
  4: 'trusted.',
  6: 'security.',
  7: 'system.',
  8: 'system.richacl',
  10: 'gnu.',
}
const INDEX = { aclAccess: 2, aclDefault: 3, system: 7 } as const

/** An attribute as it stands on the medium. */
export interface StoredXattr {
  readonly index: number
  readonly name: Uint8Array
  /** undefined where the value has an inode of its own */
  readonly value: Uint8Array | undefined
  /** byte offset on the device of the value, 0 where it has an inode of its own */
  readonly valueOffset: number
  readonly valueInode: number
  readonly valueSize: number
  readonly hash: number
}

interface Area {
  readonly bytes: Uint8Array
  /** byte offset of `bytes` on the device */
  readonly at: number
  /** where entries start in `bytes`, and what values count from */
  readonly entries: number
  readonly base: number
  readonly ino: number
}

const parseEntries = (volume: Volume, { bytes, at, entries, base, ino }: Area): readonly StoredXattr[] => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const wrong = (offset: number, field: string, expected: string, found: number) =>
    volume.wrong(at + offset, `${field} of inode ${ino}`, expected, found)
  const found: StoredXattr[] = []
  let end = entries
  while (true) {
    if (end + 4 > bytes.length) throw wrong(end, 'extended attributes', 'an end of the list', bytes.length)
    if (view.getUint32(end, true) === 0) break
    const length = ENTRY + Math.ceil(bytes[end]! / 4) * 4
    // Behind the last entry there are still 4 bytes of zeros.
    if (end + length + 4 > bytes.length) throw wrong(end, 'e_name_len', 'an entry that fits', bytes[end]!)
    end += length
  }
  for (let here = entries; here < end; here += ENTRY + Math.ceil(bytes[here]! / 4) * 4) {
    const nameLength = bytes[here]!
    const valueOffset = base + view.getUint16(here + 2, true)
    const valueInode = view.getUint32(here + 4, true)
    const valueSize = view.getUint32(here + 8, true)
    const inside = valueInode === 0
    if (inside && valueSize > 0 && (valueOffset < end + 4 || valueOffset + valueSize > bytes.length))
      throw wrong(here + 2, 'e_value_offs', `bytes ${end + 4} to ${bytes.length}`, valueOffset)
    found.push({
      index: bytes[here + 1]!,
      name: bytes.subarray(here + ENTRY, here + ENTRY + nameLength),
      value: inside
        ? valueSize > 0
          ? bytes.subarray(valueOffset, valueOffset + valueSize)
          : new Uint8Array(0)
        : undefined,
      valueOffset: inside ? at + valueOffset : 0,
      valueInode,
      valueSize,
      hash: view.getUint32(here + 12, true),
    })
  }
  return found
}

/** The attributes in the inode itself. @throws CORRUPT */
export const bodyXattrs = (volume: Volume, inode: Ext4Inode): readonly StoredXattr[] => {
  const { bytes, xattrStart, offset, ino } = inode
  if (xattrStart + 8 > bytes.length) return []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(xattrStart, true) !== MAGIC) return []
  return parseEntries(volume, { bytes, at: offset, entries: xattrStart + 4, base: xattrStart + 4, ino })
}

const blockXattrs = async (volume: Volume, inode: Ext4Inode): Promise<readonly StoredXattr[]> => {
  const { fileAcl: block, ino } = inode
  if (block === 0) return []
  const { blockSize, blockCount, metadataCsum, checksumSeed } = volume.superblock
  if (!volume.holds(block))
    throw volume.wrong(inode.offset + 104, `i_file_acl of inode ${ino}`, `below ${blockCount}`, block)
  const at = block * blockSize
  const bytes = await volume.block(block)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const magic = view.getUint32(0, true)
  if (magic !== MAGIC) throw volume.wrong(at, `h_magic of inode ${ino}`, hex(MAGIC), hex(magic))
  if (metadataCsum) {
    const number = Buffer.alloc(8)
    number.writeBigUInt64LE(BigInt(block))
    const head = crc32c(crc32c(checksumSeed, number), bytes.subarray(0, 16))
    const sum = crc32c(crc32c(head, new Uint8Array(4)), bytes.subarray(20))
    const stored = view.getUint32(16, true)
    if (stored !== sum) throw volume.wrong(at + 16, `h_checksum of inode ${ino}`, hex(sum), hex(stored))
  }
  const blocks = view.getUint32(8, true)
  if (blocks !== 1) throw volume.wrong(at + 8, `h_blocks of inode ${ino}`, 1, blocks)
  return parseEntries(volume, { bytes, at, entries: HEADER, base: 0, ino })
}

const rotate = (hash: number, bits: number): number => (hash << bits) | (hash >>> (32 - bits))

/** e_hash of an entry whose value is an inode: over the name and the hash of the value. Old kernels took characters as signed. */
const entryHashes = (name: Uint8Array, valueHash: number): readonly number[] =>
  [(byte: number) => byte, (byte: number) => (byte << 24) >> 24].map(signed => {
    let hash = 0
    for (const byte of name) hash = rotate(hash, 5) ^ signed(byte)
    return (rotate(hash, 16) ^ valueHash) >>> 0
  })

const largeValue = async (volume: Volume, owner: Ext4Inode, stored: StoredXattr): Promise<Uint8Array> => {
  const wrong = (at: number, field: string, expected: string | number, found: string | number) =>
    volume.wrong(at, `${field} of inode ${stored.valueInode}, an attribute of inode ${owner.ino}`, expected, found)
  const inode = await readInode(volume, stored.valueInode, owner.offset)
  if (!(inode.flags & INODE_FLAG.eaInode) || inode.kind !== 'file' || inode.linkCount === 0)
    throw wrong(inode.offset, 'i_flags', 'the mark of an attribute', hex(inode.flags))
  if (inode.size !== stored.valueSize) throw wrong(inode.offset + 4, 'i_size', stored.valueSize, inode.size)
  const { blockSize } = volume.superblock
  const map = await readBlockMap(volume, inode)
  const value = await fileDevice(volume.cached, map, blockSize, inode.size, 'attribute').read(0, inode.size)
  // Lustre's own inodes name their owner in place of a hash.
  if (inode.mtime.seconds >>> 0 === owner.ino && inode.generation === owner.generation) return value
  const hash = crc32c(volume.superblock.checksumSeed, value)
  const kept = inode.atime.seconds >>> 0
  if (kept !== hash) throw wrong(inode.offset + 8, 'hash in i_atime', hex(hash), hex(kept))
  const sums = entryHashes(stored.name, hash)
  if (!sums.includes(stored.hash)) throw wrong(owner.offset, 'e_hash', hex(sums[0]!), hex(stored.hash))
  return value
}

/** The rest of an inode's inline data: attribute system.data in its body; undefined where it has none. @throws CORRUPT */
export const inlineRest = (volume: Volume, inode: Ext4Inode): StoredXattr | undefined =>
  bodyXattrs(volume, inode).find(({ index, name }) => index === INDEX.system && Buffer.from(name).toString() === 'data')

/**
 * The extended attributes of an inode, those in its body first, in the order of the medium. ACLs come in the form that the
 * kernel gives to programs.
 *
 * @throws CORRUPT, IO
 * @see linux fs/ext4/xattr.c
 */
export const readXattrs = async (volume: Volume, inode: Ext4Inode): Promise<readonly Xattr[]> => {
  const found: Xattr[] = []
  const names = new Set<string>()
  let total = 0
  for (const stored of [...bodyXattrs(volume, inode), ...(await blockXattrs(volume, inode))]) {
    const prefix = PREFIXES[stored.index]
    if (prefix === undefined) continue
    const name = prefix + decodeName(stored.name)
    if (stored.index === INDEX.system && name === 'system.data') continue
    if (names.has(name)) throw volume.wrong(inode.offset, `attribute ${name} of inode ${inode.ino}`, 'once', 'twice')
    names.add(name)
    total += stored.valueSize
    if (total > MAX_VALUES)
      throw volume.wrong(
        inode.offset,
        `e_value_size of inode ${inode.ino}`,
        `at most ${MAX_VALUES} bytes in all`,
        total,
      )
    const value = stored.value ? new Uint8Array(stored.value) : await largeValue(volume, inode, stored)
    const acl = stored.index === INDEX.aclAccess || stored.index === INDEX.aclDefault
    const wrongAcl = (at: number, field: string, expected: string, got: number) =>
      volume.wrong(
        (stored.valueOffset || inode.offset) + at,
        `${field} in ${name} of inode ${inode.ino}`,
        expected,
        got,
      )
    found.push({ name, value: acl ? posixAcl(value, wrongAcl) : value })
  }
  return found
}
