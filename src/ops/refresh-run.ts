import { join, resolve } from 'node:path'
import { LiveError } from '../error.js'
import { type Folder, openFolder } from '../host/folder.js'
import type { Finding } from '../liveos/finding.js'
import {
  findBaseName,
  findTarget,
  NEW_SUFFIX,
  type Target,
  type TargetFile,
  type TargetInput,
} from '../liveos/target.js'
import { checkNotInUse, checkUnchanged } from './identity.js'
import { type Progress, progressing, type Report } from './progress.js'
import type { RefreshPlan } from './refresh.js'
import {
  createState,
  isSameImage,
  markOfName,
  type RefreshState,
  readState,
  recordStep,
  removeLeftover,
  removeState,
} from './refresh-state.js'
import { type Cleared, finish, swapIn } from './refresh-swap.js'
import { copyFile, stageBase, type Verified, type Written, writeNew } from './refresh-write.js'

/** What a refresh came to. Sizes are bytes. */
export interface RefreshOutcome {
  readonly verb: 'refresh'
  readonly base: string
  readonly oldBytes: number
  readonly newBytes: number
  /** blocks of the new image by where they came from; null for an uncompressed base, or where the image was written by an earlier run */
  readonly blocks: { readonly holes: number; readonly verbatim: number; readonly encoded: number } | null
  readonly encoder: string | null
  /** what was compared after writing; null where that was not asked for */
  readonly verified: Verified | null
  readonly overlayReset: boolean
  readonly overlayReadBack: 'medium' | 'page cache' | null
  readonly restored: boolean
  readonly findings: readonly Finding[]
}

export interface RunOptions {
  readonly signal?: AbortSignal | undefined
  /** the folders of tests, which can cut the power */
  readonly wrapFolder?: ((folder: Folder) => Folder) | undefined
}

/**
 * Runs a refresh as planned. Ordered steps and the state after each; every one is flushed before the next:
 *
 * 1. state file `writing`                     the stick as it was
 * 2. new image written beside, flushed, read back and compared          the stick as it was
 * 3. state `swapping`, names changed (refresh-swap.ts)                  old or new base; both show the same with the overlay
 * 4. state `resetting`, overlay emptied, old base and state file removed
 *
 * With a stage: 1 · old base copied there, flushed, read back and compared · state `rewriting` · old base removed · 2 · 3 · 4.
 *
 * @throws REFUSED, CORRUPT, IO, NO_SPACE, CANCELLED  before step 3 nothing of the stick has changed then (without a stage)
 */
export async function* runRefresh(
  input: TargetInput,
  plan: RefreshPlan,
  { signal, wrapFolder = folder => folder }: RunOptions = {},
): AsyncGenerator<Progress, RefreshOutcome> {
  return yield* progressing(async report => {
    const found = await findBaseName(input)
    const folder = wrapFolder(found.folder)
    const state = await readState(folder, found.name)
    const resumed = state && state !== 'unreadable' && state.step !== 'writing' ? state : undefined
    if ((resumed?.step ?? null) !== (plan.method === 'finishing' ? plan.resume!.step : null))
      throw new LiveError('REFUSED', `${plan.target} has changed since the plan was made: plan again`)
    const wrap = <T extends TargetFile | undefined>(file: T): T =>
      file ? { ...file, folder: wrapFolder(file.folder) } : file
    if (resumed && resumed.step !== 'rewriting') return finishCut(input, folder, found.name, resumed, wrap, report)
    if (resumed) return resumeRewriting(input, folder, found.name, resumed, plan, wrap, report, signal)
    const target = await findTarget(input)
    await checkUnchanged([
      ...(plan.base ? [{ file: target.base, planned: plan.base }] : []),
      ...(plan.overlay && target.overlay ? [{ file: target.overlay, planned: plan.overlay }] : []),
    ])
    await checkNotInUse(target)
    return refresh(
      { ...target, base: wrap(target.base), overlay: wrap(target.overlay) },
      plan,
      state !== undefined,
      report,
      signal,
      wrapFolder,
    )
  })
}

