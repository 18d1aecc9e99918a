import { marked, readAs, rescueCommand } from './advice.js'
import type { Target } from './target.js'

/**
 * The sentence of a verb that works on the blocks of an overlay, for a target whose changes an OverlayFS keeps as files.
 *
 * @param type  the filesystem that the overlay file is, where it is no directory
 */
export const wholeFiles = (target: Target, type?: string): string =>
  `${type ? `this overlay is no dm-snapshot store but a file with the filesystem ${type}; in such a one ` : ''}an OverlayFS keeps the changes as whole files, and this verb works on the blocks of an overlay: ${marked(
    `liveos diff ${readAs(target)} --output changed.tar`,
  )} saves what was changed, ${marked(
    rescueCommand(target),
  )} copies files out, and the boot argument rd.live.overlay.reset empties the overlay`
