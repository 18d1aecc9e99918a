import { randomBytes } from 'node:crypto'
import { join, resolve } from 'node:path'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Folder, openFolder } from '../host/folder.js'
import { calledAs, marked } from '../liveos/advice.js'
import {
  findBaseName,
  findCutTarget,
  findTarget,
  type HostFile,
  NEW_SUFFIX,
  STATE_SUFFIX,
  type TargetInput,
  type WritableTarget,
} from '../liveos/target.js'
import { checkNotInUse, checkUnchanged, checkWritable, identityOf, outdated, whileLocked } from './identity.js'
import { type Progress, progressing, type Report } from './progress.js'
import type { RefreshPlan } from './refresh.js'
import { overlayName, sameInput } from './refresh-begun.js'
import { checkNotRunning, thisOwner } from './refresh-owner.js'
import {
  createState,
  isSameImage,
  markOfName,
  type RefreshState,
  readState,
  recordStep,
  removeState,
} from './refresh-state.js'
import { type Cleared, finish, swapIn } from './refresh-swap.js'
import { copyFile, hashOfName, type Verified, type Written, writeNew } from './refresh-write.js'
import { removeEmptied, removeFile, sharedChain } from './replaced-file.js'

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
  /** the image was compared by an earlier run, which was cut short later */
  readonly verifiedBefore: boolean
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
    if (state && state !== 'unreadable') await checkNotRunning(state.begun?.owner, `a refresh of ${plan.target}`)
    const resumed = isCutLate(state) ? state : undefined
    const step = resumed?.step ?? (state === undefined ? null : 'writing')
    if (step !== (plan.resume?.step ?? null)) throw outdated(plan.target)
    if (resumed) {
      const same = await sameInput(input, resumed, folder)
      const target = await findCutTarget(same, folder, found.name)
      await checkNotInUse(target)
      // the owner in the state is the run that was cut: it does not keep out another that finishes as well
      const own = target.overlay ?? { folder, path: join(folder.path, found.name + STATE_SUFFIX) }
      return whileLocked([own], async () => {
        // a run that was killed may have left its last step in the page cache only
        await recordStep(folder, found.name, resumed.step, resumed)
        await folder.sync()
        const cut: Cut = { input: same, folder, name: found.name, state: resumed, wrapFolder, report, signal }
        const asBegun = { ...plan, options: { ...plan.options, ...resumed.begun?.options } }
        return resumed.step === 'rewriting' ? resumeRewriting(cut, asBegun) : finishCut(cut)
      })
    }
    const target = await findTarget(input)
    await checkUnchanged([
      ...(plan.base ? [{ file: target.base, planned: plan.base }] : []),
      ...(plan.overlay && target.overlay ? [{ file: target.overlay, planned: plan.overlay }] : []),
    ])
    await checkNotInUse(target)
    await checkWritable(target)
    return whileLocked([target.overlay], () =>
      refresh(
        { ...target, base: wrapFile(target.base, wrapFolder), overlay: wrapFile(target.overlay, wrapFolder) },
        plan,
        state !== undefined,
        report,
        signal,
        wrapFolder,
      ),
    )
  })
}

const wrapFile = <T extends HostFile | undefined>(file: T, wrapFolder: (folder: Folder) => Folder): T =>
  file ? { ...file, folder: wrapFolder(file.folder) } : file

const stagedFile = async (folder: Folder, name: string): Promise<HostFile> => ({
  folder,
  name,
  path: join(folder.path, name),
  facts: (await folder.facts(name))!,
})

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
  verifiedBefore: false,
  overlayReset: cleared?.overlayReset ?? false,
  overlayReadBack: cleared?.readBack ?? null,
  restored: false,
  findings,
})

const stageKept = ({ folder, name }: NonNullable<RefreshState['stage']>): Finding => ({
  code: 'STAGE_KEPT',
  severity: 'note',
  where: folder,
  message: `the old base is kept as ${join(folder, name)}`,
})

const newer = (target: WritableTarget): Finding => ({
  code: 'OVERLAY_KEPT',
  severity: 'warning',
  where: 'overlay',
  message: 'the overlay holds changes made after the new base was written, so it was kept',
  remedy: `run ${marked(`liveos refresh ${calledAs(target)}`)} again to merge them`,
})

