import { expect, test } from 'vitest'
import { type Exceptions, exceptionSet } from '../../../../src/block/snapshot/exceptions.js'
import { growingExceptions } from '../../../../src/block/snapshot/growing-exceptions.js'
import { cpuOf } from '../../../support/cpu.js'
import { random } from '../../../support/random.js'

const setOf = (oldChunks: readonly number[], newChunks: readonly number[]): Exceptions =>
  exceptionSet({ oldChunks: Float64Array.from(oldChunks), newChunks: Float64Array.from(newChunks) })

/** Different numbers in one of three orders. */
const numbers = (count: number, order: 'up' | 'down' | 'any', seed: number): number[] => {
  const { below } = random(seed)
  const all = Array.from({ length: count }, (_, n) => n * 3 + below(3))
  if (order === 'down') return all.reverse()
  if (order === 'any')
    for (let n = count - 1; n > 0; n--) {
      const other = below(n + 1)
      ;[all[n], all[other]] = [all[other]!, all[n]!]
    }
  return all
}

test.each([
  // exceptions at first, added, order
  [0, 1, 'up'],
  [0, 3000, 'up'],
  [0, 3000, 'down'],
  [0, 5000, 'any'],
  [1000, 3000, 'any'],
  [2000, 513, 'down'],
] as const)('%i exceptions and %i more, %s, answer as a set made at once does', (first, more, order) => {
  const { seed, below } = random()
  const oldChunks = numbers(first + more, order, seed)
  const newChunks = oldChunks.map((_, n) => n + 2 + Math.floor(n / 256))
  const growing = growingExceptions(setOf(oldChunks.slice(0, first), newChunks.slice(0, first)))
  const check = (count: number): void => {
    const whole = setOf(oldChunks.slice(0, count), newChunks.slice(0, count))
    expect(growing.count, `seed ${seed}`).toBe(count)
    expect([...growing.range()]).toEqual([...whole.range()])
    expect([...growing.stored()]).toEqual([...whole.stored()])
    for (let n = 0; n < 200; n++) {
      const [from, to] = [below(count * 3 + 3), below(count * 3 + 3)]
      expect(growing.find(from)).toBe(whole.find(from))
      expect(growing.touches(from, to)).toBe(whole.touches(from, to))
      expect(growing.firstFrom(from)).toBe(whole.firstFrom(from))
      const index = below(count)
      expect(growing.oldChunkAt(index)).toBe(whole.oldChunkAt(index))
      expect(growing.newChunkAt(index)).toBe(whole.newChunkAt(index))
      expect(growing.storedAt(index)).toBe(whole.storedAt(index))
    }
    expect([...growing.range(10, 40)]).toEqual([...whole.range(10, 40)])
  }
  if (first > 0) check(first)
  for (let n = first; n < first + more; n++) {
    growing.add(oldChunks[n]!, newChunks[n]!)
    if (n === first || n === first + Math.floor(more / 2)) check(n + 1)
  }
  check(first + more)
})

test('those added are stored in the order of their new chunks, behind the first', () => {
  const growing = growingExceptions(setOf([50, 10], [9, 2]))
  for (const [oldChunk, newChunk] of [
    [30, 12],
    [7, 14],
    [60, 11],
    [8, 13],
  ] as const)
    growing.add(oldChunk, newChunk)
  expect([...growing.stored()].map(({ newChunk }) => newChunk)).toEqual([9, 2, 11, 12, 13, 14])
  expect(Array.from({ length: 6 }, (_, index) => growing.storedAt(index))).toEqual([5, 4, 1, 3, 0, 2])
})

test('a chunk has one exception', () => {
  const growing = growingExceptions(setOf([5], [2]))
  expect(() => growing.add(5, 3)).toThrow('liveos bug')
})

test('half a million added take less than 25 MB more, and a moment', async () => {
  const count = 500_000
  const oldChunks = numbers(count, 'any', 1)
  const growing = growingExceptions(setOf([], []))
  const before = process.memoryUsage()
  const ms = await cpuOf(() => {
    for (let n = 0; n < count; n++) growing.add(oldChunks[n]!, n + 2)
  })
  expect(ms).toBeLessThan(5000)
  const after = process.memoryUsage()
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(25e6)
  expect(growing.count).toBe(count)
})
