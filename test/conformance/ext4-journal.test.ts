import { readFile, writeFile } from 'node:fs/promises'
import { beforeAll, expect } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { CRC32C_START, crc32c } from '../../src/bytes/crc32c.js'
import type { JournalFile } from '../../src/fs/ext4/journal/file.js'
import { openReplayed, type ReplayedDevice } from '../../src/fs/ext4/journal/replayed.js'
import { e2fs, journalFileOf, madeImage, replayedByE2fsck, sameReplay } from '../support/journal-images.js'
import { type JournalKind, journalWriter } from '../support/journal-writer.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { describe, it } = needTools('mke2fs', 'e2fsck', 'debugfs')
const path = temporary()

const FILESYSTEMS = {
  '1 KiB blocks, no checksums, 32 bit': [
    '8',
    '-t',
    'ext4',
    '-b',
    '1024',
    '-J',
    'size=1',
    '-O',
    '^metadata_csum,^64bit',
  ],
  '4 KiB blocks, checksums, 64 bit': ['24', '-t', 'ext4', '-b', '4096', '-J', 'size=8', '-O', 'metadata_csum,64bit'],
  'ext3, journal without extents': ['12', '-t', 'ext3', '-b', '1024', '-J', 'size=4'],
  '2 KiB blocks, metadata_csum_seed': ['8', '-t', 'ext4', '-b', '2048', '-J', 'size=2', '-O', 'metadata_csum_seed'],
} as const

interface Made {
  readonly image: Buffer
  readonly file: JournalFile
}
const made = new Map<string, Made>()

beforeAll(async () => {
  for (const [name, [megabytes, ...options]] of Object.entries(FILESYSTEMS)) {
    const image = await madeImage(await path('made.img'), Number(megabytes), ...options)
    made.set(name, { image, file: await journalFileOf(image) })
  }
})

const { seed, bytes: randomBytes, below } = random()

const fresh = (name: keyof typeof FILESYSTEMS): Made & { block: () => number; content: () => Buffer } => {
  const { image, file } = made.get(name)!
  const total = image.length / file.blockSize
  return {
    image: Buffer.from(image),
    file,
    // The last third of these filesystems holds nothing.
    block: () => Math.floor((total * 2) / 3) + below(Math.floor(total / 3) - 1),
    content: () => Buffer.from(randomBytes(file.blockSize)),
  }
}

const whole = async (device: ReplayedDevice): Promise<Uint8Array> => device.read(0, device.size)

/** Replays an image with ours and with e2fsck, and compares every byte. */
const judged = async (image: Buffer): Promise<ReplayedDevice> => {
  const before = Buffer.from(image)
  const device = await openReplayed(memory(image, 'image'))
  const ours = await whole(device)
  const { bytes } = await replayedByE2fsck(await path('theirs.img'), image)
  sameReplay(ours, bytes)
  expect(image.equals(before), 'the device below is as it was').toBe(true)
  return device
}

const KINDS: Readonly<Record<string, JournalKind>> = {
  'no checksums': {},
  'no checksums, 64 bit': { has64bit: true },
  'checksum v1': { checksum: 'v1' },
  'checksum v1, 64 bit, asynchronous commits': { checksum: 'v1', has64bit: true, asyncCommit: true },
  'checksum v2': { checksum: 'v2' },
  'checksum v2, 64 bit': { checksum: 'v2', has64bit: true },
  'checksum v3': { checksum: 'v3' },
  'checksum v3, 64 bit': { checksum: 'v3', has64bit: true },
  'a UUID after every tag': { allUuids: true, checksum: 'v3' },
  'full descriptors without the mark of the last tag': { checksum: 'v2', has64bit: true, noLastFlags: true },
  'a superblock of version 1': { version: 1 },
  'an error noted by the kernel': { errno: -5, checksum: 'v3' },
  'fast commits without any': { fastBlocks: 64, checksum: 'v3' },
}

