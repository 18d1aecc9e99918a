import { isZero } from '../../block/device.js'
import { crc32c, crc32cOfU32 } from '../../bytes/crc32c.js'
import type { FileKind, Stat } from '../filesystem.js'
import { INCOMPAT, RO_COMPAT } from './features.js'
import { hex, type Volume } from './volume.js'

/*
 * Inode, s_inode_size bytes, little endian:
 *
 *     0 u16 i_mode            2 u16 i_uid          4 u32 i_size_lo      8 u32 i_atime       12 u32 i_ctime
 *    16 u32 i_mtime          20 u32 i_dtime       24 u16 i_gid         26 u16 i_links_count 28 u32 i_blocks_lo
 *    32 u32 i_flags          36 u32 l_i_version   40 u8[60] i_block   100 u32 i_generation 104 u32 i_file_acl_lo
 *   108 u32 i_size_high     112 u32 i_obso_faddr 116 u16 l_i_blocks_high   118 u16 l_i_file_acl_high
 *   120 u16 l_i_uid_high    122 u16 l_i_gid_high 124 u16 l_i_checksum_lo   126 u16 l_i_reserved
 *   128 u16 i_extra_isize   130 u16 i_checksum_hi    132 u32 i_ctime_extra     136 u32 i_mtime_extra
 *   140 u32 i_atime_extra   144 u32 i_crtime     148 u32 i_crtime_extra    152 u32 i_version_hi  156 u32 i_projid
 *   128 + i_extra_isize: extended attributes
 *
 * *_extra: bits 0-1 add 2^32 seconds each, bits 2-31 are nanoseconds.
 */

/** Bits of i_flags that a reader meets. */
export const INODE_FLAG = {
  encrypt: 0x800,
  index: 0x1000,
  hugeFile: 0x40000,
  extents: 0x80000,
  verity: 0x100000,
  eaInode: 0x200000,
  inlineData: 0x10000000,
  casefold: 0x40000000,
} as const

const BASE_SIZE = 128
const BLOCK_AT = 40
const CHECKSUM_LOW_AT = 124
const CHECKSUM_HIGH_AT = 130

/** A time on the medium: seconds since 1970, and nanoseconds, which only a broken inode has above 999,999,999. */
export interface InodeTime {
  readonly seconds: number
  readonly nanoseconds: number
}

/** An inode as it stands on the medium. */
export interface Ext4Inode {
  readonly ino: number
  /** byte offset of the inode on the device */
  readonly offset: number
  /** undefined where i_mode tells none, as in reserved inodes that are not used */
  readonly kind: FileKind | undefined
  /** permission bits */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly linkCount: number
  /** by INODE_FLAG */
  readonly flags: number
  readonly generation: number
  /** bytes that the inode's blocks take, its map and its xattr block too, as i_blocks says */
  readonly allocated: number
  readonly atime: InodeTime
  readonly ctime: InodeTime
  readonly mtime: InodeTime
  /** when it was made; undefined in small inodes */
  readonly crtime: InodeTime | undefined
  /** when it was deleted; an inode number while it is an orphan */
  readonly dtime: number
  readonly projectId: number
  readonly device: { readonly major: number; readonly minor: number } | undefined
  /** 60 bytes: the block map's root, a short symlink, or data */
  readonly i_block: Uint8Array
  /** block of extended attributes, 0 for none */
  readonly fileAcl: number
  /** where the extended attributes in the inode begin, and all its bytes */
  readonly xattrStart: number
  readonly bytes: Uint8Array
  /** register from which the checksums of its own blocks start */
  readonly checksumSeed: number
}

const KINDS: Readonly<Record<number, FileKind>> = {
  1: 'fifo',
  2: 'character',
  4: 'directory',
  6: 'block',
  8: 'file',
  10: 'symlink',
  12: 'socket',
}

const ZERO2 = new Uint8Array(2)

