import { describe, expect, it } from 'vitest'
import { extentsOf } from '../../../../src/block/device.js'
import { linear } from '../../../../src/block/linear.js'
import { memory } from '../../../../src/block/memory.js'
import { isLiveError } from '../../../../src/error.js'
import { JOURNAL_INCOMPAT } from '../../../../src/fs/ext4/journal/layout.js'
import { openReplayed, replayState } from '../../../../src/fs/ext4/journal/replayed.js'
import { deviceContract } from '../../../contract/device.js'
import { collect } from '../../../support/collect.js'
import { countingDevice } from '../../../support/counting-device.js'
import { faultyDevice } from '../../../support/faulty-device.js'
import { journalVolume, VOLUME } from '../../../support/journal-volume.js'
import { type JournalKind, journalWriter, type Transaction } from '../../../support/journal-writer.js'
import { failure, sameBytes, valueOrFailure } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'

const { blockSize, free, journalStart, journalBlocks, blockCount } = VOLUME
const START = { start: 1, sequence: 5 }

const filled = (byte: number): Buffer => Buffer.alloc(blockSize, byte)
const put = (block: number, byte: number) => ({ block: free + block, content: filled(byte) })

const written = (transactions: readonly Transaction[], kind: JournalKind = {}, from = START) => {
  const { image, file } = journalVolume()
  const writer = journalWriter(image, file, from, kind)
  const places = transactions.map(transaction => writer.transaction(transaction))
  return { image, writer, places }
}

const opened = (image: Uint8Array) => openReplayed(memory(image, 'image'))
/** The first byte of a block of the replayed view, or the number that free blocks hold. */
const shows = async (image: Uint8Array, block: number): Promise<number> => {
  const bytes = Buffer.from(await (await opened(image)).read((free + block) * blockSize, blockSize))
  return bytes.readUInt32LE(0) === free + block ? -1 : bytes[9]!
}

