import type { Target } from '../liveos/target.js'
import { readUpperSpace, readUpperUsage } from '../liveos/usage/upper.js'
import type { OwnerUsage } from '../liveos/usage/usage.js'
import type { Overlaid } from '../liveos/view.js'
import type { Report } from './progress.js'
import type { Usage, UsageOptions } from './usage.js'
import { adviseFolders } from './usage-advice.js'
import { sumChains } from './usage-directories.js'
import { sumPackages } from './usage-packages.js'

/** The directories above a file, from the root on. */
function* directoriesAbove({ path = '/' }: OwnerUsage): Iterable<string> {
  yield '/'
  for (let at = path.indexOf('/', 1); at > 0; at = path.indexOf('/', at + 1)) yield path.slice(0, at)
}

const EXPLANATION =
  'an OverlayFS keeps whole files on a filesystem of its own: df in the booted system tells what that has left, and deleting what was added gives room back; what is deleted of the base gives none, and what is changed of it is copied whole first.'

/** What takes the room of an OverlayFS. @throws CORRUPT, IO, CANCELLED */
export const upperUsage = async (
  target: Target,
  { fs, upper }: Overlaid,
  { top = 20, depth = 2, packages: wantsPackages = false }: UsageOptions,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Usage> => {
  report({ phase: 'read', doneBytes: 0, totalBytes: 0 })
  const { owners, fileBytes, deletions, findings } = await readUpperUsage(fs, signal)
  const space = (await readUpperSpace(fs)) ?? null
  const freeBytes = space?.availableBytes ?? (await target.base.folder.freeBytes())
  // what a filesystem in a file takes for itself belongs to the overlay; that of the stick does not
  const taken = upper.size !== undefined && space ? Math.max(fileBytes, upper.size - space.freeBytes) : fileBytes
  const size = upper.size ?? taken + freeBytes
  const told = wantsPackages ? await sumPackages(fs, owners) : undefined
  return {
    target: target.name,
    overlay: { path: upper.path, state: 'ok', size, chunkSize: null, chunks: null, deletions },
    allocatedBytes: taken,
    unusedBytes: Math.max(0, size - taken),
    categories: [
      { category: 'files' as const, bytes: fileBytes, identicalBytes: 0 },
      { category: 'filesystem' as const, bytes: taken - fileBytes, identicalBytes: 0 },
    ]
      .filter(({ bytes }) => bytes > 0)
      .sort((a, b) => b.bytes - a.bytes),
    fileCount: owners.length,
    files: owners
      .slice(0, top)
      .map(({ path, inode, kind, bytes }) => ({ path: path!, inode, kind: kind!, bytes, identicalBytes: 0 })),
    directories: sumChains(owners, depth, directoriesAbove, path => path),
    packages: told?.packages ?? null,
    space: space && {
      ...space,
      overlayBytes: space.availableBytes,
      limitedBy: upper.kind === 'image' ? 'overlay' : 'stick',
      explanation: EXPLANATION,
    },
    advice: await adviseFolders(fs, owners, size, target.home !== undefined),
    findings: [...upper.findings, ...findings, ...(told?.findings ?? [])],
  }
}
