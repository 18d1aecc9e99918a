import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { crc32c } from '../../../../src/bytes/crc32c.js'
import { corrupt } from '../../../../src/error.js'
import { zeroBits } from '../../../../src/fs/ext4/bitmap.js'
import { COMPAT, featureNames, INCOMPAT, RO_COMPAT, typeByFeatures } from '../../../../src/fs/ext4/features.js'
import { fileDevice, runsOf } from '../../../../src/fs/ext4/file.js'
import { posixAcl } from '../../../../src/fs/ext4/posix-acl.js'
import { openExt4 } from '../../../../src/fs/ext4/reader.js'
import { deviceContract } from '../../../contract/device.js'
import { collect } from '../../../support/collect.js'
import { GOLDEN_ALTERNATE, goldenCsum, goldenOld } from '../../../support/ext4-golden.js'
import { viewOf } from '../../../support/ext4-view.js'
import { failure, sameBytes } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'

const BLOCK = 1024
const open = (bytes: Uint8Array) => openExt4(memory(bytes, 'image'))
const u32 = (bytes: Uint8Array, at: number, value: number): void =>
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, value, true)
const u16 = (bytes: Uint8Array, at: number, value: number): void =>
  new DataView(bytes.buffer, bytes.byteOffset).setUint16(at, value, true)
const read16 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint16(at, true)
const read32 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true)

const map = {
  logical: [1, 2, 6, 9],
  physical: [10, 30, 20, 5],
  count: [1, 3, 1, 2],
  unwritten: [false, false, true, false],
  mapBlocks: [],
}
const { bytes: noise } = random(3)

deviceContract('an ext4 file with holes', async () => {
  const disk = noise(40 * 512)
  const size = 10 * 512 + 100
  const bytes = new Uint8Array(size)
  for (const { offset, length, start } of runsOf(map, 512, size))
    bytes.set(disk.subarray(start, start + length), offset)
  return { device: fileDevice(memory(disk), map, 512, size, 'file'), bytes }
})

test('unwritten blocks and what lies behind the end are no runs', () => {
  expect(runsOf(map, 512, 10 * 512 + 100)).toEqual([
    { offset: 512, length: 512, start: 5120 },
    { offset: 1024, length: 1536, start: 15_360 },
    { offset: 4608, length: 612, start: 2560 },
  ])
  expect(runsOf(map, 512, 600)).toEqual([{ offset: 512, length: 88, start: 5120 }])
  expect(runsOf(map, 512, 0)).toEqual([])
})

test('zeros of a bitmap are found bit by bit', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.nat(), (bytes, n) => {
      // mostly whole bytes of one kind
      const bitmap = bytes.map(byte => (byte < 100 ? 0 : byte < 200 ? 0xff : byte))
      const count = n % (bitmap.length * 8 + 1)
      const expected = Array.from({ length: count }, (_, bit) => !((bitmap[bit >> 3]! >> (bit & 7)) & 1))
      const found = new Array<boolean>(count).fill(false)
      let end = -1
      for (const { first, count: length } of zeroBits(bitmap, count)) {
        expect(first).toBeGreaterThan(end)
        found.fill(true, first, first + length)
        end = first + length
      }
      expect(found).toEqual(expected)
    }),
  )
})

test('types and names of features', () => {
  expect(featureNames(0x1000_0244, INCOMPAT)).toEqual(['needs_recovery', 'extent', 'flex_bg', 'bit 28'])
  expect(typeByFeatures(0, INCOMPAT.filetype, RO_COMPAT.sparse_super)).toBe('ext2')
  expect(typeByFeatures(0, INCOMPAT.meta_bg, 0)).toBe('ext2')
  expect(typeByFeatures(COMPAT.has_journal, INCOMPAT.needs_recovery, RO_COMPAT.large_file)).toBe('ext3')
  expect(typeByFeatures(COMPAT.has_journal, INCOMPAT.extent, 0)).toBe('ext4')
  expect(typeByFeatures(0, 0, RO_COMPAT.huge_file)).toBe('ext4')
})

describe('an ACL', () => {
  const wrong = (offset: number, field: string, expected: string, found: number) =>
    corrupt({ device: 'd', offset, field, expected, found })
  const of = async (hex: string) => posixAcl(Buffer.from(hex, 'hex'), wrong)
  test('comes in the form of getxattr', async () => {
    expect(Buffer.from(await of('010000000100070002000400e80300002000ffff')).toString('hex')).toBe(
      '0200000001000700ffffffff02000400e80300002000ffffffffffff',
    )
  })
  test.each(['', '0100', '02000000', '0100000003000700', '010000000100', '01000000020004000100'])(
    '%s is CORRUPT',
    hex => failure(of(hex), 'CORRUPT').then(() => undefined),
  )
})

/** Where the inode of a path stands, and the place of a field of its i_block. */
const inodeAt = async (bytes: Uint8Array, path: string): Promise<number> =>
  (await (await open(bytes)).lookup(path)).offset
const iBlock = (inode: number, n: number): number => inode + 40 + n * 4

