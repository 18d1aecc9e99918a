import { type GrowOptions, type GrowOutcome, type GrowPlan, planGrow, runGrow } from '../ops/grow.js'
import type { TargetInput } from '../ops/target.js'
import { type Consent, confirm, drive, print } from './run.js'
import { ATTENTION, duration, findingLines, type Paint, paint, rows, size } from './words.js'

const TITLES = {
  grow: 'Plan: enlarge the overlay',
  shrink: 'Plan: shrink the overlay',
  none: 'Plan: leave the size of the overlay as it is',
} as const

/** A change of size before it runs. */
export const growPlanWords = (plan: GrowPlan, p: Paint): string[] => [
  p.bold(plan.change === 'none' && plan.fillBytes > 0 ? 'Plan: fill the holes of the overlay' : TITLES[plan.change]),
  ...rows([
    ['overlay', `${plan.overlay.path}, ${size(plan.oldBytes)}, of which it uses ${size(plan.usedBytes)}`],
    ['size', plan.change === 'none' ? 'stays' : `${size(plan.newBytes)} (${plan.newBytes} bytes)`],
    plan.fillBytes > 0 ? ['holes', `${size(plan.fillBytes)} are filled with zeros`] : undefined,
    [
      'space',
      `${size(plan.space.neededBytes)} are needed, ${size(plan.space.freeBytes)} are free${plan.space.fileLimit === null ? '' : `; a file has ${plan.space.fileLimit} bytes at most`}`,
    ],
    plan.change === 'shrink'
      ? ['least', `${size(plan.leastBytes)} as it is (liveos compact may bring it lower)`]
      : undefined,
    ['time', `about ${duration(plan.estimatedSeconds)}`],
    ['no boot', 'never: the stick can boot at any moment'],
  ]),
  'Steps, each on the medium before the next:',
  ...plan.steps.map((step, n) => `  ${n + 1}. ${step}`),
  ...findingLines(plan.findings, p),
]

/** A change of size when it is over. */
export const growOutcomeWords = (done: GrowOutcome, p: Paint): string[] => [
  p.good(
    done.change === 'none' && done.filledBytes === 0
      ? `${done.overlay} has ${size(done.newBytes)} already; nothing was changed.`
      : `${done.overlay} has ${size(done.newBytes)} now. Everything is on the medium.`,
  ),
  ...rows([
    done.change === 'none' ? undefined : ['before', size(done.oldBytes)],
    done.filledBytes > 0 ? ['zeros', `${size(done.filledBytes)} written where holes were`] : undefined,
    [
      'read back',
      `its list of ${done.exceptions} chunks is the same (${done.readBack === 'medium' ? 'read from the medium' : 'read through the page cache'})`,
    ],
  ]),
  ...findingLines(done.findings, p),
]

/** `liveos grow`. */
export const grow = async (input: TargetInput, options: GrowOptions, consent: Consent): Promise<number> => {
  const plan = await planGrow(input, options)
  if (consent.dryRun) {
    print(consent.json, plan, () => growPlanWords(plan, paint(process.stdout)))
    return 0
  }
  const changes = plan.change !== 'none' || plan.fillBytes > 0
  if (changes && !consent.yes) process.stderr.write(`${growPlanWords(plan, paint(process.stderr)).join('\n')}\n`)
  if (changes) await confirm('Change the overlay?', consent)
  const done = await drive(signal => runGrow(input, plan, { signal }))
  print(consent.json, done, () => growOutcomeWords(done, paint(process.stdout)))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}