const refresh = async (
  target: WritableTarget,
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
    if (before && before !== 'unreadable') await dropStage(before.stage, wrapFolder)
    await removeFile(folder, name + NEW_SUFFIX)
    await removeState(folder, name)
  }
  const stageFolder = options.stage === undefined ? undefined : wrapFolder(await openFolder(resolve(options.stage)))
  const old = (await markOfName(folder, name))!
  const state: { -readonly [key in keyof RefreshState]: RefreshState[key] } = {
    step: 'writing',
    fresh: null,
    old,
    keepOld: options.keepOld === true,
    // two sticks of one release hold the same base: the copy of one must never be taken for that of the other
    stage: stageFolder
      ? { folder: stageFolder.path, name: `liveos-stage-${randomBytes(8).toString('hex')}-${name}` }
      : null,
    staged: null,
    begun: {
      owner: await thisOwner(),
      overlay: target.overlay ? overlayName(target.overlay, folder) : null,
      options: {
        comp: options.comp,
        blockSize: options.blockSize,
        level: options.level,
        trim: options.trim,
        verify: options.verify,
      },
    },
  }
  const base = plan.base ? [{ file: target.base, planned: plan.base }] : []
  const overlay = plan.overlay && target.overlay ? [{ file: target.overlay, planned: plan.overlay }] : []
  let staged = false
  let swapping = false
  let stageFindings: readonly Finding[] = []
  const undo = async (): Promise<void> => {
    await removeFile(folder, name + NEW_SUFFIX)
    if (state.stage && stageFolder) await removeFile(stageFolder, state.stage.name)
    await removeState(folder, name)
  }
  // Outside of what is undone: a state file that is there already belongs to another run.
  try {
    await createState(folder, name, state)
  } catch (error) {
    throw tellState(error, 'this run has changed nothing on the stick')
  }
  try {
    let source = target
    if (state.stage && stageFolder) {
      const copied = await copyFile(folder, name, stageFolder, state.stage.name, 'stage', report, signal)
      stageFindings = copied.findings
      state.staged = copied.sha256
      if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped before anything was changed')
      source = { ...target, base: await stagedFile(stageFolder, state.stage.name) }
      await checkUnchanged(base)
      // from here on the copy in the stage is the only base
      await recordStep(folder, name, 'rewriting', state)
      staged = true
      await folder.unlink(name)
      await folder.sync()
    }
    const { written, findings } = await writeNew(source, folder, name, plan, report, signal)
    await checkUnchanged([...(staged ? [] : base), ...overlay])
    state.fresh = written.mark
    await recordStep(folder, name, 'swapping', state)
    swapping = true
    report({ phase: 'swap', doneBytes: 0, totalBytes: 0 })
    const cleared = await finish(folder, name, { ...state, step: 'swapping' }, target.overlay, true, stageFolder)
    return outcome(path, facts.size, written, written.mark.size, cleared, [
      ...stageFindings,
      ...findings,
      ...(state.stage && state.keepOld ? [stageKept(state.stage)] : []),
    ])
  } catch (error) {
    // a state that can't be read back might be a later one, so nothing is undone then
    const now = await readState(folder, name).catch(() => null)
    const untouched = !staged && !swapping && now !== null && !isCutLate(now)
    if (untouched) await undo().catch(() => undefined)
    throw tellState(error, untouched ? 'this run has changed nothing on the stick' : stateAfter(now, state.stage))
  }
}

/** True where a refresh was cut after the point from which it is finished, and not started again. */
const isCutLate = (state: RefreshState | 'unreadable' | null | undefined): state is RefreshState =>
  !!state && state !== 'unreadable' && state.step !== 'writing'

const stateAfter = (now: RefreshState | 'unreadable' | null | undefined, stage: RefreshState['stage']): string =>
  stage && isCutLate(now) && now.step === 'rewriting'
    ? `the stick can't boot now; its old base is safe in ${stage.folder}. Run refresh again to finish, or with --restore to put the old base back`
    : now === undefined
      ? 'the new base is in place and the overlay empty; only leftovers may still be there'
      : isCutLate(now)
        ? 'the new base is verified; run refresh again to finish'
        : 'run refresh again to finish'

/** The same error with a sentence on the state of the stick. */
const tellState = (error: unknown, state: string): unknown => {
  if (!(error instanceof LiveError)) return error
  return new LiveError(error.code, `${error.message} (${state})`, { ...error.data, state }, error.cause)
}

const dropStage = async (stage: RefreshState['stage'], wrapFolder: (folder: Folder) => Folder): Promise<void> => {
  if (!stage) return
  try {
    await removeFile(wrapFolder(await openFolder(stage.folder)), stage.name)
  } catch {
    // a stage that is not reachable now holds a copy that nobody needs
  }
}

/** A refresh that was cut short, to be finished. */
interface Cut {
  readonly input: TargetInput
  readonly folder: Folder
  readonly name: string
  readonly state: RefreshState
  readonly wrapFolder: (folder: Folder) => Folder
  readonly report: Report
  readonly signal: AbortSignal | undefined
}

