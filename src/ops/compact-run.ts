import { randomBytes } from 'node:crypto'
import { join, resolve } from 'node:path'
import type { Device } from '../block/device.js'
import { corrupt, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Folder, openFolder } from '../host/folder.js'
import { openMergedRoot } from '../liveos/merged-root.js'
import { openStack } from '../liveos/stack.js'
import { findTarget, NEW_SUFFIX, OLD_SUFFIX, type TargetInput, type WritableTarget } from '../liveos/target.js'
import { appendZeros } from './append-zeros.js'
import { type ChunkCounts, type CompactOptions, type CompactPlan, planFresh } from './compact.js'
import { judgeChunks, type KeptChunk } from './compact-chunks.js'
import { type CompactWork, dropLeft, dropStage } from './compact-left.js'
import { type CompactResume, resumeOf } from './compact-resume.js'
import {
  type CompactState,
  createCompactState,
  findCompact,
  readCompactState,
  recordCompactStep,
  removeCompactState,
} from './compact-state.js'
import { checkPacked, packedSize, writePacked } from './compact-write.js'
import { checkNotInUse, checkUnchanged, checkWritable, outdated, whileLocked } from './identity.js'
import { type Progress, progressing } from './progress.js'
import { checkNotRunning, thisOwner } from './refresh-owner.js'
import type { RunOptions } from './refresh-run.js'
import { compareAll, hashOfName } from './refresh-write.js'
import { removeEmptied, removeFile } from './replaced-file.js'
import { overlayOf } from './reset.js'
import { checkNothingUnfinished, dropUndo, outcomeFindings } from './unfinished.js'

/** What a compaction came to. Sizes are bytes. */
export interface CompactOutcome {
  readonly verb: 'compact'
  readonly overlay: string
  /** false where there was nothing to drop */
  readonly changed: boolean
  /** null where an earlier run counted them */
  readonly chunks: ChunkCounts | null
  readonly usedBytes: { readonly before: number; readonly after: number } | null
  readonly newBytes: number
  /** what was compared; null where an earlier run did, or nothing was written */
  readonly verified: { readonly chunks: number; readonly readBack: 'medium' | 'page cache' } | null
  readonly findings: readonly Finding[]
}

/**
 * Runs a compaction as planned. Ordered steps and the state after each; every one is flushed before the next:
 *
 * 1. state `writing`; the new store beside the old one, flushed, read back and compared     the overlay as it was
 * 2. state `swapping`, names changed (on FAT with state `naming` between the two renames)   old or new store; both show the same
 * 3. state `clearing`, old store and state file removed
 *
 * With a stage: 1 in the stage · state `rewriting` · old store removed · copied back, compared · state `swapping` · renamed · 3.
 * How a run that was cut short is gone on with: see `resumeOf`.
 *
 * @throws REFUSED, CORRUPT, IO, NO_SPACE, CANCELLED  before step 2 nothing of the stick has changed then (without a stage)
 */
export async function* runCompact(
  input: TargetInput,
  plan: CompactPlan,
  { signal, wrapFolder = folder => folder }: RunOptions = {},
): AsyncGenerator<Progress, CompactOutcome> {
  return yield* progressing(async report => {
    const found = await findCompact(input)
    const state = found.overlay === undefined ? undefined : await readCompactState(found.folder, found.overlay)
    let does: CompactResume | undefined
    if (found.overlay !== undefined && state !== undefined) {
      if (state !== 'unreadable') await checkNotRunning(state.owner, `a compaction of ${found.overlay}`)
      does = await resumeOf(wrapFolder(found.folder), found.overlay, state)
    }
    if (does !== plan.resume?.does) throw outdated(plan.target)
    const { options } = plan
    if (does !== undefined && state) {
      const work: CompactWork = { folder: wrapFolder(found.folder), name: found.overlay!, wrapFolder, report, signal }
      // a run that was killed may have left its last step in the page cache only
      await work.folder.sync()
      if (state !== 'unreadable' && state.step !== 'writing') return resume(work, input, options, state, does)
      await findUnused(input, found.overlay!)
      await dropLeft(work, state)
      if (!plan.worthwhile) return unchanged(plan)
      return compact(input, plan, { ...work, name: found.overlay! })
    }
    const target = await findUnused(input)
    const overlay = overlayOf(target)
    await checkUnchanged([...(plan.overlay ? [{ file: overlay, planned: plan.overlay }] : [])])
    if (!plan.worthwhile) return unchanged(plan)
    const work = { folder: wrapFolder(overlay.folder), name: overlay.name, wrapFolder, report, signal }
    return whileLocked([overlay], () => compact(input, plan, work))
  })
}

const unchanged = (plan: CompactPlan): CompactOutcome => ({
  verb: 'compact',
  overlay: plan.overlay?.path ?? '',
  changed: false,
  chunks: plan.chunks,
  usedBytes: plan.usedBytes,
  newBytes: plan.newBytes,
  verified: null,
  findings: outcomeFindings(plan.findings),
})

