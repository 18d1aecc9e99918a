import type { Writable } from 'node:stream'
import { type Device, extentsOf } from '../block/device.js'
import { encodeTarMember, type TarKind, type TarMember, tarEnd, tarPadding } from '../bytes/tar.js'
import { isLiveError, LiveError, systemError } from '../error.js'
import { hasXattrs } from '../fs/filesystem.js'
import { encodeName, printableName } from '../fs/name.js'
import { type CopyCounts, type CopyFindings, noCounts } from './copy-findings.js'
import { type CopyItem, type CopySource, hardLinks } from './copy-source.js'

/** How a tree is put into an archive. */
export interface TarCopy {
  readonly source: CopySource
  readonly to: Writable
  readonly keepPartial: boolean
  readonly findings: CopyFindings
  readonly signal: AbortSignal | undefined
  onBytes(bytes: number): void
}

interface Run {
  readonly offset: number
  readonly length: number
}

const PIECE = 1 << 20
/** Holes below are data: as long as the block of most filesystems. */
const LEAST_HOLE = 4096
/** Runs of one file; past it, the shorter holes become data. */
const MAX_RUNS = 1 << 17

/** Where a file has data; undefined where it has no hole worth telling. */
export const dataRuns = async (device: Device, maxRuns = MAX_RUNS): Promise<readonly Run[] | undefined> => {
  let runs: { offset: number; length: number }[] = []
  let leastHole = LEAST_HOLE
  const add = (offset: number, length: number): void => {
    const last = runs.at(-1)
    if (last && offset - last.offset - last.length < leastHole) last.length = offset + length - last.offset
    else runs.push({ offset, length })
  }
  for await (const { kind, offset, length } of extentsOf(device)) {
    if (kind === 'hole') continue
    add(offset, length)
    while (runs.length > maxRuns) {
      leastHole *= 2
      const before = runs
      runs = []
      for (const run of before) add(run.offset, run.length)
    }
  }
  const data = runs.reduce((sum, run) => sum + run.length, 0)
  return data === device.size ? undefined : runs
}

/** The archive can't be written: not to be taken for an error of the file that was being read. */
class OutputFailed extends Error {
  readonly error: LiveError

  constructor(error: LiveError) {
    super(error.message, { cause: error })
    this.error = error
  }
}

/** A stream that is waited for, and whose errors reach the writer. */
const openOutput = (to: Writable, signal: AbortSignal | undefined) => {
  let failed: LiveError | undefined
  const onError = (error: unknown): void => {
    failed ??= systemError(error, 'writing the archive')
  }
  to.on('error', onError)
  const check = (): void => {
    if (signal?.aborted)
      throw new OutputFailed(new LiveError('CANCELLED', 'writing the archive was cancelled', {}, signal.reason))
    if (failed) throw new OutputFailed(failed)
    if (to.destroyed || to.writableEnded)
      throw new OutputFailed(new LiveError('IO', 'writing the archive: nobody reads it any more'))
  }
  return {
    async write(bytes: Uint8Array): Promise<void> {
      check()
      if (bytes.length === 0 || to.write(bytes)) return
      await new Promise<void>(resolve => {
        const events = ['drain', 'close', 'error'] as const
        const wake = (): void => {
          for (const event of events) to.off(event, wake)
          signal?.removeEventListener('abort', wake)
          resolve()
        }
        for (const event of events) to.on(event, wake)
        signal?.addEventListener('abort', wake)
      })
      check()
    },
    done: () => void to.off('error', onError),
  }
}

const KINDS: Readonly<Partial<Record<CopyItem['stat']['kind'], TarKind>>> = {
  file: 'file',
  directory: 'directory',
  symlink: 'symlink',
  block: 'block',
  character: 'character',
  fifo: 'fifo',
}

/**
 * Writes a tree as a tar archive with all that is known of it. The stream is not ended. A file that can't be read to its
 * end is left out where that is known before its header is written; else the rest of it is zeros, and a finding says so.
 *
 * @throws IO, NO_SPACE  the archive can't be written; CANCELLED
 */
