import { exceptionSet } from '../block/snapshot/exceptions.js'
import type { Store } from '../block/snapshot/store.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import { rescueCommand } from '../liveos/advice.js'
import { readChanges } from '../liveos/changes/read.js'
import { type HostFile, type OverlayTarget, type TargetInput, UNDO_SUFFIX } from '../liveos/target.js'
import type { OverlaidStack } from '../liveos/usage/usage.js'
import { appendZeros } from './append-zeros.js'
import { type DiffEntry, entryOf } from './diff-entry.js'
import { mostSize } from './grow-size.js'
import { checkNotInUse, checkUnchanged, whileLocked } from './identity.js'
import { type Progress, progressing, type Report } from './progress.js'
import { needsReplay, type RecoverPlan } from './recover.js'
import { checkWritten, clearTear, commitRepairs, holdOf, watchedRanges } from './recover-commit.js'
import { type CheckedRoot, checkRepaired } from './recover-fsck.js'
import { sizeFor, wholeSize } from './recover-size.js'
import { openSalvaged, type SalvagedView } from './recover-view.js'
import { overlayOf } from './reset.js'
import type { ExportDescription } from './serve-view.js'
import {
  beginChange,
  checkNobodyAt,
  findUndo,
  isCut,
  releaseHold,
  takeChangeBack,
  type UndoableChange,
} from './undo-journal.js'
import { checkNothingUnfinished } from './unfinished.js'

/** What a recovery did. Sizes are bytes. */
export interface RecoverOutcome {
  readonly verb: 'recover'
  readonly overlay: string
  /** false: there was nothing to recover */
  readonly changed: boolean
  readonly damage: RecoverPlan['damage']
  readonly clearedInvalid: boolean
  readonly list: Omit<RecoverPlan['list'], 'tear'>
  readonly size: { readonly before: number; readonly after: number }
  /** null where nothing was checked */
  readonly fsck: {
    readonly program: string
    /** what it worked on: an export of the root, or a copy */
    readonly on: 'export' | 'copy'
    readonly code: number
    readonly words: string
    /** bytes of chunks that it changed, in the overlay now */
    readonly changedBytes: number
    /** what it changed, by file; null where that can't be told */
    readonly changes: readonly DiffEntry[] | null
  } | null
  /** where what was written was read from again; null where nothing was written */
  readonly readBack: 'medium' | 'page cache' | null
  /** the file by which `liveos undo` takes all this back; null where there is none */
  readonly undo: string | null
  readonly findings: readonly Finding[]
}

/*
 * Ordered steps and the state after each:
 *
 * 1. root copied to a temporary folder and checked there: the stick as it was
 * 2. journal made, flushed, named: the overlay as it was
 * 3. header marked invalid, flushed: no boot writes to it; a second run, or undo, takes this and all that follows back
 * 4. zeros appended, list cleared behind its consistent beginning, repairs written, each flushed
 * 5. read back and compared
 * 6. digest of what was left written to the journal, flushed: complete, and a second run goes on with 7
 * 7. header marked valid, flushed: recovered; the journal stays for undo
 *
 * An error in 3 to 6 takes everything back at once.
 */

/**
 * Recovers an overlay.
 *
 * @throws REFUSED  something has changed since it was planned, or is in use; CORRUPT  the filesystem can't be repaired
 * @throws NO_SPACE, IO, CANCELLED  the overlay is as it was
 */
export async function* runRecover(
  target: OverlayTarget,
  plan: RecoverPlan,
  {
    signal,
    input = { base: target.base.path, overlay: target.overlay?.path },
  }: {
    readonly signal?: AbortSignal | undefined
    /** names the target to another process; of an image, as it was named to this one */
    readonly input?: TargetInput | undefined
  } = {},
): AsyncGenerator<Progress, RecoverOutcome> {
  const overlay = overlayOf(target)
  return yield* progressing(async report => {
    await checkUnchanged([
      { file: target.base, planned: plan.base },
      { file: overlay, planned: plan.overlay },
    ])
    await checkNothingUnfinished(target, { change: true })
    await checkNotInUse(target)
    return whileLocked([overlay], async () => {
      if (await goOn(overlay, plan, report)) return released(overlay, plan)
      const view = await openSalvaged(target, overlay, plan.options)
      try {
        return await recover(target, input, plan, view, report, signal)
      } finally {
        await view.close()
      }
    })
  })
}

