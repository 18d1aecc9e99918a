import { join } from 'node:path'
import { copyData } from '../block/copy.js'
import type { Device } from '../block/device.js'
import { createFile } from '../block/file.js'
import { isLiveError } from '../error.js'
import { detectFs } from '../fs/detect.js'
import { openReplayed } from '../fs/ext4/journal/replayed.js'
import { openExt4 } from '../fs/ext4/reader.js'
import { readExt4Superblock } from '../fs/ext4/superblock.js'
import { checkExt4Image, checkXfsImage, type FsckRun, packageOf, replayExt4 } from '../host/fsck.js'
import { findTool } from '../host/process.js'
import { openTemporary } from '../host/temporary.js'
import { marked } from '../liveos/advice.js'
import type { Base } from '../liveos/stack.js'
import type { TargetInput } from '../liveos/target.js'
import { tellingLines, tellsDirtyLog } from './checker-words.js'
import type { Tell } from './doctor-overlay.js'
import { withExportedFile } from './exported-root.js'
import type { Report } from './progress.js'
import type { ExportDescription } from './serve-view.js'
import { firstUnreadable, isUnreadable } from './unreadable.js'

/** Findings of one check of a filesystem that are told; the rest is for its own checker. */
const MOST = 8
const XFS_UUID = { offset: 32, length: 16 }

const words = (error: unknown): string => (error instanceof Error ? error.message : String(error))
const passing = (error: unknown): void => {
  if (!isLiveError(error) || error.code === 'CANCELLED') throw error
}

/** The superblock of the merged root names the filesystem of the base, or the overlay is of another one. */
const checkSameFilesystem = async (
  type: string,
  origin: Device,
  root: Device,
  where: string,
  tell: Tell,
): Promise<void> => {
  const uuids =
    type === 'xfs'
      ? await Promise.all(
          [origin, root].map(async device =>
            Buffer.from(await device.read(XFS_UUID.offset, XFS_UUID.length)).toString('hex'),
          ),
        )
      : await Promise.all([origin, root].map(async device => (await readExt4Superblock(device)).uuid))
  if (uuids[0] !== uuids[1])
    tell(
      'OVERLAY_OTHER_FILESYSTEM',
      'warning',
      where,
      'the filesystem in the overlay is another one than that of the base: most likely the overlay was made over another base',
      {
        expected: uuids[0]!,
        found: uuids[1]!,
        remedy: 'put the base back that it was made over, unless the filesystem was made anew on purpose',
      },
    )
}

const checkExt4Root = async (root: Device, where: string, remedy: string, tell: Tell): Promise<Device> => {
  const superblock = await readExt4Superblock(root)
  const replayed = await openReplayed(root)
  const { needsRecovery, transactions } = replayed.replayed
  if (needsRecovery)
    tell(
      'ROOT_NEEDS_REPLAY',
      'note',
      where,
      `the root was not unmounted cleanly: ${transactions} transactions in its journal wait for the next mount`,
    )
  else if (!superblock.clean) tell('ROOT_NOT_CLEAN', 'note', where, 'the root was not unmounted cleanly')
  const findings = (await (await openExt4(replayed)).check()).filter(({ code }) => code !== 'EXT4_NEEDS_RECOVERY')
  for (const finding of findings.slice(0, MOST))
    tell(finding.code, finding.severity, where, finding.message, {
      ...(finding.expected === undefined ? {} : { expected: finding.expected }),
      ...(finding.found === undefined ? {} : { found: finding.found }),
      remedy,
    })
  if (findings.length > MOST)
    tell('ROOT_MORE', 'warning', where, `${findings.length - MOST} further findings are not listed`, { remedy })
  return replayed
}

/** What the root is put together from, and the sentences about it. */
export interface RootPlace {
  readonly base: Base
  /** file of the overlay, or of the base where there is none */
  readonly where: string
  /** the target, as a command line names it to verbs that only read */
  readonly address: string
  /** what to do about errors in the filesystem */
  readonly remedy: string
  /** what to do about an XFS whose log holds changes */
  readonly logRemedy: string
  readonly tell: Tell
}

export const BASE_REMEDY = 'copy the base image to the stick again from where it came'

/** True for an error of the squashed base itself, whatever was looked for in it. */
const isOfBase = (error: unknown, { squashfs, file }: Base): boolean =>
  isLiveError(error) && error.code === 'CORRUPT' && squashfs !== undefined && error.data.device === file.name

/**
 * Looks at the root filesystem as a boot would see it. Nothing is changed.
 *
 * @returns  the root as it is to be given to its own checker; undefined where it can't be read
 */
export const checkRoot = async (
  root: Device,
  { base, where, remedy, tell }: RootPlace,
): Promise<{ readonly type: string | null; readonly shown: Device | undefined }> => {
  let type: string | undefined
  try {
    type = await detectFs(root)
    if (type !== 'ext4' && type !== 'xfs') {
      tell(
        'ROOT_UNKNOWN',
        type ? 'note' : 'warning',
        where,
        `the root is ${type ?? 'no known filesystem'}, which is not checked`,
      )
      return { type: type ?? null, shown: undefined }
    }
    if (base.origin !== root) await checkSameFilesystem(type, base.origin, root, where, tell)
    return { type, shown: type === 'ext4' ? await checkExt4Root(root, where, remedy, tell) : root }
  } catch (error) {
    passing(error)
    if (isOfBase(error, base)) tell('BASE_DAMAGED', 'error', base.file.path, words(error), { remedy: BASE_REMEDY })
    else tell('ROOT_DAMAGED', 'error', where, words(error), { remedy })
    return { type: type ?? null, shown: undefined }
  }
}