describe('maps that lie', () => {
  test('an indirect block that names itself, at each level', async () => {
    for (const level of [12, 13, 14]) {
      const bytes = goldenOld()
      const inode = await inodeAt(bytes, '/deep')
      const block = read32(bytes, iBlock(inode, 12))
      bytes.fill(0, block * BLOCK, (block + 1) * BLOCK)
      for (let n = 0; n < 256; n++) u32(bytes, block * BLOCK + n * 4, block)
      for (let n = 12; n < 15; n++) u32(bytes, iBlock(inode, n), n === level ? block : 0)
      const fs = await open(bytes)
      if (level > 12) await failure(fs.open('/deep'), 'CORRUPT')
      // 256 times one block of data: a file may be so; it is not larger than the filesystem
      else expect((await fs.open('/deep')).size).toBe(300 * BLOCK)
    }
  })

  test('blocks of block numbers that hold nothing but each other end soon', async () => {
    const bytes = goldenOld()
    const inode = await inodeAt(bytes, '/deep')
    const [one, two] = [read32(bytes, iBlock(inode, 0)), read32(bytes, iBlock(inode, 1))]
    for (let n = 0; n < 256; n++) {
      u32(bytes, one * BLOCK + n * 4, two)
      u32(bytes, two * BLOCK + n * 4, two + 1)
    }
    bytes.fill(0, (two + 1) * BLOCK, (two + 2) * BLOCK)
    for (let n = 0; n < 14; n++) u32(bytes, iBlock(inode, n), 0)
    u32(bytes, iBlock(inode, 14), one)
    expect((await failure((await open(bytes)).open('/deep'), 'CORRUPT')).data.field).toMatch(/map block of inode/)
  })

  test('blocks outside the filesystem, or the first superblock, as data and as map', async () => {
    for (const value of [0xffff_ffff, 768, 1])
      for (const n of [0, 12, 13, 14]) {
        const bytes = goldenOld()
        u32(bytes, iBlock(await inodeAt(bytes, '/deep'), n), value)
        await failure((await open(bytes)).open('/deep'), 'CORRUPT')
      }
  })

  test('a size of terabytes is a hole, not memory; a directory of that size is CORRUPT', async () => {
    const bytes = goldenOld()
    u32(bytes, (await inodeAt(bytes, '/deep')) + 108, 1000)
    u32(bytes, (await inodeAt(bytes, '/dir')) + 4, 0xffff_fc00)
    const fs = await open(bytes)
    const file = await fs.open('/deep')
    expect(file.size).toBe(1000 * 2 ** 32 + 300 * BLOCK)
    expect(await collect(file.extents(0, file.size))).toHaveLength(2)
    expect((await file.read(file.size - 10, 10)).every(byte => byte === 0)).toBe(true)
    await failure(fs.list('/dir'), 'CORRUPT')
  })

  /** A copy of the golden ext4 without checksums, so that its structures may be changed by hand. */
  const withoutSums = (): Uint8Array => {
    const bytes = goldenCsum()
    u32(bytes, 1024 + 100, read32(bytes, 1024 + 100) & ~RO_COMPAT.metadata_csum)
    return bytes
  }
  /** Each changes one field of the root of an extent tree, or of its one leaf with 8 extents. */
  const CHANGES: readonly (readonly [string, (bytes: Uint8Array, root: number, leaf: number) => void])[] = [
    ['eh_magic', (bytes, root) => u16(bytes, root, 0xf30b)],
    ['eh_magic of a leaf', (bytes, _, leaf) => u16(bytes, leaf, 0)],
    ['eh_entries', (bytes, _, leaf) => u16(bytes, leaf + 2, 85)],
    ['eh_entries of an index', (bytes, root) => u16(bytes, root + 2, 0)],
    ['eh_max', (bytes, _, leaf) => u16(bytes, leaf + 4, 85)],
    ['eh_max of 0', (bytes, _, leaf) => u16(bytes, leaf + 4, 0)],
    ['eh_depth', (bytes, _, leaf) => u16(bytes, leaf + 6, 1)],
    ['eh_depth of the root', (bytes, root) => u16(bytes, root + 6, 6)],
    ['eh_depth that makes the root its own child', (bytes, root) => u16(bytes, root + 6, 2)],
    ['ei_leaf', (bytes, root) => u32(bytes, root + 16, 512)],
    ['ei_leaf_hi', (bytes, root) => u16(bytes, root + 20, 1)],
    ['ei_block above its extents', (bytes, root) => u32(bytes, root + 12, 1)],
    ['ee_block out of order', (bytes, _, leaf) => u32(bytes, leaf + 24, 9)],
    ['ee_len of 0', (bytes, _, leaf) => u16(bytes, leaf + 16, 0)],
    ['ee_len into the next', (bytes, _, leaf) => u16(bytes, leaf + 16, 3)],
    [
      'ee_len past the end of all files',
      (bytes, _, leaf) => {
        u32(bytes, leaf + 12 + 7 * 12, 0xffff_ffff)
        u16(bytes, leaf + 12 + 7 * 12 + 4, 2)
      },
    ],
    ['ee_start', (bytes, _, leaf) => u32(bytes, leaf + 20, 0)],
    ['ee_start_hi', (bytes, _, leaf) => u16(bytes, leaf + 18, 1)],
  ]
  test.each(CHANGES)('%s is CORRUPT', async (_, change) => {
    const bytes = withoutSums()
    const root = (await inodeAt(bytes, '/alternate')) + 40
    const leaf = read32(bytes, root + 16) * BLOCK
    expect([read16(bytes, root + 6), read16(bytes, leaf + 2)]).toEqual([1, 8])
    sameBytes(
      await (await (await open(bytes)).open('/alternate')).read(0, 15_360),
      GOLDEN_ALTERNATE.subarray(0, 15_360),
    )
    change(bytes, root, leaf)
    await failure((await open(bytes)).open('/alternate'), 'CORRUPT')
  })
})

