import type { ByteRuns } from '../../block/byte-runs.js'
import { parallel } from '../../block/parallel.js'
import { isLiveError } from '../../error.js'
import { hasMap } from '../../fs/ext4/content.js'
import { type Ext4Inode, INODE_FLAG, parseInode } from '../../fs/ext4/inode.js'
import { ROOT_INODE } from '../../fs/ext4/listing.js'
import { type OwnedRun, ownedRuns } from '../../fs/ext4/sweep.js'
import type { Group, Volume } from '../../fs/ext4/volume.js'
import { ahead } from './ahead.js'
import { type Side, stopIfAborted, type Told } from './side.js'

const PIECE = 1 << 20
const PIECES_AHEAD = 4
const MAPS_AT_ONCE = 8

/** What the inode tables of both sides say. */
export interface Swept {
  /** inodes that are others in the two, or have blocks where the two may differ */
  readonly candidates: ReadonlySet<number>
  /** candidates that are regular files in both */
  readonly files: readonly number[]
  /** of each candidate that has names in the root and is no directory: how many, as its link count says */
  readonly links: ReadonlyMap<number, number>
  /** directories that are the same in both, their names too */
  readonly shared: ReadonlySet<number>
  /** all other directories, of each side */
  readonly base: readonly number[]
  readonly root: readonly number[]
  /** first block of each directory, to read them in the order of the disk */
  readonly places: ReadonlyMap<number, number>
}

/** Where two sides are looked at side by side. */
export interface Sweeping {
  readonly base: Side
  readonly root: Side
  readonly touched: ByteRuns
  readonly told: Told
  readonly signal: AbortSignal | undefined
  onBytes(doneBytes: number, totalBytes: number): void
}

/** A piece of a group's inode table. */
interface Piece {
  /** first inode of the group, counted from 0, and one past the last */
  readonly first: number
  readonly end: number
  readonly index: number
  /** where the piece is, on each side; undefined where the side has no such inodes */
  readonly base: { readonly at: number; readonly end: number } | undefined
  readonly root: { readonly at: number; readonly end: number } | undefined
}

/** Bytes of an inode that tell of looking at it, not of changing it: atime, ctime, i_version, checksum. */
const UNTOLD: readonly (readonly [from: number, to: number])[] = [
  [8, 16],
  [36, 40],
  [124, 126],
]
/** The same in the second part of a large inode. */
const UNTOLD_EXTRA: typeof UNTOLD = [...UNTOLD, [130, 136], [140, 144], [152, 156]]
const EXTRA_SIZE_AT = 128
const WHOLE_EXTRA = 28

const sameButTimes = (a: Uint8Array, b: Uint8Array): boolean => {
  let at = 0
  // A shorter second part has attributes where these fields would be.
  const untold = a.length > EXTRA_SIZE_AT && a[EXTRA_SIZE_AT]! >= WHOLE_EXTRA ? UNTOLD_EXTRA : UNTOLD
  for (const [from, to] of untold) {
    if (Buffer.compare(a.subarray(at, from), b.subarray(at, from)) !== 0) return false
    at = to
  }
  return Buffer.compare(a.subarray(at), b.subarray(at)) === 0
}

const isUsed = (bytes: Uint8Array): boolean => (bytes[26]! | bytes[27]!) !== 0 && bytes[1]! >>> 4 !== 0

const isFile = (bytes: Uint8Array): boolean => bytes[1]! >>> 4 === 8

/** Reads what can be read; the rest is zeros, which no inode in use is. */
const readAround = async (side: Side, told: Told, at: number, length: number): Promise<Uint8Array> => {
  const { device, superblock } = side.volume
  try {
    return await device.read(at, length)
  } catch (error) {
    if (length <= superblock.blockSize) {
      told.tell(error, `inode table at byte ${at} of ${side.name}`)
      return new Uint8Array(length)
    }
    const half = Math.ceil(length / 2 / superblock.blockSize) * superblock.blockSize
    const first = await readAround(side, told, at, half)
    return Buffer.concat([first, await readAround(side, told, at + half, length - half)])
  }
}

const groupOf = async ({ volume, name }: Side, index: number, told: Told): Promise<Group | undefined> => {
  if (index >= volume.geometry.groupCount) return undefined
  try {
    return await volume.group(index)
  } catch (error) {
    told.tell(error, `group ${index} of ${name}`)
    return undefined
  }
}

const everUsed = (volume: Volume, group: Group | undefined): number =>
  !group || group.inodesUninitialized ? 0 : volume.superblock.inodesPerGroup - group.unusedInodes

