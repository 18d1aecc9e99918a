import { createHash } from 'node:crypto'
import { lstat, mkdir, readFile, readlink, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { LiveError, systemError } from '../error.js'
import { placeOf } from '../host/mounting.js'
import { isAlive } from '../host/nbd-file.js'
import type { RunOwner } from './refresh-owner.js'
import type { WritesTo } from './serve-plan.js'
import type { ExportLayer } from './serve-view.js'

/** What `liveos mount` leaves, by which `liveos umount` undoes it. */
export interface MountState {
  readonly version: 1
  readonly mountPoint: string
  readonly target: string
  readonly part: ExportLayer
  readonly writesTo: WritesTo
  readonly scratch: string | null
  /** how the files came to the mount point; `file`: it is the image itself, by nbdfuse */
  readonly how: 'kernel' | 'fuse2fs' | 'file'
  /** the process of the export */
  readonly server: RunOwner
  /** the image as a file or device, and of nbdfuse its process and mount point */
  readonly image: {
    readonly path: string
    readonly by: 'nbdfuse' | 'kernel nbd'
    readonly pid: number | null
    readonly mountPoint: string | null
  }
  readonly fuse2fsPid: number | null
}

/** as many as the kernel follows on its way */
const MOST_LINKS = 40

/**
 * The mount point that is meant, also where its last name is a symlink: `mount` of the system follows that too. What hangs below
 * the place is not looked into.
 *
 * @throws NOT_FOUND  its directory; USAGE  symlinks in a circle
 */
export const mountPlaceOf = async (mountPoint: string): Promise<string> => {
  let place = await placeOf(mountPoint)
  for (let links = 0; links < MOST_LINKS; links++) {
    const to = await readlink(place).catch(() => undefined)
    if (to === undefined) return place
    place = await placeOf(resolve(dirname(place), to))
  }
  throw new LiveError('USAGE', `${mountPoint} is a symlink that leads to itself`, { path: mountPoint })
}

/** The directory of the states of this user. @throws REFUSED  it belongs to somebody else */
const stateFolder = async (): Promise<string> => {
  const { XDG_RUNTIME_DIR } = process.env
  const uid = process.getuid?.() ?? 0
  const path = XDG_RUNTIME_DIR ? join(XDG_RUNTIME_DIR, 'liveos') : join(tmpdir(), `liveos-mounts-${uid}`)
  try {
    await mkdir(path, { mode: 0o700, recursive: true })
    const stats = await lstat(path)
    // In a folder for all, somebody else may have made it first, and what is in it names processes to be ended.
    if (stats.isDirectory() && stats.uid === uid && (stats.mode & 0o022) === 0) return path
  } catch (error) {
    throw systemError(error, `making ${path}`)
  }
  throw new LiveError('REFUSED', `${path} is not a directory of yours alone: remove it`, { path })
}

/** Paths of the state of a mount point, and of the last words of its server. */
export const statePaths = async (mountPoint: string): Promise<{ readonly state: string; readonly result: string }> => {
  const folder = await stateFolder()
  const name = createHash('sha256').update(mountPoint).digest('hex').slice(0, 24)
  return { state: join(folder, `${name}.json`), result: join(folder, `${name}.result.json`) }
}

/** Writes the state of a mount. */
export const writeMountState = async (state: MountState): Promise<void> => {
  const { state: path } = await statePaths(state.mountPoint)
  await writeFile(`${path}.new`, JSON.stringify(state), { mode: 0o600 })
  await rename(`${path}.new`, path)
}

/** The state of a mount point; undefined where `liveos mount` made none there. */
export const readMountState = async (mountPoint: string): Promise<MountState | undefined> => {
  const { state: path } = await statePaths(mountPoint)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw systemError(error, `reading ${path}`)
  }
  try {
    const state = JSON.parse(text) as MountState
    if (state.version === 1 && state.mountPoint === mountPoint && typeof state.server.pid === 'number') return state
  } catch {
    // told below
  }
  throw new LiveError(
    'REFUSED',
    `${path} is no state of a mount that this liveos can read: unmount by hand and remove it`,
    {
      path,
    },
  )
}

/** Forgets a mount. */
export const removeMountState = async (mountPoint: string): Promise<void> => {
  const { state, result } = await statePaths(mountPoint)
  await rm(state, { force: true })
  await rm(result, { force: true })
}

/** True while the process that a state names is still that one. */
export const isServing = async ({ server }: MountState): Promise<boolean> => {
  const { pid, start } = server
  if (!(await isAlive(pid))) return false
  return start === (await startOf(pid))
}

/** Ticks at which a process started, by which it is told from a later one of the same number; null where it is gone. @see proc(5) */
const startOf = async (pid: number): Promise<string | null> => {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
}

/** Who serves. */
export const ownerOf = async (pid: number): Promise<RunOwner> => ({
  pid,
  start: await startOf(pid),
  boot: await readFile('/proc/sys/kernel/random/boot_id', 'utf8').then(
    text => text.trim(),
    () => null,
  ),
})
