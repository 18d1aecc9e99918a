import { crc32 as zlibCrc32 } from 'node:zlib'
import { CRC32C_START, crc32c } from '../../src/bytes/crc32c.js'
import type { JournalFile } from '../../src/fs/ext4/journal/file.js'

/** How a journal is written. */
export interface JournalKind {
  readonly version?: 1 | 2
  readonly checksum?: 'none' | 'v1' | 'v2' | 'v3'
  readonly has64bit?: boolean
  readonly asyncCommit?: boolean
  /** a UUID after every tag, where the kernel writes one after the first of a block */
  readonly allUuids?: boolean
  /** a descriptor that is full does without the flag of the last tag */
  readonly noLastFlags?: boolean
  /** blocks for fast commits at the end; undefined without that feature */
  readonly fastBlocks?: number
  readonly errno?: number
  readonly first?: number
  readonly maxlen?: number
}

export interface Transaction {
  readonly blocks?: readonly { readonly block: number; readonly content: Uint8Array }[]
  readonly revokes?: readonly number[]
  /** h_commit_sec; 1,700,000,000 where left out */
  readonly time?: number
  /** false leaves the commit out */
  readonly commit?: boolean
}

/** Where in the journal a part of a transaction came to lie, in its blocks. */
export interface Written {
  readonly descriptors: readonly number[]
  readonly copies: readonly number[]
  readonly revokes: readonly number[]
  readonly commit: number | undefined
}

const MAGIC = 0xc03b3998
const REVERSED = Uint8Array.from({ length: 256 }, (_, byte) => {
  let value = 0
  for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) value |= 0x80 >> bit
  return value
})

/** The CRC-32 of checksum v1, built from zlib's: that one takes and gives its bits the other way round. */
const crcV1 = (parts: readonly Uint8Array[]): number => {
  const turned = Buffer.concat(parts).map(byte => REVERSED[byte]!)
  const sum = Buffer.alloc(4)
  sum.writeUInt32LE(~zlibCrc32(turned) >>> 0)
  return Buffer.from(sum.map(byte => REVERSED[byte]!)).readUInt32BE(0)
}