interface CheckBy {
  /** also on a copy, where there is no other way */
  readonly copy: boolean
  readonly input: TargetInput
  readonly report: Report
  readonly signal: AbortSignal | undefined
}

const checkOnCopy = async (shown: Device, type: string, { report, signal }: CheckBy): Promise<FsckRun> => {
  const folder = await openTemporary('doctor')
  try {
    const path = join(folder.path, 'root.img')
    const copy = await createFile(path, { mode: 0o600, exclusive: true })
    try {
      await copy.truncate(shown.size)
      await copyData(shown, copy, {
        signal,
        onProgress: (doneBytes, totalBytes) => report({ phase: 'copy', doneBytes, totalBytes }),
      })
    } finally {
      await copy.close()
    }
    report({ phase: 'check', doneBytes: 0, totalBytes: 0 })
    return type === 'xfs' ? await checkXfsImage(path, signal) : await checkExt4Image(path, signal)
  } finally {
    await folder.remove()
  }
}

/** The check on an export of the root; its journal is replayed first, into a scratch store that is thrown away. */
const checkOnExport = async (type: string, { input, report, signal }: CheckBy): Promise<FsckRun | undefined> => {
  const description: ExportDescription = { input, layer: 'root', salvage: {}, throwAway: true }
  const done = await withExportedFile(
    description,
    async ({ path }) => {
      report({ phase: 'check', doneBytes: 0, totalBytes: 0 })
      if (type === 'xfs') return checkXfsImage(path, signal)
      const replayed = await replayExt4(path, signal)
      // of a journal that makes no sense it makes a repair of everything, after which nothing is left to be found
      if (/^Pass 1:/m.test(replayed.words)) return replayed
      return checkExt4Image(path, signal)
    },
    signal,
  )
  return done?.value
}

/** Tells what of the root can't be read. @returns  whether there was anything */
const tellUnreadable = async (
  shown: Device,
  { base, where, address, remedy, tell }: RootPlace,
  { report, signal }: CheckBy,
): Promise<boolean> => {
  const found = await firstUnreadable(shown, report, signal)
  if (!found) return false
  const { offset, length, error } = found
  const place = `bytes ${offset} to ${offset + length} of the root can't be read: ${error.message}`
  if (await isUnreadable(base.origin, found))
    tell('BASE_DAMAGED', 'error', base.file.path, place, {
      remedy: `${BASE_REMEDY}; ${marked(`liveos verify ${address}`)} tells of every block that is damaged`,
    })
  else tell('ROOT_DAMAGED', 'error', where, place, { remedy })
  return true
}

const tellRun = ({ program, code, words: said }: FsckRun, { where, remedy, logRemedy, tell }: RootPlace): void => {
  if (program === 'xfs_repair' && tellsDirtyLog({ words: said }))
    tell(
      'XFS_LOG_DIRTY',
      'warning',
      where,
      'the log of the XFS holds changes that only a kernel can bring into it, and before that nothing can tell whether all is well',
      { remedy: logRemedy },
    )
  else if (code !== 0)
    tell(
      'FSCK_ERRORS',
      'error',
      where,
      `${program} finds errors in the root (exit code ${code}): ${tellingLines({ words: said }).join(' | ')}`,
      { expected: 0, found: code, remedy },
    )
}

const READ_ERROR = /Input\/output error|short read|Error reading block|read failed|pread/i

/**
 * Has the filesystem's own checker look at the root, through an export where this computer can give it one, or else at a
 * sparse copy in a temporary folder. What of the root can't be read is a finding.
 *
 * @throws NO_SPACE, IO, CANCELLED
 */
export const checkByProgram = async (
  shown: Device,
  type: string,
  place: RootPlace,
  by: CheckBy,
): Promise<FsckRun | undefined> => {
  const { tell, where, address } = place
  const program = type === 'xfs' ? 'xfs_repair' : 'e2fsck'
  if (!(await findTool(program))) {
    tell('FSCK_MISSING', 'note', where, `${program} is not installed, so the filesystem was looked at in part only`, {
      remedy: `install the package ${packageOf(program)}`,
    })
    return undefined
  }
  let run: FsckRun | undefined
  try {
    run = (await checkOnExport(type, by)) ?? (by.copy ? await checkOnCopy(shown, type, by) : undefined)
  } catch (error) {
    passing(error)
    if (isLiveError(error) && error.code === 'NO_SPACE') throw error
    // of a checker that was given an unreadable root only the root is to blame
    if (await tellUnreadable(shown, place, by)) return undefined
    throw error
  }
  if (!run)
    tell(
      'FSCK_LEFT_OUT',
      'note',
      where,
      `${program} was not asked: this computer can't give it the root as a file (that takes nbdfuse and the right to mount with it, or as root the nbd devices of the kernel), so it needs a copy of it`,
      { remedy: `${marked(`liveos doctor ${address} --fsck`)} makes that copy, in the temporary folder` },
    )
  else if (run.code === 0 || !READ_ERROR.test(run.words) || !(await tellUnreadable(shown, place, by)))
    tellRun(run, place)
  return run
}
