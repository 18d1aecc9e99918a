import { LiveError } from '../error.js'
import {
  type InPlaceVerb,
  type MergeInPlaceOptions,
  type MergeInPlaceOutcome,
  type MergeInPlacePlan,
  planMergeInPlace,
  runMergeInPlace,
} from '../ops/merge-in-place.js'
import type { TargetInput } from '../ops/target.js'
import { type Consent, confirm, drive, print } from './run.js'
import { ATTENTION, duration, findingLines, type Paint, paint, readFromWords, rows, size } from './words.js'

/** A merge into the base before it runs. */
export const mergeInPlacePlanWords = (plan: MergeInPlacePlan, p: Paint): string[] => [
  p.bold('Plan: merge the overlay into the base where it stands'),
  ...rows([
    ['base', `${plan.base.path}, ${size(plan.base.size)}`],
    ['overlay', `${plan.overlay.path}, ${plan.exceptions} changed chunks of ${size(plan.chunkSize)}`],
    ['written', `${size(plan.writtenBytes)} into the base; no further space is needed`],
    ['time', `about ${duration(plan.estimatedSeconds)}`],
    ['no boot', 'never: base and overlay show the same system at any moment, and a second run goes on after a cut'],
    ['lost', p.warn(plan.lost.join('; '))],
  ]),
  'Steps, each on the medium before the next:',
  ...plan.steps.map((step, n) => `  ${n + 1}. ${step}`),
  ...findingLines(plan.findings, p),
]

/** A merge into the base when it is over. */
export const mergeInPlaceOutcomeWords = (done: MergeInPlaceOutcome, p: Paint): string[] => [
  p.good('Merged. Everything is on the medium; it is safe to unplug the stick once it is unmounted.'),
  ...rows([
    ['base', `${done.base}: ${done.exceptions} chunks, ${size(done.writtenBytes)}, written`],
    [
      'verified',
      done.verified
        ? `all ${size(done.verified.bytes)} read back and compared before the overlay forgot them (${readFromWords(done.verified.readBack)})`
        : 'nothing was read back',
    ],
    ['overlay', `${done.overlay} is empty again`],
  ]),
  ...findingLines(done.findings, p),
]

/** `liveos refresh --in-place` and `liveos merge --in-place`. @throws READ_ONLY */
export const mergeInPlace = async (
  verb: InPlaceVerb,
  input: TargetInput,
  options: MergeInPlaceOptions,
  consent: Consent,
): Promise<number> => {
  const plan = await planMergeInPlace(verb, input, options)
  if (consent.dryRun) {
    print(consent.json, plan, () => mergeInPlacePlanWords(plan, paint(process.stdout)))
    return 0
  }
  const found = plan.findings.find(({ code }) => code === 'READ_ONLY')
  if (found) throw new LiveError('READ_ONLY', found.message)
  if (!consent.yes) process.stderr.write(`${mergeInPlacePlanWords(plan, paint(process.stderr)).join('\n')}\n`)
  await confirm('Write these changes into the base? Nothing takes that back.', consent)
  const done = await drive(signal => runMergeInPlace(input, plan, { signal }))
  print(consent.json, done, () => mergeInPlaceOutcomeWords(done, paint(process.stdout)))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}