describe(`our replay leaves the bytes that e2fsck leaves (seed ${seed})`, () => {
  for (const name of Object.keys(FILESYSTEMS) as (keyof typeof FILESYSTEMS)[])
    for (const [title, kind] of Object.entries(KINDS)) {
      if (kind.fastBlocks && !name.startsWith('4 KiB')) continue
      it(`${name}; ${title}`, async () => {
        const { image, file, block, content } = fresh(name)
        const blocks = file.size / file.blockSize
        // The log comes round its ring and the sequence round 32 bits; e2fsck 1.47 takes a longer ring with fast commits.
        const start = kind.fastBlocks === undefined ? blocks - 40 : 10
        const journal = journalWriter(image, file, { start, sequence: 0xfffffffd }, kind)
        const pool = Array.from({ length: 40 }, block)
        let copies = 0
        for (let n = 0; n < 8; n++) {
          const written = Array.from({ length: below(n === 5 ? 90 : 12) }, () => ({
            block: pool[below(pool.length)]!,
            content: content(),
          }))
          for (const { content: bytes } of written) if (below(4) === 0) bytes.writeUInt32BE(0xc03b3998, 0)
          const revokes = kind.version === 1 ? [] : Array.from({ length: below(6) }, () => pool[below(pool.length)]!)
          copies += written.length
          journal.transaction({ blocks: written, revokes, time: 1_700_000_000 + n })
        }
        journal.transaction({ blocks: [{ block: pool[0]!, content: content() }], commit: false })
        const { replayed, replacedBlocks } = await judged(image)
        expect(replayed).toMatchObject({
          needsRecovery: true,
          transactions: 8,
          firstSequence: 0xfffffffd,
          lastSequence: 4,
          endedBy: 'no commit',
        })
        expect(replayed.blocks).toBe([...replacedBlocks()].length)
        expect(copies).toBeGreaterThan(replayed.blocks)
      })
    }
})

describe('odd ends of a log, as e2fsck takes them', () => {
  const BIG = '4 KiB blocks, checksums, 64 bit'

  it('an empty log: only the superblocks change', async () => {
    const { image, file } = fresh(BIG)
    journalWriter(image, file, { start: 0, sequence: 77 }, { checksum: 'v3' })
    const { replayed } = await judged(image)
    expect(replayed).toMatchObject({ needsRecovery: true, transactions: 0, blocks: 0, endedBy: 'clean' })
  })

  it('a log that ends with its last commit', async () => {
    const { image, file, block, content } = fresh(BIG)
    const journal = journalWriter(image, file, { start: 1, sequence: 9 }, { checksum: 'v3' })
    journal.transaction({ blocks: [{ block: block(), content: content() }] })
    expect((await judged(image)).replayed).toMatchObject({ transactions: 1, lastSequence: 9, endedBy: 'end of log' })
  })

  it('a log that fills its ring to the last block', async () => {
    const { image, file, block, content } = fresh(BIG)
    const blocks = file.size / file.blockSize
    const journal = journalWriter(image, file, { start: 500, sequence: 3 }, { checksum: 'v3' })
    const each = blocks / 16
    for (let n = 0; n < 16; n++)
      journal.transaction({
        blocks: Array.from({ length: each - 2 - (n === 15 ? 1 : 0) }, () => ({ block: block(), content: content() })),
      })
    expect(journal.next).toBe(500)
    expect((await judged(image)).replayed).toMatchObject({ transactions: 16, endedBy: 'end of log' })
  })

  it('leftovers of an older use of the journal', async () => {
    const { image, file, block, content } = fresh(BIG)
    const journal = journalWriter(image, file, { start: 1, sequence: 3 }, { checksum: 'v3' })
    journal.transaction({ blocks: [{ block: block(), content: content() }], time: 2000 })
    const { descriptors } = journal.transaction({ blocks: [{ block: block(), content: content() }], time: 1999 })
    journal.block(descriptors[0]!)[100]! ^= 1
    journal.transaction({ blocks: [{ block: block(), content: content() }], time: 2001 })
    expect((await judged(image)).replayed).toMatchObject({ transactions: 1, endedBy: 'stale blocks' })
  })

  for (const checksum of ['v1', 'v3'] as const)
    it(`an asynchronous commit that was written before its blocks, checksum ${checksum}`, async () => {
      const { image, file, block, content } = fresh(BIG)
      const journal = journalWriter(image, file, { start: 1, sequence: 3 }, { checksum, asyncCommit: true })
      journal.transaction({ blocks: [{ block: block(), content: content() }] })
      const { commit, copies } = journal.transaction({ blocks: [{ block: block(), content: content() }] })
      if (checksum === 'v1') journal.block(copies[0]!)[1000]! ^= 1
      else journal.block(commit!)[1000]! ^= 1
      expect((await judged(image)).replayed).toMatchObject({ transactions: 1, endedBy: 'bad checksum' })
    })

  it('the superblock itself is in the journal', async () => {
    const { image, file, block, content } = fresh(BIG)
    const first = Buffer.from(image.subarray(0, file.blockSize))
    first.write('from the journal', 1024 + 120)
    // Without a right checksum e2fsck would take a copy of the superblock.
    first.writeUInt32LE(crc32c(CRC32C_START, first.subarray(1024, 2044)), 2044)
    const journal = journalWriter(image, file, { start: 1, sequence: 3 }, { checksum: 'v3', errno: -30 })
    journal.transaction({
      blocks: [
        { block: 0, content: first },
        { block: block(), content: content() },
      ],
    })
    const device = await judged(image)
    const shown = Buffer.from(await device.read(1024, 1024))
    expect(shown.toString('latin1', 120, 136)).toBe('from the journal')
    expect(shown.readUInt16LE(58) & 2, 'the mark of errors').toBe(2)
    expect(shown.readUInt32LE(96) & 4, 'needs_recovery').toBe(0)
  })

  it('a damaged inode of the journal: the copy of it in the superblock', async () => {
    const { image, file, block, content } = fresh('ext3, journal without extents')
    const journal = journalWriter(image, file, { start: 1, sequence: 3 })
    journal.transaction({ blocks: [{ block: block(), content: content() }] })
    const sound = Buffer.from(await whole(await openReplayed(memory(image))))
    const inode = image.readUInt32LE(2 * 1024 + 8) * 1024 + 7 * image.readUInt16LE(1024 + 88)
    image.fill(0, inode, inode + 128)
    const device = await openReplayed(memory(image))
    const { bytes } = await replayedByE2fsck(await path('theirs.img'), image)
    const ours = Buffer.from(await whole(device))
    // e2fsck writes what it knows of the inode as well.
    for (const each of [ours, bytes, sound]) each.fill(0, inode, inode + 128)
    sameReplay(ours, bytes)
    sameReplay(ours, sound)
  })
})

