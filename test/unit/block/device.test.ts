import { expect, test } from 'vitest'
import { clear } from '../../../src/block/device.js'

test.each([
  ['memory of its own', (size: number) => new ArrayBuffer(size)],
  ['shared memory', (size: number) => new SharedArrayBuffer(size)],
])('clears just what it is given: %s', (_, make) => {
  const all = new Uint8Array(make((2 << 20) + 64))
  for (const [start, length] of [
    [0, 1],
    [3, 100],
    [8, 1 << 20],
    [5, (2 << 20) - 1],
    [13, (1 << 20) - 8],
    [1, 0],
  ] as const) {
    all.set(Buffer.alloc(all.length, 7))
    clear(all.subarray(start, start + length))
    const kept = (from: number, to: number): boolean => all.subarray(from, to).every(byte => byte === 7)
    expect([start, length, kept(0, start), kept(start + length, all.length)]).toEqual([start, length, true, true])
    expect(all.subarray(start, start + length).every(byte => byte === 0)).toBe(true)
  }
})
