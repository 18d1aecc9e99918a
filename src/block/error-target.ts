import { LiveError } from '../error.js'
import { checkRange, type Device } from './device.js'

/**
 * A Device of `size` bytes where every read of at least a byte fails with IO, for parts known to be lost.
 *
 * @see linux drivers/md/dm-target.c, error_target
 */
export const errorTarget = (size: number, name = 'error'): Device => {
  const device: Device = {
    name,
    size,
    async read(offset, length) {
      checkRange(device, offset, length)
      if (length === 0) return new Uint8Array(0)
      throw new LiveError('IO', `${name}: bytes ${offset} to ${offset + length} can't be read`, {
        device: name,
        offset,
        length,
      })
    },
    async close() {},
  }
  return device
}
