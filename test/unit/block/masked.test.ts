import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { byteRuns, runKeeper, sameRuns } from '../../../src/block/byte-runs.js'
import { linear } from '../../../src/block/linear.js'
import { masked } from '../../../src/block/masked.js'
import { memory } from '../../../src/block/memory.js'
import { deviceContract } from '../../contract/device.js'
import { collect } from '../../support/collect.js'
import { countingDevice } from '../../support/counting-device.js'
import { faultyDevice } from '../../support/faulty-device.js'
import { sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const content = random(31).bytes(20_000)
const RUNS = [
  { start: 0, length: 10 },
  { start: 600, length: 1 },
  { start: 4096, length: 8192 },
  { start: 19_990, length: 500 },
]
const shown = (): Uint8Array => {
  const bytes = content.slice()
  for (const { start, length } of RUNS) bytes.fill(0, start, start + length)
  return bytes
}

deviceContract('masked', async () => ({ device: masked(memory(content), byteRuns(RUNS)), bytes: shown() }))
deviceContract('masked by nothing', async () => ({ device: masked(memory(content), byteRuns([])), bytes: content }))
deviceContract('masked as a whole', async () => ({
  device: masked(memory(content), byteRuns([{ start: 0, length: 1 << 30 }])),
  bytes: new Uint8Array(content.length),
}))

describe('masked', () => {
  test('reads nothing below a run: bad blocks there do no harm', async () => {
    const below = countingDevice(faultyDevice(memory(content), [{ from: 4096, to: 12_288 }]))
    const device = masked(below, byteRuns(RUNS))
    sameBytes(await device.read(0, 20_000), shown())
    expect(below.bytesRead).toBe(20_000 - 10 - 1 - 8192 - 10)
  })

  test('tells its runs and those of the device below as holes', async () => {
    const below = linear([{ length: 5000 }, { length: 15_000, device: memory(content.subarray(0, 15_000)) }], 'sparse')
    expect(await collect(masked(below, byteRuns([{ start: 4000, length: 2000 }])).extents(100, 10_000))).toEqual([
      { offset: 100, length: 5900, kind: 'hole' },
      { offset: 6000, length: 4100, kind: 'data' },
    ])
  })

  test('closing it leaves the device below open', async () => {
    const below = countingDevice(memory(content))
    await masked(below, byteRuns(RUNS)).close()
    expect(below.closes).toBe(0)
  })
})

/** Gaps and lengths in turn, as runs. */
const lists = fc.array(fc.tuple(fc.nat(20), fc.nat(20)), { maxLength: 60 }).map(pairs => {
  let at = 0
  return pairs.map(([gap, length]) => {
    const start = at + gap
    at = start + length
    return { start, length }
  })
})

const bitsOf = (runs: readonly { start: number; length: number }[]): boolean[] => {
  const bits = new Array<boolean>(2500).fill(false)
  for (const { start, length } of runs) bits.fill(true, start, start + length)
  return bits
}

describe('byteRuns', () => {
  test('says of every range what an array of bits says', () => {
    fc.assert(
      fc.property(lists, fc.nat(2400), fc.integer({ min: 1, max: 60 }), (list, start, length) => {
        const bits = bitsOf(list)
        const runs = byteRuns(list)
        const range = bits.slice(start, start + length)
        expect(runs.covers(start, start + length)).toBe(range.every(Boolean))
        expect(runs.touches(start, start + length)).toBe(range.some(Boolean))
        expect(runs.bytes).toBe(bits.filter(Boolean).length)
        for (let index = 0; index < runs.count; index++) {
          expect(bits[runs.start(index) - 1] ?? false).toBe(false)
          expect(bits[runs.end(index)]).toBe(false)
        }
      }),
    )
  })

  test('sameRuns: by where they start and end', () => {
    const one = byteRuns([{ start: 5, length: 5 }])
    expect(
      sameRuns(
        one,
        byteRuns([
          { start: 5, length: 2 },
          { start: 7, length: 3 },
        ]),
      ),
    ).toBe(true)
    expect(sameRuns(one, byteRuns([{ start: 5, length: 6 }]))).toBe(false)
    expect(sameRuns(one, byteRuns([{ start: 4, length: 6 }]))).toBe(false)
    expect(sameRuns(one, byteRuns([]))).toBe(false)
  })

  test('runs that do not ascend are a bug', () => {
    expect(() =>
      byteRuns([
        { start: 5, length: 5 },
        { start: 9, length: 1 },
      ]),
    ).toThrow()
  })
})

describe('runKeeper', () => {
  test('past its limit it keeps the longest, in order, and counts the rest', () => {
    fc.assert(
      fc.property(lists, fc.integer({ min: 1, max: 8 }), (list, most) => {
        const keeper = runKeeper(most)
        for (const { start, length } of list) keeper.add(start, length)
        const kept = keeper.runs()
        const all = byteRuns(list)
        expect(kept.count).toBeLessThanOrEqual(most)
        expect(kept.bytes + keeper.leftOut).toBe(all.bytes)
        const bits = bitsOf(list)
        for (let index = 0; index < kept.count; index++)
          expect(bits.slice(kept.start(index), kept.end(index)).every(Boolean)).toBe(true)
        if (all.count <= most) expect(sameRuns(kept, all)).toBe(true)
      }),
    )
    const keeper = runKeeper(2)
    for (const [n, length] of [1, 9, 2, 9, 3, 9, 1, 4].entries()) keeper.add(n * 100, length)
    const kept = keeper.runs()
    expect([0, 1].map(index => kept.end(index) - kept.start(index))).toEqual([9, 9])
    expect(keeper.leftOut).toBe(1 + 2 + 9 + 3 + 1 + 4)
  })

  test('a million runs of a block each take 16 bytes a run at the end, and the limit holds', () => {
    const keeper = runKeeper(1 << 16)
    for (let n = 0; n < 1_000_000; n++) keeper.add(n * 8192, 4096)
    keeper.add(8192 * 1_000_000, 1 << 20)
    const kept = keeper.runs()
    expect(kept.count).toBe(1 << 16)
    expect(kept.end(kept.count - 1) - kept.start(kept.count - 1)).toBe(1 << 20)
    expect(kept.bytes + keeper.leftOut).toBe(1_000_000 * 4096 + (1 << 20))
  })
})
