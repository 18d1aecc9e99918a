import { areaChunk, exceptionsPerArea } from '../block/snapshot/layout.js'
import type { Store } from '../block/snapshot/store.js'
import { chooseSize } from './grow-size.js'

/** Bytes by which an overlay without room is lengthened at least, where the stick has them. */
const LEAST_GROWTH = 32 << 20
/** Bytes of a stick that stay free for the undo journal and the filesystem's own tables. */
export const SPARE = 16 << 20

/** Bytes that a store needs to take so many further chunks, and one more after that. */
export const sizeFor = ({ chunkSize, exceptions, nextFreeChunk }: Store, chunks: number): number => {
  const perArea = exceptionsPerArea(chunkSize)
  const count = exceptions.count + chunks + 1
  // each area that the list runs into lies between the chunks
  const areas = Math.ceil(count / perArea) + 1 - Math.floor(exceptions.count / perArea)
  const data = nextFreeChunk + chunks + 1 + areas
  const list = areaChunk(Math.floor(count / perArea), perArea) + 1
  return Math.max(data, list) * chunkSize
}

/** What limits the size of an overlay. Sizes are bytes. */
export interface SizeLimits {
  /** the size that the file has */
  readonly current: number
  /** the largest file of the stick's filesystem */
  readonly most: number
  readonly freeBytes: number
}

/**
 * The size that an overlay gets when nobody said one: half as much again where it has no room, as far as the stick has it; else
 * what it has.
 *
 * @returns  undefined where it should grow and can't
 */
export const sizeByItself = (store: Store, { current, most, freeBytes }: SizeLimits): number | undefined => {
  const needed = sizeFor(store, 0)
  if (!store.full && !store.truncated && current >= needed) return current
  const wanted = current + Math.max(LEAST_GROWTH, current / 2)
  const size = Math.min(wanted, most, current + Math.max(0, freeBytes - SPARE))
  if (size < needed) return undefined
  return wholeSize(store, size, { current, most })
}

/** A size in whole chunks at which the kernel doesn't invalidate it. @throws USAGE, NO_SPACE, REFUSED  as `chooseSize` */
export const wholeSize = (
  { chunkSize }: Store,
  size: number,
  { current, most }: Pick<SizeLimits, 'current' | 'most'>,
): number => {
  const down = Math.floor(size / chunkSize) * chunkSize
  return down <= current && size === current ? current : chooseSize(down, { current, chunkSize, most, least: 0 }).size
}
