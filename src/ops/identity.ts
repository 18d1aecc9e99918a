import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { usedAs } from '../host/block-use.js'
import { checkNotLocked, type FileLock, lockFile } from '../host/file-lock.js'
import { type FileFacts, isHostFolder } from '../host/folder.js'
import { attachedLoop, readLoops } from '../host/loops.js'
import { mountOf } from '../host/medium.js'
import { holderOf, isPlaceFolder } from '../host/place-folder.js'
import { shellWord } from '../host/shell-word.js'
import { marked, pathWord } from '../liveos/advice.js'
import { type HostFile, type OverlayTarget, RUNNING, type Target, type TargetFile } from '../liveos/target.js'

/** A file as it was when a plan was made; plain JSON. */
export interface FileIdentity {
  readonly path: string
  readonly size: number
  readonly device: number
  readonly inode: number
  /** milliseconds since 1970 */
  readonly modified: number
}

/** The identity of a target's file. */
export const identityOf = ({ path, facts: { size, device, inode, modified } }: TargetFile): FileIdentity => ({
  path,
  size,
  device,
  inode,
  modified,
})

const same = (then: FileIdentity, now: FileFacts): boolean =>
  now.size === then.size && now.device === then.device && now.inode === then.inode && now.modified === then.modified

/** Refuses a plan that was made for something else than what is there now. */
export const outdated = (path: string): LiveError =>
  new LiveError(
    'REFUSED',
    `${path} has changed since the plan was made, by something else than this run: run the command again to plan anew`,
    { path },
  )

/** @throws REFUSED  a file is not the one that the plan was made for */
export const checkUnchanged = async (
  files: readonly { readonly file: TargetFile; readonly planned: FileIdentity }[],
): Promise<void> => {
  for (const { file, planned } of files) {
    const now = await file.folder.facts(file.name)
    if (!now || !same(planned, now)) throw outdated(planned.path)
  }
}

/**
 * Refuses a stick that carries the running system, files that a loop device holds open or another run of liveos writes to, and
 * devices that are mounted or a part of another.
 *
 * @param ownLock  the files are locked by the caller
 * @throws REFUSED
 */
export const checkNotInUse = async (target: Target, ownLock = false): Promise<void> => {
  // of a base in an image, the image is where its overlay is
  const mount = isHostFolder(target.base.folder) ? await mountOf(target.base.path) : undefined
  for (const path of RUNNING) {
    const running = await mountOf(path).catch(() => undefined)
    if (mount && running && running.mountPoint === path && running.device === mount.device)
      throw new LiveError(
        'REFUSED',
        `${target.name} carries the system that is running now: start another system to change it`,
        { path: target.name, running: path },
      )
  }
  const loops = await readLoops()
  for (const [what, file] of [
    ['overlay', target.overlay],
    ['base image', target.base],
  ] as const) {
    if (!file || !isHostFolder(file.folder)) continue
    const holder = holderOf(file)
    if (!ownLock) await checkNotLocked(holder)
    const use = file.facts.kind === 'other' ? await usedAs(holder) : undefined
    if (use !== undefined)
      throw new LiveError('REFUSED', `the ${what} ${file.path} is ${use}: unmount what uses it first`, {
        path: file.path,
      })
    const loop = await attachedLoop(holder, loops)
    if (loop)
      throw new LiveError(
        'REFUSED',
        `the ${what} ${file.path} is${holder === file.path ? '' : ` on ${holder}, which is`} attached to ${loop.name}: unmount what uses it and run 'losetup -d ${loop.name}' first`,
        { path: file.path, loop: loop.name },
      )
  }
}

/**
 * Does something while no other run of liveos may write to some files. A file that goes meanwhile, as the old base of a refresh,
 * is none of them: its number could be another file's by then.
 *
 * @throws REFUSED  another run does; and what `work` throws
 */
export const whileLocked = async <T>(
  files: readonly (Pick<TargetFile, 'folder' | 'path'> | undefined)[],
  work: () => Promise<T>,
): Promise<T> => {
  const locks: FileLock[] = []
  try {
    for (const path of new Set(files.flatMap(file => (file ? holderOf(file) : [])))) locks.push(await lockFile(path))
    return await work()
  } finally {
    for (const lock of locks) await lock.release()
  }
}

/** @throws READ_ONLY  the stick is mounted read-only, or files can't be made there */
export const checkWritable = async (target: OverlayTarget): Promise<void> => {
  const { readOnly, mountPoint } = target.medium
  if (readOnly && isHostFolder(target.base.folder))
    throw new LiveError(
      'READ_ONLY',
      `${mountPoint} is mounted read-only: ${marked(`sudo mount -o remount,rw ${pathWord(mountPoint)}`)} makes it writable`,
      { path: mountPoint },
    )
  for (const file of [target.base, target.overlay])
    if (file && isHostFolder(file.folder) && !(await file.folder.isWritable()))
      throw new LiveError('READ_ONLY', `you may not write in ${file.folder.path}: run this as its owner or as root`, {
        path: file.folder.path,
      })
  if (target.overlay)
    await access(holderOf(target.overlay), constants.W_OK).catch(() => {
      throw new LiveError(
        'READ_ONLY',
        `you may not write to ${target.overlay?.path}: run this as its owner or as root`,
        {
          path: target.overlay?.path ?? '',
        },
      )
    })
}

/** What `checkWritable` would throw, as findings: a plan can be read all the same, and its run refuses. */
export const readOnlyFindings = async (target: OverlayTarget): Promise<readonly Finding[]> => {
  try {
    await checkWritable(target)
    return []
  } catch (error) {
    if (!isLiveError(error) || error.code !== 'READ_ONLY') throw error
    return [{ code: 'READ_ONLY', severity: 'error', where: target.name, message: error.message }]
  }
}

/**
 * Refuses an overlay that is a partition or disk with no place beside it for what undoes a change.
 *
 * @throws REFUSED
 */
export const checkHasPlace = ({ folder, path, facts }: HostFile, target: OverlayTarget): void => {
  if (facts.kind !== 'other' || (isPlaceFolder(folder) && folder.beside)) return
  throw new LiveError(
    'REFUSED',
    target.stick
      ? `${path} is a partition or disk, and what undoes a change of it is kept on the stick itself: mount the stick and name its directory, with --overlay ${shellWord(path)}`
      : `${path} is a partition or disk, and there is no folder beside it or its base for what undoes a change: name the base as a file (--base), or work on a copy of it: dd if=${shellWord(path)} of=overlay.img bs=1M`,
    { path },
  )
}
