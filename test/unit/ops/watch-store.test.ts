import { describe, expect, it } from 'vitest'
import type { Device } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { readStore } from '../../../src/block/snapshot/store.js'
import { isLiveError } from '../../../src/error.js'
import { readTail, type StoreTail } from '../../../src/ops/watch-store.js'
import { countingDevice } from '../../support/counting-device.js'
import { kernelFixtures } from '../../support/kernel-fixtures.js'
import { failure } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { storeOf } from '../../support/store-writer.js'

const { below, seed, bytes: randomBytes } = random()
const CHUNK_SECTORS = 1
const CHUNK = 512
const changes = Array.from({ length: 200 }, (_, n) => ({ oldChunk: (n * 7) % 1000, content: new Uint8Array(CHUNK) }))
/** a store after so many changes, of one size always */
const after = (count: number): Uint8Array => {
  const bytes = storeOf(changes.slice(0, count), CHUNK_SECTORS)
  const whole = new Uint8Array(300 * CHUNK)
  whole.set(bytes.subarray(0, whole.length))
  return whole
}
/** The numbers of a full reading. */
const fully = async (cow: Device) => {
  const { state, chunkSectors, allocatedSectors, totalSectors, metadataSectors, full, truncated } = await readStore(cow)
  return { state, chunkSectors, allocatedSectors, totalSectors, metadataSectors, full, truncated }
}

describe('what the kernel made', () => {
  for (const fixture of kernelFixtures())
    for (const image of fixture.images.filter(name => name.includes('cow')))
      it(`${fixture.name} ${image}`, async () => {
        const cow = memory(await fixture.image(image), image)
        const whole = await fully(cow)
        const first = await readTail(cow)
        // of one that was given up nothing is counted: its list leads nowhere any more
        if (whole.state === 'invalid') expect(first.state).toBe('invalid')
        else expect(first).toMatchObject(whole)
        expect(await readTail(cow, first.tail)).toEqual(first)
      })
})

it('follows a store that fills, and reads next to nothing for it', async () => {
  let tail: StoreTail | undefined
  for (const count of [0, 1, 5, 31, 32, 33, 63, 64, 70, 128, 160, 200]) {
    const counting = countingDevice(memory(after(count), 'cow'))
    const found = await readTail(counting, tail)
    const { tail: next, ...numbers } = found
    expect(numbers, `after ${count}`).toEqual(await fully(memory(after(count), 'cow')))
    const before = tail?.exceptionCount ?? 0
    const areas = Math.floor(count / 32) - Math.floor(before / 32) + 1
    expect(counting.reads, `after ${count}`).toBeLessThanOrEqual(2 + areas)
    expect(counting.bytesRead).toBeLessThanOrEqual(16 + 16 + areas * CHUNK)
    tail = next
  }
})

it('one look after another at a large store: three small reads', async () => {
  const many = Array.from({ length: 5000 }, (_, oldChunk) => ({ oldChunk, content: new Uint8Array(4096) }))
  const cow = countingDevice(memory(storeOf(many, 8), 'cow'))
  const { tail } = await readTail(cow)
  cow.reads = 0
  cow.bytesRead = 0
  await readTail(cow, tail)
  expect([cow.reads, cow.bytesRead <= 4096 + 32]).toEqual([3, true])
})

it('a store that was emptied, merged back, or replaced is read anew', async () => {
  const { tail } = await readTail(memory(after(100), 'cow'))
  for (const now of [0, 1, 40, 99, 100, 101]) {
    const { tail: _, ...numbers } = await readTail(memory(after(now), 'cow'), tail)
    expect(numbers, `now ${now}`).toEqual(await fully(memory(after(now), 'cow')))
  }
  const other = storeOf(
    changes.slice(0, 150).map(({ oldChunk, content }) => ({ oldChunk: oldChunk + 1, content })),
    CHUNK_SECTORS,
  )
  expect(await readTail(memory(other, 'cow'), tail)).toMatchObject(await fully(memory(other, 'cow')))
  const larger = storeOf([{ oldChunk: 3, content: new Uint8Array(4096) }], 8, 8)
  expect(await readTail(memory(larger, 'cow'), tail)).toMatchObject({ chunkSectors: 8, allocatedSectors: 24 })
  const zero = new Uint8Array(65536)
  expect(await readTail(memory(zero, 'cow'), tail)).toMatchObject({ state: 'new', allocatedSectors: 16 })
  const short = after(100).subarray(0, 40 * CHUNK)
  await failure(readTail(memory(short, 'cow'), tail), 'CORRUPT')
})

