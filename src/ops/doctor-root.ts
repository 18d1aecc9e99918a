import { join } from 'node:path'
import { copyData } from '../block/copy.js'
import type { Device } from '../block/device.js'
import { createFile } from '../block/file.js'
import { isLiveError } from '../error.js'
import { detectFs } from '../fs/detect.js'
import { openReplayed } from '../fs/ext4/journal/replayed.js'
import { openExt4 } from '../fs/ext4/reader.js'
import { readExt4Superblock } from '../fs/ext4/superblock.js'
import { checkExt4Image, checkXfsImage, type FsckRun } from '../host/fsck.js'
import { findTool } from '../host/process.js'
import { openTemporary } from '../host/temporary.js'
import type { Tell } from './doctor-overlay.js'
import type { Report } from './progress.js'

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

/**
 * Looks at the root filesystem as a boot would see it. Nothing is changed.
 *
 * @param origin  the base alone
 * @returns  the root as it is to be given to its own checker; undefined where it can't be read
 */
export const checkRoot = async (
  origin: Device,
  root: Device,
  where: string,
  remedy: string,
  tell: Tell,
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
    if (origin !== root) await checkSameFilesystem(type, origin, root, where, tell)
    return { type, shown: type === 'ext4' ? await checkExt4Root(root, where, remedy, tell) : root }
  } catch (error) {
    passing(error)
    tell('ROOT_DAMAGED', 'error', where, words(error), { remedy })
    return { type: type ?? null, shown: undefined }
  }
}

/**
 * Has the filesystem's own checker look at a sparse copy in a temporary folder.
 *
 * @throws NO_SPACE, IO, CANCELLED
 */
export const checkByProgram = async (
  shown: Device,
  type: string,
  where: string,
  remedy: string,
  { tell, report, signal }: { tell: Tell; report: Report; signal: AbortSignal | undefined },
): Promise<FsckRun | undefined> => {
  const program = type === 'xfs' ? 'xfs_repair' : 'e2fsck'
  if (!(await findTool(program))) {
    tell('FSCK_MISSING', 'note', where, `${program} is not installed, so the filesystem was looked at in part only`)
    return undefined
  }
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
    const run = type === 'xfs' ? await checkXfsImage(path, signal) : await checkExt4Image(path, signal)
    if (run.code !== 0)
      tell(
        'FSCK_ERRORS',
        'error',
        where,
        `${program} finds errors in the root (exit code ${run.code}): ${run.words.trim().split('\n').slice(1, 5).join(' | ')}`,
        {
          expected: 0,
          found: run.code,
          remedy,
        },
      )
    return run
  } finally {
    await folder.remove()
  }
}
