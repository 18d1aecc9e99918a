import { describe, expect, test } from 'vitest'
import { openPatience } from '../../../src/block/patience.js'

/** Reads by a clock that `takes` milliseconds go by on at each; gives what was read here. */
const reading = (takes: (read: number) => number) => {
  let now = 1000
  let reads = 0
  const patience = openPatience(() => now)
  return {
    read: (length = 4096): number | undefined =>
      patience.wait(length, () => {
        now += takes(reads++)
        return length
      }),
  }
}

describe('patience', () => {
  test('reads here what memory gives, and gives another thread a turn in between', () => {
    const { read } = reading(() => 0.05)
    const found = Array.from({ length: 1000 }, () => read())
    // the very first goes elsewhere, and then one each 10 ms
    expect(found[0]).toBe(undefined)
    const away = found.filter(one => one === undefined).length
    expect(away).toBeGreaterThanOrEqual(5)
    expect(away).toBeLessThan(20)
  })

  test('where the medium makes one wait, the next go elsewhere, more and more of them', () => {
    const { read } = reading(() => 8)
    const found = Array.from({ length: 2000 }, () => read())
    const here = found.filter(one => one !== undefined).length
    expect(here).toBeGreaterThan(5)
    expect(here).toBeLessThan(2000 / 40)
  })

  test('bad places that take long to fail make the next go elsewhere too', () => {
    let now = 0
    const patience = openPatience(() => now)
    let here = 0
    for (let n = 0; n < 500; n++)
      try {
        patience.wait(4096, () => {
          here++
          now += 30_000
          throw new Error('EIO')
        })
      } catch {
        // as it is thrown
      }
    expect(here).toBeGreaterThan(2)
    expect(here).toBeLessThan(15)
  })

  test('one slow read among quick ones costs one turn', () => {
    const { read } = reading(n => (n === 3 ? 5 : 0.01))
    const found = Array.from({ length: 20 }, () => read())
    expect(found.filter(one => one === undefined).length).toBe(2)
  })

  test('what is large goes elsewhere, and a longer read may take longer', () => {
    const { read } = reading(() => 0.6)
    expect(read()).toBe(undefined)
    expect(read((1 << 19) + 1)).toBe(undefined)
    expect(read(1 << 19)).toBe(1 << 19)
    expect(read(1 << 19)).toBe(1 << 19)
    // 4096 bytes in that time is too long: one goes elsewhere
    expect(read()).toBe(4096)
    expect(read()).toBe(undefined)
    expect(read()).toBe(4096)
  })
})
