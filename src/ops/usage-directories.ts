import type { OverlayUsage } from '../liveos/usage/usage.js'

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

/** Sums what inodes take by directory, as `du` does; largest first. What has no path counts nowhere. */
export const sumDirectories = (
  { owners, paths }: Pick<OverlayUsage, 'owners' | 'paths'>,
  maxDepth: number,
): readonly DirectoryUsage[] => {
  const sums = new Map<number, { depth: number; bytes: number; identicalBytes: number; fileCount: number }>()
  for (const { inode, kind, path, bytes, identicalBytes } of owners) {
    if (path === undefined || !paths) continue
    const chain: number[] = kind === 'directory' ? [inode] : []
    for (let at = paths.parentOf(inode); at !== undefined; at = paths.parentOf(at)) chain.push(at)
    for (const [depth, directory] of chain
      .reverse()
      .slice(0, maxDepth + 1)
      .entries()) {
      const sum = sums.get(directory)
      if (sum) {
        sum.bytes += bytes
        sum.identicalBytes += identicalBytes
        sum.fileCount++
      } else sums.set(directory, { depth, bytes, identicalBytes, fileCount: 1 })
    }
  }
  return Array.from(sums, ([directory, sum]) => ({ path: paths?.pathOf(directory) ?? '/', ...sum })).sort(
    (a, b) => b.bytes - a.bytes || a.depth - b.depth || (a.path < b.path ? -1 : 1),
  )
}
