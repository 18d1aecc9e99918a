import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseLongDate, parseShortDate } from '../../../../src/fs/iso9660/date.js'
import { failure } from '../../../support/outcome.js'

const PLACE = { device: 'dates', base: 0 }
const long = (text: string, zone = 0): Uint8Array => Buffer.concat([Buffer.from(text), Uint8Array.of(zone)])

test('both forms of any date are that date', () => {
  const date = fc.date({ min: new Date('1900-01-01'), max: new Date('2155-12-31'), noInvalidDate: true })
  fc.assert(
    fc.property(date, fc.integer({ min: -48, max: 52 }), (at, zone) => {
      const seconds = Math.floor(at.getTime() / 1000)
      const there = new Date((seconds + zone * 900) * 1000)
      if (there.getUTCFullYear() < 1900 || there.getUTCFullYear() > 2155) return
      const parts = [
        there.getUTCMonth() + 1,
        there.getUTCDate(),
        there.getUTCHours(),
        there.getUTCMinutes(),
        there.getUTCSeconds(),
      ]
      expect(parseShortDate(Uint8Array.of(there.getUTCFullYear() - 1900, ...parts, zone))).toBe(seconds)
      const digits = `${there.getUTCFullYear()}${parts.map(part => String(part).padStart(2, '0')).join('')}00`
      expect(parseLongDate(long(digits, zone), 'date', PLACE)).toBe(seconds)
    }),
  )
})

test('no date, zones that are none, years before 100', async () => {
  expect(parseShortDate(new Uint8Array(7))).toBeUndefined()
  expect(parseLongDate(long('0'.repeat(16)), 'date', PLACE)).toBeUndefined()
  expect(parseLongDate(new Uint8Array(17), 'date', PLACE)).toBeUndefined()
  expect(parseShortDate(Uint8Array.of(70, 1, 1, 0, 0, 1, 100))).toBe(1)
  expect(parseLongDate(long('0099010100000000'), 'date', PLACE)).toBe(Date.parse('0099-01-01T00:00:00Z') / 1000)
  await failure((async () => parseLongDate(long('2020-01-01 00:00'), 'date', PLACE))(), 'CORRUPT')
})