export const copyToTar = async ({
  source,
  to,
  keepPartial,
  findings,
  signal,
  onBytes,
}: TarCopy): Promise<CopyCounts> => {
  const { from } = source
  const counts = noCounts()
  const output = openOutput(to, signal)
  const links = hardLinks<Uint8Array>()
  const fail = (code: string, path: string, message: string): void =>
    findings.add({ code, severity: 'error', where: path, message: `${printableName(path)}: ${message}` })

  /** Copies a run; tells of what can't be read and gives zeros for it. */
  const writeRun = async (device: Device, path: string, { offset, length }: Run): Promise<void> => {
    for (let at = offset; at < offset + length; at += PIECE) {
      const count = Math.min(PIECE, offset + length - at)
      let bytes: Uint8Array
      try {
        bytes = await device.read(at, count)
      } catch (error) {
        if (!isLiveError(error) || error.code === 'CANCELLED') throw error
        fail('UNREADABLE', path, `${error.message}; bytes ${at} to ${at + count} are zeros in the archive`)
        bytes = new Uint8Array(count)
      }
      await output.write(bytes)
      counts.bytes += count
      onBytes(count)
    }
  }

  const writeFile = async (item: CopyItem, member: TarMember): Promise<void> => {
    const device = await from.open(item.path)
    try {
      const { size } = device
      const runs = await dataRuns(device)
      const data = runs ?? [{ offset: 0, length: size }]
      const stored = data.reduce((sum, run) => sum + run.length, 0)
      const header = encodeTarMember({ ...member, size, data: runs })
      if (stored <= PIECE && !keepPartial) {
        // Small enough to be read before anything of it is written.
        const parts: Uint8Array[] = []
        for (const { offset, length } of data) parts.push(await device.read(offset, length))
        await output.write(header)
        for (const part of parts) await output.write(part)
        counts.bytes += stored
        onBytes(stored)
      } else {
        await output.write(header)
        for (const run of data) await writeRun(device, item.path, run)
      }
      // the map of a sparse file is whole blocks
      await output.write(new Uint8Array(tarPadding(stored)))
      onBytes(size - stored)
    } finally {
      // all of it was read: an error here takes nothing away
      await device.close().catch(() => undefined)
    }
  }

  const xattrsOf = async (path: string): Promise<TarMember['xattrs']> => {
    if (!hasXattrs(from)) return undefined
    try {
      return (await from.xattrs(path)).map(({ name, value }) => ({ name: encodeName(name), value }))
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      fail('XATTRS_UNREADABLE', path, error.message)
      return undefined
    }
  }

  const add = async (item: CopyItem): Promise<void> => {
    const { path, names, stat } = item
    const kind = KINDS[stat.kind]
    if (!kind) {
      findings.lose('SOCKETS_NOT_KEPT', 'an archive holds no sockets', path, 'note')
      return
    }
    const memberPath = encodeName(['.', ...names].join('/'))
    const member: TarMember = {
      path: memberPath,
      kind,
      mode: stat.mode,
      uid: stat.uid,
      gid: stat.gid,
      mtime: stat.mtime,
      mtimeNanoseconds: stat.mtimeNanoseconds,
      size: 0,
      device: kind === 'block' || kind === 'character' ? (stat.device ?? { major: 0, minor: 0 }) : undefined,
      xattrs: await xattrsOf(path),
      linkPath: kind === 'symlink' ? encodeName(await from.readLink(path)) : undefined,
    }
    if (kind === 'file') {
      const first = links.first(item)
      if (first) {
        await output.write(encodeTarMember({ ...member, kind: 'hardlink', linkPath: first }))
        counts.hardLinks++
        return
      }
      await writeFile(item, member)
      links.remember(item, memberPath)
      counts.files++
      return
    }
    await output.write(encodeTarMember(member))
    counts[kind === 'directory' ? 'directories' : kind === 'symlink' ? 'symlinks' : 'special']++
  }

  try {
    for await (const item of source.items()) {
      try {
        await add(item)
      } catch (error) {
        if (!isLiveError(error) || error.code === 'CANCELLED') throw error
        // Nothing of the item was written yet: what fails in the middle is told and made up for there.
        fail('UNREADABLE', item.path, `${error.message}; it is not in the archive`)
      }
    }
    await output.write(tarEnd())
    return counts
  } catch (error) {
    throw error instanceof OutputFailed ? error.error : error
  } finally {
    output.done()
  }
}
