import { describe, expect, test } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { LiveError } from '../../../../src/error.js'
import { openExt4 } from '../../../../src/fs/ext4/reader.js'
import { readExt4Superblock } from '../../../../src/fs/ext4/superblock.js'
import { fileSystemContract, type KnownPath } from '../../../contract/filesystem.js'
import { collect } from '../../../support/collect.js'
import { GOLDEN_ALTERNATE, GOLDEN_DEEP, GOLDEN_FILES, goldenCsum, goldenOld } from '../../../support/ext4-golden.js'
import { viewOf } from '../../../support/ext4-view.js'
import { failure, sameBytes, valueOrFailure } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'

const hashed = Array.from({ length: 40 }, (_, n) => `name number ${n} with quite a long tail so that blocks fill`)
const names = ['alternate', 'inline', 'inline more', 'plain', 'empty', 'fast', 'l60', 'slow', 'dir', 'hashed', 'pipe']
const known = (more: readonly string[], inDir: readonly string[], files = GOLDEN_FILES): KnownPath[] => [
  { path: '/', kind: 'directory', mode: 0o755, names: [...names, 'bytes\udcff\udce9', 'lost+found', ...more] },
  { path: '/dir', kind: 'directory', mode: 0o755, names: ['sub', 'hard link', ...inDir] },
  { path: '/hashed', kind: 'directory', mode: 0o755, names: hashed },
  { path: '/fast', kind: 'symlink', mode: 0o777, target: 'plain' },
  { path: '/l60', kind: 'symlink', mode: 0o777, target: `${'t'.repeat(58)}/x` },
  { path: '/slow', kind: 'symlink', mode: 0o777, target: 'long/'.repeat(40) },
  { path: '/pipe', kind: 'fifo', mode: 0o644 },
  ...Object.entries(files).map(
    ([path, content]): KnownPath => ({ path, kind: 'file', mode: path === '/inline' ? 0o4750 : 0o644, content }),
  ),
]
const open = (bytes: Uint8Array) => openExt4(memory(bytes, 'image'))

fileSystemContract('ext4 with checksums', async () => ({
  fs: await open(goldenCsum()),
  known: [
    ...known(['disk'], ['null']),
    { path: '/dir/null', kind: 'character', mode: 0 },
    { path: '/disk', kind: 'block', mode: 0 },
  ],
  close: async () => {},
}))

fileSystemContract('ext2 without checksums', async () => ({
  fs: await open(goldenOld()),
  known: [
    ...known(['deep'], [], { ...GOLDEN_FILES, '/alternate': GOLDEN_ALTERNATE }),
    { path: '/deep', kind: 'file', mode: 0o644, content: GOLDEN_DEEP },
  ],
  close: async () => {},
}))

