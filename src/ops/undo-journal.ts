import type { GrowingFile } from '../block/file.js'
import { applyUndo, type UndoneChange } from '../block/undo/apply.js'
import { canBeCut, comparedWith, readUndoJournal, type UndoJournal } from '../block/undo/journal.js'
import type { ByteRange, Hold, UndoPhase } from '../block/undo/layout.js'
import { openUndoRecorder, type UndoRecorder } from '../block/undo/recorder.js'
import { assert, LiveError } from '../error.js'
import type { Folder, ReadFolder } from '../host/folder.js'
import { marked, pathWord } from '../liveos/advice.js'
import { UNDO_SUFFIX } from '../liveos/target.js'
import { checkNotRunning, type RunOwner, thisOwner } from './refresh-owner.js'

/** Verbs that change an overlay in place. */
export type ChangingVerb = 'recover' | 'grow' | 'compact' | 'merge'

/** Who changed an overlay, as its undo journal says. */
export interface ChangeAbout {
  readonly verb: ChangingVerb
  /** name of the file that was changed */
  readonly file: string
  /** when it was begun: ISO 8601, UTC */
  readonly begun: string
  readonly owner: RunOwner
}

/** The undo journal beside an overlay. */
export interface FoundUndo {
  /** name of the journal's file */
  readonly name: string
  /** `empty`: a run was cut before it changed anything */
  readonly phase: UndoPhase | 'empty'
  readonly about: ChangeAbout | undefined
  readonly journal: UndoJournal | undefined
}

const isAbout = (value: unknown): value is ChangeAbout =>
  typeof value === 'object' &&
  value !== null &&
  'verb' in value &&
  typeof value.verb === 'string' &&
  'file' in value &&
  typeof value.file === 'string' &&
  'begun' in value &&
  typeof value.begun === 'string' &&
  'owner' in value &&
  typeof value.owner === 'object' &&
  value.owner !== null &&
  'pid' in value.owner

/**
 * Looks for the undo journal of an overlay.
 *
 * @returns  undefined where there is none
 * @throws CORRUPT  it is damaged; UNSUPPORTED  of another version of liveos; IO
 */
export const findUndo = async (folder: ReadFolder, overlay: string): Promise<FoundUndo | undefined> => {
  const name = overlay + UNDO_SUFFIX
  if (!(await folder.facts(name))) return undefined
  const file = await folder.open(name)
  try {
    const journal = await readUndoJournal(file)
    if (!journal) return { name, phase: 'empty', about: undefined, journal }
    const { about } = journal
    return { name, phase: journal.header.phase, about: isAbout(about) ? about : undefined, journal }
  } finally {
    await file.close()
  }
}

/** True where a change was cut in its middle: the overlay is neither as it was nor as it was to be. */
export const isCut = (found: FoundUndo | undefined): boolean =>
  found !== undefined && (found.phase === 'recording' || found.phase === 'undoing')

/** What to run after a change that was cut in its middle. @param address  of the target, as a command line has it */
export const cutSentence = (found: FoundUndo, address: string): string => {
  const [again, back] = [marked(`liveos recover ${address}`), marked(`liveos undo ${address}`)]
  if (found.phase === 'undoing') return `an undo was cut short here: run ${back} again`
  return found.about?.verb === 'recover'
    ? `a recover of this overlay was cut short: run ${again} again, or ${back} to take it back`
    : `a ${found.about?.verb ?? 'change'} of this overlay was cut short: run ${back} to take it back`
}

/** @throws REFUSED  another process of this computer is at it */
export const checkNobodyAt = async (found: FoundUndo | undefined): Promise<void> => {
  const { about } = found ?? {}
  await checkNotRunning(about?.owner, `a ${about?.verb} of ${about?.file}`)
}

/**
 * Refuses to take a change back that was cut in its middle where the overlay can't be the one it was cut on.
 *
 * @throws REFUSED  another file was put in its place, or it was written since
 */
export const checkCutHere = async (folder: ReadFolder, overlay: string, found: FoundUndo): Promise<void> => {
  if (!found.journal || !isCut(found)) return
  const [target, journal] = [await folder.open(overlay), await folder.open(found.name)]
  try {
    if (await canBeCut(target, journal, found.journal)) return
  } finally {
    await target.close()
    await journal.close()
  }
  throw new LiveError(
    'REFUSED',
    `${target.path} is another file than the one on which the ${found.about?.verb ?? 'change'} was cut short, or it was written since: taking that back would destroy it. Remove ${found.name} if you want to keep the overlay as it is`,
    { path: target.path },
  )
}