describe('what replay makes of a log', () => {
  it('later copies win, and what was not committed is not there', async () => {
    const { image } = written([
      { blocks: [put(0, 1), put(1, 1)] },
      { blocks: [put(1, 2)] },
      { blocks: [put(0, 3), put(2, 3)], commit: false },
    ])
    expect([await shows(image, 0), await shows(image, 1), await shows(image, 2)]).toEqual([1, 2, -1])
    expect((await opened(image)).replayed).toEqual({
      needsRecovery: true,
      transactions: 2,
      blocks: 2,
      revoked: 0,
      firstSequence: 5,
      lastSequence: 6,
      endedBy: 'no commit',
    })
  })

  it('a revoke takes back copies of its own and earlier transactions, not of later ones', async () => {
    const { image } = written([
      { blocks: [put(0, 1), put(1, 1), put(2, 1), put(3, 1)] },
      { blocks: [put(1, 2), put(2, 2)], revokes: [free, free + 1] },
      { blocks: [put(1, 3)], revokes: [free + 2] },
      { blocks: [put(2, 4)], revokes: [free + 3], commit: false },
    ])
    expect(await Promise.all([0, 1, 2, 3].map(block => shows(image, block)))).toEqual([-1, 3, -1, 1])
    expect((await opened(image)).replayed).toMatchObject({ transactions: 3, blocks: 2, revoked: 5 })
  })

  it('an escaped block gets its magic back, wherever a read starts', async () => {
    const content = filled(7)
    content.writeUInt32BE(0xc03b3998, 0)
    const { image } = written([{ blocks: [{ block: free, content }] }])
    const device = await opened(image)
    const at = free * blockSize
    sameBytes(await device.read(at, blockSize), content)
    sameBytes(await device.read(at + 2, 1), content.subarray(2, 3))
    sameBytes(await device.read(at - 1, 3), Buffer.concat([image.subarray(at - 1, at), content.subarray(0, 2)]))
    expect([...device.replacedBlocks()]).toEqual([
      { block: free, copyOffset: (journalStart + 2) * blockSize, escaped: true },
    ])
  })

  it('without needs_recovery all is as it stands, after one read', async () => {
    const { image } = written([{ blocks: [put(0, 1)] }])
    image.writeUInt32LE(image.readUInt32LE(1024 + 96) & ~4, 1024 + 96)
    const below = countingDevice(memory(image))
    const device = await openReplayed(below)
    expect(below.reads).toBe(1)
    expect(device.replayed).toMatchObject({ needsRecovery: false, transactions: 0, endedBy: 'clean' })
    expect([...device.replacedBlocks()]).toEqual([])
    sameBytes(await device.read(0, image.length), image)
    await device.close()
    expect(below.closes).toBe(0)
  })

  it('the superblocks say that nothing is to be replayed, so that a second replay changes nothing', async () => {
    const { image } = written([{ blocks: [put(0, 1)] }], { checksum: 'v3', errno: -5 })
    const device = await opened(image)
    const once = Buffer.from(await device.read(0, image.length))
    expect(once.readUInt32LE(1024 + 96) & 4).toBe(0)
    expect(once.readUInt16LE(1024 + 58)).toBe(3)
    const journal = once.subarray(journalStart * blockSize)
    expect([journal.readUInt32BE(24), journal.readUInt32BE(28), journal.readInt32BE(32)]).toEqual([7, 0, 0])
    sameBytes(await (await opened(once)).read(0, once.length), once)
    once.writeUInt32LE(once.readUInt32LE(1024 + 96) | 4, 1024 + 96)
    expect((await opened(once)).replayed).toMatchObject({ needsRecovery: true, transactions: 0, endedBy: 'clean' })
  })

  it('a grown filesystem: the superblock in the log says so', async () => {
    const { image, writer } = written([])
    image.writeUInt32LE(free + 50, 1024 + 4)
    const grown = Buffer.from(image.subarray(1024, 2048))
    grown.writeUInt32LE(blockCount, 4)
    writer.transaction({ blocks: [put(50, 1)] })
    expect((await failure(opened(image), 'CORRUPT')).message).toContain('t_blocknr')
    writer.transaction({ blocks: [{ block: 1, content: grown }] })
    expect(await shows(image, 50)).toBe(1)
    grown.writeUInt32LE(blockCount + 10, 4)
    writer.transaction({
      blocks: [
        { block: 1, content: grown },
        { block: blockCount, content: filled(1) },
      ],
    })
    expect((await failure(opened(image), 'CORRUPT')).message).toContain(`less than ${blockCount}`)
  })

  it('a superblock of version 1 has no features, whatever stands in their place', async () => {
    const { image, writer } = written([{ blocks: [put(0, 1)] }], { version: 1 })
    writer.block(0).fill(0xff, 36, 48)
    expect(await shows(image, 0)).toBe(1)
  })

  it('replayState: facts, or the error as a value', async () => {
    const { image, places, writer } = written([{ blocks: [put(0, 1), put(1, 1)] }], { checksum: 'v3' })
    expect(await replayState(memory(image))).toEqual({ needsRecovery: true, transactions: 1, blocks: 2 })
    writer.block(places[0]!.copies[1]!)[0]! ^= 1
    const error = await replayState(memory(image))
    expect(isLiveError(error) && error.code).toBe('CORRUPT')
    expect(isLiveError(await replayState(memory(new Uint8Array(100))))).toBe(true)
  })

  it('an unreadable journal is an error of the medium', async () => {
    const { image } = written([{ blocks: [put(0, 1)] }])
    const from = (journalStart + 1) * blockSize
    await failure(openReplayed(faultyDevice(memory(image), [{ from, to: from + 1 }])), 'IO')
  })
})

describe('the view', () => {
  const { image } = written(
    [
      { blocks: Array.from({ length: 30 }, (_, n) => put(n * 2, n)) },
      { blocks: [put(1, 77), put(2, 78), put(299, 79)], revokes: [free + 4] },
    ],
    { checksum: 'v3' },
    { start: journalBlocks - 20, sequence: 0xffffffff },
  )
  image.fill(0, (free + 100) * blockSize, (free + 200) * blockSize)
  deviceContract('a replayed device', async () => {
    const device = await opened(image)
    return { device, bytes: await device.read(0, device.size) }
  })
  // Holes from below: blocks 0 to 99 behind `free` are a hole there, of which the journal fills some.
  const segments = [
    { length: free * blockSize, device: memory(image) },
    { length: 100 * blockSize },
    { length: image.length - (free + 100) * blockSize, device: memory(image), deviceOffset: (free + 100) * blockSize },
  ]
  deviceContract('a replayed sparse device', async () => {
    const device = await openReplayed(linear(segments, 'sparse'))
    return { device, bytes: await device.read(0, device.size) }
  })

  it('a hole below stays one where the journal has nothing', async () => {
    const device = await openReplayed(linear(segments, 'sparse'))
    const extents = await collect(extentsOf(device, (free + 56) * blockSize, 44 * blockSize))
    expect(extents.map(({ kind, offset, length }) => [kind, offset / blockSize - free, length / blockSize])).toEqual([
      ['data', 56, 1],
      ['hole', 57, 1],
      ['data', 58, 1],
      ['hole', 59, 41],
    ])
  })
})