const outcome = (
  base: string,
  oldBytes: number,
  written: Written | undefined,
  newBytes: number,
  cleared: Cleared | undefined,
  findings: readonly Finding[],
): RefreshOutcome => ({
  verb: 'refresh',
  base,
  oldBytes,
  newBytes,
  blocks: written?.blocks ?? null,
  encoder: written?.encoder ?? null,
  verified: written?.verified ?? null,
  overlayReset: cleared?.overlayReset ?? false,
  overlayReadBack: cleared?.readBack ?? null,
  restored: false,
  findings,
})

const NEWER: Finding = {
  code: 'OVERLAY_KEPT',
  severity: 'warning',
  where: 'overlay',
  message: 'the overlay holds changes made after the new base was written, so it was kept',
  remedy: 'run liveos refresh again to merge them',
}

const refresh = async (
  target: Target,
  plan: RefreshPlan,
  startAgain: boolean,
  report: Report,
  signal: AbortSignal | undefined,
  wrapFolder: (folder: Folder) => Folder,
): Promise<RefreshOutcome> => {
  const { folder, name, path, facts } = target.base
  const { options } = plan
  if (startAgain) {
    const before = await readState(folder, name)
    if (before && before !== 'unreadable') await dropStage(before.stage)
    await removeLeftover(folder, name, NEW_SUFFIX)
    await removeState(folder, name)
  }
  const stageFolder = options.stage === undefined ? undefined : wrapFolder(await openFolder(resolve(options.stage)))
  const old = (await markOfName(folder, name))!
  const state: RefreshState = {
    step: 'writing',
    fresh: null,
    old,
    keepOld: options.keepOld === true && !stageFolder,
    stage: stageFolder ? { folder: stageFolder.path, name: `liveos-stage-${old.head.slice(0, 16)}-${name}` } : null,
  }
  let staged = false
  const undo = async (): Promise<void> => {
    await removeLeftover(folder, name, NEW_SUFFIX)
    if (state.stage && stageFolder && (await stageFolder.facts(state.stage.name)))
      await stageFolder.unlink(state.stage.name)
    await removeState(folder, name)
  }
  try {
    await createState(folder, name, state)
    let source = target
    if (state.stage && stageFolder) {
      await stageBase(folder, name, stageFolder, state.stage.name, report, signal)
      if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped before anything was changed')
      const stagedPath = join(stageFolder.path, state.stage.name)
      source = {
        ...target,
        base: {
          folder: stageFolder,
          name: state.stage.name,
          path: stagedPath,
          facts: (await stageFolder.facts(state.stage.name))!,
        },
      }
      // from here on the copy in the stage is the only base
      await recordStep(folder, name, 'rewriting', null)
      staged = true
      await folder.unlink(name)
      await folder.sync()
    }
    const { written, findings } = await writeNew(source, folder, name, plan, report, signal)
    await checkUnchanged(plan.overlay && target.overlay ? [{ file: target.overlay, planned: plan.overlay }] : [])
    await recordStep(folder, name, 'swapping', written.mark)
    report({ phase: 'swap', doneBytes: 0, totalBytes: 0 })
    const cleared = await finish(
      folder,
      name,
      { ...state, step: 'swapping', fresh: written.mark },
      target.overlay,
      true,
      stageFolder,
    )
    return outcome(path, facts.size, written, written.mark.size, cleared, findings)
  } catch (error) {
    const now = await readState(folder, name).catch(() => undefined)
    const untouched = !staged && (now === undefined || now === 'unreadable' || now.step === 'writing')
    if (untouched) await undo().catch(() => undefined)
    throw tellState(
      error,
      untouched
        ? 'nothing on the stick has changed'
        : staged && now !== 'unreadable' && now?.step === 'rewriting'
          ? `the stick can't boot now; its old base is safe in ${state.stage!.folder}. Run refresh again to finish, or with --restore to put the old base back`
          : 'the new base is verified; run refresh again to finish',
    )
  }
}