/** A change of an overlay that can be taken back. */
export interface UndoableChange {
  /** the overlay; all changes go through it */
  readonly file: UndoRecorder
  /** Ends the change; see `UndoRecorder`. The journal stays. */
  finish(watched?: Iterable<ByteRange>): Promise<void>
  /**
   * Takes everything back and removes the journal, after a failure.
   *
   * @throws IO  not even that was possible: the journal stays
   */
  takeBack(): Promise<void>
  close(): Promise<void>
}

/**
 * Begins to change an overlay in place. Its journal is beside it, on the medium, and the held bytes are set when this returns.
 * A journal of a finished change before this one is dropped.
 *
 * @throws REFUSED  an earlier change was cut in its middle, or is running
 * @throws NO_SPACE, IO  the overlay was not touched
 */
export const beginChange = async (
  folder: Folder,
  overlay: string,
  { verb, hold }: { readonly verb: ChangingVerb; readonly hold?: Hold | undefined },
): Promise<UndoableChange> => {
  const name = overlay + UNDO_SUFFIX
  const earlier = await findUndo(folder, overlay)
  await checkNobodyAt(earlier)
  if (earlier && isCut(earlier))
    throw new LiveError('REFUSED', cutSentence(earlier, pathWord(folder.path)), { path: name })
  const owner = await thisOwner()
  const about: ChangeAbout = { verb, file: overlay, begun: new Date().toISOString(), owner }
  const target = await folder.openGrowing(overlay)
  let journal: GrowingFile | undefined
  const drop = async (): Promise<void> => {
    await journal?.close()
    journal = undefined
    await folder.unlink(name)
    await folder.sync()
  }
  try {
    if (earlier) await drop()
    journal = await folder.create(name)
    const file = await openUndoRecorder(target, journal, { about, hold })
    await folder.sync()
    await file.hold()
    return {
      file,
      finish: watched => file.finish(watched),
      async takeBack() {
        assert(journal, 'a change is taken back once')
        await applyUndo(target, journal)
        await drop()
      },
      async close() {
        await Promise.all([target.close(), journal?.close()])
      },
    }
  } catch (error) {
    // At most the held bytes were set, and the page around them is recorded then.
    if (journal)
      try {
        await applyUndo(target, journal)
        await drop()
      } catch {
        await journal?.close().catch(() => undefined)
      }
    await target.close()
    throw error
  }
}

/**
 * Takes the last change of an overlay back and removes its journal; the end of a run that was cut in its middle as well.
 *
 * @throws CORRUPT  the journal is damaged; REFUSED  the overlay is not the one that it was begun on; IO, NO_SPACE, CANCELLED
 */
export const takeChangeBack = async (
  folder: Folder,
  overlay: string,
  options: { signal?: AbortSignal | undefined; onProgress?: (done: number, total: number) => void } = {},
): Promise<UndoneChange> => {
  const name = overlay + UNDO_SUFFIX
  const found = await findUndo(folder, overlay)
  if (found) await checkCutHere(folder, overlay, found)
  const journal = await folder.openWritable(name)
  let undone: UndoneChange
  try {
    const target = await folder.openGrowing(overlay)
    try {
      undone = await applyUndo(target, journal, options)
    } finally {
      await target.close()
    }
  } finally {
    await journal.close()
  }
  await folder.unlink(name)
  await folder.sync()
  return undone
}

/** Lets the held bytes of a finished change go, where a cut came just before that. @returns whether there was anything to do */
export const releaseHold = async (folder: Folder, overlay: string, { header }: UndoJournal): Promise<boolean> => {
  const { hold } = header
  if (!hold) return false
  const target = await folder.openWritable(overlay)
  try {
    await target.write(hold.offset, hold.after)
    await target.flush()
    return true
  } finally {
    await target.close()
  }
}

/** How an overlay stands to the change that its journal tells of. @throws IO */
export const standingOf = async (
  folder: ReadFolder,
  overlay: string,
  journal: UndoJournal,
): Promise<'as left' | 'held' | 'changed'> => {
  const target = await folder.open(overlay)
  try {
    return await comparedWith(target, journal)
  } finally {
    await target.close()
  }
}
