import type { Device } from '../block/device.js'
import { openPool } from '../bytes/pool.js'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import { closeAll, factsOf } from '../host/folder.js'
import { advised, canBeChanged, isOverlayApart, marked, readAs, typedAs } from '../liveos/advice.js'
import { type OpenTarget, openTarget } from '../liveos/open-target.js'
import { type Base, openBase } from '../liveos/stack.js'
import type { Target, TargetInput } from '../liveos/target.js'
import { type BootCheckup, checkBoot, withoutDoubles } from './doctor-boot.js'
import { checkHome, checkLeftovers, checkMedium } from './doctor-medium.js'
import { checkNames, checkOverlay, type OverlayCheckup, type Tell } from './doctor-overlay.js'
import { BASE_REMEDY, checkByProgram, checkRoot } from './doctor-root.js'
import { checkUpper } from './doctor-upper.js'
import { type Progress, progressing, type Report } from './progress.js'

export interface DoctorOptions {
  /**
   * Have the filesystem's own checker look at the root too: by itself where it is installed and needs no copy of the root; true:
   * on a copy as well; false: never
   */
  readonly fsck?: boolean | undefined
}

/** A verb that mends what was found; `chunkSectors` is for recover. */
export interface Remedy {
  readonly verb: 'refresh' | 'reset' | 'compact' | 'recover' | 'undo' | 'boot'
  readonly chunkSectors?: number
}

/** What doctor found. */
export interface Checkup {
  readonly verb: 'doctor'
  readonly target: string
  /** `unreadable`: the base can't be read, so nothing of the system can */
  readonly health: 'healthy' | 'findings' | 'unreadable'
  readonly base: { readonly path: string; readonly kind: 'squashfs' | 'raw' } | null
  readonly overlay: OverlayCheckup | null
  readonly rootType: string | null
  /** what the filesystem's own checker said; null where it was not asked */
  readonly fsck: { readonly program: string; readonly code: number; readonly words: string } | null
  /** boot configurations with what is to be changed in them, so that boots keep what they are to keep */
  readonly bootFixes: readonly { readonly path: string; readonly partition: number | null; readonly diff: string }[]
  readonly findings: readonly Finding[]
  /** what of it liveos can mend by itself, in this order */
  readonly remedies: readonly Remedy[]
}

/** Opens the target; where two overlays could be meant without one, and says so. */
const openPatient = async (
  input: TargetInput,
  tell: Tell,
  signal: AbortSignal | undefined,
): Promise<OpenTarget | undefined> => {
  try {
    return await openTarget(input, signal)
  } catch (error) {
    if (!isLiveError(error)) throw error
    if (error.code === 'NOT_FOUND' && error.data.interrupted === true) {
      tell('REFRESH_INTERRUPTED', 'error', String(error.data.path), error.message, {
        remedy: (await isDirectory(input))
          ? `liveos refresh ${typedAs(input)}`.trimEnd()
          : 'liveos refresh DIR, with the stick mounted at DIR',
      })
      return undefined
    }
    if (error.code !== 'USAGE' || !/holds several overlays/.test(error.message)) throw error
    tell('OVERLAY_AMBIGUOUS', 'error', input.target ?? '', error.message, {
      remedy: 'rename the one that is meant to the name that a boot looks for, and check it with --overlay',
    })
    return openTarget({ ...input, baseOnly: true }, signal)
  }
}

const MENDED: Readonly<Record<string, Remedy['verb']>> = {
  REFRESH_INTERRUPTED: 'refresh',
  RESET_INTERRUPTED: 'reset',
  COMPACT_INTERRUPTED: 'compact',
  OVERLAY_FULL: 'recover',
  OVERLAY_INVALID: 'recover',
  OVERLAY_TRUNCATED: 'recover',
  OVERLAY_TORN: 'recover',
  OVERLAY_STALE_AREA: 'recover',
  FSCK_ERRORS: 'recover',
  EXT4_CORRUPT: 'recover',
  EXT4_ERRORS: 'recover',
  ROOT_DAMAGED: 'recover',
}

