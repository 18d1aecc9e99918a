import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import type { Compressor } from '../../../src/bytes/codec.js'
import { poolEncoder } from '../../../src/bytes/encoder.js'
import type { CodecPool } from '../../../src/bytes/pool.js'
import { failure } from '../../support/outcome.js'

const GZIP: Compressor = { name: 'gzip', level: 9, windowSize: 15, strategies: [] } as unknown as Compressor
const BLOCK = 1 << 20
const COUNT = 200

/** A pool whose answers are blocks of their own. */
const pool = {
  threads: 2,
  encode: async (_compressor: Compressor, bytes: Uint8Array) => bytes.slice(0, BLOCK - 1),
} as unknown as CodecPool

async function* blocks(count = COUNT): AsyncGenerator<Uint8Array> {
  for (let n = 0; n < count; n++) yield new Uint8Array(BLOCK).fill(n + 1)
}

it('keeps no block that was taken', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const before = process.memoryUsage().arrayBuffers
  const { signal } = new AbortController()
  let taken = 0
  for await (const { bytes } of poolEncoder(pool)(GZIP, BLOCK, blocks(), signal)) {
    expect(bytes[0]).toBe(taken + 1)
    taken++
    if (taken % 50 > 0) continue
    // freed behind the back of the collector
    await expect
      .poll(
        () => {
          collect()
          return process.memoryUsage().arrayBuffers - before
        },
        { timeout: 3000 },
      )
      .toBeLessThan(20 * BLOCK)
  }
  expect(taken).toBe(COUNT)
})

it('stops while it waits for a block, and for a pool that never answers', async () => {
  for (const [source, stuck] of [
    [
      (async function* () {
        await new Promise(() => {})
        yield new Uint8Array(0)
      })(),
      pool,
    ],
    [blocks(3), { ...pool, encode: () => new Promise(() => {}) } as unknown as CodecPool],
  ] as const) {
    const stop = new AbortController()
    setTimeout(() => stop.abort(), 20)
    const run = async () => {
      for await (const _ of poolEncoder(stuck)(GZIP, BLOCK, source, stop.signal)) expect(true).toBe(false)
    }
    await failure(run(), 'CANCELLED')
  }
  const aborted = AbortSignal.abort()
  await failure(
    (async () => {
      for await (const _ of poolEncoder(pool)(GZIP, BLOCK, blocks(2), aborted)) expect(true).toBe(false)
    })(),
    'CANCELLED',
  )
})