/** The target, which nobody uses. @throws REFUSED, READ_ONLY */
const findUnused = async (input: TargetInput, own?: string): Promise<WritableTarget> => {
  const target = await findTarget(input)
  await checkNothingUnfinished(target, { compact: own ?? target.overlay?.name })
  await checkNotInUse(target)
  await checkWritable(target)
  return target
}

const compact = async (input: TargetInput, plan: CompactPlan, work: CompactWork): Promise<CompactOutcome> => {
  const { folder, name, wrapFolder, report, signal } = work
  const { stage } = plan.options
  const stageFolder = stage === undefined ? undefined : wrapFolder(await openFolder(resolve(stage)))
  const state: CompactState = {
    step: 'writing',
    overlay: name,
    owner: await thisOwner(),
    stage: stageFolder
      ? { folder: stageFolder.path, name: `liveos-stage-${randomBytes(8).toString('hex')}-${name}` }
      : null,
    size: plan.newBytes,
    staged: null,
  }
  await createCompactState(folder, state)
  let isUndoable = true
  try {
    await dropUndo(folder, name)
    const place = stageFolder ?? folder
    const placeName = state.stage?.name ?? name + NEW_SUFFIX
    const written = await writeNew(await findTarget(input), plan, place, placeName, stageFolder !== undefined, work)
    if (plan.overlay) await checkUnchanged([{ file: overlayOf(await findTarget(input)), planned: plan.overlay }])
    if (signal?.aborted)
      throw new LiveError('CANCELLED', 'stopped before the new overlay took the place of the old one')
    let findings = [...outcomeFindings(plan.findings), ...written.findings]
    if (stageFolder) {
      const staged = await hashOfName(stageFolder, placeName, report, signal)
      isUndoable = false
      const now = { ...state, staged }
      await recordCompactStep(folder, now, 'rewriting')
      await folder.unlink(name)
      await folder.sync()
      findings = [...findings, ...(await copyBack(work, now, plan.sparse))]
    } else {
      isUndoable = false
      report({ phase: 'swap', doneBytes: 0, totalBytes: 0 })
      await swapBeside(work, state)
    }
    return {
      verb: 'compact',
      overlay: join(folder.path, name),
      changed: true,
      chunks: written.chunks,
      usedBytes: plan.usedBytes && { before: plan.usedBytes.before, after: written.usedBytes },
      newBytes: plan.newBytes,
      verified: { chunks: written.chunks.kept, readBack: written.readBack },
      findings,
    }
  } catch (error) {
    // a step that can't be read back might be a later one, so nothing is undone then
    if (isUndoable) await dropLeft(work, state).catch(() => undefined)
    throw tellState(error, isUndoable ? 'the overlay is as it was' : 'run compact again to finish')
  }
}

/** The same error with a sentence on the state of the stick. */
const tellState = (error: unknown, state: string): unknown =>
  error instanceof LiveError
    ? new LiveError(error.code, `${error.message} (${state})`, { ...error.data, state }, error.cause)
    : error

interface Written {
  readonly chunks: ChunkCounts
  readonly usedBytes: number
  readonly readBack: 'medium' | 'page cache'
  readonly findings: readonly Finding[]
}

/** Writes the new store, flushes it and its name, reads it back and compares. @param bare  only as long as what it holds */
const writeNew = async (
  target: WritableTarget,
  { options, newBytes, sparse }: CompactPlan,
  to: Folder,
  toName: string,
  bare: boolean,
  { report, signal }: CompactWork,
): Promise<Written> => {
  const stack = await openStack(target)
  try {
    const { file, store } = stack.overlay!
    const { chunkSize } = store
    const merged = await openMergedRoot(stack.root, { trim: options.trim, store })
    const chunks = { before: store.exceptions.count, free: 0, equal: 0, kept: 0 }
    const kept = async function* (): AsyncGenerator<readonly KeptChunk[]> {
      for await (const judged of judgeChunks(stack.base.origin, file, store, merged, signal)) {
        chunks.free += judged.free
        chunks.equal += judged.equal
        chunks.kept += judged.kept.length
        const done = chunks.free + chunks.equal + chunks.kept
        report({ phase: 'write', doneBytes: done * chunkSize, totalBytes: chunks.before * chunkSize })
        yield judged.kept
      }
    }
    const copy = await to.create(toName)
    let size = newBytes
    let written: Awaited<ReturnType<typeof writePacked>>
    let findings: readonly Finding[] = []
    try {
      written = await writePacked(
        copy,
        kept(),
        { chunkSize, most: store.exceptions.count, size: bare ? undefined : newBytes, sparse },
        signal,
      )
      if (bare) size = copy.size
      findings = await keepAttributes(overlayOf(target).path, to, toName)
      await copy.flush()
    } finally {
      await copy.close()
    }
    await to.sync()
    const back = await to.openReadBack(toName)
    try {
      const progress = (doneBytes: number, totalBytes: number) => report({ phase: 'verify', doneBytes, totalBytes })
      await checkPacked(back, written, size, progress, signal)
      const usedBytes = packedSize(written.count, chunkSize).nextFreeChunk * chunkSize
      return { chunks, usedBytes, readBack: back.from, findings }
    } finally {
      await back.close()
    }
  } finally {
    await stack.close()
  }
}

