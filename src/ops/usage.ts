import type { Device } from '../block/device.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { openExt4 } from '../fs/ext4/reader.js'
import type { FileKind } from '../fs/filesystem.js'
import { openTarget } from '../liveos/open-target.js'
import { openStack } from '../liveos/stack.js'
import type { Target, TargetInput } from '../liveos/target.js'
import type { FreeSpace } from '../liveos/usage/space.js'
import { type Category, type CategoryUsage, readOverlayUsage } from '../liveos/usage/usage.js'
import { openOverlaid } from '../liveos/view.js'
import { type Progress, progressing, type Report } from './progress.js'
import { type OverlayStatus, overlayStatus } from './status-overlay.js'
import { type Advice, adviseFolders } from './usage-advice.js'
import { type DirectoryUsage, sumDirectories } from './usage-directories.js'
import { type PackageUsage, sumPackages } from './usage-packages.js'
import { upperUsage } from './usage-upper.js'

export { printableName } from '../fs/name.js'
export type { Advice, Category, CategoryUsage, DirectoryUsage, FreeSpace, PackageUsage }

/** What data of an overlay are; `filesystem` what the filesystem of an OverlayFS in a file takes for itself. */
export type UsageCategory = Category | 'filesystem'

/** An inode that has data in the overlay. */
export interface FileUsage {
  /** null where no directory names it */
  readonly path: string | null
  readonly inode: number
  readonly kind: FileKind | null
  /** its content, its map and its extended attributes in the overlay, identical ones too */
  readonly bytes: number
  readonly identicalBytes: number
}

/** What `liveos usage` tells. All sizes are bytes. */
export interface Usage {
  readonly target: string
  readonly overlay: {
    readonly path: string
    readonly state: OverlayStatus['state']
    /** of an OverlayFS directory what it takes and what the stick has left for it */
    readonly size: number
    /** null of an OverlayFS */
    readonly chunkSize: number | null
    readonly chunks: number | null
    /** of an OverlayFS: names of the base that it hides */
    readonly deletions?: number
  }
  /** what of the overlay's size is taken: the sum of `categories` */
  readonly allocatedBytes: number
  readonly unusedBytes: number
  /** largest first */
  readonly categories: readonly (Omit<CategoryUsage, 'category'> & { readonly category: UsageCategory })[]
  /** how many inodes have data in the overlay; `files` lists the largest of them */
  readonly fileCount: number
  readonly files: readonly FileUsage[]
  /** largest first; each with all below it */
  readonly directories: readonly DirectoryUsage[]
  /** null where they were not asked for, or can't be told */
  readonly packages: readonly PackageUsage[] | null
  /** null where the root is no readable ext4 */
  readonly space: (FreeSpace & SpaceLeft) | null
  readonly advice: readonly Advice[]
  readonly findings: readonly Finding[]
}

/** What can really still be written. */
export interface SpaceLeft {
  /** what the overlay can still take; null where that is not known */
  readonly overlayBytes: number | null
  readonly limitedBy: 'overlay' | 'stick' | 'filesystem' | null
  /** why `df` says something else */
  readonly explanation: string
}

export interface UsageOptions {
  /** how many files are listed; 20 if left out */
  readonly top?: number | undefined
  /** how many directories deep sums are told; 2 if left out */
  readonly depth?: number | undefined
  /** sum by package too, for which the package database has to be read */
  readonly packages?: boolean | undefined
}

/**
 * Tells what takes the room of a target's overlay. Reads only, so it works on a stick in use.
 *
 * @throws NOT_FOUND, USAGE  also where there is no overlay
 * @throws UNSUPPORTED  an overlay that is neither a dm-snapshot store nor an OverlayFS that can be read; CORRUPT, IO, CANCELLED
 */
export async function* runUsage(
  input: TargetInput,
  options: UsageOptions = {},
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Progress, Usage> {
  return yield* progressing(async report => {
    const { target, close } = await openTarget(input, signal)
    try {
      const overlaid = await openOverlaid(target)
      if (!overlaid) return await usageOf(target, options, report, signal)
      try {
        return await upperUsage(target, overlaid, options, report, signal)
      } finally {
        await overlaid.close()
      }
    } finally {
      await close()
    }
  })
}

const usageOf = async (
  target: Target,
  { top = 20, depth = 2, packages: wantsPackages = false }: UsageOptions,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Usage> => {
  const stack = await openStack(target, { ignoreInvalid: true })
  const open: Device[] = []
  try {
    const { overlay, base } = stack
    if (!overlay)
      throw new LiveError('NOT_FOUND', `${target.name} has no overlay: there is nothing that it could take`, {
        path: target.name,
      })
    const status = await overlayStatus(target, base.origin.size, [], open, {}, overlay.store)
    const usage = await readOverlayUsage(
      { ...stack, overlay },
      { signal, onProgress: (phase, doneBytes, totalBytes) => report({ phase, doneBytes, totalBytes }) },
    )
    const { allocatedBytes, unusedBytes, categories, owners, root } = usage
    const fs = root && (await openExt4(root))
    const told = fs && wantsPackages ? await sumPackages(fs, owners) : undefined
    return {
      target: target.name,
      overlay: {
        path: overlay.file.path,
        state: status.state,
        size: overlay.store.cowSize,
        chunkSize: usage.chunkSize,
        chunks: usage.exceptions,
      },
      allocatedBytes,
      unusedBytes,
      categories,
      fileCount: owners.length,
      files: owners.slice(0, top).map(({ path, inode, kind, bytes, identicalBytes }) => ({
        path: path ?? null,
        inode,
        kind: kind ?? null,
        bytes,
        identicalBytes,
      })),
      directories: sumDirectories(usage, depth),
      packages: told?.packages ?? null,
      space: usage.space ? { ...usage.space, ...spaceLeft(usage.space, status) } : null,
      advice: fs ? await adviseFolders(fs, owners, overlay.store.cowSize, target.home !== undefined) : [],
      findings: [...usage.findings, ...(told?.findings ?? [])],
    }
  } finally {
    for (const device of open) await device.close()
    await stack.close()
  }
}

const spaceLeft = ({ availableBytes }: FreeSpace, { left, state }: OverlayStatus): SpaceLeft => {
  const counts = 'df counts blocks of the root filesystem, wherever they lie'
  if (!left || state === 'invalid')
    return {
      overlayBytes: left?.bytes ?? null,
      limitedBy: null,
      explanation: `${counts}, and does not know that the kernel takes nothing more into this overlay.`,
    }
  const limitedBy = left.bytes > availableBytes ? 'filesystem' : left.limitedBy === 'stick' ? 'stick' : 'overlay'
  const first = 'each block written for the first time since the base was made takes room of the overlay'
  const end =
    limitedBy === 'filesystem'
      ? 'which has more of it than the filesystem, so here df tells the nearer limit'
      : limitedBy === 'stick'
        ? 'whose file has holes that the stick has not the room to fill: the overlay is lost once the stick is full, whatever df says'
        : 'which overflows once that is used up, whatever df says'
  return {
    overlayBytes: left.bytes,
    limitedBy,
    explanation: `${counts}, but ${first}, deleting gives none back, and what df calls free is mostly room of the base: what counts is the overlay, ${end}.`,
  }
}
