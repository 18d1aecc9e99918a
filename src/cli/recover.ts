import { planRecover, type RecoverOptions, type RecoverPlan } from '../ops/recover.js'
import { lostWords } from '../ops/recover-lost.js'
import { type RecoverOutcome, runRecover } from '../ops/recover-run.js'
import { calledAs, type OverlayTarget, openOverlayTarget, type TargetInput } from '../ops/target.js'
import { planUndo, runUndo, type UndoOutcome, type UndoPlan } from '../ops/undo.js'
import { type Consent, confirm, drive, print } from './run.js'
import { ATTENTION, duration, findingLines, type Paint, paint, rows, safe, size } from './words.js'

/** Lists longer than this are cut in words; --json has all. */
const SHOWN = 20

const steps = (list: readonly string[]): string[] => [
  'Steps, each on the medium before the next:',
  ...list.map((step, n) => `  ${n + 1}. ${step}`),
]

const lostLines = ({ list }: { readonly list: RecoverOutcome['list'] }, p: Paint): string[] => {
  if (list.lost === 0 && !list.atLeast) return []
  const { files, others, unknown } = list.content
  const lines = [
    ...files.map(({ path, inode, bytes }) => `  ${size(bytes)} of ${path === null ? `inode ${inode}` : safe(path)}`),
    ...others.map(({ role, bytes }) =>
      role === 'unknown' ? `  ${size(bytes)} of what can't be told` : `  ${size(bytes)} of ${role}`,
    ),
  ]
  return [
    p.warn(`${lostWords(list)} can't be had back; there the base shows again${lines.length > 0 ? ':' : ''}`),
    ...lines.slice(0, SHOWN),
    ...(lines.length > SHOWN ? [`  and ${lines.length - SHOWN} more (--json tells all)`] : []),
    ...(unknown === null ? [] : [`  what they belonged to can't be told: ${safe(unknown)}`]),
  ]
}

/** A recovery before it runs. @param undo  the command line that takes it back */
export const recoverPlanWords = (plan: RecoverPlan, p: Paint, undo: string): string[] => [
  p.bold('Plan: recover the overlay'),
  ...rows([
    ['overlay', `${plan.overlay.path}, ${size(plan.overlay.size)}: ${plan.damage}`],
    ['keeps', `${plan.list.kept} changed chunks`],
    plan.size.after === null
      ? ['size', p.warn('it has no room left, and the stick has none for more')]
      : plan.size.after === plan.size.before
        ? undefined
        : ['size', `${size(plan.size.before)} becomes ${size(plan.size.after)}`],
    [
      'check',
      plan.fsck
        ? plan.fsck.on === 'export'
          ? `${plan.fsck.program} on the root as it is served to it; what it writes is kept aside first`
          : `${plan.fsck.program} on a copy of the root in the temporary folder (${size(plan.fsck.copyBytes)} at most, ${size(plan.fsck.freeBytes)} free)`
        : 'none',
    ],
    ['time', `about ${duration(plan.estimatedSeconds)}`],
    ['no boot', plan.cannotBoot ?? 'never: the stick can boot at any moment'],
    plan.lost.length > 0 ? ['lost', p.warn(plan.lost.join('; '))] : undefined,
    ['way back', `${undo}   # until the stick is booted again`],
  ]),
  ...lostLines(plan, p),
  ...steps(plan.steps),
  ...findingLines(plan.findings, p),
]

const changeLines = (done: RecoverOutcome): string[] => {
  const changes = done.fsck?.changes ?? []
  return [
    ...changes.slice(0, SHOWN).map(({ change, path }) => `  ${change} ${safe(path)}`),
    ...(changes.length > SHOWN ? [`  and ${changes.length - SHOWN} more (--json tells all)`] : []),
  ]
}

