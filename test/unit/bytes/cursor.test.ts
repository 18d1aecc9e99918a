import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cursor, encoder } from '../../../src/bytes/cursor.js'

const place = { device: 'disk', base: 1000 }

test('reads every width in both orders', () => {
  const bytes = Uint8Array.of(0xff, 1, 2, 0xfe, 0xff, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0x10, 0)
  const at = cursor(bytes, place)
  expect(at.u8()).toBe(255)
  expect(at.u16()).toBe(0x0201)
  expect(at.i16()).toBe(-2)
  expect(at.u32be()).toBe(0x01020304)
  expect(at.i32()).toBe(-1)
  expect(at.u64()).toBe(2 ** 52 + 1)
  expect([at.offset, at.remaining]).toEqual([21, 0])
  const again = cursor(
    Uint8Array.of(1, 2, 0xfe, 0xff, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xfe, 0, 0x10, 0, 0, 0, 0, 0, 1),
    place,
  )
  expect(again.u16be()).toBe(0x0102)
  expect(again.i16be()).toBe(-257)
  expect(again.u32be()).toBe(0x01020304)
  expect(again.i32be()).toBe(-2)
  expect(again.u64be()).toBe(2 ** 52 + 1)
})

test('leaving the bytes names device, absolute offset and field', () => {
  const at = cursor(new Uint8Array(6), place)
  at.skip(4)
  expect(() => at.u32('block_size')).toThrowError(
    expect.objectContaining({
      code: 'CORRUPT',
      data: { device: 'disk', offset: 1004, field: 'block_size', expected: '4 bytes', found: '2 bytes' },
    }),
  )
  expect(at.offset).toBe(4)
  expect(at.bytes(2)).toHaveLength(2)
  for (const length of [1, -1, Number.NaN, Number.POSITIVE_INFINITY])
    expect(() => at.bytes(length)).toThrowError(expect.objectContaining({ code: 'CORRUPT' }))
})

test('a 64-bit value beyond 2^53 - 1 is corrupt, unless asked for as it is', () => {
  const ones = new Uint8Array(8).fill(255)
  expect(() => cursor(ones, place).u64('table')).toThrowError(
    expect.objectContaining({ code: 'CORRUPT', data: expect.objectContaining({ offset: 1000, field: 'table' }) }),
  )
  expect(() => cursor(ones, place).u64be()).toThrow()
  expect(cursor(ones, place).big64()).toBe(2n ** 64n - 1n)
  expect(cursor(Uint8Array.of(0, 0, 0, 0, 0, 0, 1, 0), place).big64be()).toBe(256n)
})

test('what the encoder writes the cursor reads', () => {
  const size = 1 + 2 + 2 + 4 + 4 + 8 + 8 + 3 + 2
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 255 }),
      fc.integer({ min: 0, max: 0xffff }),
      fc.integer({ min: -0x8000, max: 0x7fff }),
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: -0x80000000, max: 0x7fffffff }),
      fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      (a, b, c, d, e, f, g) => {
        const out = encoder(size).u8(a).u16(b).i16(c).u32(d).i32(e).u64(f).big64(g).skip(3)
        const at = cursor(out.bytes(Uint8Array.of(7, 8)).done(), place)
        expect([at.u8(), at.u16(), at.i16(), at.u32(), at.i32(), at.u64(), at.big64()]).toEqual([a, b, c, d, e, f, g])
        expect([...at.bytes(5)]).toEqual([0, 0, 0, 7, 8])
      },
    ),
  )
})

test('the encoder refuses what does not fit', () => {
  for (const wrong of [
    () => encoder(1).u8(256),
    () => encoder(1).u8(-1),
    () => encoder(2).u16(1.5),
    () => encoder(4).u32(2 ** 32),
    () => encoder(8).u64(2 ** 53),
    () => encoder(8).big64(-1n),
    () => encoder(3).u32(1),
    () => encoder(3).u8(1).done(),
  ])
    expect(wrong).toThrow('liveos bug')
})
