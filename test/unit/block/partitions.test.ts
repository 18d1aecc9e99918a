import { describe, expect, it } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { openPartition } from '../../../src/block/partitions/partition.js'
import { type PartitionTable, readPartitions } from '../../../src/block/partitions/reader.js'
import { LiveError } from '../../../src/error.js'
import { failure, sameBytes, valueOrFailure } from '../../support/outcome.js'
import { putGpt, putMbr, sealHeader } from '../../support/partition-tables.js'
import { random } from '../../support/random.js'

const SECTORS = 4096
const blank = (): Uint8Array => new Uint8Array(SECTORS * 512)
const read = async (image: Uint8Array): Promise<PartitionTable> => (await readPartitions(memory(image, 'disk')))!
const codes = (table: PartitionTable): readonly string[] => table.findings.map(f => `${f.code} ${f.severity}`)
const places = (table: PartitionTable): readonly string[] =>
  table.partitions.map(p => `${p.number} ${p.role} ${p.start / 512}+${p.length / 512}`)

describe('readPartitions of an MBR', () => {
  it('takes the four records, the id and the mark to boot from', async () => {
    const image = blank()
    putMbr(
      image,
      0,
      [
        { type: 0x0c, start: 8, size: 8, active: true },
        { type: 0, start: 0, size: 0 },
        { type: 0, start: 32, size: 1 },
      ],
      0xab,
    )
    const table = await read(image)
    expect(table).toEqual({
      scheme: 'mbr',
      sectorSize: 512,
      id: '000000ab',
      hidden: undefined,
      findings: [],
      partitions: [
        {
          number: 1,
          role: 'primary',
          start: 4096,
          length: 4096,
          type: '0x0c',
          typeName: 'FAT32 (LBA)',
          name: undefined,
          uuid: '000000ab-01',
          active: true,
          legacyBoot: false,
        },
        expect.objectContaining({ number: 3, type: '0x00', uuid: '000000ab-03', active: false }),
      ],
    })
  })

  it('counts in the sectors it is told, and has no uuids without an id', async () => {
    const image = blank()
    putMbr(image, 0, [{ type: 0x83, start: 2, size: 3 }], 0)
    const table = await readPartitions(memory(image), { sectorSize: 4096 })
    expect(table).toMatchObject({ id: undefined, sectorSize: 4096 })
    expect(table!.partitions[0]).toMatchObject({ start: 8192, length: 12_288, uuid: undefined })
  })

  it.each([0x05, 0x0f, 0x85])('follows the logical partitions of type %i', async type => {
    const image = blank()
    putMbr(image, 0, [
      { type: 0x83, start: 1, size: 9 },
      { type, start: 100, size: 1000 },
    ])
    putMbr(image, 100 * 512, [
      { type: 0x83, start: 10, size: 20 },
      { type: 0x05, start: 200, size: 100 },
    ])
    putMbr(image, 300 * 512, [
      { type: 0, start: 0, size: 0 },
      { type: 0x05, start: 400, size: 100 },
    ])
    putMbr(image, 500 * 512, [{ type: 0x0b, start: 1, size: 2 }])
    const table = await read(image)
    expect(places(table)).toEqual(['1 primary 1+9', '2 extended 100+1000', '5 logical 110+20', '6 logical 501+2'])
    expect(codes(table)).toEqual([])
  })

  it.each([
    ['comes back', { start: 0, size: 100 }],
    ['comes back', { start: 200, size: 100 }],
    ['leaves the extended partition', { start: 2000, size: 100 }],
    ['there is no extended boot record', { start: 700, size: 100 }],
  ])('ends a chain that breaks: %s', async (why, next) => {
    const image = blank()
    putMbr(image, 0, [{ type: 0x05, start: 100, size: 1000 }])
    putMbr(image, 100 * 512, [
      { type: 0x83, start: 10, size: 20 },
      { type: 0x05, start: 200, size: 100 },
    ])
    putMbr(image, 300 * 512, [
      { type: 0x83, start: 10, size: 20 },
      { type: 0x05, ...next },
    ])
    const table = await read(image)
    expect(places(table).slice(1)).toEqual(['5 logical 110+20', '6 logical 310+20'])
    expect(table.findings).toMatchObject([{ code: 'EXTENDED_CHAIN_BROKEN', message: expect.stringContaining(why) }])
  })

  it('bounds a chain, and tells of logical partitions outside', async () => {
    const image = blank()
    putMbr(image, 0, [{ type: 0x05, start: 100, size: 3000 }])
    for (let n = 0; n < 200; n++)
      putMbr(image, (100 + n * 2) * 512, [
        { type: 0x83, start: 1, size: n === 0 ? 4000 : 1 },
        { type: 0x05, start: (n + 1) * 2, size: 2 },
      ])
    const table = await read(image)
    expect(table.partitions.length).toBe(101)
    expect(codes(table).slice(0, 2)).toEqual(['LOGICAL_OUTSIDE warning', 'EXTENDED_CHAIN_BROKEN error'])
  })

  it('an extended partition cut by the end of the device', async () => {
    const image = blank()
    putMbr(image, 0, [{ type: 0x05, start: 100, size: 9000 }])
    putMbr(image, 100 * 512, [
      { type: 0x83, start: 1, size: 1 },
      { type: 0x05, start: 5000, size: 2 },
    ])
    const table = await read(image)
    expect(codes(table)).toEqual(['EXTENDED_CHAIN_BROKEN error', 'PARTITION_BEYOND_END error'])
  })

  it('is none without 55 AA, with other boot indicators, or on a FAT, NTFS or exFAT volume', async () => {
    const image = blank()
    putMbr(image, 0, [{ type: 0x83, start: 1, size: 9 }])
    const changed = (change: (bytes: Uint8Array) => void): Promise<PartitionTable | undefined> => {
      const bytes = image.slice()
      change(bytes)
      return readPartitions(memory(bytes))
    }
    expect(await changed(bytes => bytes.fill(0, 510, 511))).toBeUndefined()
    expect(await changed(bytes => bytes.fill(1, 446, 447))).toBeUndefined()
    expect(await changed(bytes => bytes.set(Buffer.from('NTFS    '), 3))).toBeUndefined()
    expect(await changed(bytes => bytes.set(Buffer.from('EXFAT   '), 3))).toBeUndefined()
    // jump, then 512-byte sectors, 4 a cluster, 1 reserved, 2 FATs, medium 0xf8
    const fat = [0xeb, 0x3c, 0x90, ...Buffer.from('mkfs.fat'), 0, 2, 4, 1, 0, 2, 0, 2, 0, 8, 0xf8]
    expect(await changed(bytes => bytes.set(fat))).toBeUndefined()
    // boot code that only starts with a FAT's jump
    expect((await changed(bytes => bytes.set([0xeb, 0x63, 0x90])))?.partitions.length).toBe(1)
    expect(await readPartitions(memory(new Uint8Array(511)))).toBeUndefined()
  })

  it('cuts partitions at the end of the device, and none starts behind it', async () => {
    const image = blank()
    putMbr(image, 0, [
      { type: 0x83, start: 4000, size: 200 },
      { type: 0x83, start: 5000, size: 1 },
      { type: 0x83, start: 8, size: 8 },
    ])
    image.fill(7, 8 * 512, 16 * 512)
    const device = memory(image, 'disk')
    const table = await read(image)
    expect(codes(table)).toEqual(['PARTITION_BEYOND_END error', 'PARTITION_BEYOND_END error'])
    const [cut, outside, good] = table.partitions.map(p => p)
    expect(openPartition(device, cut!).size).toBe(96 * 512)
    expect(() => openPartition(device, outside!)).toThrow(LiveError)
    sameBytes(await openPartition(device, good!).read(0, 4096), new Uint8Array(4096).fill(7))
  })

  it('tells of shared bytes once for each partition', async () => {
    const image = blank()
    putMbr(image, 0, [
      { type: 0x83, start: 0, size: 4000 },
      { type: 0xef, start: 10, size: 10 },
      { type: 0x83, start: 20, size: 10 },
    ])
    expect(codes(await read(image))).toEqual(['PARTITIONS_OVERLAP note', 'PARTITIONS_OVERLAP note'])
  })
})

