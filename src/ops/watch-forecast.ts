/** How much was used at a time. Seconds of a clock that never jumps, bytes. */
export interface Point {
  readonly seconds: number
  readonly usedBytes: number
}

/** Where a fill is heading. */
export interface Forecast {
  /** bytes a second */
  readonly rate: number
  /** until nothing is left, at this rate */
  readonly secondsLeft: number
}

/** what lies further back says nothing of now */
const WINDOW = 30 * 60
const LEAST_POINTS = 5
/** over less than this even a steady rise means little */
const LEAST_SPAN = 60
/** a rise of less is noise: a log was written */
const LEAST_RISE = 256 * 1024
/** the rate must be so many times its own uncertainty */
const CERTAIN = 4
/** further off than this is no forecast */
const MOST_SECONDS = 24 * 3600
/** the share of the window that must still rise, its last */
const RECENT = 1 / 3

/** Slope of the line that fits best, and how uncertain it is (standard error). */
const slopeOf = (points: readonly Point[]): { slope: number; error: number } => {
  const count = points.length
  const mean = (value: (point: Point) => number): number => points.reduce((sum, point) => sum + value(point), 0) / count
  const middle = mean(point => point.seconds)
  const level = mean(point => point.usedBytes)
  let across = 0
  let along = 0
  for (const { seconds, usedBytes } of points) {
    across += (seconds - middle) ** 2
    along += (seconds - middle) * (usedBytes - level)
  }
  const slope = along / across
  let off = 0
  for (const { seconds, usedBytes } of points) off += (usedBytes - level - slope * (seconds - middle)) ** 2
  return { slope, error: Math.sqrt(off / (count - 2) / across) }
}

/** The points since the fill last fell (a reset, files removed from an OverlayFS), within the window before the last one. */
const recentRun = (points: readonly Point[]): readonly Point[] => {
  const last = points.at(-1)
  if (!last) return []
  let from = points.length - 1
  while (from > 0) {
    const before = points[from - 1]!
    if (before.usedBytes > points[from]!.usedBytes || before.seconds >= points[from]!.seconds) break
    if (last.seconds - before.seconds > WINDOW) break
    from--
  }
  return points.slice(from)
}

/**
 * Says when something that fills will be full, by least squares over the last half hour.
 *
 * @param points     in the order of time
 * @param leftBytes  what is left now
 * @returns undefined while there is too little to go by, or no steady rise that goes on, or the end is more than a day off
 */
export const forecast = (points: readonly Point[], leftBytes: number): Forecast | undefined => {
  const run = recentRun(points)
  const [first, last] = [run[0], run.at(-1)]
  if (!first || !last || run.length < LEAST_POINTS || leftBytes <= 0) return undefined
  const span = last.seconds - first.seconds
  if (span < LEAST_SPAN || last.usedBytes - first.usedBytes < LEAST_RISE) return undefined
  const { slope, error } = slopeOf(run)
  if (!(slope > 0) || slope < CERTAIN * error) return undefined
  const since = last.seconds - span * RECENT
  const begin = run.findLast(({ seconds }) => seconds <= since) ?? first
  // a burst that has ended: the line still rises, the fill does not
  if ((last.usedBytes - begin.usedBytes) / (last.seconds - begin.seconds) < slope / 4) return undefined
  const secondsLeft = leftBytes / slope
  return secondsLeft <= MOST_SECONDS ? { rate: slope, secondsLeft } : undefined
}

/** A time that is only guessed, for words: `40 minutes`. */
export const aboutTime = (seconds: number): string => {
  const minutes = seconds / 60
  const [count, unit] =
    minutes < 1.5
      ? [1, 'minute']
      : minutes < 10
        ? [Math.round(minutes), 'minute']
        : minutes < 90
          ? [Math.round(minutes / 5) * 5, 'minute']
          : [Math.round(minutes / 60), 'hour']
  return `${count} ${unit}${count === 1 ? '' : 's'}`
}
