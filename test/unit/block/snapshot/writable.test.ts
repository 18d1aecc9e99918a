import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { extentsOf, type WritableDevice } from '../../../../src/block/device.js'
import { linear } from '../../../../src/block/linear.js'
import { memory } from '../../../../src/block/memory.js'
import { salvageStore } from '../../../../src/block/snapshot/salvage.js'
import { snapshot } from '../../../../src/block/snapshot/snapshot.js'
import { statusLine } from '../../../../src/block/snapshot/status.js'
import { readStore } from '../../../../src/block/snapshot/store.js'
import { createStore, openWritableSnapshot } from '../../../../src/block/snapshot/writable.js'
import { LiveError } from '../../../../src/error.js'
import { deviceContract, writableDeviceContract } from '../../../contract/device.js'
import { collect } from '../../../support/collect.js'
import { countingDevice } from '../../../support/counting-device.js'
import { cpuOf } from '../../../support/cpu.js'
import { type Fault, faultyWritable } from '../../../support/faulty-device.js'
import { failure, sameBytes } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'
import { type LogEntry, recordingDevice } from '../../../support/recording-device.js'
import { storeOf } from '../../../support/store-writer.js'

/** A medium full of garbage, with an empty store written over it. */
const emptyStore = async (chunks: number, chunkSectors: number): Promise<WritableDevice> => {
  const cow = memory(random(7).bytes(chunks * chunkSectors * 512), 'overlay')
  await createStore(cow, { chunkSectors })
  return cow
}
const originOf = (size: number, seed = 3): Uint8Array => random(seed).bytes(size)

deviceContract('writable snapshot', async () => {
  const bytes = originOf(200 * 512 + 77)
  const device = await openWritableSnapshot(memory(bytes.slice(), 'base'), await emptyStore(400, 1))
  const { below, bytes: content } = random(5)
  for (let n = 0; n < 60; n++) {
    const offset = below(bytes.length)
    const part = content(Math.min(below(2000), bytes.length - offset))
    await device.write(offset, part)
    bytes.set(part, offset)
  }
  return { device, bytes }
})
deviceContract('writable snapshot over an origin with holes', async () => {
  const bytes = new Uint8Array(100 * 4096)
  const device = await openWritableSnapshot(linear([{ length: bytes.length }], 'hole'), await emptyStore(110, 8))
  bytes.fill(7, 5 * 4096 + 100, 9 * 4096)
  await device.write(5 * 4096 + 100, bytes.slice(5 * 4096 + 100, 9 * 4096))
  return { device, bytes }
})
for (const chunkSectors of [1, 8, 64])
  writableDeviceContract(`writable snapshot with chunks of ${chunkSectors} sectors`, async () => {
    const bytes = originOf(30_001)
    return {
      device: await openWritableSnapshot(memory(bytes.slice()), await emptyStore(80, chunkSectors)),
      bytes,
    }
  })

const fields = ({ exceptions, ...counts }: Awaited<ReturnType<typeof readStore>>) => ({
  ...counts,
  count: exceptions.count,
  range: [...exceptions.range()],
  stored: [...exceptions.stored()],
})

describe('createStore', () => {
  test.each([1, 2, 8, 256, 2048])(
    'writes an empty store with chunks of %i sectors over garbage',
    async chunkSectors => {
      const cow = await emptyStore(4, chunkSectors)
      expect(await readStore(cow)).toMatchObject({ state: 'ok', chunkSectors, nextFreeChunk: 2, full: false })
      expect((await readStore(cow)).exceptions.count).toBe(0)
    },
  )

  test('takes what was there away before it says what is there now', async () => {
    const log: LogEntry[] = []
    const cow = recordingDevice(memory(storeOf([{ oldChunk: 1, content: new Uint8Array(512) }], 1)), log)
    await createStore(cow, { chunkSectors: 2 })
    expect(log.map(({ kind }) => kind)).toEqual(['write', 'flush', 'write', 'flush', 'write', 'flush'])
    log.length = 0
    await createStore(recordingDevice(memory(new Uint8Array(9000)), log))
    expect(log.map(({ kind }) => kind)).toEqual(['write', 'flush', 'write', 'flush'])
  })

  test('needs two chunks of room', async () => {
    await failure(createStore(memory(new Uint8Array(8191))), 'NO_SPACE')
    await createStore(memory(new Uint8Array(8192)))
    await expect(createStore(memory(new Uint8Array(8192)), { chunkSectors: 3 })).rejects.toThrow('liveos bug')
  })
})