/** Verbs that work on the overlay alone. */
const OF_OVERLAY: readonly Remedy['verb'][] = ['reset', 'compact', 'undo', 'recover']

const remediesOf = (findings: readonly Finding[], hasOverlay: boolean): Remedy[] => {
  const verbs = new Set<Remedy['verb']>()
  for (const { code, remedy } of findings) {
    const verb = code === 'CHANGE_INTERRUPTED' ? (/^liveos undo/.test(remedy ?? '') ? 'undo' : 'recover') : MENDED[code]
    if (verb && (hasOverlay || !OF_OVERLAY.includes(verb))) verbs.add(verb)
  }
  // it refuses to choose between these changes and a check
  if (findings.some(({ code }) => code === 'XFS_LOG_DIRTY')) verbs.delete('recover')
  const order: readonly Remedy['verb'][] = ['refresh', 'reset', 'compact', 'undo', 'recover']
  return order.filter(verb => verbs.has(verb)).map(verb => ({ verb }))
}

/** True where a mounted stick was named, or the running system is meant. */
const isDirectory = async ({ target, base }: TargetInput): Promise<boolean> =>
  base === undefined && (target === undefined || (await factsOf(target).catch(() => undefined))?.kind === 'directory')

/** The target as verbs that write take it: a base that was named without --base is one of a pair. */
export const remedyInput = async (input: TargetInput): Promise<TargetInput> => {
  const same = { ...input, baseOnly: undefined }
  if (input.base !== undefined || (await isDirectory(input))) return same
  const { target, close } = await openTarget(same)
  await close()
  return isOverlayApart(target) ? same : { base: input.target, overlay: input.overlay }
}

/** A base that can be read but holds nothing is as bad as one that can't. */
const checkRawBase = async ({ squashfs, origin, file }: Base, tell: Tell): Promise<boolean> => {
  if (squashfs) return true
  const type = await detectFs(origin).catch((error: unknown) => {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return undefined
  })
  if (type !== undefined) return true
  tell(
    'BASE_DAMAGED',
    'error',
    file.path,
    origin.size === 0 ? `${file.path} is empty` : `${file.path} is neither a squashfs nor any known filesystem`,
    { found: origin.size, remedy: BASE_REMEDY },
  )
  return false
}

interface Looked {
  readonly base: Checkup['base']
  readonly overlay: OverlayCheckup | null
  readonly rootType: string | null
  readonly fsck: Checkup['fsck']
}

const isRemote = ({ target = '' }: TargetInput): boolean => /^https?:/.test(target)

