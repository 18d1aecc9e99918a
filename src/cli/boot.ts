import { LiveError } from '../error.js'
import { type BootOptions, type BootOutcome, type BootPlan, planBoot, type Running, startBoot } from '../ops/boot.js'
import type { NumberedEntry } from '../ops/boot-entry.js'
import { shellWord, type TargetInput } from '../ops/target.js'
import { type Consent, confirm, print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, rows, safe, size } from './words.js'

const writesWords = ({ writesTo, medium }: BootPlan, p: Paint): string =>
  writesTo === 'stick'
    ? p.warn(`to ${medium.path} itself`)
    : writesTo === 'scratch'
      ? 'to a scratch overlay that is thrown away at the end'
      : 'none: a CD is read-only'

const entryLine = ({ number, title, config, partition, isDefault }: NumberedEntry): string =>
  `${String(number).padStart(3)}  ${title}${isDefault ? ' (default)' : ''}, in ${config}${partition === null ? '' : ` of partition ${partition}`}`

/** What is to be started, before it is. */
const planWords = (plan: BootPlan, p: Paint): string[] => {
  const { medium, entry, entries } = plan
  return [
    p.bold(`Plan: boot ${plan.target}`),
    ...rows([
      [
        'medium',
        `${medium.kind === 'url' ? plan.target : medium.path}, ${size(medium.size)}, as a ${medium.as === 'cd' ? 'CD' : 'USB disk'}`,
      ],
      ['writes', writesWords(plan, p)],
      [
        'machine',
        `${plan.accelerator.toUpperCase()}, ${size(plan.memory)}, ${plan.cpus} ${plan.cpus === 1 ? 'processor' : 'processors'}`,
      ],
      ['firmware', plan.firmware.toUpperCase()],
      ['starts', entry ? `entry ${entry.number}: ${entry.title}` : 'its own boot menu'],
      ['screen', plan.serial ? 'this terminal, as a serial console' : 'a window'],
      ['command', plan.command.map(shellWord).join(' ')],
    ]),
    ...(entries.length > 0 ? ['entries', ...entries.map(found => safe(entryLine(found)))] : []),
    ...findingLines(plan.findings, p),
  ]
}

const endWords = (
  { scratch, findings }: BootOutcome,
  { writesTo, medium }: BootPlan,
  shown: number,
  p: Paint,
): string[] => [
  writesTo === 'stick'
    ? `The machine has ended; what it wrote is on ${medium.path}.`
    : scratch
      ? `The machine has ended; what it wrote (${size(scratch.bytes)}) is thrown away, the stick is as it was.`
      : 'The machine has ended; nothing was changed.',
  ...findingLines(findings.slice(shown), p),
]

const tell = (lines: readonly string[]): void => {
  process.stderr.write(lines.map(line => `${line}\n`).join(''))
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** until a system that was asked to shut down has its power cut */
const PATIENCE_MS = 90_000

/**
 * Ends the machine when this process is asked to end. What writes to the stick itself is first asked to shut down; asked
 * again, its power is cut.
 */
const endOnSignals = (running: Running, { writesTo }: BootPlan): (() => void) => {
  let asked = false
  let late: NodeJS.Timeout | undefined
  const cut = (): void => void running.stop().catch(() => undefined)
  const onSignal = (): void => {
    if (writesTo !== 'stick' || asked) {
      tell(['', 'turning the machine off …'])
      cut()
      return
    }
    asked = true
    tell(['', 'asking the system to shut down; once more cuts the power …'])
    late = setTimeout(cut, PATIENCE_MS)
    void running.pressPower().then(pressed => (pressed ? undefined : cut()))
  }
  for (const signal of SIGNALS) process.on(signal, onSignal)
  return () => {
    clearTimeout(late)
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}

/** `liveos boot`; runs until the machine is turned off. */
export const boot = async (input: TargetInput, options: BootOptions, consent: Consent): Promise<number> => {
  const plan = await planBoot(input, options)
  if (consent.dryRun) {
    print(consent.json, plan, () => planWords(plan, paint(process.stdout)))
    return 0
  }
  if (plan.serial && consent.json)
    throw new LiveError(
      'USAGE',
      'the serial console takes standard output, and no window can be opened in its place: leave --json out',
    )
  const p = paint(process.stderr)
  if (!consent.json) tell(planWords(plan, p))
  if (plan.writesTo === 'stick') await confirm('Let the machine write to this stick?', consent)
  // whoever reads our words may go; the machine goes on
  const ignore = (): void => {}
  process.stdout.on('error', ignore)
  process.stderr.on('error', ignore)
  const abort = new AbortController()
  const early = (): void => abort.abort()
  for (const signal of SIGNALS) process.on(signal, early)
  let running: Running
  try {
    running = await startBoot(plan, { signal: abort.signal, address: input.target })
  } finally {
    for (const signal of SIGNALS) process.off(signal, early)
  }
  const off = endOnSignals(running, plan)
  // Asked to end while the machine was being started.
  if (abort.signal.aborted) void running.stop().catch(() => undefined)
  try {
    if (!consent.json)
      tell([
        plan.serial
          ? 'Ctrl-A X turns the machine off; Ctrl-C is for the system in it.'
          : 'Ctrl-C turns the machine off.',
      ])
    const outcome = await running.ended
    if (consent.json) print(true, { ...plan, outcome }, () => [])
    else tell(endWords(outcome, plan, plan.findings.length, p))
    return outcome.findings.some(({ severity }) => severity === 'error') ? ATTENTION : 0
  } finally {
    off()
  }
}
