import { describe, expect, test } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { snapshot } from '../../../../src/block/snapshot/snapshot.js'
import { openBlocks } from '../../../../src/fs/squashfs/blocks.js'
import { type SquashFile, squashFile } from '../../../../src/fs/squashfs/file.js'
import { sameBytes } from '../../../support/outcome.js'
import { bytesOf } from '../../../support/small-stick.js'
import { storeOf } from '../../../support/store-writer.js'

const BLOCK = 8192
const BLOCKS = 40
const DEPTH = 4

/** A file of blocks that a decoder "expands" by giving them back, counting which; the image ends with the file. */
const made = (depth: number): { file: SquashFile; bytes: Uint8Array; decoded: number[] } => {
  const bytes = bytesOf(7, BLOCK * BLOCKS)
  const decoded: number[] = []
  const image = memory(bytes, 'image')
  const decode = async (_name: string, input: Uint8Array): Promise<Uint8Array> => {
    decoded.push(Buffer.from(bytes.buffer).indexOf(input) / BLOCK)
    return input
  }
  const file = squashFile({
    name: 'file',
    size: bytes.length,
    blockSize: BLOCK,
    sizes: new Uint32Array(BLOCKS).fill(BLOCK),
    compressed: new Uint8Array(BLOCKS).fill(1),
    startBlock: 0,
    tail: undefined,
    blocks: openBlocks(image, 'gzip', decode, depth, undefined, BLOCK),
    image,
  })
  return { file, bytes, decoded }
}

describe('a file in a squashfs', () => {
  test('who reads here and there expands those blocks alone', async () => {
    const { file, bytes, decoded } = made(DEPTH)
    for (const block of [30, 5, 17, 2, 9])
      sameBytes(await file.read(block * BLOCK + 100, 50), bytes.subarray(block * BLOCK + 100, block * BLOCK + 150))
    expect(decoded).toEqual([30, 5, 17, 2, 9])
  })

  test('reading in sequence keeps the decoders in work, and expands each block once', async () => {
    const { file, bytes, decoded } = made(DEPTH)
    let most = 0
    for (let n = 0; n < BLOCKS; n++) {
      sameBytes(await file.read(n * BLOCK, BLOCK), bytes.subarray(n * BLOCK, (n + 1) * BLOCK))
      most = Math.max(most, Math.max(...decoded) - n)
    }
    expect(most).toBe(DEPTH)
    expect(decoded.toSorted((a, b) => a - b)).toEqual(Array.from({ length: BLOCKS }, (_, n) => n))
  })

  test('a snapshot that reads around its chunks in one block expands that one', async () => {
    const { file, decoded } = made(DEPTH)
    // every second chunk of block 9 but its first, in chunks of 1 KiB: four parts of the base in one block
    const changes = [73, 75, 77, 79].map(oldChunk => ({ oldChunk, content: bytesOf(oldChunk, 1024) }))
    const view = await snapshot(file, memory(storeOf(changes, 2), 'store'))
    await view.read(9 * BLOCK, BLOCK)
    expect(decoded).toEqual([9])
  })

  test('parts of blocks that are read side by side, their whole block looked at meanwhile, expand each once', async () => {
    const { file, bytes, decoded } = made(DEPTH)
    const wanted = Array.from({ length: DEPTH + 1 }, (_, n) => n)
    // One that was read before is known to all.
    await file.readBlock(0)
    await Promise.all(
      wanted.map(block =>
        file.useBlock(block, async whole => {
          const parts = new Uint8Array(BLOCK)
          for (let at = 0; at < BLOCK; at += 1024)
            await file.readInto(block * BLOCK + at, parts.subarray(at, at + 1024))
          sameBytes(parts, bytes.subarray(block * BLOCK, (block + 1) * BLOCK))
          sameBytes(whole, parts)
          await file.readInto(block * BLOCK, parts.fill(0))
          sameBytes(whole, parts)
        }),
      ),
    )
    expect(decoded.toSorted((a, b) => a - b)).toEqual(wanted)
  })

  test('reads into memory that is given, whole blocks and parts of them', async () => {
    for (const Memory of [ArrayBuffer, SharedArrayBuffer])
      for (const [offset, length] of [
        [0, BLOCK],
        [3 * BLOCK, 4 * BLOCK],
        [100, 50],
        [5 * BLOCK - 10, 2 * BLOCK + 20],
        [(BLOCKS - 1) * BLOCK, BLOCK],
      ] as const) {
        const { file, bytes, decoded } = made(DEPTH)
        const target = new Uint8Array(new Memory(length + 2), 1, length)
        await file.readInto(offset, target)
        sameBytes(target, bytes.subarray(offset, offset + length))
        expect(decoded).toHaveLength(Math.ceil((offset + length) / BLOCK) - Math.floor(offset / BLOCK))
        expect([...new Uint8Array(target.buffer, 0, 1), ...new Uint8Array(target.buffer, length + 1)]).toEqual([0, 0])
      }
  })

  test('what a read gave is the caller’s own, however it was come by', async () => {
    for (const depth of [0, DEPTH]) {
      const { file, bytes } = made(depth)
      const before = bytes.slice()
      for (const [offset, length] of [
        [0, BLOCK],
        [BLOCK, BLOCK],
        [BLOCK, BLOCK],
        [10, 20],
        [0, 3 * BLOCK],
      ] as const)
        (await file.read(offset, length)).fill(0xee)
      const [first, second] = await Promise.all([file.read(0, BLOCK), file.read(0, BLOCK)])
      first.fill(0xdd)
      sameBytes(second, before.subarray(0, BLOCK))
      const [block, taken] = await Promise.all([file.readBlock(5), file.read(5 * BLOCK, BLOCK)])
      taken.fill(0xcc)
      sameBytes(block, before.subarray(5 * BLOCK, 6 * BLOCK))
      sameBytes(await file.read(0, bytes.length), before)
    }
  })
})
