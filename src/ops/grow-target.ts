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
  STATE_SUFFIX,
  type TargetInput,
  UNDO_SUFFIX,
  type WritableTarget,
} from '../liveos/target.js'

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

/** @throws REFUSED  another verb was cut short on this overlay, or what it did can still be taken back */
export const checkNothingBeside = async ({ name, base, overlay }: WritableTarget): Promise<void> => {
  const refuse = (path: string, sentence: string): LiveError => new LiveError('REFUSED', sentence, { path })
  const again = (verb: string) => `a ${verb} was cut short here: run 'liveos ${verb} ${name}' first`
  if (await base.folder.facts(base.name + STATE_SUFFIX)) throw refuse(base.path, again('refresh'))
  if (!overlay) return
  if (await overlay.folder.facts(overlay.name + RESET_SUFFIX)) throw refuse(overlay.path, again('reset'))
  if (await overlay.folder.facts(overlay.name + UNDO_SUFFIX))
    throw refuse(
      overlay.path,
      `${overlay.name}${UNDO_SUFFIX} is there, by which what was done to this overlay can be taken back: run 'liveos undo ${name}', or remove that file if the overlay is to stay as it is`,
    )
}