const piecesOf = async ({ base, root, told }: Sweeping): Promise<readonly Piece[]> => {
  const pieces: Piece[] = []
  const { inodeSize, blockSize } = root.volume.superblock
  const perPiece = PIECE / inodeSize
  const groups = Math.max(base.volume.geometry.groupCount, root.volume.geometry.groupCount)
  for (let index = 0; index < groups; index++) {
    const sides = await Promise.all(
      [base, root].map(async side => {
        const group = await groupOf(side, index, told)
        return { table: (group?.inodeTable ?? 0) * blockSize, used: everUsed(side.volume, group) }
      }),
    )
    const [before, after] = [sides[0]!, sides[1]!]
    for (let first = 0; first < Math.max(before.used, after.used); first += perPiece) {
      const end = Math.min(first + perPiece, Math.max(before.used, after.used))
      const part = ({ table, used }: { table: number; used: number }) =>
        used <= first ? undefined : { at: table + first * inodeSize, end: table + Math.min(used, end) * inodeSize }
      pieces.push({ first, end, index, base: part(before), root: part(after) })
    }
  }
  return pieces
}

/** The same piece of both sides; the base's bytes start at `baseAt` and are only those that may differ. */
interface ReadPiece extends Piece {
  readonly rootBytes: Uint8Array
  readonly baseBytes: Uint8Array
  /** first inode of the group in `baseBytes`, counted from 0 */
  readonly baseFirst: number
  /** inodes outside `baseBytes` are those of the root in the base too */
  readonly same: boolean
}

const readPiece = async (sweeping: Sweeping, piece: Piece): Promise<ReadPiece> => {
  const { base, root, touched, told } = sweeping
  const { inodeSize } = root.volume.superblock
  const rootBytes = piece.root
    ? await readAround(root, told, piece.root.at, piece.root.end - piece.root.at)
    : new Uint8Array(0)
  const same = piece.base !== undefined && piece.base.at === piece.root?.at && piece.base.end === piece.root.end
  let [from, to] = piece.base ? [piece.base.at, piece.base.end] : [0, 0]
  if (same) {
    const parts = [...touched.within(from, to)]
    const align = (offset: number, round: (n: number) => number): number =>
      piece.base!.at + round((offset - piece.base!.at) / inodeSize) * inodeSize
    to = parts.length > 0 ? align(parts.at(-1)!.end, Math.ceil) : from
    from = parts.length > 0 ? align(parts[0]!.start, Math.floor) : from
  }
  const baseBytes = to > from ? await readAround(base, told, from, to - from) : new Uint8Array(0)
  const baseFirst = piece.first + (piece.base ? (from - piece.base.at) / inodeSize : 0)
  return { ...piece, rootBytes, baseBytes, baseFirst, same }
}

const FIRST_EXTENT = 20
const FIRST_INDEX = 16

/** Depth of a block map's tree, and the block that its first entry names: where its reading begins. */
const mapRoot = ({ flags, i_block }: Ext4Inode): { deep: boolean; place: number } => {
  const view = new DataView(i_block.buffer, i_block.byteOffset, i_block.byteLength)
  if (!(flags & INODE_FLAG.extents)) {
    const indirect = [48, 52, 56].map(at => view.getUint32(at, true)).find(block => block !== 0)
    return { deep: indirect !== undefined, place: indirect ?? view.getUint32(0, true) }
  }
  const deep = view.getUint16(6, true) > 0
  return { deep, place: view.getUint32(deep ? FIRST_INDEX : FIRST_EXTENT, true) }
}

/**
 * Goes once through the inode tables of both sides and finds what can have changed: an inode whose bytes are the same, and
 * whose blocks lie where both sides are the same, has not.
 *
 * @throws CANCELLED
 */
