import { type BackupOptions, type BackupOutcome, type BackupPlan, planBackup, runBackup } from '../ops/backup.js'
import {
  abandonRestore,
  planRestore,
  type RestoreOptions,
  type RestoreOutcome,
  type RestorePlan,
  runRestore,
} from '../ops/restore.js'
import {
  planRestoreChanges,
  type RestoreChangesOutcome,
  type RestoreChangesPlan,
  runRestoreChanges,
} from '../ops/restore-changes.js'
import type { TargetInput } from '../ops/target.js'
import { type Consent, confirm, drive, print } from './run.js'
import { ATTENTION, duration, findingLines, type Paint, paint, readFromWords, rows, size } from './words.js'

const steps = (list: readonly string[]): string[] => list.map((step, n) => `  ${n + 1}. ${step}`)

/** A backup before it is written. */
export const backupPlanWords = (plan: BackupPlan, p: Paint): string[] => [
  p.bold(plan.resumeBytes === null ? 'Plan: write a backup' : 'Plan: go on with a backup that was cut short'),
  ...rows([
    ['of', plan.target],
    ['to', plan.output],
    ...plan.parts.map(
      ({ kind, path, size: bytes }) =>
        [kind, bytes === null ? 'the files that differ from the base' : `${path}, ${size(bytes)}`] as const,
    ),
    [
      'size',
      `${size(plan.bytesAtMost)} at most, less what zeros and compression save; ${size(plan.freeBytes)} are free`,
    ],
    ['time', `about ${duration(plan.estimatedSeconds)}`],
  ]),
  'Steps:',
  ...steps(plan.steps),
  ...findingLines(plan.findings, p),
]

/** A backup when it is written. */
export const backupOutcomeWords = (done: BackupOutcome, p: Paint): string[] => [
  p.good(`Written to ${done.output}, ${size(done.size)}.`),
  ...rows([
    ...done.parts.map(({ kind, path, size: bytes }) => [kind, `${path}, ${size(bytes)}`] as const),
    done.resumedBytes > 0 ? ['taken over', `${size(done.resumedBytes)} of a run that was cut short`] : undefined,
    ['verified', `every checksum counted anew (${readFromWords(done.readBack)})`],
  ]),
  ...findingLines(done.findings, p),
]