describe('readPartitions of a GPT', () => {
  const PARTS = [
    { first: 40n, last: 47n, name: 'LiveOS', attributes: 4n },
    { first: 100n, last: 100n },
  ]
  const gpt = (shape = {}): Uint8Array => {
    const image = blank()
    putGpt(image, PARTS, shape)
    return image
  }

  it.each([
    ['as usual', {}],
    ['with larger entries', { entrySize: 256, count: 64 }],
    ['with few entries', { count: 4 }],
    ['with a longer header', { headerSize: 512 }],
    ['with sectors of 4096 bytes', { sectorSize: 4096 }],
  ])('reads one %s', async (_, shape) => {
    const sectorSize = 'sectorSize' in shape ? (shape.sectorSize as number) : 512
    const table = await read(gpt(shape))
    expect(table).toMatchObject({
      scheme: 'gpt',
      sectorSize,
      id: '77777777-7777-7777-7777-777777777777',
      findings: [],
      partitions: [
        {
          number: 1,
          start: 40 * sectorSize,
          length: 8 * sectorSize,
          type: 'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7',
          typeName: 'Microsoft basic data',
          name: 'LiveOS',
          uuid: '01010101-0101-0101-0101-010101010101',
          legacyBoot: true,
        },
        { number: 2, start: 100 * sectorSize, length: sectorSize, name: undefined, legacyBoot: false },
      ],
    })
  })

  it.each([
    ['signature', 0],
    ['checksum', 16],
    ['disk id', 60],
    ['array', 512 + 33],
  ])('uses the backup where the primary has a bad %s, and is corrupt where both are', async (_, at) => {
    const image = gpt()
    const good = await read(image)
    image[512 + at]! ^= 1
    const table = await read(image)
    expect(codes(table)).toEqual(['GPT_PRIMARY_DAMAGED warning'])
    expect(table.partitions).toEqual(good.partitions)
    image[(SECTORS - 1) * 512 + 60]! ^= 1
    const error = await failure(read(image), 'CORRUPT')
    expect(error.data).toMatchObject({ device: 'disk' })
  })

  it('uses the backup where the primary can not be read', async () => {
    const image = gpt()
    const device = memory(image, 'disk')
    const broken = {
      ...device,
      read: async (offset: number, length: number) => {
        if (offset < 1024 && offset + length > 512) throw new LiveError('IO', 'bad sector')
        return device.read(offset, length)
      },
    }
    expect(codes((await readPartitions(broken))!)).toEqual(['GPT_PRIMARY_DAMAGED warning'])
  })

  it.each([
    ['HeaderSize', 12, 91],
    ['HeaderSize', 12, 513],
    ['MyLBA', 24, 2],
    ['SizeOfPartitionEntry', 84, 127],
    ['SizeOfPartitionEntry', 84, 64],
    ['SizeOfPartitionEntry', 84, 8192],
    ['NumberOfPartitionEntries', 80, 0],
    ['NumberOfPartitionEntries', 80, 0xffffffff],
    ['NumberOfPartitionEntries', 80, 32_769],
    ['PartitionEntryLBA', 72, 0],
    ['PartitionEntryLBA', 72, 4090],
    ['PartitionEntryLBA', 76, 0xffffffff],
  ])('refuses %s at %i of %i though the checksum is right', async (field, at, value) => {
    const image = gpt({ change: (header: DataView) => header.setUint32(at, value, true) })
    if (field === 'HeaderSize') for (const lba of [1, SECTORS - 1]) sealHeader(image, lba * 512, Math.min(value, 512))
    const error = await failure(read(image), 'CORRUPT')
    expect(error.data.field).toBe(`GPT ${field}`)
  })

  it('leaves out what can be no partition and tells so', async () => {
    const image = blank()
    putGpt(image, [
      { first: 50n, last: 49n },
      { first: 1n, last: 2n ** 64n - 1n },
      { first: 60n, last: 9000n },
      { first: 49n, last: 49n },
    ])
    const table = await read(image)
    expect(places(table)).toEqual(['3 primary 60+8941', '4 primary 49+1'])
    expect(codes(table)).toEqual(['PARTITION_INVALID error', 'PARTITION_INVALID error', 'PARTITION_BEYOND_END error'])
  })

  it('tells where the two copies differ', async () => {
    const image = gpt()
    image[512 + 56]! ^= 1
    sealHeader(image, 512)
    const table = await read(image)
    expect(table.findings).toMatchObject([{ code: 'GPT_COPIES_DIFFER', message: expect.stringContaining('DiskGUID') }])
  })

  it('without a protecting record: its own partitions, or those of the MBR', async () => {
    const image = gpt()
    image.fill(0, 0, 512)
    const bare = await read(image)
    expect([bare.scheme, ...codes(bare)]).toEqual(['gpt', 'GPT_UNPROTECTED warning'])
    putMbr(image, 0, [{ type: 0x83, start: 100, size: 9 }])
    const stale = await read(image)
    expect([stale.scheme, ...codes(stale), ...places(stale)]).toEqual([
      'hybrid',
      'GPT_UNPROTECTED note',
      '1 primary 100+9',
    ])
    expect(stale.hidden!.partitions.length).toBe(2)
    // both copies damaged
    image.fill(0, 512 + 16, 512 + 20)
    image.fill(0, (SECTORS - 1) * 512, SECTORS * 512)
    const damaged = await read(image)
    expect([damaged.scheme, ...codes(damaged)]).toEqual(['mbr', 'GPT_DAMAGED warning'])
  })

  it('has no table where only a backup is left, and none is protected', async () => {
    const image = gpt()
    image.fill(0, 0, 1024)
    expect(await readPartitions(memory(image))).toBeUndefined()
  })

  it('every truncation is a value or a LiveError', async () => {
    const image = gpt()
    for (const size of [
      0,
      1,
      511,
      512,
      513,
      600,
      1023,
      1024,
      1100,
      17_000,
      17_408,
      17_409,
      2_000_000,
      image.length - 1,
    ])
      await valueOrFailure(readPartitions(memory(image.subarray(0, size))))
  })
})

