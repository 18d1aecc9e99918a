import type { Device } from '../block/device.js'
import { type MergedStore, mergeStore } from '../block/snapshot/merge.js'
import { readStore } from '../block/snapshot/store.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { closeAll, type Folder } from '../host/folder.js'
import { isPlaceFolder } from '../host/place-folder.js'
import { findTarget, type TargetInput } from '../liveos/target.js'
import { checkNotInUse, checkUnchanged, checkWritable, whileLocked } from './identity.js'
import type { InPlaceVerb, MergeInPlacePlan } from './merge-in-place.js'
import { type Progress, progressing, type Report } from './progress.js'
import type { RunOptions } from './refresh-run.js'
import { overlayOf } from './reset.js'
import { checkNothingUnfinished, dropUndo, outcomeFindings } from './unfinished.js'

/** What became of a merge into the base itself. */
export interface MergeInPlaceOutcome {
  readonly verb: InPlaceVerb
  readonly inPlace: true
  readonly base: string
  readonly overlay: string
  /** changed chunks merged by this run */
  readonly exceptions: number
  readonly writtenBytes: number
  /** bytes of the base that were read back and compared; null where none were */
  readonly verified: { readonly bytes: number; readonly readBack: 'medium' | 'page cache' } | null
  readonly findings: readonly Finding[]
}

/**
 * Writes what the overlay holds into the base; see `mergeStore` for the steps and the state after each. The view of both
 * together never changes, so the stick can boot at any moment, and what a cut or a failure leaves is a smaller overlay: a
 * second run goes on with it, as does the kernel.
 *
 * @throws REFUSED  something has changed since it was planned, or is in use; READ_ONLY, CORRUPT
 * @throws IO, NO_SPACE, CANCELLED  the rest stays in the overlay
 */
export async function* runMergeInPlace(
  input: TargetInput,
  plan: MergeInPlacePlan,
  { signal, wrapFolder = folder => folder }: RunOptions = {},
): AsyncGenerator<Progress, MergeInPlaceOutcome> {
  return yield* progressing(async report => {
    const target = await findTarget(input)
    const overlay = overlayOf(target)
    await checkUnchanged([
      { file: target.base, planned: plan.base },
      { file: overlay, planned: plan.overlay },
    ])
    await checkNothingUnfinished(target)
    await checkNotInUse(target)
    await checkWritable(target)
    const base = { folder: wrapFolder(target.base.folder), name: target.base.name }
    const store = {
      folder:
        overlay.folder.path === base.folder.path && !isPlaceFolder(overlay.folder)
          ? base.folder
          : wrapFolder(overlay.folder),
      name: overlay.name,
    }
    return whileLocked([target.base, overlay], async () => {
      await dropUndo(store.folder, store.name)
      const { merged, verified } = await mergePair(base, store, plan, report, signal)
      await checkEmpty(store)
      return {
        verb: plan.verb,
        inPlace: true,
        base: target.base.path,
        overlay: overlay.path,
        exceptions: merged.exceptions,
        writtenBytes: merged.bytes,
        verified,
        findings: outcomeFindings(plan.findings),
      }
    })
  })
}

interface NamedFile {
  readonly folder: Folder
  readonly name: string
}

const mergePair = async (
  base: NamedFile,
  store: NamedFile,
  plan: MergeInPlacePlan,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<{ merged: MergedStore; verified: MergeInPlaceOutcome['verified'] }> => {
  const open: Device[] = []
  const opened = async <D extends Device>(opening: Promise<D>): Promise<D> => {
    const device = await opening
    open.push(device)
    return device
  }
  try {
    const cow = await opened(store.folder.openWritable(store.name))
    const origin = await opened(base.folder.openWritable(base.name))
    const readBack = plan.options.verify === false ? undefined : await opened(base.folder.openReadBack(base.name))
    const merged = await mergeStore(origin, cow, {
      signal,
      readBack,
      onProgress: (doneBytes, totalBytes) => report({ phase: 'merge', doneBytes, totalBytes }),
    })
    return { merged, verified: readBack ? { bytes: merged.bytes, readBack: readBack.from } : null }
  } catch (error) {
    throw isLiveError(error) && (error.code === 'IO' || error.code === 'NO_SPACE') ? tellState(error, plan) : error
  } finally {
    await closeAll(open)
  }
}

const tellState = (error: LiveError, { target, verb }: MergeInPlacePlan): LiveError =>
  new LiveError(
    error.code,
    `${error.message}. The system on the stick is as before: what was merged is in the base, the rest still in the overlay. 'liveos ${verb} --in-place ${target}' goes on with it`,
    error.data,
    error,
  )

/** @throws IO  the list was read back otherwise */
const checkEmpty = async ({ folder, name }: NamedFile): Promise<void> => {
  const back = await folder.openReadBack(name)
  try {
    const { state, exceptions } = await readStore(back)
    if (state === 'ok' && exceptions.count === 0) return
    throw new LiveError(
      'IO',
      `${name} was emptied, but chunks were read back in its list: the stick does not keep what is written to it`,
      { name },
    )
  } finally {
    await back.close()
  }
}