/** `liveos backup`. */
export const backup = async (
  input: TargetInput,
  file: string,
  options: BackupOptions,
  consent: Consent,
): Promise<number> => {
  const plan = await planBackup(input, file, options)
  if (consent.dryRun) {
    print(consent.json, plan, () => backupPlanWords(plan, paint(process.stdout)))
    return 0
  }
  const done = await drive(signal => runBackup(input, plan, { signal }))
  print(consent.json, done, () => backupOutcomeWords(done, paint(process.stdout)))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

const TITLES = {
  'go on': 'Plan: go on with the restore that was cut short',
  'start again': 'Plan: start the restore again; what one before it wrote is removed',
  finish: 'Plan: finish the restore that was cut short',
} as const

const fileWords = ({ path, size: bytes, places, replaces }: RestorePlan['files'][number]): string =>
  `${path}, ${size(bytes)}${replaces ? '' : ' (new)'}${places > 0 ? `, the name of the stick changed at ${places} ${places === 1 ? 'place' : 'places'}` : ''}`

/** A restore before it runs. */
export const restorePlanWords = (plan: RestorePlan, p: Paint): string[] => [
  p.bold(plan.resume ? TITLES[plan.resume.does] : 'Plan: put a backup back'),
  ...rows([
    plan.archive ? ['backup', `${plan.archive.path}, ${size(plan.archive.size)}`] : undefined,
    plan.backup
      ? [
          'made',
          `${plan.backup.created}${plan.backup.medium.label === null ? '' : ` of ${plan.backup.medium.label}`}${plan.backup.medium.uuid === null ? '' : ` (${plan.backup.medium.uuid})`}`,
        ]
      : undefined,
    ...plan.files.map(file => [file.kind, fileWords(file)] as const),
    ...plan.unchanged.map(path => ['as it is', path] as const),
    plan.lost.length > 0 ? ['lost', p.warn(plan.lost.join('; '))] : undefined,
    plan.space
      ? [
          'space',
          `${size(plan.space.neededBytes)} are needed beside the old files, ${size(plan.space.freeBytes)} are free`,
        ]
      : undefined,
    ['time', `about ${duration(plan.estimatedSeconds)}`],
    ['no name', plan.noName ?? 'never: each file is there at any moment, the old or the new one'],
  ]),
  'Steps, each on the medium before the next:',
  ...steps(plan.steps),
  ...findingLines(plan.findings, p),
]

/** A restore when it is over. */
export const restoreOutcomeWords = (done: RestoreOutcome, p: Paint): string[] => [
  p.good(
    done.files.length === 0
      ? 'All is as in the backup already; nothing was changed.'
      : done.finished
        ? 'The restore that was cut short is finished. Everything is on the medium; it is safe to unplug the stick once it is unmounted.'
        : 'Restored. Everything is on the medium; it is safe to unplug the stick once it is unmounted.',
  ),
  ...rows([
    ...done.files.map((path, n) => [n === 0 ? 'files' : '', path] as const),
    ...done.unchanged.map(path => ['as it was', path] as const),
    done.readBack
      ? ['verified', `every checksum, before anything was replaced (${readFromWords(done.readBack)})`]
      : undefined,
  ]),
  ...findingLines(done.findings, p),
]

/** `liveos restore`. */
export const restore = async (
  input: TargetInput,
  file: string,
  options: RestoreOptions,
  consent: Consent,
): Promise<number> => {
  const plan = await planRestore(input, file, options)
  if (consent.dryRun) {
    print(consent.json, plan, () => restorePlanWords(plan, paint(process.stdout)))
    return 0
  }
  if (plan.files.length > 0 || plan.resume) {
    if (!consent.yes) process.stderr.write(`${restorePlanWords(plan, paint(process.stderr)).join('\n')}\n`)
    await confirm('Put this backup back?', consent)
  }
  const done = await drive(signal => runRestore(input, file, plan, { signal }))
  print(consent.json, done, () => restoreOutcomeWords(done, paint(process.stdout)))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

/** What putting changed files back will do. */
export const restoreChangesPlanWords = (plan: RestoreChangesPlan, p: Paint): string[] => [
  p.bold('Plan: put changed files back'),
  ...rows([
    ['backup', `${plan.archive.path}, made ${plan.backup.created}`],
    ['below', plan.root],
    ['files', `${size(plan.bytes)} with all that is known of them`],
    ['removed', plan.removed.length === 0 ? 'nothing' : `${plan.removed.length} names, with all below them`],
  ]),
  'Steps:',
  ...steps(plan.steps),
  ...findingLines(plan.findings, p),
]

/** What putting changed files back came to. */
export const restoreChangesOutcomeWords = (done: RestoreChangesOutcome, p: Paint): string[] => [
  p.good(
    `Put back below ${done.root}: ${done.files} files, ${done.directories} directories, ${done.links} links, ${size(done.bytes)}; ${done.removed} ${done.removed === 1 ? 'name' : 'names'} removed.`,
  ),
  ...findingLines(done.findings, p),
]

/** `liveos restore --root`. */
export const restoreChanges = async (file: string, root: string, consent: Consent): Promise<number> => {
  const plan = await planRestoreChanges(file, root)
  if (consent.dryRun) {
    print(consent.json, plan, () => restoreChangesPlanWords(plan, paint(process.stdout)))
    return 0
  }
  if (!consent.yes) process.stderr.write(`${restoreChangesPlanWords(plan, paint(process.stderr)).join('\n')}\n`)
  await confirm('Put these files back?', consent)
  const done = await drive(signal => runRestoreChanges(plan, { signal }))
  print(consent.json, done, () => restoreChangesOutcomeWords(done, paint(process.stdout)))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

/** `liveos restore --abandon`. */
export const abandon = async (input: TargetInput, consent: Consent): Promise<number> => {
  await confirm('Give up the restore that was cut short?', consent)
  const removed = await abandonRestore(input)
  print(consent.json, { verb: 'restore', abandoned: true, removed }, () => [
    'The restore is given up; the stick is as it was before it.',
  ])
  return 0
}
