import { isLiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import { freeByGroup, freeInodesOf } from './bitmap.js'
import { sweepInodes } from './sweep.js'
import type { Volume } from './volume.js'

/** The rest is counted. */
const MOST_FINDINGS = 200

/**
 * Compares what the filesystem says of itself in several places: free blocks and inodes, directories, checksums of all
 * descriptors, bitmaps and inodes. Broken structures are told and passed over where others can still be read; no file's
 * content is read. It is no e2fsck: what is not told may be broken all the same.
 *
 * @throws IO
 */
export const checkExt4 = async (volume: Volume): Promise<Finding[]> => {
  const { superblock: sb, geometry, device } = volume
  const findings: Finding[] = []
  const e2fsck = 'e2fsck -f'
  let untold = 0
  const tell = (finding: Finding): void => {
    if (findings.length < MOST_FINDINGS) findings.push(finding)
    else untold++
  }
  const caught = (error: unknown): void => {
    if (!isLiveError(error) || error.code !== 'CORRUPT') throw error
    const { expected, found } = error.data
    tell({
      code: 'EXT4_CORRUPT',
      severity: 'error',
      where: device.name,
      message: error.message,
      ...(typeof expected === 'string' || typeof expected === 'number' ? { expected } : {}),
      ...(typeof found === 'string' || typeof found === 'number' ? { found } : {}),
      remedy: e2fsck,
    })
  }
  const compare = (code: string, what: string, expected: number, found: number, severity: 'warning' | 'note'): void => {
    if (expected === found) return
    const message = `${device.name}: ${what} is ${found}, counted were ${expected}`
    tell({ code, severity, where: device.name, message, expected, found, remedy: e2fsck })
  }
  if (sb.hasErrors)
    tell({
      code: 'EXT4_ERRORS',
      severity: 'warning',
      where: device.name,
      message: `${device.name}: the kernel marked errors in this filesystem (${sb.errorCount} counted)`,
      remedy: e2fsck,
    })
  if (sb.needsRecovery)
    tell({
      code: 'EXT4_NEEDS_RECOVERY',
      severity: 'note',
      where: device.name,
      message: `${device.name}: the journal holds changes that are not in their places yet`,
    })

  const countDirectories = async (): Promise<void> => {
    const directories = new Uint32Array(geometry.groupCount)
    try {
      for await (const inodes of sweepInodes(volume, { onCorrupt: caught }))
        for (const { ino, kind, linkCount } of inodes)
          if (kind === 'directory' && linkCount > 0) directories[Math.floor((ino - 1) / sb.inodesPerGroup)]!++
      for (const [index, count] of directories.entries()) {
        const { usedDirectories } = await volume.group(index)
        compare('EXT4_DIRECTORIES', `the directories of group ${index}`, count, usedDirectories, 'warning')
      }
    } catch (error) {
      caught(error)
    }
  }

  let clusters = 0
  let whole = true
  try {
    for await (const free of freeByGroup(volume)) {
      clusters += free.clusters
      const { index, freeClusters } = free.group
      compare('EXT4_FREE_BLOCKS', `the free blocks of group ${index}`, free.clusters, freeClusters, 'warning')
    }
  } catch (error) {
    caught(error)
    whole = false
  }
  // The kernel keeps the totals up to date only when it unmounts.
  const total = Math.floor(sb.freeBlockCount / geometry.clusterBlocks)
  if (whole) compare('EXT4_FREE_BLOCKS', 'the free blocks in the superblock', clusters, total, 'note')

  let freeInodeCount = 0
  let inodesWhole = true
  for (let index = 0; index < geometry.groupCount; index++) {
    try {
      const group = await volume.group(index)
      const free = (await freeInodesOf(volume, group)).reduce((sum, { count }) => sum + count, 0)
      freeInodeCount += free
      compare('EXT4_FREE_INODES', `the free inodes of group ${index}`, free, group.freeInodes, 'warning')
    } catch (error) {
      caught(error)
      inodesWhole = false
    }
  }
  if (inodesWhole) {
    compare('EXT4_FREE_INODES', 'the free inodes in the superblock', freeInodeCount, sb.freeInodeCount, 'note')
    await countDirectories()
  }
  if (untold > 0)
    findings.push({
      code: 'EXT4_MORE',
      severity: 'warning',
      where: device.name,
      message: `${device.name}: ${untold} further findings are not listed`,
      found: untold,
      remedy: e2fsck,
    })
  return findings
}
