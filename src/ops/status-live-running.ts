import type { Finding } from '../finding.js'
import { openFolder } from '../host/folder.js'
import { mediumOf } from '../host/medium.js'
import type { OverlayStatus, Status, StatusInput } from './status.js'
import { findLive } from './status-live.js'
import { liveFindings } from './status-live-check.js'

/** A status by its findings: an error is critical. */
export const worstOf = (findings: readonly Finding[]): Status['level'] => {
  if (findings.some(({ severity }) => severity === 'error')) return 'critical'
  return findings.some(({ severity }) => severity === 'warning') ? 'warning' : 'ok'
}

/**
 * The status of a live system whose stick is not mounted any more, as one that was copied to memory at its start.
 *
 * @param none  the status of no overlay
 * @returns undefined where a target is named, or this is no live system
 */
export const runningStatus = async (input: StatusInput, none: OverlayStatus): Promise<Status | undefined> => {
  if (input.target !== undefined || input.base !== undefined) return undefined
  const live = await (await findLive(undefined))?.ask()
  if (!live) return undefined
  const target = 'the running system'
  const findings = liveFindings({ overlay: none, live, agrees: 'not comparable' }, target, input)
  const { type, mountPoint, label, uuid, readOnly } = await mediumOf('/')
  const freeBytes = await (await openFolder('/')).freeBytes()
  return {
    target,
    liveDir: null,
    medium: { type, mountPoint, label: label ?? null, uuid: uuid ?? null, readOnly, freeBytes },
    overlay: none,
    live,
    base: null,
    home: null,
    level: worstOf(findings),
    findings,
  }
}