const keepAttributes = async (from: string, folder: Folder, name: string): Promise<readonly Finding[]> => {
  const lost = await folder.copyAttributes(from, name)
  return folder.traits.kind !== 'posix'
    ? []
    : lost.map(message => ({ code: 'ATTRIBUTES_NOT_KEPT', severity: 'note', where: name, message }))
}

/** Gives the new store beside the old one its name, and clears up. */
const swapBeside = async (work: CompactWork, state: CompactState): Promise<void> => {
  const { folder, name } = work
  await recordCompactStep(folder, state, 'swapping')
  if (folder.traits.atomicRename) {
    await folder.link(name, name + OLD_SUFFIX)
    await folder.sync()
  } else {
    await folder.rename(name, name + OLD_SUFFIX)
    await folder.sync()
    // from here on the new one counts: a boot finds neither
    await recordCompactStep(folder, state, 'naming')
  }
  await folder.rename(name + NEW_SUFFIX, name)
  await folder.sync()
  await clearUp(work, state)
}

/** Ends it: both renames are on the medium whole, so no two names share a cluster chain any more. */
const clearUp = async ({ folder, name, wrapFolder }: CompactWork, state: CompactState): Promise<readonly Finding[]> => {
  await recordCompactStep(folder, state, 'clearing')
  await removeFile(folder, name + OLD_SUFFIX)
  const findings = await dropStage(state.stage, wrapFolder)
  await removeCompactState(folder, name)
  return findings
}

const PIECE = 1 << 20

/** Copies the staged store to the stick, compares it, gives it its name and clears up. @throws REFUSED  the stage holds another one */
const copyBack = async (work: CompactWork, state: CompactState, sparse: boolean): Promise<readonly Finding[]> => {
  const { folder, name, wrapFolder, report, signal } = work
  const stageFolder = wrapFolder(await openFolder(state.stage!.folder))
  const source = await stageFolder.open(state.stage!.name)
  try {
    const copy = await folder.create(name + NEW_SUFFIX)
    try {
      for (let at = 0; at < source.size; at += PIECE) {
        if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while the new overlay was being copied back')
        await copy.write(at, await source.read(at, Math.min(PIECE, source.size - at)))
        report({ phase: 'copy back', doneBytes: at, totalBytes: state.size })
      }
      if (sparse) await copy.truncate(state.size)
      else await appendZeros(copy, state.size, { signal })
      await keepAttributes(source.path, folder, name + NEW_SUFFIX)
      await copy.flush()
    } finally {
      await copy.close()
    }
    await folder.sync()
    const back = await folder.openReadBack(name + NEW_SUFFIX)
    try {
      if (back.size !== state.size)
        throw corrupt({ device: back.name, offset: 0, field: 'size read back', expected: state.size, found: back.size })
      const begin: Device = { ...back, size: source.size, read: (offset, length) => back.read(offset, length) }
      const digest = await compareAll(source, begin, report, signal)
      if (digest !== state.staged)
        throw corrupt({ device: source.name, offset: 0, field: 'SHA-256', expected: state.staged!, found: digest })
    } finally {
      await back.close()
    }
  } finally {
    await source.close()
  }
  await recordCompactStep(folder, state, 'swapping')
  return finishCut(work, { ...state, step: 'swapping' })
}

/** Gives the new store its name, where it has not got it yet, and clears up. */
const finishCut = async (work: CompactWork, state: CompactState): Promise<readonly Finding[]> => {
  const { folder, name } = work
  if (state.step !== 'clearing' && !(await folder.facts(name))) {
    await folder.rename(name + NEW_SUFFIX, name)
    await folder.sync()
  }
  return clearUp(work, state)
}

/** Goes on with a run that was cut short after its new store had been verified. */
const resume = async (
  work: CompactWork,
  input: TargetInput,
  options: CompactOptions,
  state: CompactState,
  does: CompactResume,
): Promise<CompactOutcome> => {
  const { folder, name, report, signal } = work
  await removeEmptied(folder, name)
  const outcome = (findings: readonly Finding[]): CompactOutcome => ({
    verb: 'compact',
    overlay: join(folder.path, name),
    changed: true,
    chunks: null,
    usedBytes: null,
    newBytes: state.size,
    verified: null,
    findings,
  })
  // so that a cut of this run finds the step on the medium too
  await recordCompactStep(folder, state, state.step)
  if (does === 'finish') return outcome(await finishCut(work, state))
  if (does === 'copy the staged one') {
    await removeFile(folder, name + NEW_SUFFIX)
    return outcome(await copyBack(work, state, false))
  }
  if (does === 'put the old one back') {
    await folder.rename(name + OLD_SUFFIX, name)
    await folder.sync()
  }
  await dropLeft(work, state)
  const target = await findUnused(input, name)
  const plan = await planFresh(target, { ...options, size: options.size ?? state.size }, undefined, { report, signal })
  return compact(input, plan, work)
}
