import { type ByteRuns, byteRuns } from '../../block/byte-runs.js'
import type { Device } from '../../block/device.js'
import type { Store } from '../../block/snapshot/store.js'
import { isLiveError, type LiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import { detectFs } from '../../fs/detect.js'
import { replacedRuns } from '../../fs/ext4/journal/replaced-runs.js'
import { openReplayed } from '../../fs/ext4/journal/replayed.js'
import { openVolume, type Volume } from '../../fs/ext4/volume.js'
import type { FileKind } from '../../fs/filesystem.js'
import { findInodePaths, type InodePaths } from '../inode-paths.js'
import type { Stack } from '../stack.js'
import { type Attributed, attribute } from './attribute.js'
import { compareWithBase } from './compare.js'
import { type PassingDirectories, passingDirectories } from './passing.js'
import { cutPieces, type Pieces, ROLES, type Role } from './pieces.js'
import { type FreeSpace, readFreeSpace } from './space.js'

/**
 * What takes room in an overlay: what its data are, by `Role`, and
 * - `identical` data that the base has in the same place, whatever the filesystem calls them · `header` the store's own, one chunk
 * - `lists` its lists of exceptions · `gaps` chunks that no list names and that are never used again
 */
export type Category = Role | 'identical' | 'header' | 'lists' | 'gaps'

/** Bytes of one category. */
export interface CategoryUsage {
  readonly category: Category
  /** bytes that count for this category and no other; over all categories they are what is allocated */
  readonly bytes: number
  /** further bytes of this kind, which count as `identical` */
  readonly identicalBytes: number
}

/** An inode that has data in the overlay. */
export interface OwnerUsage {
  readonly inode: number
  readonly kind: FileKind | undefined
  /** undefined where no directory names it */
  readonly path: string | undefined
  /** its content, its map and its extended attributes in the overlay, identical ones too */
  readonly bytes: number
  readonly identicalBytes: number
}

/** What takes the room of an overlay. */
export interface OverlayUsage {
  /** bytes */
  readonly chunkSize: number
  readonly exceptions: number
  /** bytes that the overlay has taken of its size */
  readonly allocatedBytes: number
  /** bytes that follow, unused */
  readonly unusedBytes: number
  /** all that have bytes, the largest first */
  readonly categories: readonly CategoryUsage[]
  /** largest first */
  readonly owners: readonly OwnerUsage[]
  /** of inodes in `owners`: the directory above each; undefined for the root and what has no path */
  readonly paths: InodePaths | undefined
  /** the merged root with its journal replayed; undefined where it is no readable ext4 */
  readonly root: Device | undefined
  /** what `df` says; undefined where the root is no readable ext4 */
  readonly space: FreeSpace | undefined
  readonly findings: readonly Finding[]
}

export interface UsageOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (phase: 'read' | 'compare', doneBytes: number, totalBytes: number) => void
}

/** A stack whose overlay is there. */
export type OverlaidStack = Stack & { readonly overlay: NonNullable<Stack['overlay']> }

/**
 * Tells what takes the room of an overlay: each of its chunks by what owns it in the merged filesystem, its journal replayed, and
 * by whether the base has the same there. A root that is no ext4, or that is damaged, leaves what it hides as `unknown`, with a
 * finding.
 *
 * @throws CANCELLED; IO, CORRUPT never for what the root holds
 */
export const readOverlayUsage = async (
  stack: OverlaidStack,
  { signal, onProgress }: UsageOptions = {},
): Promise<OverlayUsage> => {
  const { store, file } = stack.overlay
  const findings: Finding[] = [...storeFindings(file.path, store)]
  onProgress?.('read', 0, 0)
  const { volume, replaced } = await rootVolume(stack, findings)
  const pieces = cutPieces(store.exceptions, store.chunkSize, volume?.superblock.blockSize ?? store.chunkSize)
  const found = volume ? await attribute(volume, pieces, signal) : undefined
  if (volume && found) findings.push(...rootFindings(volume, found))
  const wanted = new Set<number>()
  for (let piece = 0; piece < pieces.count; piece++) if (pieces.inodeOf(piece) !== 0) wanted.add(pieces.inodeOf(piece))
  const passing = volume && found && passingDirectories(volume, found, wanted, replaced)
  const { same, unreadable, error } = await compareWithBase(stack, pieces, {
    signal,

    pass: passing?.pass,
    onProgress: (done, total) => onProgress?.('compare', done, total),
  })
  if (error)
    findings.push({
      code: 'COMPARE_UNREADABLE',
      severity: 'warning',
      where: file.path,
      message: `${unreadable * pieces.unit} bytes could not be compared with the base, and count as changed: ${error.message}`,
    })
  const owned = sumOwners(pieces, same)
  const paths = volume && found ? await ownerPaths(volume, found, wanted, passing, findings, signal) : undefined
  const header = store.chunkSize
  const lists = store.areaCount * store.chunkSize
  const allocatedBytes = Math.min(store.nextFreeChunk * store.chunkSize, store.cowSize)
  const categories = [
    ...sumRoles(pieces, same),
    { category: 'header' as const, bytes: header, identicalBytes: 0 },
    { category: 'lists' as const, bytes: lists, identicalBytes: 0 },
    {
      category: 'gaps' as const,
      bytes: allocatedBytes - header - lists - pieces.count * pieces.unit,
      identicalBytes: 0,
    },
  ]
  return {
    chunkSize: store.chunkSize,
    exceptions: store.exceptions.count,
    allocatedBytes,
    unusedBytes: store.cowSize - allocatedBytes,
    categories: categories
      .filter(({ bytes, identicalBytes }) => bytes > 0 || identicalBytes > 0)
      .sort((a, b) => b.bytes - a.bytes),
    owners: Array.from(owned, ([inode, { bytes, identicalBytes }]) => ({
      inode,
      kind: found?.kinds.get(inode),
      path: paths?.pathOf(inode),
      bytes,
      identicalBytes,
    })).sort((a, b) => b.bytes - a.bytes || a.inode - b.inode),
    paths,
    root: volume?.device,
    space: volume ? await spaceOf(volume, findings) : undefined,
    findings,
  }
}

