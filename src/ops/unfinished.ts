import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import type { Folder, ReadFolder } from '../host/folder.js'
import { advised, marked } from '../liveos/advice.js'
import { RESET_SUFFIX, type Target, UNDO_SUFFIX } from '../liveos/target.js'
import { checkNoCompact } from './compact-state.js'
import { checkNoRefresh } from './refresh-state.js'
import { checkNoRestore } from './restore-state.js'
import { cutSentence, findUndo, isCut } from './undo-journal.js'

/** What a verb goes on with itself, and so doesn't refuse. */
export interface Own {
  readonly refresh?: boolean | undefined
  /** the overlay whose compaction may have been cut short */
  readonly compact?: string | undefined
  readonly restore?: boolean | undefined
  readonly reset?: boolean | undefined
  /** a change under an undo journal that was cut in its middle */
  readonly change?: boolean | undefined
}

/**
 * Refuses a target on which another verb is at work or was cut short: each of them may hold the only copy of something there.
 *
 * @throws REFUSED  with what to run; CORRUPT, UNSUPPORTED  an undo journal is damaged, or of another version
 */
export const checkNothingUnfinished = async (target: Target, own: Own = {}): Promise<void> => {
  const { base, overlay } = target
  const places: ReadFolder[] = [base.folder]
  if (overlay && overlay.folder.path !== base.folder.path) places.push(overlay.folder)
  if (!own.refresh) await checkNoRefresh(target)
  for (const folder of places) {
    await checkNoCompact(folder, target, own.compact)
    if (!own.restore) await checkNoRestore(folder, target)
  }
  if (!overlay) return
  const refuse = (sentence: string): LiveError => new LiveError('REFUSED', sentence, { path: overlay.path })
  if (!own.reset && (await overlay.folder.facts(overlay.name + RESET_SUFFIX)))
    throw refuse(
      `a reset was cut short here: ${advised(target, address => `run ${marked(`liveos reset ${address}`)} first`)}`,
    )
  if (own.change) return
  const undo = await findUndo(overlay.folder, overlay.name)
  if (undo && isCut(undo)) throw refuse(advised(target, address => cutSentence(undo, address)))
}

/** Says in a plan that an earlier change can't be taken back any more. @throws IO */
export const undoEnds = async (target: Target): Promise<Finding[]> => {
  const { overlay } = target
  if (!overlay || !(await overlay.folder.facts(overlay.name + UNDO_SUFFIX))) return []
  const undo = await findUndo(overlay.folder, overlay.name).catch((error: unknown) => {
    if (isLiveError(error) && (error.code === 'CORRUPT' || error.code === 'UNSUPPORTED')) return undefined
    throw error
  })
  return [
    {
      code: 'UNDO_ENDS',
      severity: 'note',
      where: overlay.path,
      message: `${overlay.name}${UNDO_SUFFIX} is removed: the ${undo?.about?.verb ?? 'change'} before this can't be taken back any more`,
      remedy: advised(
        target,
        address => `if you want it back, run ${marked(`liveos undo ${address}`)} now, and not this`,
      ),
    },
  ]
}

/** Findings of a plan as its outcome tells them: without what could only be done before. */
export const outcomeFindings = (findings: readonly Finding[]): readonly Finding[] =>
  findings.filter(({ code }) => code !== 'UNDO_ENDS')

/**
 * Removes the undo journal of an overlay that is about to be changed otherwise: what it says would be wrong from then on.
 * It goes first, as after a cut between the two nobody could tell any more.
 *
 * @throws IO, READ_ONLY
 */
export const dropUndo = async (folder: Folder, overlay: string): Promise<void> => {
  const name = overlay + UNDO_SUFFIX
  if (!(await folder.facts(name))) return
  await folder.unlink(name)
  await folder.sync()
}