describe('a journal that can not be replayed', () => {
  const three: readonly Transaction[] = [
    { blocks: [put(0, 1)] },
    { blocks: [put(1, 2)], revokes: [free + 9] },
    { blocks: [put(2, 3)] },
  ]
  type Spoil = (made: ReturnType<typeof written>) => void
  const flip = (bytes: Buffer, at: number): void => {
    bytes[at]! ^= 0x10
  }
  const cases: readonly [string, JournalKind, Spoil, string][] = [
    [
      'a copy with another checksum v2',
      { checksum: 'v2' },
      m => flip(m.writer.block(m.places[1]!.copies[0]!), 500),
      'checksum of the copy',
    ],
    [
      'a copy with another checksum v3',
      { checksum: 'v3' },
      m => flip(m.writer.block(m.places[2]!.copies[0]!), 500),
      'checksum of the copy',
    ],
    [
      'a copy with another checksum v1',
      { checksum: 'v1' },
      m => flip(m.writer.block(m.places[1]!.copies[0]!), 500),
      'checksum of transaction 6',
    ],
    [
      'a descriptor',
      { checksum: 'v3' },
      m => flip(m.writer.block(m.places[1]!.descriptors[0]!), 500),
      'checksum of a block of transaction 6',
    ],
    [
      'a revoke block',
      { checksum: 'v2' },
      m => flip(m.writer.block(m.places[1]!.revokes[0]!), 500),
      'checksum of a block of transaction 6',
    ],
    [
      'a commit in the middle',
      { checksum: 'v3' },
      m => flip(m.writer.block(m.places[1]!.commit!), 500),
      'checksum of transaction 6',
    ],
    [
      'the last commit, as it was waited for',
      { checksum: 'v3' },
      m => flip(m.writer.block(m.places[2]!.commit!), 500),
      'checksum of transaction 7',
    ],
    [
      'an asynchronous commit before another',
      { checksum: 'v3', asyncCommit: true },
      m => flip(m.writer.block(m.places[1]!.commit!), 500),
      'commit of transaction 6',
    ],
    [
      'an asynchronous commit v1 before another',
      { checksum: 'v1', asyncCommit: true },
      m => flip(m.writer.block(m.places[1]!.copies[0]!), 500),
      'commit of transaction 6',
    ],
    ['absurd r_count', {}, m => m.writer.block(m.places[1]!.revokes[0]!).writeUInt32BE(0xffffffff, 12), 'r_count'],
    ['r_count into the tail', {}, m => m.writer.block(m.places[1]!.revokes[0]!).writeUInt32BE(1025, 12), 'r_count'],
    [
      'a block past the filesystem',
      {},
      m => m.writer.block(m.places[1]!.descriptors[0]!).writeUInt32BE(blockCount, 12),
      't_blocknr',
    ],
    [
      'an absurd block',
      { has64bit: true },
      m => m.writer.block(m.places[1]!.descriptors[0]!).writeUInt32BE(0xffffffff, 20),
      't_blocknr',
    ],
    [
      'a block of the journal',
      {},
      m => m.writer.block(m.places[1]!.descriptors[0]!).writeUInt32BE(journalStart + 500, 12),
      't_blocknr',
    ],
    ['s_maxlen longer than the file', {}, m => m.writer.block(0).writeUInt32BE(journalBlocks + 1, 16), 's_maxlen'],
    ['s_maxlen too short', {}, m => m.writer.block(0).writeUInt32BE(1023, 16), 's_maxlen'],
    ['s_first 0', {}, m => m.writer.block(0).writeUInt32BE(0, 20), 's_first'],
    ['s_first past the end', {}, m => m.writer.block(0).writeUInt32BE(journalBlocks, 20), 's_first'],
    ['s_start past the end', {}, m => m.writer.block(0).writeUInt32BE(0xfffffff0, 28), 's_start'],
    ['s_blocksize', {}, m => m.writer.block(0).writeUInt32BE(4096, 12), 's_blocksize'],
    ['no superblock', {}, m => m.writer.block(0).writeUInt32BE(0, 0), 'h_magic'],
    ['no superblock, a commit', {}, m => m.writer.block(0).writeUInt32BE(2, 4), 'h_blocktype'],
    ['two kinds of checksums', { checksum: 'v3' }, m => m.writer.block(0).writeUInt32BE(0x1d, 40), 's_feature_compat'],
    ['s_checksum', { checksum: 'v3' }, m => flip(m.writer.block(0), 300), 's_checksum'],
    ['s_checksum_type', { checksum: 'v2' }, m => flip(m.writer.block(0), 80), 's_checksum_type'],
    ['no journal', {}, m => m.image.writeUInt32LE(0, 1024 + 92), 'has_journal'],
    ['no inode of the journal', {}, m => m.image.writeUInt32LE(0, 1024 + 224), 's_journal_inum'],
    ['an inode that is a directory', {}, m => m.image.writeUInt16LE(0o40700, VOLUME.inode), 'i_mode'],
    ['an inode without links', {}, m => m.image.writeUInt16LE(0, VOLUME.inode + 26), 'i_links_count'],
    ['an inode with a hole', {}, m => m.image.writeUInt16LE(1000, VOLUME.inode + 56), 'a hole'],
    ['an inode of a few blocks', {}, m => m.image.writeUInt32LE(1023 * blockSize, VOLUME.inode + 4), 'i_size'],
  ]
  for (const [title, kind, spoil, words] of cases)
    it(title, async () => {
      const made = written(three, kind)
      expect((await opened(made.image)).replayed.transactions).toBe(3)
      spoil(made)
      const error = await failure(opened(made.image), 'CORRUPT')
      expect(`${error.message}`).toContain(words)
      expect(Object.keys(error.data)).toEqual(['device', 'offset', 'field', 'expected', 'found'])
    })

  it('a journal on another device, an unknown feature', async () => {
    const feature = async (spoil: Spoil, kind: JournalKind = {}) => {
      const made = written(three, kind)
      spoil(made)
      return (await failure(opened(made.image), 'UNSUPPORTED')).data.feature
    }
    const external: Spoil = m => {
      m.image.writeUInt32LE(0, 1024 + 224)
      m.image.writeUInt32LE(0x801, 1024 + 228)
    }
    expect(await feature(external)).toBe('external journal')
    expect(await feature(m => m.writer.block(0).writeUInt32BE(0x41, 40))).toBe('journal feature')
    expect(await feature(m => m.writer.block(0).writeUInt32BE(1, 44))).toBe('journal feature')
  })
})

