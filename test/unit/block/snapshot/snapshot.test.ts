import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { extentsOf } from '../../../../src/block/device.js'
import { linear, slice } from '../../../../src/block/linear.js'
import { memory } from '../../../../src/block/memory.js'
import { snapshot } from '../../../../src/block/snapshot/snapshot.js'
import { readStore } from '../../../../src/block/snapshot/store.js'
import { zero } from '../../../../src/block/zero.js'
import { deviceContract } from '../../../contract/device.js'
import { collect } from '../../../support/collect.js'
import { countingDevice } from '../../../support/counting-device.js'
import { faultyDevice } from '../../../support/faulty-device.js'
import { failure, sameBytes } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'
import { type ChangedChunk, storeOf } from '../../../support/store-writer.js'

/** An origin, some of its chunks changed, and what both together show. */
const made = (originSize: number, oldChunks: readonly number[], chunkSectors: number, seed = 11) => {
  const numbers = random(seed)
  const chunkSize = chunkSectors * 512
  const origin = numbers.bytes(originSize)
  const changes: ChangedChunk[] = oldChunks.map(oldChunk => ({ oldChunk, content: numbers.bytes(chunkSize) }))
  const view = origin.slice()
  for (const { oldChunk, content } of changes)
    view.set(content.subarray(0, originSize - oldChunk * chunkSize), oldChunk * chunkSize)
  return {
    origin: memory(origin, 'base'),
    originBytes: origin,
    view,
    cow: memory(storeOf(changes, chunkSectors), 'overlay'),
  }
}

deviceContract('snapshot', async () => {
  const { origin, cow, view } = made(200 * 512 + 77, [5, 6, 7, 3, 200, 0, 199, 100, 9, 8], 1)
  return { device: await snapshot(origin, cow), bytes: view }
})
deviceContract('snapshot of many areas over an origin with holes', async () => {
  const { view, cow } = made(
    300 * 512,
    Array.from({ length: 150 }, (_, index) => (index * 7) % 150),
    1,
  )
  view.fill(0, 150 * 512)
  return { device: await snapshot(linear([{ length: 300 * 512 }], 'hole'), cow), bytes: view }
})
deviceContract('snapshot with a new store', async () => {
  const { origin, originBytes } = made(50_000, [], 8)
  return { device: await snapshot(origin, memory(new Uint8Array(100_000))), bytes: originBytes }
})

test('the view is the origin with the changes over it', async () => {
  const shape = fc.record({
    originSize: fc.integer({ min: 1, max: 40_000 }),
    chunkSectors: fc.constantFrom(1, 2, 8),
    order: fc.array(fc.nat(1000), { maxLength: 90 }),
  })
  await fc.assert(
    fc.asyncProperty(shape, fc.nat(), async ({ originSize, chunkSectors, order }, seed) => {
      const chunks = Math.ceil(originSize / (chunkSectors * 512))
      const { origin, originBytes, cow, view } = made(
        originSize,
        [...new Set(order.map(n => n % chunks))],
        chunkSectors,
        seed,
      )
      const before = new Uint8Array(originBytes)
      const device = await snapshot(origin, cow)
      expect(device.size).toBe(originSize)
      sameBytes(await device.read(0, originSize), view)
      const from = seed % originSize
      sameBytes(await device.read(from, originSize - from), view.subarray(from))
      sameBytes(originBytes, before)
    }),
  )
})

