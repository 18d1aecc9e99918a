import { LiveError } from '../error.js'
import { marked, shellWord, type TargetInput } from '../ops/target.js'
import {
  aboutTime,
  announce,
  type Channel,
  type InstallOutcome,
  type InstallPlan,
  type Limits,
  metricsText,
  openWatch,
  planInstall,
  runInstall,
  type WatchSample,
} from '../ops/watch.js'
import { type Consent, confirm, print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, safe, size } from './words.js'

/** How a watch shows what it sees. */
export interface WatchHow {
  /** seconds */
  readonly interval: number
  readonly limits: Limits
  readonly tell: readonly Channel[]
  readonly once?: boolean | undefined
  readonly metrics?: boolean | undefined
  readonly quiet?: boolean | undefined
  readonly history?: boolean | undefined
  readonly json?: boolean | undefined
}

const STATES: Readonly<Record<WatchSample['state'], string>> = {
  new: 'new',
  ok: 'in use',
  full: 'full: the next write overflows it',
  invalid: 'invalid: the kernel has given it up',
  overflow: 'overflowed: what is written now is lost',
  damaged: 'damaged: it can’t be read right',
  unknown: 'in use',
}

const ahead = ({ forecast }: WatchSample): string | undefined =>
  forecast ? `full in about ${aboutTime(forecast.secondsLeft)} at this rate` : undefined

/** What is told to users: a line, and what to do. @param address  of what is watched, as a command line names it */
export const noticeOf = (
  sample: WatchSample,
  address: string,
): { title: string; body: string; urgency: 'normal' | 'critical' } => {
  const { room, level, state, isRunning, keptIn, kind, forecast } = sample
  const what = isRunning ? 'The overlay of this live system' : `The overlay ${sample.path ?? sample.name}`
  const title =
    level === 'lost'
      ? `${what} ${state === 'overflow' ? 'has overflowed' : 'was given up by the kernel'}`
      : state === 'damaged'
        ? `${what} can’t be read right`
        : sample.say === 'forecast' && forecast
          ? `${what} is full in about ${aboutTime(forecast.secondsLeft)}`
          : `${what} is ${room?.percent ?? 100} % full`
  const left = room
    ? `${size(room.usedBytes)} are used, ${size(room.leftBytes)} are left${room.limitedBy === 'memory' ? ' of memory' : ''}.`
    : ''
  const coming = sample.say === 'level' ? ahead(sample) : undefined
  const isStore = kind === 'dm-snapshot' && keptIn === 'overlay of the stick'
  const advice =
    level === 'lost'
      ? `What is written now is lost: copy what matters to another disk and switch off. Then ${isRunning ? "run 'liveos recover TARGET' on the stick from another system" : `run ${marked(`liveos recover ${address}`)}`}.`
      : state === 'damaged'
        ? (sample.problem ?? '')
        : isStore
          ? `${marked(isRunning ? 'sudo liveos grow live --size +512M' : `liveos grow ${address} --size +512M`)} gives it more room, ${marked(`liveos usage ${address}`.trimEnd())} tells what takes it.`
          : room?.limitedBy === 'memory'
            ? 'Close programs and remove files: all of it is in memory.'
            : 'Remove files: that gives room back.'
  const body = [left, coming ? `${coming[0]!.toUpperCase()}${coming.slice(1)}.` : '', advice].filter(Boolean).join(' ')
  return { title, body, urgency: level === 'ok' || level === 'warning' ? 'normal' : 'critical' }
}

const BAR = 20

const colourOf = ({ level }: WatchSample, p: Paint): ((text: string) => string) =>
  level === 'ok' ? p.good : level === 'warning' ? p.warn : p.bad

