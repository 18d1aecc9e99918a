import { LiveError } from '../../error.js'
import type { WritableDevice } from '../device.js'
import type { GrowingFile } from '../file.js'
import { layHeld, readUndoJournal } from './journal.js'
import { encodeUndoHeader } from './layout.js'

/** What was taken back. Sizes are bytes. */
export interface UndoneChange {
  readonly restoredBytes: number
  readonly size: number
}

/**
 * Takes a change back. Ordered steps and the state after each:
 *
 * 1. the journal says that the change is being taken back, flushed: as it was
 * 2. the held bytes set, flushed: nobody uses the target
 * 3. all saved bytes written but the held ones, the old size set, flushed: as before the change, and held
 * 4. the held ones written, flushed: as before the change
 *
 * A cut leaves a journal that this takes up again, from the start. The journal's file is the caller's to remove. Whether the
 * target is still as the change left it is the caller's question too.
 *
 * @throws CORRUPT  the journal is damaged, or was never complete; IO, NO_SPACE, CANCELLED
 */
export const applyUndo = async (
  target: GrowingFile,
  journal: WritableDevice,
  {
    signal,
    onProgress,
  }: { signal?: AbortSignal | undefined; onProgress?: ((done: number, total: number) => void) | undefined } = {},
): Promise<UndoneChange> => {
  const found = await readUndoJournal(journal)
  if (!found) return { restoredBytes: 0, size: target.size }
  const { header, saved, savedBytes } = found
  const { hold, oldSize } = header
  await journal.write(0, encodeUndoHeader({ ...header, phase: 'undoing' }))
  await journal.flush()
  const isHeld = ({ offset, length }: { offset: number; length: number }): boolean =>
    hold !== undefined && hold.offset < offset + length && hold.offset + hold.during.length > offset
  // Without a record of the page around them not even the held bytes had been set.
  if (hold && saved.some(isHeld)) {
    await target.write(hold.offset, hold.during)
    await target.flush()
  }
  let done = 0
  for (const range of saved) {
    if (signal?.aborted)
      throw new LiveError(
        'CANCELLED',
        `stopped while a change of ${target.name} was being taken back: liveos undo goes on with it`,
      )
    const bytes = await journal.read(range.at, range.length)
    if (hold) layHeld(bytes, range.offset, hold, hold.during)
    await target.write(range.offset, bytes)
    done += range.length
    onProgress?.(done, savedBytes)
  }
  if (target.size !== oldSize) await target.truncate(oldSize)
  await target.flush()
  const around = saved.find(isHeld)
  if (hold && around) {
    const bytes = await journal.read(around.at + hold.offset - around.offset, hold.during.length)
    await target.write(hold.offset, bytes)
    await target.flush()
  }
  return { restoredBytes: savedBytes, size: oldSize }
}