describe('snapshot', () => {
  test('reads chunks that follow each other in both as one', async () => {
    const { origin, cow, view } = made(100 * 512, [10, 11, 12, 13, 20, 22, 21], 1)
    const store = await readStore(cow)
    const counted = { origin: countingDevice(origin), cow: countingDevice(cow) }
    const device = await snapshot(counted.origin, counted.cow, { store })
    sameBytes(await device.read(10 * 512 + 5, 4 * 512 - 9), view.subarray(10 * 512 + 5, 14 * 512 - 4))
    expect([counted.origin.reads, counted.cow.reads, counted.cow.bytesRead]).toEqual([0, 1, 4 * 512 - 9])
    await device.read(0, 30 * 512)
    // the base in one piece, as little of it is covered; store 10-13, 20, 21 and 22
    expect([counted.origin.reads, counted.cow.reads]).toEqual([1, 1 + 4])
    await device.read(8 * 512, 14 * 512)
    // more than a quarter covered: base 8-9 and 14-19; store 10-13, 20 and 21
    expect([counted.origin.reads, counted.cow.reads]).toEqual([1 + 2, 5 + 3])
    expect(counted.origin.bytesRead + counted.cow.bytesRead).toBe((4 + 30 + 7 + 14) * 512 - 9)
  })

  test('a bad place of the base that chunks cover is no matter, any other is', async () => {
    const { origin, cow, view } = made(100 * 512, [10, 20], 1)
    const device = await snapshot(faultyDevice(origin, [{ from: 10 * 512, to: 11 * 512 }]), cow)
    sameBytes(await device.read(0, 30 * 512), view.subarray(0, 30 * 512))
    const other = await snapshot(faultyDevice(origin, [{ from: 11 * 512, to: 12 * 512 }]), cow)
    await failure(other.read(0, 30 * 512), 'IO')
  })

  test('reads nothing of the store for what was not changed', async () => {
    const { origin, cow, view } = made(100 * 512, [10], 1)
    const store = await readStore(cow)
    const device = await snapshot(origin, faultyDevice(cow, [{ from: 0, to: cow.size }]), { store })
    sameBytes(await device.read(0, 10 * 512), view.subarray(0, 10 * 512))
    await failure(device.read(10 * 512, 1), 'IO')
  })

  test('knows the holes of its origin, less what was written over them', async () => {
    const { cow } = made(100 * 512, [10, 11, 50], 1)
    const origin = linear(
      [{ length: 40 * 512 }, { length: 60 * 512, device: memory(new Uint8Array(60 * 512)) }],
      'base',
    )
    const device = await snapshot(origin, cow)
    expect(await collect(extentsOf(device))).toEqual([
      { offset: 0, length: 10 * 512, kind: 'hole' },
      { offset: 10 * 512, length: 2 * 512, kind: 'data' },
      { offset: 12 * 512, length: 28 * 512, kind: 'hole' },
      { offset: 40 * 512, length: 60 * 512, kind: 'data' },
    ])
  })

  test('refuses an invalid store, unless asked to look anyway', async () => {
    const { origin, cow, view } = made(100 * 512, [10, 11, 50], 1)
    await cow.write(4, new Uint8Array(4))
    const error = await failure(snapshot(origin, cow), 'CORRUPT')
    expect(error.data).toMatchObject({ device: 'overlay', field: 'valid', offset: 4, expected: 1, found: 0 })
    const store = await readStore(cow)
    await failure(snapshot(origin, cow, { store }), 'CORRUPT')
    for (const options of [{ ignoreInvalid: true }, { ignoreInvalid: true, store }]) {
      const device = await snapshot(origin, cow, options)
      expect(device.store.state).toBe('invalid')
      sameBytes(await device.read(0, device.size), view)
    }
  })

  test('shows no view of a list that could not be read', async () => {
    const { origin, cow } = made(100 * 512, [10, 11, 50], 1)
    await cow.write(4, new Uint8Array(4))
    await cow.write(512 + 8, new Uint8Array([1]))
    const store = await readStore(cow)
    for (const options of [{ ignoreInvalid: true }, { ignoreInvalid: true, store }])
      expect((await failure(snapshot(origin, cow, options), 'CORRUPT')).data.field).toBe('new_chunk')
    expect((await failure(snapshot(origin, cow, { store }), 'CORRUPT')).data.field).toBe('valid')
  })

  test('shows no view of a list that was cut, unless asked to look anyway', async () => {
    const { origin, cow } = made(
      100 * 512,
      Array.from({ length: 40 }, (_, index) => index),
      1,
    )
    const cut = slice(cow, 0, 34 * 512)
    const error = await failure(snapshot(origin, cut), 'CORRUPT')
    expect(error.data).toMatchObject({ field: 'size', offset: 34 * 512, expected: 'metadata area 1 before the end' })
    expect((await snapshot(origin, cut, { ignoreInvalid: true })).store.exceptions.count).toBe(32)
  })

  test('refuses the overlay of another base, also with a store read before', async () => {
    const { cow } = made(100 * 512, [10, 99, 50], 1)
    const store = await readStore(cow)
    for (const options of [{}, { store }]) {
      const error = await failure(snapshot(zero(99 * 512), cow, options), 'CORRUPT')
      expect(error.data).toMatchObject({ device: 'overlay', field: 'old_chunk', offset: 512 + 16, found: 99 })
      expect(error.message).toContain('another base')
    }
  })

  test('leaves origin and store open', async () => {
    const { origin, cow } = made(10_000, [1], 1)
    const counted = [countingDevice(origin), countingDevice(cow)] as const
    await (await snapshot(...counted)).close()
    expect(counted.map(({ closes }) => closes)).toEqual([0, 0])
  })

  test('is a device over a snapshot too', async () => {
    const first = made(20_000, [1, 5], 2)
    const second = made(20_000, [5, 7, 0], 1)
    const view = first.view.slice()
    for (const chunk of [5, 7, 0]) view.set(second.view.subarray(chunk * 512, (chunk + 1) * 512), chunk * 512)
    const device = await snapshot(await snapshot(first.origin, first.cow), second.cow)
    sameBytes(await device.read(0, 20_000), view)
  })
})
