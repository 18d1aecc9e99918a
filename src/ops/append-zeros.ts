import type { GrowingFile } from '../block/file.js'
import { assert, LiveError } from '../error.js'

/** How zeros are appended. */
export interface AppendOptions {
  readonly signal?: AbortSignal | undefined
  /** bytes appended so far */
  readonly onProgress?: ((doneBytes: number) => void) | undefined
}

const PIECE = 1 << 20

/**
 * Lengthens a file with zeros that are written, never a hole: where the stick has no room left this fails now, and not some
 * day in the middle of a booted system's write. All is on the medium when this returns; where it fails the file has its old
 * size again. A cut may leave any part of it, and on FAT a longer file whose end holds whatever lay there: who calls this sees
 * to it that nothing reads the end before it has returned.
 *
 * @param size  bytes the file is to have; no less than it has
 * @throws NO_SPACE, IO, CANCELLED
 */
export const appendZeros = async (
  file: GrowingFile,
  size: number,
  { signal, onProgress }: AppendOptions = {},
): Promise<void> => {
  const before = file.size
  assert(size >= before, `${file.name} of ${before} bytes is to grow to ${size}`)
  const zeros = new Uint8Array(Math.min(PIECE, size - before))
  try {
    for (let at = before; at < size; ) {
      if (signal?.aborted)
        throw new LiveError('CANCELLED', `stopped while ${file.name} was being lengthened (it has its old size again)`)
      // the first piece only up to the next border, so that all others lie on whole pages and clusters
      const length = Math.min(PIECE - (at % PIECE), size - at)
      await file.write(at, zeros.subarray(0, length))
      at += length
      onProgress?.(at - before)
    }
    await file.flush()
  } catch (error) {
    await file
      .truncate(before)
      .then(
        () => file.flush(),
        () => undefined,
      )
      .catch(() => undefined)
    throw error
  }
}
