import { assert } from '../error.js'
import { clear, type Device, readInto } from './device.js'
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
  const bytes = Buffer.allocUnsafeSlow(length)
  await gatherInto(parts, bytes)
  return bytes
}

/**
 * Reads parts of several devices, concurrently, into memory that is given. After a failure nothing writes to it any more.
 *
 * @param bytes  as long as all parts together
 * @throws  what the parts' devices throw
 */
export const gatherInto = async (parts: readonly Part[], bytes: Uint8Array): Promise<void> => {
  const starts = new Float64Array(parts.length)
  let total = 0
  for (const [index, part] of parts.entries()) {
    starts[index] = total
    total += part.length
  }
  assert(total === bytes.length, `parts of ${total} bytes for a read of ${bytes.length}`)
  const failures: unknown[] = []
  await parallel(parts.length, READS_AT_ONCE, async index => {
    const { device, offset, length } = parts[index]!
    const start = starts[index]!
    try {
      if (failures.length > 0) return
      if (device) await readInto(device, offset, bytes.subarray(start, start + length))
      else clear(bytes.subarray(start, start + length))
    } catch (error) {
      failures.push(error)
    }
  })
  if (failures.length > 0) throw failures[0]
}
