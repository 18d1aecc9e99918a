import type { Exceptions } from '../../block/snapshot/exceptions.js'

/**
 * What bytes of an overlay hold, as the merged filesystem tells:
 * - `files` content of files, devices and long symlinks · `directories` their blocks · `maps` extent trees and indirect blocks
 * - `xattrs` blocks and inodes of extended attributes · `inode tables` · `bitmaps` of blocks and inodes
 * - `superblocks` with group descriptors and what is reserved for them · `journal` · `quota` quota files and orphan file
 * - `deleted` files without a name that were open when the system stopped: gone at the next mount
 * - `freed` blocks that are free: of files deleted since · `outside` behind the end of the filesystem
 * - `unknown` in use, and nothing readable tells for what
 */
export const ROLES = [
  'unknown',
  'files',
  'directories',
  'maps',
  'xattrs',
  'inode tables',
  'bitmaps',
  'superblocks',
  'journal',
  'quota',
  'deleted',
  'freed',
  'outside',
] as const
export type Role = (typeof ROLES)[number]

/** The parts of an overlay's chunks that have one owner each, by where they lie in the origin. All have `unit` bytes. */
export interface Pieces {
  /** bytes of a piece: a block of the filesystem, or a chunk where chunks are smaller */
  readonly unit: number
  readonly count: number
  readonly piecesPerChunk: number
  /** first byte in the origin */
  startOf(piece: number): number
  roleOf(piece: number): Role
  /** true where a piece lies in a range of the origin */
  touches(start: number, length: number): boolean
  /** the inode that owns it; 0 for none */
  inodeOf(piece: number): number
  /**
   * Gives pieces that lie in a range of the origin to an owner. What was given before stays, so that each byte counts once.
   *
   * @param role     not `unknown`, which is the role of what nobody claims
   * @returns  how many there were
   */
  claim(start: number, length: number, role: Role, inode?: number): number
}

/**
 * Cuts the chunks of a store into pieces, in the order of the origin.
 *
 * @param chunkSize  bytes, a power of two, as is `blockSize`
 */
export const cutPieces = (exceptions: Exceptions, chunkSize: number, blockSize: number): Pieces => {
  const unit = Math.min(chunkSize, blockSize)
  const piecesPerChunk = chunkSize / unit
  const count = exceptions.count * piecesPerChunk
  const roles = new Uint8Array(count)
  const inodes = new Uint32Array(count)
  // Of each piece the next that nobody owns, or one before it: claims that overlap, as damaged maps do, cost nothing twice.
  const unclaimed = Uint32Array.from({ length: count + 1 }, (_, piece) => piece)
  const nextUnclaimed = (from: number): number => {
    let piece = from
    while (unclaimed[piece] !== piece) {
      unclaimed[piece] = unclaimed[unclaimed[piece]!]!
      piece = unclaimed[piece]!
    }
    return piece
  }
  const startOf = (piece: number): number => {
    const index = Math.floor(piece / piecesPerChunk)
    return exceptions.oldChunkAt(index) * chunkSize + (piece - index * piecesPerChunk) * unit
  }
  return {
    unit,
    count,
    piecesPerChunk,
    startOf,
    roleOf: piece => ROLES[roles[piece]!]!,
    inodeOf: piece => inodes[piece]!,
    touches(start, length) {
      const index = exceptions.firstFrom(Math.floor(start / chunkSize))
      return index < exceptions.count && exceptions.oldChunkAt(index) * chunkSize < start + length
    },
    claim(start, length, role, inode = 0) {
      const end = start + length
      const code = ROLES.indexOf(role)
      let claimed = 0
      let piece = exceptions.firstFrom(Math.floor(start / chunkSize)) * piecesPerChunk
      while (piece < count && startOf(piece) < start) piece++
      for (piece = nextUnclaimed(piece); piece < count && startOf(piece) < end; piece = nextUnclaimed(piece)) {
        roles[piece] = code
        inodes[piece] = inode
        unclaimed[piece] = piece + 1
        claimed++
      }
      return claimed
    },
  }
}
