import type { Spare } from '../bytes/spare.js'
import { LiveError } from '../error.js'
import { type Device, extentsOf, isZero, type WritableDevice } from './device.js'
import { readAhead } from './read-ahead.js'

/** How a copy runs. */
export interface CopyOptions {
  readonly signal?: AbortSignal | undefined
  /** Called after each piece; holes count as done when they are passed. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
  /** bytes read at a time, 1 MiB if left out */
  readonly pieceSize?: number | undefined
  /** memory for the pieces, where many devices are copied with the same `pieceSize` */
  readonly spare?: Spare | undefined
}

/** What is left out when it is zero: a page, the block of nearly every filesystem. */
const BLOCK = 4096

/** The runs of blocks that hold data, blocks counted from the device's start and not from the piece's. */
function* dataRuns(bytes: Uint8Array, offset: number): Iterable<{ from: number; to: number }> {
  let from: number | undefined
  for (let at = 0; at < bytes.length; ) {
    const next = Math.min(bytes.length, at + BLOCK - ((offset + at) % BLOCK))
    const empty = isZero(bytes.subarray(at, next))
    if (!empty) from ??= at
    else if (from !== undefined) {
      yield { from, to: at }
      from = undefined
    }
    at = next
  }
  if (from !== undefined) yield { from, to: bytes.length }
}

async function* pieces(from: Device, pieceSize: number): AsyncGenerator<{ offset: number; length: number }> {
  for await (const extent of extentsOf(from)) {
    if (extent.kind === 'hole') continue
    const end = extent.offset + extent.length
    for (let offset = extent.offset; offset < end; offset += pieceSize)
      yield { offset, length: Math.min(pieceSize, end - offset) }
  }
}

/**
 * Copies the data of one device into another that reads zero wherever it was not yet written, such as a fresh sparse
 * file: holes and blocks of 4 KiB that are all zero are not written. Reads pieces while it writes the one before, so it
 * holds a few. The target's size is not set and nothing is flushed; both are the caller's.
 *
 * @returns bytes written
 * @throws CANCELLED  the signal was aborted; what was written stays
 * @throws OUT_OF_RANGE, NO_SPACE, IO  from either device
 */
export const copyData = async (
  from: Device,
  to: WritableDevice,
  { signal, onProgress, pieceSize = 1 << 20, spare }: CopyOptions = {},
): Promise<number> => {
  const stopIfAborted = (): void => {
    if (signal?.aborted)
      throw new LiveError('CANCELLED', `copying ${from.name} was cancelled`, { device: from.name }, signal.reason)
  }
  async function* plan(): ReturnType<typeof pieces> {
    for await (const piece of pieces(from, pieceSize)) {
      stopIfAborted()
      yield piece
    }
  }
  let written = 0
  stopIfAborted()
  for await (const { offset, bytes } of readAhead(from, plan(), pieceSize, spare)) {
    for (const run of dataRuns(bytes, offset)) {
      await to.write(offset + run.from, bytes.subarray(run.from, run.to))
      written += run.to - run.from
    }
    onProgress?.(offset + bytes.length, from.size)
    stopIfAborted()
  }
  stopIfAborted()
  onProgress?.(from.size, from.size)
  return written
}