describe('what mke2fs and debugfs made', () => {
  test('type, label and id are as blkid tells', async () => {
    const csum = await open(goldenCsum())
    expect([csum.type, csum.label, csum.uuid]).toEqual(['ext4', 'golden', '01234567-89ab-cdef-0123-456789abcdef'])
    const old = await open(goldenOld())
    expect([old.type, old.label, old.uuid]).toEqual(['ext2', undefined, '01234567-89ab-cdef-0123-456789abcde0'])
  })

  test('attributes of body, block and inode come with their names', async () => {
    const fs = await open(goldenCsum())
    const of = async (path: string) =>
      (await fs.xattrs(path)).map(({ name, value }) => [name, Buffer.from(value).toString()])
    expect(await of('/plain')).toEqual([
      ['user.note', 'short'],
      ['user.long', 'y'.repeat(700)],
    ])
    expect(await of('/dir/hard link')).toHaveLength(2)
    expect(await of('/alternate')).toEqual([['trusted.large', 'z'.repeat(1024)]])
    expect(await of('/dir')).toEqual([['security.selinux', 'system_u:object_r:etc_t:s0']])
    expect(await of('/inline more')).toEqual([])
  })

  test('device numbers, small and large', async () => {
    const fs = await open(goldenCsum())
    expect((await fs.stat('/dir/null')).device).toEqual({ major: 1, minor: 3 })
    expect((await fs.stat('/disk')).device).toEqual({ major: 259, minor: 7000 })
  })

  test('a file with holes keeps them, and tells where its data are', async () => {
    const bytes = goldenCsum()
    const fs = await open(bytes)
    const file = await fs.open('/alternate')
    const extents = await collect(file.extents(0, file.size))
    expect(extents.map(({ kind, length }) => [kind, length])).toEqual(
      Array.from({ length: 15 }, (_, n) => [n % 2 === 0 ? 'data' : 'hole', 1024]),
    )
    for (const { offset, length, start } of await fs.extents('/alternate'))
      sameBytes(bytes.subarray(start, start + length), GOLDEN_FILES['/alternate']!.subarray(offset, offset + length))
  })

  test('inline data are found where they are', async () => {
    const bytes = goldenCsum()
    const fs = await open(bytes)
    for (const path of ['/inline', '/inline more']) {
      const runs = await fs.extents(path)
      expect(runs).toHaveLength(path === '/inline' ? 1 : 2)
      const there = runs.map(({ start, length }) => bytes.subarray(start, start + length))
      sameBytes(Buffer.concat(there), GOLDEN_FILES[path]!)
      expect(await fs.ownedRuns(await fs.lookup(path))).toEqual([])
    }
  })

  test('blocks of inodes, metadata and free runs cover the device once', async () => {
    for (const bytes of [goldenCsum(), goldenOld()]) {
      const fs = await open(bytes)
      const marks = new Uint8Array(bytes.length / 1024)
      const shared = new Set<number>()
      const mark = (start: number, length: number): void => {
        for (let block = start / 1024; block < (start + length) / 1024; block++) marks[block]!++
      }
      for await (const { start, length } of fs.metadataRuns()) mark(start, length)
      for (const inode of (await collect(fs.sweepInodes())).flatMap(inodes => [...inodes]))
        for (const { start, length, role } of await fs.ownedRuns(inode))
          if (role !== 'xattr' || !shared.has(start)) {
            mark(start, length)
            if (role === 'xattr') shared.add(start)
          }
      for await (const { start, length } of fs.freeRuns()) mark(start, length)
      expect([...marks.entries()].filter(([, count]) => count !== 1)).toEqual([])
    }
  })

  test('it agrees with itself', async () => {
    for (const bytes of [goldenCsum(), goldenOld()]) expect(await (await open(bytes)).check()).toEqual([])
  })
})

/** The bytes with one bit changed. */
const flipped = (bytes: Uint8Array, bit: number): Uint8Array => {
  const copy = new Uint8Array(bytes)
  copy[bit >>> 3]! ^= 1 << (bit & 7)
  return copy
}

const shown = async (bytes: Uint8Array): Promise<string | LiveError> =>
  valueOrFailure(open(bytes).then(async fs => viewOf(fs, 500)))

/** Every block that anything but the content of a file or symlink stands in, and the free inodes' places left out. */
const metadataBytes = async (bytes: Uint8Array): Promise<number[]> => {
  const fs = await open(bytes)
  const places: number[] = []
  const add = (start: number, length: number): void => {
    for (let at = start; at < start + length; at++) places.push(at)
  }
  for await (const { start, length, role } of fs.metadataRuns()) {
    if (role !== 'inode table' && role !== 'boot') add(start, Math.min(length, 1024))
  }
  for (const inode of (await collect(fs.sweepInodes())).flatMap(inodes => [...inodes])) {
    add(inode.offset, fs.superblock.inodeSize)
    for (const { start, length, role } of await fs.ownedRuns(inode))
      if (role !== 'data' || inode.kind === 'directory') add(start, length)
  }
  return places
}

