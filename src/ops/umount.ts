import { readFile, rmdir } from 'node:fs/promises'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { endProcess, isMountPoint, unmount } from '../host/mounting.js'
import { awaitGone, disconnectNbd, isAlive } from '../host/nbd-file.js'
import { marked, pathWord } from '../liveos/advice.js'
import {
  isServing,
  type MountState,
  mountPlaceOf,
  readMountState,
  removeMountState,
  statePaths,
} from './mount-state.js'
import type { ServeOutcome } from './serve.js'
import type { ServeAnswer } from './serve-process.js'

export interface UmountOutcome {
  readonly verb: 'umount'
  readonly mountPoint: string
  readonly target: string
  readonly writesTo: MountState['writesTo']
  readonly scratch: string | null
  /** what takes the writes, as it is now; null where there were none, or the server was gone */
  readonly store: ServeOutcome['store']
  readonly findings: readonly Finding[]
}

/** The server flushes for as long as it takes the medium. */
const FLUSH_MS = 600_000
const FUSE2FS_MS = 60_000

/** The server's last words. */
const resultOf = async (mountPoint: string): Promise<ServeAnswer | undefined> => {
  const { result } = await statePaths(mountPoint)
  try {
    return JSON.parse(await readFile(result, 'utf8')) as ServeAnswer
  } catch {
    return undefined
  }
}

/** The image's own mount or device, once nothing uses it. */
const takeImageAway = async ({ image }: MountState, isDead: boolean): Promise<void> => {
  if (image.by === 'kernel nbd') await disconnectNbd(image.path).catch(() => undefined)
  if (image.mountPoint === null) return
  await unmount(image.mountPoint, { force: isDead })
  // Dead or not, nbdfuse has nothing to do any more; it is named by its number, so look before.
  if (image.pid !== null && (await isNbdfuse(image.pid))) {
    if (isDead || !(await awaitGone(image.pid))) await endProcess(image.pid, 1000)
  }
}

const isNbdfuse = async (pid: number): Promise<boolean> =>
  (await isAlive(pid)) && (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')).trim() === 'nbdfuse'

/**
 * Undoes what `mountView` did, in its order backwards, and waits until what was written is on the medium. Where the server was
 * ended by force, what is left of it is cleared away.
 *
 * @throws NOT_FOUND  nothing of liveos is mounted there; REFUSED  it is in use: nothing was changed then; NO_SPACE, IO
 */
export const umountView = async (mountPoint: string): Promise<UmountOutcome> => {
  const place = await mountPlaceOf(mountPoint)
  const state = await readMountState(place)
  if (!state)
    throw new LiveError(
      'NOT_FOUND',
      (await isMountPoint(place))
        ? `${place} was not mounted by liveos: ${marked(`umount ${pathWord(place)}`)} is for it`
        : `nothing is mounted at ${place}`,
      { path: place },
    )
  const isDead = !(await isServing(state))
  await unmount(place, { force: isDead })
  if (state.fuse2fsPid !== null && !(await awaitGone(state.fuse2fsPid, isDead ? 1000 : FUSE2FS_MS)))
    await endProcess(state.fuse2fsPid, 1000)
  await takeImageAway(state, isDead)
  const { server, image, target, writesTo, scratch } = state
  if (!isDead) await endProcess(server.pid, FLUSH_MS)
  // a temporary one; the server removes it where it still can, and a named mount point stays
  if (image.mountPoint !== null && image.mountPoint !== place) await rmdir(image.mountPoint).catch(() => undefined)
  const result = await resultOf(place)
  await removeMountState(place)
  if (result?.kind === 'failed') {
    const { code, message, data } = result.error
    throw new LiveError(code === 'BUG' ? 'IO' : code, message, data)
  }
  const outcome = result?.kind === 'stopped' ? result.outcome : null
  const lost: Finding[] =
    isDead || !outcome
      ? [
          {
            code: 'SERVER_GONE',
            severity: writesTo === 'none' ? 'note' : 'warning',
            where: target,
            message: `the server of this mount had ended before${writesTo === 'none' ? '' : ': what was written since its last flush is lost'}`,
          },
        ]
      : []
  const findings = [...(outcome?.findings ?? []), ...lost]
  const store = writesTo === 'none' ? null : (outcome?.store ?? null)
  return { verb: 'umount', mountPoint: place, target, writesTo, scratch, store, findings }
}
