import { describe, expect, it } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { decodeBlock, encodeBlock, loadCodec } from '../../../src/bytes/codecs.js'
import {
  encodeSkippableFrame,
  encodeStoredFrame,
  isZstd,
  readZstdFrames,
  type ZstdFrame,
} from '../../../src/bytes/zstd-frames.js'
import { isLiveError } from '../../../src/error.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const { bytes: noise, below, seed } = random()

const all = async (file: Uint8Array): Promise<ZstdFrame[]> => {
  const found: ZstdFrame[] = []
  for await (const frame of readZstdFrames(memory(file, 'file'))) found.push(frame)
  return found
}

const packed = async (bytes: Uint8Array): Promise<Uint8Array> => {
  await loadCodec('zstd')
  return encodeBlock({ name: 'zstd', level: 3 }, bytes, bytes.length)!
}

describe('frames of a zstd file', () => {
  it('are found one behind the other, with what comes out of each', async () => {
    const text = Buffer.alloc(300_000, 'all work and no play ')
    const stored = noise(200_000)
    const parts = [await packed(text), encodeSkippableFrame(Buffer.from('a note')), encodeStoredFrame(stored)]
    const file = Buffer.concat(parts)
    expect(isZstd(file)).toBe(true)
    const found = await all(file)
    expect(found.map(({ kind, length, contentSize }) => [kind, length, contentSize])).toEqual([
      ['data', parts[0]!.length, text.length],
      ['skippable', parts[1]!.length, 0],
      ['data', parts[2]!.length, stored.length],
    ])
    expect(found[2]!.contentAtMost).toBe(stored.length)
    for (const [n, content] of [
      [0, text],
      [2, stored],
    ] as const)
      sameBytes(decodeBlock('zstd', new Uint8Array(parts[n]!), content.length), content)
  })

  it('of any size, stored', async () => {
    await loadCodec('zstd')
    for (const length of [1, 2, 131_071, 131_072, 131_073, 1 << 20]) {
      const content = noise(length)
      const frame = encodeStoredFrame(content)
      expect((await all(frame)).map(({ contentSize }) => contentSize)).toEqual([length])
      sameBytes(decodeBlock('zstd', new Uint8Array(frame), length), content)
    }
  })

  it('cut off anywhere they are told so', async () => {
    const file = Buffer.concat([encodeSkippableFrame(noise(9)), await packed(Buffer.alloc(500, 'ab'))])
    const first = (await all(file))[1]!.offset
    for (let length = 1; length < file.length; length++)
      if (length !== first) await failure(all(file.subarray(0, length)), 'CORRUPT')
  })

  it('with bits turned over give a list or an error of ours', async () => {
    const file = Buffer.concat([
      await packed(Buffer.alloc(5000, 'abc')),
      encodeSkippableFrame(noise(9)),
      encodeStoredFrame(noise(700)),
    ])
    for (let round = 0; round < 2000; round++) {
      const damaged = Buffer.from(file)
      for (let n = 0; n < 1 + below(3); n++) damaged[below(damaged.length)]! ^= 1 << below(8)
      try {
        expect((await all(damaged)).length).toBeLessThan(700)
      } catch (error) {
        if (!isLiveError(error)) throw new Error(`seed ${seed}`, { cause: error })
      }
    }
  })

  it('that claim more than their blocks can hold, or want a dictionary', async () => {
    const frame = Buffer.from(encodeStoredFrame(noise(100)))
    const claiming = Buffer.from(frame)
    claiming.writeUInt32LE(2 ** 31, 5)
    await failure(all(claiming), 'CORRUPT')
    const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1])
    await failure(all(Buffer.concat([header, Buffer.from([9, 0, 0, 1])])), 'UNSUPPORTED')
    await failure(all(Buffer.from('not a zstd file at all')), 'CORRUPT')
  })
})
