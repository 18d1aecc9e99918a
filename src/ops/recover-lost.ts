import type { Device } from '../block/device.js'
import { exceptionSet } from '../block/snapshot/exceptions.js'
import type { LostException } from '../block/snapshot/salvage.js'
import { isLiveError } from '../error.js'
import { detectFs } from '../fs/detect.js'
import { openReplayed } from '../fs/ext4/journal/replayed.js'
import { openVolume } from '../fs/ext4/volume.js'
import { findInodePaths } from '../liveos/inode-paths.js'
import { attribute } from '../liveos/usage/attribute.js'
import { cutPieces } from '../liveos/usage/pieces.js'

/** A file that lost chunks shows what the base has in their places. Bytes are chunks, whole. */
export interface LostFile {
  /** null where no directory names it */
  readonly path: string | null
  readonly inode: number
  readonly bytes: number
}

/** What the chunks belonged to that a list does not lead to any more. */
export interface LostContent {
  /** largest first */
  readonly files: readonly LostFile[]
  /** bytes of what belongs to no file: tables, directories, journal, free space */
  readonly others: readonly { readonly role: string; readonly bytes: number }[]
  /** why nothing could be told */
  readonly unknown: string | null
}

/** How many changed chunks are lost, in words. @param atLeast  the list went on where nothing can be read any more */
export const lostWords = ({ lost, atLeast }: { readonly lost: number; readonly atLeast: boolean }): string => {
  const chunks = lost === 1 ? 'changed chunk' : 'changed chunks'
  if (!atLeast) return `${lost} ${chunks}`
  return lost === 0 ? 'changed chunks, nobody knows how many,' : `at least ${lost} ${chunks}`
}

const NOTHING: LostContent = { files: [], others: [], unknown: null }

/**
 * Tells which files the lost chunks belonged to, as far as the root that is left tells.
 *
 * @param root  the root filesystem without them
 * @throws CANCELLED
 */
export const lostContent = async (
  root: Device,
  lost: readonly LostException[],
  chunkSize: number,
  signal?: AbortSignal,
): Promise<LostContent> => {
  if (lost.length === 0) return NOTHING
  try {
    if ((await detectFs(root)) !== 'ext4')
      return { ...NOTHING, unknown: 'only an ext4 root tells which files chunks belong to' }
    const volume = await openVolume(await openReplayed(root))
    const chunks = Float64Array.from(new Set(lost.map(({ oldChunk }) => oldChunk)))
    const pieces = cutPieces(
      exceptionSet({ oldChunks: chunks, newChunks: chunks }),
      chunkSize,
      volume.superblock.blockSize,
    )
    const { directories } = await attribute(volume, pieces, signal)
    const files = new Map<number, number>()
    const others = new Map<string, number>()
    for (let piece = 0; piece < pieces.count; piece++) {
      const inode = pieces.inodeOf(piece)
      if (inode > 0) files.set(inode, (files.get(inode) ?? 0) + pieces.unit)
      else others.set(pieces.roleOf(piece), (others.get(pieces.roleOf(piece)) ?? 0) + pieces.unit)
    }
    const paths = await findInodePaths(volume, new Set(files.keys()), directories, { signal, onCorrupt: () => {} })
    return {
      files: Array.from(files, ([inode, bytes]) => ({ path: paths.pathOf(inode) ?? null, inode, bytes })).sort(
        (a, b) => b.bytes - a.bytes || a.inode - b.inode,
      ),
      others: Array.from(others, ([role, bytes]) => ({ role, bytes })).sort((a, b) => b.bytes - a.bytes),
      unknown: null,
    }
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return { ...NOTHING, unknown: error.message }
  }
}
