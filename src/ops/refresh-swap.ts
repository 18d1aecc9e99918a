import { openFile } from '../block/file.js'
import { LiveError } from '../error.js'
import type { Folder } from '../host/folder.js'
import { holdsOverlay } from '../liveos/holds-overlay.js'
import { openBase } from '../liveos/stack.js'
import { type HostFile, NEW_SUFFIX, OLD_SUFFIX, RESET_SUFFIX } from '../liveos/target.js'
import {
  isSameImage,
  markOfName,
  type RefreshState,
  recordStep,
  removeEmptied,
  removeFile,
  removeState,
  sharedChain,
} from './refresh-state.js'
import { clearOverlay } from './reset.js'

/**
 * Gives the new image its name. Ordered steps and the state after each; every one is on the medium before the next.
 *
 * On filesystems with atomic renames (the stick boots at any moment):
 * 1. link base as .old (the old base under two names)    2. rename .new over base (the new base, the old one as .old)
 *
 * On FAT, or where the old base has been staged away (the stick can't boot between the two):
 * 1. rename base to .old    2. rename .new to base
 *
 * How far a run before this one came is told by the names alone, as two images may look alike: without .new the swap is
 * done. On FAT a cut in the middle of a rename leaves its two names on one cluster chain; then there is a name too many.
 *
 * @throws REFUSED  two names may be on one chain, or what is there is neither the old nor the new image; CORRUPT, IO
 */
export const swapIn = async (folder: Folder, base: string, { fresh, old, stage }: RefreshState): Promise<void> => {
  const newName = base + NEW_SUFFIX
  const oldName = base + OLD_SUFFIX
  const fault = (what: string) =>
    new LiveError(
      'REFUSED',
      `${folder.path}: ${what}. Nothing more was changed; look at ${base}, ${newName} and ${oldName} yourself`,
      { path: folder.path },
    )
  await removeEmptied(folder, base)
  const now = await markOfName(folder, base)
  const waiting = await markOfName(folder, newName)
  const kept = await markOfName(folder, oldName)
  if (!waiting) {
    if (!isSameImage(now, fresh)) throw fault(`${base} is not the image that was verified`)
    return
  }
  if (!isSameImage(waiting, fresh)) throw fault(`${newName} is not the image that was verified`)
  const { atomicRename } = folder.traits
  if (now && !atomicRename && (kept || stage)) throw sharedChain(folder, kept ? oldName : newName, base)
  if (now && !isSameImage(now, old)) throw fault(`${base} is not the old image`)
  if (now && atomicRename) {
    if (!kept) {
      await folder.link(base, oldName)
      await folder.sync()
    }
  } else if (now) {
    await folder.rename(base, oldName)
    await folder.sync()
  }
  await folder.rename(newName, base)
  await folder.sync()
}

/** What clearing up came to. */
export interface Cleared {
  /** false where the overlay holds changes that the new base doesn't: then it is kept */
  readonly overlayReset: boolean
  readonly readBack: 'medium' | 'page cache' | null
}

/**
 * Ends a refresh: overlay reset → old base removed (unless kept) → staged copy removed → state file removed. Each is on the
 * medium before the next; may be called again after a cut at any point. The state is `resetting`, so both renames are on the
 * medium whole: no two names share a cluster chain any more.
 *
 * @param verified  the overlay is the very one that was merged and compared; otherwise it is compared again here
 * @throws REFUSED  the base is not the new image
 */
export const clearUp = async (
  folder: Folder,
  base: string,
  state: RefreshState,
  overlay: HostFile | undefined,
  verified: boolean,
  stage: Folder | undefined,
): Promise<Cleared> => {
  // Whoever put another image there after the cut has an old base beside it that may be the last good one.
  if (!isSameImage(await markOfName(folder, base), state.fresh))
    throw new LiveError(
      'REFUSED',
      `${base} in ${folder.path} is not the image that was verified. Nothing more was changed; look at ${base} and ${base}${OLD_SUFFIX} yourself`,
      { path: folder.path },
    )
  let readBack: Cleared['readBack'] = null
  const mayReset = overlay !== undefined && (verified || (await isMerged(folder, base, overlay)))
  if (mayReset) readBack = await clearOverlay(overlay.folder, overlay.name)
  // a cut reset may have been followed by a boot: what was saved then belongs to changes that the new base holds
  else if (overlay) await removeFile(overlay.folder, overlay.name + RESET_SUFFIX)
  if (!state.keepOld) await removeFile(folder, base + OLD_SUFFIX)
  if (state.stage && stage && !state.keepOld) await removeFile(stage, state.stage.name)
  await removeState(folder, base)
  return { overlayReset: mayReset, readBack }
}

/** True where the base already holds what the overlay does, so that emptying the overlay changes nothing. */
const isMerged = async (folder: Folder, base: string, overlay: HostFile): Promise<boolean> => {
  const [baseFile, overlayFile] = [await folder.open(base), await openFile(overlay.path)]
  try {
    return await holdsOverlay((await openBase(baseFile)).origin, overlayFile)
  } catch (error) {
    if (error instanceof LiveError && error.code === 'CORRUPT') return false
    throw error
  } finally {
    await overlayFile.close()
    await baseFile.close()
  }
}

/** Records that the new image is complete, then swaps it in and clears up. From here on nothing is cancelled. */
export const finish = async (
  folder: Folder,
  base: string,
  state: RefreshState,
  overlay: HostFile | undefined,
  verified: boolean,
  stage: Folder | undefined,
): Promise<Cleared> => {
  if (state.step !== 'resetting') {
    await swapIn(folder, base, state)
    await recordStep(folder, base, 'resetting', state)
  }
  return clearUp(folder, base, state, overlay, verified, stage)
}