describe('broken bits', () => {
  test('with metadata_csum a flipped bit of metadata is CORRUPT or changes nothing', async () => {
    const bytes = goldenCsum()
    const { below, seed } = random()
    const before = await shown(bytes)
    const places = await metadataBytes(bytes)
    let corrupt = 0
    for (let round = 0; round < 500; round++) {
      const bit = places[below(places.length)]! * 8 + below(8)
      const after = await shown(flipped(bytes, bit))
      const words = `seed ${seed}, bit ${bit & 7} of byte ${bit >>> 3}`
      if (after instanceof LiveError) {
        corrupt++
        // A bit of the magic or of the features is judged before the checksum can be.
        expect(['CORRUPT', 'UNSUPPORTED'], `${words}: ${after.message}`).toContain(after.code)
      } else if (after !== before) expect.fail(`${words}: another view`)
    }
    expect(corrupt).toBeGreaterThan(250)
  }, 60_000)

  test('each kind of checksum is compared', async () => {
    const bytes = goldenCsum()
    const fs = await open(bytes)
    const placeOf = async (path: string, role: string): Promise<number> =>
      (await fs.ownedRuns(await fs.lookup(path))).find(run => run.role === role)!.start
    const metadata = await collect(fs.metadataRuns())
    const start = (role: string): number => metadata.find(run => run.role === role)!.start
    const value = (await collect(fs.sweepInodes()))
      .flatMap(inodes => [...inodes])
      .find(inode => inode.flags & 0x200000)!
    const places: readonly (readonly [string, number])[] = [
      ['s_checksum', start('superblock') + 0x90],
      ['bg_checksum', start('group descriptors') + 20],
      // blocks and inodes that are free: a bit more changes nothing else
      ['checksum of the block bitmap', start('block bitmap') + 50],
      ['checksum of the inode bitmap', start('inode bitmap') + 11],
      ['i_checksum', (await fs.lookup('/plain')).offset + 12],
      ['et_checksum', (await placeOf('/alternate', 'map')) + 1000],
      // the hash of the index's second entry
      ['dt_checksum', (await placeOf('/hashed', 'data')) + 40],
      ['det_checksum', (await placeOf('/hashed', 'data')) + 1024 + 1000],
      ['h_checksum', (await placeOf('/plain', 'xattr')) + 12],
      ['hash in i_atime', (await fs.ownedRuns(value))[0]!.start + 5],
    ]
    for (const [field, at] of places) {
      const error = await shown(flipped(bytes, at * 8 + 1))
      expect(error, field).toBeInstanceOf(LiveError)
      expect(String((error as LiveError).data.field)).toContain(field)
    }
  })

  test('without checksums a flipped bit gives a view or a LiveError, soon', async () => {
    const bytes = goldenOld()
    const { below, seed } = random()
    const places = await metadataBytes(bytes)
    for (let round = 0; round < 300; round++) {
      const bit = places[below(places.length)]! * 8 + below(8)
      const started = Date.now()
      await shown(flipped(bytes, bit)).catch(error => {
        throw new Error(`seed ${seed}, bit ${bit & 7} of byte ${bit >>> 3}`, { cause: error })
      })
      expect(Date.now() - started, `seed ${seed}, bit ${bit}`).toBeLessThan(10_000)
    }
  }, 60_000)

  test('noise over a whole structure gives a view or a LiveError', async () => {
    const { below, bytes: noise, seed } = random()
    for (const bytes of [goldenCsum(), goldenOld()]) {
      const places = await metadataBytes(bytes)
      for (let round = 0; round < 100; round++) {
        const copy = new Uint8Array(bytes)
        const at = places[below(places.length)]!
        copy.set(noise(Math.min(1 + below(200), copy.length - at)), at)
        await shown(copy).catch(error => {
          throw new Error(`seed ${seed}, noise at ${at}`, { cause: error })
        })
      }
    }
  }, 60_000)

  test('a device that ends too soon is CORRUPT, wherever it ends', async () => {
    for (const bytes of [goldenCsum(), goldenOld()])
      for (const length of [0, 1, 1023, 1024, 1500, 2047, 2048, 4096, 100_000, bytes.length - 1024, bytes.length - 1])
        await failure(open(bytes.subarray(0, length)), 'CORRUPT')
  })

  test('a wrong checksum of the superblock is CORRUPT with both sums', async () => {
    const bytes = goldenCsum()
    bytes[1024 + 200]! ^= 1
    const { data } = await failure(readExt4Superblock(memory(bytes)), 'CORRUPT')
    expect(data.field).toBe('s_checksum')
    expect(data.offset).toBe(1024 + 1020)
  })
})
