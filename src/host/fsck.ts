import { spawn } from 'node:child_process'
import { LiveError } from '../error.js'
import { findTool } from './process.js'

/** What a checker of filesystems did. */
export interface FsckRun {
  readonly program: string
  readonly code: number
  /** what it printed, the last 64 KiB */
  readonly words: string
}

const PACKAGE: Readonly<Record<string, string>> = { e2fsck: 'e2fsprogs', xfs_repair: 'xfsprogs' }
const MOST_WORDS = 65536

/** The Debian package of a checker. */
export const packageOf = (program: string): string => PACKAGE[program] ?? program

/** Runs a checker to its end, whatever its exit code. @throws NOT_FOUND  it is not installed; CANCELLED, IO */
const run = async (program: string, args: readonly string[], signal?: AbortSignal): Promise<FsckRun> => {
  const path = await findTool(program)
  if (!path)
    throw new LiveError('NOT_FOUND', `${program} is not installed: install the package ${packageOf(program)}`, {
      tool: program,
      package: packageOf(program),
    })
  return new Promise((resolve, reject) => {
    const child = spawn(path, [...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } })
    let words = ''
    const hear = (text: string): void => {
      words = (words + text).slice(-MOST_WORDS)
    }
    child.stdout.setEncoding('utf8').on('data', hear)
    child.stderr.setEncoding('utf8').on('data', hear)
    // It works on a copy, so it may be stopped anywhere.
    const stop = () => child.kill('SIGKILL')
    signal?.addEventListener('abort', stop)
    if (signal?.aborted) stop()
    child.on('error', error => reject(new LiveError('IO', `${program}: ${error.message}`, { tool: program }, error)))
    child.on('close', (code, killedBy) => {
      signal?.removeEventListener('abort', stop)
      if (signal?.aborted) reject(new LiveError('CANCELLED', `${program} was stopped`, { tool: program }))
      else if (code === null)
        reject(new LiveError('IO', `${program} was killed (${killedBy}): ${words.slice(-2000)}`, { tool: program }))
      else resolve({ program, code, words })
    })
  })
}

/** The number in front of the words about a filesystem with a dirty log. @see xfs_repair(8), exit status */
export const XFS_DIRTY_LOG = 2

/**
 * Repairs an ext2, ext3 or ext4 in a file or device: its journal is replayed, all of it is checked. Exit code 0 nothing was
 * wrong, 1 to 3 it is repaired, 4 and above it is not.
 *
 * @see e2fsck(8)
 */
export const repairExt4 = (path: string, signal?: AbortSignal): Promise<FsckRun> =>
  run('e2fsck', ['-f', '-y', path], signal)

/** Replays the journal of an ext3 or ext4, as a mount does, and changes nothing else. @see e2fsck(8), journal_only */
export const replayExt4 = (path: string, signal?: AbortSignal): Promise<FsckRun> =>
  run('e2fsck', ['-E', 'journal_only', '-y', path], signal)

/** Checks an ext2, ext3 or ext4 and changes nothing. Exit code 0: nothing is wrong. */
export const checkExt4Image = (path: string, signal?: AbortSignal): Promise<FsckRun> =>
  run('e2fsck', ['-f', '-n', path], signal)

/**
 * Repairs an XFS. Exit code 0 done, 1 failed, `XFS_DIRTY_LOG` its log has to be replayed first, by mounting it, or dropped.
 *
 * @param dropLog  throws the log away, and with it what it held
 */
export const repairXfs = (path: string, dropLog: boolean, signal?: AbortSignal): Promise<FsckRun> =>
  run('xfs_repair', [...(dropLog ? ['-L'] : []), '-f', path], signal)

/** Checks an XFS and changes nothing. Exit code 0: nothing is wrong. */
export const checkXfsImage = (path: string, signal?: AbortSignal): Promise<FsckRun> =>
  run('xfs_repair', ['-n', '-f', path], signal)
