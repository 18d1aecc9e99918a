import { execFileSync, spawnSync } from 'node:child_process'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BlockEncoder, StoredBlock } from '../../../src/bytes/codec.js'
import { CodecError, encodeBlock, loadCodec } from '../../../src/bytes/codecs.js'
import { poolEncoder } from '../../../src/bytes/encoder.js'
import { type CodecPool, openPool } from '../../../src/bytes/pool.js'
import { ENCODABLE, noise, sample } from './samples.js'

const BLOCK = 65536
const xz = { name: 'xz', dictionarySize: BLOCK, filters: 0 } as const

let pool: CodecPool
beforeAll(async () => {
  for (const { name } of ENCODABLE) await loadCodec(name)
  pool = openPool({ threads: 2 })
})
afterAll(() => pool.close())

test('does what the codecs do, many at once and of changing sizes', async () => {
  const jobs = Array.from({ length: 60 }, async (_, i) => {
    const compressor = ENCODABLE[i % ENCODABLE.length]!
    const bytes = sample(1000 + ((i * 7919) % 60000), i)
    const block = await pool.encode(compressor, bytes, BLOCK)
    expect(block).toEqual(new Uint8Array(encodeBlock(compressor, bytes, BLOCK)!))
    const back = await pool.decode(compressor.name, block!, i % 2 ? BLOCK : bytes.length)
    expect(Buffer.compare(back, bytes)).toBe(0)
    expect(back.buffer).toBeInstanceOf(ArrayBuffer)
    // zlib wants a byte to spare
    expect(back.buffer.byteLength - back.length).toBeLessThanOrEqual(64)
  })
  await Promise.all(jobs)
})

test('a block that does not shrink', async () => {
  expect(await pool.encode(xz, noise(5000), BLOCK)).toBeUndefined()
})

test('errors come back as they are, and the pool goes on', async () => {
  const block = encodeBlock(xz, sample(5000), BLOCK)!
  await expect(pool.decode('xz', noise(100), BLOCK)).rejects.toBeInstanceOf(CodecError)
  await expect(pool.decode('xz', block, 4999)).rejects.toThrow('larger than 4999 bytes')
  await expect(pool.encode({ name: 'lzma' }, noise(10), BLOCK)).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  await expect(pool.encode(xz, noise(BLOCK + 1), BLOCK)).rejects.toThrow('liveos bug')
  expect(await pool.decode('xz', block, 5000)).toEqual(sample(5000))
})

test('expands into shared memory, from shared memory or not', async () => {
  const shared = (bytes: Uint8Array): Uint8Array => {
    const copy = new Uint8Array(new SharedArrayBuffer(bytes.length + 3), 3)
    copy.set(bytes)
    return copy
  }
  for (const compressor of ENCODABLE) {
    const bytes = sample(50_000, 3)
    const block = encodeBlock(compressor, bytes, BLOCK)!
    for (const input of [block, shared(block)]) {
      const target = shared(new Uint8Array(bytes.length + 20))
      expect(await pool.decodeInto(compressor.name, input, target.subarray(10, -5))).toBe(bytes.length)
      expect(Buffer.compare(target.subarray(10, 10 + bytes.length), bytes)).toBe(0)
      expect([...target.subarray(0, 10), ...target.subarray(-5)]).toEqual(Array(15).fill(0))
      await expect(pool.decodeInto(compressor.name, input, target.subarray(0, 49_999))).rejects.toBeInstanceOf(
        CodecError,
      )
      expect(target.subarray(-5)).toEqual(new Uint8Array(5))
    }
  }
  await expect(pool.decodeInto('xz', noise(10), new Uint8Array(10))).rejects.toThrow('liveos bug')
})

test('a worker that dies rejects its jobs with IO, and the next job gets a new one', async () => {
  const body = 'import { parentPort } from "node:worker_threads"; parentPort.on("message", () => process.exit(1))'
  const fragile = openPool({ threads: 2, script: new URL(`data:text/javascript,${encodeURIComponent(body)}`) })
  for (let round = 0; round < 2; round++) {
    const jobs = Array.from({ length: 7 }, () => fragile.decode('xz', sample(100), BLOCK))
    for (const outcome of await Promise.allSettled(jobs))
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'IO' } })
  }
  await fragile.close()
  await expect(fragile.decode('xz', sample(100), BLOCK)).rejects.toMatchObject({ code: 'CANCELLED' })
})