/** One thing that a test does. */
type Action =
  | { readonly kind: 'write'; readonly at: number; readonly length: number }
  | { readonly kind: 'writes'; readonly at: readonly number[]; readonly length: number }
  | { readonly kind: 'flush' | 'reopen' }

const actions = (): fc.Arbitrary<Action[]> =>
  fc.array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('write' as const),
          at: fc.nat(),
          length: fc.oneof(fc.nat(700), fc.nat(9000)),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant('writes' as const),
          at: fc.array(fc.nat(), { minLength: 2, maxLength: 9 }),
          length: fc.integer({ min: 1, max: 1500 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('flush' as const, 'reopen' as const) }) },
    ),
    { maxLength: 25 },
  )

test('a writable snapshot is a plain array, whatever is written, flushed and opened again', async () => {
  const shape = fc.record({
    originSize: fc.integer({ min: 1, max: 70_000 }),
    chunkSectors: fc.constantFrom(1, 2, 4, 8, 32),
    seed: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(shape, actions(), async ({ originSize, chunkSectors, seed }, done) => {
      const { bytes } = random(seed)
      const originBytes = bytes(originSize)
      const model = originBytes.slice()
      const before = originBytes.slice()
      const origin = memory(originBytes, 'base')
      const chunks = Math.ceil(originSize / (chunkSectors * 512))
      const perArea = chunkSectors * 32
      const cow = memory(bytes((chunks + Math.ceil(chunks / perArea) + 4) * chunkSectors * 512), 'overlay')
      await createStore(cow, { chunkSectors })
      let device = await openWritableSnapshot(origin, cow, { commitBytes: 40_000 })
      const put = async (at: number, length: number) => {
        const offset = at % originSize
        const content = bytes(Math.min(length, originSize - offset))
        model.set(content, offset)
        await device.write(offset, content)
      }
      for (const action of done) {
        if (action.kind === 'write') await put(action.at, action.length)
        else if (action.kind === 'writes') {
          // writes at once, of which no two touch: which of two comes last nobody knows
          const slots = [...new Set(action.at.map(n => n % Math.ceil(originSize / action.length)))]
          await Promise.all(slots.map(slot => put(slot * action.length, action.length)))
        } else {
          await device.flush()
          const store = await readStore(cow, { originSize })
          expect(fields(device.store)).toEqual(fields(store))
          expect(statusLine(device.store, originSize)).toBe(statusLine(store, originSize))
          sameBytes(await (await snapshot(origin, cow)).read(0, originSize), model)
          if (action.kind === 'reopen') device = await openWritableSnapshot(origin, cow, { commitBytes: 40_000 })
        }
        sameBytes(await device.read(0, originSize), model)
      }
      await device.close()
      sameBytes(await (await snapshot(origin, cow)).read(0, originSize), model)
      sameBytes(originBytes, before)
    }),
    { numRuns: 150 },
  )
})

describe('a store fills up', () => {
  /** Writes single chunks until there is no room. */
  const fill = async (chunkCount: number, chunkSectors: number, slack = 0) => {
    const chunkSize = chunkSectors * 512
    const origin = memory(originOf(chunkCount * chunkSize))
    const cow = memory(random(9).bytes(chunkCount * chunkSize + slack), 'overlay')
    await createStore(cow, { chunkSectors })
    const device = await openWritableSnapshot(origin, cow)
    let count = 0
    try {
      for (; ; count++) await device.write(count * chunkSize, new Uint8Array(chunkSize).fill(count + 1))
    } catch (error) {
      expect(error).toMatchObject({ code: 'NO_SPACE' })
    }
    return { origin, cow, device, count, chunkSize }
  }

  test.each([
    // chunks of the store, sectors of a chunk, exceptions that it takes
    [2, 8, 0],
    [3, 8, 1],
    [100, 8, 98],
    [257, 8, 255],
    // the 256th would fill the area, and the next one lies past the end
    [258, 8, 255],
    [259, 8, 256],
    [260, 8, 257],
    [515, 8, 511],
    [516, 8, 512],
    [33, 1, 31],
    [34, 1, 31],
    [35, 1, 32],
    [36, 1, 33],
    [68, 1, 64],
    [67, 1, 63],
  ])('one of %i chunks of %i sectors takes %i exceptions', async (chunkCount, chunkSectors, most) => {
    const { origin, cow, device, count, chunkSize } = await fill(chunkCount, chunkSectors, 300)
    expect(count).toBe(most)
    expect(device.store.full).toBe(true)
    // what it has goes on changing
    if (count > 0) await device.write(5, Uint8Array.of(1, 2, 3))
    await device.flush()
    const store = await readStore(cow)
    expect(store).toMatchObject({ state: 'ok', full: true, truncated: false })
    expect(store.exceptions.count).toBe(most)
    const again = await openWritableSnapshot(origin, cow)
    await failure(again.write(count * chunkSize, Uint8Array.of(1)), 'NO_SPACE')
    const expected = originOf(chunkCount * chunkSize)
    for (let n = 0; n < count; n++) expected.fill(n + 1, n * chunkSize, (n + 1) * chunkSize)
    if (count > 0) expected.set([1, 2, 3], 5)
    sameBytes(await again.read(0, expected.length), expected)
  })

  test('a write that does not fit as a whole changes nothing', async () => {
    const origin = memory(originOf(50 * 512))
    const cow = await emptyStore(12, 1)
    const device = await openWritableSnapshot(origin, cow)
    await failure(device.write(100, new Uint8Array(11 * 512)), 'NO_SPACE')
    sameBytes(await device.read(0, 50 * 512), originOf(50 * 512))
    await device.write(0, new Uint8Array(10 * 512))
    expect(device.store).toMatchObject({ full: true, nextFreeChunk: 12 })
  })
})

describe('what is behind the list', () => {
  test('in its area never comes to life', async () => {
    // a writer that was cut left the second sector of a commit and not the first: entries 32 to 39 behind an end at 20
    const changes = Array.from({ length: 40 }, (_, n) => ({ oldChunk: 100 + n, content: new Uint8Array(4096).fill(n) }))
    const bytes = storeOf(changes, 8, 300)
    bytes.fill(0, 4096 + 20 * 16, 4096 + 32 * 16)
    const origin = memory(originOf(400 * 4096))
    const cow = memory(bytes, 'overlay')
    const device = await openWritableSnapshot(origin, cow)
    expect(device.store.exceptions.count).toBe(20)
    for (let n = 0; n < 12; n++) {
      await device.write(n * 4096, new Uint8Array(4096).fill(0xaa))
      await device.flush()
      expect((await readStore(cow)).exceptions.count).toBe(21 + n)
    }
  })

  test('as an area from before a reset never comes to life', async () => {
    const changes = Array.from({ length: 700 }, (_, n) => ({
      oldChunk: 1000 + n,
      content: new Uint8Array(4096).fill(n),
    }))
    const bytes = storeOf(changes, 8, 300)
    // what dracut does to reset an overlay
    bytes.fill(0, 0, 65536)
    const origin = memory(new Uint8Array(2000 * 4096))
    const cow = memory(bytes, 'overlay')
    const device = await openWritableSnapshot(origin, cow)
    for (let n = 0; n < 520; n++) {
      await device.write(n * 4096, new Uint8Array(4096).fill(0xaa))
      if (n % 50 === 0 || (n > 250 && n < 260)) {
        await device.flush()
        expect((await readStore(cow)).exceptions.count).toBe(n + 1)
      }
    }
  })
})

describe('a store is refused', () => {
  const changes = Array.from({ length: 256 }, (_, n) => ({ oldChunk: n, content: new Uint8Array(4096) }))
  const opened = (bytes: Uint8Array, originSize = 300 * 4096) =>
    openWritableSnapshot(memory(new Uint8Array(originSize)), memory(bytes, 'overlay'))

  test('that is invalid', async () => {
    const bytes = storeOf(changes, 8)
    bytes[4] = 0
    expect((await failure(opened(bytes), 'CORRUPT')).data).toMatchObject({ field: 'valid' })
  })
  test('that was cut short', async () => {
    const bytes = storeOf(changes, 8, 0).slice(0, 258 * 4096)
    expect((await failure(opened(bytes), 'CORRUPT')).data).toMatchObject({ field: 'size' })
  })
  test('that is damaged, or of another base', async () => {
    const bytes = storeOf(changes, 8)
    bytes[4096 + 8] = 1
    expect((await failure(opened(bytes), 'CORRUPT')).data).toMatchObject({ field: 'new_chunk' })
    expect((await failure(opened(storeOf(changes, 8), 255 * 4096), 'CORRUPT')).data).toMatchObject({
      field: 'old_chunk',
    })
    await failure(opened(Uint8Array.of(1, 2, 3)), 'CORRUPT')
  })
  test('and nothing is written to it', async () => {
    const bytes = storeOf(changes, 8)
    bytes[4] = 0
    const log: LogEntry[] = []
    await failure(
      openWritableSnapshot(memory(new Uint8Array(300 * 4096)), recordingDevice(memory(bytes), log)),
      'CORRUPT',
    )
    await openWritableSnapshot(memory(new Uint8Array(300 * 4096)), recordingDevice(memory(storeOf(changes, 8)), log))
    expect(log).toEqual([])
  })
})

describe('commits', () => {
  test('many writes and flushes at once make few of them', async () => {
    const log: LogEntry[] = []
    const cow = recordingDevice(await emptyStore(400, 8), log)
    const device = await openWritableSnapshot(memory(new Uint8Array(300 * 4096)), cow)
    await Promise.all(
      Array.from({ length: 100 }, async (_, n) => {
        await device.write(n * 8192, new Uint8Array(4096).fill(n))
        await device.flush()
      }),
    )
    expect(log.filter(({ kind }) => kind === 'flush').length).toBeLessThan(14)
    expect((await readStore(cow)).exceptions.count).toBe(100)
    log.length = 0
    await device.flush()
    expect(log).toEqual([])
    await device.write(0, Uint8Array.of(1))
    await device.flush()
    expect(log.map(({ kind }) => kind)).toEqual(['write', 'flush'])
    await device.write(4096, Uint8Array.of(1))
    await device.flush()
    expect(log.map(({ kind }) => kind)).toEqual(['write', 'flush', 'write', 'flush', 'write', 'flush'])
  })

  test('come by themselves when much waits', async () => {
    const cow = await emptyStore(400, 8)
    const device = await openWritableSnapshot(memory(new Uint8Array(300 * 4096)), cow, { commitBytes: 64 * 4096 })
    for (let n = 0; n < 130; n++) await device.write(n * 4096, Uint8Array.of(1))
    expect((await readStore(cow)).exceptions.count).toBe(128)
    await device.close()
    expect((await readStore(cow)).exceptions.count).toBe(130)
  })

  test('write whole sectors that hold the earlier exceptions unchanged', async () => {
    const log: LogEntry[] = []
    const memoryCow = await emptyStore(400, 8)
    const cow = recordingDevice(memoryCow, log)
    const device = await openWritableSnapshot(memory(new Uint8Array(300 * 4096)), cow)
    for (let n = 0; n < 40; n++) await device.write(n * 4096, new Uint8Array(4096))
    await device.flush()
    const before = await memoryCow.read(4096, 512 * 2)
    log.length = 0
    await device.write(50 * 4096, new Uint8Array(4096))
    await device.flush()
    const entry = log.at(-2)!
    if (entry.kind !== 'write') throw new Error('no write')
    expect([entry.offset, entry.bytes.length]).toEqual([4096 + 512, 512])
    sameBytes(entry.bytes.subarray(0, 8 * 16), before.subarray(512, 512 + 8 * 16))
  })
})

test('a run of whole chunks is written as one, and the origin is not read for it', async () => {
  const origin = countingDevice(memory(new Uint8Array(200 * 4096)))
  const log: LogEntry[] = []
  const device = await openWritableSnapshot(origin, recordingDevice(await emptyStore(220, 8), log))
  log.length = 0
  await device.write(4096, new Uint8Array(100 * 4096).fill(1))
  expect(origin.bytesRead).toBe(0)
  expect(log.length).toBe(1)
  expect(await collect(extentsOf(device, 4096, 4096))).toEqual([{ offset: 4096, length: 4096, kind: 'data' }])
  await device.write(150 * 4096 + 10, new Uint8Array(4096))
  expect(origin.bytesRead).toBe(4096)
})

describe('the list is in the order of the chunks of the store, whichever write ends first', () => {
  const ascending = async (cow: WritableDevice): Promise<number> => {
    const chunks = Array.from((await readStore(cow)).exceptions.stored(), ({ newChunk }) => newChunk)
    expect(chunks.filter((chunk, n) => chunk < (chunks[n - 1] ?? 0))).toEqual([])
    return chunks.length
  }
  /** A store whose writes at these offsets wait until they are let go. */
  const held = (under: WritableDevice) => {
    const gates = new Map<number, Promise<void>>()
    const hold = (offset: number): (() => void) => {
      let open = (): void => undefined
      gates.set(
        offset,
        new Promise(resolve => {
          open = () => {
            gates.delete(offset)
            resolve()
          }
        }),
      )
      return open
    }
    const cow: WritableDevice = {
      ...under,
      async write(offset, bytes) {
        await gates.get(offset)
        await under.write(offset, bytes)
      },
    }
    return { cow, hold }
  }
  const settle = () => new Promise(resolve => setTimeout(resolve, 5))

  test('a flush waits for writes before those that it commits, and for no others', async () => {
    const under = await emptyStore(400, 8)
    const { cow, hold } = held(under)
    const device = await openWritableSnapshot(memory(new Uint8Array(300 * 4096)), cow)
    const [letFirst, letLast] = [hold(2 * 4096), hold(4 * 4096)]
    const first = device.write(0, new Uint8Array(4096).fill(1))
    await device.write(8192, new Uint8Array(4096).fill(2))
    const last = device.write(40960, new Uint8Array(4096).fill(3))
    const flushed = device.flush()
    await settle()
    expect((await readStore(under)).exceptions.count).toBe(0)
    letFirst()
    await first
    await flushed
    expect(await ascending(under)).toBe(2)
    letLast()
    await last
    await device.close()
    expect(await ascending(under)).toBe(3)
  })

  test('room of a failed write that others went past stays unused; they are committed', async () => {
    const under = await emptyStore(12, 1)
    const faults: Fault[] = [{ from: 3 * 512, to: 4 * 512 }]
    const { cow, hold } = held(faultyWritable(under, faults))
    const device = await openWritableSnapshot(memory(originOf(50 * 512)), cow)
    const let3 = hold(3 * 512)
    await device.write(0, new Uint8Array(512).fill(1))
    const fails = failure(device.write(512, new Uint8Array(512).fill(2)), 'IO')
    await device.write(1024, new Uint8Array(512).fill(3))
    const flushed = device.flush()
    await settle()
    let3()
    await fails
    await flushed
    faults.length = 0
    expect(await ascending(under)).toBe(2)
    for (let n = 10; n < 17; n++) await device.write(n * 512, new Uint8Array(512).fill(n))
    await failure(device.write(30 * 512, new Uint8Array(512)), 'NO_SPACE')
    await device.flush()
    expect(await ascending(under)).toBe(9)
    sameBytes(
      await (await snapshot(memory(originOf(50 * 512)), under)).read(0, 50 * 512),
      await device.read(0, 50 * 512),
    )
  })

  test('room of a failed write is taken again as long as no commit went past it', async () => {
    const under = await emptyStore(12, 1)
    const faults: Fault[] = [{ from: 2 * 512, to: 3 * 512 }]
    const device = await openWritableSnapshot(memory(originOf(50 * 512)), faultyWritable(under, faults))
    const two = [device.write(0, new Uint8Array(512)), device.write(512, new Uint8Array(512))]
    await failure(two[0]!, 'IO')
    await two[1]
    faults.length = 0
    await device.write(20 * 512, new Uint8Array(9 * 512).fill(5))
    await device.flush()
    expect(await ascending(under)).toBe(10)
  })

  test('writes, failures and flushes at random, many at once', async () => {
    const { seed, below } = random()
    const under = await emptyStore(2200, 1)
    const cow: WritableDevice = {
      ...under,
      async write(offset, bytes) {
        for (let n = below(40); n > 0; n--) await Promise.resolve()
        if (offset >= 1024 && below(30) === 0) throw new LiveError('IO', 'injected')
        await under.write(offset, bytes)
      },
    }
    const origin = originOf(2000 * 512)
    const device = await openWritableSnapshot(memory(origin), cow, { commitBytes: 100 * 512 })
    const model = origin.slice()
    const put = async (chunk: number, count: number, value: number): Promise<void> => {
      const bytes = new Uint8Array(count * 512).fill(value)
      const wrote = await device.write(chunk * 512, bytes).then(
        () => true,
        () => false,
      )
      if (wrote) model.set(bytes, chunk * 512)
      else model.set(await device.read(chunk * 512, bytes.length), chunk * 512)
    }
    for (let round = 0; round < 60; round++) {
      const places = new Set(Array.from({ length: 12 }, () => below(250)))
      await Promise.all([
        ...Array.from(places, (place, n) => put(place * 8, 1 + below(8), round * 4 + n)),
        device.flush().catch(() => undefined),
      ])
      if (round % 9 === 0) {
        await device.flush().catch(() => undefined)
        await ascending(under)
      }
    }
    const ends = async (): Promise<void> => device.flush().catch(ends)
    await ends()
    expect(await ascending(under), `seed ${seed}`).toBe(device.store.exceptions.count)
    expect(fields(device.store)).toEqual(fields(await readStore(under)))
    sameBytes(await (await snapshot(memory(origin), under)).read(0, origin.length), model)
  })

  test('so a large copy whose first part is late is in order for who looks for damage', async () => {
    const cow = memory(new Uint8Array(40 << 20), 'overlay')
    await createStore(cow)
    const { cow: slow, hold } = held(cow)
    const device = await openWritableSnapshot(memory(new Uint8Array(32 << 20)), slow)
    const go = hold(2 * 4096)
    const parts = [0, 1].map(n => device.write(n * (16 << 20), new Uint8Array(16 << 20).fill(n + 1)))
    await parts[1]
    go()
    await parts[0]
    await device.close()
    expect(await salvageStore(cow, { originSize: 32 << 20 })).toMatchObject({ damage: 'clean', lostCount: 0 })
    expect(await ascending(cow)).toBe(8192)
  })
})

test('two writes to one chunk at once both count', async () => {
  const device = await openWritableSnapshot(memory(originOf(8192)), await emptyStore(20, 8))
  await Promise.all(Array.from({ length: 64 }, (_, n) => device.write(n * 64, new Uint8Array(64).fill(n))))
  const expected = originOf(8192)
  for (let n = 0; n < 64; n++) expected.fill(n, n * 64, n * 64 + 64)
  sameBytes(await device.read(0, 8192), expected)
  expect(device.store.exceptions.count).toBe(1)
})

describe('a medium that fails', () => {
  test('a write that failed gives its room back; what was accepted stays', async () => {
    const faults: Fault[] = []
    const cow = faultyWritable(await emptyStore(12, 1), faults)
    const device = await openWritableSnapshot(memory(originOf(50 * 512)), cow)
    await device.write(0, new Uint8Array(512).fill(1))
    faults.push({ from: 5 * 512, to: 6 * 512 })
    await device.write(512, new Uint8Array(1024).fill(2))
    for (let n = 0; n < 20; n++) await failure(device.write(5 * 512, new Uint8Array(512)), 'IO')
    faults.length = 0
    for (let n = 10; n < 17; n++) await device.write(n * 512, new Uint8Array(512).fill(n))
    await failure(device.write(0, new Uint8Array(50 * 512)), 'NO_SPACE')
    await device.flush()
    const view = await (await snapshot(memory(originOf(50 * 512)), cow)).read(0, 50 * 512)
    sameBytes(view, await device.read(0, 50 * 512))
    const expected = originOf(50 * 512)
    expected.fill(1, 0, 512)
    expected.fill(2, 512, 1536)
    for (let n = 10; n < 17; n++) expected.fill(n, n * 512, (n + 1) * 512)
    sameBytes(view, expected)
  })

  test('metadata that could not be written is written by the next flush', async () => {
    const faults: Fault[] = []
    const under = await emptyStore(100, 1)
    const device = await openWritableSnapshot(memory(originOf(80 * 512)), faultyWritable(under, faults))
    for (let n = 0; n < 40; n++) await device.write(n * 512, new Uint8Array(512).fill(n))
    faults.push({ from: 34 * 512, to: 35 * 512 })
    await failure(device.flush(), 'IO')
    await device.write(60 * 512, new Uint8Array(512).fill(60))
    expect((await readStore(under)).state).toBe('ok')
    faults.length = 0
    await device.flush()
    expect((await readStore(under)).exceptions.count).toBe(41)
    sameBytes(
      await (await snapshot(memory(originOf(80 * 512)), under)).read(0, 80 * 512),
      await device.read(0, 80 * 512),
    )
  })

  test('the area that follows could not be cleared: the write that needs it fails, all else is kept', async () => {
    const faults: Fault[] = [{ from: 34 * 512, to: 35 * 512 }]
    const under = await emptyStore(100, 1)
    const device = await openWritableSnapshot(memory(originOf(80 * 512)), faultyWritable(under, faults))
    for (let n = 0; n < 31; n++) await device.write(n * 512, new Uint8Array(512).fill(n))
    await failure(device.write(31 * 512, new Uint8Array(512)), 'IO')
    await failure(device.write(32 * 512, new Uint8Array(512)), 'IO')
    await device.flush()
    expect((await readStore(under)).exceptions.count).toBe(31)
    faults.length = 0
    await device.write(32 * 512, new Uint8Array(512).fill(32))
    await device.flush()
    expect((await readStore(under)).exceptions.count).toBe(32)
  })

  test('after a flush that failed nothing is promised any more', async () => {
    const under = await emptyStore(100, 1)
    let broken = false
    const cow: WritableDevice = {
      ...under,
      async flush() {
        if (broken) throw new LiveError('IO', 'injected')
        await under.flush()
      },
    }
    const device = await openWritableSnapshot(memory(originOf(80 * 512)), cow)
    await device.write(0, new Uint8Array(512).fill(1))
    broken = true
    await failure(device.flush(), 'IO')
    broken = false
    await failure(device.flush(), 'IO')
    await failure(device.write(0, new Uint8Array(512)), 'IO')
    sameBytes(await device.read(0, 512), new Uint8Array(512).fill(1))
    expect((await readStore(under)).exceptions.count).toBe(0)
  })
})

test('random chunks go to the store at a steady pace', async () => {
  const chunks = 60_000
  const cow = await emptyStore(chunks + 2000, 1)
  const device = await openWritableSnapshot(memory(new Uint8Array(chunks * 512)), cow)
  const { below } = random(1)
  const content = new Uint8Array(512).fill(1)
  const ms = await cpuOf(async () => {
    for (let n = 0; n < chunks; n++) {
      await device.write(below(chunks) * 512, content)
      if (n % 64 === 0) await device.flush()
    }
  })
  expect(ms).toBeLessThan(8000)
})
