import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { slice } from '../../../../src/block/linear.js'
import { memory } from '../../../../src/block/memory.js'
import { isStore, readStore, type Store } from '../../../../src/block/snapshot/store.js'
import { isLiveError, type LiveError } from '../../../../src/error.js'
import { countingDevice } from '../../../support/counting-device.js'
import { faultyDevice } from '../../../support/faulty-device.js'
import { failure, valueOrFailure } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'
import { storeOf } from '../../../support/store-writer.js'

const CHUNK = 4096
/** A store with this many exceptions: old chunk 3n + 1 in place n. */
const bytesWith = (count: number, slack = 1, chunkSectors = 8): Uint8Array =>
  storeOf(
    Array.from({ length: count }, (_, index) => ({ oldChunk: index * 3 + 1, content: new Uint8Array(0) })),
    chunkSectors,
    slack,
  )
const read = (bytes: Uint8Array, options = {}): Promise<Store> => readStore(memory(bytes, 'cow'), options)
const entry = (bytes: Uint8Array, index: number) => {
  const view = Buffer.from(bytes.buffer)
  const at = (1 + Math.floor(index / 256) * 257) * CHUNK + (index % 256) * 16
  return {
    at,
    setOld: (chunk: number) => view.writeBigUInt64LE(BigInt(chunk), at),
    setNew: (chunk: number) => view.writeBigUInt64LE(BigInt(chunk), at + 8),
  }
}

test('a store is told by its first bytes, wherever in memory a read puts them', async () => {
  const device = memory(bytesWith(1), 'cow')
  const shifted = {
    ...device,
    read: async (offset: number, length: number) =>
      Buffer.concat([Buffer.alloc(8), await device.read(offset, length)]).subarray(8),
  }
  expect(await isStore(shifted)).toBe(true)
  expect(await isStore(memory(new Uint8Array(CHUNK), 'zeros'))).toBe(false)
})

describe('a new store', () => {
  test('counts as the kernel will make it', async () => {
    const store = await read(new Uint8Array(100 * CHUNK + 700))
    expect(store).toMatchObject({
      state: 'new',
      chunkSize: CHUNK,
      chunkSectors: 8,
      nextFreeChunk: 2,
      areaCount: 1,
      allocatedSectors: 16,
      totalSectors: 801,
      metadataSectors: 16,
      full: false,
      truncated: false,
    })
    expect(store.exceptions.count).toBe(0)
  })

  test('takes the chunk of its table', async () => {
    const store = await read(new Uint8Array(100 * CHUNK), { tableChunkSectors: 32 })
    expect([store.chunkSectors, store.allocatedSectors]).toEqual([32, 64])
    await expect(read(new Uint8Array(100 * CHUNK), { tableChunkSectors: 24 })).rejects.toThrow('liveos bug')
  })

  test('is new whatever follows the magic', async () => {
    const bytes = bytesWith(10)
    bytes.fill(0, 0, 4)
    expect((await read(bytes)).state).toBe('new')
    expect((await read(bytes)).exceptions.count).toBe(0)
  })
})

