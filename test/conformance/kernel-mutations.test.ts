import { describe, expect, test } from 'vitest'
import { slice } from '../../src/block/linear.js'
import { memory } from '../../src/block/memory.js'
import { areaChunk, exceptionsPerArea } from '../../src/block/snapshot/layout.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readStore, type Store } from '../../src/block/snapshot/store.js'
import { isLiveError } from '../../src/error.js'
import { kernelFixture, kernelFixtures } from '../support/kernel-fixtures.js'
import { sameBytes, valueOrFailure } from '../support/outcome.js'
import { random } from '../support/random.js'

const listOf = (store: Store): string => JSON.stringify([...store.exceptions.stored()])

/** Byte ranges of a store where a changed bit means something: the header, and the ends of each area's list. */
const structures = (store: Store): readonly [from: number, to: number][] => {
  const { chunkSize, exceptions, areaCount } = store
  const perArea = exceptionsPerArea(chunkSize)
  const ranges: [number, number][] = [[0, 16]]
  for (let area = 0; area < areaCount; area++) {
    const start = areaChunk(area, perArea) * chunkSize
    const used = Math.min(perArea, exceptions.count - area * perArea) * 16
    ranges.push([start, start + Math.min(chunkSize, used + 32)])
  }
  return ranges
}

describe.each(['chunk1', 'chunk2', 'area257', 'area512', 'overflow', 'invalid', 'reset-stale', 'empty'])(
  'mutations of %s',
  name => {
    const numbers = random()
    test(`give a view of the right size or a LiveError (seed ${numbers.seed})`, async () => {
      const fixture = kernelFixture(name)
      const origin = memory(await fixture.image('origin.img'), 'origin')
      const whole = await fixture.image('cow.img')
      const ranges = structures(await readStore(memory(whole)))
      let views = 0
      let failures = 0
      for (let round = 0; round < 400; round++) {
        const bytes = new Uint8Array(whole)
        for (let flips = numbers.below(4) + 1; flips > 0; flips--) {
          const [from, to] = ranges[numbers.below(ranges.length)]!
          const at = from + numbers.below(to - from)
          bytes[at] = bytes[at]! ^ (1 << numbers.below(8))
        }
        const view = await valueOrFailure(snapshot(origin, memory(bytes, 'cow'), { ignoreInvalid: round % 2 === 0 }))
        if (isLiveError(view)) {
          failures++
          expect(['CORRUPT', 'UNSUPPORTED']).toContain(view.code)
          if (view.code === 'CORRUPT')
            expect(Object.keys(view.data)).toEqual(
              expect.arrayContaining(['device', 'offset', 'field', 'expected', 'found']),
            )
          continue
        }
        views++
        expect(view.size).toBe(origin.size)
        for (const { oldChunk } of view.store.exceptions.range()) {
          const offset = oldChunk * view.store.chunkSize
          const length = Math.min(512, view.size - offset)
          expect((await view.read(offset, length)).length).toBe(length)
          if (numbers.below(20) === 0) break
        }
      }
      // Neither all nor none: else the mutations miss what they are for.
      expect(views).toBeGreaterThan(0)
      expect(failures).toBeGreaterThan(0)
    })
  },
)

const withCow = kernelFixtures().filter(({ images, name }) => images.includes('cow.img') && name !== 'fs-xfs')
describe.each(withCow.map(fixture => [fixture.name, fixture] as const))('%s cut short', (_, fixture) => {
  const numbers = random()
  test(`is an error or shows the right view (seed ${numbers.seed})`, async () => {
    const cow = memory(await fixture.image('cow.img'), 'cow')
    const origin = memory(await fixture.image('origin.img'), 'origin')
    const store = await readStore(cow)
    const list = listOf(store)
    const view = await snapshot(origin, cow, { ignoreInvalid: true })
    const { chunkSize } = store
    const perArea = exceptionsPerArea(chunkSize)
    const cuts = new Set([0, 1, 511, 512, chunkSize - 1, chunkSize, 2 * chunkSize, cow.size - 1, cow.size - 512])
    for (let area = 0; area <= store.areaCount; area++)
      for (const delta of [-512, 0, 512, chunkSize - 1, chunkSize, 2 * chunkSize])
        cuts.add(areaChunk(area, perArea) * chunkSize + delta)
    for (const delta of [-chunkSize, -1, 0, 1, chunkSize]) cuts.add(store.nextFreeChunk * chunkSize + delta)
    for (let round = 0; round < 60; round++) cuts.add(numbers.below(cow.size))
    let shown = 0
    for (const length of cuts) {
      if (length < 0 || length >= cow.size) continue
      const ignoreInvalid = store.state === 'invalid'
      const cut = await valueOrFailure(
        readStore(slice(cow, 0, length, 'cut'), { originSize: origin.size, ignoreInvalid }),
      )
      if (isLiveError(cut)) {
        expect(cut.code).toBe('CORRUPT')
        continue
      }
      if (cut.truncated) {
        // Told apart from a store that is whole, so no view is shown of it unless the owner insists.
        const refused = await valueOrFailure(snapshot(origin, slice(cow, 0, length), { store: cut }))
        expect(isLiveError(refused) && refused.code).toBe('CORRUPT')
        continue
      }
      expect(listOf(cut)).toBe(list)
      if (shown++ > 3) continue
      const cutView = await snapshot(origin, slice(cow, 0, length), { store: cut, ignoreInvalid })
      for (let offset = 0; offset < view.size; offset += 4 << 20) {
        const count = Math.min(4 << 20, view.size - offset)
        sameBytes(await cutView.read(offset, count), await view.read(offset, count))
      }
    }
  })
})
