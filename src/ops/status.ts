import type { Device } from '../block/device.js'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import { checkExt4Size, readExt4Superblock } from '../fs/ext4/superblock.js'
import { isHostFolder, type OpenedFile } from '../host/folder.js'
import { calledAs } from '../liveos/advice.js'
import { type OpenTarget, openTarget } from '../liveos/open-target.js'
import { type Base, openBase } from '../liveos/stack.js'
import type { Target, TargetFile, TargetInput } from '../liveos/target.js'
import { attached, leftovers } from './status-leftovers.js'
import { findLive, type LiveOverlay } from './status-live.js'
import { liveFindings, lookTwice, type Thresholds } from './status-live-check.js'
import { runningStatus, worstOf } from './status-live-running.js'
import { describe, NO_OVERLAY, type OverlayStatus, opened, overlayStatus } from './status-overlay.js'

export type { OverlayState, OverlayStatus } from './status-overlay.js'

export interface BaseStatus {
  readonly path: string
  /** bytes of the file */
  readonly size: number
  readonly kind: 'squashfs' | 'raw'
  /** such as xz; null where it is not compressed */
  readonly compressor: string | null
  readonly blockSize: number | null
  /** bytes of the root filesystem */
  readonly rootSize: number
  readonly rootType: string | null
  readonly rootLabel: string | null
}

/** What `liveos status` tells. */
export interface Status {
  readonly target: string
  readonly liveDir: string | null
  readonly medium: {
    readonly type: string
    readonly mountPoint: string
    readonly label: string | null
    readonly uuid: string | null
    readonly readOnly: boolean
    readonly freeBytes: number
  }
  readonly overlay: OverlayStatus
  /** where the running kernel puts changes to this system, as it tells it; null where none is running from this target */
  readonly live: LiveOverlay | null
  readonly base: BaseStatus | null
  readonly home: { readonly path: string; readonly size: number; readonly type: string | null } | null
  /** worst of the findings: ok, or 80 % full, or 95 % full and anything that loses work */
  readonly level: 'ok' | 'warning' | 'critical'
  readonly findings: readonly Finding[]
}

/** `warnAt` and `criticalAt`: percent from which an overlay is worth a warning, and is critical; 80 and 95 if left out. */
export interface StatusInput extends TargetInput, Thresholds {}

/**
 * Looks at a stick's overlay, base and home. Reads files only, so it works on a stick in use.
 *
 * @throws NOT_FOUND, USAGE  only where there is no target; damage is told as findings
 */
export const readStatus = async (input: StatusInput): Promise<Status> => {
  let found: OpenTarget
  try {
    found = await openTarget(input)
  } catch (error) {
    const status = await runningStatus(input, NO_OVERLAY)
    if (status) return status
    throw error
  }
  const { target, close } = found
  const findings: Finding[] = []
  const open: OpenedFile[] = []
  try {
    const base = await baseStatus(target, findings, open)
    const read = (told: Finding[]) => overlayStatus(target, base?.rootSize, told, open, input)
    const source = isHostFolder(target.base.folder) ? await findLive(target) : undefined
    const looked = source && (await lookTwice(source, read))
    const overlay = looked?.overlay ?? (await read(findings))
    if (looked) findings.push(...looked.findings, ...liveFindings(looked, calledAs(target), input))
    else await attached(target, findings)
    await leftovers(target, findings)
    const { type, mountPoint, label, uuid, readOnly } = target.medium
    return {
      target: target.name,
      liveDir: target.stick?.liveDir ?? null,
      medium: {
        type,
        mountPoint,
        label: label ?? null,
        uuid: uuid ?? null,
        readOnly,
        freeBytes: await target.base.folder.freeBytes(),
      },
      overlay,
      live: looked?.live ?? null,
      base,
      home: target.home ? await homeStatus(target.home, open) : null,
      level: worstOf(findings),
      findings,
    }
  } finally {
    for (const device of open) await device.close()
    await close()
  }
}

const baseStatus = async (target: Target, findings: Finding[], open: OpenedFile[]): Promise<BaseStatus | null> => {
  const { path, facts } = target.base
  let base: Base
  try {
    base = await openBase(await opened(target.base, open))
  } catch (error) {
    const unsupported = isLiveError(error) && error.code === 'UNSUPPORTED'
    findings.push({
      code: unsupported ? 'BASE_UNSUPPORTED' : 'BASE_DAMAGED',
      severity: unsupported ? 'warning' : 'error',
      where: path,
      message: describe(error),
      ...(unsupported ? {} : { remedy: 'copy the base image to the stick again from where it came' }),
    })
    return null
  }
  const rootType = await detectFs(base.origin).catch(() => undefined)
  let rootLabel: string | null = null
  let extType: string | undefined
  if (rootType === 'ext4') {
    try {
      const superblock = await readExt4Superblock(base.origin)
      rootLabel = superblock.label
      extType = superblock.type
      checkExt4Size(superblock, base.origin)
    } catch (error) {
      findings.push({
        code: 'ROOT_DAMAGED',
        severity: 'error',
        where: path,
        message: describe(error),
        remedy: 'copy the base image to the stick again from where it came',
      })
    }
  }
  const squashfs = base.squashfs?.fs
  return {
    path,
    size: facts.size,
    kind: squashfs ? 'squashfs' : 'raw',
    compressor: squashfs?.compressor.name ?? null,
    blockSize: squashfs?.superblock.block_size ?? null,
    rootSize: base.origin.size,
    rootType: extType ?? rootType ?? null,
    rootLabel,
  }
}

const homeStatus = async (home: TargetFile, open: OpenedFile[]): Promise<Status['home']> => {
  const device: Device = await opened(home, open)
  return { path: home.path, size: home.facts.size, type: (await detectFs(device).catch(() => undefined)) ?? null }
}
