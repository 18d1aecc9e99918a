import { dirname } from 'node:path'
import { openFile } from '../block/file.js'
import { isStore } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'
import { factsOf } from '../host/folder.js'
import { mediumOf } from '../host/medium.js'
import {
  findTarget,
  hostFile,
  RESET_SUFFIX,
  type TargetInput,
  UNDO_SUFFIX,
  type WritableTarget,
} from '../liveos/target.js'
import { checkNoCompact } from './compact-state.js'
import { checkNoRefresh } from './refresh-state.js'

/**
 * The target of a verb that wants an overlay and can do without its base: a stick, a pair, or an overlay that is itself a
 * file or a partition. Of the last `base` is the overlay too.
 *
 * @throws NOT_FOUND, USAGE, READ_ONLY
 */
export const findOverlay = async (input: TargetInput): Promise<WritableTarget> => {
  const { target, base } = input
  if (target === undefined || base !== undefined) return findTarget(input)
  const facts = await factsOf(target)
  if (!facts || facts.kind === 'directory') return findTarget(input)
  const device = await openFile(target)
  try {
    if (!(await isStore(device))) return await findTarget(input)
  } finally {
    await device.close()
  }
  const overlay = await hostFile(target, 'overlay')
  return {
    name: target,
    stick: undefined,
    medium: await mediumOf(overlay.facts.kind === 'file' ? overlay.path : dirname(overlay.path)),
    base: overlay,
    overlay,
    overlayFoundBy: 'named',
    expectedOverlay: undefined,
    home: undefined,
    overlayDirectory: undefined,
  }
}

/**
 * Refuses an overlay that another verb works on or was cut short on, or whose last change can still be taken back.
 *
 * @param own  the overlay whose compaction may have been cut short: the caller goes on with that
 * @throws REFUSED
 */
export const checkNothingBeside = async (target: WritableTarget, own?: string): Promise<void> => {
  const { name, base, overlay } = target
  const refuse = (path: string, sentence: string): LiveError => new LiveError('REFUSED', sentence, { path })
  await checkNoRefresh(target)
  await checkNoCompact(base.folder, name, own)
  if (overlay && overlay.folder.path !== base.folder.path) await checkNoCompact(overlay.folder, name, own)
  if (!overlay) return
  if (await overlay.folder.facts(overlay.name + RESET_SUFFIX))
    throw refuse(overlay.path, `a reset was cut short here: run 'liveos reset ${name}' first`)
  if (await overlay.folder.facts(overlay.name + UNDO_SUFFIX))
    throw refuse(
      overlay.path,
      `${overlay.name}${UNDO_SUFFIX} is there, by which what was done to this overlay can be taken back: run 'liveos undo ${name}', or remove that file if the overlay is to stay as it is`,
    )
}
