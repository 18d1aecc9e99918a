import { assert, corrupt, isLiveError, LiveError } from '../error.js'
import { checkRange, type Device, type Extent, type SparseDevice } from './device.js'
import { extentsAt } from './extents.js'
import { gather } from './gather.js'

/*
 * The log of a mirror on a device. Numbers are little-endian.
 *
 *      0  u32  magic       0x4D695272, "rRiM"; anything else is a log that is new
 *      4  u32  version     2
 *      8  u64  nr_regions  that the bits below speak of
 *   1024  bits             one a region, the lowest of a byte first: 1 where all legs are alike
 *
 * See linux drivers/md/dm-log.c, struct log_header_disk.
 */

const MIRROR_MAGIC = 0x4d695272
const MIRROR_DISK_VERSION = 2
const BITS_OFFSET = 1024

/** Tells of a region, counted from 0, whether all legs hold the same there. */
export type RegionsInSync = (region: number) => boolean | Promise<boolean>

/** A device of a mirror, from some byte on. */
export interface Leg {
  readonly device: Device
  /** byte offset in the device where the mirror begins */
  readonly deviceOffset: number
}

/** How a mirror is put together. */
export interface MirrorOptions {
  /** bytes of the mirror */
  readonly size: number
  /** bytes of a region */
  readonly regionSize: number
  /** none is where it is left out: the first leg is the only one that is sure to be right */
  readonly inSync?: RegionsInSync | undefined
  readonly name?: string | undefined
}

/**
 * Reads which regions a mirror's log knows to be alike.
 *
 * @param regionCount  regions of the mirror; what the log has of others counts for nothing
 * @throws CORRUPT  the log is of another version, or shorter than its bits; IO
 * @see linux drivers/md/dm-log.c, disk_resume
 */
export const readMirrorLog = async (log: Device, regionCount: number): Promise<RegionsInSync> => {
  const device = log.name
  const needed = BITS_OFFSET + Math.ceil(regionCount / 8)
  if (log.size < needed)
    throw corrupt({ device, offset: log.size, field: 'size', expected: `${needed} bytes or more`, found: log.size })
  const header = new DataView((await log.read(0, 16)).buffer)
  if (header.getUint32(0, true) !== MIRROR_MAGIC) return () => false
  const version = header.getUint32(4, true)
  // Version 1 had its bits in the byte order of the computer, which is this one on all that a live system runs on.
  if (version !== MIRROR_DISK_VERSION && version !== 1)
    throw corrupt({ device, offset: 4, field: 'version', expected: MIRROR_DISK_VERSION, found: version })
  const known = Math.min(regionCount, Number(header.getBigUint64(8, true)))
  // Read when a leg fails, which is seldom: the table says how many there are, and a byte serves eight regions.
  return async region => {
    if (region >= known) return false
    const [bits = 0] = await log.read(BITS_OFFSET + Math.floor(region / 8), 1)
    return ((bits >>> (region % 8)) & 1) === 1
  }
}

/**
 * The same bytes on several devices as one: those of the first leg, and where that can't be read and the region is known to
 * be alike on all legs, those of another. Closing it leaves the legs open.
 *
 * @param legs  two or more
 * @throws OUT_OF_RANGE  a leg is too short
 * @see linux drivers/md/dm-raid1.c
 */
export const mirror = (
  legs: readonly Leg[],
  { size, regionSize, inSync = () => false, name = 'mirror' }: MirrorOptions,
): SparseDevice => {
  const [first] = legs
  assert(first && regionSize > 0, 'a mirror without legs or regions')
  for (const { device, deviceOffset } of legs) checkRange(device, deviceOffset, size)

  /** A range within one region. */
  const readRegion = async (offset: number, length: number): Promise<Uint8Array> => {
    const sources = (await inSync(Math.floor(offset / regionSize))) ? legs : [first]
    let failure: unknown
    for (const { device, deviceOffset } of sources)
      try {
        return await device.read(deviceOffset + offset, length)
      } catch (error) {
        if (!isBadMedium(error)) throw error
        failure ??= error
      }
    throw new LiveError(
      'IO',
      `${name}: bytes ${offset} to ${offset + length} can't be read from ${sources.length === 1 ? 'the first leg, and the others are not known to hold the same' : 'any leg'}`,
      { device: name, offset, length },
      failure,
    )
  }

  const regions: Device = {
    name,
    size,
    read: readRegion,
    close: async () => {},
  }

  const readByRegions = (offset: number, length: number): Promise<Uint8Array> => {
    const parts = []
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(offset + length, (Math.floor(at / regionSize) + 1) * regionSize)
      parts.push({ device: regions, offset: at, length: end - at })
      at = end
    }
    return gather(parts, length)
  }

  const device: SparseDevice = {
    name,
    size,
    async read(offset, length) {
      checkRange(device, offset, length)
      try {
        return await first.device.read(first.deviceOffset + offset, length)
      } catch (error) {
        if (!isBadMedium(error)) throw error
        return readByRegions(offset, length)
      }
    },
    async *extents(offset, length): AsyncIterable<Extent> {
      checkRange(device, offset, length)
      yield* extentsAt(first.device, first.deviceOffset + offset, length, offset)
    },
    async close() {},
  }
  return device
}

/** A leg that is gone or has a bad place; damage of what is on it is alike on all of them. */
const isBadMedium = (error: unknown): boolean => isLiveError(error) && error.code === 'IO'
