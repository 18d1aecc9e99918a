import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  areaChunk,
  encodeArea,
  encodeHeader,
  exceptionOffset,
  exceptionsPerArea,
  isAreaChunk,
  parseArea,
  parseHeader,
  SECTOR,
  SNAP_MAGIC,
} from '../../../../src/block/snapshot/layout.js'
import { failure } from '../../../support/outcome.js'

const chunkSectors = fc.nat(11).map(power => 2 ** power)
const parse = async (bytes: Uint8Array) => parseHeader(bytes, 'cow')

describe('the header', () => {
  test('parses as it was encoded', () => {
    fc.assert(
      fc.property(fc.nat(), chunkSectors, (valid, chunk_size) => {
        const header = { magic: SNAP_MAGIC, valid, version: 1, chunk_size }
        const bytes = encodeHeader(header)
        expect(bytes.length).toBe(SECTOR)
        expect(parseHeader(bytes, 'cow')).toEqual(header)
      }),
    )
  })

  test("is the kernel's, byte for byte", () => {
    const bytes = encodeHeader({ magic: SNAP_MAGIC, valid: 1, version: 1, chunk_size: 8 })
    expect(Buffer.from(bytes.subarray(0, 16)).toString('hex')).toBe('536e4170010000000100000008000000')
    expect(bytes.subarray(16).every(byte => byte === 0)).toBe(true)
  })

  test('is left alone in a new store', () => {
    const header = { magic: 0, valid: 9, version: 77, chunk_size: 3 }
    expect(parseHeader(encodeHeader(header), 'cow')).toEqual(header)
  })

  const good = { magic: SNAP_MAGIC, valid: 1, version: 1, chunk_size: 8 }
  test.each([
    ['magic', 0, { magic: 0x70416e54 }],
    ['version', 8, { version: 2 }],
    ['chunk_size', 12, { chunk_size: 0 }],
    ['chunk_size', 12, { chunk_size: 24 }],
    ['chunk_size', 12, { chunk_size: 0xffffffff }],
  ] as const)('with a wrong %s at byte %i is CORRUPT', async (field, offset, change) => {
    const error = await failure(parse(encodeHeader({ ...good, ...change })), 'CORRUPT')
    expect(error.data).toMatchObject({ device: 'cow', field, offset, found: Object.values(change)[0] })
  })

  test('with chunks of more than 1 MiB is UNSUPPORTED', async () => {
    expect(parseHeader(encodeHeader({ ...good, chunk_size: 2048 }), 'cow').chunk_size).toBe(2048)
    for (const chunk_size of [4096, 2 ** 31]) await failure(parse(encodeHeader({ ...good, chunk_size })), 'UNSUPPORTED')
  })
})

describe('a metadata area', () => {
  const exceptions = (most: number) =>
    fc.array(
      fc.record({ old_chunk: fc.maxSafeNat(), new_chunk: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }) }),
      { maxLength: most },
    )

  test('parses as it was encoded', () => {
    fc.assert(
      fc.property(fc.constantFrom(512, 4096), exceptions(32), (chunkSize, list) => {
        const bytes = encodeArea(list, chunkSize)
        expect(bytes.length).toBe(chunkSize)
        expect(parseArea(bytes, 'cow', 0)).toEqual(list)
      }),
    )
  })

  test('ends at the first entry without a new chunk, whatever follows', () => {
    const bytes = encodeArea(
      [
        { old_chunk: 1, new_chunk: 2 },
        { old_chunk: 5, new_chunk: 0 },
        { old_chunk: 3, new_chunk: 4 },
      ],
      512,
    )
    expect(parseArea(bytes, 'cow', 0)).toEqual([{ old_chunk: 1, new_chunk: 2 }])
    expect(parseArea(new Uint8Array(512), 'cow', 0)).toEqual([])
  })

  test('with a number of 2^53 or more is CORRUPT', async () => {
    for (const [field, at] of [
      ['old_chunk', 16],
      ['new_chunk', 24],
    ] as const) {
      const bytes = encodeArea(
        [
          { old_chunk: 1, new_chunk: 2 },
          { old_chunk: 3, new_chunk: 4 },
        ],
        512,
      )
      Buffer.from(bytes.buffer).writeBigUInt64LE(2n ** 53n, at)
      const error = await failure((async () => parseArea(bytes, 'cow', 4096))(), 'CORRUPT')
      expect(error.data).toMatchObject({ field, offset: 4096 + at, found: '9007199254740992' })
    }
  })

  test('stands where the kernel puts it', () => {
    const perArea = exceptionsPerArea(4096)
    expect(perArea).toBe(256)
    expect([0, 1, 2].map(area => areaChunk(area, perArea))).toEqual([1, 258, 515])
    expect([0, 1, 2, 257, 258, 259, 515].map(chunk => isAreaChunk(chunk, perArea))).toEqual([
      false,
      true,
      false,
      false,
      true,
      false,
      true,
    ])
    expect([0, 255, 256].map(index => exceptionOffset(index, 4096))).toEqual([4096, 4096 + 4080, 258 * 4096])
  })
})
