import { type CompactOptions, type CompactOutcome, type CompactPlan, planCompact, runCompact } from '../ops/compact.js'
import { progressing } from '../ops/progress.js'
import type { TargetInput } from '../ops/target.js'
import { type Consent, confirm, drive, print } from './run.js'
import { ATTENTION, duration, findingLines, type Paint, paint, readFromWords, rows, size } from './words.js'

const chunkWords = ({ before, free, equal, kept }: NonNullable<CompactPlan['chunks']>): string =>
  `${before} now; ${free} hold what is free in the root filesystem, ${equal} equal the base, ${kept} stay`

/** A compaction before it runs. */
export const compactPlanWords = (plan: CompactPlan, p: Paint): string[] => [
  p.bold(
    plan.resume
      ? plan.resume.does === 'start again'
        ? 'Plan: start the compaction again that was cut short'
        : 'Plan: finish the compaction that was cut short'
      : 'Plan: compact the overlay',
  ),
  ...rows([
    plan.overlay ? ['overlay', `${plan.overlay.path}, ${size(plan.oldBytes)}`] : undefined,
    plan.chunks ? ['chunks', chunkWords(plan.chunks)] : undefined,
    plan.usedBytes
      ? [
          'gives back',
          `${size(plan.givesBackBytes)}: it uses ${size(plan.usedBytes.before)} now, ${size(plan.usedBytes.after)} then`,
        ]
      : undefined,
    plan.newBytes === plan.oldBytes ? undefined : ['size', `${size(plan.newBytes)} (${plan.newBytes} bytes)`],
    plan.space
      ? [
          'space',
          `the new overlay takes ${size(plan.space.neededBytes)}; ${size(plan.space.freeBytes)} are free${plan.space.stageBytes === null ? '' : `, and ${size(plan.space.stageBytes)} in the stage`}`,
        ]
      : undefined,
    ['time', `about ${duration(plan.estimatedSeconds)}`],
    ['no overlay', plan.noOverlay ?? 'never: a boot finds it at any moment'],
  ]),
  ...(plan.worthwhile
    ? ['Steps, each on the medium before the next:', ...plan.steps.map((step, n) => `  ${n + 1}. ${step}`)]
    : ['There is nothing to give back; nothing will be changed.']),
  ...findingLines(plan.findings, p),
]

/** A compaction when it is over. */
export const compactOutcomeWords = (done: CompactOutcome, p: Paint): string[] => [
  p.good(
    done.changed
      ? 'Compacted. Everything is on the medium; it is safe to unplug the stick once it is unmounted.'
      : 'There was nothing to give back; nothing was changed.',
  ),
  ...rows([
    ['overlay', `${done.overlay}, ${size(done.newBytes)}`],
    done.chunks ? ['chunks', chunkWords(done.chunks)] : undefined,
    done.usedBytes
      ? ['uses', `${size(done.usedBytes.after)} of it (${size(done.usedBytes.before)} before)`]
      : undefined,
    done.changed
      ? [
          'verified',
          done.verified
            ? `its list and ${done.verified.chunks} chunks, against what base and old overlay show (${readFromWords(done.verified.readBack)})`
            : 'by the run that was cut short',
        ]
      : undefined,
  ]),
  ...findingLines(done.findings, p),
]

/** `liveos compact`. */
export const compact = async (input: TargetInput, options: CompactOptions, consent: Consent): Promise<number> => {
  const plan = await drive(signal => progressing(report => planCompact(input, options, { report, signal })))
  if (consent.dryRun) {
    print(consent.json, plan, () => compactPlanWords(plan, paint(process.stdout)))
    return 0
  }
  if (plan.worthwhile || plan.resume) {
    if (!consent.yes) process.stderr.write(`${compactPlanWords(plan, paint(process.stderr)).join('\n')}\n`)
    await confirm('Compact the overlay?', consent)
  }
  const done = await drive(signal => runCompact(input, plan, { signal }))
  print(consent.json, done, () => compactOutcomeWords(done, paint(process.stdout)))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}