it('chunks in any order: the highest counts, wherever it stands', async () => {
  const bytes = after(3)
  const view = new DataView(bytes.buffer)
  for (const [index, chunk] of [200, 7, 9].entries()) view.setBigUint64(CHUNK + index * 16 + 8, BigInt(chunk), true)
  const { tail, ...numbers } = await readTail(memory(bytes, 'cow'))
  expect(numbers).toEqual(await fully(memory(bytes, 'cow')))
  expect(numbers.allocatedSectors).toBe(201)
  view.setBigUint64(CHUNK + 3 * 16 + 8, 10n, true)
  expect((await readTail(memory(bytes, 'cow'), tail)).allocatedSectors).toBe(201)
})

it('what is no store, or leads nowhere: CORRUPT', async () => {
  await failure(readTail(memory(new Uint8Array(100), 'cow')), 'CORRUPT')
  await failure(readTail(memory(new Uint8Array(4096).fill(7), 'cow')), 'CORRUPT')
  for (const chunk of [1, 34, 300, 2 ** 40]) {
    const bytes = after(3)
    new DataView(bytes.buffer).setBigUint64(CHUNK + 8, BigInt(chunk), true)
    expect((await failure(readTail(memory(bytes, 'cow')), 'CORRUPT')).data).toMatchObject({
      field: 'new_chunk',
      offset: CHUNK + 8,
    })
  }
  // the header of a chunk that is larger than the store
  const bytes = after(3)
  new DataView(bytes.buffer).setUint32(12, 2048, true)
  const found = await readTail(memory(bytes, 'cow')).catch((error: unknown) => error)
  expect(isLiveError(found) || (found as { truncated: boolean }).truncated).toBe(true)
})

it('bits that flip: numbers or a LiveError', async () => {
  const whole = after(90)
  const { tail } = await readTail(memory(whole, 'cow'))
  for (let round = 0; round < 3000; round++) {
    const bytes = whole.slice()
    for (let flips = 0; flips <= below(3); flips++) {
      const area = [0, CHUNK, 34 * CHUNK, 67 * CHUNK][below(4)]!
      bytes[area + below(CHUNK)]! ^= 1 << below(8)
    }
    const from = below(2) === 0 ? tail : undefined
    const found = await readTail(memory(bytes, 'cow'), from).catch((error: unknown) => error)
    if (isLiveError(found)) continue
    expect(found, `seed ${seed}`).toMatchObject({ totalSectors: 300 })
  }
  const noise = await readTail(memory(randomBytes(8192), 'cow')).catch((error: unknown) => error)
  expect(isLiveError(noise), `seed ${seed}`).toBe(true)
})

it('a tail that a file holds may say anything', async () => {
  const cow = memory(after(90), 'cow')
  const right = await readTail(cow)
  for (const tail of [
    { chunkSectors: 1, exceptionCount: 2 ** 50, highestChunk: 1, last: [1, 2] },
    { chunkSectors: 1, exceptionCount: -5, highestChunk: 1, last: [1, 2] },
    { chunkSectors: 1, exceptionCount: 1.5, highestChunk: 1, last: [0, 2] },
    { chunkSectors: 0, exceptionCount: 1, highestChunk: 1, last: [1, 2] },
    { chunkSectors: 1, exceptionCount: 5, highestChunk: 'x', last: 'y' },
  ])
    expect(await readTail(cow, tail as unknown as StoreTail)).toEqual(right)
})
