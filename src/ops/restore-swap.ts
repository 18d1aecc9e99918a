import { LiveError } from '../error.js'
import type { Folder } from '../host/folder.js'
import { NEW_SUFFIX, OLD_SUFFIX } from '../liveos/target.js'
import { removeFile, sharedChain } from './replaced-file.js'
import { type RestoreState, type RestoreStep, recordRestoreStep, removeRestoreState } from './restore-state.js'

/*
 * All new files wait as `.new`, verified. Ordered steps for each of them, every one on the medium before the next; the step
 * file says which is on its way, and only that one may be half done.
 *
 *   aside    the old file is linked as `.old` (on FAT renamed)       the old file, on FAT under `.old`
 *   naming   `.new` is renamed to the name, over the old one         the new file
 *   clearing the `.old` of all of them are removed
 *
 * On FAT a cut in the middle of a rename leaves two names on one cluster chain, of which fsck.vfat empties one. A file that is
 * to be empty has no chain, so two names of it share nothing: sizes tell these apart.
 */

/** A file of a restore in its folder. */
export interface SwapFile {
  readonly folder: Folder
  readonly name: string
  /** bytes of the new one */
  readonly size: number
}

/** bytes of a file; undefined where there is none */
const sizeOf = async (folder: Folder, name: string): Promise<number | undefined> => {
  const facts = await folder.facts(name)
  return facts?.kind === 'file' ? facts.size : undefined
}

const lost = ({ folder, name }: SwapFile): LiveError =>
  new LiveError(
    'REFUSED',
    `${folder.path}: ${name}, ${name}${NEW_SUFFIX} and ${name}${OLD_SUFFIX} are not as a restore leaves them. Nothing more was changed; look at them yourself`,
    { path: folder.path, name },
  )

const putAside = async ({ folder, name }: SwapFile): Promise<void> => {
  const oldName = name + OLD_SUFFIX
  const [named, kept] = [await sizeOf(folder, name), await sizeOf(folder, oldName)]
  if (named === undefined) return
  if (folder.traits.atomicRename) {
    if (kept !== undefined) return
    await folder.link(name, oldName)
    return folder.sync()
  }
  if (kept !== undefined) {
    if (named > 0 && kept > 0) throw sharedChain(folder, oldName, name)
    // emptied, or never more than empty: the other name has all there is
    if (kept > 0) return removeFile(folder, name)
    await removeFile(folder, oldName)
  }
  await folder.rename(name, oldName)
  await folder.sync()
}

const giveName = async (file: SwapFile): Promise<void> => {
  const { folder, name, size } = file
  const newName = name + NEW_SUFFIX
  const [named, fresh] = [await sizeOf(folder, name), await sizeOf(folder, newName)]
  if (fresh === undefined) {
    if (named === undefined) throw lost(file)
    return
  }
  if (!folder.traits.atomicRename && named !== undefined) {
    if (named > 0 && fresh > 0) throw sharedChain(folder, newName, name)
    if (fresh === 0) {
      if (named !== size) throw lost(file)
      return removeFile(folder, newName)
    }
    await removeFile(folder, name)
  }
  if (fresh !== size) throw lost(file)
  await folder.rename(newName, name)
  await folder.sync()
}

/**
 * Gives all new files their names and removes the old ones, from the step on that a run before this one came to.
 *
 * @param home  the folder of the step file
 * @throws REFUSED  two names may be on one cluster chain, or the files are not as any cut leaves them; IO
 */
export const swapAll = async (
  home: Folder,
  files: readonly SwapFile[],
  state: Pick<RestoreState, 'step' | 'index' | 'owner'>,
): Promise<void> => {
  const { owner } = state
  let { step, index } = state
  const record = (next: RestoreStep, at: number): Promise<void> => {
    step = next
    index = at
    return recordRestoreStep(home, { step, index, owner })
  }
  while (step !== 'clearing') {
    const file = files[index]
    if (!file) {
      await record('clearing', 0)
      break
    }
    if (step === 'aside') {
      await putAside(file)
      await record('naming', index)
    }
    await giveName(file)
    if (index + 1 < files.length) await record('aside', index + 1)
    else await record('clearing', 0)
  }
  for (const { folder, name } of files) await removeFile(folder, name + OLD_SUFFIX)
  await removeRestoreState(home)
}