describe('a store', () => {
  test.each([
    // exceptions, next free chunk, areas
    [0, 2, 1],
    [1, 3, 1],
    [255, 257, 1],
    [256, 259, 2],
    [257, 260, 2],
    [511, 514, 2],
    [512, 516, 3],
    [2000, 2009, 8],
  ])('of %i exceptions has %i as its next free chunk and %i areas', async (count, nextFreeChunk, areaCount) => {
    const store = await read(bytesWith(count))
    expect(store).toMatchObject({
      state: 'ok',
      nextFreeChunk,
      areaCount,
      allocatedSectors: nextFreeChunk * 8,
      metadataSectors: (1 + areaCount) * 8,
    })
    expect(store.exceptions.count).toBe(count)
  })

  test("goes by its own chunk and not by the table's", async () => {
    for (const chunkSectors of [1, 2, 16, 2048])
      expect((await read(bytesWith(40, 1, chunkSectors), { tableChunkSectors: 8 })).chunkSectors).toBe(chunkSectors)
  })

  test('trusts no area behind the first free entry', async () => {
    const bytes = bytesWith(600)
    entry(bytes, 300).setNew(0)
    const store = await read(bytes)
    expect(store.exceptions.count).toBe(300)
    expect(store.areaCount).toBe(2)
    entry(bytes, 400).setOld(1)
    entry(bytes, 599).setNew(2 ** 50)
    expect((await read(bytes)).exceptions.count).toBe(300)
  })

  test('does not mind bad spots behind its list', async () => {
    const bytes = bytesWith(256 + 3 * 256 + 10)
    entry(bytes, 520).setNew(0)
    const bad = faultyDevice(memory(bytes), [{ from: 3 * 257 * CHUNK, to: bytes.length }])
    expect((await readStore(bad)).exceptions.count).toBe(520)
    await new Promise(setImmediate)
    await failure(readStore(faultyDevice(memory(bytes), [{ from: 515 * CHUNK, to: 515 * CHUNK + 1 }])), 'IO')
  })

  test('is read at a cost set by its metadata', async () => {
    const device = countingDevice(memory(bytesWith(5000)))
    await readStore(device)
    expect(device.bytesRead).toBeLessThan(45 * CHUNK)
    expect(device.mostAtOnce).toBeGreaterThan(4)
  })

  test('is valid with any flag but 0, as for the kernel', async () => {
    const bytes = bytesWith(3)
    bytes[4] = 3
    expect((await read(bytes)).state).toBe('ok')
  })
})

describe('a store is full', () => {
  test('where the next chunk does not fit', async () => {
    expect((await read(bytesWith(10, 1))).full).toBe(false)
    expect((await read(bytesWith(10, 0))).full).toBe(true)
    // A part of a chunk is no chunk.
    const cow = memory(bytesWith(10, 1))
    expect((await readStore(slice(cow, 0, cow.size - 512))).full).toBe(true)
  })

  test('where the next chunk fits and the area that it makes necessary does not', async () => {
    // 255 exceptions use chunks up to 256; the next takes 257 and needs area 1 in chunk 258.
    expect(await read(bytesWith(255, 1))).toMatchObject({ nextFreeChunk: 257, totalSectors: 258 * 8, full: true })
    expect(await read(bytesWith(255, 2))).toMatchObject({ totalSectors: 259 * 8, full: false })
    expect((await read(bytesWith(254, 1))).full).toBe(false)
    expect((await read(bytesWith(511, 1))).full).toBe(true)
  })

  test('where its full last area has no successor', async () => {
    const cow = memory(bytesWith(256, 0))
    expect(await readStore(cow)).toMatchObject({ truncated: false, full: true })
    const store = await readStore(slice(cow, 0, 258 * CHUNK + 1000))
    expect(store).toMatchObject({ state: 'ok', truncated: true, full: true, areaCount: 1 })
    expect(store.exceptions.count).toBe(256)
  })
})

describe('a store is CORRUPT', () => {
  const fails = async (bytes: Uint8Array, data: object, options = {}): Promise<LiveError> => {
    const error = await failure(read(bytes, options), 'CORRUPT')
    expect(error.data).toMatchObject({ device: 'cow', ...data })
    return error
  }

  test('when too small', async () => {
    await fails(new Uint8Array(0), { field: 'size', found: 0 })
    await fails(bytesWith(3).slice(0, 511), { field: 'size', found: 511 })
    await fails(bytesWith(3).slice(0, 512), { field: 'size', found: 512 })
    await fails(bytesWith(3).slice(0, 2 * CHUNK - 1), { field: 'size', offset: 2 * CHUNK - 1 })
    await fails(new Uint8Array(2 * CHUNK - 512), { field: 'size' })
  })

  test('when its header is', async () => {
    const bytes = bytesWith(3)
    bytes[0] = 1
    await fails(bytes, { field: 'magic', offset: 0 })
  })

  test('when cut inside its data', async () => {
    const bytes = bytesWith(300, 0)
    await fails(bytes.slice(0, bytes.length - 1), { field: 'new_chunk' })
    await fails(bytes.slice(0, 200 * CHUNK), { field: 'new_chunk', offset: CHUNK + 198 * 16 + 8, found: 200 })
  })

  test('when an exception points at metadata', async () => {
    for (const chunk of [1, 258, 515]) {
      const bytes = bytesWith(600)
      const second = entry(bytes, 1)
      second.setNew(chunk)
      await fails(bytes, { field: 'new_chunk', offset: second.at + 8, found: chunk })
    }
  })

  test('when two exceptions share a chunk', async () => {
    const bytes = bytesWith(300)
    entry(bytes, 299).setNew(2)
    await fails(bytes, { field: 'new_chunk', offset: entry(bytes, 299).at + 8, found: 2 })
    const again = bytesWith(300)
    entry(again, 280).setOld(1)
    await fails(again, { field: 'old_chunk', offset: entry(again, 280).at, found: 1 })
  })

  test('when it belongs to a larger base, and says so', async () => {
    const bytes = bytesWith(10)
    const error = await fails(
      bytes,
      { field: 'old_chunk', offset: CHUNK + 9 * 16, found: 28 },
      { originSize: 28 * CHUNK },
    )
    expect(error.message).toContain('overlay of another base')
    // The last chunk of an origin may be a part of one.
    expect((await read(bytes, { originSize: 28 * CHUNK + 512 })).exceptions.count).toBe(10)
  })

  test('when a number is beyond reason', async () => {
    const bytes = bytesWith(10)
    entry(bytes, 4).setOld(2 ** 60)
    await fails(bytes, { field: 'old_chunk', found: String(2n ** 60n) })
  })
})

