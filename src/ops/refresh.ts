import { join, resolve } from 'node:path'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Folder, factsOf, linkTarget, openFolder } from '../host/folder.js'
import { marked, readAs } from '../liveos/advice.js'
import { chooseEncoder } from '../liveos/encoder.js'
import { openMergedRoot } from '../liveos/merged-root.js'
import { openStack, type Stack } from '../liveos/stack.js'
import {
  findBaseName,
  findCutTarget,
  findTarget,
  NEW_SUFFIX,
  OLD_SUFFIX,
  STATE_SUFFIX,
  type TargetInput,
  type WritableTarget,
} from '../liveos/target.js'
import { checkNotInUse, checkWritable, type FileIdentity, identityOf, readOnlyFindings } from './identity.js'
import {
  type BlockCounts,
  describeCompressor,
  estimateSeconds,
  planImage,
  rawSizeAtMost,
  type Transcode,
  trimOf,
} from './image-plan.js'
import { checkNotRunning } from './refresh-owner.js'
import { type RefreshState, readState } from './refresh-state.js'
import { checkNothingUnfinished, undoEnds } from './unfinished.js'

export interface RefreshOptions extends Transcode {
  /** keep the old base as `.old` */
  readonly keepOld?: boolean | undefined
  /** folder elsewhere that the old base is moved to while the new one is written */
  readonly stage?: string | undefined
  /** read everything back and compare; true if left out */
  readonly verify?: boolean | undefined
  /** blocks that the root filesystem has free become holes; true if left out */
  readonly trim?: boolean | undefined
  /** after a refresh with a stage was cut short: put the old base back instead of finishing */
  readonly restore?: boolean | undefined
}

/** What a refresh will do. Sizes are bytes. */
export interface RefreshPlan {
  readonly verb: 'refresh'
  readonly target: string
  readonly base: FileIdentity | null
  readonly overlay: FileIdentity | null
  readonly options: RefreshOptions
  /** what a refresh that was cut short left, and what happens to it */
  readonly resume: { readonly step: string; readonly does: 'start again' | 'finish' | 'restore' } | null
  readonly method: 'beside the old base' | 'with the old base staged elsewhere' | 'finishing'
  readonly compression: string | null
  readonly encoder: string | null
  readonly blocks: BlockCounts | null
  readonly trim: { readonly freeBytes: number } | null
  readonly space: {
    readonly oldBytes: number
    readonly newBytesAtMost: number
    readonly neededBytes: number
    readonly freeBytes: number
    /** what one file may have on this filesystem; null where it doesn't matter */
    readonly fileLimit: number | null
    readonly stageBytes: number | null
  } | null
  /** from when to when the stick can't boot; null where it always can */
  readonly cannotBoot: string | null
  readonly estimatedSeconds: number
  readonly steps: readonly string[]
  readonly lost: readonly string[]
  readonly findings: readonly Finding[]
}

/** Room for the state file, the saved page of the overlay and directory blocks. */
const MARGIN = 1 << 20

/**
 * Plans a refresh: a new base image that holds what base and overlay show together, and an empty overlay. After a refresh
 * that was cut short, plans to finish it or to start again.
 *
 * @throws NOT_FOUND, USAGE, UNSUPPORTED, CORRUPT, REFUSED  in use, or files of an earlier refresh in the way, READ_ONLY, NO_SPACE
 */
export const planRefresh = async (input: TargetInput, options: RefreshOptions): Promise<RefreshPlan> => {
  const { folder, name } = await findBaseName(input)
  const state = await readState(folder, name)
  if (state && state !== 'unreadable') await checkNotRunning(state.begun?.owner, `a refresh of ${input.target ?? name}`)
  if (state && state !== 'unreadable' && state.step !== 'writing') return planResume(input, options, state)
  if (options.restore) throw new LiveError('USAGE', 'nothing to restore: no staged refresh was cut short here')
  const target = await findTarget(input)
  return planFresh(target, options, state !== undefined)
}

