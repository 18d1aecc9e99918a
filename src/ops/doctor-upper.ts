import { isLiveError } from '../error.js'
import type { Target } from '../liveos/target.js'
import { readUpperUsage } from '../liveos/usage/upper.js'
import { openOverlaid } from '../liveos/view.js'
import type { Tell } from './doctor-overlay.js'

/**
 * Looks at every name that an OverlayFS keeps, and how it lies over the base; contents are not read.
 *
 * @throws CANCELLED
 */
export const checkUpper = async (target: Target, tell: Tell, signal: AbortSignal | undefined): Promise<void> => {
  try {
    const overlaid = await openOverlaid(target)
    if (!overlaid) return
    try {
      const { owners, deletions, findings } = await readUpperUsage(overlaid.fs, signal)
      for (const { code, severity, where, message, remedy } of [...overlaid.upper.findings, ...findings])
        tell(code, severity, where, message, remedy === undefined ? {} : { remedy })
      tell(
        'OVERLAY_WHOLE_FILES',
        'note',
        overlaid.upper.path,
        `an OverlayFS keeps whole files here: ${owners.length} with data, and ${deletions} deleted names of the base; names and attributes were read, contents were not`,
      )
    } finally {
      await overlaid.close()
    }
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    const path = target.overlayDirectory ?? target.overlay?.path ?? target.name
    tell('OVERLAY_UNREADABLE', 'warning', path, error.message)
  }
}
