import { cache } from '../../block/cache.js'
import { cutShort } from '../../block/cut-short.js'
import type { Device } from '../../block/device.js'
import { isLiveError } from '../../error.js'
import type { AreaReader } from './susp.js'

/** Directories and what belongs to them mostly lie side by side: one fetch serves many. */
const BLOCK_SIZE = 65_536
const BLOCKS = 128

/** Reads small ranges of a device by way of a cache of 8 MiB, larger ones at once. @throws CORRUPT  the range leaves the device */
export const openMetadata = (device: Device): AreaReader => {
  const cached = cache(device, { blockSize: BLOCK_SIZE, blocks: BLOCKS })
  return async (offset, length, field, from) => {
    if (offset + length > device.size)
      throw cutShort({
        device: from.device,
        offset: from.base,
        field,
        size: device.size,
        needed: offset + length,
      })
    if (length >= BLOCK_SIZE) return device.read(offset, length)
    try {
      return await cached.read(offset, length)
    } catch (error) {
      if (!isLiveError(error) || error.code !== 'IO') throw error
      // Only a neighbour may be unreadable.
      return device.read(offset, length)
    }
  }
}
