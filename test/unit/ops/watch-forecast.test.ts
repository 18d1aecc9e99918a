import { describe, expect, it } from 'vitest'
import { aboutTime, forecast, type Point } from '../../../src/ops/watch-forecast.js'
import { random } from '../../support/random.js'

const MIB = 1 << 20
/** used bytes by a function of minutes, a point each `step` seconds */
const course = (minutes: number, used: (minute: number) => number, step = 60): Point[] =>
  Array.from({ length: Math.floor((minutes * 60) / step) + 1 }, (_, n) => ({
    seconds: 1000 + n * step,
    usedBytes: Math.round(used((n * step) / 60)),
  }))

it('a steady rise: the rate and the end are right', () => {
  const found = forecast(
    course(10, minute => 100 * MIB + minute * 3 * MIB),
    120 * MIB,
  )
  expect(found?.rate).toBeCloseTo((3 * MIB) / 60, 3)
  expect(found?.secondsLeft).toBeCloseTo(40 * 60, 3)
})

it('a noisy rise in chunks: within a tenth', () => {
  const { below, seed } = random()
  const points = course(25, minute => Math.floor((50 * MIB + minute * 2 * MIB) / 4096) * 4096).map(point => ({
    ...point,
    usedBytes: point.usedBytes + below(600) * 1024,
  }))
  // the kernel never gives chunks back
  for (let n = 1; n < points.length; n++)
    points[n] = { ...points[n]!, usedBytes: Math.max(points[n]!.usedBytes, points[n - 1]!.usedBytes) }
  const found = forecast(points, 60 * MIB)
  expect(found, `seed ${seed}`).toBeDefined()
  expect(Math.abs(found!.secondsLeft / (30 * 60) - 1), `seed ${seed}`).toBeLessThan(0.1)
})

describe('nothing is said', () => {
  const rising = (minute: number) => minute * 3 * MIB
  it.each<[string, readonly Point[], number]>([
    ['without points', [], MIB],
    ['of four points', course(3, rising), 60 * MIB],
    ['of less than a minute', course(0.8, rising, 10), 60 * MIB],
    ['of a fill that stands', course(20, () => 5 * MIB), 60 * MIB],
    ['of a rise too small to count', course(20, minute => minute * 4096), 60 * MIB],
    ['of one burst long ago', course(25, minute => (minute > 3 ? 300 * MIB : 0)), 60 * MIB],
    ['of a rise that has ended', course(25, minute => Math.min(minute, 12) * 10 * MIB), 60 * MIB],
    ['of an end more than a day off', course(20, minute => minute * MIB), 2000 * MIB],
    ['of what is full already', course(20, rising), 0],
    ['of a clock that stands', course(20, rising).map(point => ({ ...point, seconds: 7 })), 60 * MIB],
    ['of a single jump at the end', course(20, minute => (minute < 20 ? 0 : 400 * MIB)), 60 * MIB],
  ])('%s', (_what, points, left) => expect(forecast(points, left)).toBeUndefined())
})

it('counts from where the fill last fell, and no longer than half an hour', () => {
  const before = course(20, minute => 500 * MIB + minute * 40 * MIB)
  const after = course(10, minute => 10 * MIB + minute * MIB).map(point => ({
    ...point,
    seconds: point.seconds + 1300,
  }))
  expect(forecast([...before, ...after], 30 * MIB)?.secondsLeft).toBeCloseTo(30 * 60, 3)
  // an hour of 10 MiB a minute, then slower: the fast part is forgotten
  const slower = course(100, minute => (minute < 60 ? minute * 10 * MIB : 600 * MIB + (minute - 60) * MIB))
  expect(forecast(slower, 30 * MIB)?.secondsLeft).toBeCloseTo(30 * 60, 3)
})

it('any points: a forecast or none, never an odd number', () => {
  const { below, seed } = random()
  for (let round = 0; round < 2000; round++) {
    let seconds = 0
    const points = Array.from({ length: below(40) }, () => {
      seconds += below(3) === 0 ? 0 : below(400)
      return { seconds, usedBytes: below(2) * below(2 ** 31) * (below(50) === 0 ? 2 ** 20 : 1) }
    })
    const found = forecast(points, below(2 ** 31))
    if (!found) continue
    expect(found.rate > 0 && Number.isFinite(found.rate), `seed ${seed}`).toBe(true)
    expect(found.secondsLeft > 0 && found.secondsLeft <= 86_400, `seed ${seed}`).toBe(true)
  }
})

it.each([
  [20, '1 minute'],
  [100, '2 minutes'],
  [9 * 60, '9 minutes'],
  [38 * 60, '40 minutes'],
  [88 * 60, '90 minutes'],
  [91 * 60, '2 hours'],
  [23 * 3600, '23 hours'],
])('%i s in words: %s', (seconds, words) => expect(aboutTime(seconds)).toBe(words))
