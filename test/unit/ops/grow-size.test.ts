import { describe, expect, it } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { readStore } from '../../../src/block/snapshot/store.js'
import { chooseSize, isTrapSize, leastSize, mostSize } from '../../../src/ops/grow-size.js'
import { storeOf } from '../../support/store-writer.js'

const MIB = 1 << 20
const FAT = mostSize(2 ** 32 - 1)
const limits = (current: number, more: { chunkSize?: number; most?: number; least?: number } = {}) => ({
  current,
  chunkSize: 4096,
  most: FAT,
  least: 0,
  ...more,
})

describe('sizes at which the kernel invalidates a full store', () => {
  it('are 1 modulo 257 chunks of 4 KiB: 256 MiB and 513 MiB, and neither 128 MiB nor 512 MiB', () => {
    for (const mib of [256, 513, 770]) expect(isTrapSize(mib * MIB, 4096), `${mib} MiB`).toBe(true)
    for (const mib of [1, 100, 128, 255, 257, 300, 512, 514, 1024, 2048, 4095])
      expect(isTrapSize(mib * MIB, 4096), `${mib} MiB`).toBe(false)
  })

  it('as the kernel showed with 257 and 258 chunks', () => {
    expect(isTrapSize(257 * 4096, 4096)).toBe(false)
    expect(isTrapSize(258 * 4096, 4096)).toBe(true)
    expect(isTrapSize(258 * 4096 + 4095, 4096)).toBe(true)
    expect(isTrapSize(259 * 4096, 4096)).toBe(false)
  })

  it('depend on the chunk: 33 of 512 bytes to an area', () => {
    expect(isTrapSize(34 * 512, 512)).toBe(true)
    expect(isTrapSize(33 * 512, 512)).toBe(false)
    expect(isTrapSize(512, 512)).toBe(false)
  })
})

describe('the size that an overlay gets', () => {
  it('is the one asked for', () => {
    expect(chooseSize(512 * MIB, limits(128 * MIB))).toEqual({ size: 512 * MIB })
    expect(chooseSize({ by: 256 * MIB }, limits(128 * MIB))).toEqual({ size: 384 * MIB })
    expect(chooseSize({ by: -28 * MIB }, limits(128 * MIB))).toEqual({ size: 100 * MIB })
    expect(chooseSize(128 * MIB, limits(128 * MIB))).toEqual({ size: 128 * MIB })
  })

  it('is whole chunks', () => {
    expect(chooseSize(128 * MIB + 1, limits(0)).size).toBe(128 * MIB + 4096)
    expect(chooseSize(FAT, limits(0))).toMatchObject({ size: 2 ** 32 - 4096 })
    // what has an odd size keeps it
    expect(chooseSize({ by: 0 }, limits(1000_000))).toEqual({ size: 1000_000 })
  })

  it('is one chunk less than a trap, and one more where that is no growing', () => {
    expect(chooseSize(256 * MIB, limits(128 * MIB))).toMatchObject({ size: 256 * MIB - 4096 })
    expect(chooseSize(256 * MIB, limits(256 * MIB))).toMatchObject({ size: 256 * MIB + 4096 })
    expect(chooseSize({ by: 0 }, limits(256 * MIB))).toMatchObject({ size: 256 * MIB + 4096 })
    expect(chooseSize(256 * MIB, limits(256 * MIB - 4096))).toMatchObject({ size: 256 * MIB + 4096 })
    expect(chooseSize(256 * MIB, limits(300 * MIB))).toMatchObject({ size: 256 * MIB - 4096 })
    expect(chooseSize(256 * MIB, limits(300 * MIB, { least: 256 * MIB }))).toMatchObject({ size: 256 * MIB + 4096 })
    expect(chooseSize(256 * MIB, limits(128 * MIB, { most: 256 * MIB }))).toMatchObject({ size: 256 * MIB - 4096 })
  })

  it('is never a trap, nor below what it holds, nor above what the filesystem takes', () => {
    for (const chunkSize of [512, 4096, 32768])
      for (let chunks = 3; chunks < 1200; chunks++)
        for (const current of [chunks - 2, chunks - 1, chunks, chunks + 1, chunks + 700]) {
          const { size } = chooseSize(chunks * chunkSize, {
            current: current * chunkSize,
            chunkSize,
            most: 2000 * chunkSize,
            least: 2 * chunkSize,
          })
          expect(isTrapSize(size, chunkSize)).toBe(false)
          expect(Math.abs(size / chunkSize - chunks)).toBeLessThan(2)
          if (chunks > current) expect(size).toBeGreaterThan(current * chunkSize)
          if (chunks < current) expect(size).toBeLessThan(current * chunkSize)
        }
  })

  it.each([
    [0, 'USAGE'],
    [{ by: -200 * MIB }, 'USAGE'],
    [Number.NaN, 'USAGE'],
    [2 ** 32, 'NO_SPACE'],
    [5 * MIB, 'REFUSED'],
  ] as const)('%j is %s', (asked, code) => {
    expect(() => chooseSize(asked, limits(128 * MIB, { least: 6 * MIB }))).toThrow(expect.objectContaining({ code }))
  })
})

it('the least size of a store leaves room for one chunk more, with the area that it needs', async () => {
  const CHUNK = 512
  for (const count of [0, 1, 30, 31, 32, 33, 62, 63, 64, 65, 96]) {
    const content = new Uint8Array(CHUNK)
    const changes = Array.from({ length: count }, (_, oldChunk) => ({ oldChunk, content }))
    const bytes = storeOf(changes, 1, 8)
    const least = leastSize(await readStore(memory(bytes)))
    const cut = await readStore(memory(bytes.slice(0, least)))
    expect(cut, `${count}`).toMatchObject({ full: false, truncated: false })
    expect(cut.exceptions.count).toBe(count)
    expect(isTrapSize(least, CHUNK)).toBe(false)
    if (isTrapSize(least - CHUNK, CHUNK)) continue
    const tooSmall = await readStore(memory(bytes.slice(0, least - CHUNK))).catch(() => ({ full: true }))
    expect(tooSmall.full, `${count}, one chunk less`).toBe(true)
  }
})
