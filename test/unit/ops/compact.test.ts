import { readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { byteRuns } from '../../../src/block/byte-runs.js'
import type { Device } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { readStore } from '../../../src/block/snapshot/store.js'
import { LiveError } from '../../../src/error.js'
import { type CompactOptions, planCompact, runCompact } from '../../../src/ops/compact.js'
import { judgeChunks, type KeptChunk } from '../../../src/ops/compact-chunks.js'
import { packedSize, writePacked } from '../../../src/ops/compact-write.js'
import { planGrow } from '../../../src/ops/grow.js'
import { planRefresh } from '../../../src/ops/refresh.js'
import { failure } from '../../support/outcome.js'
import { KEPT, staleStick } from '../../support/power-cut-compact.js'
import { bytesOf, CHUNK, finished, OVERLAY, sha256, viewOf } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary({ memory: true })
let count = 0
const fresh = async () => {
  const stick = await staleStick(await path(`stick${count++}`))
  const live = join(stick.path, 'LiveOS')
  return { ...stick, live, overlay: join(live, OVERLAY), input: { target: stick.path } }
}
const compact = async (input: { target: string }, options?: CompactOptions) =>
  finished(runCompact(input, await planCompact(input, options)))

const storeIn = async (file: string) => readStore(memory(new Uint8Array(await readFile(file))))

/** A device that notes how often each of its chunks is read. */
const noting = (device: Device, chunkSize: number): { device: Device; reads: Map<number, number> } => {
  const reads = new Map<number, number>()
  return {
    reads,
    device: {
      name: device.name,
      size: device.size,
      async read(offset, length) {
        for (let chunk = Math.floor(offset / chunkSize); chunk * chunkSize < offset + length; chunk++)
          reads.set(chunk, (reads.get(chunk) ?? 0) + 1)
        return device.read(offset, length)
      },
      close: async () => {},
    },
  }
}

describe('which chunks stay', () => {
  it.each([1, 8, 64])(
    'chunks of %i sectors: each that is not free is read once, and none that is',
    async chunkSectors => {
      const size = chunkSectors * 512
      const root = bytesOf(3, 300 * size + 100)
      const changes = Array.from({ length: 120 }, (_, n) => {
        const oldChunk = (n * 11 + 3) % 301
        const content = new Uint8Array(size)
        content.set(n % 3 === 0 ? root.subarray(oldChunk * size, (oldChunk + 1) * size) : bytesOf(n + 9, size))
        return { oldChunk, content, equal: n % 3 === 0 }
      })
      const bytes = storeOf(changes, chunkSectors)
      const { device, reads } = noting(memory(bytes), size)
      const store = await readStore(memory(bytes))
      // chunks 50 to 99 are free but for a byte at each end, and the journal will write into 60
      const free = byteRuns([{ start: 50 * size + 1, length: 50 * size - 2 }])
      const replayed = byteRuns([{ start: 60 * size + 5, length: 1 }])
      const merged = { device: memory(root), free, replayed, findings: [] }
      const kept: KeptChunk[] = []
      let dropped = 0
      for await (const judged of judgeChunks(memory(root), device, store, merged, undefined)) {
        kept.push(...judged.kept)
        dropped += judged.free + judged.equal
      }
      const isFree = (chunk: number): boolean => chunk > 50 && chunk < 99 && chunk !== 60
      const expected = changes
        .filter(({ oldChunk, equal }) => !equal && !isFree(oldChunk))
        .sort((a, b) => a.oldChunk - b.oldChunk)
      expect(kept.map(({ oldChunk }) => oldChunk)).toEqual(expected.map(({ oldChunk }) => oldChunk))
      expect(kept.length + dropped).toBe(changes.length)
      for (const [n, { content }] of expected.entries()) {
        const length = Math.min(size, root.length - kept[n]!.oldChunk * size)
        expect(sha256(kept[n]!.content.subarray(0, length))).toBe(sha256(content.subarray(0, length)))
        expect(kept[n]!.content.subarray(length).every(byte => byte === 0)).toBe(true)
      }
      for (const { oldChunk, newChunk } of store.exceptions.range())
        expect(reads.get(newChunk) ?? 0, `chunk ${oldChunk}`).toBe(isFree(oldChunk) ? 0 : 1)
    },
  )

  it('what the base can not be read below stays unseen', async () => {
    const bytes = storeOf([{ oldChunk: 2, content: bytesOf(1, CHUNK) }], 8)
    const origin: Device = {
      ...memory(new Uint8Array(9 * CHUNK)),
      size: 9 * CHUNK,
      read: async () => {
        throw new LiveError('IO', 'bad block')
      },
    }
    const merged = { device: origin, free: undefined, replayed: byteRuns([]), findings: [] }
    const store = await readStore(memory(bytes))
    const found = []
    for await (const judged of judgeChunks(origin, memory(bytes), store, merged, undefined)) found.push(judged)
    expect(found).toMatchObject([{ kept: [{ oldChunk: 2 }], equal: 0, free: 0, unreadable: 1 }])
  })
})

describe('a packed store', () => {
  it.each([0, 1, 31, 32, 33, 63, 64, 65, 200])(
    'of %i chunks is the one the kernel would have written',
    async number => {
      const changes = Array.from({ length: number }, (_, n) => ({ oldChunk: n * 2, content: bytesOf(n, 512) }))
      const file = memory(new Uint8Array(0))
      let bytes = new Uint8Array(0)
      const growing = {
        name: 'new',
        path: 'new',
        get size() {
          return bytes.length
        },
        read: async (offset: number, length: number) => bytes.slice(offset, offset + length),
        async write(offset: number, some: Uint8Array) {
          const longer = new Uint8Array(Math.max(bytes.length, offset + some.length))
          longer.set(bytes)
          longer.set(some, offset)
          bytes = longer
        },
        async truncate(size: number) {
          const longer = new Uint8Array(size)
          longer.set(bytes.subarray(0, size))
          bytes = longer
        },
        flush: async () => {},
        close: file.close,
      }
      const chunks = async function* () {
        for (const change of changes) yield [change]
      }
      const written = await writePacked(growing, chunks(), { chunkSize: 512, most: number, sparse: false }, undefined)
      expect(written.count).toBe(number)
      const expected = storeOf(changes, 1, 0)
      expect(sha256(bytes)).toBe(sha256(expected))
      const store = await readStore(memory(bytes))
      const { nextFreeChunk, areaCount } = packedSize(number, 512)
      expect(store).toMatchObject({ nextFreeChunk, areaCount, truncated: false })
    },
  )
})

it('gives back what equals the base; the view, the size and the room on the medium stay', async () => {
  const { input, overlay, merged } = await fresh()
  const before = await stat(overlay)
  const plan = await planCompact(input)
  expect(plan).toMatchObject({
    chunks: { before: 9, free: 0, equal: 3, kept: KEPT },
    givesBackBytes: 3 * CHUNK,
    newBytes: before.size,
    worthwhile: true,
    sparse: false,
    noOverlay: null,
    resume: null,
  })
  expect(JSON.parse(JSON.stringify(plan))).toEqual(plan)
  expect(await finished(runCompact(input, plan))).toMatchObject({ changed: true, verified: { chunks: KEPT } })
  const after = await stat(overlay)
  expect(after.size).toBe(before.size)
  expect(after.blocks).toBe(before.blocks)
  expect(after.mode).toBe(before.mode)
  expect(await viewOf(input)).toBe(sha256(merged))
  expect((await storeIn(overlay)).nextFreeChunk).toBe(2 + KEPT)
  // nothing is left to give back
  const again = await planCompact(input)
  expect(again).toMatchObject({ worthwhile: false, givesBackBytes: 0 })
  expect(await finished(runCompact(input, again))).toMatchObject({ changed: false })
  expect((await stat(overlay)).ino).toBe(after.ino)
})

it('a new size, not below what it holds; holes stay holes', async () => {
  const { input, overlay, merged } = await fresh()
  await failure(planCompact(input, { size: (2 + KEPT) * CHUNK }), 'REFUSED')
  // it would not become so small by grow alone
  await failure(planGrow(input, { size: (3 + KEPT) * CHUNK }), 'REFUSED')
  expect(await compact(input, { size: (3 + KEPT) * CHUNK })).toMatchObject({ newBytes: (3 + KEPT) * CHUNK })
  expect((await stat(overlay)).size).toBe((3 + KEPT) * CHUNK)
  await truncate(overlay, 4 << 20)
  expect(await compact(input, { size: 8 << 20 })).toMatchObject({ newBytes: 8 << 20 })
  expect((await stat(overlay)).blocks * 512).toBeLessThan(1 << 20)
  expect(await viewOf(input)).toBe(sha256(merged))
})

it('one that is full of what is really used is told so, and not asked to be larger', async () => {
  const { input, overlay } = await fresh()
  const { nextFreeChunk } = await storeIn(overlay)
  const first = await planCompact(input)
  await finished(runCompact(input, first))
  const packed = (await storeIn(overlay)).nextFreeChunk
  expect(packed).toBeLessThan(nextFreeChunk)
  await truncate(overlay, packed * CHUNK)
  expect(await planCompact(input)).toMatchObject({ worthwhile: false, givesBackBytes: 0, newBytes: packed * CHUNK })
  await failure(planCompact(input, { size: (packed - 1) * CHUNK }), 'REFUSED')
})

describe('refused', () => {
  it.each(['.new', '.old', '.reset'])('beside %s', async end => {
    const { input, overlay } = await fresh()
    await writeFile(overlay + end, 'x')
    await failure(planCompact(input), 'REFUSED')
  })

  it('changed since it was planned', async () => {
    const { input, overlay } = await fresh()
    const plan = await planCompact(input)
    await truncate(overlay, 99 * CHUNK)
    await failure(finished(runCompact(input, plan)), 'REFUSED')
  })

  it('no overlay, one that was never used, one that is damaged', async () => {
    const { input, overlay } = await fresh()
    await writeFile(overlay, new Uint8Array(40 * CHUNK))
    await failure(planCompact(input), 'USAGE')
    await writeFile(overlay, storeOf([{ oldChunk: 99999, content: bytesOf(1, CHUNK) }], 8))
    await failure(planCompact(input), 'CORRUPT')
    await rm(overlay)
    await failure(planCompact(input), 'NOT_FOUND')
  })

  it('stopped: the overlay is as it was', async () => {
    const { input, overlay, live } = await fresh()
    const before = sha256(await readFile(overlay))
    const plan = await planCompact(input)
    const error = await failure(finished(runCompact(input, plan, { signal: AbortSignal.abort() })), 'CANCELLED')
    expect(error.message).toContain('as it was')
    expect(sha256(await readFile(overlay))).toBe(before)
    expect((await import('node:fs')).readdirSync(live).sort()).toEqual([OVERLAY, 'rootfs.img'])
  })

  it('other verbs beside a compaction that was cut short: they name it', async () => {
    const { input, live } = await fresh()
    await writeFile(join(live, `compact-${OVERLAY}.state`), 'x')
    for (const plan of [() => planGrow(input, { size: 1 << 20 }), () => planRefresh(input, {})])
      expect((await failure(plan(), 'REFUSED')).message).toContain('liveos compact')
    expect(await compact(input)).toMatchObject({ changed: true })
  })
})
