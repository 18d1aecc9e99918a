import { describe, expect, test } from 'vitest'
import { cache } from '../../../src/block/cache.js'
import { isSparse } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { zero } from '../../../src/block/zero.js'
import { deviceContract } from '../../contract/device.js'
import { countingDevice } from '../../support/counting-device.js'
import { faultyDevice } from '../../support/faulty-device.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const content = random(3).bytes(50_000)

deviceContract('cache', async () => ({
  device: cache(memory(content), { blockSize: 4096, blocks: 4 }),
  bytes: content,
}))
deviceContract('cache of one block', async () => ({
  device: cache(memory(content), { blockSize: 777, blocks: 1 }),
  bytes: content,
}))
deviceContract('cache that reads ahead', async () => ({
  device: cache(memory(content), { blockSize: 1000, blocks: 8, readAhead: 3 }),
  bytes: content,
}))
deviceContract('cache of a hole', async () => ({ device: cache(zero(5000)), bytes: new Uint8Array(5000) }))

describe('cache', () => {
  test('fetches a block once for all readers', async () => {
    const device = countingDevice(memory(content))
    const cached = cache(device, { blockSize: 4096, blocks: 4 })
    await Promise.all(Array.from({ length: 20 }, () => cached.read(100, 200)))
    await cached.read(0, 4096)
    expect([device.reads, device.bytesRead]).toEqual([1, 4096])
  })

  test('gives up the block not used for longest', async () => {
    const device = countingDevice(memory(content))
    const cached = cache(device, { blockSize: 1000, blocks: 2 })
    for (const block of [0, 1, 0, 2, 0, 1]) await cached.read(block * 1000, 1)
    // 0 and 1 fetched, 2 in place of 1, then 1 again
    expect(device.reads).toBe(4)
  })

  test('forgets a fetch that failed', async () => {
    const faults = [{ from: 0, to: 10 }]
    const cached = cache(faultyDevice(memory(content), faults), { blockSize: 1000 })
    await Promise.all([failure(cached.read(500, 1), 'IO'), failure(cached.read(600, 1), 'IO')])
    faults.pop()
    sameBytes(await cached.read(500, 1), content.subarray(500, 501))
  })

  test('fetches ahead of a sequential reader, and only of one', async () => {
    const device = countingDevice(memory(content))
    const cached = cache(device, { blockSize: 1000, blocks: 20, readAhead: 4 })
    await cached.read(30_000, 1000)
    expect(device.reads).toBe(1)
    await cached.read(10_000, 1000)
    expect(device.reads).toBe(2)
    await cached.read(11_000, 1000)
    expect(device.reads).toBe(7)
    expect(device.mostAtOnce).toBe(5)
    await cached.read(12_000, 4000)
    // 12 to 15 were there; 16 to 19 are fetched now
    expect(device.reads).toBe(11)
    await cached.read(49_000, 1000)
    await cached.read(49_000, 1000)
    expect(device.reads).toBe(12)
  })

  test('is not disturbed by a failure of what it reads ahead', async () => {
    const cached = cache(faultyDevice(memory(content), [{ from: 2000, to: 3000 }]), {
      blockSize: 1000,
      blocks: 10,
      readAhead: 5,
    })
    await cached.read(0, 1000)
    await cached.read(1000, 1000)
    await new Promise(setImmediate)
    await failure(cached.read(2000, 1), 'IO')
    sameBytes(await cached.read(3000, 10), content.subarray(3000, 3010))
  })

  test('knows holes where its device does, and leaves it open', async () => {
    expect(isSparse(cache(zero(10)))).toBe(true)
    expect(isSparse(cache(memory(content)))).toBe(false)
    const device = countingDevice(memory(content))
    await cache(device).close()
    expect(device.closes).toBe(0)
  })
})
