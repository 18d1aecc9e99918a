import type { JournalFile } from '../../src/fs/ext4/journal/file.js'

/** Where the parts of `journalVolume` lie. */
export const VOLUME = {
  blockSize: 1024,
  blockCount: 1400,
  /** block of the journal's first block, and blocks of the journal */
  journalStart: 20,
  journalBlocks: 1060,
  /** first block that nothing of the filesystem is in */
  free: 1100,
  /** bytes: the journal's inode */
  inode: 5 * 1024 + 7 * 128,
} as const

/**
 * An ext4 image of 1.4 MiB with a journal inode of one extent and nothing else: one group, no checksums. No program would
 * mount it, but all that a replay reads is there. Free blocks hold their number, over and over.
 */
export const journalVolume = (): { image: Buffer; file: JournalFile } => {
  const { blockSize, blockCount, journalStart, journalBlocks, free, inode } = VOLUME
  const image = Buffer.alloc(blockSize * blockCount)
  const superblock = image.subarray(1024, 2048)
  const put = (offset: number, value: number): number => superblock.writeUInt32LE(value, offset)
  put(0, 16)
  put(4, blockCount)
  put(20, 1)
  put(32, 8192)
  put(36, 8192)
  put(40, 16)
  superblock.writeUInt16LE(0xef53, 56)
  superblock.writeUInt16LE(1, 58)
  put(76, 1)
  put(84, 11)
  superblock.writeUInt16LE(128, 88)
  put(92, 0x4)
  put(96, 0x40)
  put(224, 8)
  const group = image.subarray(2 * blockSize)
  group.writeUInt32LE(3, 0)
  group.writeUInt32LE(4, 4)
  group.writeUInt32LE(5, 8)
  const bytes = image.subarray(inode, inode + 128)
  bytes.writeUInt16LE(0o100600, 0)
  bytes.writeUInt32LE(journalBlocks * blockSize, 4)
  bytes.writeUInt16LE(1, 26)
  bytes.writeUInt32LE(0x80000, 32)
  bytes.writeUInt16LE(0xf30a, 40)
  bytes.writeUInt16LE(1, 42)
  bytes.writeUInt16LE(4, 44)
  bytes.writeUInt16LE(journalBlocks, 52 + 4)
  bytes.writeUInt32LE(journalStart, 52 + 8)
  for (let block = free; block < blockCount; block++)
    for (let at = block * blockSize; at < (block + 1) * blockSize; at += 4) image.writeUInt32LE(block, at)
  const size = journalBlocks * blockSize
  return { image, file: { runs: [{ offset: 0, length: size, start: journalStart * blockSize }], size, blockSize } }
}
