import { LiveError } from '../error.js'
import type { Folder } from '../host/folder.js'
import { holdsOverlay } from '../liveos/holds-overlay.js'
import { openBase } from '../liveos/stack.js'
import { type HostFile, NEW_SUFFIX, OLD_SUFFIX, RESET_SUFFIX } from '../liveos/target.js'
import { type ImageMark, isSameImage, markOfName, type RefreshState, recordStep, removeState } from './refresh-state.js'
import { removeEmptied, removeFile, swapNames } from './replaced-file.js'
import { clearOverlay } from './reset.js'

/**
 * Gives the new image its name, see `swapNames`; on FAT, or where the old base has been staged away, the stick can't boot
 * between its two steps.
 *
 * @throws REFUSED  two names may be on one chain, or what is there is neither the old nor the new image; CORRUPT, IO
 */
export const swapIn = async (folder: Folder, base: string, { fresh, old, stage }: RefreshState): Promise<void> => {
  const newName = base + NEW_SUFFIX
  const expect = async (name: string, image: ImageMark | null, what: string): Promise<void> => {
    if (!isSameImage(await markOfName(folder, name), image))
      throw new LiveError(
        'REFUSED',
        `${folder.path}: ${name} is not ${what}. Nothing more was changed; look at ${base}, ${newName} and ${base}${OLD_SUFFIX} yourself`,
        { path: folder.path },
      )
  }
  await removeEmptied(folder, base)
  await swapNames(folder, base, stage !== null, {
    done: () => expect(base, fresh, 'the image that was verified'),
    waiting: () => expect(newName, fresh, 'the image that was verified'),
    old: () => expect(base, old, 'the old image'),
  })
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
  const [baseFile, overlayFile] = [await folder.open(base), await overlay.folder.open(overlay.name)]
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
