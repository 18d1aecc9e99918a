import { LiveError } from '../error.js'
import { type MergeOptions, planMerge, runMerge } from '../ops/merge.js'
import { planRefresh, type RefreshOptions } from '../ops/refresh.js'
import { runRefresh } from '../ops/refresh-run.js'
import { planReset, runReset } from '../ops/reset.js'
import { type Finding, type OverlayTarget, openOverlayTarget, openTarget, type TargetInput } from '../ops/target.js'
import { runVerify } from '../ops/verify.js'
import {
  mergeOutcomeWords,
  mergePlanWords,
  refreshOutcomeWords,
  refreshPlanWords,
  resetOutcomeWords,
  resetPlanWords,
  verifyWords,
} from './plans.js'
import { type Consent, confirm, drive, print } from './run.js'
import { ATTENTION, paint } from './words.js'

/** The plan, on stderr where it leads to a question and stdout belongs to the outcome. */
const showPlan = (words: (p: ReturnType<typeof paint>) => readonly string[]): void => {
  process.stderr.write(
    words(paint(process.stderr))
      .map(line => `${line}\n`)
      .join(''),
  )
}

const attention = (findings: readonly { readonly severity: string }[]): number =>
  findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0

/** Nobody is asked about a plan that can't be run. @throws READ_ONLY */
const checkCanRun = (findings: readonly Finding[]): void => {
  const found = findings.find(({ code }) => code === 'READ_ONLY')
  if (found) throw new LiveError('READ_ONLY', found.message)
}

/** `liveos refresh`. */
export const refresh = async (input: TargetInput, options: RefreshOptions, consent: Consent): Promise<number> => {
  const plan = await planRefresh(input, options)
  if (consent.dryRun) {
    print(consent.json, plan, () => refreshPlanWords(plan, paint(process.stdout)))
    return 0
  }
  checkCanRun(plan.findings)
  if (!consent.yes) showPlan(p => refreshPlanWords(plan, p))
  await confirm('Refresh this stick?', consent)
  const done = await drive(signal => runRefresh(input, plan, { signal }))
  print(consent.json, done, () => refreshOutcomeWords(done, paint(process.stdout)))
  return attention(done.findings)
}

/** `liveos merge`. */
export const merge = async (input: TargetInput, options: MergeOptions, consent: Consent): Promise<number> => {
  const { target, close } = await openTarget(input)
  try {
    const plan = await planMerge(target, options)
    if (consent.dryRun) {
      print(consent.json, plan, () => mergePlanWords(plan, paint(process.stdout)))
      return 0
    }
    // a new file somewhere takes nothing away from anyone: the command is its own consent
    showPlan(p => mergePlanWords(plan, p))
    const done = await drive(signal => runMerge(target, plan, { signal }))
    print(consent.json, done, () => mergeOutcomeWords(done, paint(process.stdout)))
    return attention(done.findings)
  } finally {
    await close()
  }
}

/** `liveos reset`. */
export const reset = async (input: TargetInput, consent: Consent): Promise<number> => {
  const { target, close } = await openOverlayTarget(input)
  try {
    return await resetOn(target, consent)
  } finally {
    await close()
  }
}

const resetOn = async (target: OverlayTarget, consent: Consent): Promise<number> => {
  const plan = await planReset(target)
  if (consent.dryRun) {
    print(consent.json, plan, () => resetPlanWords(plan, paint(process.stdout)))
    return 0
  }
  checkCanRun(plan.findings)
  if (!consent.yes) showPlan(p => resetPlanWords(plan, p))
  await confirm('Throw these changes away?', consent)
  const done = await drive(() => runReset(target, plan))
  print(consent.json, done, () => resetOutcomeWords(done, paint(process.stdout)))
  return 0
}

/** `liveos verify`; exit code 1 where the base is damaged. */
export const verify = async (
  input: TargetInput,
  { json }: { readonly json?: boolean | undefined },
): Promise<number> => {
  const { target, close } = await openTarget(input)
  try {
    const done = await drive(signal => runVerify(target, { signal }))
    print(json, done, () => verifyWords(done, paint(process.stdout)))
    return done.result === 'damaged' ? ATTENTION : 0
  } finally {
    await close()
  }
}
