import { type Device, isZero } from '../block/device.js'
import { HEADER_SIZE, parseHeader, SECTOR } from '../block/snapshot/layout.js'
import { guessChunkSectors } from '../block/snapshot/salvage-guess.js'
import { isStore, readStore } from '../block/snapshot/store.js'
import { isLiveError, LiveError, unsupported } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import type { Folder, OpenedFile } from '../host/folder.js'
import { type HostFile, type OverlayTarget, RESET_SUFFIX } from '../liveos/target.js'
import { LEAST_OVERLAY, tooSmallAdvice } from '../liveos/too-small.js'
import { wholeFiles } from '../liveos/whole-files.js'
import {
  checkHasPlace,
  checkNotInUse,
  checkUnchanged,
  checkWritable,
  type FileIdentity,
  identityOf,
  readOnlyFindings,
  whileLocked,
} from './identity.js'
import { type Progress, progressing } from './progress.js'
import { checkNothingUnfinished, dropUndo, undoEnds } from './unfinished.js'

/** Bytes that dracut clears when it is told to reset an overlay; this clears more where its first list lies behind them. @see dracut 70dmsquash-live, rd.overlay.reset */
export const RESET_BYTES = 65536

export interface ResetPlan {
  readonly verb: 'reset'
  readonly target: string
  readonly overlay: FileIdentity
  /** exceptions that will be gone; null where they can't be counted */
  readonly exceptionsLost: number | null
  /** bytes to be cleared at the front of the overlay: its first list, and 64 KiB at least */
  readonly clearBytes: number
  readonly steps: readonly string[]
  readonly findings: readonly Finding[]
}

export interface ResetOutcome {
  readonly verb: 'reset'
  readonly overlay: string
  /** bytes cleared at the front of the overlay */
  readonly clearedBytes: number
  readonly readBack: 'medium' | 'page cache'
}

/** The overlay of a target that a verb can't do without. @throws NOT_FOUND, UNSUPPORTED */
export const overlayOf = (target: OverlayTarget): HostFile => {
  if (target.overlay) return target.overlay
  if (target.overlayDirectory) throw unsupported('OverlayFS directory', target.overlayDirectory, wholeFiles(target))
  throw new LiveError(
    'NOT_FOUND',
    `${target.name} has no persistent overlay${target.expectedOverlay ? ` (a boot looks for ${target.expectedOverlay})` : ''}`,
    { path: target.name },
  )
}

const PAGE = 4096

/** Sectors of a chunk by the header at the front of a file; undefined where there is none. */
const chunkSectorsOf = async (file: Device): Promise<number | undefined> => {
  try {
    const { magic, chunk_size } = parseHeader(await file.read(0, HEADER_SIZE), file.name)
    return magic === 0 ? undefined : chunk_size
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return undefined
  }
}

/**
 * Bytes to the end of an overlay's first list, 64 KiB at least: with large chunks the list lies behind those, and one that
 * stayed would look like an overlay that lost its header.
 */
const frontOf = async (folder: Folder, name: string, overlay: Device): Promise<number> => {
  let chunkSectors = await chunkSectorsOf(overlay)
  if (chunkSectors === undefined && (await folder.facts(name + RESET_SUFFIX))) {
    const saved = await folder.open(name + RESET_SUFFIX)
    try {
      chunkSectors = await chunkSectorsOf(saved)
    } finally {
      await saved.close()
    }
  }
  chunkSectors ??= (await guessChunkSectors(overlay, Number.POSITIVE_INFINITY)) ?? 0
  return Math.min(overlay.size, Math.max(RESET_BYTES, 2 * chunkSectors * SECTOR))
}

/**
 * What is reset is emptied, so it must be an overlay: none of the stick's images, and by its first page a
 * store, all zero, or, beside what an earlier run saved, one whose first sector is cleared. An overlay that was found by its
 * name may be damaged there as well.
 *
 * @throws REFUSED, UNSUPPORTED  it holds a filesystem
 */
const checkIsOverlay = async (target: OverlayTarget, overlay: HostFile, file: OpenedFile): Promise<void> => {
  const refuse = (why: string) =>
    new LiveError('REFUSED', `${overlay.path} ${why}, so it is not emptied`, { path: overlay.path })
  const isFile = overlay.facts.kind === 'file'
  for (const other of [target.base, target.home])
    if (other && isFile && other.facts.device === overlay.facts.device && other.facts.inode === overlay.facts.inode)
      throw refuse(`is ${other.name}, not an overlay`)
  if (overlay.facts.size < LEAST_OVERLAY)
    throw new LiveError(
      'REFUSED',
      `${overlay.path} has ${overlay.facts.size} bytes, and a boot can use no overlay of less than ${LEAST_OVERLAY}, so emptying it does not help: ${await tooSmallAdvice(target, overlay.path, file)}`,
      { path: overlay.path, size: overlay.facts.size, leastBytes: LEAST_OVERLAY },
    )
  if (await isStore(file)) return
  const type = await detectFs(file)
  if (type) throw unsupported(`overlay that is a ${type} filesystem`, overlay.path, wholeFiles(target, type))
  const page = await file.read(0, Math.min(PAGE, file.size))
  const isCleared = isZero(page.subarray(0, SECTOR)) && (await overlay.folder.facts(overlay.name + RESET_SUFFIX))
  if (!isZero(page) && !isCleared && (target.overlayFoundBy === 'named' || !isFile))
    throw refuse('does not look like an overlay: its first page is neither that of a snapshot store nor empty')
}

