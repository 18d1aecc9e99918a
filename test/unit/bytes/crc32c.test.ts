import { describe, expect, test } from 'vitest'
import { CRC16_START, CRC32C_START, crc16, crc32c } from '../../../src/bytes/crc32c.js'
import { random } from '../../support/random.js'

const iscsi = (bytes: Uint8Array): number => (crc32c(CRC32C_START, bytes) ^ CRC32C_START) >>> 0

describe('crc32c', () => {
  // RFC 3720, B.4
  test.each([
    ['zeros', new Uint8Array(32), 0x8a9136aa],
    ['ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ['rising', Uint8Array.from({ length: 32 }, (_, n) => n), 0x46dd794e],
    ['falling', Uint8Array.from({ length: 32 }, (_, n) => 31 - n), 0x113fdb5c],
    ['digits', Buffer.from('123456789'), 0xe3069283],
  ])('of %s is what the RFC and the catalogue of CRCs say', (_, bytes, sum) => {
    expect(iscsi(bytes)).toBe(sum)
  })

  test('in pieces it is that of the whole, at any length and alignment', () => {
    const { bytes: make, below, seed } = random()
    const bytes = make(300)
    for (let round = 0; round < 200; round++) {
      const from = below(40)
      const to = from + below(200)
      const cut = from + below(to - from + 1)
      const whole = crc32c(CRC32C_START, bytes.subarray(from, to))
      expect(crc32c(crc32c(CRC32C_START, bytes.subarray(from, cut)), bytes.subarray(cut, to)), `seed ${seed}`).toBe(
        whole,
      )
    }
  })
})

test('crc16 is CRC-16/ARC from any start', () => {
  expect(crc16(0, Buffer.from('123456789'))).toBe(0xbb3d)
  // the same with the register of CRC-16/MODBUS
  expect(crc16(CRC16_START, Buffer.from('123456789'))).toBe(0x4b37)
})
