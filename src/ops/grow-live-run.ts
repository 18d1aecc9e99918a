import { dirname } from 'node:path'
import { SECTOR } from '../block/snapshot/layout.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type DmStatus, loopAt, numberOf, readSnapshotStatus, refreshLoopSize } from '../host/dmsetup.js'
import { lockFile } from '../host/file-lock.js'
import { openFolder } from '../host/folder.js'
import { hostFile } from '../liveos/target.js'
import { appendZeros } from './append-zeros.js'
import { checkUsable, type GrowLivePlan } from './grow-live.js'
import { outdated } from './identity.js'
import { type Progress, progressing } from './progress.js'
import type { RunOptions } from './refresh-run.js'
import { dropUndo } from './unfinished.js'

/** What became of the size of an overlay in use. Sizes are bytes. */
export interface GrowLiveOutcome {
  readonly verb: 'grow'
  readonly live: true
  readonly overlay: string
  readonly snapshot: string
  readonly loop: string
  readonly change: GrowLivePlan['change']
  readonly oldBytes: number
  readonly newBytes: number
  /** what dmsetup status said before and says now */
  readonly dmsetup: { readonly before: string; readonly after: string }
  readonly findings: readonly Finding[]
}

const statusOf = async (name: string, path: string): Promise<DmStatus> => {
  const status = await readSnapshotStatus(name)
  if (!status) throw new LiveError('REFUSED', `${name} is no active snapshot any more: plan again`, { path })
  return status
}

/**
 * Gives an overlay in use more room.
 *
 * Ordered steps and the state after each:
 *
 * 1. zeros appended and flushed: the overlay as it was, as the loop device shows no more of the file than before. A cut, or
 *    a stop, leaves any size between the two, which the next start takes as it finds it
 * 2. losetup -c: the kernel has the new size, and writes on. Nothing of the store itself was touched
 *
 * Running it again finishes.
 *
 * @throws REFUSED  it changed since it was planned, or overflowed meanwhile; NO_SPACE, IO, CANCELLED
 */
export async function* runGrowLive(
  plan: GrowLivePlan,
  { signal, wrapFolder = folder => folder }: RunOptions = {},
): AsyncGenerator<Progress, GrowLiveOutcome> {
  return yield* progressing(async report => {
    const { overlay, snapshot, loop, change, newBytes } = plan
    const { name, facts } = await hostFile(overlay.path, 'overlay')
    const number = await numberOf(loop)
    if (facts.size !== overlay.size || facts.inode !== overlay.inode || facts.device !== overlay.device || !number)
      throw outdated(overlay.path)
    const lock = await lockFile(overlay.path)
    try {
      const before = await statusOf(snapshot, overlay.path)
      checkUsable({ state: before.state, name: snapshot, store: overlay.path })
      if (change === 'grow') {
        const folder = wrapFolder(await openFolder(dirname(overlay.path)))
        await dropUndo(folder, name)
        const file = await folder.openGrowing(name)
        try {
          await appendZeros(file, newBytes, {
            signal,
            onProgress: doneBytes => report({ phase: 'grow', doneBytes, totalBytes: newBytes - overlay.size }),
          })
        } finally {
          await file.close()
        }
      }
      // filled up in the meantime: the longer file stays, as the next start finds room in it
      checkUsable({ ...(await statusOf(snapshot, overlay.path)), name: snapshot, store: overlay.path })
      if (change !== 'none') await refreshLoopSize(loop)
      const after = await statusOf(snapshot, overlay.path)
      checkUsable({ state: after.state, name: snapshot, store: overlay.path })
      const sectors = Math.floor(newBytes / SECTOR)
      const shown = await loopAt(number)
      if (shown?.size !== sectors * SECTOR || after.usage?.totalSectors !== sectors)
        throw new LiveError(
          'IO',
          `the kernel shows ${after.usage?.totalSectors ?? 'an unknown number of'} sectors of ${overlay.path}, and not ${sectors}: run 'losetup -c ${loop}' again`,
          { path: overlay.path, expected: sectors, found: after.usage?.totalSectors ?? null },
        )
      return {
        verb: 'grow',
        live: true,
        overlay: overlay.path,
        snapshot,
        loop,
        change,
        oldBytes: overlay.size,
        newBytes,
        dmsetup: { before: before.line, after: after.line },
        findings: plan.findings,
      }
    } finally {
      await lock.release()
    }
  })
}
