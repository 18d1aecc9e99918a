import { unsupported } from '../../error.js'
import type { Finding } from '../../finding.js'
import { detectFs } from '../../fs/detect.js'
import { openReplayed, type ReplayedDevice } from '../../fs/ext4/journal/replayed.js'
import type { Ext4Superblock } from '../../fs/ext4/superblock.js'
import type { Stack } from '../stack.js'
import type { Changes } from './change.js'
import { compareInodes } from './compare.js'
import { contentComparison } from './content.js'
import { readNames } from './names.js'
import { byteRanges, touchedRanges } from './ranges.js'
import { openSide, type Side, told } from './side.js'
import { type Sweeping, sweepBoth } from './sweep.js'
import { compareTrees, type TreeChanges } from './tree.js'

/** How changes are read. */
export interface ChangesOptions {
  /** Only this path and what is below it; a rename counts where either of its paths does. All if left out. */
  readonly path?: string | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?:
    | ((phase: 'inodes' | 'names' | 'contents', doneBytes: number, totalBytes: number) => void)
    | undefined
}

/** What decides how bytes of inodes and directories are understood. */
const layoutOf = (sb: Ext4Superblock): string =>
  [
    sb.blockSize,
    sb.clusterSize,
    sb.inodeSize,
    sb.inodesPerGroup,
    sb.blocksPerGroup,
    sb.firstDataBlock,
    sb.firstInode,
    sb.compat,
    sb.incompat,
    sb.metadataCsum,
    sb.checksumSeed,
  ].join(' ')

const isWithin = (path: string, filter: string): boolean =>
  filter === '/' || path === filter || path.startsWith(`${filter}/`)

/** Opens both sides of a stack as they are once their journals are replayed. @throws UNSUPPORTED, CORRUPT, IO */
const openSides = async (
  stack: Stack,
): Promise<{ base: Side; root: Side; devices: readonly [ReplayedDevice, ReplayedDevice] }> => {
  for (const device of [stack.base.origin, stack.root])
    if ((await detectFs(device)) !== 'ext4')
      throw unsupported(
        'diff of a root filesystem that is not ext4',
        device.name,
        'only an ext4 root filesystem can be compared with its base',
      )
  const devices = [await openReplayed(stack.base.origin), await openReplayed(stack.root)] as const
  const base = await openSide('the base', devices[0])
  const root = await openSide('the root', devices[1])
  return { base, root, devices }
}

/**
 * Finds what an overlay changed, by file. Inode tables and directories are read once, in the order of the disk; contents
 * only where the overlay has chunks, or where a journal is to be replayed. Damage is told in the findings, and what it
 * hides is not compared. Times of access and of inode changes (ctime), flags of chattr and project ids are not looked at.
 *
 * Memory grows with the number of directories and of changed files, not with their contents.
 *
 * @throws UNSUPPORTED  the root is no ext4, or its journal can't be replayed; CORRUPT, IO  not even its superblock is read
 * @throws CANCELLED
 */
export const readChanges = async (
  stack: Stack,
  { path: filter = '/', signal, onProgress = () => {} }: ChangesOptions = {},
): Promise<Changes> => {
  if (!stack.overlay) return { changes: [], touchedBytes: 0, findings: [] }
  const { base, root, devices } = await openSides(stack)
  const notes: Finding[] = []
  let touched = touchedRanges(stack.overlay.store, ...devices)
  if (layoutOf(base.volume.superblock) !== layoutOf(root.volume.superblock)) {
    touched = byteRanges([{ start: 0, end: stack.root.size }])
    notes.push({
      code: 'DIFF_OTHER_LAYOUT',
      severity: 'note',
      where: root.volume.device.name,
      message:
        'the filesystem was made anew or converted since the base: everything was compared, not only what the overlay holds',
    })
  }
  const findings = told()
  const sweeping = (phase: 'inodes' | 'names' | 'contents'): Sweeping => ({
    base,
    root,
    touched,
    told: findings,
    signal,
    onBytes: (doneBytes, totalBytes) => onProgress(phase, doneBytes, totalBytes),
  })
  const contents = contentComparison(sweeping('contents'))
  // In a function of its own, so that tables and names are let go of before contents are compared.
  const readTrees = async (): Promise<TreeChanges> => {
    const swept = await sweepBoth(sweeping('inodes'))
    // Of some paths alone it is not known yet which files are wanted.
    if (filter === '/') await contents.addSame(swept.files)
    const names = await readNames(sweeping('names'), swept, contents)
    return compareTrees(sweeping('names'), swept, names)
  }
  const trees = await readTrees()
  const changes = await compareInodes(sweeping('contents'), trees, contents, path => isWithin(path, filter))
  return { changes, touchedBytes: touched.bytes, findings: [...notes, ...findings.all()] }
}
