import { type Device, readInto } from '../../block/device.js'
import { openSpare, type Spare } from '../../bytes/spare.js'
import { isLiveError } from '../../error.js'
import { ahead } from './ahead.js'
import { hulls } from './hulls.js'
import type { Side } from './side.js'

/** A piece of the device of a side, read beforehand. */
export interface Window {
  /** the whole device. What can't be read in one piece is tried again where it is wanted. */
  readonly device: Device
  /** bytes of the piece; undefined where some of them are not in it or can't be read. They are there until the next window. */
  within(start: number, end: number): Uint8Array | undefined
}

const PIECES_AHEAD = 8
/** Longer pieces than this are few. */
const PIECE_MEMORY = 1 << 20

const openWindow = async ({ volume }: Side, start: number, end: number, spare: Spare) => {
  const { cached, device } = volume
  const memory = spare.take(Math.max(end - start, PIECE_MEMORY))
  const bytes = new Uint8Array(memory, 0, Math.max(end - start, 0))
  let isRead = bytes.length > 0 && end <= device.size
  try {
    if (isRead) await readInto(device, start, bytes)
  } catch (error) {
    if (!isLiveError(error)) throw error
    isRead = false
  }
  const within: Window['within'] = (from, to) =>
    isRead && from >= start && to <= end ? bytes.subarray(from - start, to - start) : undefined
  const window: Window = {
    within,
    device: isRead
      ? {
          name: device.name,
          size: device.size,
          // A directory only looks at its bytes and keeps none.
          read: async (offset, length) => within(offset, offset + length) ?? cached.read(offset, length),
          close: async () => {},
        }
      : cached,
  }
  return { window, close: () => spare.give(memory) }
}

/**
 * Goes over parts of a side from its front to its back, those that lie near each other in one piece, which is read once: of a
 * compressed base each block is expanded once.
 *
 * @param items  sorted by start
 */
export async function* windows<T>(
  side: Side,
  items: Iterable<T>,
  rangeOf: (item: T) => { readonly start: number; readonly end: number },
): AsyncGenerator<{ readonly items: readonly T[]; readonly window: Window }, void> {
  const spare = openSpare()
  const opened = ahead(hulls(items, rangeOf), PIECES_AHEAD, async ({ start, end, items }) => ({
    items,
    ...(await openWindow(side, start, end, spare)),
  }))
  for await (const { items, window, close } of opened) {
    yield { items, window }
    close()
  }
}
