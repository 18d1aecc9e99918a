import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { mergeStore } from '../../../../src/block/snapshot/merge.js'
import { snapshot } from '../../../../src/block/snapshot/snapshot.js'
import { statusLine } from '../../../../src/block/snapshot/status.js'
import { readStore } from '../../../../src/block/snapshot/store.js'
import { faultyWritable } from '../../../support/faulty-device.js'
import { kernelFixture } from '../../../support/kernel-fixtures.js'
import { failure, sameBytes } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'
import { type LogEntry, recordingDevice } from '../../../support/recording-device.js'
import { sha256 } from '../../../support/small-stick.js'
import { storeOf } from '../../../support/store-writer.js'

/** An origin and a store with some of its chunks, in any order, and what both show. */
const made = async (originSize: number, chunkSectors: number, count: number, seed = 3) => {
  const { bytes, below } = random(seed)
  const chunks = Math.ceil(originSize / (chunkSectors * 512))
  const order = Array.from({ length: chunks }, (_, n) => n)
  for (let n = chunks - 1; n > 0; n--) {
    const other = below(n + 1)
    if (below(3) === 0) [order[n], order[other]] = [order[other]!, order[n]!]
  }
  const originBytes = bytes(originSize)
  const cowBytes = storeOf(
    order.slice(0, Math.min(count, chunks)).map(oldChunk => ({ oldChunk, content: bytes(chunkSectors * 512) })),
    chunkSectors,
    3,
  )
  const origin = memory(originBytes, 'base')
  const cow = memory(cowBytes, 'overlay')
  return { origin, originBytes, cow, cowBytes, view: await (await snapshot(origin, cow)).read(0, originSize) }
}

