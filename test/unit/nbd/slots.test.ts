import { expect, it } from 'vitest'
import { slots } from '../../../src/nbd/slots.js'

it('lends so many bytes at most, and the same memory again', () => {
  const { take, give } = slots(1 << 19)
  const first = take(1 << 18)!
  const second = take(1 << 14)!
  expect([first.length, second.length]).toEqual([1 << 18, 1 << 14])
  expect(take(1 << 18)).toBeUndefined()
  give(second)
  const third = take(100_000)!
  expect(third.buffer).toBe(second.buffer)
  expect(third).toHaveLength(100_000)
  expect(take(1 << 18)).toBeUndefined()
  give(third)
  give(first)
  expect(take(1 << 18)!.buffer).toBe(first.buffer)
  expect(take(1 << 18)!.buffer).toBe(second.buffer)
  expect(take(1 << 18)).toBeUndefined()
})

it('lends nothing for few bytes, or for more than a slot', () => {
  const { take } = slots(1 << 30)
  expect(take((1 << 14) - 1)).toBeUndefined()
  expect(take((1 << 18) + 1)).toBeUndefined()
  expect(take(0)).toBeUndefined()
})
