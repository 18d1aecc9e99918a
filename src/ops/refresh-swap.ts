import type { Device } from '../block/device.js'
import { openFile } from '../block/file.js'
import { readStore } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'
import type { Folder } from '../host/folder.js'
import { openBase } from '../liveos/stack.js'
import { NEW_SUFFIX, OLD_SUFFIX, type TargetFile } from '../liveos/target.js'
import { isSameImage, markOfName, type RefreshState, recordStep, removeLeftover, removeState } from './refresh-state.js'
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
 * May be called again after a cut at any point.
 *
 * @throws REFUSED  what is there is neither the old nor the new image, CORRUPT, IO
 */
export const swapIn = async (folder: Folder, base: string, { fresh, old }: RefreshState): Promise<void> => {
  const fault = (what: string) =>
    new LiveError(
      'REFUSED',
      `${folder.path}: ${what}. Nothing more was changed; look at ${base}, ${base}${NEW_SUFFIX} and ${base}${OLD_SUFFIX} yourself`,
      { path: folder.path },
    )
  const newName = base + NEW_SUFFIX
  const oldName = base + OLD_SUFFIX
  const [now, waiting, kept] = [
    await markOfName(folder, base),
    await markOfName(folder, newName),
    await markOfName(folder, oldName),
  ]
  if (isSameImage(now, fresh)) {
    // done before the cut; on FAT its two names may still be on one chain
    if (waiting) await removeLeftover(folder, base, NEW_SUFFIX)
    return
  }
  if (!isSameImage(waiting, fresh)) throw fault(`${newName} is not the image that was verified`)
  if (now && !isSameImage(now, old)) throw fault(`${base} is neither the old nor the new image`)
  if (kept && !isSameImage(kept, old)) throw fault(`${oldName} is not the old image`)
  if (now && folder.traits.atomicRename) {
    if (!kept) {
      await folder.link(base, oldName)
      await folder.sync()
    }
  } else if (now) {
    // both names of the old image on one chain: only fsck can tell them apart again
    if (kept) await removeLeftover(folder, base, OLD_SUFFIX)
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
 * medium before the next; may be called again after a cut at any point.
 *
 * @param verified  the overlay is the very one that was merged and compared; otherwise it is compared again here
 */
export const clearUp = async (
  folder: Folder,
  base: string,
  state: RefreshState,
  overlay: TargetFile | undefined,
  verified: boolean,
  stage: Folder | undefined,
): Promise<Cleared> => {
  let readBack: Cleared['readBack'] = null
  const mayReset = overlay !== undefined && (verified || (await isMerged(folder, base, overlay)))
  if (mayReset) readBack = await clearOverlay(overlay.folder, overlay.name)
  if (!state.keepOld) await removeLeftover(folder, base, OLD_SUFFIX)
  if (state.stage && stage && (await stage.facts(state.stage.name))) {
    await stage.unlink(state.stage.name)
    await stage.sync()
  }
  await removeState(folder, base)
  return { overlayReset: mayReset, readBack }
}

/** True where every chunk of the overlay equals the base, so that emptying the overlay changes nothing. */
const isMerged = async (folder: Folder, base: string, overlay: TargetFile): Promise<boolean> => {
  const [baseFile, overlayFile] = [await folder.open(base), await openFile(overlay.path)]
  try {
    const { origin } = await openBase(baseFile)
    const store = await readStore(overlayFile, { originSize: origin.size })
    if (store.state === 'invalid') return false
    const { chunkSize } = store
    for (const { oldChunk, newChunk } of store.exceptions.range()) {
      const length = Math.min(chunkSize, origin.size - oldChunk * chunkSize)
      if (!(await isEqual(origin, oldChunk * chunkSize, overlayFile, newChunk * chunkSize, length))) return false
    }
    return true
  } catch (error) {
    if (error instanceof LiveError && error.code === 'CORRUPT') return false
    throw error
  } finally {
    await overlayFile.close()
    await baseFile.close()
  }
}

const isEqual = async (a: Device, aOffset: number, b: Device, bOffset: number, length: number): Promise<boolean> =>
  Buffer.compare(await a.read(aOffset, length), await b.read(bOffset, length)) === 0

/** Records that the new image is complete, then swaps it in and clears up. From here on nothing is cancelled. */
export const finish = async (
  folder: Folder,
  base: string,
  state: RefreshState,
  overlay: TargetFile | undefined,
  verified: boolean,
  stage: Folder | undefined,
): Promise<Cleared> => {
  if (state.step !== 'resetting') {
    await swapIn(folder, base, state)
    await recordStep(folder, base, 'resetting', state.fresh)
  }
  return clearUp(folder, base, state, overlay, verified, stage)
}
