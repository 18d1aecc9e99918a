import { spawn } from 'node:child_process'
import { expect, it } from 'vitest'
import type { WatchSample } from '../../../src/ops/watch.js'
import { metricsText } from '../../../src/ops/watch-metrics.js'
import { tool } from '../../support/tools.js'

const SAMPLE: WatchSample = {
  at: '2026-11-21T16:20:00.500Z',
  target: '/run/initramfs/live',
  kind: 'dm-snapshot',
  name: 'live-rw',
  path: '/run/a "quoted"\\odd\nname',
  keptIn: 'overlay of the stick',
  isRunning: true,
  state: 'ok',
  room: { usedBytes: 1000, leftBytes: 3000, percent: 25, limitedBy: 'store' },
  dmsetup: null,
  problem: null,
  level: 'ok',
  forecast: { rate: 1.5, secondsLeft: 2000 },
  say: null,
  history: null,
}

const LINE = /^(liveos_[a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (-?[0-9.]+(?:e[+-]?\d+)?)$/

/** The text by the rules of the format, or an error. @see https://prometheus.io/docs/instrumenting/exposition_formats/ */
const parsed = (text: string): Map<string, number> => {
  expect(text.endsWith('\n')).toBe(true)
  const values = new Map<string, number>()
  let typed = ''
  for (const line of text.slice(0, -1).split('\n')) {
    const [, hash, metric] = /^# (HELP|TYPE) (\S+) \S/.exec(line) ?? []
    if (hash === 'TYPE') {
      expect(line).toBe(`# TYPE ${metric} gauge`)
      typed = metric!
    }
    if (hash) continue
    const [, name, labels, value] = LINE.exec(line) ?? expect.fail(line)
    expect(name).toBe(typed)
    const key = `${name}{${/state="(\w+)"/.exec(labels!)?.[1] ?? ''}}`
    expect(values.has(key)).toBe(false)
    values.set(key, Number(value))
  }
  return values
}

it('every number by its name, labels escaped', () => {
  const values = parsed(metricsText(SAMPLE))
  expect(values.get('liveos_overlay_used_bytes{}')).toBe(1000)
  expect(values.get('liveos_overlay_left_bytes{}')).toBe(3000)
  expect(values.get('liveos_overlay_used_ratio{}')).toBe(0.25)
  expect(values.get('liveos_overlay_state{ok}')).toBe(1)
  expect(values.get('liveos_overlay_state{overflow}')).toBe(0)
  expect(values.get('liveos_overlay_full_in_seconds{}')).toBe(2000)
  expect(values.get('liveos_overlay_sample_timestamp_seconds{}')).toBe(Date.parse('2026-11-21T16:20:00Z') / 1000)
  expect(metricsText(SAMPLE)).toContain('overlay="/run/a \\"quoted\\"\\\\odd\\nname"')
})

it('what can’t be told is left out', () => {
  const values = parsed(metricsText({ ...SAMPLE, room: null, forecast: null, state: 'damaged' }))
  expect([...values.keys()].filter(key => !key.includes('_state'))).toEqual([
    'liveos_overlay_sample_timestamp_seconds{}',
  ])
  expect(values.get('liveos_overlay_state{damaged}')).toBe(1)
})

// Prometheus is no small thing to ask for: its judge is taken where it is.
it.skipIf(!tool('promtool'))('promtool has nothing to say against it', async () => {
  const child = spawn('promtool', ['check', 'metrics'])
  let words = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', text => (words += text))
  child.stdin.end(metricsText(SAMPLE))
  const code = await new Promise(resolve => child.on('close', resolve))
  expect({ code, words }).toEqual({ code: 0, words: '' })
})