export const sweepBoth = async (sweeping: Sweeping): Promise<Swept> => {
  const { base, root, touched, told, signal } = sweeping
  const { inodeSize, inodesPerGroup, firstInode, blockSize } = root.volume.superblock
  const candidates = new Set<number>()
  const files: number[] = []
  const links = new Map<number, number>()
  const shared = new Set<number>()
  const directories: { base: number[]; root: number[] } = { base: [], root: [] }
  const places = new Map<number, number>()
  const deep: { ino: number; place: number; directory: boolean }[] = []

  const anyTouched = (runs: readonly OwnedRun[]): boolean =>
    runs.some(({ start, length }) => touched.touches(start, start + length))
  const isTouched = (inode: Ext4Inode): boolean | Promise<boolean> => {
    const runs = ownedRuns(root.volume, inode)
    return runs instanceof Promise ? runs.then(anyTouched) : anyTouched(runs)
  }

  const { superblock } = root.volume
  /** Inodes that only the superblock names. */
  const own = new Set([
    superblock.journalInode,
    superblock.orphanFileInode,
    superblock.userQuotaInode,
    superblock.groupQuotaInode,
    superblock.projectQuotaInode,
  ])
  const count = (ino: number, after: DataView): void => {
    const isDirectory = after.getUint8(1) >>> 4 === 4
    if (!isDirectory && !(after.getUint32(32, true) & INODE_FLAG.eaInode)) links.set(ino, after.getUint16(26, true))
  }
  const differs = (ino: number, before: Uint8Array | undefined, after: Uint8Array | undefined): void => {
    candidates.add(ino)
    if (before && after && isFile(before) && isFile(after)) files.push(ino)
    if (after && !own.has(ino)) count(ino, new DataView(after.buffer, after.byteOffset, after.byteLength))
    for (const [side, bytes, list] of [
      [base, before, directories.base],
      [root, after, directories.root],
    ] as const) {
      if (!bytes) continue
      side.keep(ino, bytes)
      if (bytes[1]! >>> 4 !== 4) continue
      list.push(ino)
      if (!places.has(ino)) places.set(ino, new DataView(bytes.buffer, bytes.byteOffset).getUint32(60, true))
    }
  }

  const look = async (ino: number, before: Uint8Array, after: Uint8Array, at: number): Promise<void> => {
    let inode: Ext4Inode
    try {
      inode = parseInode(root.volume, ino, after, at)
    } catch (error) {
      // The same damage on both sides changed nothing; but what the inode names is unknown.
      told.tell(error, `inode ${ino} of ${root.name}`)
      return
    }
    const map = hasMap(root.volume, inode) ? mapRoot(inode) : undefined
    const directory = inode.kind === 'directory'
    if (map?.deep) {
      base.keep(ino, before)
      root.keep(ino, after)
      deep.push({ ino, place: map.place, directory })
      return
    }
    try {
      const changed = isTouched(inode)
      if (changed instanceof Promise ? await changed : changed) return differs(ino, before, after)
    } catch (error) {
      if (!isLiveError(error)) throw error
      // It is told with its name when its contents are compared.
      return differs(ino, before, after)
    }
    if (directory) {
      // It is read from there.
      base.keep(ino, before)
      shared.add(ino)
      places.set(ino, map?.place ?? 0)
    }
  }

  const pieces = await piecesOf(sweeping)
  const total = pieces.reduce((sum, { first, end }) => sum + (end - first) * inodeSize, 0)
  let done = 0
  const nothing = new Uint8Array(inodeSize)
  for await (const piece of ahead(pieces, PIECES_AHEAD, item => readPiece(sweeping, item))) {
    stopIfAborted(signal)
    const inodeOf = (bytes: Uint8Array, n: number): Uint8Array =>
      n >= 0 && (n + 1) * inodeSize <= bytes.length ? bytes.subarray(n * inodeSize, (n + 1) * inodeSize) : nothing
    const baseEnd = piece.baseFirst + piece.baseBytes.length / inodeSize
    for (let n = piece.first; n < piece.end; n++) {
      const after = inodeOf(piece.rootBytes, n - piece.first)
      const apart = !piece.same || (n >= piece.baseFirst && n < baseEnd)
      const before = apart ? inodeOf(piece.baseBytes, n - piece.baseFirst) : after
      const [was, is] = [isUsed(before), isUsed(after)]
      const ino = piece.index * inodesPerGroup + n + 1
      if ((!was && !is) || (ino < firstInode && ino !== ROOT_INODE)) continue
      if (was && is && (!apart || sameButTimes(before, after)))
        await look(ino, before, after, (piece.root?.at ?? 0) + (n - piece.first) * inodeSize)
      else differs(ino, was ? before : undefined, is ? after : undefined)
    }
    done += (piece.end - piece.first) * inodeSize
    sweeping.onBytes(done, total)
  }

  // Their maps' blocks lie anywhere: they are read in the order of the disk.
  deep.sort((a, b) => a.place - b.place)
  await parallel(deep.length, MAPS_AT_ONCE, async index => {
    stopIfAborted(signal)
    const { ino, place, directory } = deep[index]!
    let changed = true
    try {
      changed = await isTouched(await root.inode(ino))
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    }
    if (changed) {
      candidates.add(ino)
      if (directory) for (const list of [directories.base, directories.root]) list.push(ino)
      else {
        files.push(ino)
        const { bytes } = await root.inode(ino)
        if (!own.has(ino)) count(ino, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))
      }
    } else if (directory) shared.add(ino)
    if (directory) places.set(ino, place)
  })
  for (const [ino, block] of places) places.set(ino, block * blockSize)
  return { candidates, files, links, shared, ...directories, places }
}
