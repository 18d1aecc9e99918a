import type { Finding } from '../finding.js'
import { isHostFolder } from '../host/folder.js'
import { attachedLoop } from '../host/loops.js'
import { holderOf } from '../host/place-folder.js'
import { advised, marked } from '../liveos/advice.js'
import { RESET_SUFFIX, STATE_SUFFIX, type Target } from '../liveos/target.js'
import { compactsIn } from './compact-state.js'
import { restoresLeft } from './restore-left.js'

/** What verbs that were cut short have left. */
export const leftovers = async (target: Target, findings: Finding[]): Promise<void> => {
  const { folder, name } = target.base
  const again = (verb: string, then = ''): string =>
    advised(target, address => `run ${marked(`liveos ${verb} ${address}`)} again${then}`)
  if (await folder.facts(name + STATE_SUFFIX))
    findings.push({
      code: 'REFRESH_INTERRUPTED',
      severity: 'warning',
      where: folder.path,
      message: 'a refresh was cut short',
      remedy: again('refresh', ': it finishes or takes back what is left'),
    })
  if (target.overlay && (await target.overlay.folder.facts(target.overlay.name + RESET_SUFFIX)))
    findings.push({
      code: 'RESET_INTERRUPTED',
      severity: 'warning',
      where: target.overlay.path,
      message: 'a reset was cut short',
      remedy: again('reset'),
    })
  findings.push(...(await restoresLeft(target, 'warning')))
  for (const overlay of await compactsIn(folder))
    findings.push({
      code: 'COMPACT_INTERRUPTED',
      severity: 'warning',
      where: `${folder.path}/${overlay}`,
      message: `a compaction of ${overlay} was cut short`,
      remedy: again('compact'),
    })
}

/** An overlay that a loop device holds, and no snapshot that can be asked. */
export const attached = async ({ overlay }: Target, findings: Finding[]): Promise<void> => {
  const loop = overlay && isHostFolder(overlay.folder) && (await attachedLoop(holderOf(overlay)))
  if (loop)
    findings.push({
      code: 'OVERLAY_IN_USE',
      severity: 'note',
      where: overlay.path,
      message: `the overlay is in use by ${loop.name}: the kernel may be ahead of what the file shows`,
    })
}