const planResume = async (input: TargetInput, options: RefreshOptions, state: RefreshState): Promise<RefreshPlan> => {
  const { folder, name } = await findBaseName(input)
  if (options.restore && state.step !== 'rewriting')
    throw new LiveError(
      'USAGE',
      'the new base is already in place and verified, so there is nothing to restore: run refresh without --restore to finish',
    )
  const rewriting = state.step === 'rewriting'
  const target = input.target ?? input.base ?? folder.path
  const cut = await findCutTarget(input, folder, name)
  await checkNotInUse(cut)
  await checkWritable(cut)
  if (
    rewriting &&
    state.stage &&
    !(await openFolder(state.stage.folder).then(
      stage => stage.facts(state.stage!.name),
      () => undefined,
    ))
  )
    throw new LiveError(
      'NOT_FOUND',
      `the old base is in ${state.stage.folder}/${state.stage.name}, which is not there now: make that folder reachable again and run this once more`,
      { stage: state.stage.folder },
    )
  const does = options.restore ? 'restore' : 'finish'
  return {
    verb: 'refresh',
    target,
    base: null,
    overlay: null,
    options: { ...options, keepOld: state.keepOld },
    resume: { step: state.step, does },
    method: 'finishing',
    compression: null,
    encoder: null,
    blocks: null,
    trim: null,
    space: null,
    cannotBoot: rewriting
      ? 'the stick can’t boot now; it can again when this is done'
      : folder.traits.atomicRename || state.step === 'resetting'
        ? null
        : `from the moment ${name} is renamed until ${name}${NEW_SUFFIX} has its name, some milliseconds`,
    estimatedSeconds: rewriting ? Math.ceil((2 * state.old.size) / 30e6) : 5,
    steps: rewriting
      ? does === 'restore'
        ? [
            `copy the old base back from ${state.stage?.folder}`,
            'read it back and compare',
            `give it the name ${name}`,
            'remove the staged copy',
          ]
        : [
            `write ${name}${NEW_SUFFIX} from the staged base and the overlay`,
            'read it back and compare',
            `give it the name ${name}`,
            'reset the overlay',
            'remove the staged copy',
          ]
      : [
          `give the verified ${name}${NEW_SUFFIX} the name ${name}, where it has not got it yet`,
          'reset the overlay, if all it holds is in the new base',
          state.keepOld ? `keep the old base as ${name}${OLD_SUFFIX}` : 'remove the old base',
        ],
    lost: [],
    findings: [
      {
        code: 'REFRESH_INTERRUPTED',
        severity: 'warning',
        where: folder.path,
        message: `a refresh was cut short in step "${state.step}"`,
        remedy: 'this run finishes it',
      },
    ],
  }
}

/** Files that a kept base or somebody else left where the refresh wants to write. @throws REFUSED */
const checkNamesFree = async (target: WritableTarget, startAgain: boolean): Promise<void> => {
  const { folder, name } = target.base
  if (await folder.facts(name + OLD_SUFFIX))
    throw new LiveError(
      'REFUSED',
      `${name}${OLD_SUFFIX} is there, the base that an earlier refresh kept: remove it or give it another name first`,
      { path: `${target.base.path}${OLD_SUFFIX}` },
    )
  if (!startAgain && (await folder.facts(name + NEW_SUFFIX)))
    throw new LiveError(
      'REFUSED',
      `${name}${NEW_SUFFIX} is there and no refresh of ours left it: remove it or give it another name first`,
      { path: `${target.base.path}${NEW_SUFFIX}` },
    )
}

/** A new image would take the link's name and leave what it leads to as it is. @throws REFUSED */
const checkNoLink = async ({ base: { path } }: WritableTarget): Promise<void> => {
  const to = await linkTarget(path)
  if (to !== undefined)
    throw new LiveError(
      'REFUSED',
      `${path} is a symbolic link to ${to}: name that file itself with --base, and the overlay with --overlay`,
      { path },
    )
}

