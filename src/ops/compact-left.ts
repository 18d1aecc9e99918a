import { join } from 'node:path'
import type { Finding } from '../finding.js'
import { type Folder, openFolder } from '../host/folder.js'
import { NEW_SUFFIX, OLD_SUFFIX } from '../liveos/target.js'
import { type CompactState, recordCompactStep, removeCompactState } from './compact-state.js'
import type { Report } from './progress.js'
import { removeFile } from './replaced-file.js'

/** A compaction at work. */
export interface CompactWork {
  readonly folder: Folder
  readonly name: string
  readonly wrapFolder: (folder: Folder) => Folder
  readonly report: Report
  readonly signal: AbortSignal | undefined
}

/** Removes what a run left whose store does not count. The old one has its name. */
export const dropLeft = async (
  { folder, name, wrapFolder }: CompactWork,
  state: CompactState | 'unreadable',
): Promise<void> => {
  if (state !== 'unreadable') {
    // with atomic renames one more name of the old one
    if (state.step === 'swapping') await removeFile(folder, name + OLD_SUFFIX)
    // with .new gone a later step would say that it has its name
    if (state.step !== 'writing') await recordCompactStep(folder, state, 'writing')
    await dropStage(state.stage, wrapFolder)
  }
  await removeFile(folder, name + NEW_SUFFIX)
  await removeCompactState(folder, name)
}

/** Removes the copy of the new store in the stage; where the stage is away it stays, and that is told. */
export const dropStage = async (
  stage: CompactState['stage'],
  wrapFolder: (folder: Folder) => Folder,
): Promise<readonly Finding[]> => {
  if (!stage) return []
  try {
    await removeFile(wrapFolder(await openFolder(stage.folder)), stage.name)
    return []
  } catch {
    return [
      {
        code: 'STAGE_LEFT',
        severity: 'note',
        where: stage.folder,
        message: `${stage.folder} can't be reached now, so the copy of the new store in it stays`,
        remedy: `remove ${join(stage.folder, stage.name)}; nothing needs it any more`,
      },
    ]
  }
}