/** Writes a log into the journal of an image, and marks the filesystem as one that was cut while mounted. */
export const journalWriter = (
  image: Buffer,
  file: JournalFile,
  { start, sequence }: { readonly start: number; readonly sequence: number },
  kind: JournalKind = {},
) => {
  const { blockSize } = file
  const {
    version = 2,
    checksum = 'none',
    has64bit = false,
    asyncCommit = false,
    allUuids = false,
    noLastFlags = false,
  } = kind
  const { fastBlocks, errno = 0, first = 1, maxlen = file.size / blockSize } = kind
  const tails = checksum === 'v2' || checksum === 'v3'
  const end = maxlen - (fastBlocks === undefined ? 0 : fastBlocks || 256)
  const uuid = Buffer.from('journal-uuid-16b')
  const seed = crc32c(CRC32C_START, uuid)
  const at = (block: number): Buffer => {
    const offset = block * blockSize
    const run = file.runs.find(each => offset >= each.offset && offset < each.offset + each.length)!
    const place = run.start + offset - run.offset
    return image.subarray(place, place + blockSize)
  }
  let next = start
  let tid = sequence
  const take = (): number => {
    const block = next
    next = next + 1 < end ? next + 1 : first
    return block
  }
  const header = (block: number, type: number): Buffer => {
    const bytes = at(block).fill(0)
    bytes.writeUInt32BE(MAGIC, 0)
    bytes.writeUInt32BE(type, 4)
    bytes.writeUInt32BE(tid >>> 0, 8)
    return bytes
  }
  const tail = (bytes: Buffer): void => {
    if (tails) bytes.writeUInt32BE(crc32c(seed, bytes), blockSize - 4)
  }

  const superblock = at(0).fill(0)
  superblock.writeUInt32BE(MAGIC, 0)
  superblock.writeUInt32BE(version === 1 ? 3 : 4, 4)
  superblock.writeUInt32BE(blockSize, 12)
  superblock.writeUInt32BE(maxlen, 16)
  superblock.writeUInt32BE(first, 20)
  superblock.writeUInt32BE(sequence, 24)
  superblock.writeUInt32BE(start, 28)
  superblock.writeInt32BE(errno, 32)
  if (version === 2) {
    superblock.writeUInt32BE(checksum === 'v1' ? 1 : 0, 36)
    const bits = 1 | (has64bit ? 2 : 0) | (asyncCommit ? 4 : 0) | (checksum === 'v2' ? 8 : 0)
    superblock.writeUInt32BE(bits | (checksum === 'v3' ? 16 : 0) | (fastBlocks === undefined ? 0 : 32), 40)
    superblock.set(uuid, 48)
    superblock.writeUInt32BE(1, 64)
    if (tails) superblock[80] = 4
    if (fastBlocks !== undefined) superblock.writeUInt32BE(fastBlocks, 84)
    if (tails) superblock.writeUInt32BE(crc32c(CRC32C_START, superblock.subarray(0, 1024)), 252)
  }

  const state = image.subarray(1024, 2048)
  state.writeUInt32LE((state.readUInt32LE(96) | 4) >>> 0, 96)
  if (state.readUInt32LE(100) & 0x400) state.writeUInt32LE(crc32c(CRC32C_START, state.subarray(0, 1020)), 1020)

  const tagSize = checksum === 'v3' ? 16 : 8 + (has64bit ? 4 : 0) + (checksum === 'v2' ? 2 : 0)
  const room = blockSize - (tails ? 4 : 0)

  /** A descriptor and the copies behind it, as many as fit; how many that were. */
  const describe = (
    blocks: NonNullable<Transaction['blocks']>,
    summed: Uint8Array[],
    written: { descriptors: number[]; copies: number[] },
  ): number => {
    const place = take()
    written.descriptors.push(place)
    const bytes = header(place, 1)
    let here = 12
    let count = 0
    const copies: Buffer[] = []
    for (const { block, content } of blocks) {
      const withUuid = allUuids || count === 0
      if (here + tagSize + (withUuid ? 16 : 0) > room) break
      const copyPlace = take()
      written.copies.push(copyPlace)
      const copy = at(copyPlace)
      copy.set(content)
      const escaped = copy.readUInt32BE(0) === MAGIC
      if (escaped) copy.writeUInt32BE(0, 0)
      copies.push(copy)
      count++
      const more = count < blocks.length && here + 2 * tagSize + (withUuid ? 16 : 0) + (allUuids ? 16 : 0) <= room
      const flags = (escaped ? 1 : 0) | (withUuid ? 0 : 2) | (more || (noLastFlags && count < blocks.length) ? 0 : 8)
      const word = Buffer.alloc(4)
      word.writeUInt32BE(tid >>> 0)
      const sum = crc32c(crc32c(seed, word), copy)
      bytes.writeUInt32BE(block % 2 ** 32, here)
      bytes.writeUInt16BE(checksum === 'v2' ? sum & 0xffff : 0, here + 4)
      bytes.writeUInt16BE(flags, here + 6)
      if (has64bit) bytes.writeUInt32BE(Math.floor(block / 2 ** 32), here + 8)
      if (checksum === 'v3') bytes.writeUInt32BE(sum, here + 12)
      here += tagSize + (withUuid ? 16 : 0)
      if (!more) break
    }
    tail(bytes)
    summed.push(bytes, ...copies)
    return count
  }

  return {
    /** the bytes of a block of the journal, to be changed */
    block: at,
    /** the block that the next transaction starts in */
    get next(): number {
      return next
    },
    /** Writes a transaction behind the last one. */
    transaction({ blocks = [], revokes = [], time = 1_700_000_000, commit = true }: Transaction): Written {
      const written = { descriptors: [] as number[], copies: [] as number[], revokes: [] as number[] }
      const size = has64bit ? 8 : 4
      const perBlock = Math.floor((room - 16) / size)
      for (let from = 0; from < revokes.length; from += perBlock) {
        const part = revokes.slice(from, from + perBlock)
        const place = take()
        written.revokes.push(place)
        const bytes = header(place, 5)
        bytes.writeUInt32BE(16 + part.length * size, 12)
        part.forEach((block, index) => {
          if (has64bit) bytes.writeBigUInt64BE(BigInt(block), 16 + index * 8)
          else bytes.writeUInt32BE(block, 16 + index * 4)
        })
        tail(bytes)
      }
      const summed: Uint8Array[] = []
      for (let done = 0; done < blocks.length; ) done += describe(blocks.slice(done), summed, written)
      let place: number | undefined
      if (commit) {
        place = take()
        const bytes = header(place, 2)
        bytes.writeBigUInt64BE(BigInt(time), 48)
        if (checksum === 'v1') {
          bytes[12] = 1
          bytes[13] = 4
          bytes.writeUInt32BE(crcV1(summed), 16)
        } else if (tails) bytes.writeUInt32BE(crc32c(seed, bytes), 16)
      }
      tid++
      return { ...written, commit: place }
    },
  }
}
