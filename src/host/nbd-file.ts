import { constants } from 'node:fs'
import { access, mkdtemp, readdir, readFile, realpath, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { LiveError, systemError } from '../error.js'
import { startFuseProgram } from './fuse-program.js'
import { readMounts } from './medium.js'
import { findTool, runTool } from './process.js'

/** An NBD export as a file or block device. */
export interface NbdFile {
  readonly path: string
  readonly by: 'nbdfuse' | 'kernel nbd'
  /** of nbdfuse: its process, and where it is mounted */
  readonly pid: number | undefined
  readonly mountPoint: string | undefined
  /** Takes it away again. @throws IO  it is in use */
  stop(): Promise<void>
}

/** Debian took it out of its old package only after version 12. */
export const NBDFUSE_PACKAGE = 'the package nbdfuse (libnbd-bin on Debian 12)'

/** What is needed to reach an export. */
export interface NbdSource {
  readonly uri: string
  readonly socket: string
}

const canUse = (path: string): Promise<boolean> =>
  access(path, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  )

const GONE_MS = 10_000
const STEP_MS = 20

/** True where this user can mount by FUSE. */
export const hasNbdfuse = async (): Promise<boolean> =>
  (await findTool('nbdfuse')) !== undefined &&
  ((await findTool('fusermount3')) !== undefined || process.getuid?.() === 0) &&
  (await canUse('/dev/fuse'))

/** True where the kernel has nbd devices and this user may use them. */
export const hasKernelNbd = async (): Promise<boolean> =>
  process.getuid?.() === 0 && (await findTool('nbd-client')) !== undefined && (await canUse('/dev/nbd0'))

const isMounted = async (mountPoint: string): Promise<boolean> =>
  (await readMounts()).some(mount => mount.mountPoint === mountPoint)

/** Unmounts what FUSE has mounted. @throws IO  it is in use */
export const unmountFuse = async (mountPoint: string): Promise<void> => {
  if (!(await isMounted(mountPoint))) return
  const tool = (await findTool('fusermount3')) ? 'fusermount3' : 'umount'
  const { code, stderr } = await runTool(tool, [...(tool === 'umount' ? [] : ['-u']), '--', mountPoint])
  if (code !== 0 && (await isMounted(mountPoint)))
    throw new LiveError('IO', `${mountPoint} can't be unmounted: ${stderr.trim()}`, { path: mountPoint })
}

/** True while a process is there and is no zombie. */
export const isAlive = async (pid: number): Promise<boolean> => {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat !== '' && !/^\d+ \(.*\) [ZX] /s.test(stat)
}

/** Waits until a process is gone; false where it stays. */
export const awaitGone = async (pid: number, ms = GONE_MS): Promise<boolean> => {
  for (const end = Date.now() + ms; Date.now() < end; await pause(STEP_MS)) if (!(await isAlive(pid))) return true
  return !(await isAlive(pid))
}

/**
 * Mounts an export by nbdfuse as the file `nbd` in a directory. The mount is never looked into here: where the server hangs,
 * so would this process.
 *
 * @param mountPoint  an empty directory, absolute, with no symlink on the way
 * @throws NOT_FOUND  nbdfuse is not installed; IO  it failed
 */
export const startNbdfuse = async (
  { uri }: NbdSource,
  mountPoint: string,
  { readOnly = false }: { readonly readOnly?: boolean | undefined } = {},
): Promise<NbdFile> => {
  const tool = await findTool('nbdfuse')
  if (!tool)
    throw new LiveError('NOT_FOUND', `nbdfuse is not installed: install ${NBDFUSE_PACKAGE}`, { tool: 'nbdfuse' })
  // Kept alive by nobody: the mount may outlive this process.
  const args = [...(readOnly ? ['-r'] : []), mountPoint, uri]
  const pid = await startFuseProgram(tool, args, mountPoint, () => isMounted(mountPoint))
  return {
    path: join(mountPoint, 'nbd'),
    by: 'nbdfuse',
    pid,
    mountPoint,
    async stop() {
      await unmountFuse(mountPoint)
      if (!(await awaitGone(pid))) throw new LiveError('IO', `nbdfuse (process ${pid}) does not end`, { pid })
    },
  }
}

const freeNbdDevice = async (): Promise<string | undefined> => {
  const names = (await readdir('/sys/block').catch((): string[] => [])).filter(name => /^nbd\d+$/.test(name))
  for (const name of names.sort((a, b) => Number(a.slice(3)) - Number(b.slice(3))))
    if (!(await readFile(`/sys/block/${name}/pid`, 'utf8').catch(() => undefined))) return `/dev/${name}`
  return undefined
}

/** Takes an export away from a device of the kernel. @throws IO */
export const disconnectNbd = async (device: string): Promise<void> => {
  const { code, stderr } = await runTool('nbd-client', ['-d', device])
  if (code !== 0) throw new LiveError('IO', `nbd-client -d ${device}: ${stderr.trim()}`, { path: device })
}

/** Gives an export to a device of the kernel. @throws IO, NOT_FOUND  no device is free */
export const startKernelNbd = async ({ socket }: NbdSource): Promise<NbdFile> => {
  const device = await freeNbdDevice()
  if (device === undefined) throw new LiveError('NOT_FOUND', 'all nbd devices of the kernel are in use')
  const { code, stderr } = await runTool('nbd-client', ['-unix', socket, device, '-N', ''])
  if (code !== 0) throw new LiveError('IO', `nbd-client: ${stderr.trim()}`, { path: device })
  return {
    path: device,
    by: 'kernel nbd',
    pid: undefined,
    mountPoint: undefined,
    stop: () => disconnectNbd(device),
  }
}

/**
 * Gives an export a path: by nbdfuse as the file `nbd` in `mountPoint`, or as root by the kernel's nbd. Undefined where
 * neither can be used.
 *
 * @param mountPoint  for nbdfuse, a temporary directory if left out; the kernel's devices have their own names
 * @throws IO
 */
export const openNbdFile = async (
  source: NbdSource,
  { mountPoint, readOnly }: { readonly mountPoint?: string | undefined; readonly readOnly?: boolean | undefined } = {},
): Promise<NbdFile | undefined> => {
  if (!(await hasNbdfuse()))
    return mountPoint === undefined && (await hasKernelNbd()) ? startKernelNbd(source) : undefined
  if (mountPoint !== undefined) return startNbdfuse(source, await realpath(mountPoint), { readOnly })
  // No temporary folder of the usual kind: a sweep of those would go into the mount of a run that was killed.
  const own = await mkdtemp(join(await realpath(tmpdir()), 'liveos-fuse-'))
  try {
    const file = await startNbdfuse(source, own, { readOnly })
    return {
      ...file,
      async stop() {
        await file.stop()
        await rmdir(own)
      },
    }
  } catch (error) {
    await rmdir(own).catch(() => undefined)
    throw systemError(error, 'mounting by nbdfuse')
  }
}