const storeFindings = (path: string, { state, truncated }: Store): readonly Finding[] =>
  state === 'invalid' || truncated
    ? [
        {
          code: 'OVERLAY_INVALID',
          severity: 'error',
          where: path,
          message: `the kernel reads this overlay no more; counted is what it still holds`,
          remedy: 'copy out what you need first',
        },
      ]
    : []

const NOTHING = byteRuns([])

/** The merged root, and where its journal replaces what is on the disk. */
const rootVolume = async (
  stack: Stack,
  findings: Finding[],
): Promise<{ readonly volume: Volume | undefined; readonly replaced: ByteRuns }> => {
  const { root, base } = stack
  const add = (code: string, message: string): void => {
    findings.push({ code, severity: 'warning', where: base.file.path, message })
  }
  try {
    const type = await detectFs(root)
    if (type === 'ext4') {
      const device = await openReplayed(root)
      return { volume: await openVolume(device), replaced: replacedRuns(device) }
    }
    add(
      'ROOT_UNSUPPORTED',
      `the root is ${type ?? 'no known filesystem'}: who owns the chunks can be told of ext4 only`,
    )
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    add(error.code === 'UNSUPPORTED' ? 'ROOT_UNSUPPORTED' : 'ROOT_DAMAGED', error.message)
  }
  return { volume: undefined, replaced: NOTHING }
}

const rootFindings = ({ device }: Volume, { errors, brokenInodes }: Attributed): readonly Finding[] =>
  errors.map(({ message }) => ({
    code: 'ROOT_DAMAGED',
    severity: 'warning',
    where: device.name,
    message: `${message}; what it owns is counted as unknown${brokenInodes > 1 ? ` (${brokenInodes} inodes are broken)` : ''}`,
  }))

interface Bytes {
  bytes: number
  identicalBytes: number
}

const sumOwners = (pieces: Pieces, same: Uint8Array): ReadonlyMap<number, Bytes> => {
  const owned = new Map<number, Bytes>()
  for (let piece = 0; piece < pieces.count; piece++) {
    const inode = pieces.inodeOf(piece)
    if (inode === 0) continue
    let sum = owned.get(inode)
    if (!sum) {
      sum = { bytes: 0, identicalBytes: 0 }
      owned.set(inode, sum)
    }
    sum.bytes += pieces.unit
    if (same[piece]) sum.identicalBytes += pieces.unit
  }
  return owned
}

const sumRoles = (pieces: Pieces, same: Uint8Array): readonly CategoryUsage[] => {
  const sums = new Map<Role, Bytes>(ROLES.map(role => [role, { bytes: 0, identicalBytes: 0 }]))
  let identical = 0
  for (let piece = 0; piece < pieces.count; piece++) {
    const sum = sums.get(pieces.roleOf(piece))!
    if (same[piece]) {
      sum.identicalBytes += pieces.unit
      identical += pieces.unit
    } else sum.bytes += pieces.unit
  }
  return [
    ...Array.from(sums, ([category, sum]) => ({ category, ...sum })),
    { category: 'identical', bytes: identical, identicalBytes: 0 },
  ]
}

const ownerPaths = async (
  volume: Volume,
  { directories }: Attributed,
  wanted: ReadonlySet<number>,
  passing: PassingDirectories | undefined,
  findings: Finding[],
  signal: AbortSignal | undefined,
): Promise<InodePaths> => {
  let broken = 0
  let first: LiveError | undefined
  const paths = await findInodePaths(volume, wanted, directories, {
    signal,
    known: passing?.listing,
    onCorrupt: error => {
      broken++
      first ??= error
    },
  })
  if (first)
    findings.push({
      code: 'ROOT_DAMAGED',
      severity: 'warning',
      where: volume.device.name,
      message: `${broken} ${broken === 1 ? 'directory' : 'directories'} can't be read, so the names in there are missing: ${first.message}`,
    })
  return paths
}

const spaceOf = async (volume: Volume, findings: Finding[]): Promise<FreeSpace | undefined> => {
  try {
    return await readFreeSpace(volume)
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    findings.push({
      code: 'ROOT_DAMAGED',
      severity: 'warning',
      where: volume.device.name,
      message: `what is free in the root can't be told: ${error.message}`,
    })
    return undefined
  }
}