const inodeChecksum = (seed: number, bytes: Uint8Array, high: boolean): number => {
  let sum = crc32c(seed, bytes, 0, CHECKSUM_LOW_AT)
  sum = crc32c(crc32c(sum, ZERO2), bytes, CHECKSUM_LOW_AT + 2, BASE_SIZE)
  if (!high) return crc32c(sum, bytes, BASE_SIZE) & 0xffff
  sum = crc32c(sum, bytes, BASE_SIZE, CHECKSUM_HIGH_AT)
  return crc32c(crc32c(sum, ZERO2), bytes, CHECKSUM_HIGH_AT + 2)
}

const deviceNumbers = (view: DataView): { major: number; minor: number } => {
  const old = view.getUint32(BLOCK_AT, true)
  if (old !== 0) return { major: (old >>> 8) & 0xff, minor: old & 0xff }
  const dev = view.getUint32(BLOCK_AT + 4, true)
  return { major: (dev >>> 8) & 0xfff, minor: (dev & 0xff) | ((dev >>> 12) & 0xfff00) }
}

/** What most looks at an inode do not ask for is read from its bytes when it is: sweeps go over millions. */
class StoredInode implements Ext4Inode {
  readonly ino: number
  readonly offset: number
  readonly bytes: Uint8Array
  readonly kind: FileKind | undefined
  readonly mode: number
  readonly size: number
  readonly linkCount: number
  readonly flags: number
  readonly generation: number
  readonly fileAcl: number
  readonly checksumSeed: number
  readonly #view: DataView
  readonly #volume: Volume

  /** @throws CORRUPT */
  constructor(volume: Volume, ino: number, bytes: Uint8Array, offset: number) {
    const { superblock: sb } = volume
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.ino = ino
    this.offset = offset
    this.bytes = bytes
    this.#view = view
    this.#volume = volume
    this.generation = view.getUint32(100, true)
    this.checksumSeed = crc32cOfU32(crc32cOfU32(sb.checksumSeed, ino), this.generation)
    this.#check()
    const i_mode = view.getUint16(0, true)
    const kind = KINDS[i_mode >>> 12]
    this.kind = kind
    this.mode = i_mode & 0o7777
    this.flags = view.getUint32(32, true)
    this.linkCount = view.getUint16(26, true)
    const wideSize = kind === 'file' || (kind === 'directory' && (sb.incompat & INCOMPAT.large_dir) !== 0)
    this.size = view.getUint32(4, true) + (wideSize ? view.getUint32(108, true) * 2 ** 32 : 0)
    if (this.size > 2 ** 32 * sb.blockSize)
      throw this.#wrong(108, 'i_size', `at most ${2 ** 32 * sb.blockSize}`, this.size)
    const wide = (sb.incompat & INCOMPAT['64bit']) !== 0
    this.fileAcl = view.getUint32(104, true) + (wide ? view.getUint16(118, true) * 2 ** 32 : 0)
  }

