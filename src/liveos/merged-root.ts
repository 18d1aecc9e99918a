import { type ByteRuns, byteRuns } from '../block/byte-runs.js'
import type { Device } from '../block/device.js'
import { masked } from '../block/masked.js'
import type { Store } from '../block/snapshot/store.js'
import { isLiveError, type LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import { replacedRuns } from '../fs/ext4/journal/replaced-runs.js'
import { openReplayed, type ReplayedDevice } from '../fs/ext4/journal/replayed.js'
import { readFreeSpace } from './free-space.js'

/** The root filesystem as a merge writes it: its journal replayed, and zeros where nothing is kept. */
export interface MergedRoot {
  readonly device: Device
  /** bytes that the replay changed; empty where there was nothing to replay */
  readonly replayed: ByteRuns
  /** bytes that the filesystem calls free and that are shown as zeros; undefined where nothing is trimmed */
  readonly free: ByteRuns | undefined
  readonly findings: readonly Finding[]
}

/** How a root is opened for merging. */
export interface MergeRootOptions {
  /** false: keeps free blocks as they are. true if left out */
  readonly trim?: boolean | undefined
  /** the overlay in `root`, where there is one */
  readonly store?: Store | undefined
}

/**
 * Opens a root for merging. Only what is free in the *replayed* bitmaps is taken for free: a file that was written shortly before
 * a cut has blocks that the bitmaps on the medium still call free. Wherever that can't be known for certain nothing is trimmed,
 * and a finding says why.
 *
 * The journal is left as it is where it stands in the base, and the overlay holds other bytes in blocks that it replaces: the
 * new base, its journal empty, would show those under the overlay.
 *
 * @param root  origin and overlay
 * @throws IO
 */
export const openMergedRoot = async (
  root: Device,
  { trim = true, store }: MergeRootOptions = {},
): Promise<MergedRoot> => {
  const findings: Finding[] = []
  const add = (code: string, severity: Finding['severity'], message: string, remedy?: string): void => {
    findings.push({ code, severity, where: root.name, message, ...(remedy === undefined ? {} : { remedy }) })
  }
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
    return { device: root, replayed: byteRuns([]), free: undefined, findings }
  }
  const device = await replayedRoot(root, store)
  if (isLiveError(device) || typeof device === 'string') {
    add(
      'JOURNAL_NOT_REPLAYED',
      'warning',
      `the journal of the ext4 root can't be replayed (${typeof device === 'string' ? device : device.message}), so it is merged as it stands and nothing is trimmed`,
      'run e2fsck on the merged image',
    )
    return { device: root, replayed: byteRuns([]), free: undefined, findings }
  }
  const { transactions, blocks, needsRecovery } = device.replayed
  if (needsRecovery)
    add(
      'JOURNAL_REPLAYED',
      'note',
      `the ext4 root was not unmounted cleanly: ${transactions} transactions of its journal (${blocks} blocks) are in their places in the merged image`,
    )
  const plain: MergedRoot = { device, replayed: replacedRuns(device), free: undefined, findings }
  if (!trim) return plain
  const free = await readFreeSpace(device)
  if ('doubt' in free) {
    add(
      free.hasErrors ? 'ROOT_HAS_ERRORS' : 'NOT_TRIMMED',
      'warning',
      `nothing of the ext4 root is trimmed: ${free.doubt}`,
      'run e2fsck on the merged image',
    )
    return plain
  }
  if (free.leftOut > 0)
    add(
      'TRIMMED_IN_PART',
      'note',
      `the free space of the ext4 root is in too many pieces: the smallest, ${free.leftOut} bytes together, are kept as they are`,
    )
  return { ...plain, device: masked(device, free.runs), free: free.runs }
}

/** The root after its journal was replayed, or why that is not done. @throws IO */
const replayedRoot = async (root: Device, store: Store | undefined): Promise<ReplayedDevice | LiveError | string> => {
  try {
    const device = await openReplayed(root)
    return store && (await staysBelow(root, device, store))
      ? 'it stands in the base, and the overlay holds other bytes in blocks that it replaces'
      : device
  } catch (error) {
    if (isLiveError(error) && (error.code === 'CORRUPT' || error.code === 'UNSUPPORTED')) return error
    throw error
  }
}

/**
 * True where a base with the journal replayed would show something else under the overlay: the overlay doesn't bring the two
 * superblocks that have the journal replayed once more, and does bring bytes that the replay changes.
 */
const staysBelow = async (root: Device, device: ReplayedDevice, { exceptions, chunkSize }: Store): Promise<boolean> => {
  const { blockSize, patchedRuns } = device
  const chunksOf = (start: number, length: number) =>
    [Math.floor(start / chunkSize), Math.ceil((start + length) / chunkSize)] as const
  const isAbove = ({ start, length }: { start: number; length: number }): boolean => {
    const [from, to] = chunksOf(start, length)
    const first = exceptions.firstFrom(from)
    return exceptions.firstFrom(to) - first === to - from
  }
  if (patchedRuns.every(isAbove)) return false
  const runs = [
    ...patchedRuns,
    ...Array.from(device.replacedBlocks(), ({ block }) => ({ start: block * blockSize, length: blockSize })),
  ]
  for (const { start, length } of runs)
    for (const { oldChunk } of exceptions.range(...chunksOf(start, length))) {
      const from = Math.max(start, oldChunk * chunkSize)
      const size = Math.min(start + length, (oldChunk + 1) * chunkSize) - from
      const [before, after] = await Promise.all([root.read(from, size), device.read(from, size)])
      if (Buffer.compare(before, after) !== 0) return true
    }
  return false
}