/** Ends a refresh that was cut short after its new image had been verified. */
const finishCut = async ({ input, folder, name, state, wrapFolder, report }: Cut): Promise<RefreshOutcome> => {
  report({ phase: 'swap', doneBytes: 0, totalBytes: 0 })
  if (state.step !== 'resetting') {
    await swapIn(folder, name, state)
    await recordStep(folder, name, 'resetting', state)
  }
  const target = await findTarget(input)
  const { stage } = state
  const stageFolder = stage ? await openFolder(stage.folder).then(wrapFolder, () => undefined) : undefined
  const overlay = wrapFile(target.overlay, wrapFolder)
  const cleared = await finish(folder, name, { ...state, step: 'resetting' }, overlay, false, stageFolder)
  const done = outcome(target.base.path, state.old.size, undefined, state.fresh!.size, cleared, [
    ...(overlay && !cleared.overlayReset ? [newer(target)] : []),
    ...(stage && !stageFolder ? [stageLeft(stage)] : []),
    ...(stage && stageFolder && state.keepOld ? [stageKept(stage)] : []),
  ])
  return { ...done, verifiedBefore: state.begun?.options.verify ?? true }
}

const stageLeft = ({ folder, name }: NonNullable<RefreshState['stage']>): Finding => ({
  code: 'STAGE_LEFT',
  severity: 'note',
  where: folder,
  message: `${folder} can't be reached now, so the copy of the old base in it stays`,
  remedy: `remove ${join(folder, name)}; nothing needs it any more`,
})

/** The copy in the stage may be all that is left of the base, so every byte of it must be the one that was read back then. @throws REFUSED, CANCELLED */
const checkStaged = async ({ state, report, signal }: Cut, stage: HostFile): Promise<void> => {
  const isThere = isSameImage(await markOfName(stage.folder, stage.name), state.old)
  if (isThere && (await hashOfName(stage.folder, stage.name, report, signal)) === state.staged) return
  throw new LiveError('REFUSED', `${stage.path} is not the base that was staged there`, { path: stage.path })
}

/** Goes on from the staged base after a cut while the new image was being written, or puts the old base back. */
const resumeRewriting = async (cut: Cut, plan: RefreshPlan): Promise<RefreshOutcome> => {
  const { folder, name, state } = cut
  try {
    const stageFolder = cut.wrapFolder(await openFolder(state.stage!.folder))
    const stage = await stagedFile(stageFolder, state.stage!.name)
    await removeEmptied(folder, name)
    const there = await markOfName(folder, name)
    if (there && !isSameImage(there, state.old))
      throw new LiveError('REFUSED', `${name} is not the base that was staged: somebody has put another one there`, {
        path: join(folder.path, name),
      })
    // only the rename of a restore leaves both
    if (there && !folder.traits.atomicRename && (await folder.facts(name + NEW_SUFFIX)))
      throw sharedChain(folder, name + NEW_SUFFIX, name)
    if (plan.options.restore) return await restore(cut, stage, there !== undefined)
    await checkStaged(cut, stage)
    await removeFile(folder, name + NEW_SUFFIX)
    // the old base still has its name where the cut came just before it was removed
    await removeFile(folder, name)
    return await rewrite(cut, stage, plan)
  } catch (error) {
    throw tellState(error, stateAfter(await readState(folder, name).catch(() => null), state.stage))
  }
}

/**
 * Puts the staged base back: copied beside, flushed, read back and compared → renamed → state `writing`, the stick as it was →
 * staged copy and state file removed.
 *
 * @param inPlace  the old base has its name, be it again or still
 */
const restore = async (cut: Cut, stage: HostFile, inPlace: boolean): Promise<RefreshOutcome> => {
  const { folder, name, state, report, signal } = cut
  let findings: readonly Finding[] = []
  if (!inPlace) await checkStaged(cut, stage)
  await removeFile(folder, name + NEW_SUFFIX)
  if (!inPlace) {
    findings = (await copyFile(stage.folder, stage.name, folder, name + NEW_SUFFIX, 'restore', report, signal)).findings
    await folder.rename(name + NEW_SUFFIX, name)
    await folder.sync()
  }
  await recordStep(folder, name, 'writing', { fresh: null, staged: state.staged })
  await removeFile(stage.folder, stage.name)
  await removeState(folder, name)
  return {
    ...outcome(join(folder.path, name), state.old.size, undefined, state.old.size, undefined, findings),
    restored: true,
  }
}

const rewrite = async (cut: Cut, stage: HostFile, plan: RefreshPlan): Promise<RefreshOutcome> => {
  const { input, folder, name, state, wrapFolder, report, signal } = cut
  const target = await findTarget(input, stage)
  const overlay = wrapFile(target.overlay, wrapFolder)
  const { written, findings } = await writeNew(target, folder, name, plan, report, signal)
  if (overlay) await checkUnchanged([{ file: overlay, planned: identityOf(overlay) }])
  const swapping: RefreshState = { ...state, step: 'swapping', fresh: written.mark }
  await recordStep(folder, name, 'swapping', swapping)
  const cleared = await finish(folder, name, swapping, overlay, true, stage.folder)
  return outcome(join(folder.path, name), state.old.size, written, written.mark.size, cleared, [
    ...findings,
    ...(state.keepOld ? [stageKept(state.stage!)] : []),
  ])
}
