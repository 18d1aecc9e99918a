import { isLiveError, LiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import { fileDataLength } from '../../fs/data-length.js'
import type { Ext4 } from '../../fs/ext4/reader.js'
import { openVolume } from '../../fs/ext4/volume.js'
import { isMapped, pathBelow, type Stat } from '../../fs/filesystem.js'
import { printableName } from '../../fs/name.js'
import type { OverlayFs } from '../../fs/overlayfs/reader.js'
import { type FreeSpace, readFreeSpace } from './space.js'
import type { OwnerUsage } from './usage.js'

/** What the upper layer of an OverlayFS holds. */
export interface UpperUsage {
  /** files with data in it, the largest first; one with several names has the first that was met */
  readonly owners: readonly OwnerUsage[]
  /** bytes of their data, holes left out where they are known */
  readonly fileBytes: number
  /** names of the base that it hides */
  readonly deletions: number
  readonly findings: readonly Finding[]
}

/** Files from this size on are asked for their holes. */
const ASK_HOLES = 1 << 16
const MAX_FINDINGS = 100

/**
 * Tells what an upper layer holds, by file. What can't be read is told in the findings.
 *
 * @throws CANCELLED
 */
export const readUpperUsage = async (root: OverlayFs, signal?: AbortSignal): Promise<UpperUsage> => {
  const owners: OwnerUsage[] = []
  const findings: Finding[] = []
  const counted = new Set<number>()
  const entered = new Set<number>()
  let [fileBytes, deletions] = [0, 0]
  const trying = async <T>(where: string, work: () => Promise<T>): Promise<T | undefined> => {
    if (signal?.aborted) throw new LiveError('CANCELLED', 'looking at the overlay was cancelled', {}, signal.reason)
    try {
      return await work()
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      if (findings.length < MAX_FINDINGS)
        findings.push({
          code: 'UPPER_UNREADABLE',
          severity: 'error',
          where,
          message: `${printableName(where)} could not be looked at: ${error.message}`,
        })
      return undefined
    }
  }

  const count = async (path: string, stat: Stat): Promise<void> => {
    const { inode, kind, size } = stat
    if (kind !== 'file' || counted.has(inode)) return
    counted.add(inode)
    // data that stay in the base take no room here
    if ((await root.dataBelow(path)) !== undefined) return
    const { upper } = await root.place(path)
    const bytes = size < ASK_HOLES ? size : await fileDataLength(root.upper, upper!)
    fileBytes += bytes
    if (bytes > 0) owners.push({ inode, kind, path, bytes, identicalBytes: 0 })
  }

  const open: string[] = ['/']
  for (let directory = open.pop(); directory !== undefined; directory = open.pop()) {
    const path = directory
    for (const { name, kind, inode, isWhiteout } of (await trying(path, () => root.upperEntries(path))) ?? []) {
      const at = pathBelow(path, name)
      if (isWhiteout) deletions++
      else if (kind !== 'directory') await trying(at, async () => count(at, await root.stat(at)))
      else if (!entered.has(inode)) {
        entered.add(inode)
        open.push(at)
      }
    }
  }
  owners.sort((a, b) => b.bytes - a.bytes || (a.path! < b.path! ? -1 : 1))
  return { owners, fileBytes, deletions, findings }
}

/** The numbers of `df` for the filesystem that an upper layer is on; undefined where it can't be asked. @throws CORRUPT, IO */
export const readUpperSpace = async ({ upper }: OverlayFs): Promise<FreeSpace | undefined> =>
  isMapped(upper) && 'superblock' in upper && 'device' in upper
    ? readFreeSpace(await openVolume((upper as Ext4).device))
    : undefined
