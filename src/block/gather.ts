import { assert } from '../error.js'
import type { Device } from './device.js'
import { parallel } from './parallel.js'

/** A run of bytes of a device; of zeros where there is no device. */
export interface Part {
  readonly device?: Device | undefined
  /** byte offset in that device */
  readonly offset: number
  readonly length: number
}

const READS_AT_ONCE = 16

/**
 * Reads parts of several devices, concurrently, into one array.
 *
 * @param length  bytes of all parts together
 * @throws  what the parts' devices throw
 */
export const gather = async (parts: readonly Part[], length: number): Promise<Uint8Array> => {
  const [only] = parts
  if (only === undefined) return new Uint8Array(0)
  // The common case copies nothing: the part's own array is the answer.
  if (parts.length === 1) return only.device ? only.device.read(only.offset, length) : new Uint8Array(length)
  const starts = new Float64Array(parts.length)
  let total = 0
  for (const [index, part] of parts.entries()) {
    starts[index] = total
    total += part.length
  }
  assert(total === length, `parts of ${total} bytes for a read of ${length}`)
  const bytes = Buffer.allocUnsafeSlow(length)
  await parallel(parts.length, READS_AT_ONCE, async index => {
    const part = parts[index]!
    const start = starts[index]!
    if (!part.device) {
      bytes.fill(0, start, start + part.length)
      return
    }
    const read = await part.device.read(part.offset, part.length)
    // The array is not cleared first, so a short read would hand out old memory.
    assert(read.length === part.length, `${part.device.name} read ${read.length} bytes for ${part.length}`)
    bytes.set(read, start)
  })
  return bytes
}