describe('fast commits', () => {
  const transactions: readonly Transaction[] = [{ blocks: [put(0, 1)] }, { blocks: [put(1, 2)] }]
  const withHead = (sequence: number): Buffer => {
    const { image, writer } = written(transactions, { fastBlocks: 20, checksum: 'v3' })
    // The ring ends 20 blocks before the journal; the area starts a block later.
    const head = writer.block(journalBlocks - 19)
    head.writeUInt16LE(9, 0)
    head.writeUInt16LE(8, 2)
    head.writeUInt32LE(sequence, 8)
    return image
  }

  it('of the transaction after the last one are not passed over', async () => {
    expect((await failure(opened(withHead(7)), 'UNSUPPORTED')).data.feature).toBe('fast commit')
  })

  it('of transactions that are in the log, or none, are done with', async () => {
    for (const sequence of [0, 5, 6, 8]) expect((await opened(withHead(sequence))).replayed.transactions).toBe(2)
    expect((await opened(written(transactions, { fastBlocks: 20 }).image)).replayed.transactions).toBe(2)
  })

  it('leave the log a ring that ends before them', async () => {
    const { image } = written(transactions, { fastBlocks: 20 }, { start: journalBlocks - 22, sequence: 5 })
    expect((await opened(image)).replayed).toMatchObject({ transactions: 2, blocks: 2 })
  })
})