/** Plans a refresh of a target that no earlier run left half done. @throws as `planRefresh` */
export const planFresh = async (
  target: WritableTarget,
  options: RefreshOptions,
  startAgain: boolean,
): Promise<RefreshPlan> => {
  await checkNothingUnfinished(target, { refresh: true, reset: true })
  await checkNotInUse(target)
  await checkNoLink(target)
  await checkNamesFree(target, startAgain)
  const stack = await openStack(target)
  try {
    checkWorthwhile(stack, options)
    const merged = await openMergedRoot(stack.root, { trim: options.trim, store: stack.overlay?.store })
    const findings = [...(await readOnlyFindings(target)), ...(await undoEnds(target)), ...merged.findings]
    const { folder, name } = target.base
    const raw = !stack.base.squashfs
    if (raw && (options.comp !== undefined || options.blockSize !== undefined || options.level !== undefined))
      throw new LiveError(
        'USAGE',
        `${name} is not compressed, so --comp, --block-size and --level mean nothing here: ${marked(`liveos merge ${readAs(target)} --format squashfs --output FILE`)} makes a compressed image of it`,
      )
    const image = raw ? undefined : await planImage(stack, merged, options)
    const encoder = image && (await chooseEncoder(image.settings.compressor, stack.pool))
    if (image?.transcodes)
      findings.push({
        code: 'TRANSCODE',
        severity: 'note',
        where: name,
        message: `every block is compressed anew, as ${describeCompressor(image.settings.compressor, image.settings.blockSize)} differs from the source: that takes as long as building the image from scratch`,
      })
    const space = await planSpace(stack, options, image?.sizeAtMost ?? (await rawSizeAtMost(stack, merged, folder)))
    const blocks = image?.blocks ?? null
    return {
      verb: 'refresh',
      target: target.name,
      base: identityOf(target.base),
      overlay: target.overlay ? identityOf(target.overlay) : null,
      options,
      resume: startAgain ? { step: 'writing', does: 'start again' } : null,
      method: options.stage ? 'with the old base staged elsewhere' : 'beside the old base',
      compression: image ? describeCompressor(image.settings.compressor, image.settings.blockSize) : null,
      encoder: encoder?.name ?? null,
      blocks,
      trim: trimOf(merged),
      space,
      cannotBoot: cannotBoot(target, options),
      estimatedSeconds: estimateSeconds(
        blocks?.touchedBytes ?? 0,
        image?.settings.compressor.name,
        space.newBytesAtMost,
      ),
      steps: stepsOf(target, options, folder.traits.atomicRename),
      lost: options.keepOld ? [] : ['the old base image; the way back to how the system was before these changes'],
      findings,
    }
  } finally {
    await stack.close()
  }
}

/** @throws USAGE  there is nothing that a refresh could change */
const checkWorthwhile = (stack: Stack<Folder>, { comp, blockSize, level }: RefreshOptions): void => {
  if (comp !== undefined || blockSize !== undefined || level !== undefined) return
  if (!stack.target.overlay)
    throw new LiveError(
      'NOT_FOUND',
      `${stack.target.name} has no persistent overlay, so there is nothing to merge${stack.target.expectedOverlay ? ` (a boot looks for ${stack.target.expectedOverlay})` : ''}`,
    )
  if (stack.overlay?.store.exceptions.count === 0)
    throw new LiveError('USAGE', `the overlay ${stack.target.overlay.name} is empty, so there is nothing to merge`)
}

