import { join } from 'node:path'
import { copyData } from '../block/copy.js'
import type { Device } from '../block/device.js'
import { createFile, openFile } from '../block/file.js'
import { LiveError } from '../error.js'
import { checkExt4Image, checkXfsImage, type FsckRun, repairExt4, repairXfs, XFS_DIRTY_LOG } from '../host/fsck.js'
import { openTemporary } from '../host/temporary.js'
import type { Report } from './progress.js'
import type { SalvagedView } from './recover-view.js'

/** A root filesystem after its checker. */
export interface CheckedRoot {
  readonly program: 'e2fsck' | 'xfs_repair'
  /** the checker's exit code: 0 nothing was wrong, else it is repaired */
  readonly code: number
  /** what it said, the last 64 KiB */
  readonly words: string
  /** all of the root as it is to be */
  readonly after: Device
  /** chunks of the root that are others than before, ascending */
  readonly changed: Float64Array
  close(): Promise<void>
}

const PIECE = 1 << 20

/** Chunks in which two devices of one size differ. */
const differing = async (
  before: Device,
  after: Device,
  chunkSize: number,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Float64Array> => {
  const chunks: number[] = []
  const step = Math.max(PIECE, chunkSize)
  const read = (at: number) => {
    const length = Math.min(step, before.size - at)
    const both = Promise.all([before.read(at, length), after.read(at, length)])
    both.catch(() => {})
    return both
  }
  let next = before.size > 0 ? read(0) : undefined
  for (let at = 0; at < before.size; at += step) {
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped; nothing was changed')
    const [a, b] = await next!
    if (at + step < before.size) next = read(at + step)
    if (Buffer.compare(a, b) !== 0)
      for (let from = 0; from < a.length; from += chunkSize)
        if (Buffer.compare(a.subarray(from, from + chunkSize), b.subarray(from, from + chunkSize)) !== 0)
          chunks.push((at + from) / chunkSize)
    report({ phase: 'compare', doneBytes: at + a.length, totalBytes: before.size })
  }
  return Float64Array.from(chunks)
}

const failed = ({ program, code, words }: FsckRun, what: string): LiveError =>
  new LiveError(
    'CORRUPT',
    `${program} ${what} (exit code ${code}), so nothing was changed. Copy out what you need with 'liveos cp'. Its last words: ${words.trim().split('\n').slice(-6).join(' | ')}`,
    { device: program, offset: 0, field: 'exit code', expected: 0, found: code },
  )

const REPAIRED_AT_MOST = 3

const checkExt4 = async (path: string, signal: AbortSignal | undefined): Promise<FsckRun> => {
  const first = await repairExt4(path, signal)
  if (first.code > REPAIRED_AT_MOST) throw failed(first, 'could not repair the filesystem')
  const second = await checkExt4Image(path, signal)
  if (second.code !== 0) throw failed(second, 'still finds errors after its repair')
  return first
}

const checkXfs = async (path: string, dropLog: boolean, signal: AbortSignal | undefined): Promise<FsckRun> => {
  const first = await repairXfs(path, dropLog, signal)
  if (first.code === XFS_DIRTY_LOG)
    throw new LiveError(
      'REFUSED',
      'the XFS in the overlay has changes in its log, which only a kernel can replay: recover the overlay with --no-fsck and boot it once, or throw these last changes away with --drop-log; nothing was changed',
      { path },
    )
  if (first.code !== 0) throw failed(first, 'could not repair the filesystem')
  const second = await checkXfsImage(path, signal)
  if (second.code !== 0) throw failed(second, 'still finds errors after its repair')
  return first
}

/**
 * Copies the root filesystem that an overlay shows to a temporary folder and has it repaired there. Nothing else is written.
 *
 * @throws CORRUPT  it can't be repaired; REFUSED  the log of an XFS is dirty; NOT_FOUND, NO_SPACE, IO, CANCELLED
 */
export const checkOnCopy = async (
  { root, store }: SalvagedView,
  program: 'e2fsck' | 'xfs_repair',
  {
    dropLog = false,
    report,
    signal,
  }: { dropLog?: boolean | undefined; report: Report; signal?: AbortSignal | undefined },
): Promise<CheckedRoot> => {
  const folder = await openTemporary('recover')
  let after: Device | undefined
  const close = async (): Promise<void> => {
    await after?.close()
    await folder.remove()
  }
  try {
    const path = join(folder.path, 'root.img')
    const copy = await createFile(path, { mode: 0o600, exclusive: true })
    try {
      await copy.truncate(root.size)
      await copyData(root, copy, {
        signal,
        onProgress: (doneBytes, totalBytes) => report({ phase: 'copy', doneBytes, totalBytes }),
      })
    } finally {
      await copy.close()
    }
    report({ phase: 'check', doneBytes: 0, totalBytes: 0 })
    const { code, words } = program === 'e2fsck' ? await checkExt4(path, signal) : await checkXfs(path, dropLog, signal)
    after = await openFile(path, { name: `${root.name}, repaired` })
    const changed = await differing(root, after, store.chunkSize, report, signal)
    return { program, code, words, after, changed, close }
  } catch (error) {
    await close()
    throw error
  }
}
