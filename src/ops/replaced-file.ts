import { LiveError } from '../error.js'
import type { Folder } from '../host/folder.js'
import { NEW_SUFFIX, OLD_SUFFIX } from '../liveos/target.js'

/** What is asked before a name is changed; each throws where what is there is not what it should be. */
export interface SwapChecks {
  /** the file that has the name, where one has it and the new one has not got it yet */
  old(): Promise<void>
  /** the new file, which waits as `.new` */
  waiting(): Promise<void>
  /** the file that has the name, after a run before this one gave it */
  done(): Promise<void>
}

/**
 * Gives a new file that waits as `.new` its name. Ordered steps and the state after each; every one is on the medium before
 * the next.
 *
 * On filesystems with atomic renames (there is a file of the name at any moment):
 * 1. link the old as .old (one file under two names)    2. rename .new over the name (the new file, the old one as .old)
 *
 * On FAT, or where the old one has gone elsewhere (for a moment no file has the name):
 * 1. rename the old to .old    2. rename .new to the name
 *
 * How far a run before this one came is told by the names alone: without .new the swap is done. On FAT a cut in the middle of
 * a rename leaves its two names on one cluster chain; then there is a name too many.
 *
 * @param gone  no old file has the name, be it that there never was one or that it was moved elsewhere
 * @throws REFUSED  two names may be on one chain; IO, and what the checks throw
 */
export const swapNames = async (folder: Folder, name: string, gone: boolean, checks: SwapChecks): Promise<void> => {
  const newName = name + NEW_SUFFIX
  const oldName = name + OLD_SUFFIX
  const has = async (file: string): Promise<boolean> => (await folder.facts(file))?.kind === 'file'
  const kept = await has(oldName)
  const named = await has(name)
  if (!(await has(newName))) return checks.done()
  await checks.waiting()
  const { atomicRename } = folder.traits
  if (named && !atomicRename && (kept || gone)) throw sharedChain(folder, kept ? oldName : newName, name)
  if (named) await checks.old()
  if (named && atomicRename) {
    if (!kept) {
      await folder.link(name, oldName)
      await folder.sync()
    }
  } else if (named) {
    await folder.rename(name, oldName)
    await folder.sync()
  }
  await folder.rename(newName, name)
  await folder.sync()
}

/** The error of two names that a power cut may have left on one cluster chain. */
export const sharedChain = (folder: Folder, name: string, other: string): LiveError =>
  new LiveError(
    'REFUSED',
    `${name} and ${other} in ${folder.path} may share their clusters, as a power cut in the middle of a rename leaves them: unmount the stick, run 'fsck.${folder.traits.kind === 'exfat' ? 'exfat' : 'vfat'} -a' on its partition, mount it and run this again`,
    { name, other },
  )

/**
 * Removes a file that a run left, where it is there; gone from the medium when this returns, also where a run that was
 * killed had removed it. The caller knows that it shares its clusters with no other.
 */
export const removeFile = async (folder: Folder, name: string): Promise<void> => {
  if (await folder.facts(name)) await folder.unlink(name)
  await folder.sync()
}

/** Where two names were on one cluster chain, fsck.vfat leaves one of them without clusters: that one held nothing of its own. */
export const removeEmptied = async (folder: Folder, name: string): Promise<void> => {
  if (folder.traits.atomicRename) return
  for (const file of [name, name + OLD_SUFFIX, name + NEW_SUFFIX])
    if ((await folder.facts(file))?.size === 0) await removeFile(folder, file)
}
