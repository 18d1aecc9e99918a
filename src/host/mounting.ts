import { readdir, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { LiveError, systemError } from '../error.js'
import { startFuseProgram } from './fuse-program.js'
import { readMounts } from './medium.js'
import { awaitGone } from './nbd-file.js'
import { findTool, runTool } from './process.js'
import { marked, shellWord } from './shell-word.js'

/** A path without symlinks whose last name is not touched: below it a filesystem may hang. @throws NOT_FOUND */
export const placeOf = async (path: string): Promise<string> => {
  try {
    return join(await realpath(dirname(path)), basename(path))
  } catch (error) {
    throw systemError(error, `looking at ${dirname(path)}`)
  }
}

/** True where something is mounted at a path as `placeOf` gives it. */
export const isMountPoint = async (place: string): Promise<boolean> =>
  (await readMounts()).some(({ mountPoint }) => mountPoint === place)

/** @throws REFUSED  something is mounted there, or it is not empty; NOT_FOUND  it is no directory */
export const checkEmpty = async (place: string): Promise<void> => {
  if (await isMountPoint(place))
    throw new LiveError('REFUSED', `something is mounted at ${place} already`, { path: place })
  let names: readonly string[]
  try {
    names = await readdir(place)
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      throw new LiveError(
        'NOT_FOUND',
        `there is no directory ${place}: make one with ${marked(`mkdir ${shellWord(place)}`)}`,
        {
          path: place,
        },
      )
    throw systemError(error, `looking at ${place}`)
  }
  if (names.length > 0)
    throw new LiveError('REFUSED', `${place} is not empty, and a mount would hide what is in it`, { path: place })
}

/** Mounts a file or block device with the kernel's own filesystems. @throws IO  with the words of mount */
export const mountByKernel = async (file: string, place: string, readOnly: boolean): Promise<void> => {
  const how = [readOnly ? 'ro' : 'rw', 'nosuid', 'nodev', ...(file.startsWith('/dev/') ? [] : ['loop'])]
  const { code, stderr } = await runTool('mount', ['-o', how.join(','), '--', file, place])
  if (code !== 0) throw new LiveError('IO', `mount: ${stderr.trim()}`, { path: place, code })
}

/**
 * Mounts an ext2, ext3 or ext4 image by fuse2fs, which needs no root. It runs on when this process ends.
 *
 * @returns its process
 * @throws NOT_FOUND  it is not installed; IO  with its words
 */
export const mountByFuse2fs = async (file: string, place: string, readOnly: boolean): Promise<number> => {
  const tool = await findTool('fuse2fs')
  if (!tool)
    throw new LiveError('NOT_FOUND', 'fuse2fs is not installed: install the package fuse2fs', { tool: 'fuse2fs' })
  // In the foreground, so that its end can be waited for: it writes its last tables after it was unmounted.
  const options = `fakeroot${readOnly ? ',ro' : ''}`
  return startFuseProgram(tool, ['-f', '-o', options, file, place], place, () => isMountPoint(place))
}

const FUSE_MOUNTS = /^fuse(\.|$)/
const TRIES = 50
const BETWEEN_MS = 100

/**
 * Unmounts what is at a place, and tries again for some seconds: a loop device lets its file go a moment after its filesystem.
 *
 * @param force  take it out of sight even where it is in use or its server is dead
 * @throws REFUSED  it is in use
 */
export const unmount = async (place: string, { force = false }: { readonly force?: boolean } = {}): Promise<void> => {
  for (let n = 1; ; n++) {
    const mount = (await readMounts()).findLast(({ mountPoint }) => mountPoint === place)
    if (!mount) return
    const byFuse = FUSE_MOUNTS.test(mount.type) && (await findTool('fusermount3')) !== undefined
    const { code, stderr } = byFuse
      ? await runTool('fusermount3', ['-u', ...(force ? ['-z'] : []), '--', place])
      : await runTool('umount', [...(force ? ['-l'] : []), '--', place])
    if (code === 0) continue
    if (n >= (byFuse ? TRIES : 3) || !/busy/i.test(stderr))
      throw new LiveError(
        'REFUSED',
        `${place} can't be unmounted: ${stderr.trim()}; close what uses it (fuser -vm ${place} names it) and try again`,
        { path: place },
      )
    await pause(BETWEEN_MS)
  }
}

/** Ends a process that was started for a mount, by its number: politely, and after a while not. */
export const endProcess = async (pid: number, ms: number): Promise<void> => {
  const send = (signal: NodeJS.Signals): void => {
    try {
      process.kill(pid, signal)
    } catch {
      // it is gone
    }
  }
  send('SIGTERM')
  if (await awaitGone(pid, ms)) return
  send('SIGKILL')
  await awaitGone(pid, 1000)
}