/** The same error with a sentence on the state of the stick. */
const tellState = (error: unknown, state: string): unknown => {
  if (!(error instanceof LiveError)) return error
  return new LiveError(error.code, `${error.message} (${state})`, { ...error.data, state }, error.cause)
}

const dropStage = async (stage: RefreshState['stage']): Promise<void> => {
  if (!stage) return
  try {
    const folder = await openFolder(stage.folder)
    if (await folder.facts(stage.name)) await folder.unlink(stage.name)
  } catch {
    // a stage that is not reachable now holds a copy that nobody needs
  }
}

type Wrap = <T extends TargetFile | undefined>(file: T) => T

/** Ends a refresh that was cut short after its new image had been verified. */
const finishCut = async (
  input: TargetInput,
  folder: Folder,
  name: string,
  state: RefreshState,
  wrap: Wrap,
  report: Report,
): Promise<RefreshOutcome> => {
  report({ phase: 'swap', doneBytes: 0, totalBytes: 0 })
  if (state.step !== 'resetting') {
    await swapIn(folder, name, state)
    await recordStep(folder, name, 'resetting', state.fresh)
  }
  const target = await findTarget(input)
  await checkNotInUse(target)
  const stage = state.stage ? await openFolder(state.stage.folder).catch(() => undefined) : undefined
  const cleared = await finish(folder, name, { ...state, step: 'resetting' }, wrap(target.overlay), false, stage)
  return outcome(
    target.base.path,
    state.old.size,
    undefined,
    state.fresh!.size,
    cleared,
    target.overlay && !cleared.overlayReset ? [NEWER] : [],
  )
}

/** Goes on from the staged base after a cut while the new image was being written, or puts the old base back. */
const resumeRewriting = async (
  input: TargetInput,
  folder: Folder,
  name: string,
  state: RefreshState,
  plan: RefreshPlan,
  wrap: Wrap,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<RefreshOutcome> => {
  const stage = wrap({
    folder: await openFolder(state.stage!.folder),
    name: state.stage!.name,
    path: join(state.stage!.folder, state.stage!.name),
    facts: { kind: 'file', size: 0, allocated: 0, device: 0, inode: 0, modified: 0 },
  })
  const mark = await markOfName(stage.folder, stage.name)
  if (!isSameImage(mark, state.old))
    throw new LiveError('REFUSED', `${stage.path} is not the base that was staged there`, { path: stage.path })
  await removeLeftover(folder, name, NEW_SUFFIX)
  if (plan.options.restore) {
    if ((await markOfName(folder, name)) === undefined) {
      await copyFile(stage.folder, stage.name, folder, name + NEW_SUFFIX, 'restore', report, signal)
      await folder.rename(name + NEW_SUFFIX, name)
      await folder.sync()
    }
    await stage.folder.unlink(stage.name)
    await stage.folder.sync()
    await removeState(folder, name)
    return {
      ...outcome(join(folder.path, name), state.old.size, undefined, state.old.size, undefined, []),
      restored: true,
    }
  }
  // the old base may still have its name where the cut came just before it was removed
  const there = await markOfName(folder, name)
  if (there && !isSameImage(there, state.old))
    throw new LiveError('REFUSED', `${name} is not the base that was staged: somebody has put another one there`, {
      path: join(folder.path, name),
    })
  if (there) {
    await folder.unlink(name)
    await folder.sync()
  }
  const target = await findTarget(input, { ...stage, facts: (await stage.folder.facts(stage.name))! })
  const { written, findings } = await writeNew(target, folder, name, plan, report, signal)
  await recordStep(folder, name, 'swapping', written.mark)
  const cleared = await finish(
    folder,
    name,
    { ...state, step: 'swapping', fresh: written.mark },
    wrap(target.overlay),
    true,
    stage.folder,
  )
  return outcome(join(folder.path, name), state.old.size, written, written.mark.size, cleared, findings)
}
