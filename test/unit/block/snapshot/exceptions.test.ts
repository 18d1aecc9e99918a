import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Exceptions, exceptionSet, findTwin } from '../../../../src/block/snapshot/exceptions.js'
import { cpuOf } from '../../../support/cpu.js'
import { random } from '../../../support/random.js'

type Pair = readonly [oldChunk: number, newChunk: number]
const setOf = (pairs: readonly Pair[]): Exceptions =>
  exceptionSet({
    oldChunks: Float64Array.from(pairs, ([oldChunk]) => oldChunk),
    newChunks: Float64Array.from(pairs, ([, newChunk]) => newChunk),
  })
const pairsOf = (most: number) =>
  fc.uniqueArray(fc.tuple(fc.nat(most), fc.nat(most)), { selector: ([oldChunk]) => oldChunk, maxLength: 60 })

describe.each([
  ['small', 300],
  ['past 32 bits', 2 ** 40],
  ['as large as they get', Number.MAX_SAFE_INTEGER],
])('exceptions with %s numbers', (_, most) => {
  const pairs =
    most < 2 ** 31
      ? pairsOf(most)
      : fc.uniqueArray(
          fc.tuple(fc.maxSafeNat(), fc.maxSafeNat()).map(([a, b]): Pair => [a % most, b % most]),
          { selector: ([a]) => a, maxLength: 60 },
        )

  test('answer as a plain map does', () => {
    fc.assert(
      fc.property(pairs, fc.nat(300), fc.nat(50), (list, from, length) => {
        const set = setOf(list)
        const sorted = list.toSorted(([a], [b]) => a - b).map(([oldChunk, newChunk]) => ({ oldChunk, newChunk }))
        expect(set.count).toBe(list.length)
        expect([...set.range()]).toEqual(sorted)
        expect([...set.stored()]).toEqual(list.map(([oldChunk, newChunk]) => ({ oldChunk, newChunk })))
        const inside = sorted.filter(({ oldChunk }) => oldChunk >= from && oldChunk < from + length)
        expect([...set.range(from, from + length)]).toEqual(inside)
        expect(set.touches(from, from + length)).toBe(inside.length > 0)
        expect(set.find(from)).toBe(list.find(([oldChunk]) => oldChunk === from)?.[1])
        for (const [place, [oldChunk, newChunk]] of list.entries()) {
          expect(set.find(oldChunk)).toBe(newChunk)
          const index = set.firstFrom(oldChunk)
          expect([set.oldChunkAt(index), set.newChunkAt(index), set.storedAt(index)]).toEqual([
            oldChunk,
            newChunk,
            place,
          ])
        }
      }),
    )
  })
})

test('findTwin gives the second place of a number', () => {
  expect(findTwin(Float64Array.of())).toBeUndefined()
  expect(findTwin(Float64Array.of(3, 1, 2))).toBeUndefined()
  expect(findTwin(Float64Array.of(3, 1, 2, 1, 9))).toBe(3)
})

test('two million exceptions take some 40 MB, and a moment', async () => {
  const count = 2_000_000
  const numbers = random(9)
  const oldChunks = Float64Array.from({ length: count }, (_, index) => index * 3 + numbers.below(3))
  for (let index = count - 1; index > 0; index--) {
    const other = numbers.below(index + 1)
    ;[oldChunks[index], oldChunks[other]] = [oldChunks[other]!, oldChunks[index]!]
  }
  const before = process.memoryUsage()
  let set = exceptionSet({ oldChunks: Float64Array.of(), newChunks: Float64Array.of() })
  const ms = await cpuOf(() => {
    set = exceptionSet({ oldChunks, newChunks: Float64Array.from({ length: count }, (_, index) => index + 2) })
  })
  expect(ms).toBeLessThan(10_000)
  expect(set.find(oldChunks[12_345]!)).toBe(12_347)
  globalThis.gc?.()
  const after = process.memoryUsage()
  // Without a forced collection the arrays used for sorting still count.
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(100e6)
})
