import type { MergeOutcome, MergePlan } from '../ops/merge.js'
import type { RefreshOutcome, RefreshPlan } from '../ops/refresh.js'
import type { ResetOutcome, ResetPlan } from '../ops/reset.js'
import type { VerifyOutcome } from '../ops/verify.js'
import { duration, findingLines, type Paint, readFromWords, rows, size } from './words.js'

const steps = (list: readonly string[]): string[] => list.map((step, n) => `  ${n + 1}. ${step}`)

const blockWords = (blocks: NonNullable<RefreshPlan['blocks']>): string =>
  `${blocks.total} blocks: ${blocks.verbatim} go over as they stand (${size(blocks.verbatimBytes)}), ${blocks.touched} were touched (${size(blocks.touchedBytes)} to merge and compress), ${blocks.holes} are holes`

const trimRow = (trim: RefreshPlan['trim']): readonly [string, string] | undefined =>
  trim
    ? ['trim', `${size(trim.freeBytes)} that the root filesystem has free become holes where whole blocks are free`]
    : undefined

/** A refresh before it runs. */
export const refreshPlanWords = (plan: RefreshPlan, p: Paint): string[] => [
  p.bold(
    plan.resume
      ? `Plan: ${plan.resume.does === 'start again' ? 'start the refresh again that was cut short' : plan.resume.does === 'restore' ? 'put the old base back' : 'finish the refresh that was cut short'}`
      : 'Plan: refresh',
  ),
  ...rows([
    plan.base ? ['base', `${plan.base.path}, ${size(plan.base.size)}`] : undefined,
    plan.overlay ? ['overlay', `${plan.overlay.path}, ${size(plan.overlay.size)}`] : undefined,
    plan.blocks ? ['cost', blockWords(plan.blocks)] : undefined,
    plan.compression ? ['as', `${plan.compression}, by ${plan.encoder}`] : undefined,
    trimRow(plan.trim),
    plan.space
      ? [
          'space',
          `the new image takes at most ${size(plan.space.newBytesAtMost)}; ${size(plan.space.freeBytes)} are free${plan.space.stageBytes === null ? '' : `, and ${size(plan.space.stageBytes)} in the stage`}`,
        ]
      : undefined,
    ['time', `about ${duration(plan.estimatedSeconds)}`],
    ['no boot', plan.cannotBoot ?? 'never: the stick can boot at any moment'],
    plan.lost.length > 0 ? ['lost', `${plan.lost.join('; ')} (--keep-old keeps it)`] : undefined,
  ]),
  'Steps, each on the medium before the next:',
  ...steps(plan.steps),
  ...findingLines(plan.findings, p),
]

type Checked = NonNullable<RefreshOutcome['verified']>

const checkedWords = (checked: Checked | null): string => {
  if (!checked) return 'nothing was read back'
  const from = readFromWords(checked.readBack)
  if ('bytes' in checked) return `all ${size(checked.bytes)} compared with the merged view (${from})`
  return `${checked.verbatim.blocks} blocks equal the old image byte for byte (not expanded), ${checked.encoded.blocks} new blocks expand to the merged view, ${checked.holes.blocks} holes, tables of ${checked.inodes} inodes parsed again (${from})`
}

/** A refresh when it is over. */
export const refreshOutcomeWords = (done: RefreshOutcome, p: Paint): string[] => [
  done.restored
    ? p.good('The old base is back in its place; the overlay was not touched.')
    : p.good('Refreshed. Everything is on the medium; it is safe to unplug the stick once it is unmounted.'),
  ...rows([
    ['base', `${done.base}, ${size(done.oldBytes)} before, ${size(done.newBytes)} now`],
    done.blocks
      ? [
          'blocks',
          `${done.blocks.verbatim} taken over, ${done.blocks.encoded} compressed anew by ${done.encoder}, ${done.blocks.holes} holes`,
        ]
      : undefined,
    done.restored
      ? undefined
      : ['verified', done.verifiedBefore ? 'by the run that was cut short' : checkedWords(done.verified)],
    done.restored ? undefined : ['overlay', done.overlayReset ? 'empty again' : 'not touched'],
  ]),
  ...findingLines(done.findings, p),
]

/** A merge before it runs. */
export const mergePlanWords = (plan: MergePlan, p: Paint): string[] => [
  p.bold('Plan: merge into a file'),
  ...rows([
    ['base', `${plan.base.path}, ${size(plan.base.size)}`],
    ['overlay', plan.overlay ? `${plan.overlay.path}, ${size(plan.overlay.size)}` : 'none'],
    [
      'output',
      `${plan.output}, ${plan.format === 'raw' ? 'the bare root filesystem' : 'a squashfs'}, at most ${size(plan.sizeAtMost)}; ${size(plan.freeBytes)} are free`,
    ],
    plan.blocks ? ['cost', blockWords(plan.blocks)] : undefined,
    plan.compression ? ['as', plan.compression] : undefined,
    trimRow(plan.trim),
    ['time', `about ${duration(plan.estimatedSeconds)}`],
  ]),
  ...findingLines(plan.findings, p),
]

/** A merge when it is over. */
export const mergeOutcomeWords = (done: MergeOutcome, p: Paint): string[] => [
  p.good(`Merged into ${done.output}, ${size(done.size)}.`),
  ...rows([['verified', checkedWords(done.verified)]]),
  ...findingLines(done.findings, p),
]

/** A reset before it runs. */
export const resetPlanWords = (plan: ResetPlan, p: Paint): string[] => [
  p.bold('Plan: reset the overlay'),
  ...rows([
    ['overlay', `${plan.overlay.path}, ${size(plan.overlay.size)}`],
    [
      'lost',
      p.warn(
        plan.exceptionsLost === null
          ? 'all changes in it (they can’t be counted)'
          : `${plan.exceptionsLost} changed chunks: everything that was changed since the base image was made`,
      ),
    ],
  ]),
  'Steps, each on the medium before the next:',
  ...steps(plan.steps),
  ...findingLines(plan.findings, p),
]

/** A reset when it is over. */
export const resetOutcomeWords = (done: ResetOutcome, p: Paint): string[] => [
  p.good(`${done.overlay} is empty; the next boot begins anew.`),
]

/** What a check of the base found. */
export const verifyWords = (done: VerifyOutcome, p: Paint): string[] => [
  done.result === 'damaged'
    ? p.bad(`${done.base} is damaged.`)
    : done.result === 'ok'
      ? p.good(`${done.base}: nothing wrong was found.`)
      : p.warn(`${done.base}: nothing wrong was found, but what carries no checksum is unverified.`),
  ...rows([
    ...done.compared.map((words, n) => [n === 0 ? 'compared' : '', words] as const),
    done.blocks
      ? [
          'blocks',
          `${done.blocks.data} with data, ${done.blocks.holes} holes, ${done.blocks.fragments} fragments, ${size(done.blocks.bytes)} in all`,
        ]
      : undefined,
    ['source', readFromWords(done.readFrom)],
  ]),
  ...findingLines(done.findings, p),
]
