import { openFile } from '../block/file.js'
import { isStore } from '../block/snapshot/store.js'
import { factsOf } from '../host/folder.js'
import { mediumOf } from '../host/medium.js'
import { overlayFile } from '../liveos/overlay-place.js'
import { findTarget, type HostFile, type TargetInput, type WritableTarget } from '../liveos/target.js'
import { isUnsized } from '../liveos/too-small.js'

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
    if (!(await isStore(device)) && !(await isUnsized(device))) return await findTarget(input)
  } finally {
    await device.close()
  }
  return aloneAs(target, await overlayFile(target, undefined))
}

/** An overlay that was named alone. */
export const aloneAs = async (name: string, overlay: HostFile): Promise<WritableTarget> => ({
  name,
  stick: undefined,
  medium: await mediumOf(overlay.facts.kind === 'file' ? overlay.path : overlay.folder.path),
  base: overlay,
  overlay,
  overlayFoundBy: 'named',
  expectedOverlay: undefined,
  home: undefined,
  overlayDirectory: undefined,
})
