import { crc32c } from '../../bytes/crc32c.js'
import type { FreeRun } from '../filesystem.js'
import { readMetadataBlocks } from './metadata.js'
import { type Group, hex, type Volume } from './volume.js'

/*
 * A bitmap takes a block: bit n of byte m stands for cluster or inode 8m + n of the group, 1 for used. With metadata_csum
 * the descriptor has CRC-32C(seed; the bytes with bits that count), its low half alone in descriptors of 32 bytes.
 */

/** Neighbouring bits that are 0, as numbers within the group. */
export interface ZeroBits {
  readonly first: number
  readonly count: number
}

/** The runs of zeros among the first `count` bits. */
export function* zeroBits(bitmap: Uint8Array, count: number): Iterable<ZeroBits> {
  let first = -1
  for (let bit = 0; bit < count; ) {
    const byte = bitmap[bit >>> 3]!
    // Whole bytes of one kind are most of any bitmap.
    if ((bit & 7) === 0 && count - bit >= 8 && (byte === 0xff || byte === 0)) {
      if (byte === 0) {
        if (first < 0) first = bit
      } else if (first >= 0) {
        yield { first, count: bit - first }
        first = -1
      }
      bit += 8
      continue
    }
    const used = (byte >>> (bit & 7)) & 1
    if (!used && first < 0) first = bit
    else if (used && first >= 0) {
      yield { first, count: bit - first }
      first = -1
    }
    bit++
  }
  if (first >= 0) yield { first, count: count - first }
}

const verified = async (
  volume: Volume,
  group: Group,
  field: string,
  block: number,
  bits: number,
  stored: number,
): Promise<Uint8Array> => {
  const { blockSize, descSize, metadataCsum, checksumSeed } = volume.superblock
  const bytes = await volume.block(block)
  if (metadataCsum) {
    const whole = crc32c(checksumSeed, bytes.subarray(0, Math.ceil(bits / 8)))
    const sum = descSize >= 64 ? whole : whole & 0xffff
    if (sum !== stored)
      throw volume.wrong(block * blockSize, `checksum of the ${field} of group ${group.index}`, hex(stored), hex(sum))
  }
  return bytes
}

/** Clusters of a group; the last one may be short. */
export const clusterCount = (volume: Volume, group: Group): number =>
  Math.ceil(volume.geometry.groupBlocks(group.index) / volume.geometry.clusterBlocks)

/** A group's block bitmap, its checksum compared; undefined where it was never written. @throws CORRUPT, IO */
export const readBlockBitmap = async (volume: Volume, group: Group): Promise<Uint8Array | undefined> => {
  if (group.blocksUninitialized) return undefined
  const { clustersPerGroup } = volume.superblock
  return verified(volume, group, 'block bitmap', group.blockBitmap, clustersPerGroup, group.blockBitmapChecksum)
}

/** A group's inode bitmap, its checksum compared; undefined where it was never written. @throws CORRUPT, IO */
export const readInodeBitmap = async (volume: Volume, group: Group): Promise<Uint8Array | undefined> => {
  if (group.inodesUninitialized) return undefined
  const { inodesPerGroup } = volume.superblock
  return verified(volume, group, 'inode bitmap', group.inodeBitmap, inodesPerGroup, group.inodeBitmapChecksum)
}

/** Free clusters of a group as ranges of blocks over the whole filesystem. */
export interface FreeOfGroup {
  readonly group: Group
  /** first block and one past the last, of each range */
  readonly ranges: readonly (readonly [number, number])[]
  /** free clusters */
  readonly clusters: number
}

/**
 * What is free, group by group.
 *
 * @throws CORRUPT  a bitmap with a wrong checksum, or one that calls metadata free
 * @throws IO
 */
export async function* freeByGroup(volume: Volume): AsyncIterable<FreeOfGroup> {
  const { superblock: sb, geometry } = volume
  const { starts, ends } = await readMetadataBlocks(volume)
  /** first range of metadata that ends behind what was looked at */
  let next = 0
  const used = (from: number, to: number): readonly [number, number] | undefined => {
    while (next < starts.length && ends[next]! <= from) next++
    return next < starts.length && starts[next]! < to ? [starts[next]!, ends[next]!] : undefined
  }
  for (let index = 0; index < geometry.groupCount; index++) {
    const group = await volume.group(index)
    const start = geometry.groupStart(index)
    const end = start + geometry.groupBlocks(index)
    const bitmap = await readBlockBitmap(volume, group)
    const blockOf = (cluster: number): number => Math.min(end, start + cluster * geometry.clusterBlocks)
    const ranges: (readonly [number, number])[] = []
    let clusters = 0
    const add = (first: number, count: number): void => {
      clusters += count
      ranges.push([blockOf(first), blockOf(first + count)])
    }
    const total = clusterCount(volume, group)
    if (bitmap) {
      for (const { first, count } of zeroBits(bitmap, total)) {
        add(first, count)
        const [from, to] = ranges.at(-1)!
        const clash = used(from, to)
        if (clash)
          throw volume.wrong(
            group.blockBitmap * sb.blockSize,
            `block bitmap of group ${index}`,
            `metadata in blocks ${clash[0]} to ${clash[1]} as used`,
            `free ${from} to ${to}`,
          )
      }
    } else {
      let free = 0
      for (let taken = used(start, end); taken; taken = used(blockOf(free), end)) {
        const first = Math.floor((taken[0] - start) / geometry.clusterBlocks)
        if (first > free) add(free, first - free)
        free = Math.max(free, Math.ceil((Math.min(taken[1], end) - start) / geometry.clusterBlocks))
        if (free >= total) break
      }
      if (free < total) add(free, total - free)
    }
    yield { group, ranges, clusters }
  }
}

/** What is free, in the device's order, touching runs joined. @throws CORRUPT, IO */
export async function* freeRuns(volume: Volume): AsyncIterable<FreeRun> {
  const { blockSize } = volume.superblock
  let open: [number, number] | undefined
  for await (const { ranges } of freeByGroup(volume))
    for (const [from, to] of ranges) {
      if (open && open[1] === from) open[1] = to
      else {
        if (open) yield { start: open[0] * blockSize, length: (open[1] - open[0]) * blockSize }
        open = [from, to]
      }
    }
  if (open) yield { start: open[0] * blockSize, length: (open[1] - open[0]) * blockSize }
}

/** Neighbouring inodes that are free. */
export interface FreeInodes {
  readonly ino: number
  readonly count: number
}

/** Free inodes of a group. @throws CORRUPT, IO */
export const freeInodesOf = async (volume: Volume, group: Group): Promise<readonly FreeInodes[]> => {
  const { inodesPerGroup } = volume.superblock
  const first = group.index * inodesPerGroup + 1
  const bitmap = await readInodeBitmap(volume, group)
  if (!bitmap) return [{ ino: first, count: inodesPerGroup }]
  return Array.from(zeroBits(bitmap, inodesPerGroup), zeros => ({ ino: first + zeros.first, count: zeros.count }))
}

/** Which inodes are free, in order; runs end with their group. @throws CORRUPT, IO */
export async function* freeInodes(volume: Volume): AsyncIterable<FreeInodes> {
  for (let index = 0; index < volume.geometry.groupCount; index++)
    yield* await freeInodesOf(volume, await volume.group(index))
}
