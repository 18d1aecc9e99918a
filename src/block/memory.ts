import { checkRange, type WritableDevice } from './device.js'

/**
 * A Device over an array in memory; writes change that array.
 *
 * @param bytes  the content; kept, not copied, so its size is fixed
 */
export const memory = (bytes: Uint8Array, name = 'memory'): WritableDevice => {
  const device: WritableDevice = {
    name,
    size: bytes.length,
    async read(offset, length) {
      checkRange(device, offset, length)
      // Not bytes.slice: a Buffer's own slice is a view, and the next write would show in what was read.
      return new Uint8Array(bytes.subarray(offset, offset + length))
    },
    async write(offset, content) {
      checkRange(device, offset, content.length)
      bytes.set(content, offset)
    },
    async flush() {},
    async close() {},
  }
  return device
}