/** A recovery when it is over. @param undo  the command line that takes it back */
export const recoverOutcomeWords = (done: RecoverOutcome, p: Paint, undo: string): string[] => [
  p.good(
    done.changed
      ? `${done.overlay} is in order again. Everything is on the medium.`
      : `${done.overlay} has nothing to recover; nothing was changed.`,
  ),
  ...rows([
    done.changed ? ['keeps', `${done.list.kept} changed chunks`] : undefined,
    done.size.after === done.size.before
      ? undefined
      : ['size', `${size(done.size.before)} before, ${size(done.size.after)} now`],
    done.fsck
      ? [
          'check',
          done.fsck.code === 0
            ? `${done.fsck.program} found nothing to repair`
            : `${done.fsck.program} repaired the filesystem (${size(done.fsck.changedBytes)} of chunks) and found nothing more`,
        ]
      : undefined,
    done.readBack
      ? ['read back', done.readBack === 'medium' ? 'from the medium' : 'through the page cache']
      : undefined,
    done.undo === null ? undefined : ['way back', `${undo}   # ${done.undo} may be removed when all is well`],
  ]),
  ...lostLines(done, p),
  ...(done.fsck?.changes && done.fsck.changes.length > 0 ? ['Repaired, by file:', ...changeLines(done)] : []),
  ...findingLines(done.findings, p),
]

/** `liveos recover`. */
export const recover = async (input: TargetInput, options: RecoverOptions, consent: Consent): Promise<number> => {
  const { target, input: same, close } = await openOverlayTarget(input)
  try {
    return await recoverOn(target, same, options, consent)
  } finally {
    await close()
  }
}

const recoverOn = async (
  target: OverlayTarget,
  input: TargetInput,
  options: RecoverOptions,
  consent: Consent,
): Promise<number> => {
  const plan = await planRecover(target, options)
  const undo = `liveos undo ${calledAs(target)}`
  if (consent.dryRun) {
    print(consent.json, plan, () => recoverPlanWords(plan, paint(process.stdout), undo))
    return 0
  }
  if (!consent.yes) process.stderr.write(`${recoverPlanWords(plan, paint(process.stderr), undo).join('\n')}\n`)
  await confirm('Recover this overlay?', consent)
  const done = await drive(signal => runRecover(target, plan, { signal, input }))
  print(consent.json, done, () => recoverOutcomeWords(done, paint(process.stdout), undo))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

/** An undo before it runs. */
export const undoPlanWords = (plan: UndoPlan, p: Paint): string[] => [
  p.bold(`Plan: take back the ${plan.of ?? 'change'} of the overlay`),
  ...rows([
    ['overlay', `${plan.overlay.path}, ${size(plan.size.now)}`],
    plan.begun === null ? undefined : ['done', `${plan.begun}${plan.cut ? ', cut in its middle' : ''}`],
    ['restores', `${size(plan.restoredBytes)} as they were`],
    plan.size.now === plan.size.then
      ? undefined
      : ['size', `${size(plan.size.now)} becomes ${size(plan.size.then)} again`],
  ]),
  ...steps(plan.steps),
]

/** An undo when it is over. */
export const undoOutcomeWords = (done: UndoOutcome, p: Paint): string[] => [
  p.good(`${done.overlay} is as it was before the ${done.of ?? 'change'} (${size(done.restoredBytes)} put back).`),
]

/** `liveos undo`. */
export const undo = async (input: TargetInput, consent: Consent): Promise<number> => {
  const { target, close } = await openOverlayTarget(input)
  try {
    return await undoOn(target, consent)
  } finally {
    await close()
  }
}

const undoOn = async (target: OverlayTarget, consent: Consent): Promise<number> => {
  const plan = await planUndo(target)
  if (consent.dryRun) {
    print(consent.json, plan, () => undoPlanWords(plan, paint(process.stdout)))
    return 0
  }
  if (!consent.yes) process.stderr.write(`${undoPlanWords(plan, paint(process.stderr)).join('\n')}\n`)
  await confirm('Take this change back?', consent)
  const done = await drive(signal => runUndo(target, plan, { signal }))
  print(consent.json, done, () => undoOutcomeWords(done, paint(process.stdout)))
  return 0
}