  get uid(): number {
    return this.#view.getUint16(2, true) + this.#view.getUint16(120, true) * 65536
  }
  get gid(): number {
    return this.#view.getUint16(24, true) + this.#view.getUint16(122, true) * 65536
  }
  get allocated(): number {
    const { roCompat, blockSize } = this.#volume.superblock
    const huge = (roCompat & RO_COMPAT.huge_file) !== 0
    const blocks = this.#view.getUint32(28, true) + (huge ? this.#view.getUint16(116, true) * 2 ** 32 : 0)
    return blocks * (huge && this.flags & INODE_FLAG.hugeFile ? blockSize : 512)
  }
  get atime(): InodeTime {
    return this.#time(8, 140)
  }
  get ctime(): InodeTime {
    return this.#time(12, 132)
  }
  get mtime(): InodeTime {
    return this.#time(16, 136)
  }
  get crtime(): InodeTime | undefined {
    return this.#has(144) ? this.#time(144, 148) : undefined
  }
  get dtime(): number {
    return this.#view.getUint32(20, true)
  }
  get projectId(): number {
    return this.#has(156) ? this.#view.getUint32(156, true) : 0
  }
  get device(): Ext4Inode['device'] {
    return this.kind === 'block' || this.kind === 'character' ? deviceNumbers(this.#view) : undefined
  }
  get i_block(): Uint8Array {
    return this.bytes.subarray(BLOCK_AT, BLOCK_AT + 60)
  }
  get xattrStart(): number {
    // The kernel looks for none where i_extra_isize is 0.
    const extra = this.#extra()
    return extra > 0 ? BASE_SIZE + extra : this.bytes.length
  }

  #extra(): number {
    return this.bytes.length > BASE_SIZE ? this.#view.getUint16(128, true) : 0
  }
  #has(at: number): boolean {
    return this.bytes.length > BASE_SIZE && BASE_SIZE + this.#extra() >= at + 4
  }
  #time(low: number, high: number): InodeTime {
    const more = this.#has(high) ? this.#view.getUint32(high, true) : 0
    return { seconds: this.#view.getInt32(low, true) + (more & 3) * 2 ** 32, nanoseconds: more >>> 2 }
  }
  #wrong(at: number, field: string, expected: string, found: string | number) {
    return this.#volume.wrong(this.offset + at, `${field} of inode ${this.ino}`, expected, found)
  }
  #check(): void {
    const { bytes } = this
    const large = bytes.length > BASE_SIZE
    const extra = this.#extra()
    // Before any field is believed.
    if (this.#volume.superblock.metadataCsum) {
      const high = large && extra >= 4
      const view = this.#view
      const stored = view.getUint16(CHECKSUM_LOW_AT, true) + (high ? view.getUint16(CHECKSUM_HIGH_AT, true) * 65536 : 0)
      const sum = inodeChecksum(this.checksumSeed, bytes, high)
      // An inode of zeros alone was never written and has no checksum.
      if (stored !== sum && !isZero(bytes)) throw this.#wrong(CHECKSUM_LOW_AT, 'i_checksum', hex(sum), hex(stored))
    }
    if (large && (extra > bytes.length - BASE_SIZE || extra % 4 !== 0))
      throw this.#wrong(128, 'i_extra_isize', `a multiple of 4, at most ${bytes.length - BASE_SIZE}`, extra)
  }
}

/**
 * Reads an inode's bytes. With metadata_csum its checksum is compared.
 *
 * @param bytes   s_inode_size bytes, kept, and not to be changed
 * @param offset  where they stand on the device
 * @throws CORRUPT
 * @see linux fs/ext4/inode.c, __ext4_iget, ext4_inode_csum
 */
export const parseInode = (volume: Volume, ino: number, bytes: Uint8Array, offset: number): Ext4Inode =>
  new StoredInode(volume, ino, bytes, offset)

/**
 * Reads an inode by its number.
 *
 * @throws CORRUPT  the number is none of this filesystem, or the inode is broken
 * @throws IO
 */
export const readInode = async (volume: Volume, ino: number, offset = 0): Promise<Ext4Inode> => {
  const { superblock: sb } = volume
  if (!(ino >= 1 && ino <= sb.inodeCount)) throw volume.wrong(offset, 'inode number', `1 to ${sb.inodeCount}`, ino)
  const group = await volume.group(Math.floor((ino - 1) / sb.inodesPerGroup))
  const at = group.inodeTable * sb.blockSize + ((ino - 1) % sb.inodesPerGroup) * sb.inodeSize
  return parseInode(volume, ino, await volume.cached.read(at, sb.inodeSize), at)
}

/** What `stat` tells of an inode. @throws CORRUPT  no kind, or nanoseconds of a second and more */
export const statOf = (volume: Volume, inode: Ext4Inode): Stat => {
  const { ino, kind, mode, uid, gid, size, mtime, linkCount, device, offset } = inode
  if (kind === undefined) throw volume.wrong(offset, `i_mode of inode ${ino}`, 'a kind of file', 'none')
  if (mtime.nanoseconds >= 1e9)
    throw volume.wrong(offset + 136, `i_mtime_extra of inode ${ino}`, 'below 10^9 nanoseconds', mtime.nanoseconds)
  const stat: Stat = {
    kind,
    inode: ino,
    mode,
    uid,
    gid,
    size: kind === 'file' || kind === 'directory' || kind === 'symlink' ? size : 0,
    mtime: mtime.seconds,
    mtimeNanoseconds: mtime.nanoseconds,
    linkCount,
  }
  return device ? { ...stat, device } : stat
}