/** Ends what an earlier run left. @returns whether that was all */
const goOn = async ({ folder, name }: HostFile, plan: RecoverPlan, report: Report): Promise<boolean> => {
  const undo = await findUndo(folder, name)
  await checkNobodyAt(undo)
  if (plan.resume === 'release' && undo?.journal) return releaseHold(folder, name, undo.journal)
  if (undo && (isCut(undo) || undo.phase === 'empty'))
    await takeChangeBack(folder, name, {
      onProgress: (doneBytes, totalBytes) => report({ phase: 'undo', doneBytes, totalBytes }),
    })
  return false
}

const released = ({ path, name }: HostFile, { damage, list, size }: RecoverPlan): RecoverOutcome => ({
  verb: 'recover',
  overlay: path,
  changed: true,
  damage,
  clearedInvalid: true,
  list: { kept: list.kept, lost: 0, atLeast: false, content: list.content },
  size: { before: size.before, after: size.before },
  fsck: null,
  readBack: null,
  undo: name + UNDO_SUFFIX,
  findings: [],
})

/** The same view for the process that exports it. */
const descriptionOf = (input: TargetInput, { options }: RecoverPlan): ExportDescription => ({
  input,
  layer: 'root',
  salvage: { chunkSectors: options.chunkSectors },
})

