import { join } from 'node:path'
import { copyData } from '../block/copy.js'
import type { Device } from '../block/device.js'
import { createFile, openFile } from '../block/file.js'
import { snapshot } from '../block/snapshot/snapshot.js'
import { readStore, type Store } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'
import { checkExt4Image, checkXfsImage, type FsckRun, repairExt4, repairXfs, XFS_DIRTY_LOG } from '../host/fsck.js'
import { openTemporary, type TemporaryFolder } from '../host/temporary.js'
import { tellingLines } from './checker-words.js'
import { withExportedFile } from './exported-root.js'
import type { Report } from './progress.js'
import type { SalvagedView } from './recover-view.js'
import type { ExportDescription } from './serve-view.js'

/** A root filesystem after its checker. */
export interface CheckedRoot {
  readonly program: 'e2fsck' | 'xfs_repair'
  /** what it worked on: an export of the root, or a copy */
  readonly on: 'export' | 'copy'
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
    `${program} ${what} (exit code ${code}), so nothing was changed. It says: ${tellingLines({ words }, 6).join(' | ')}`,
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
  // its exit code doesn't tell whether it had anything to repair
  const look = await checkXfsImage(path, signal)
  if (look.code === 0) return look
  const first = await repairXfs(path, dropLog, signal)
  if (first.code === XFS_DIRTY_LOG)
    throw new LiveError(
      'REFUSED',
      'the XFS in the overlay has changes in its log, which only a kernel can replay: recover the overlay with --no-fsck and boot it once, or throw these last changes away with --drop-log; nothing was changed',
      { path },
    )
  if (first.code !== 0) throw failed(first, 'could not repair the filesystem')
  // a log that was thrown away gets its numbers only when it is found empty
  if (dropLog) await repairXfs(path, false, signal)
  const second = await checkXfsImage(path, signal)
  if (second.code !== 0) throw failed(second, 'still finds errors after its repair')
  return { ...first, code: 1 }
}

const repair = (
  program: CheckedRoot['program'],
  path: string,
  { dropLog = false, signal, report }: CheckOptions,
): Promise<FsckRun> => {
  report({ phase: 'check', doneBytes: 0, totalBytes: 0 })
  return program === 'e2fsck' ? checkExt4(path, signal) : checkXfs(path, dropLog, signal)
}

export interface CheckOptions {
  readonly dropLog?: boolean | undefined
  /** `export`: without a copy where this computer can do that; `copy`: never */
  readonly on?: 'export' | 'copy' | undefined
  readonly report: Report
  readonly signal?: AbortSignal | undefined
}

/** Chunks among those that a scratch store holds in which the view differs from what it was. */
const writtenChunks = async (
  before: Device,
  after: Device,
  { exceptions, chunkSize: scratchSize }: Store,
  chunkSize: number,
): Promise<Float64Array> => {
  const chunks: number[] = []
  let last = -1
  for (const { oldChunk } of exceptions.range()) {
    const end = Math.min(before.size, (oldChunk + 1) * scratchSize)
    for (let chunk = Math.floor((oldChunk * scratchSize) / chunkSize); chunk * chunkSize < end; chunk++) {
      if (chunk <= last) continue
      last = chunk
      const offset = chunk * chunkSize
      const length = Math.min(chunkSize, before.size - offset)
      const [a, b] = await Promise.all([before.read(offset, length), after.read(offset, length)])
      if (Buffer.compare(a, b) !== 0) chunks.push(chunk)
    }
  }
  return Float64Array.from(chunks)
}

/** The check on an export of the root; its writes land in a scratch store. Undefined where that can't be done here. */
const checkOnExport = async (
  description: ExportDescription,
  { root, store }: SalvagedView,
  program: CheckedRoot['program'],
  folder: TemporaryFolder,
  options: CheckOptions,
): Promise<CheckedRoot | undefined> => {
  const scratch = join(folder.path, 'writes.cow')
  const done = await withExportedFile(
    { ...description, scratch },
    file => repair(program, file.path, options),
    options.signal,
  )
  if (!done) return undefined
  const { code, words } = done.value
  const cow = await openFile(scratch)
  try {
    const written = await readStore(cow, { originSize: root.size })
    const after = await snapshot(root, cow, { store: written })
    const changed = await writtenChunks(root, after, written, store.chunkSize)
    return { program, on: 'export', code, words, after, changed, close: () => cow.close() }
  } catch (error) {
    await cow.close()
    throw error
  }
}

const checkOnCopy = async (
  { root, store }: SalvagedView,
  program: CheckedRoot['program'],
  folder: TemporaryFolder,
  options: CheckOptions,
): Promise<CheckedRoot> => {
  const { report, signal } = options
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
  const { code, words } = await repair(program, path, options)
  const after = await openFile(path, { name: `${root.name}, repaired` })
  try {
    const changed = await differing(root, after, store.chunkSize, report, signal)
    return { program, on: 'copy', code, words, after, changed, close: () => after.close() }
  } catch (error) {
    await after.close()
    throw error
  }
}

/**
 * Has the root filesystem that an overlay shows repaired by its own checker: through an export, whose writes land in a scratch
 * store, or on a sparse copy; both in a temporary folder. Nothing else is written.
 *
 * @param description  the very same view, for the process of the export
 * @throws CORRUPT  it can't be repaired; REFUSED  the log of an XFS is dirty; NOT_FOUND, NO_SPACE, IO, CANCELLED
 */
export const checkRepaired = async (
  description: ExportDescription,
  view: SalvagedView,
  program: CheckedRoot['program'],
  options: CheckOptions,
): Promise<CheckedRoot> => {
  const folder = await openTemporary('recover')
  try {
    const exported =
      options.on === 'copy' ? undefined : await checkOnExport(description, view, program, folder, options)
    const checked = exported ?? (await checkOnCopy(view, program, folder, options))
    return {
      ...checked,
      async close() {
        await checked.close()
        await folder.remove()
      },
    }
  } catch (error) {
    await folder.remove()
    throw error
  }
}