describe('journals that debugfs wrote', () => {
  for (const [title, open] of Object.entries({
    'no checksums': 'jo',
    'checksum v2': 'jo -c -v 2',
    'checksum v3': 'jo -c -v 3',
  }))
    it(title, async () => {
      const { block, content } = fresh('4 KiB blocks, checksums, 64 bit')
      const { image } = made.get('4 KiB blocks, checksums, 64 bit')!
      const blocks = Array.from({ length: 12 }, block)
      const lines = [open]
      const target = await path('debugfs.img')
      for (let n = 0; n < 6; n++) {
        const names = [...new Set(Array.from({ length: 1 + below(6) }, () => blocks[below(blocks.length)]!))]
        const source = await path(`source${n}`)
        const bytes = Buffer.concat(names.map(content))
        if (n % 2 === 0) bytes.writeUInt32BE(0xc03b3998, 0)
        await writeFile(source, bytes)
        lines.push(`jw -b ${names.join(',')} ${source}`)
        if (n % 2 === 1) lines.push(`jw -r ${blocks[below(blocks.length)]}`)
      }
      lines.push('jc')
      await writeFile(target, image)
      await writeFile(await path('commands'), `${lines.join('\n')}\n`)
      const { output } = await e2fs('debugfs', '-w', '-f', await path('commands'), target)
      expect(output).not.toMatch(/rror|annot/)
      const { replayed } = await judged(await readFile(target))
      expect(replayed).toMatchObject({ transactions: 9, endedBy: 'end of log' })
      await writeFile(target, await whole(await openReplayed(memory(await readFile(target)))))
      const { status, output: checked } = await e2fs('e2fsck', '-fn', target)
      expect(status, checked).toBe(0)
    })
})

describe('an overlay that the real kernel left full', () => {
  it('its filesystem, cut off by the lack of space', async () => {
    const fixture = kernelFixture('fs-ext4-overflow')
    const [origin, cow] = await Promise.all(['origin.img', 'cow.img'].map(each => fixture.image(each)))
    const view = await snapshot(memory(origin!, 'origin'), memory(cow!, 'cow'))
    const { replayed } = await judged(Buffer.from(await view.read(0, view.size)))
    expect(replayed).toMatchObject({ needsRecovery: true, transactions: 43, blocks: 43, endedBy: 'no commit' })
  })
})
