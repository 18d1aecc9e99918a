import { checkRange, type SparseDevice } from './device.js'

/**
 * A Device of `size` zero bytes, all of it a hole.
 *
 * @see linux drivers/md/dm-zero.c
 */
export const zero = (size: number, name = 'zero'): SparseDevice => {
  const device: SparseDevice = {
    name,
    size,
    async read(offset, length) {
      checkRange(device, offset, length)
      return new Uint8Array(length)
    },
    async *extents(offset, length) {
      checkRange(device, offset, length)
      if (length > 0) yield { offset, length, kind: 'hole' }
    },
    async close() {},
  }
  return device
}