const look = async (
  target: Target,
  input: TargetInput,
  { fsck }: DoctorOptions,
  tell: Tell,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Looked> => {
  const pool = openPool()
  const open: Device[] = []
  try {
    const baseFile = await target.base.folder.open(target.base.name)
    open.push(baseFile)
    let base: Base | undefined
    try {
      const opened = await openBase(baseFile, pool)
      if (await checkRawBase(opened, tell)) base = opened
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      const known = error.code === 'UNSUPPORTED'
      tell(known ? 'BASE_UNSUPPORTED' : 'BASE_DAMAGED', known ? 'warning' : 'error', target.base.path, error.message, {
        ...(known ? {} : { remedy: BASE_REMEDY }),
      })
    }
    await checkUpper(target, tell, signal)
    let overlay: OverlayCheckup | null = null
    let root = target.overlay ? undefined : base?.origin
    if (target.overlay) {
      const file = await target.overlay.folder.open(target.overlay.name)
      open.push(file)
      const found = await checkOverlay(target, file, base?.origin, tell)
      overlay = found.checkup
      root = found.root
    }
    if (!base || !root)
      return {
        base: base ? { path: baseFile.path, kind: base.squashfs ? 'squashfs' : 'raw' } : null,
        overlay,
        rootType: null,
        fsck: null,
      }
    const place = {
      base,
      where: target.overlay?.path ?? target.base.path,
      address: readAs(target),
      remedy: target.overlay ? advised(target, address => `liveos recover ${address}`) : BASE_REMEDY,
      logRemedy: target.overlay
        ? advised(
            target,
            address =>
              `${overlay?.damage === 'clean' ? 'boot' : `${marked(`liveos recover ${address} --no-fsck`)}, then boot`} the stick once, which brings them in; ${marked(`liveos recover ${address} --drop-log`)} throws them away`,
          )
        : 'mount it once on a kernel, which brings them in',
      tell,
    }
    const { type, shown } = await checkRoot(root, place)
    // of what is far away it would fetch a good part
    const asked = fsck ?? !isRemote(input)
    const by = {
      copy: fsck === true,
      input: { ...input, baseOnly: target.overlay === undefined },
      report,
      signal,
    }
    const run = asked && shown && type ? await checkByProgram(shown, type, place, by) : undefined
    return {
      base: { path: baseFile.path, kind: base.squashfs ? 'squashfs' : 'raw' },
      overlay,
      rootType: type,
      fsck: run ? { program: run.program, code: run.code, words: run.words } : null,
    }
  } finally {
    await pool.close()
    await closeAll(open)
  }
}

/** A change that was cut short has itself marked the overlay invalid, while it was at it. */
const withoutHold = (findings: readonly Finding[]): readonly Finding[] =>
  findings.some(({ code }) => code === 'CHANGE_INTERRUPTED')
    ? findings.filter(({ code }) => code !== 'OVERLAY_INVALID')
    : findings

/** What is wrong with its boots; a stick that can't be searched for them is told of otherwise. */
const bootOf = async (input: TargetInput, tell: Tell): Promise<BootCheckup> => {
  try {
    return await checkBoot(input, tell)
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    tell('BOOT_NOT_CHECKED', 'note', input.target ?? '', `how it boots was not looked at: ${error.message}`)
    return { fixes: [], usedOverlays: [], codes: [] }
  }
}

/**
 * Looks for all that may be wrong with a target: boots, names, leftovers, base, overlay, the filesystem that they show together, home
 * image and stick. Reads only. Without `fsck` no file's content is read.
 *
 * @throws NOT_FOUND, USAGE  there is no target
 * @throws IO, NO_SPACE, CANCELLED
 */
export async function* runDoctor(
  input: TargetInput,
  options: DoctorOptions = {},
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Progress, Checkup> {
  return yield* progressing(async report => {
    const findings: Finding[] = []
    const tell: Tell = (code, severity, where, message, more = {}) =>
      void findings.push({ code, severity, where, message, ...more })
    const name = input.target ?? input.base ?? ''
    const opened = await openPatient(input, tell, signal)
    let looked: Looked = { base: null, overlay: null, rootType: null, fsck: null }
    if (opened)
      try {
        const { target } = opened
        await checkLeftovers(target, tell)
        await checkNames(target, tell)
        looked = await look(target, input, options, tell, report, signal)
        await checkHome(target, tell)
        await checkMedium(target, input, tell)
      } finally {
        await opened.close()
      }
    const boot = await bootOf(input, tell)
    findings.splice(0, findings.length, ...withoutHold(withoutDoubles(findings, boot)))
    const attention = findings.some(({ severity }) => severity !== 'note')
    const onStick = await isDirectory(input)
    const canFix = onStick || (opened !== undefined && (canBeChanged(opened.target) || isOverlayApart(opened.target)))
    const unreadable = findings.some(({ code }) => code === 'BASE_DAMAGED')
    return {
      verb: 'doctor',
      target: opened?.target.name ?? name,
      health: unreadable ? 'unreadable' : attention ? 'findings' : 'healthy',
      ...looked,
      bootFixes: boot.fixes.map(({ path, partition, diff }) => ({ path, partition, diff })),
      findings,
      remedies:
        unreadable || !canFix
          ? []
          : [
              ...remediesOf(findings, !opened || opened.target.overlay !== undefined),
              ...(onStick && boot.fixes.length > 0 ? [{ verb: 'boot' } as const] : []),
            ],
    }
  })
}
