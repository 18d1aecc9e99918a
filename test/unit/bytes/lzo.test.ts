import { expect, test } from 'vitest'
import { CodecError } from '../../../src/bytes/codec.js'
import { lzo } from '../../../src/bytes/lzo.js'

const END = [17, 0, 0]
const text = (value: string): number[] => [...Buffer.from(value)]

const decode = (bytes: readonly number[], capacity = 100_000): string => {
  const output = new Uint8Array(capacity)
  return Buffer.from(output.subarray(0, lzo.decode(Uint8Array.from(bytes), output))).toString()
}

test('literals', () => {
  expect(decode(END)).toBe('')
  expect(decode([17 + 5, ...text('hello'), ...END])).toBe('hello')
  expect(decode([2, ...text('hello'), ...END])).toBe('hello')
  const long = 'x'.repeat(18 + 255 + 7)
  expect(decode([0, 0, 7, ...text(long), ...END])).toBe(long)
})

test('each kind of match', () => {
  // 1LLD DDSS: length 8 at distance 2, then one literal
  expect(decode([17 + 4, ...text('abcd'), 0xe0 | (1 << 2) | 1, 0, 33, ...END])).toBe('abcdcdcdcdcd!')
  // 001LLLLL: length 2 + 3 at distance 1
  expect(decode([17 + 4, ...text('abcd'), 32 | 3, 0, 0, ...END])).toBe('abcdddddd')
  // 001LLLLL, L = 0: 33 + 255 + 2
  expect(decode([17 + 4, ...text('abcd'), 32, 0, 2, 0, 0, ...END])).toBe(`abc${'d'.repeat(1 + 290)}`)
  // 0000DDSS behind one literal: 2 bytes at distance 2
  expect(decode([17 + 4, ...text('abcd'), 0x60, 0, 32 | 1, 1, 0, 120, 1 << 2, 0, ...END].with(7, 32 | 1))).toBeDefined()
  // 0000DDSS behind a long run: 3 bytes from distance 2049 + 0
  const run = 'ab'.repeat(1025)
  const zeros = Math.floor((2050 - 18 - 1) / 255)
  expect(decode([0, ...Array(zeros).fill(0), 2050 - 18 - zeros * 255, ...text(run), 0, 0, ...END])).toBe(`${run}bab`)
})

test('far matches', () => {
  // 20,000 bytes "a" by a match, then "bc", then 4 bytes from distance 16384 + 2
  const length = 20_000 - 33 - 1
  const zeros = Math.floor((length - 1) / 255)
  const much = [18, 97, 32, ...Array(zeros).fill(0), length - zeros * 255, 2, 0, ...text('bc')]
  expect(decode([...much, 16 | 2, 2 << 2, 0, ...END]).slice(-6)).toBe('bcaaaa')
})

test('refuses what is not a whole plain stream', () => {
  const hello = [17 + 5, ...text('hello')]
  for (const [bytes, message] of [
    [[], 'too early'],
    [hello, 'too early'],
    [[...hello, 17, 0], 'too early'],
    [[...hello, ...END, 0], 'behind the end'],
    [[17 + 200, 1, 2, 3], 'too early'],
    [[...hello, 32 | 1, 5 << 2, 0, ...END], 'before the block'],
    // the bitstream version 1 of zram
    [[17, 1, 17 + 5, ...text('hello'), ...END], 'before the block'],
    [[...hello, 18, 0, 0], 'end marker'],
  ] as const)
    expect(() => decode(bytes)).toThrow(message)
  expect(() => decode([...hello, ...END], 4)).toThrow(CodecError)
  expect(() => decode([...hello, 32 | 3, 0, 0, ...END], 9)).toThrow('larger than 9 bytes')
})
