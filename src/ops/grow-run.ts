import { type Device, isZero } from '../block/device.js'
import type { GrowingFile } from '../block/file.js'
import { newStore, readStore, type Store } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import type { TargetInput } from '../liveos/target.js'
import { isUnsized, LEAST_OVERLAY } from '../liveos/too-small.js'
import { appendZeros } from './append-zeros.js'
import type { GrowPlan } from './grow.js'
import { findOverlay } from './grow-target.js'
import { checkNotInUse, checkUnchanged, checkWritable, whileLocked } from './identity.js'
import { type Progress, progressing, type Report } from './progress.js'
import type { RunOptions } from './refresh-run.js'
import { overlayOf } from './reset.js'
import { checkNothingUnfinished, dropUndo, outcomeFindings } from './unfinished.js'

/** What became of an overlay's size. Sizes are bytes. */
export interface GrowOutcome {
  readonly verb: 'grow'
  readonly overlay: string
  readonly change: GrowPlan['change']
  readonly oldBytes: number
  readonly newBytes: number
  /** zeros written into holes */
  readonly filledBytes: number
  /** chunks in its list, as it was read again */
  readonly exceptions: number
  readonly readBack: 'medium' | 'page cache'
  readonly findings: readonly Finding[]
}

const PIECE = 1 << 20
const BLOCK = 4096

/**
 * Gives an overlay its new size. The list of chunks is not touched: the kernel takes the size of the store from its device,
 * and clears each further metadata area before it writes a first exception there, so nothing ever reads the end as it is.
 *
 * Ordered steps and the state after each:
 *
 * - fill: zeros where zeros are, flushed: the overlay as it was, with blocks of its own in its holes
 * - grow: zeros appended, flushed: the overlay as it was, with more room. A cut leaves any size between the two
 * - grow of a file too small for an overlay: the zeros by which it is a new one first, flushed. A cut before that may on FAT
 *   leave whatever lay there in their place: doctor tells it, and reset clears it
 * - shrink: all flushed, then cut off behind the last chunk in use, flushed: a cut leaves one size or the other
 *
 * Running it again finishes; `--size +…` then counts from what is there.
 *
 * @throws REFUSED, NO_SPACE, IO, CANCELLED  the old size stays then, or comes back; CORRUPT  the list was read back otherwise
 */
export async function* runGrow(
  input: TargetInput,
  plan: GrowPlan,
  { signal, wrapFolder = folder => folder }: RunOptions = {},
): AsyncGenerator<Progress, GrowOutcome> {
  return yield* progressing(async report => {
    const target = await findOverlay(input)
    const overlay = overlayOf(target)
    await checkUnchanged([{ file: overlay, planned: plan.overlay }])
    await checkNothingUnfinished(target)
    await checkNotInUse(target)
    await checkWritable(target)
    return whileLocked([overlay], async () => {
      const folder = wrapFolder(overlay.folder)
      await dropUndo(folder, overlay.name)
      const file = await folder.openGrowing(overlay.name)
      let before: Store
      let filledBytes = 0
      try {
        before = (await isUnsized(file)) ? newStore(file.size) : await readStore(file)
        if (plan.fillBytes > 0) filledBytes = await fillHoles(file, report, signal)
        if (plan.change === 'shrink') await cutOff(file, plan.newBytes)
        else if (plan.change === 'grow') {
          if (file.size < LEAST_OVERLAY) await appendZeros(file, LEAST_OVERLAY)
          const begun = file.size - plan.oldBytes
          await appendZeros(file, plan.newBytes, {
            signal,
            onProgress: doneBytes =>
              report({ phase: 'grow', doneBytes: begun + doneBytes, totalBytes: plan.newBytes - plan.oldBytes }),
          })
        }
      } finally {
        await file.close()
      }
      const back = await folder.openReadBack(overlay.name)
      try {
        await checkList(before, back, plan.newBytes)
        return {
          verb: 'grow',
          overlay: overlay.path,
          change: plan.change,
          oldBytes: plan.oldBytes,
          newBytes: back.size,
          filledBytes,
          exceptions: before.exceptions.count,
          readBack: back.from,
          findings: outcomeFindings(plan.findings),
        }
      } finally {
        await back.close()
      }
    })
  })
}

/** Nothing of what goes may still be wanted when it is gone: what the list says of it is on the medium before. */
const cutOff = async (file: GrowingFile, size: number): Promise<void> => {
  await file.flush()
  await file.truncate(size)
  await file.flush()
}

/** Writes zeros where zeros are read, as only the filesystem knows which of them are holes. @throws NO_SPACE, IO, CANCELLED */
const fillHoles = async (file: GrowingFile, report: Report, signal: AbortSignal | undefined): Promise<number> => {
  const { size } = file
  let filled = 0
  for (let at = 0; at < size; at += PIECE) {
    if (signal?.aborted)
      throw new LiveError(
        'CANCELLED',
        `stopped while the holes of ${file.name} were being filled (what it holds is as it was; the same command goes on)`,
      )
    const bytes = await file.read(at, Math.min(PIECE, size - at))
    for (const { from, to } of zeroRuns(bytes)) {
      await file.write(at + from, new Uint8Array(to - from))
      filled += to - from
    }
    report({ phase: 'fill', doneBytes: at + bytes.length, totalBytes: size })
  }
  await file.flush()
  return filled
}

/** The runs of blocks that are zero. */
function* zeroRuns(bytes: Uint8Array): Iterable<{ from: number; to: number }> {
  let from: number | undefined
  for (let at = 0; at < bytes.length; at += BLOCK) {
    if (isZero(bytes.subarray(at, at + BLOCK))) from ??= at
    else if (from !== undefined) {
      yield { from, to: at }
      from = undefined
    }
  }
  if (from !== undefined) yield { from, to: bytes.length }
}

/** @throws IO  size or list are not as they should be */
const checkList = async (before: Store, back: Device, size: number): Promise<void> => {
  const wrong = (what: string) =>
    new LiveError(
      'IO',
      `${back.name} was read back with another ${what}: the stick does not keep what is written to it`,
    )
  if (back.size !== size) throw wrong('size')
  const after = await readStore(back)
  if (after.exceptions.count !== before.exceptions.count || after.state !== before.state) throw wrong('list of chunks')
  const found = after.exceptions.stored()
  for (const { oldChunk, newChunk } of before.exceptions.stored()) {
    const { value } = found.next()
    if (value?.oldChunk !== oldChunk || value.newChunk !== newChunk) throw wrong('list of chunks')
  }
}
