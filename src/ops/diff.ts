import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { openReplayed } from '../fs/ext4/journal/replayed.js'
import { openExt4 } from '../fs/ext4/reader.js'
import type { FileSystem, XattrFileSystem } from '../fs/filesystem.js'
import { openFs } from '../fs/open.js'
import { resolvePath } from '../fs/resolve.js'
import type { Changes } from '../liveos/changes/change.js'
import { type ChangesOptions, readChanges } from '../liveos/changes/read.js'
import { readUpperChanges } from '../liveos/changes/upper.js'
import { openTarget } from '../liveos/open-target.js'
import { openStack, type Stack } from '../liveos/stack.js'
import type { Target, TargetInput } from '../liveos/target.js'
import { filesOf, type Overlaid, openOverlaid } from '../liveos/view.js'
import { checkNotSource } from './copy-onto.js'
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
  /** bytes of the root filesystem that the overlay or a journal replaces; of an OverlayFS those of the files that it holds */
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
const resolved = async (
  target: Target,
  sides: readonly (() => Promise<FileSystem>)[],
  path: string,
): Promise<string> => {
  for (const open of sides) {
    try {
      return await resolvePath(await open(), path, { followLast: false })
    } catch (error) {
      if (!isLiveError(error) || error.code !== 'NOT_FOUND') throw error
    }
  }
  throw new LiveError('NOT_FOUND', `${target.name}: ${path} is neither in the root nor in its base`, { path })
}

/** Two sides of a target, and how they are compared. */
interface Sides {
  readonly target: Target
  readonly overlay: string | undefined
  /** the root, and the base behind it */
  readonly open: readonly (() => Promise<FileSystem>)[]
  /** what goes into an archive */
  readonly root: () => Promise<XattrFileSystem>
  readonly changes: (options: ChangesOptions) => Promise<Changes>
  readonly findings: readonly Finding[]
}

const stackSides = (stack: Stack): Sides => ({
  target: stack.target,
  overlay: stack.overlay?.file.path,
  open: [() => openFs(stack.root), () => openFs(stack.base.origin)],
  root: async () => openExt4(await openReplayed(stack.root)),
  changes: options => readChanges(stack, options),
  findings: overlayFindings(stack),
})

const overlaidSides = (target: Target, { base, fs, upper }: Overlaid): Sides => ({
  target,
  overlay: upper.path,
  open: [async () => fs, async () => base],
  root: async () => fs,
  changes: options => readUpperChanges(base, fs, options),
  findings: upper.findings,
})

const compare = async (
  { target, overlay, open, root, changes, findings }: Sides,
  { path, depth = 2, output, signal }: DiffOptions,
  report: Report,
): Promise<DiffOutcome> => {
  if (output !== undefined) {
    await checkNotSource(output, filesOf(target))
    await refuseExisting(output)
  }
  const isWhole = path === undefined || path === '/' || overlay === undefined
  const wanted = isWhole ? (path ?? '/') : await resolved(target, open, path)
  const found = await changes({
    path: wanted,
    signal,
    onProgress: (phase, doneBytes, totalBytes) => report({ phase, doneBytes, totalBytes }),
  })
  const written =
    output === undefined ? undefined : await writeArchive(await root(), found.changes, output, report, signal)
  const { totals, directories } = statOf(found.changes, depth)
  return {
    verb: 'diff',
    target: target.name,
    base: target.base.path,
    overlay: overlay ?? null,
    path: wanted,
    touchedBytes: found.touchedBytes,
    changes: found.changes.map(change => entryOf(change)),
    totals,
    directories,
    archive: written?.outcome ?? null,
    findings: [...findings, ...found.findings, ...(written?.findings ?? [])],
  }
}

/**
 * Tells what the overlay of a target changed, by file. An overlay that the kernel has given up is compared as far as it can
 * be read, and a finding says so.
 *
 * @throws NOT_FOUND, USAGE  the target, or the path in it
 * @throws REFUSED  the output is there already
 * @throws UNSUPPORTED  the root below a dm-snapshot is no ext4; CORRUPT, IO, NO_SPACE, CANCELLED
 */
export async function* runDiff(input: TargetInput, options: DiffOptions = {}): AsyncGenerator<Progress, DiffOutcome> {
  return yield* progressing(async report => {
    const { target, close } = await openTarget(input, options.signal)
    try {
      const overlaid = await openOverlaid(target)
      const opened = overlaid ?? (await openStack(target, { ignoreInvalid: true }))
      try {
        const sides = 'upper' in opened ? overlaidSides(target, opened) : stackSides(opened)
        return await compare(sides, options, report)
      } finally {
        await opened.close()
      }
    } finally {
      await close()
    }
  })
}