/** @throws NOT_FOUND, UNSUPPORTED, REFUSED  in use, no overlay, or too small to be one; READ_ONLY */
export const planReset = async (target: OverlayTarget): Promise<ResetPlan> => {
  const overlay = overlayOf(target)
  checkHasPlace(overlay, target)
  await checkNotInUse(target)
  await checkNothingUnfinished(target, { reset: true, change: true })
  const findings = [...(await readOnlyFindings(target)), ...(await undoEnds(target))]
  const file = await overlay.folder.open(overlay.name)
  try {
    await checkIsOverlay(target, overlay, file)
    const clearBytes = await frontOf(overlay.folder, overlay.name, file)
    const exceptionsLost = await readStore(file).then(
      store => store.exceptions.count,
      () => null,
    )
    return {
      verb: 'reset',
      target: target.name,
      overlay: identityOf(overlay),
      exceptionsLost,
      clearBytes,
      steps: [
        `save the first ${clearBytes} bytes of ${overlay.name} as ${overlay.name}${RESET_SUFFIX}`,
        'clear its first sector, by which the kernel knows an overlay, and flush',
        `clear the rest of the first ${clearBytes} bytes, flush and read back`,
        'remove the saved bytes',
      ],
      findings,
    }
  } finally {
    await file.close()
  }
}

/** @throws REFUSED  the overlay has changed since it was planned, or is in use; IO, NO_SPACE */
export async function* runReset(target: OverlayTarget, plan: ResetPlan): AsyncGenerator<Progress, ResetOutcome> {
  const overlay = overlayOf(target)
  return yield* progressing(async report => {
    await checkUnchanged([{ file: overlay, planned: plan.overlay }])
    await checkNotInUse(target)
    await checkNothingUnfinished(target, { reset: true, change: true })
    await checkWritable(target)
    const size = plan.clearBytes
    report({ phase: 'reset', doneBytes: 0, totalBytes: size })
    const readBack = await whileLocked([overlay], () => clearOverlay(overlay.folder, overlay.name))
    report({ phase: 'reset', doneBytes: size, totalBytes: size })
    return { verb: 'reset', overlay: overlay.path, clearedBytes: size, readBack }
  })
}

/**
 * Empties an overlay. Ordered steps and the state after each:
 *
 * 0. the undo journal of an earlier change removed: the overlay as it was
 * 1. the first 64 KiB, or more up to the end of its first list, saved beside it, flushed, name flushed: the overlay as it was
 * 2. first sector cleared, flushed: a new overlay, as the kernel looks at nothing else when the magic is 0
 * 3. the rest cleared, flushed, read back: a new overlay
 * 4. the saved bytes removed
 *
 * A cut leaves the saved bytes, perhaps not all of them before 2; a second run starts again, at 2 where that was done, and
 * takes them away.
 *
 * @throws IO  what was read back is not zero
 */
export const clearOverlay = async (folder: Folder, name: string): Promise<'medium' | 'page cache'> => {
  const saved = name + RESET_SUFFIX
  await dropUndo(folder, name)
  const overlay = await folder.openWritable(name)
  let size: number
  try {
    size = await frontOf(folder, name, overlay)
    const page = await overlay.read(0, size)
    // once the first sector is cleared, what an earlier run saved is whole, and the overlay is not any more
    if (!isZero(page.subarray(0, SECTOR)) || !(await folder.facts(saved))) await savePage(folder, saved, page)
    await overlay.write(0, new Uint8Array(Math.min(SECTOR, size)))
    await overlay.flush()
    await overlay.write(0, new Uint8Array(size))
    await overlay.flush()
  } finally {
    await overlay.close()
  }
  const back = await folder.openReadBack(name)
  let readBack: 'medium' | 'page cache'
  try {
    if (!isZero(await back.read(0, Math.min(size, back.size))))
      throw new LiveError(
        'IO',
        `${name} was cleared, but other bytes were read back: the stick does not keep what is written to it`,
        { name },
      )
    readBack = back.from
  } finally {
    await back.close()
  }
  await folder.unlink(saved)
  await folder.sync()
  return readBack
}

const savePage = async (folder: Folder, saved: string, page: Uint8Array): Promise<void> => {
  if (await folder.facts(saved)) await folder.unlink(saved)
  const copy = await folder.create(saved)
  try {
    await copy.write(0, page)
    await copy.flush()
  } catch (error) {
    await copy.close()
    await folder.unlink(saved)
    if (!isLiveError(error) || error.code !== 'NO_SPACE') throw error
    throw new LiveError(
      'NO_SPACE',
      `${folder.path} has no room to save the ${page.length} bytes that are cleared: remove something there first, then run this again (nothing has changed)`,
      { path: folder.path, neededBytes: page.length },
      error,
    )
  }
  await copy.close()
  await folder.sync()
}
