import fc from 'fast-check'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import type { CompressorName } from '../../../src/bytes/codec.js'
import { CodecError, canEncode, decodeBlock, encodeBlock, loadCodec } from '../../../src/bytes/codecs.js'
import { goldenBytes, goldenLzma, goldenLzo1, goldenLzo999 } from './golden.js'
import { ENCODABLE, noise, sample } from './samples.js'

const NAMES: readonly CompressorName[] = ['gzip', 'lzma', 'lzo', 'xz', 'lz4', 'zstd']
const BLOCK = 131072

beforeAll(async () => {
  for (const name of NAMES) await loadCodec(name)
})

/** One valid block of each compressor, and what it holds. */
const valid = (name: CompressorName): { block: Uint8Array; bytes: Uint8Array } => {
  if (name === 'lzma') return { block: goldenLzma, bytes: goldenBytes() }
  if (name === 'lzo') return { block: goldenLzo999, bytes: goldenBytes() }
  const bytes = sample(5000)
  const block = encodeBlock(ENCODABLE.find(compressor => compressor.name === name)!, bytes, BLOCK)!
  return { block, bytes }
}

const isShorter = (decode: () => Uint8Array, length: number): boolean => {
  try {
    return decode().length < length
  } catch {
    return false
  }
}

test('a codec that was not loaded is a bug', async () => {
  vi.resetModules()
  const fresh = await import('../../../src/bytes/codecs.js')
  expect(() => fresh.decodeBlock('zstd', Uint8Array.of(1), 10)).toThrow("liveos bug: loadCodec('zstd')")
  expect(fresh.isCodecLoaded('zstd')).toBe(false)
  await fresh.loadCodec('zstd')
  expect(fresh.isCodecLoaded('zstd')).toBe(true)
})

test('blocks of other authors', () => {
  expect(decodeBlock('lzma', goldenLzma, BLOCK)).toEqual(goldenBytes())
  expect(decodeBlock('lzo', goldenLzo999, BLOCK)).toEqual(goldenBytes())
  expect(decodeBlock('lzo', goldenLzo1, BLOCK)).toEqual(goldenBytes())
})

describe.each(ENCODABLE.map(compressor => [JSON.stringify(compressor), compressor] as const))('%s', (_, compressor) => {
  test('gives back what it got', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40000 }), fc.integer(), (length, seed) => {
        const bytes = sample(length, seed)
        const block = encodeBlock(compressor, bytes, BLOCK)
        if (block) {
          expect(block.length).toBeLessThan(bytes.length)
          expect(Buffer.compare(decodeBlock(compressor.name, block, BLOCK), bytes)).toBe(0)
          expect(Buffer.compare(decodeBlock(compressor.name, block, bytes.length), bytes)).toBe(0)
        } else expect(length).toBeLessThan(400)
      }),
      { numRuns: 25 },
    )
  })

  test('a whole block of zeros, and blocks that do not shrink', () => {
    const zeros = new Uint8Array(BLOCK)
    expect(decodeBlock(compressor.name, encodeBlock(compressor, zeros, BLOCK)!, BLOCK)).toEqual(zeros)
    for (const length of [1, 2, 100, BLOCK]) expect(encodeBlock(compressor, noise(length), BLOCK)).toBeUndefined()
  })

  test('takes parts of larger buffers, shared ones too', () => {
    const bytes = sample(3000)
    const shared = new Uint8Array(new SharedArrayBuffer(4000), 13, 3000)
    shared.set(bytes)
    const block = encodeBlock(compressor, shared, BLOCK)!
    const padded = new Uint8Array(new SharedArrayBuffer(block.length + 20), 7, block.length)
    padded.set(block)
    expect(decodeBlock(compressor.name, padded, 3000)).toEqual(bytes)
  })
})

describe.each(NAMES)('%s', name => {
  test('never writes beyond the capacity', () => {
    const { block, bytes } = valid(name)
    for (const capacity of [bytes.length - 1, Math.floor(bytes.length / 2), 1])
      expect(() => decodeBlock(name, block, capacity)).toThrow(CodecError)
    expect(decodeBlock(name, block, bytes.length)).toEqual(bytes)
    expect(decodeBlock(name, block, bytes.length + 1)).toEqual(bytes)
  })

  test('refuses a block that is cut short', () => {
    const { block, bytes } = valid(name)
    // what lzma's header promises is complete before the end marker
    const lengths = Array.from({ length: 40 }, (_, i) => Math.floor((i * block.length) / 41)).concat(block.length - 20)
    for (const length of lengths) {
      const cut = (): Uint8Array => decodeBlock(name, block.subarray(0, length), bytes.length + 100)
      // LZ4 blocks have no end of their own: one cut between two sequences is a shorter block
      if (name === 'lz4' && isShorter(cut, bytes.length)) continue
      expect(cut).toThrow(CodecError)
    }
  })

  test('random bytes are refused, or a block by chance', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 1, max: 10000 }), (bytes, capacity) => {
        try {
          expect(decodeBlock(name, bytes, capacity).length).toBeLessThanOrEqual(capacity)
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError)
        }
      }),
      { numRuns: 300 },
    )
  })

  test('damaged blocks are refused, or another block by chance', () => {
    const { block, bytes } = valid(name)
    const change = fc.record({ at: fc.nat(block.length - 1), value: fc.integer({ min: 0, max: 255 }) })
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), changes => {
        const damaged = Uint8Array.from(block)
        for (const { at, value } of changes) damaged[at] = value
        try {
          expect(decodeBlock(name, damaged, bytes.length).length).toBeLessThanOrEqual(bytes.length)
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError)
        }
      }),
      { numRuns: 300 },
    )
  })

  test('still works after all that', () => {
    const { block, bytes } = valid(name)
    expect(decodeBlock(name, block, bytes.length)).toEqual(bytes)
  })
})

test('bombs end at the capacity, in little memory', () => {
  const size = 48 * 2 ** 20
  const zeros = new Uint8Array(size)
  const bombs: [CompressorName, Uint8Array][] = ENCODABLE.filter(({ name }) => name !== 'xz').map(compressor => [
    compressor.name,
    encodeBlock(compressor, zeros, size)!,
  ])
  bombs.push(['xz', encodeBlock({ name: 'xz', dictionarySize: size, filters: 0 }, zeros, size)!])
  // a literal, then a match at distance 1 whose length goes on in 60,000 bytes of 255 each
  bombs.push(['lzo', Uint8Array.of(18, 65, 32, ...new Uint8Array(60000), 1, 0, 0, 17, 0, 0)])
  const before = process.memoryUsage().rss
  for (const [name, bomb] of bombs) expect(() => decodeBlock(name, bomb, BLOCK), name).toThrow(CodecError)
  expect(process.memoryUsage().rss - before).toBeLessThan(32 * 2 ** 20)
})

test('says which settings it can encode', () => {
  for (const compressor of ENCODABLE) expect(canEncode(compressor)).toBe(true)
  const others = [
    { name: 'lzo', algorithm: 4, level: 8 },
    { name: 'lzma' },
    { name: 'lz4', highCompression: true },
  ] as const
  for (const compressor of others) {
    expect(canEncode(compressor)).toBe(false)
    expect(() => encodeBlock(compressor, Uint8Array.of(1), 10)).toThrowError(
      expect.objectContaining({ code: 'UNSUPPORTED' }),
    )
  }
})
