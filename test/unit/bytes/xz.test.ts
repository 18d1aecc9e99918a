import { beforeAll, describe, expect, test } from 'vitest'
import type { Codec, SettingsOf } from '../../../src/bytes/codec.js'
import { loadXz } from '../../../src/bytes/xz.js'
import { sample } from './samples.js'

/** The id of the first filter and the dictionary's size, from the only block's header. */
const header = (stream: Uint8Array): { filter: number; dictionary: number } => {
  const flags = stream[13]!
  const skipVli = (at: number): number => (stream[at]! < 128 ? at + 1 : skipVli(at + 1))
  let at = 14
  if (flags & 0x40) at = skipVli(at)
  if (flags & 0x80) at = skipVli(at)
  const filter = stream[at]!
  if ((flags & 3) === 1) at += 2
  expect([...stream.subarray(at, at + 2)]).toEqual([0x21, 1])
  const property = stream[at + 2]!
  return { filter, dictionary: (2 | (property & 1)) * 2 ** ((property >> 1) + 11) }
}

const decoded = (codec: Codec, block: Uint8Array, capacity: number): Uint8Array => {
  const output = new Uint8Array(capacity)
  return output.subarray(0, codec.decode(block, output))
}

/** Calls with absolute targets, such as the x86 filter makes alike. */
const machineCode = (): Uint8Array => {
  const bytes = sample(60000)
  const view = new DataView(bytes.buffer)
  for (let at = 0; at + 64 < bytes.length; at += 40) {
    bytes[at] = 0xe8
    view.setInt32(at + 1, (at % 7) * 4096 + 100000 - at, true)
  }
  return bytes
}

describe.each([false, true])('wasm only: %s', wasmOnly => {
  let codec: Codec<SettingsOf<'xz'>>
  beforeAll(async () => {
    codec = await loadXz({ wasmOnly })
  })

  test.each([
    [131072, 131072, 131072],
    [8 * 2 ** 20, 131072, 131072],
    [98304, 131072, 98304],
    [100000, 131072, 98304],
    [8192, 131072, 8192],
    [2 ** 20, 2 ** 20, 2 ** 20],
  ])('dictionary %d with blocks of %d is written as %d', (dictionarySize, blockSize, expected) => {
    for (const length of [blockSize, 5000]) {
      const bytes = sample(length)
      const block = codec.encode!({ name: 'xz', dictionarySize, filters: 0 }, bytes, blockSize)!
      expect(header(block)).toEqual({ filter: 0x21, dictionary: expected })
      expect(Buffer.compare(decoded(codec, block, blockSize), bytes)).toBe(0)
    }
  })

  test('keeps the smallest of all filters', () => {
    const bytes = machineCode()
    const plain = codec.encode!({ name: 'xz', dictionarySize: 65536, filters: 0 }, bytes, 65536)!
    const best = codec.encode!({ name: 'xz', dictionarySize: 65536, filters: 63 }, bytes, 65536)!
    expect(best.length).toBeLessThan(plain.length)
    expect(header(best)).toEqual({ filter: 4, dictionary: 65536 })
    expect(Buffer.compare(decoded(codec, best, 65536), bytes)).toBe(0)
  })

  test('refuses a dictionary of 32 MiB and more before it allocates', () => {
    const block = codec.encode!({ name: 'xz', dictionarySize: 8192, filters: 0 }, sample(4000), 8192)!
    const huge = Uint8Array.from(block)
    const at = huge.indexOf(0x21, 13)
    huge[at + 2] = 40
    expect(() => decoded(codec, huge, 8192)).toThrow('the dictionary is larger than 32 MiB')
  })

  test('refuses bytes behind the stream', () => {
    const block = codec.encode!({ name: 'xz', dictionarySize: 8192, filters: 0 }, sample(4000), 8192)!
    const more = new Uint8Array(block.length + 1)
    more.set(block)
    more[block.length] = 1
    expect(() => decoded(codec, more, 8192)).toThrow('xz:')
  })
})

test('machine code and WebAssembly write blocks of the same size, within a hundredth', async () => {
  const bytes = sample(131072)
  const settings = { name: 'xz', dictionarySize: 131072, filters: 0 } as const
  const [native, wasm] = await Promise.all([loadXz(), loadXz({ wasmOnly: true })])
  const a = native.encode!(settings, bytes, 131072)!
  const b = wasm.encode!(settings, bytes, 131072)!
  expect(Math.abs(a.length - b.length)).toBeLessThan(a.length / 100)
  expect(Buffer.compare(decoded(native, b, 131072), bytes)).toBe(0)
  expect(Buffer.compare(decoded(wasm, a, 131072), bytes)).toBe(0)
})
