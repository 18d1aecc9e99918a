import { isZero, type WritableDevice } from '../block/device.js'

/** What is read and compared at once, bytes. */
export const ZERO_PIECE = 1 << 20
const GRAIN = 4096

/**
 * Makes a range of a device zero. What is zero already is not written: in an overlay it would take room for nothing.
 *
 * @param gone  asked between two pieces; where nobody waits for the end any more the rest stays as it is
 * @throws NO_SPACE, IO
 */
export const writeZeros = async (
  device: WritableDevice,
  offset: number,
  length: number,
  gone: () => boolean,
): Promise<void> => {
  const end = offset + length
  for (let at = offset; at < end && !gone(); ) {
    const stop = Math.min(end, (Math.floor(at / ZERO_PIECE) + 1) * ZERO_PIECE)
    const found = await device.read(at, stop - at)
    let from: number | undefined
    const flushTo = async (to: number): Promise<void> => {
      if (from !== undefined) await device.write(from, new Uint8Array(to - from))
      from = undefined
    }
    for (let grain = at; grain < stop; ) {
      const next = Math.min(stop, (Math.floor(grain / GRAIN) + 1) * GRAIN)
      if (isZero(found.subarray(grain - at, next - at))) await flushTo(grain)
      else from ??= grain
      grain = next
    }
    await flushTo(stop)
    at = stop
  }
}