test('closing rejects what is not done', async () => {
  const closing = openPool({ threads: 1 })
  const jobs = Array.from({ length: 6 }, () => closing.encode(xz, sample(BLOCK), BLOCK))
  const settled = Promise.allSettled(jobs)
  await closing.close()
  const rejected = (await settled).filter(({ status }) => status === 'rejected')
  expect(rejected.length).toBeGreaterThan(0)
  for (const outcome of rejected) expect(outcome).toMatchObject({ reason: { code: 'CANCELLED' } })
})

test('a process with an open pool ends by itself, and waits for what is at work', () => {
  const module = pathToFileURL('dist/bytes/pool.js').href
  const script = `
    import { openPool } from ${JSON.stringify(module)}
    const pool = openPool({ threads: 2 })
    const block = await pool.encode({ name: 'gzip', level: 9, windowBits: 15, strategies: 0 }, new Uint8Array(100000), 131072)
    console.log((await pool.decode('gzip', block, 131072)).length)`
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 20_000 })
  expect(out.toString()).toBe('100000\n')
})

test('process.exit in the middle of blocks ends the process and nothing else', () => {
  const module = pathToFileURL('dist/bytes/pool.js').href
  const script = `
    import { openPool } from ${JSON.stringify(module)}
    import { randomBytes } from 'node:crypto'
    const pool = openPool({ threads: 2 })
    const bytes = Buffer.from(randomBytes(500_000).toString('hex'))
    const jobs = Array.from({ length: 9 }, () => pool.encode({ name: 'xz', dictionarySize: 2 ** 20, filters: 0 }, bytes, 2 ** 20))
    await jobs[0]
    process.exit(7)`
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 30_000 })
  expect([status, stderr.toString()]).toEqual([7, ''])
})

describe('poolEncoder', () => {
  const encoded = (...args: Parameters<BlockEncoder>): AsyncIterator<StoredBlock> =>
    poolEncoder(pool)(...args)[Symbol.asyncIterator]()

  const blocks = async function* (count: number, taken: { count: number }): AsyncGenerator<Uint8Array> {
    for (let i = 0; i < count; i++) {
      taken.count++
      yield i % 5 === 4 ? noise(4000) : sample(4000 + (i % 3) * 20000, i)
    }
  }

  test('keeps the order, and reads ahead two blocks a thread', async () => {
    const taken = { count: 0 }
    let given = 0
    for await (const { bytes, compressed } of poolEncoder(pool)(xz, BLOCK, blocks(40, taken))) {
      expect(taken.count - given).toBeLessThanOrEqual(4)
      expect(compressed).toBe(given % 5 !== 4)
      const original = given % 5 === 4 ? noise(4000) : sample(4000 + (given % 3) * 20000, given)
      expect(compressed ? await pool.decode('xz', bytes, BLOCK) : bytes).toEqual(original)
      given++
    }
    expect(given).toBe(40)
  })

  test('stops at the signal', async () => {
    const stop = new AbortController()
    const taken = { count: 0 }
    const results = encoded(xz, BLOCK, blocks(10_000, taken), stop.signal)
    await results.next()
    stop.abort()
    await expect(results.next()).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(taken.count).toBeLessThan(10)
    await expect(encoded(xz, BLOCK, blocks(1, taken), AbortSignal.abort()).next()).rejects.toMatchObject({
      code: 'CANCELLED',
    })
  })

  test('stops at the signal while the source waits', async () => {
    const stop = new AbortController()
    const never = async function* (): AsyncGenerator<Uint8Array> {
      await new Promise(() => {})
      yield new Uint8Array(1)
    }
    const next = encoded(xz, BLOCK, never(), stop.signal).next()
    setTimeout(() => stop.abort(), 20)
    await expect(next).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test("passes the source's and the codec's errors on", async () => {
    const broken = async function* (): AsyncGenerator<Uint8Array> {
      yield sample(4000)
      throw new Error('unreadable')
    }
    const drain = async (source: AsyncIterable<Uint8Array>): Promise<void> => {
      for await (const _ of poolEncoder(pool)(xz, BLOCK, source));
    }
    await expect(drain(broken())).rejects.toThrow('unreadable')
    const taken = { count: 0 }
    await expect(
      encoded({ name: 'lzo', algorithm: 4, level: 8 }, BLOCK, blocks(1, taken)).next(),
    ).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  })
})