/** @throws NO_SPACE  with what would help */
const planSpace = async (
  stack: Stack<Folder>,
  { stage }: RefreshOptions,
  newBytesAtMost: number,
): Promise<NonNullable<RefreshPlan['space']>> => {
  const { base } = stack.target
  const { traits } = base.folder
  const oldBytes = base.facts.size
  // what an earlier run left is removed first
  const leftover = (await base.folder.facts(base.name + NEW_SUFFIX))?.allocated ?? 0
  const freeBytes = (await base.folder.freeBytes()) + leftover
  const neededBytes = newBytesAtMost + MARGIN
  const fileBytes = stack.base.squashfs ? newBytesAtMost : stack.root.size
  if (fileBytes > traits.maxFileSize)
    throw new LiveError(
      'NO_SPACE',
      `the new image may take ${fileBytes} bytes, and this filesystem holds files of at most ${traits.maxFileSize}: use a stick with ext4, or a compressor that packs tighter (--comp xz)`,
      {
        neededBytes: fileBytes,
        limit: traits.maxFileSize,
      },
    )
  let stageBytes: number | null = null
  let freed = 0
  if (stage !== undefined) {
    const folder = await openFolder(resolve(stage))
    if (folder.path === base.folder.path)
      throw new LiveError('USAGE', '--stage wants a folder elsewhere, not on the stick itself')
    stageBytes = (await folder.freeBytes()) + (await stagedBytes(base, folder.path))
    if (stageBytes < oldBytes + MARGIN)
      throw new LiveError('NO_SPACE', `${stage} has ${stageBytes} bytes free, and the old base needs ${oldBytes}`, {
        neededBytes: oldBytes,
        freeBytes: stageBytes,
      })
    // on the same filesystem the copy takes what removing the old base gives
    if ((await factsOf(folder.path))?.device !== base.facts.device) freed = base.facts.allocated
  }
  const available = freeBytes + freed
  if (neededBytes > available)
    throw new LiveError(
      'NO_SPACE',
      `${base.folder.path} has ${available} bytes for the new image, which may take ${neededBytes}: ${stage === undefined ? 'free space there, or name a folder elsewhere for the old base with --stage DIR' : 'free space there'}`,
      { neededBytes, freeBytes: available },
    )
  return {
    oldBytes,
    newBytesAtMost,
    neededBytes,
    freeBytes,
    fileLimit: traits.maxFileSize < Number.MAX_SAFE_INTEGER ? traits.maxFileSize : null,
    stageBytes,
  }
}

/** Bytes of the copy of the old base that an earlier run left in the stage. */
const stagedBytes = async ({ folder, name }: WritableTarget['base'], stagePath: string): Promise<number> => {
  const state = await readState(folder, name)
  if (!state || state === 'unreadable' || state.stage?.folder !== stagePath) return 0
  return (await factsOf(join(stagePath, state.stage.name)))?.allocated ?? 0
}

const cannotBoot = ({ base: { folder, name } }: WritableTarget, { stage }: RefreshOptions): string | null => {
  if (stage !== undefined)
    return `from the moment the old ${name} is removed (its copy in ${stage} verified) until the new one is written, verified and has its name: most of the run. A second run finishes, or puts the old base back with --restore`
  if (folder.traits.atomicRename) return null
  return `between two renames at the end, some milliseconds; a cut just there is mended by running refresh again`
}

const stepsOf = (
  { base: { name }, overlay }: WritableTarget,
  { stage, keepOld, verify = true }: RefreshOptions,
  atomic: boolean,
): readonly string[] => [
  `note what is being done in ${name}${STATE_SUFFIX}`,
  ...(stage === undefined
    ? []
    : [`copy the old ${name} to ${stage}, flush, read it back and compare`, `remove the old ${name} from the stick`]),
  `write ${name}${NEW_SUFFIX}: untouched blocks as they stand, touched ones merged and compressed; flush`,
  ...(verify
    ? [`read ${name}${NEW_SUFFIX} back and compare it with old image and merged view`]
    : ['nothing is read back (--no-verify)']),
  stage === undefined
    ? atomic
      ? `link the old ${name} as ${name}${OLD_SUFFIX}, rename the new one over it`
      : `rename the old ${name} to ${name}${OLD_SUFFIX}, the new one to ${name}`
    : `give the new image the name ${name}`,
  ...(overlay ? [`reset the overlay ${overlay.name} (its first 64 KiB are saved until that is done)`] : []),
  ...(stage === undefined
    ? [keepOld ? `keep the old base as ${name}${OLD_SUFFIX}` : 'remove the old base']
    : [keepOld ? 'keep the old base in the stage' : 'remove the staged copy']),
]

export type { RefreshOutcome } from './refresh-run.js'
