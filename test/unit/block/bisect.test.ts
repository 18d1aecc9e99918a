import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bisectSize } from '../../../src/block/bisect.js'

test('bisectSize finds any size, in few reads', async () => {
  const sizes = fc.oneof(fc.nat(5000), fc.integer({ min: 0, max: 2 ** 49 }))
  await fc.assert(
    fc.asyncProperty(sizes, async size => {
      let reads = 0
      const found = await bisectSize(async offset => {
        reads++
        return offset < size
      })
      expect(found).toBe(size)
      expect(reads).toBeLessThan(100)
    }),
  )
})

test('bisectSize ends where every offset can be read', async () => {
  expect(await bisectSize(async () => true)).toBeGreaterThanOrEqual(2 ** 50)
})
