import type { Device } from '../block/device.js'
import { type ByteRuns, byteRuns, masked } from '../block/masked.js'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import { freeByGroup } from '../fs/ext4/bitmap.js'
import { openReplayed, type ReplayedDevice } from '../fs/ext4/journal/replayed.js'
import { readExt4Superblock } from '../fs/ext4/superblock.js'
import { openVolume } from '../fs/ext4/volume.js'

/** The root filesystem as a merge writes it: its journal replayed, and zeros where nothing is kept. */
export interface MergedRoot {
  readonly device: Device
  /** bytes that the replay changed; empty where there was nothing to replay */
  readonly replayed: ByteRuns
  /** bytes that the filesystem calls free and that are shown as zeros; undefined where nothing is trimmed */
  readonly free: ByteRuns | undefined
  readonly findings: readonly Finding[]
}

const NONE = byteRuns([])

/**
 * Opens a root for merging. Only what is free in the *replayed* bitmaps, their checksums right or else their counts those of
 * the group descriptors, is taken for free: a file that was written shortly before a cut has blocks that the bitmaps on the
 * medium still call free. Wherever that can't be known nothing is trimmed, and a finding says why.
 *
 * @param root  origin and overlay
 * @param trim  false: keeps free blocks as they are
 * @throws IO
 */
export const openMergedRoot = async (
  root: Device,
  { trim = true }: { readonly trim?: boolean | undefined } = {},
): Promise<MergedRoot> => {
  const findings: Finding[] = []
  const where = root.name
  const add = (code: string, severity: Finding['severity'], message: string, remedy?: string): void => {
    findings.push({ code, severity, where, message, ...(remedy === undefined ? {} : { remedy }) })
  }
  const plain: MergedRoot = { device: root, replayed: NONE, free: undefined, findings }
  const type = await detectFs(root)
  if (type !== 'ext4') {
    if (type === undefined)
      add(
        'ROOT_UNKNOWN',
        'warning',
        'the root filesystem is of no kind that is known here; its bytes are merged as they are',
      )
    else if (trim)
      add('NOT_TRIMMED', 'note', `what the ${type} root has free is not told, so its blocks are kept as they are`)
    return plain
  }
  const device = await attempt(() => openReplayed(root))
  if (isLiveError(device)) {
    add(
      'JOURNAL_NOT_REPLAYED',
      'warning',
      `the journal of the ext4 root can't be replayed (${device.message}), so it is merged as it stands and nothing is trimmed`,
      'run e2fsck on the merged image',
    )
    return plain
  }
  const { replayed } = device
  if (replayed.needsRecovery)
    add(
      'JOURNAL_REPLAYED',
      'note',
      `the ext4 root was not unmounted cleanly: ${replayed.transactions} transactions of its journal (${replayed.blocks} blocks) are in their places in the merged image`,
    )
  const changed = replayedRuns(device)
  const { hasErrors, errorCount } = await readExt4Superblock(device)
  if (hasErrors)
    add(
      'ROOT_HAS_ERRORS',
      'warning',
      `the ext4 root carries the mark of errors (${errorCount} counted), so nothing is trimmed`,
      'run e2fsck on the merged image',
    )
  if (!trim || hasErrors) return { device, replayed: changed, free: undefined, findings }
  const free = await attempt(() => freeRuns(device))
  if (isLiveError(free)) {
    add(
      'NOT_TRIMMED',
      'warning',
      `what the root has free can't be told (${free.message}), so nothing is trimmed`,
      'run e2fsck on the merged image',
    )
    return { device, replayed: changed, free: undefined, findings }
  }
  return { device: masked(device, free), replayed: changed, free, findings }
}

const attempt = async <T>(work: () => Promise<T>) => {
  try {
    return await work()
  } catch (error) {
    if (isLiveError(error) && (error.code === 'CORRUPT' || error.code === 'UNSUPPORTED')) return error
    throw error
  }
}

const replayedRuns = ({ replacedBlocks, patchedRuns, blockSize }: ReplayedDevice): ByteRuns => {
  const runs = [...patchedRuns]
  for (const { block } of replacedBlocks()) runs.push({ start: block * blockSize, length: blockSize })
  runs.sort((a, b) => a.start - b.start)
  // a patch may lie in a replaced block
  const ascending: { start: number; length: number }[] = []
  for (const { start, length } of runs) {
    const last = ascending.at(-1)
    const from = last ? Math.max(start, last.start + last.length) : start
    if (start + length > from) ascending.push({ start: from, length: start + length - from })
  }
  return byteRuns(ascending)
}

/** @throws CORRUPT  a bitmap's checksum is wrong, or its count is not that of the group */
const freeRuns = async (device: Device): Promise<ByteRuns> => {
  const volume = await openVolume(device)
  const { blockSize } = volume.superblock
  const runs: { start: number; length: number }[] = []
  for await (const { group, ranges, clusters } of freeByGroup(volume)) {
    if (clusters !== group.freeClusters)
      throw volume.wrong(
        group.blockBitmap * blockSize,
        `free clusters of group ${group.index}`,
        group.freeClusters,
        clusters,
      )
    for (const [from, to] of ranges) runs.push({ start: from * blockSize, length: (to - from) * blockSize })
  }
  return byteRuns(runs)
}