it('bits flipped in tables give a value or a LiveError, and no partition leaves the device', async () => {
  const numbers = random()
  const extended = blank()
  putMbr(extended, 0, [
    { type: 0x83, start: 1, size: 9 },
    { type: 0x05, start: 100, size: 1000 },
  ])
  for (let n = 0; n < 4; n++)
    putMbr(extended, (100 + n * 200) * 512, [
      { type: 0x83, start: 10, size: 20 },
      { type: 0x05, start: (n + 1) * 200, size: 100 },
    ])
  const gpt = blank()
  putGpt(gpt, [
    { first: 40n, last: 47n, name: 'A' },
    { first: 48n, last: 50n },
  ])
  const regions = [
    { image: extended, at: [440, 100 * 512 + 440, 300 * 512 + 440], length: 72, seal: false },
    { image: gpt, at: [440, 512, 512, 1024], length: 72, seal: false },
    { image: gpt, at: [512, 524, 560], length: 40, seal: true },
  ]
  let read = 0
  for (let turn = 0; turn < 3000; turn++) {
    const { image, at, length, seal } = regions[turn % regions.length]!
    const bytes = image.slice()
    for (let flips = 1 + numbers.below(4); flips > 0; flips--) {
      const where = at[numbers.below(at.length)]! + numbers.below(length)
      bytes[where]! ^= 1 << numbers.below(8)
    }
    if (seal) sealHeader(bytes, 512)
    const device = memory(bytes, `seed ${numbers.seed} turn ${turn}`)
    const table = await valueOrFailure(readPartitions(device))
    if (!table || table instanceof LiveError) continue
    read++
    for (const partition of [...table.partitions, ...(table.hidden?.partitions ?? [])]) {
      expect(Number.isSafeInteger(partition.start + partition.length), device.name).toBe(true)
      if (partition.start < device.size) await openPartition(device, partition).read(0, 1)
    }
  }
  expect(read).toBeGreaterThan(1000)
})
