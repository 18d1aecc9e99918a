import { LiveError } from '../error.js'
import type { Folder } from '../host/folder.js'
import { NEW_SUFFIX, OLD_SUFFIX } from '../liveos/target.js'
import type { CompactState } from './compact-state.js'
import { sharedChain } from './replaced-file.js'

/** What happens to what a compaction left that was cut short. */
export type CompactResume = 'start again' | 'put the old one back' | 'copy the staged one' | 'finish'

/**
 * What is to be done, told by the step and by the names alone: a boot between the cut and now may have written to whichever store
 * had the name, and that one counts. Files of no bytes are what fsck.vfat leaves of one of two names on one cluster chain.
 *
 * @throws REFUSED  two names may be on one chain, or the files are not as any cut leaves them
 */
export const resumeOf = async (
  folder: Folder,
  overlay: string,
  state: CompactState | 'unreadable',
): Promise<CompactResume> => {
  const { atomicRename } = folder.traits
  const has = async (name: string): Promise<boolean> => {
    const facts = await folder.facts(name)
    return facts?.kind === 'file' && (atomicRename || facts.size > 0)
  }
  const [named, fresh, old] = [await has(overlay), await has(overlay + NEW_SUFFIX), await has(overlay + OLD_SUFFIX)]
  const lost = (): LiveError =>
    new LiveError(
      'REFUSED',
      `${folder.path}: ${overlay}, ${overlay}${NEW_SUFFIX} and ${overlay}${OLD_SUFFIX} are not as a compaction leaves them. Nothing was changed; look at them yourself`,
      { path: folder.path },
    )
  if (state === 'unreadable' || state.step === 'writing') {
    if (!named) throw lost()
    return 'start again'
  }
  const { step, stage } = state
  if (step === 'rewriting') return named ? 'start again' : 'copy the staged one'
  if (step === 'clearing') {
    if (!named) throw lost()
    return 'finish'
  }
  if (step === 'naming' || stage) {
    // only the rename of the new one to the name is on its way
    if (named && fresh && !atomicRename) throw sharedChain(folder, overlay + NEW_SUFFIX, overlay)
    if (named !== fresh) return 'finish'
    if (named) throw lost()
    if (old) return 'put the old one back'
    throw lost()
  }
  if (atomicRename) {
    if (!named) throw lost()
    return fresh ? 'start again' : 'finish'
  }
  if (named && old) throw sharedChain(folder, overlay + OLD_SUFFIX, overlay)
  if (named) return 'start again'
  if (old) return 'put the old one back'
  throw lost()
}
