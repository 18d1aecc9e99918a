import { setTimeout as pause } from 'node:timers/promises'
import { SECTOR } from '../block/snapshot/layout.js'
import type { Finding } from '../finding.js'
import { marked } from '../liveos/advice.js'
import type { LiveOverlay, LiveSource } from './status-live.js'
import type { OverlayStatus } from './status-overlay.js'

/** How the kernel's count and the list on the medium stand to each other. */
export type Agreement = 'same' | 'kernel ahead' | 'file ahead' | 'other size' | 'not comparable'

type Counted = Pick<OverlayStatus, 'state' | 'allocatedSectors' | 'totalSectors' | 'metadataSectors'>

/**
 * Holds an overlay file, read between two looks at the kernel's count, against that. A chunk counts in the kernel when it is
 * set aside, and in the list when it is written, so a busy system is ahead of its file by a little, for a moment.
 */
export const agreement = (before: LiveOverlay, file: Counted, after: LiveOverlay): Agreement => {
  if (after.state === 'ok' && file.state === 'invalid') return 'file ahead'
  if (before.allocatedSectors === null || after.allocatedSectors === null || file.allocatedSectors === null)
    return 'not comparable'
  if (file.totalSectors !== after.totalSectors) return 'other size'
  const within = (name: 'allocatedSectors' | 'metadataSectors'): boolean =>
    file[name]! >= before[name]! && file[name]! <= after[name]!
  if (within('allocatedSectors') && within('metadataSectors')) return 'same'
  return file.allocatedSectors > after.allocatedSectors || file.metadataSectors! > after.metadataSectors!
    ? 'file ahead'
    : 'kernel ahead'
}

/** What was read, and the kernel's word on it. */
export interface Looked {
  readonly overlay: OverlayStatus
  /** of the last reading */
  readonly findings: readonly Finding[]
  readonly live: LiveOverlay
  readonly agrees: Agreement
}

const TRIES = 5
const PAUSE_MS = 100

/** Reads the overlay and asks the kernel, again where they differ: what is still being written settles. */
export const lookTwice = async (
  source: LiveSource,
  read: (findings: Finding[]) => Promise<OverlayStatus>,
): Promise<Looked> => {
  let before: LiveOverlay | undefined
  for (let tries = 1; ; tries++) {
    const findings: Finding[] = []
    const overlay = await read(findings)
    const live = await source.ask()
    const isOwn = live.keptIn === 'overlay of the stick'
    const agrees = isOwn ? agreement(before ?? live, overlay, live) : 'not comparable'
    if (agrees === 'same' || agrees === 'not comparable' || tries === TRIES) return { overlay, findings, live, agrees }
    before = live
    await pause(PAUSE_MS)
  }
}

/** How full an overlay is worth a word. */
export interface Thresholds {
  readonly warnAt?: number | undefined
  readonly criticalAt?: number | undefined
}

/** What the kernel's word on an overlay means to the one who uses it. @param target  as a command line names it */
export const liveFindings = (
  { overlay, live, agrees }: Pick<Looked, 'overlay' | 'live' | 'agrees'>,
  target: string,
  { warnAt = 80, criticalAt = 95 }: Thresholds,
): readonly Finding[] => {
  const found: Finding[] = []
  const where = live.store ?? live.name
  const add = (code: string, severity: Finding['severity'], message: string, more: Partial<Finding> = {}): void => {
    found.push({ code, severity, where, message, ...more })
  }
  const isOwn = live.keptIn === 'overlay of the stick'
  if (live.state === 'overflow')
    add('OVERLAY_OVERFLOWED', 'error', `the overlay has overflowed (${live.name}): what is written now is lost`, {
      remedy: isOwn
        ? 'copy what matters to another disk, switch off, and make room from another system before the next start: liveos recover TARGET, or liveos grow TARGET --size +512M'
        : 'copy what matters to another disk',
    })
  if (live.state === 'invalid')
    add('OVERLAY_GIVEN_UP', 'error', `the kernel has given the overlay up (${live.name}) and reads no more from it`, {
      remedy: isOwn ? "switch off, and run 'liveos recover TARGET' from another system" : 'start anew',
    })
  if (live.state === 'merge failed')
    add('OVERLAY_MERGE_FAILED', 'error', `merging the overlay into its base has failed (${live.name})`)
  if (agrees === 'other size') {
    const [ofFile, ofKernel] = [overlay.totalSectors!, live.totalSectors!]
    const sectors = { expected: ofKernel, found: ofFile }
    if (ofFile > ofKernel)
      add('OVERLAY_SIZE_UNTOLD', 'warning', 'the overlay file is longer than the kernel knows', {
        ...sectors,
        remedy: `as root: ${marked(`liveos grow ${target} --size ${overlay.size!}`)}, which tells the kernel (losetup -c ${live.loop ?? ''})`,
      })
    else
      add(
        'OVERLAY_CUT',
        'error',
        'the overlay file is shorter than the kernel knows: what goes behind its end is lost',
        {
          ...sectors,
          remedy: `as root, at once: liveos grow ${target} --size ${ofKernel * SECTOR}`,
        },
      )
  }
  if (agrees === 'kernel ahead' || agrees === 'file ahead')
    add(
      'OVERLAY_DISAGREES',
      'warning',
      agrees === 'kernel ahead'
        ? 'the kernel counts more than the list in the overlay file has: chunks whose writing has not ended, or has failed'
        : 'the list in the overlay file has more than the kernel counts: something else has written to the file',
      { expected: live.dmsetup ?? '', found: overlay.dmsetup ?? '' },
    )
  if (live.keptIn === 'memory') {
    const unused = overlay.state !== 'none' ? '; the overlay of the stick is not used, or only read' : ''
    add('OVERLAY_IN_MEMORY', 'note', `changes go to memory and are lost at power-off${unused}`)
  } else if (live.keptIn === 'another place' && overlay.state !== 'none')
    add('OVERLAY_ELSEWHERE', 'note', `changes go to ${where}, not to the overlay of the stick`)
  if (isOwn && live.state === 'unknown')
    add(
      'OVERLAY_IN_USE',
      'note',
      `the overlay is in use by ${live.loop ?? live.name}: root can ask the kernel for its count`,
    )
  // how full the stick's own overlay is was told from its file or directory
  if (live.room && live.state === 'ok' && !(isOwn && overlay.percent !== null)) {
    const { percent, limitedBy, leftBytes } = live.room
    const said = `what changes go to is ${percent} % full: ${leftBytes} bytes are left${limitedBy === 'memory' ? ' in memory' : ''}`
    const remedy = limitedBy === 'memory' ? 'close programs and remove files' : 'remove files'
    if (percent >= criticalAt) add('OVERLAY_CRITICAL', 'error', said, { remedy })
    else if (percent >= warnAt) add('OVERLAY_FILLING', 'warning', said, { remedy })
  }
  return found
}
