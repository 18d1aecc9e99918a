import { type Command, InvalidArgumentError } from '@commander-js/extra-typings'
import { argument, MOUNTED, verb, where } from './verb.js'
import { parseNumber } from './words.js'

const UNITS: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, min: 60, h: 3600 }

/** Seconds: `30`, `30s`, `5m`, `1h`. @throws Error  it is none */
const parseTime = (text: string): number => {
  const [, count, unit = ''] = /^(\d+)(s|m|min|h)?$/.exec(text) ?? []
  if (count === undefined) throw new Error(`${text} is no time: write 30s, 5m or 1h`)
  return Number(count) * UNITS[unit]!
}

const DAY = 24 * 3600

const atLeastOne = (text: string): number => {
  const seconds = parseTime(text)
  if (seconds < 1) throw new Error('a second at least.')
  // a timer of this process can't wait for a month, and then does not wait at all
  if (seconds > DAY) throw new Error('a day (24h) at most.')
  return seconds
}

const percent = (text: string): number => {
  const number = parseNumber(text)
  if (number > 100) throw new Error('at most 100 percent.')
  return number
}

const WAYS = ['desktop', 'wall', 'journal'] as const

const ways = (text: string): readonly (typeof WAYS)[number][] => {
  if (text === 'none') return []
  return text.split(',').map(word => {
    const found = WAYS.find(way => way === word)
    if (!found) throw new Error(`choose among ${WAYS.join(', ')}, with commas between, or none.`)
    return found
  })
}

interface Told {
  readonly warn?: number | undefined
  readonly critical?: number | undefined
  readonly forecast?: number | undefined
  readonly tell?: readonly string[] | undefined
  readonly history?: boolean | undefined
  readonly image?: string | undefined
  readonly overlay?: string | undefined
  readonly base?: string | undefined
}

/** The options of this command line that go with every sample of a timer. Paths are given as they are found from anywhere. */
const wordsOf = (told: Told, absolute: (path: string) => string): string[] => {
  const { warn, critical, forecast, tell, history, image, overlay, base } = told
  const words: string[] = []
  const add = (name: string, value: string | number | undefined): void => {
    if (value !== undefined) words.push(name, String(value))
  }
  add('--warn', warn)
  add('--critical', critical)
  add('--forecast', forecast)
  add('--tell', tell && (tell.length === 0 ? 'none' : tell.join(',')))
  add('--image', image)
  add('--overlay', overlay && absolute(overlay))
  add('--base', base && absolute(base))
  if (history === false) words.push('--no-history')
  return words
}

const watchVerb = (done: (code: number) => void) =>
  verb(
    'watch',
    'look now and then how full the overlay is, and warn before it overflows; the running system, where no TARGET is given',
    [
      'sudo liveos watch',
      'sudo liveos watch --once --json',
      'liveos watch /run/media/me/LIVE --interval 10s --warn 70',
      'sudo liveos watch --metrics > /var/lib/prometheus/node-exporter/liveos.prom',
      'sudo liveos watch --install --interval 2m   # a systemd timer',
      'sudo liveos watch --uninstall',
    ],
    `${MOUNTED}, or an overlay file itself; the running system, where it is left out`,
  )
    .option('--interval <time>', 'time between two looks, such as 30s, 5m or 1h (60s)', argument(atLeastOne))
    .option('--warn <percent>', 'warn from here on (80)', argument(percent))
    .option('--critical <percent>', 'critical from here on (95)', argument(percent))
    .option(
      '--forecast <time>',
      'warn when it will be full within this time at its rate; 0 never does (1h)',
      argument(parseTime),
    )
    .option('--tell <ways>', 'how users are told: desktop, wall, journal, or none (all that are there)', argument(ways))
    .option('--once', 'look once; exit code 1 where something needs attention')
    .option('--metrics', 'look once, tell nobody, and print it for Prometheus')
    .option('--no-history', 'keep no history beside the overlay on the stick')
    .option('--quiet', 'print nothing but warnings that could be told in no other way')
    .option('--install', 'install a systemd service and timer that do this')
    .option('--uninstall', 'remove them')
    .option('--user', 'with --install and --uninstall: for the session of this user, as without root')
    .option('--dry-run', 'with --install and --uninstall: show the units and change nothing')
    .option('--yes', 'do not ask')
    .action(async (target, options) => {
      const { interval = 60, warn = 80, critical = 95, forecast = 3600, tell = WAYS } = options
      const { once, metrics, quiet, history, json, install, uninstall } = options
      if (warn > critical) throw new InvalidArgumentError('--warn is more than --critical.')
      if (install && uninstall) throw new InvalidArgumentError('--install and --uninstall: choose one.')
      if (metrics && json) throw new InvalidArgumentError('--metrics and --json: choose one.')
      if ((install || uninstall) && (once || metrics))
        throw new InvalidArgumentError('--install and --uninstall go without --once and --metrics.')
      if ((options.user || options.dryRun) && !install && !uninstall)
        throw new InvalidArgumentError('--user and --dry-run go with --install and --uninstall.')
      const input = where(target, options)
      const verbs = await import('./watch.js')
      if (!install && !uninstall) {
        const limits = { warnAt: warn, criticalAt: critical, horizon: forecast }
        return done(await verbs.watch(input, { interval, limits, tell, once, metrics, quiet, history, json }))
      }
      const { resolve } = await import('node:path')
      const scope = options.user || process.getuid?.() !== 0 ? 'user' : 'system'
      const words = wordsOf(options, path => resolve(path))
      done(await verbs.install(input, { scope, interval, words, uninstall }, options))
    })

/** The verbs of a system that is in use. */
export const watchVerbs = (done: (code: number) => void): readonly Command[] =>
  [watchVerb(done)] as unknown as readonly Command[]
