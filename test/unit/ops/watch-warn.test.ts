import { expect, it } from 'vitest'
import { decide, isTold, type Level, LIMITS, levelOf, NOTHING_TOLD, type Told } from '../../../src/ops/watch-warn.js'

const MINUTE = 60
/** What is said of a row of percents, a minute apart; forecasts by the minute they come at, in seconds left. */
const said = (
  percents: readonly number[],
  forecasts: Readonly<Record<number, number>> = {},
  lost: readonly number[] = [],
): string[] => {
  let told: Told = NOTHING_TOLD
  return percents.flatMap((percent, minute) => {
    const level: Level = levelOf(percent, lost.includes(minute), false, LIMITS)
    const secondsLeft = forecasts[minute]
    const forecast = secondsLeft === undefined ? undefined : { rate: 1, secondsLeft }
    const decision = decide(told, { level, percent, forecast, now: minute * MINUTE }, LIMITS)
    // as it lies in the file between two runs
    told = JSON.parse(JSON.stringify(decision.told))
    return decision.say ? [`${minute} ${decision.say} ${decision.say === 'level' ? level : secondsLeft}`] : []
  })
}

it('each level once, and no sample again', () => {
  expect(said([50, 79.9, 80, 81, 85, 94.9, 95, 96, 100, 100])).toEqual(['2 level warning', '6 level critical'])
  expect(said([99, 99, 99])).toEqual(['0 level critical'])
})

it('around a limit: silence until it was clearly below', () => {
  expect(said([80, 79.9, 80, 78, 80.5, 77.1, 80])).toEqual(['0 level warning'])
  expect(said([80, 77, 80])).toEqual(['0 level warning', '2 level warning'])
  expect(said([95, 93, 95, 94, 96])).toEqual(['0 level critical'])
  expect(said([95, 92, 95])).toEqual(['0 level critical', '2 level critical'])
})

it('lost is more than critical, and a new start counts anew', () => {
  expect(said([96, 96, 96, 20, 96], {}, [1, 2])).toEqual(['0 level critical', '1 level lost', '4 level critical'])
})

it('a forecast once, again when much less is left, or after half an hour', () => {
  expect(said([50, 50, 50, 50], { 0: 7200, 1: 3600, 2: 3500, 3: 3400 })).toEqual(['1 forecast 3600'])
  expect(said([50, 50, 50, 50], { 0: 3000, 1: 2000, 2: 1000, 3: 900 })).toEqual(['0 forecast 3000', '2 forecast 1000'])
  const flickering = Object.fromEntries(Array.from({ length: 40 }, (_, minute) => [minute * 2, 2400]))
  expect(said(new Array(40).fill(50), flickering)).toEqual(['0 forecast 2400', '30 forecast 2400'])
})

it('a level says the forecast with it; a lost overlay has none', () => {
  expect(said([79, 80, 81], { 1: 1800, 2: 1700 })).toEqual(['1 level warning'])
  const always = Object.fromEntries(Array.from({ length: 40 }, (_, minute) => [minute, 2400]))
  const rising = [70, 70, 70, 70, 70, ...new Array(35).fill(85)]
  expect(said(rising, always)).toEqual(['0 forecast 2400', '5 level warning', '35 forecast 2400'])
  expect(said([99, 99], { 1: 60 }, [0, 1])).toEqual(['0 level lost'])
})

it('limits of the caller', () => {
  const limits = { warnAt: 50, criticalAt: 60, horizon: 0 }
  expect(levelOf(50, false, false, limits)).toBe('warning')
  expect(levelOf(10, false, true, limits)).toBe('critical')
  const sample = { level: 'ok' as const, percent: 1, forecast: { rate: 1, secondsLeft: 5 }, now: 9 }
  expect(decide(NOTHING_TOLD, sample, limits).say).toBeUndefined()
})

it.each([
  [NOTHING_TOLD, true],
  [{ level: 'lost', forecast: { secondsLeft: 1, at: 2 } }, true],
  [{ level: 'toString', forecast: null }, false],
  [{ level: 7, forecast: null }, false],
  [{ level: 'ok' }, false],
  [{ level: 'ok', forecast: { secondsLeft: 'soon', at: 2 } }, false],
  [{ level: 'ok', forecast: 5 }, false],
  [null, false],
  ['ok', false],
])('what was told, out of a file: %j', (value, expected) => expect(isTold(value)).toBe(expected))
