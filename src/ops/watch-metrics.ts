import type { WatchSample } from './watch.js'

/** @see https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format */
const escaped = (value: string): string => value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')

const labels = (pairs: Readonly<Record<string, string>>): string =>
  `{${Object.entries(pairs)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(',')}}`

const STATES: readonly WatchSample['state'][] = ['new', 'ok', 'full', 'invalid', 'overflow', 'damaged', 'unknown']

/** A sample as Prometheus reads it. A number that can't be told is left out. */
export const metricsText = ({ at, kind, name, path, state, room, forecast }: WatchSample): string => {
  const of = { overlay: path ?? name, device: name, kind }
  const lines: string[] = []
  const gauge = (
    metric: string,
    help: string,
    samples: readonly (readonly [Record<string, string>, number])[],
  ): void => {
    if (samples.length === 0) return
    lines.push(`# HELP liveos_overlay_${metric} ${help}`, `# TYPE liveos_overlay_${metric} gauge`)
    for (const [more, value] of samples) lines.push(`liveos_overlay_${metric}${labels({ ...of, ...more })} ${value}`)
  }
  const one = (value: number | undefined): [Record<string, string>, number][] =>
    value === undefined ? [] : [[{}, value]]
  gauge('used_bytes', 'Bytes that the overlay has in use.', one(room?.usedBytes))
  gauge('left_bytes', 'Bytes that can still be written before the overlay is full.', one(room?.leftBytes))
  gauge('used_ratio', 'Used of used and left, 0 to 1.', one(room ? Math.round(room.percent * 10) / 1000 : undefined))
  gauge(
    'state',
    'The state that the overlay is in has the value 1.',
    STATES.map(each => [{ state: each }, each === state ? 1 : 0]),
  )
  gauge('fill_bytes_per_second', 'Rate at which the overlay fills, where it fills steadily.', one(forecast?.rate))
  gauge('full_in_seconds', 'Time until the overlay is full at this rate.', one(forecast?.secondsLeft))
  gauge('sample_timestamp_seconds', 'When this was looked at.', one(Math.floor(Date.parse(at) / 1000)))
  return `${lines.join('\n')}\n`
}
