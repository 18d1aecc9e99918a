import { describe, expect, test } from 'vitest'
import { openKept } from '../../../src/bytes/kept.js'
import { LiveError } from '../../../src/error.js'
import { failure } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const SIZE = 100
const copyOf = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)
const pattern = (key: number): Uint8Array => new Uint8Array(SIZE).fill(key % 251)

/** Makes patterns, each once its turn comes; counts how often each was made. */
const maker = () => {
  const made = new Map<number, number>()
  const waiting: (() => void)[] = []
  const make = (key: number) => async (memory: Uint8Array) => {
    made.set(key, (made.get(key) ?? 0) + 1)
    await new Promise<void>(resolve => waiting.push(resolve))
    memory.set(pattern(key))
    return SIZE
  }
  return { made, waiting, make }
}

describe('bytes that are kept', () => {
  test('are made once for all who want them, and again once they were let go of', async () => {
    const kept = openKept<number>(3 * SIZE)
    const { made, waiting, make } = maker()
    const use = (key: number) => kept.use(key, SIZE, make(key), copyOf)
    const both = [use(1), use(1)]
    kept.ahead(1, SIZE, make(1))
    waiting.pop()!()
    expect(await Promise.all(both)).toEqual([pattern(1), pattern(1)])
    for (const key of [2, 3]) {
      const used = use(key)
      waiting.pop()!()
      await used
    }
    await use(1)
    const fourth = use(4)
    waiting.pop()!()
    await fourth
    // 2 is the one that was not used for longest
    await use(1)
    await use(3)
    expect(made.get(1)).toBe(1)
    const again = use(2)
    waiting.pop()!()
    expect(await again).toEqual(pattern(2))
    expect([...made]).toEqual([
      [1, 1],
      [2, 2],
      [3, 1],
      [4, 1],
    ])
  })

  test('a failure is told to all who wait, and not kept', async () => {
    const kept = openKept<string>(SIZE)
    let tries = 0
    const make = async (memory: Uint8Array): Promise<number> => {
      if (tries++ === 0) throw new LiveError('IO', 'once')
      memory.fill(7)
      return 1
    }
    kept.ahead('x', SIZE, make)
    await failure(kept.use('x', SIZE, make, copyOf), 'IO')
    expect(await kept.use('x', SIZE, make, copyOf)).toEqual(Uint8Array.of(7))
    expect(tries).toBe(2)
  })

  test('a look that throws lets go of the memory too', async () => {
    const kept = openKept<number>(SIZE)
    const memories = new Set<unknown>()
    const make = (key: number) => async (memory: Uint8Array) => {
      memories.add(memory.buffer)
      memory.set(pattern(key))
      return SIZE
    }
    for (let key = 0; key < 20; key++)
      await failure(
        kept.use(key, SIZE, make(key), () => {
          throw new LiveError('CORRUPT', 'no')
        }),
        'CORRUPT',
      )
    expect(memories.size).toBeLessThanOrEqual(2)
  })

  test('nobody sees the bytes of another key, whatever is under way, dropped or failed', async () => {
    const { below } = random(11)
    const kept = openKept<number>(4 * SIZE)
    const waiting: (() => void)[] = []
    const memories = new Set<unknown>()
    const make = (key: number) => async (memory: Uint8Array) => {
      memories.add(memory.buffer)
      // what is written late would be seen by whoever has the memory then
      memory.set(pattern(key).subarray(0, 50))
      await new Promise<void>(resolve => waiting.push(resolve))
      memory.set(pattern(key))
      if (key % 7 === 0) throw new LiveError('IO', 'never')
      return SIZE
    }
    const all: Promise<unknown>[] = []
    for (let n = 0; n < 3000; n++) {
      const key = below(12)
      if (below(4) === 0) kept.ahead(key, SIZE, make(key))
      else
        all.push(
          kept.use(key, SIZE, make(key), copyOf).then(
            bytes => expect(bytes).toEqual(pattern(key)),
            error => expect([key % 7, error.code]).toEqual([0, 'IO']),
          ),
        )
      while (waiting.length > below(10)) waiting.splice(below(waiting.length), 1)[0]!()
      if (below(3) === 0) await new Promise(setImmediate)
    }
    while (waiting.length > 0) {
      waiting.pop()!()
      await new Promise(setImmediate)
    }
    await Promise.all(all)
    expect(memories.size).toBeLessThan(40)
  })
})