describe('directories that lie', () => {
  /** The first block of a directory of the golden ext2 and the offset of the entry of a name. */
  const entryOf = async (bytes: Uint8Array, directory: string, name: string): Promise<number> => {
    const fs = await open(bytes)
    for (const { start, length } of await fs.ownedRuns(await fs.lookup(directory))) {
      const at = Buffer.from(bytes.buffer, bytes.byteOffset).indexOf(name, start)
      if (at >= 0 && at < start + length) return at - 8
    }
    throw new Error(`no ${name}`)
  }
  const CHANGES: readonly (readonly [string, (bytes: Uint8Array, entry: number) => void])[] = [
    ['a slash', (bytes, at) => bytes.set([0x2f], at + 9)],
    ['a NUL', (bytes, at) => bytes.set([0], at + 9)],
    ['the name .', (bytes, at) => bytes.set([1, 1, 0x2e], at + 6)],
    ['the name ..', (bytes, at) => bytes.set([2, 1, 0x2e, 0x2e], at + 6)],
    ['no name', (bytes, at) => bytes.set([0], at + 6)],
    ['an inode too large', (bytes, at) => u32(bytes, at, 97)],
    ['an inode of the system', (bytes, at) => u32(bytes, at, 8)],
    ['rec_len of 0', (bytes, at) => u16(bytes, at + 4, 0)],
    ['rec_len of 8', (bytes, at) => u16(bytes, at + 4, 8)],
    ['rec_len that is no multiple of 4', (bytes, at) => u16(bytes, at + 4, read16(bytes, at + 4) + 2)],
    ['rec_len past the block', (bytes, at) => u16(bytes, at + 4, 1024)],
    ['a name longer than its entry', (bytes, at) => bytes.set([200], at + 6)],
  ]
  test.each(CHANGES)('%s is CORRUPT', async (_, change) => {
    const bytes = goldenOld()
    change(bytes, await entryOf(bytes, '/', 'inline more'))
    await failure((await open(bytes)).list('/'), 'CORRUPT')
  })

  test('a name twice, no . at the start', async () => {
    const twice = goldenOld()
    twice.set(Buffer.from('fast'), (await entryOf(twice, '/', 'slow')) + 8)
    await failure((await open(twice)).list('/'), 'CORRUPT')
    const other = goldenOld()
    const fs = await open(other)
    const { start } = (await fs.ownedRuns(await fs.lookup('/dir')))[0]!
    u32(other, start, 13)
    await failure((await open(other)).list('/dir'), 'CORRUPT')
  })

  test('tables of two groups in one place', async () => {
    const bytes = goldenOld()
    // descriptors are in block 2, 32 bytes each; without flex_bg they lie in their group
    u32(bytes, 2048 + 32 + 8, read32(bytes, 2048 + 8))
    await failure(viewOf(await open(bytes)), 'CORRUPT')
  })
})

describe('superblocks that lie', () => {
  const FIELDS: readonly (readonly [string, number, number])[] = [
    ['s_inodes_count', 0, 97],
    ['s_blocks_count', 4, 769],
    ['s_blocks_count of nothing', 4, 0],
    ['s_first_data_block', 20, 0],
    ['s_log_block_size', 24, 7],
    ['s_log_block_size of larger blocks', 24, 2],
    ['s_blocks_per_group', 32, 0],
    ['s_blocks_per_group of one', 32, 1],
    ['s_blocks_per_group larger than a bitmap', 32, 8193],
    ['s_inodes_per_group', 40, 0],
    ['s_inodes_per_group larger than a bitmap', 40, 0xffff_ffff],
    ['s_first_ino', 84, 3],
    ['s_inode_size', 88, 129],
    ['s_inode_size larger than a block', 88, 2048],
  ]
  test.each(FIELDS)('%s is CORRUPT', async (_, at, value) => {
    const bytes = goldenOld()
    if (at === 88) u16(bytes, 1024 + at, value)
    else u32(bytes, 1024 + at, value)
    await failure(open(bytes), 'CORRUPT')
  })

  test('the checksum is over the first 1020 bytes', () => {
    const bytes = goldenCsum()
    expect(read32(bytes, 2044)).toBe(crc32c(0xffff_ffff, bytes.subarray(1024, 2044)))
  })
})
