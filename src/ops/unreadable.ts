import { type Device, extentsOf } from '../block/device.js'
import { isLiveError, LiveError } from '../error.js'
import type { Report } from './progress.js'

const PIECE = 1 << 20
const LEAST = 4096

/** A range of a device that can't be read, and why. Bytes. */
export interface Unreadable {
  readonly offset: number
  readonly length: number
  readonly error: LiveError
}

/** @throws CANCELLED */
const errorAt = async (device: Device, offset: number, length: number): Promise<LiveError | undefined> => {
  try {
    await device.read(offset, length)
    return undefined
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return error
  }
}

/** True where a range of a device can't be read. @throws CANCELLED */
export const isUnreadable = async (device: Device, { offset, length }: Unreadable): Promise<boolean> =>
  offset < device.size && (await errorAt(device, offset, Math.min(length, device.size - offset))) !== undefined

/**
 * Reads all that a device holds, until something can't be read.
 *
 * @returns  the first such place, to 4 KiB; undefined where all can be read
 * @throws CANCELLED
 */
export const firstUnreadable = async (
  device: Device,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Unreadable | undefined> => {
  for await (const { kind, offset, length } of extentsOf(device)) {
    const end = offset + length
    for (let at = offset; kind === 'data' && at < end; at += PIECE) {
      if (signal?.aborted)
        throw new LiveError('CANCELLED', 'the search for what can’t be read was stopped (nothing was changed)')
      report({ phase: 'read', doneBytes: at, totalBytes: device.size })
      const size = Math.min(PIECE, end - at)
      const whole = await errorAt(device, at, size)
      if (!whole) continue
      for (let part = at; part < at + size; part += LEAST) {
        const least = Math.min(LEAST, at + size - part)
        const error = await errorAt(device, part, least)
        if (error) return { offset: part, length: least, error }
      }
      return { offset: at, length: size, error: whole }
    }
  }
  return undefined
}
