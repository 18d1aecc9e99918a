import { cache } from '../../../block/cache.js'
import type { Device } from '../../../block/device.js'
import { linear } from '../../../block/linear.js'
import { corrupt, type LiveError } from '../../../error.js'
import { seedOf, superblockSum } from './checksum.js'
import type { JournalFile } from './file.js'
import { JOURNAL_SUPERBLOCK_SIZE, type JournalSuperblock, parseJournalSuperblock } from './layout.js'

/** Bytes that a read of the log fetches at once, and such pieces kept. */
const READ_SIZE = 1 << 17
const READS_KEPT = 4

/** A journal that lies in a file of its filesystem, opened for reading. */
export interface JournalLog {
  /** the device that the filesystem lies on */
  readonly device: Device
  readonly superblock: JournalSuperblock
  /** register from which the checksums v2 and v3 start */
  readonly seed: number
  /** The bytes of a block of the journal. @throws CORRUPT, IO */
  block(number: number): Promise<Uint8Array>
  /** The block after this one in the ring of the log. */
  next(block: number): number
  /** Byte offset on the device of a block of the journal. */
  placeOf(number: number): number
  /** True where bytes of the device are the journal's own. */
  owns(offset: number, length: number): boolean
  /** The error of a journal that can't be replayed: what is wrong, in a block of the journal. */
  broken(block: number, field: string, expected: string | number, found: string | number): LiveError
}

/** The run of a sorted list that starts last at or before a position; -1 where all start later. */
const lastAt = (starts: Float64Array, position: number): number => {
  let low = -1
  let high = starts.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (starts[middle]! <= position) low = middle
    else high = middle - 1
  }
  return low
}

/**
 * Opens the journal that lies in a file of a device.
 *
 * @throws CORRUPT  its superblock is wrong
 * @throws UNSUPPORTED  a feature of the journal that is not known
 */
export const openLog = async (device: Device, { runs, size, blockSize }: JournalFile): Promise<JournalLog> => {
  const blockCount = Math.floor(size / blockSize)
  const file = linear(
    runs.map(({ start, length }) => ({ device, deviceOffset: start, length })),
    `the journal of ${device.name}`,
  )
  const pieces = cache(file, { blockSize: READ_SIZE, blocks: READS_KEPT })
  const starts = Float64Array.from(runs, run => run.offset)
  const byPlace = [...runs].sort((one, other) => one.start - other.start)
  const places = Float64Array.from(byPlace, run => run.start)
  const placeOf = (number: number): number => {
    const run = runs[lastAt(starts, number * blockSize)]!
    return run.start + number * blockSize - run.offset
  }
  const place = { device: device.name, base: placeOf(0) }
  const bytes = await file.read(0, JOURNAL_SUPERBLOCK_SIZE)
  const superblock = parseJournalSuperblock(bytes, place, { blockSize, blockCount }, superblockSum)
  return {
    device,
    superblock,
    seed: seedOf(superblock),
    block: number => pieces.read(number * blockSize, blockSize),
    next: block => (block + 1 < superblock.endBlock ? block + 1 : superblock.s_first),
    placeOf,
    owns(offset, length) {
      // Runs of a sound file don't overlap, so only the last one that starts before the end can reach into the range.
      const run = byPlace[lastAt(places, offset + length - 1)]
      return run !== undefined && run.start + run.length > offset
    },
    broken: (block, field, expected, found) =>
      corrupt({
        device: device.name,
        offset: placeOf(block),
        field: `the journal can't be replayed: ${field}`,
        expected,
        found,
      }),
  }
}
