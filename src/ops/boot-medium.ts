import { constants } from 'node:fs'
import { type FileHandle, open, readdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { shownName } from '../block/http/shown.js'
import { isHttpUrl } from '../block/http.js'
import { LiveError, systemError } from '../error.js'
import { printableName } from '../fs/name.js'
import { type FileLock, lockFile } from '../host/file-lock.js'
import { factsOf } from '../host/folder.js'
import { attachedLoop } from '../host/loops.js'
import { deviceNumber, mountOf, readMounts } from '../host/medium.js'
import { findTool, runTool } from '../host/process.js'
import { marked, pathWord } from '../liveos/advice.js'
import { imageTree } from '../liveos/image-folder.js'
import { liveDirectories, RESET_SUFFIX, STATE_SUFFIX, UNDO_SUFFIX } from '../liveos/live-directory.js'
import { readFrom } from '../liveos/open-target.js'
import type { Source } from '../liveos/source.js'
import { findRunning, type TargetInput } from '../liveos/target.js'
import { compactStateName, compactsIn } from './compact-state.js'
import { type FileIdentity, outdated } from './identity.js'

/** The disk, image or address that a machine is to have as its medium. */
export interface BootMedium {
  /** what is opened: a whole disk, an image, or an address without what is secret in it */
  readonly path: string
  readonly kind: 'device' | 'image' | 'url'
  /** mount points of the filesystems on it */
  readonly mounted: readonly string[]
  /** undefined for an address */
  readonly identity: FileIdentity | undefined
}

const CLASS = '/sys/class/block'

/** The disk that a partition is on, or the disk itself, as a path below /dev. */
const wholeDisk = async (device: string): Promise<string> => {
  const name = basename(await realpath(device))
  const entry = await realpath(join(CLASS, name)).catch(() => undefined)
  if (entry === undefined) return device
  const isPartition = await stat(join(entry, 'partition')).then(
    () => true,
    () => false,
  )
  // Names of the kernel have ! where those below /dev have a folder.
  return isPartition ? join('/dev', basename(dirname(entry)).replaceAll('!', '/')) : device
}

/** major:minor of a disk and of its partitions. */
const numbersOf = async (disk: string): Promise<readonly string[]> => {
  const name = basename(await realpath(disk))
  const entries = await readdir(join(CLASS, name)).catch(() => [])
  const numbers: string[] = []
  for (const entry of ['', ...entries.filter(entry => entry.startsWith(name))]) {
    const number = await readFile(join(CLASS, name, entry, 'dev'), 'utf8').catch(() => undefined)
    if (number !== undefined) numbers.push(number.trim())
  }
  return numbers.length > 0 ? numbers : [deviceNumber((await stat(disk)).rdev)]
}

const mountsOn = async (disk: string): Promise<readonly string[]> => {
  const numbers = await numbersOf(disk)
  return (await readMounts()).filter(({ device }) => numbers.includes(device)).map(({ mountPoint }) => mountPoint)
}

/** The device that is mounted at a directory. @throws USAGE  none is */
const deviceUnder = async (directory: string): Promise<string> => {
  const mount = await mountOf(directory)
  const name = printableName(directory)
  if (!mount?.source.startsWith('/dev/'))
    throw new LiveError(
      'USAGE',
      `${name} is a directory on no disk (${mount?.type ?? 'nothing is mounted there'}): name the stick's device, such as /dev/sdb, or its image`,
      { path: directory },
    )
  if (mount.mountPoint !== (await realpath(directory)))
    throw new LiveError(
      'USAGE',
      `${name} is a directory of what is mounted at ${mount.mountPoint}, and no stick is mounted there: a machine starts from a whole stick, so name its device (such as /dev/sdb), its image, or the place where it is mounted`,
      { path: directory, mountPoint: mount.mountPoint },
    )
  return mount.source
}

/** Has the kernel write to a medium what it still holds of the filesystems on it. */
export const settle = async ({ mounted }: BootMedium): Promise<void> => {
  if (mounted.length > 0 && (await findTool('sync'))) await runTool('sync', ['-f', ...mounted])
}

const identityOfPath = async (path: string): Promise<FileIdentity> => {
  const facts = await factsOf(path)
  if (!facts) throw new LiveError('NOT_FOUND', `there is no ${printableName(path)}`, { path })
  const { size, device, inode, modified } = facts
  // Of a device these tell when its node was touched, which is no change of what is on it.
  return { path, size, device, inode, modified: facts.kind === 'file' ? modified : 0 }
}

/**
 * Finds the disk of a target: of a mounted stick or a partition the whole one, as a firmware would start it.
 *
 * @throws NOT_FOUND, USAGE  a directory that is on no disk
 */
export const findMedium = async ({ target }: Pick<TargetInput, 'target'>): Promise<BootMedium> => {
  const name = target ?? (await findRunning())
  if (isHttpUrl(name)) return { path: shownName(name), kind: 'url', mounted: [], identity: undefined }
  const facts = await factsOf(name)
  const shown = printableName(shownName(name))
  if (!facts) throw new LiveError('NOT_FOUND', `there is no ${shown}`, { path: shown })
  if (facts.kind === 'file') return { path: name, kind: 'image', mounted: [], identity: await identityOfPath(name) }
  const device = facts.kind === 'directory' ? await deviceUnder(name) : name
  if (!(await stat(device).catch(() => undefined))?.isBlockDevice())
    throw new LiveError(
      'USAGE',
      `${printableName(device)} is neither a directory nor a file nor a block device: name the stick's device or its image`,
      { path: device },
    )
  const path = await wholeDisk(device)
  return { path, kind: 'device', mounted: await mountsOn(path), identity: await identityOfPath(path) }
}

/** @throws REFUSED  the medium is not the one that was planned for */
export const checkSameMedium = async ({ path, identity }: BootMedium): Promise<void> => {
  if (!identity) return
  const now = await identityOfPath(path)
  if (
    now.size !== identity.size ||
    now.device !== identity.device ||
    now.inode !== identity.inode ||
    now.modified !== identity.modified
  )
    throw outdated(path)
}

/** A verb that was cut short on a stick: what is there, and the verb that finishes it. */
const cutShort = async (source: Source): Promise<{ readonly path: string; readonly verb: string } | undefined> => {
  for (const volume of source.volumes) {
    if (!volume.fs || volume.type === 'squashfs') continue
    const tree = imageTree(volume.fs, volume.name, readFrom(source))
    for (const { folder } of await liveDirectories(tree, () => undefined)) {
      const [compacted] = await compactsIn(folder)
      if (compacted !== undefined) return { path: join(folder.path, compactStateName(compacted)), verb: 'compact' }
      for (const name of await folder.list())
        for (const [suffix, verb] of [
          [STATE_SUFFIX, 'refresh'],
          [RESET_SUFFIX, 'reset'],
          [UNDO_SUFFIX, 'undo'],
        ] as const)
          if (name.endsWith(suffix)) return { path: join(folder.path, name), verb }
    }
  }
  return undefined
}

/**
 * Checks that a machine may write to a medium.
 *
 * @throws REFUSED  mounted or in use, or another verb was cut short on it; READ_ONLY  an address
 */
export const checkFree = async (medium: BootMedium, source: Source): Promise<void> => {
  const { path, kind, mounted } = medium
  if (kind === 'url')
    throw new LiveError('READ_ONLY', `${path} is on a server and can only be read: leave --persist out`, { path })
  if (mounted.length > 0)
    throw new LiveError(
      'REFUSED',
      `${path} is mounted (${mounted.join(', ')}): unmount it first, or leave --persist out`,
      {
        path,
        mounted,
      },
    )
  const loop = await attachedLoop(path)
  if (loop)
    throw new LiveError('REFUSED', `${path} is attached to ${loop.name}: run 'losetup -d ${loop.name}' first`, {
      path,
      loop: loop.name,
    })
  const unfinished = await cutShort(source)
  if (unfinished)
    throw new LiveError(
      'REFUSED',
      `${unfinished.path} is there: mount the stick and run 'liveos ${unfinished.verb}' on it before its system may change it`,
      { path: unfinished.path },
    )
  await (await claim(medium)).release()
}

/**
 * Holds a medium for this process alone: of a disk the kernel sees to it that nobody mounts it meanwhile, of an image other
 * runs of liveos keep off.
 *
 * @throws REFUSED  somebody else has it; READ_ONLY, IO
 */
export const claim = async ({ path, kind }: BootMedium): Promise<FileLock> => {
  if (kind !== 'device') return lockFile(path)
  let handle: FileHandle
  try {
    handle = await open(path, constants.O_RDWR | constants.O_EXCL)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EBUSY')
      throw new LiveError(
        'REFUSED',
        `${path} is in use, by a mount, as swap or below another device: ${marked(`lsblk ${pathWord(path)}`)} shows by what`,
        { path },
        error,
      )
    throw systemError(error, `opening ${path} to write`)
  }
  return { release: () => handle.close() }
}
