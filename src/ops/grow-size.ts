import { areaChunk, exceptionsPerArea, SECTOR } from '../block/snapshot/layout.js'
import type { Store } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'

/** A size that was asked for, in bytes: this one, or so much more (less where negative) than there is. */
export type SizeChange = number | { readonly by: number }

/** A size and, where it is not the one that was asked for, why. */
export interface ChosenSize {
  /** bytes */
  readonly size: number
  readonly why?: string
}

/**
 * True for sizes that end where a metadata area would begin. The exception that fills the area before can't have its
 * successor's area cleared there, and the kernel then marks even a `PO` store invalid, where any other size would overflow.
 * With chunks of 4 KiB they are 256 MiB, 513 MiB and all others of 1 modulo 257 chunks.
 *
 * @param size  bytes of the store
 * @see linux drivers/md/dm-snap-persistent.c, persistent_commit_exception
 */
export const isTrapSize = (size: number, chunkSize: number): boolean => {
  const chunkCount = Math.floor(size / chunkSize)
  return chunkCount > 1 && chunkCount % (exceptionsPerArea(chunkSize) + 1) === 1
}

/** How small a store may become: what it holds, and room for one chunk more with the area that it may need. */
export const leastSize = ({
  chunkSize,
  exceptions,
  nextFreeChunk,
  areaCount,
}: Pick<Store, 'chunkSize' | 'nextFreeChunk' | 'areaCount'> & {
  readonly exceptions: { readonly count: number }
}): number => {
  const perArea = exceptionsPerArea(chunkSize)
  const areaEnd = (area: number): number => areaChunk(area, perArea) + 1
  const fillsArea = (exceptions.count + 1) % perArea === 0
  const chunkCount = Math.max(nextFreeChunk + 1, areaEnd(fillsArea ? areaCount : areaCount - 1))
  const size = chunkCount * chunkSize
  return isTrapSize(size, chunkSize) ? size + chunkSize : size
}

/** How large an overlay file may be on a filesystem: whole sectors, as the loop device leaves out a part of one. */
export const mostSize = (maxFileSize: number): number => maxFileSize - (maxFileSize % SECTOR)

/**
 * The size that an overlay gets: whole chunks, and never one at which the kernel invalidates it.
 *
 * @param current    bytes that it has
 * @param chunkSize  bytes
 * @param most       bytes that it may have at most
 * @param least      bytes that it must have at least
 * @throws USAGE  the size is none; NO_SPACE  the filesystem holds no such file; REFUSED  the overlay holds more than that
 */
export const chooseSize = (
  asked: SizeChange,
  { current, chunkSize, most, least }: { current: number; chunkSize: number; most: number; least: number },
): ChosenSize => {
  const wanted = typeof asked === 'number' ? asked : current + asked.by
  if (!Number.isSafeInteger(wanted) || wanted <= 0)
    throw new LiveError('USAGE', `an overlay of ${wanted} bytes: write a size such as 512M, or +256M for so much more`)
  if (wanted > most)
    throw new LiveError(
      'NO_SPACE',
      `this filesystem holds files of at most ${most} bytes, and ${wanted} were asked for: say --size ${most}, or move to a stick with ext4`,
      { neededBytes: wanted, limit: most },
    )
  const wholeChunks = (bytes: number): number => Math.ceil(bytes / chunkSize) * chunkSize
  const rounded = wholeChunks(wanted) <= most ? wholeChunks(wanted) : Math.floor(wanted / chunkSize) * chunkSize
  // a size that is there already is only left where it is a trap
  const size = wanted === current ? current : rounded
  if (size < least)
    throw new LiveError(
      'REFUSED',
      `the overlay holds more than ${wanted} bytes: ${least} are the least that it can have as it is`,
      { neededBytes: least },
    )
  if (!isTrapSize(size, chunkSize))
    return size === wanted ? { size } : { size, why: `${size} bytes are whole chunks of ${chunkSize}` }
  const why = 'at the size asked for the kernel would invalidate a full overlay instead of stopping its writes'
  const below = (Math.floor(size / chunkSize) - 1) * chunkSize
  const above = (Math.floor(size / chunkSize) + 1) * chunkSize
  // growing goes on above what there is, even where only the trap itself is to be left
  const goesDown = below >= least && (above > most || (size > current ? below > current : size < current))
  return { size: goesDown ? below : above, why: `${why}, so it gets one chunk ${goesDown ? 'less' : 'more'}` }
}