describe('an invalid store', () => {
  const invalid = (bytes: Uint8Array): Uint8Array => {
    bytes[4] = 0
    return bytes
  }

  test('still has its exceptions', async () => {
    const store = await read(invalid(bytesWith(300)))
    expect(store.state).toBe('invalid')
    expect(store.exceptions.count).toBe(300)
    expect(store.listError).toBeUndefined()
  })

  test("is told even where the exceptions can't be read, unless they are insisted on", async () => {
    const bytes = invalid(bytesWith(300))
    entry(bytes, 7).setNew(1)
    const store = await read(bytes)
    expect(store.state).toBe('invalid')
    expect(store.exceptions.count).toBe(0)
    expect(store.listError?.code).toBe('CORRUPT')
    await failure(read(bytes, { ignoreInvalid: true }), 'CORRUPT')
    const bad = faultyDevice(memory(bytes), [{ from: CHUNK, to: 2 * CHUNK }])
    expect((await readStore(bad)).listError?.code).toBe('IO')
  })
})

describe('any bytes', () => {
  const numbers = random()
  test(`give a store or a LiveError, soon (seed ${numbers.seed})`, async () => {
    const header = fc.constantFrom('as it is', 'good', 'good, tiny chunks')
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 40_000 }), header, async (bytes, kind) => {
        if (kind !== 'as it is' && bytes.length > 16)
          bytes.set(bytesWith(0, 1, kind === 'good' ? 8 : 1).subarray(0, 16))
        const store = await valueOrFailure(read(bytes))
        if (!isLiveError(store)) expect(store.exceptions.count).toBeLessThan(bytes.length / 16)
      }),
      { seed: numbers.seed },
    )
  })

  test('with plausible entries give a store whose exceptions all lie inside', async () => {
    const near = fc.integer({ min: 0, max: 70 })
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(near, near), { maxLength: 70 }), async pairs => {
        const bytes = new Uint8Array(70 * 512)
        bytes.set(bytesWith(0, 1, 1).subarray(0, 16))
        const view = new DataView(bytes.buffer)
        for (const [index, [oldChunk, newChunk]] of pairs.slice(0, 64).entries()) {
          const at = (index < 32 ? 512 : 34 * 512 - 512) + index * 16
          view.setUint32(at, oldChunk, true)
          view.setUint32(at + 8, newChunk, true)
        }
        const store = await valueOrFailure(read(bytes, { originSize: 60 * 512 }))
        if (isLiveError(store)) return
        const all = [...store.exceptions.range()]
        expect(new Set(all.map(({ newChunk }) => newChunk)).size).toBe(all.length)
        for (const { oldChunk, newChunk } of all) {
          expect(oldChunk).toBeLessThan(60)
          expect(newChunk % 33).not.toBe(1)
          expect(newChunk).toBeLessThan(70)
        }
      }),
      { numRuns: 300 },
    )
  })
})
