import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { openReplayed } from '../fs/ext4/journal/replayed.js'
import { type Ext4, openExt4 } from '../fs/ext4/reader.js'
import { openFs } from '../fs/open.js'
import { resolvePath } from '../fs/resolve.js'
import type { Change } from '../liveos/changes/change.js'
import { readChanges } from '../liveos/changes/read.js'
import { openTarget } from '../liveos/open-target.js'
import { openStack, type Stack } from '../liveos/stack.js'
import type { TargetInput } from '../liveos/target.js'
import { type DiffEntry, entryOf } from './diff-entry.js'
import { type DirectoryStat, statOf, type Totals } from './diff-stat.js'
import { type ArchiveOutcome, refuseExisting, writeArchive } from './diff-tar.js'
import { type Progress, progressing, type Report } from './progress.js'

export type { DiffEntry, DiffInode } from './diff-entry.js'
export type { DirectoryStat, Totals } from './diff-stat.js'
export type { ArchiveOutcome } from './diff-tar.js'

export interface DiffOptions {
  /** Only this path and what is below it; all if left out. Symlinks on its way are followed, in the root or else in the base. */
  readonly path?: string | undefined
  /** how many directories deep the counts by directory go; 2 if left out */
  readonly depth?: number | undefined
  /** tar archive to be written: what was added or changed, and a list of what was deleted; must not be there */
  readonly output?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/** What an overlay changed, as `liveos diff --json` prints it. */
export interface DiffOutcome {
  readonly verb: 'diff'
  readonly target: string
  readonly base: string
  readonly overlay: string | null
  readonly path: string
  /** bytes of the root filesystem that the overlay or a journal replaces */
  readonly touchedBytes: number
  /** in the order of the paths' bytes */
  readonly changes: readonly DiffEntry[]
  readonly totals: Totals
  /** in the order of the paths' bytes */
  readonly directories: readonly DirectoryStat[]
  readonly archive: ArchiveOutcome | null
  readonly findings: readonly Finding[]
}

const overlayFindings = ({ overlay }: Stack): Finding[] => {
  if (!overlay)
    return [
      {
        code: 'NO_OVERLAY',
        severity: 'note',
        where: 'overlay',
        message: 'there is no overlay: the root is its base, and nothing was changed',
      },
    ]
  const { store, file } = overlay
  const where = file.path
  if (store.state === 'new')
    return [
      { code: 'OVERLAY_NEW', severity: 'note', where, message: `${where} is new: no system has written to it yet` },
    ]
  if (store.state !== 'invalid' && !store.truncated) return []
  const message = `the kernel reads this overlay no more; compared is what it still holds, and the last changes may be missing or half done`
  return [{ code: 'OVERLAY_INVALID', severity: 'warning', where, message, remedy: 'copy out what you need first' }]
}

/** The path without symlinks, as the root has it, or else the base. @throws NOT_FOUND  neither has it */
const resolved = async (stack: Stack, path: string): Promise<string> => {
  for (const device of [stack.root, stack.base.origin]) {
    try {
      return await resolvePath(await openFs(device), path, { followLast: false })
    } catch (error) {
      if (!isLiveError(error) || error.code !== 'NOT_FOUND') throw error
    }
  }
  throw new LiveError('NOT_FOUND', `${stack.target.name}: ${path} is neither in the root nor in its base`, { path })
}

const compare = async (
  stack: Stack,
  { path, depth = 2, output, signal }: DiffOptions,
  report: Report,
): Promise<DiffOutcome> => {
  const findings = overlayFindings(stack)
  if (output !== undefined) await refuseExisting(output)
  const wanted = path === undefined || path === '/' || !stack.overlay ? (path ?? '/') : await resolved(stack, path)
  const found = await readChanges(stack, {
    path: wanted,
    signal,
    onProgress: (phase, doneBytes, totalBytes) => report({ phase, doneBytes, totalBytes }),
  })
  findings.push(...found.findings)
  let archive: ArchiveOutcome | null = null
  if (output !== undefined) {
    const root: Ext4 = await openExt4(await openReplayed(stack.root))
    const written = await writeArchive(root, found.changes, output, report, signal)
    archive = written.outcome
    findings.push(...written.findings)
  }
  const { totals, directories } = statOf(found.changes, depth)
  return {
    verb: 'diff',
    target: stack.target.name,
    base: stack.target.base.path,
    overlay: stack.overlay?.file.path ?? null,
    path: wanted,
    touchedBytes: found.touchedBytes,
    changes: found.changes.map((change: Change) => entryOf(change)),
    totals,
    directories,
    archive,
    findings,
  }
}

/**
 * Tells what the overlay of a target changed, by file. An overlay that the kernel has given up is compared as far as it can
 * be read, and a finding says so.
 *
 * @throws NOT_FOUND, USAGE  the target, or the path in it
 * @throws REFUSED  the output is there already
 * @throws UNSUPPORTED  the root is no ext4, or not below a dm-snapshot; CORRUPT, IO, NO_SPACE, CANCELLED
 */
export async function* runDiff(input: TargetInput, options: DiffOptions = {}): AsyncGenerator<Progress, DiffOutcome> {
  return yield* progressing(async report => {
    const { target, close } = await openTarget(input, options.signal)
    try {
      const stack = await openStack(target, { ignoreInvalid: true })
      try {
        return await compare(stack, options, report)
      } finally {
        await stack.close()
      }
    } finally {
      await close()
    }
  })
}
