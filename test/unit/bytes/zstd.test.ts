import { randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Codec, CodecError, type SettingsOf } from '../../../src/bytes/codec.js'
import { loadZstd, parseZstdFrame } from '../../../src/bytes/zstd.js'
import { sample } from './samples.js'

/** Frames by hand: RLE blocks of "a", without a content size and with a window of 128 KiB (RFC 8878). */
const rle = (sizes: readonly number[], window = 7 << 3): Uint8Array => {
  const blocks = sizes.flatMap((size, i) => {
    const header = (size << 3) | (1 << 1) | (i === sizes.length - 1 ? 1 : 0)
    return [header & 255, (header >> 8) & 255, header >> 16, 97]
  })
  return Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, window, ...blocks)
}

describe.each([false, true])('wasm: %s', wasm => {
  let codec: Codec<SettingsOf<'zstd'>>
  beforeAll(async () => {
    codec = await loadZstd({ wasm })
  })

  test('a frame without its size', () => {
    const output = new Uint8Array(1000)
    expect(codec.decode(rle([300, 200]), output)).toBe(500)
    expect(output.subarray(0, 500)).toEqual(new Uint8Array(500).fill(97))
    expect(() => codec.decode(rle([900, 200]), output)).toThrow(CodecError)
    expect(() => codec.decode(rle(Array(500).fill(131072)), output)).toThrow(CodecError)
  })

  test('a window above 8 MiB is refused before it is allocated', () => {
    expect(codec.decode(rle([5], 13 << 3), new Uint8Array(10))).toBe(5)
    expect(() => codec.decode(rle([5], 14 << 3), new Uint8Array(10))).toThrow('the window has 16777216 bytes')
  })

  test('the window that is written is never above the block', () => {
    for (const length of [300, 4096, 131072, 2 ** 20])
      for (const level of [1, 15, 22]) {
        const block = codec.encode!({ name: 'zstd', level }, sample(length), 2 ** 20)!
        const { windowSize, contentSize } = parseZstdFrame(block)
        expect(contentSize).toBe(length)
        expect(windowSize).toBeLessThanOrEqual(length)
      }
  })

  test('blocks of many lengths and levels one behind the other come back, and what does not get smaller is left', () => {
    const output = new Uint8Array(2 ** 20)
    for (const [n, length] of [2 ** 20, 1000, 131072, 2 ** 20, 17, 300_000, 2 ** 20].entries())
      for (const level of [15, n + 1, 15]) {
        const bytes = sample(length)
        const block = codec.encode!({ name: 'zstd', level }, bytes, 2 ** 20)
        if (!block) {
          expect(length).toBe(17)
          continue
        }
        expect(codec.decode(block, output)).toBe(length)
        expect(Buffer.compare(output.subarray(0, length), bytes)).toBe(0)
        const noise = randomBytes(length)
        expect(codec.encode!({ name: 'zstd', level }, noise, 2 ** 20)).toBe(undefined)
      }
  })

  test('one frame only, and all of it', () => {
    const block = codec.encode!({ name: 'zstd', level: 3 }, sample(300_000), 2 ** 20)!
    const output = new Uint8Array(2 ** 20)
    for (const bad of [
      block.subarray(0, -1),
      block.subarray(0, -5),
      block.subarray(0, 6),
      Buffer.concat([block, block]),
    ])
      expect(() => codec.decode(bad, output)).toThrow(CodecError)
  })

  test('a damaged block leaves nothing behind for the next', () => {
    const bytes = sample(300_000)
    const block = codec.encode!({ name: 'zstd', level: 3 }, bytes, 2 ** 20)!
    const output = new Uint8Array(2 ** 20)
    let refused = 0
    for (let at = 5; at < block.length; at += 997) {
      const bad = Uint8Array.from(block)
      bad[at]! ^= 0x55
      try {
        codec.decode(bad, output)
      } catch (error) {
        expect(error).toBeInstanceOf(CodecError)
        refused++
      }
      output.fill(0)
      expect(codec.decode(block, output)).toBe(bytes.length)
      expect(Buffer.compare(output.subarray(0, bytes.length), bytes)).toBe(0)
    }
    expect(refused).toBeGreaterThan(0)
  })
})