const lineOf = (sample: WatchSample, p: Paint): string => {
  const { at, room, state, forecast } = sample
  const time = p.faint(new Date(at).toTimeString().slice(0, 8))
  if (!room)
    return safe(`${time}  ${colourOf(sample, p)(STATES[state])}${sample.problem ? ` (${sample.problem})` : ''}`)
  const full = Math.min(BAR, Math.round((room.percent / 100) * BAR))
  const bar = `[${colourOf(sample, p)('█'.repeat(full))}${p.faint('░'.repeat(BAR - full))}]`
  const said = [
    `${size(room.usedBytes)} used, ${size(room.leftBytes)} left${room.limitedBy === 'memory' ? ' of memory' : ''}`,
    forecast ? `${size(forecast.rate * 60)} a minute` : undefined,
    ahead(sample),
    state === 'ok' || state === 'unknown' ? undefined : STATES[state],
  ].filter(text => text !== undefined)
  return `${time}  ${bar} ${room.percent.toFixed(1)} %  ${said.join(', ')}`
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Waits; false where a signal came first. */
const pause = (seconds: number, signal: AbortSignal): Promise<boolean> =>
  new Promise(resolve => {
    const end = (went: boolean) => (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', stopped)
      resolve(went)
    }
    const stopped = end(false)
    const timer = setTimeout(end(true), seconds * 1000)
    signal.addEventListener('abort', stopped)
    if (signal.aborted) stopped()
  })

/** `liveos watch`, until Ctrl-C; exit code 1 where a single look finds what needs attention. */
export const watch = async (input: TargetInput, how: WatchHow): Promise<number> => {
  const { interval, limits, tell, once, metrics, quiet, history, json } = how
  const isSingle = once || metrics
  const watching = await openWatch(input, { limits, history, silent: metrics })
  const stop = new AbortController()
  const onSignal = () => stop.abort()
  if (!isSingle) for (const signal of SIGNALS) process.on(signal, onSignal)
  // whoever reads our lines may go
  process.stdout.on('error', onSignal)
  const p = paint(process.stdout)
  try {
    for (let first = true; ; first = false) {
      const sample = await watching.sample()
      if (metrics) process.stdout.write(metricsText(sample))
      else if (json) process.stdout.write(`${JSON.stringify(sample, undefined, isSingle ? 2 : 0)}\n`)
      else if (!quiet) {
        if (first)
          process.stdout.write(`${p.bold(safe(sample.path ?? sample.name))}  ${safe(sample.name)}, ${sample.kind}\n`)
        process.stdout.write(`${lineOf(sample, p)}\n`)
      }
      if (sample.say) {
        const notice = noticeOf(sample, watching.address)
        const took = await announce(notice, tell)
        if (!json && (!quiet || took.length === 0))
          process.stderr.write(`${colourOf(sample, paint(process.stderr))(safe(notice.title))}. ${safe(notice.body)}\n`)
      }
      if (isSingle) return sample.level === 'ok' || metrics ? 0 : ATTENTION
      if (!(await pause(interval, stop.signal))) return 0
    }
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal)
    process.stdout.off('error', onSignal)
  }
}

const CHANGES = { write: 'is written', rewrite: 'is written anew', remove: 'is removed', none: 'stays' } as const

const planWords = (plan: InstallPlan, p: Paint): string[] => [
  p.bold(`Plan: ${plan.action} the timer ${plan.timer} (${plan.scope})`),
  ...plan.files.flatMap(({ path, text, change }) => [
    `${path} ${CHANGES[change]}`,
    ...(text === null || change === 'none'
      ? []
      : text
          .trimEnd()
          .split('\n')
          .map(line => p.faint(`    ${line}`))),
  ]),
  'Commands:',
  ...plan.commands.map((command, n) => `  ${n + 1}. ${command.map(shellWord).join(' ')}`),
]

const outcomeWords = (done: InstallOutcome, p: Paint): string[] => [
  p.good(
    done.action === 'install'
      ? `${done.timer} is installed${done.findings.length > 0 ? ', but not started' : ' and running'}.`
      : done.files.length > 0
        ? `${done.timer} is removed.`
        : `${done.timer} was not installed; nothing was changed.`,
  ),
  ...findingLines(done.findings, p),
]

/** `liveos watch --install` and `--uninstall`. */
export const install = async (
  input: TargetInput,
  how: Parameters<typeof planInstall>[1],
  consent: Consent,
): Promise<number> => {
  if (how.interval < 1) throw new LiveError('USAGE', 'a timer runs once a second at most')
  const plan = await planInstall(input, how)
  if (consent.dryRun) {
    print(consent.json, plan, () => planWords(plan, paint(process.stdout)).map(safe))
    return 0
  }
  const changes = plan.files.some(({ change }) => change !== 'none')
  if (changes && !consent.yes) process.stderr.write(`${planWords(plan, paint(process.stderr)).map(safe).join('\n')}\n`)
  if (changes) await confirm(plan.action === 'install' ? 'Install this timer?' : 'Remove this timer?', consent)
  const done = await runInstall(plan)
  print(consent.json, done, () => outcomeWords(done, paint(process.stdout)))
  return done.findings.length > 0 ? ATTENTION : 0
}
