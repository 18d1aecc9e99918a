import { describe, expect, test } from 'vitest'
import type { PlacingDevice } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { type Run, readAhead } from '../../../src/block/read-ahead.js'
import { LiveError } from '../../../src/error.js'
import { sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const PIECE = 1000

async function* runsOf(size: number): AsyncGenerator<Run> {
  for (let offset = 0; offset < size; offset += PIECE) yield { offset, length: Math.min(PIECE, size - offset) }
}

/** A device that reads into memory, its reads done in an order of its own. */
const placing = (bytes: Uint8Array, failsAt = -1) => {
  const seen = new Set<ArrayBufferLike>()
  const order = random(7)
  const state = { flying: 0, most: 0, seen }
  const device: PlacingDevice = {
    ...memory(bytes),
    async readInto(offset, target) {
      seen.add(target.buffer)
      state.most = Math.max(state.most, ++state.flying)
      target.fill(0xee)
      for (let turns = order.below(8); turns >= 0; turns--) await new Promise(setImmediate)
      state.flying--
      if (offset === failsAt) throw new LiveError('IO', 'a bad place')
      target.set(bytes.subarray(offset, offset + target.length))
    },
  }
  return { device, state }
}

describe('readAhead', () => {
  test('gives what a device reads into memory, in order and in few pieces', async () => {
    const bytes = random(1).bytes(53_421)
    const { device, state } = placing(bytes)
    const got = new Uint8Array(bytes.length)
    for await (const read of readAhead(device, runsOf(bytes.length), PIECE)) {
      // Whoever takes a piece may take his time.
      await new Promise(setImmediate)
      got.set(read.bytes, read.offset)
    }
    sameBytes(got, bytes)
    expect(state.most).toBeGreaterThan(1)
    expect(state.seen.size).toBeLessThanOrEqual(7)
  })

  test('gives what any other device reads', async () => {
    const bytes = random(2).bytes(12_345)
    const { name, size, read, close } = memory(bytes)
    const device = { name, size, read, close }
    const got = new Uint8Array(bytes.length)
    for await (const read of readAhead(device, runsOf(bytes.length), PIECE)) got.set(read.bytes, read.offset)
    sameBytes(got, bytes)
  })

  test('a failure comes in its turn, when nothing reads any more', async () => {
    const bytes = random(3).bytes(20_000)
    const { device, state } = placing(bytes, 5000)
    const offsets: number[] = []
    const reading = async (): Promise<void> => {
      for await (const { offset } of readAhead(device, runsOf(bytes.length), PIECE)) offsets.push(offset)
    }
    await expect(reading()).rejects.toThrow('a bad place')
    expect(offsets).toEqual([0, 1000, 2000, 3000, 4000])
    expect(state.flying).toBe(0)
  })

  test('who stops early leaves nothing that reads', async () => {
    const { device, state } = placing(random(4).bytes(20_000))
    for await (const { offset } of readAhead(device, runsOf(20_000), PIECE)) if (offset === 3000) break
    expect(state.flying).toBe(0)
  })
})
