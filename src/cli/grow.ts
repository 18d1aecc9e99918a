import { type GrowOptions, type GrowOutcome, type GrowPlan, planGrow, runGrow } from '../ops/grow.js'
import { type GrowLiveOutcome, type GrowLivePlan, isLive, planGrowLive, runGrowLive } from '../ops/grow-live.js'
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

/** More room for an overlay in use, before it runs. */
const livePlanWords = (plan: GrowLivePlan, p: Paint): string[] => [
  p.bold(
    plan.change === 'none'
      ? 'Plan: leave the size of the overlay in use as it is'
      : plan.change === 'tell'
        ? 'Plan: tell the kernel of the size that the overlay in use has already'
        : 'Plan: enlarge the overlay in use',
  ),
  ...rows([
    ['overlay', `${plan.overlay.path}, ${size(plan.oldBytes)}, of which ${size(plan.usedBytes)} are used`],
    ['in use by', `${plan.snapshot} on ${plan.loop}, which shows ${size(plan.kernelBytes)} of it`],
    ['size', plan.change === 'none' ? 'stays' : `${size(plan.newBytes)} (${plan.newBytes} bytes)`],
    [
      'space',
      `${size(plan.space.neededBytes)} are needed, ${size(plan.space.freeBytes)} are free${plan.space.fileLimit === null ? '' : `; a file has ${plan.space.fileLimit} bytes at most`}`,
    ],
    ['time', `about ${duration(plan.estimatedSeconds)}; the system goes on meanwhile`],
  ]),
  ...(plan.steps.length > 0 ? ['Steps:'] : []),
  ...plan.steps.map((step, n) => `  ${n + 1}. ${step}`),
  ...findingLines(plan.findings, p),
]

const liveOutcomeWords = (done: GrowLiveOutcome, p: Paint): string[] => [
  p.good(
    done.change === 'none'
      ? `${done.overlay} has ${size(done.newBytes)} already, and the kernel knows; nothing was changed.`
      : `${done.overlay} has ${size(done.newBytes)} now, and ${done.snapshot} uses them.`,
  ),
  ...rows([
    ['before', done.dmsetup.before],
    ['now', done.dmsetup.after],
  ]),
  ...findingLines(done.findings, p),
]

const growLive = async (input: TargetInput, options: GrowOptions, consent: Consent): Promise<number> => {
  const plan = await planGrowLive(input, options)
  if (consent.dryRun) {
    print(consent.json, plan, () => livePlanWords(plan, paint(process.stdout)))
    return 0
  }
  if (plan.change !== 'none') {
    if (!consent.yes) process.stderr.write(`${livePlanWords(plan, paint(process.stderr)).join('\n')}\n`)
    await confirm('Enlarge the overlay of a system in use?', consent)
  }
  const done = await drive(signal => runGrowLive(plan, { signal }))
  print(consent.json, done, () => liveOutcomeWords(done, paint(process.stdout)))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

/** `liveos grow`; of an overlay in use too. */
export const grow = async (input: TargetInput, options: GrowOptions, consent: Consent): Promise<number> => {
  if (await isLive(input)) return growLive(input, options, consent)
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