const recover = async (
  target: OverlayTarget,
  input: TargetInput,
  plan: RecoverPlan,
  view: SalvagedView,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<RecoverOutcome> => {
  const overlay = overlayOf(target)
  const { store, salvage, cow } = view
  const isExt4 = (await detectFs(view.root).catch(() => undefined)) === 'ext4'
  const checked = plan.fsck
    ? await checkRepaired(descriptionOf(input, plan), view, plan.fsck.program, {
        dropLog: plan.options.dropLog,
        on: plan.fsck.on,
        report,
        signal,
      }).catch((error: unknown) => {
        throw withCopy(error, target)
      })
    : undefined
  try {
    const findings: Finding[] = plan.findings.filter(({ code }) => code !== 'NO_ROOM_FOR_COPY')
    const repaired = checked !== undefined && (checked.code !== 0 || (await needsReplay(view)))
    const repairs = repaired ? checked : undefined
    const changes = repairs ? await changesOf(view, repairs, findings, signal) : checked ? [] : null
    const before = cow.size
    const size = await sizeOf(overlay, plan, view, repairs)
    const outcome = {
      verb: 'recover' as const,
      overlay: overlay.path,
      damage: salvage.damage,
      clearedInvalid: salvage.header === 'invalid',
      list: {
        kept: store.exceptions.count,
        lost: salvage.lostCount,
        atLeast: salvage.lostAtLeast,
        content: plan.list.content,
      },
      fsck: checked
        ? {
            program: checked.program,
            on: checked.on,
            code: checked.code,
            words: checked.words,
            changedBytes: repairs ? repairs.changed.length * store.chunkSize : 0,
            changes,
          }
        : null,
      findings,
    }
    const whole = salvage.header === 'ok' && !salvage.tear && !store.truncated && size === before
    if (whole && !repairs)
      return { ...outcome, changed: false, size: { before, after: before }, readBack: null, undo: null }
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped; the overlay was not changed')
    await checkNotInUse(target, true)
    const readBack = await change(overlay, view, { size, repairs, isExt4, report, signal })
    return {
      ...outcome,
      changed: true,
      size: { before, after: size },
      readBack,
      undo: overlay.name + UNDO_SUFFIX,
    }
  } finally {
    await checked?.close()
  }
}

/** The size that the overlay gets. @throws NO_SPACE  what was repaired does not fit */
const sizeOf = async (
  overlay: HostFile,
  { options, size }: RecoverPlan,
  { store, cow }: SalvagedView,
  repairs: CheckedRoot | undefined,
): Promise<number> => {
  const fresh = repairs?.changed.filter(chunk => store.exceptions.find(chunk) === undefined).length ?? 0
  const needed = fresh > 0 || store.truncated ? sizeFor(store, fresh) : 0
  const planned = size.after ?? cow.size
  if (planned >= needed) return planned
  const most = overlay.facts.kind === 'file' ? mostSize(overlay.folder.traits.maxFileSize) : cow.size
  const freeBytes = await overlay.folder.freeBytes()
  if (options.size !== undefined || needed > most || needed - cow.size > freeBytes)
    throw new LiveError(
      'NO_SPACE',
      `what the check has repaired needs an overlay of ${needed} bytes, and ${
        options.size !== undefined
          ? `--size says ${options.size}`
          : overlay.facts.kind !== 'file'
            ? `its partition has ${most}: 'liveos grow' says how that is made larger`
            : needed > most
              ? `it can have ${most} here`
              : `the stick has ${freeBytes} bytes free`
      }; nothing was changed`,
      { neededBytes: needed, freeBytes },
    )
  return wholeSize(store, needed + store.chunkSize, { current: cow.size, most })
}

interface Change {
  readonly size: number
  readonly repairs: CheckedRoot | undefined
  readonly isExt4: boolean
  readonly report: Report
  readonly signal: AbortSignal | undefined
}

const change = async (
  { folder, name, path }: HostFile,
  view: SalvagedView,
  { size, repairs, isExt4, report, signal }: Change,
): Promise<'medium' | 'page cache'> => {
  const { store, salvage } = view
  const begun: UndoableChange = await beginChange(folder, name, { verb: 'recover', hold: holdOf(store) })
  const { file } = begun
  try {
    const before = file.size
    if (size > before)
      await appendZeros(file, size, {
        signal,
        onProgress: doneBytes => report({ phase: 'grow', doneBytes, totalBytes: size - before }),
      })
    if (salvage.tear || store.truncated) await clearTear(file, store)
    if (repairs)
      await commitRepairs(file, view, repairs, (doneBytes, totalBytes) =>
        report({ phase: 'write', doneBytes, totalBytes }),
      )
    await file.flush()
    report({ phase: 'verify', doneBytes: 0, totalBytes: 0 })
    const back = await folder.openReadBack(name)
    let written: Store
    try {
      written = await checkWritten(back, view, repairs)
    } finally {
      await back.close()
    }
    await begun.finish(watchedRanges(written, isExt4))
    return back.from
  } catch (error) {
    await takeBackAfter(begun, path, error)
    throw error
  } finally {
    await begun.close()
  }
}

/** @throws  the error itself, with what to run where not even taking it back was possible */
const takeBackAfter = async (begun: UndoableChange, path: string, error: unknown): Promise<void> => {
  try {
    await begun.takeBack()
  } catch (second) {
    if (!isLiveError(error) || !isLiveError(second)) throw error
    throw new LiveError(
      error.code,
      `${error.message}; nor could what was changed be taken back (${second.message}): once that is possible, 'liveos undo' does it, or 'liveos recover' begins again`,
      { ...error.data, path },
      error,
    )
  }
}

/** What is left to do where a checker gives up: files can be copied out of an overlay as it is. */
const withCopy = (error: unknown, target: OverlayTarget): unknown =>
  isLiveError(error) && error.code === 'CORRUPT'
    ? new LiveError(
        'CORRUPT',
        `${error.message}. Copy out what you need: ${rescueCommand(target)}`,
        error.data,
        error.cause,
      )
    : error

/** What a check changed, by file; null where that can't be told. */
const changesOf = async (
  view: SalvagedView,
  { after, changed }: CheckedRoot,
  findings: Finding[],
  signal: AbortSignal | undefined,
): Promise<readonly DiffEntry[] | null> => {
  const exceptions = exceptionSet({ oldChunks: changed, newChunks: changed })
  const stack = {
    base: { ...view.base, origin: view.root },
    overlay: { file: view.base.file, store: { ...view.store, exceptions } },
    root: after,
  } as unknown as OverlaidStack
  try {
    const found = await readChanges(stack, { signal })
    findings.push(...found.findings)
    return found.changes.map(entryOf)
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    findings.push({
      code: 'CHANGES_UNKNOWN',
      severity: 'note',
      where: view.root.name,
      message: `which files the check has changed can't be told: ${error.message}`,
    })
    return null
  }
}