describe('hostile journals end', () => {
  it('a ring of descriptors of one transaction', async () => {
    const { image, writer } = written([])
    for (let block = 1; block < journalBlocks; block++) {
      const bytes = writer.block(block).fill(0)
      bytes.writeUInt32BE(0xc03b3998, 0)
      bytes.writeUInt32BE(block % 2 === 0 ? 1 : 5, 4)
      bytes.writeUInt32BE(5, 8)
      bytes.writeUInt16BE(8, 18)
    }
    const below = countingDevice(memory(image))
    expect((await openReplayed(below)).replayed).toMatchObject({ transactions: 0, endedBy: 'no commit' })
    expect(below.bytesRead).toBeLessThan(2 * image.length)
  })

  it('every copy is of one block; every revoke block is full', async () => {
    const { image } = written([
      { blocks: Array.from({ length: 500 }, (_, n) => put(3, n & 0xff)) },
      { revokes: Array.from({ length: 250 * 400 }, (_, n) => n * 7 + 5000) },
    ])
    expect((await opened(image)).replayed).toMatchObject({ transactions: 2, blocks: 1, revoked: 0 })
    expect(await shows(image, 3)).toBe(499 & 0xff)
  })

  it('tags for more copies than the ring has', async () => {
    const { image } = written([{ blocks: [put(0, 1)] }, { blocks: Array.from({ length: 1100 }, () => put(0, 2)) }])
    expect((await opened(image)).replayed.transactions).toBeLessThan(2)
  })

  it('a device that ends anywhere', async () => {
    const { image } = written([{ blocks: [put(299, 1)] }])
    for (const blocks of [0, 1, 2, 3, 6, 20, 21, 22, 1000, blockCount - 1])
      await failure(opened(image.subarray(0, blocks * blockSize)), 'CORRUPT')
  })
})

describe('a log that was cut', () => {
  const transactions: readonly Transaction[] = [
    { blocks: [put(0, 1), put(1, 1), put(2, 1)], time: 10 },
    { blocks: [put(1, 2), put(3, 2)], revokes: [free], time: 20 },
    { blocks: [put(0, 3), put(4, 3)], revokes: [free + 2], time: 30 },
  ]
  const content = async (image: Uint8Array): Promise<string> => {
    const bytes = await (await opened(image)).read(free * blockSize, 10 * blockSize)
    return Buffer.from(bytes).toString('latin1')
  }
  const statesOf = async (kind: JournalKind): Promise<string[]> =>
    Promise.all([0, 1, 2, 3].map(count => content(written(transactions.slice(0, count), kind).image)))

  for (const checksum of ['none', 'v1', 'v2', 'v3'] as const)
    it(`behind any of its blocks: the transactions before are there, whole; checksum ${checksum}`, async () => {
      const states = await statesOf({ checksum })
      const { writer, places } = written(transactions, { checksum })
      for (const leftover of [0, 0x77])
        for (let cut = 1; cut < writer.next; cut++) {
          const made = written(transactions, { checksum })
          for (let block = cut; block < writer.next; block++) made.writer.block(block).fill(leftover)
          const whole = places.filter(({ commit }) => commit! < cut).length
          expect(await content(made.image), `cut before block ${cut}`).toBe(states[whole])
        }
    })

  it('one bit flipped in a log with checksums v3: an error, or one of the states there were', async () => {
    const states = await statesOf({ checksum: 'v3' })
    const { seed, below } = random()
    const { writer } = written(transactions, { checksum: 'v3' })
    let errors = 0
    for (let n = 0; n < 400; n++) {
      const made = written(transactions, { checksum: 'v3' })
      const block = below(writer.next)
      const at = below(4) === 0 ? below(64) : below(blockSize)
      const bit = below(8)
      // The one bit that no checksum guards: without it there are none, to the kernel neither.
      if (block === 0 && at === 43 && 1 << bit === JOURNAL_INCOMPAT.csum_v3) continue
      made.writer.block(block)[at]! ^= 1 << bit
      const result = await valueOrFailure(content(made.image))
      if (isLiveError(result)) errors++
      else expect(states.includes(result), `seed ${seed}: bit ${bit} of byte ${at} of block ${block}`).toBe(true)
    }
    expect(errors).toBeGreaterThan(200)
  })

  it('bits flipped anywhere: a value or an error', async () => {
    const { seed, below } = random()
    const kinds: readonly JournalKind[] = [
      {},
      { checksum: 'v1', has64bit: true },
      { checksum: 'v2' },
      { fastBlocks: 4 },
    ]
    const places = [1024, 2048, VOLUME.inode, journalStart * blockSize, (journalStart + 1) * blockSize]
    for (let n = 0; n < 300; n++) {
      const kind = kinds[below(kinds.length)]!
      const { image } = written(transactions, kind)
      for (let flips = 1 + below(3); flips > 0; flips--) {
        const at = places[below(places.length)]! + below([64, 128, 1024, 12 * 1024][below(4)]!)
        image[at]! ^= 1 << below(8)
      }
      const device = await valueOrFailure(opened(image))
      if (!isLiveError(device)) expect((await device.read(0, device.size)).length, `seed ${seed}`).toBe(image.length)
    }
  })
})
