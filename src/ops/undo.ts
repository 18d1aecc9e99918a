import { LiveError } from '../error.js'
import { type OverlayTarget, UNDO_SUFFIX } from '../liveos/target.js'
import { checkNotInUse, checkUnchanged, checkWritable, type FileIdentity, identityOf, whileLocked } from './identity.js'
import { type Progress, progressing } from './progress.js'
import { overlayOf } from './reset.js'
import {
  type ChangingVerb,
  checkCutHere,
  checkNobodyAt,
  type FoundUndo,
  findUndo,
  standingOf,
  takeChangeBack,
} from './undo-journal.js'
import { checkNothingUnfinished } from './unfinished.js'

/** What an undo would do. Sizes are bytes. */
export interface UndoPlan {
  readonly verb: 'undo'
  readonly target: string
  readonly overlay: FileIdentity
  /** the verb whose change is taken back; null where its run was cut before it said so */
  readonly of: ChangingVerb | null
  /** ISO 8601, UTC; null where it was not said */
  readonly begun: string | null
  /** the run was cut in its middle, and so the overlay is neither as it was nor as it was to be */
  readonly cut: boolean
  readonly restoredBytes: number
  readonly size: { readonly now: number; readonly then: number }
  readonly steps: readonly string[]
}

export interface UndoOutcome {
  readonly verb: 'undo'
  readonly overlay: string
  readonly of: ChangingVerb | null
  readonly restoredBytes: number
  readonly size: number
}

const nothing = (target: OverlayTarget, overlay: string): LiveError =>
  new LiveError(
    'NOT_FOUND',
    `there is nothing to take back for ${overlay}: recover leaves ${overlay}${UNDO_SUFFIX}, and it is not there`,
    { path: overlay, target: target.name },
  )

/** @throws REFUSED  the overlay has been written since the change */
const checkAsLeft = async (target: OverlayTarget, found: FoundUndo): Promise<void> => {
  const overlay = overlayOf(target)
  // What was cut in its middle can't be as it was left, and a boot finds it held.
  await checkCutHere(overlay.folder, overlay.name, found)
  if (found.phase !== 'finished' || !found.journal) return
  if ((await standingOf(overlay.folder, overlay.name, found.journal)) !== 'changed') return
  throw new LiveError(
    'REFUSED',
    `${overlay.path} has been written since the ${found.about?.verb ?? 'change'}, most likely by a boot: taking that back now would destroy it. Remove ${found.name} if you want to keep the overlay as it is`,
    { path: overlay.path },
  )
}

/**
 * Plans to take the last change of an overlay back.
 *
 * @throws NOT_FOUND  there is no overlay, or nothing to take back
 * @throws REFUSED  the overlay has been written since, is in use, or a run is at it; CORRUPT, UNSUPPORTED, READ_ONLY
 */
export const planUndo = async (target: OverlayTarget): Promise<UndoPlan> => {
  const overlay = overlayOf(target)
  const found = await findUndo(overlay.folder, overlay.name)
  if (!found) throw nothing(target, overlay.name)
  await checkNothingUnfinished(target, { change: true })
  await checkNotInUse(target)
  await checkWritable(target)
  await checkNobodyAt(found)
  await checkAsLeft(target, found)
  const { journal, about, phase } = found
  const cut = phase !== 'finished'
  const now = overlay.facts.size
  const then = journal?.header.oldSize ?? now
  return {
    verb: 'undo',
    target: target.name,
    overlay: identityOf(overlay),
    of: about?.verb ?? null,
    begun: about?.begun ?? null,
    cut,
    restoredBytes: journal?.savedBytes ?? 0,
    size: { now, then },
    steps: journal
      ? [
          `mark in ${found.name} that the change is being taken back, and flush`,
          ...(journal.header.hold ? [`keep any boot from using ${overlay.name}, and flush`] : []),
          `write ${journal.savedBytes} bytes back as they were${now === then ? '' : `, set the size from ${now} to ${then} bytes`}, and flush`,
          `remove ${found.name}`,
        ]
      : [`remove ${found.name}: the run was cut before it changed anything`],
  }
}

/** @throws REFUSED  the overlay has changed since it was planned, or is in use; CORRUPT, IO, NO_SPACE, CANCELLED */
export async function* runUndo(
  target: OverlayTarget,
  plan: UndoPlan,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Progress, UndoOutcome> {
  const overlay = overlayOf(target)
  return yield* progressing(async report => {
    await checkUnchanged([{ file: overlay, planned: plan.overlay }])
    await checkNothingUnfinished(target, { change: true })
    await checkNotInUse(target)
    const found = await findUndo(overlay.folder, overlay.name)
    if (!found) throw nothing(target, overlay.name)
    await checkNobodyAt(found)
    await checkAsLeft(target, found)
    return whileLocked([overlay], async () => {
      const { restoredBytes, size } = await takeChangeBack(overlay.folder, overlay.name, {
        signal,
        onProgress: (doneBytes, totalBytes) => report({ phase: 'undo', doneBytes, totalBytes }),
      })
      return { verb: 'undo', overlay: overlay.path, of: plan.of, restoredBytes, size }
    })
  })
}
