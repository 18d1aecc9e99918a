import type { OverlayUsage, OwnerUsage } from '../liveos/usage/usage.js'

/** What a directory and all below it take of an overlay. */
export interface DirectoryUsage {
  readonly path: string
  /** names from the root: 0 for `/` */
  readonly depth: number
  readonly bytes: number
  readonly identicalBytes: number
  /** inodes with data in the overlay, the directory's own and those of directories below among them */
  readonly fileCount: number
}

/**
 * Sums what inodes take by directory, as `du` does; largest first.
 *
 * @param chainOf  the directories that an inode counts in, from the root on; none for one that counts nowhere
 */
export const sumChains = <K>(
  owners: readonly OwnerUsage[],
  maxDepth: number,
  chainOf: (owner: OwnerUsage) => Iterable<K>,
  pathOf: (directory: K) => string,
): readonly DirectoryUsage[] => {
  const sums = new Map<K, { depth: number; bytes: number; identicalBytes: number; fileCount: number }>()
  for (const owner of owners) {
    let depth = 0
    for (const directory of chainOf(owner)) {
      if (depth > maxDepth) break
      const sum = sums.get(directory) ?? { depth, bytes: 0, identicalBytes: 0, fileCount: 0 }
      sum.bytes += owner.bytes
      sum.identicalBytes += owner.identicalBytes
      sum.fileCount++
      sums.set(directory, sum)
      depth++
    }
  }
  return Array.from(sums, ([directory, sum]) => ({ path: pathOf(directory), ...sum })).sort(
    (a, b) => b.bytes - a.bytes || a.depth - b.depth || (a.path < b.path ? -1 : 1),
  )
}

/** The same of an overlay in chunks. What has no path counts nowhere. */
export const sumDirectories = (
  { owners, paths }: Pick<OverlayUsage, 'owners' | 'paths'>,
  maxDepth: number,
): readonly DirectoryUsage[] => {
  const chainOf = ({ inode, kind, path }: OwnerUsage): readonly number[] => {
    if (path === undefined || !paths) return []
    const chain: number[] = kind === 'directory' ? [inode] : []
    for (let at = paths.parentOf(inode); at !== undefined; at = paths.parentOf(at)) chain.push(at)
    return chain.reverse()
  }
  return sumChains(owners, maxDepth, chainOf, directory => paths?.pathOf(directory) ?? '/')
}
