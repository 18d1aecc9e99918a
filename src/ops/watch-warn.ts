import type { Forecast } from './watch-forecast.js'

/** How bad it is. `lost`: the kernel takes no more, and what is written is lost. */
export type Level = 'ok' | 'warning' | 'critical' | 'lost'

const RANKS: Readonly<Record<Level, number>> = { ok: 0, warning: 1, critical: 2, lost: 3 }

/** From which fill, and how long before the end, a word is said. */
export interface Limits {
  /** percent */
  readonly warnAt: number
  readonly criticalAt: number
  /** seconds before it is full, by the forecast; 0: never */
  readonly horizon: number
}

export const LIMITS: Limits = { warnAt: 80, criticalAt: 95, horizon: 3600 }

/** What was said last, so that it is not said again. Plain JSON. */
export interface Told {
  readonly level: Level
  /** seconds left when a forecast was last told, and the time of that; null where none was */
  readonly forecast: { readonly secondsLeft: number; readonly at: number } | null
}

/** True for what was written down by `decide`; what comes from a file may be anything. */
export const isTold = (value: unknown): value is Told => {
  if (typeof value !== 'object' || value === null || !('level' in value) || !('forecast' in value)) return false
  const { level, forecast: last } = value
  if (typeof level !== 'string' || !Object.hasOwn(RANKS, level)) return false
  if (last === null) return true
  return (
    typeof last === 'object' &&
    'secondsLeft' in last &&
    'at' in last &&
    [last.secondsLeft, last.at].every(Number.isFinite)
  )
}

export const NOTHING_TOLD: Told = { level: 'ok', forecast: null }

/** Percent by which the fill must fall below a limit before crossing it is news again. */
const BACK = 3
/** A forecast is news again when so much less is left than when it was told, */
const SOONER = 1 / 3
/** or when there was none worth a word for so many seconds. */
const QUIET = 30 * 60

export const levelOf = (percent: number, isLost: boolean, isFull: boolean, { warnAt, criticalAt }: Limits): Level => {
  if (isLost) return 'lost'
  if (isFull || percent >= criticalAt) return 'critical'
  return percent >= warnAt ? 'warning' : 'ok'
}

/** The level that counts as told: it falls only when the fill is clearly below the limit again. */
const settled = (told: Level, now: Level, percent: number, { warnAt, criticalAt }: Limits): Level => {
  if (RANKS[now] >= RANKS[told]) return now
  const limit = told === 'critical' ? criticalAt : told === 'warning' ? warnAt : 0
  return told === 'lost' || percent <= limit - BACK ? now : told
}

/** What is to be said now, and what counts as said from then on. */
export interface Decision {
  /** undefined: nothing new */
  readonly say: 'level' | 'forecast' | undefined
  readonly told: Told
}

/** Decides whether a sample is worth a word. @param now  seconds of a clock that never jumps */
export const decide = (
  before: Told,
  { level, percent, forecast, now }: { level: Level; percent: number; forecast: Forecast | undefined; now: number },
  limits: Limits,
): Decision => {
  const isSoon = forecast !== undefined && forecast.secondsLeft <= limits.horizon && level !== 'lost'
  const last = before.forecast
  const isNews =
    isSoon &&
    (last === null || forecast.secondsLeft <= last.secondsLeft * SOONER || now - last.at >= QUIET || now < last.at)
  const rises = RANKS[level] > RANKS[before.level]
  return {
    say: rises ? 'level' : isNews ? 'forecast' : undefined,
    told: {
      level: settled(before.level, level, percent, limits),
      // words about a level carry the forecast with them
      forecast: isNews || (rises && isSoon) ? { secondsLeft: forecast.secondsLeft, at: now } : last,
    },
  }
}
