import type { Device } from '../../src/block/device.js'

/** A Device that counts what is asked of the one below. */
export interface CountingDevice extends Device {
  /** reads of at least a byte */
  reads: number
  bytesRead: number
  closes: number
  /** reads under way at most at one time */
  mostAtOnce: number
}

/** Counts the reads of `device`. */
export const countingDevice = (device: Device): CountingDevice => {
  let underWay = 0
  const counting: CountingDevice = {
    name: device.name,
    size: device.size,
    reads: 0,
    bytesRead: 0,
    closes: 0,
    mostAtOnce: 0,
    async read(offset, length) {
      if (length > 0) counting.reads++
      counting.bytesRead += length
      counting.mostAtOnce = Math.max(counting.mostAtOnce, ++underWay)
      try {
        // Lets other reads start first, as a real medium would.
        await new Promise(setImmediate)
        return await device.read(offset, length)
      } finally {
        underWay--
      }
    },
    async close() {
      counting.closes++
    },
  }
  return counting
}