test('the view never changes, and in the end it is the origin', async () => {
  const shape = fc.record({
    originSize: fc.integer({ min: 1, max: 90_000 }),
    chunkSectors: fc.constantFrom(1, 2, 8),
    count: fc.nat(200),
    batchBytes: fc.constantFrom(512, 5000, 40_000, 1 << 20),
    seed: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(shape, async ({ originSize, chunkSectors, count, batchBytes, seed }) => {
      const { origin, originBytes, cow, view } = await made(originSize, chunkSectors, count, seed)
      const { exceptions } = await readStore(cow)
      const seen: number[] = []
      const merged = await mergeStore(origin, cow, {
        batchBytes,
        readBack: origin,
        onProgress: (done, total) => {
          seen.push(done)
          expect(total).toBe(exceptions.count * chunkSectors * 512)
        },
      })
      expect(merged.exceptions).toBe(exceptions.count)
      expect(seen.at(-1) ?? 0).toBe(exceptions.count * chunkSectors * 512)
      sameBytes(originBytes, view)
      const store = await readStore(cow)
      expect(store).toMatchObject({ state: 'ok', nextFreeChunk: 2, areaCount: 1, full: false })
      expect(store.exceptions.count).toBe(0)
      expect(await mergeStore(origin, cow)).toEqual({ exceptions: 0, bytes: 0 })
    }),
    { numRuns: 60 },
  )
})

test('clears nothing before the origin is flushed, and an area from behind', async () => {
  const { origin, cow } = await made(300 * 4096, 8, 290)
  const log: LogEntry[] = []
  await mergeStore(recordingDevice(origin, log), recordingDevice(cow, log), { batchBytes: 100 * 4096 })
  let clean = true
  let last = Number.POSITIVE_INFINITY
  for (const entry of log) {
    if (entry.device === 'base') {
      clean = entry.kind === 'flush'
      last = Number.POSITIVE_INFINITY
    } else if (entry.kind === 'write') {
      expect(clean).toBe(true)
      const sector = Math.floor(entry.offset / 512) % 8
      expect(sector).toBeLessThanOrEqual(last)
      last = sector
    }
  }
  expect(log.at(-1)).toEqual({ device: 'overlay', kind: 'flush' })
})

test('stops between steps, and a second run goes on', async () => {
  const { origin, originBytes, cow, view } = await made(300 * 512, 1, 200)
  const stop = new AbortController()
  const merging = mergeStore(origin, cow, {
    batchBytes: 20 * 512,
    signal: stop.signal,
    onProgress: done => {
      if (done >= 100 * 512) stop.abort()
    },
  })
  expect((await failure(merging, 'CANCELLED')).data).toEqual({ merged: 100, total: 200 })
  expect((await readStore(cow)).exceptions.count).toBe(100)
  sameBytes(await (await snapshot(origin, cow)).read(0, view.length), view)
  expect(await mergeStore(origin, cow)).toMatchObject({ exceptions: 100 })
  sameBytes(originBytes, view)
})

test('clears nothing that was not read back right', async () => {
  const { origin, originBytes, cow, view } = await made(300 * 512, 1, 200)
  const forgetful = memory(originBytes.slice(), 'medium')
  await failure(mergeStore(origin, cow, { readBack: forgetful, batchBytes: 20 * 512 }), 'IO')
  expect((await readStore(cow)).exceptions.count).toBe(200)
  sameBytes(await (await snapshot(origin, cow)).read(0, view.length), view)
})

test('a bad place of the origin or the store ends it with the view as it was', async () => {
  for (const bad of ['origin', 'cow'] as const) {
    const { origin, cow, view } = await made(300 * 512, 1, 200)
    const faults = [{ from: 60 * 512, to: 61 * 512 }]
    await failure(
      mergeStore(
        bad === 'origin' ? faultyWritable(origin, faults) : origin,
        bad === 'cow' ? faultyWritable(cow, faults) : cow,
        { batchBytes: 20 * 512 },
      ),
      'IO',
    )
    sameBytes(await (await snapshot(origin, cow)).read(0, view.length), view)
    await mergeStore(origin, cow)
    sameBytes(await origin.read(0, view.length), view)
  }
})

test('entries that a cut left behind the end are gone', async () => {
  const { origin, cow, cowBytes, view } = await made(200 * 4096, 8, 100)
  // the list ends at 30, and two sectors behind it were not cleared
  cowBytes.fill(0, 4096 + 30 * 16, 4096 + 32 * 16)
  const shown = await (await snapshot(origin, cow)).read(0, view.length)
  await mergeStore(origin, cow)
  sameBytes(await origin.read(0, view.length), shown)
  expect(cowBytes.subarray(4096, 8192).every(byte => byte === 0)).toBe(true)
})

describe('a store is refused', () => {
  test('that is invalid, cut, or of another base; a new one holds nothing', async () => {
    const { origin, cowBytes } = await made(200 * 512, 1, 64)
    const before = await origin.read(0, origin.size)
    const bad = cowBytes.slice()
    bad[4] = 0
    await failure(mergeStore(origin, memory(bad)), 'CORRUPT')
    await failure(mergeStore(origin, memory(cowBytes.slice(0, 67 * 512))), 'CORRUPT')
    await failure(mergeStore(memory(new Uint8Array(512)), memory(cowBytes)), 'CORRUPT')
    expect(await mergeStore(origin, memory(new Uint8Array(9000)))).toEqual({ exceptions: 0, bytes: 0 })
    sameBytes(await origin.read(0, origin.size), before)
  })
})

test.each(['merge', 'merge-interrupted'])('%s: goes on with what the kernel left, to its view', async name => {
  const { facts, image } = kernelFixture(name)
  const end = name === 'merge' ? (facts.view_sha256_end ?? facts.merged_sha256) : facts.merged_sha256
  for (const [base, store] of [
    ['origin.img', 'cow.img'],
    ['origin-after.img', 'cow-after.img'],
    ['origin-after.img', 'cow.img'],
  ] as const) {
    const originBytes = await image(base)
    const cow = memory(await image(store))
    await mergeStore(memory(originBytes), cow)
    expect(sha256(originBytes), `${base} ${store}`).toBe(end)
    expect(statusLine(await readStore(cow), originBytes.length)).toBe(`0 ${facts.origin_sectors} snapshot 16/60000 16`)
  }
})
