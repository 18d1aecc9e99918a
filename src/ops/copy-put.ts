import { chmodSync, lchownSync, linkSync, lstatSync, lutimesSync, symlinkSync, unlinkSync } from 'node:fs'
import { isLiveError, type LiveError } from '../error.js'
import { type FileSystem, hasXattrs, type Xattr } from '../fs/filesystem.js'
import { encodeName, printableName } from '../fs/name.js'
import type { FolderTraits } from '../host/folder.js'
import { findTool, runTool } from '../host/process.js'
import { hostTime, type Keeping, modeFor, settable, tellLost, type XattrSetter } from './copy-attributes.js'
import { copyFile, isFatal, targetError } from './copy-file.js'
import type { CopyCounts, CopyFindings } from './copy-findings.js'
import { hostName } from './copy-names.js'
import { errnoOf, type Landing, land, type Place, shownPath } from './copy-place.js'
import type { CopyItem } from './copy-source.js'

/** What those who put things into a directory share. */
export interface Putting {
  readonly from: FileSystem
  readonly keeping: Keeping
  readonly overwrite: boolean
  readonly keepPartial: boolean
  readonly setsXattrs: boolean
  readonly traits: FolderTraits
  readonly findings: CopyFindings
  readonly counts: CopyCounts
  readonly setter: XattrSetter
  readonly signal: AbortSignal
  /** a name that no other file has, for one that is not whole yet */
  partName(): Buffer
  onBytes(bytes: number): void
}

/** Where something is put: the place stays open until it is let go. */
export interface Into {
  readonly place: Place
  hold(): void
  letGo(): Promise<void>
}

/** Why something did not get its name. */
export const OBSTACLES: Readonly<Record<Exclude<Landing, 'done'>, string>> = {
  there: 'something of that name is there already',
  collides: 'the target takes its name for another one of this directory, which was copied before',
  directory: 'a directory of that name is there already',
}

/** Tells of one file. */
export const tell = (
  { findings }: { readonly findings: CopyFindings },
  code: string,
  path: string,
  message: string,
  severity: 'error' | 'warning' = 'error',
): void => findings.add({ code, severity, where: path, message: `${printableName(path)}: ${message}` })

/** Tells of something in the way. */
export const tellObstacle = (putting: Putting, path: string, landing: Exclude<Landing, 'done'>): void =>
  tell(putting, landing === 'collides' ? 'NAMES_COLLIDE' : 'NOT_COPIED', path, OBSTACLES[landing])

/** Tells of an error of the target about one file. @throws  one that any other file would meet too, and what is no error of the system */
export const tellOrThrow = (putting: Putting, error: unknown, path: string, shown: string): void => {
  if (!isLiveError(error) && errnoOf(error) === '') throw error
  if (isFatal(error)) throw isLiveError(error) ? error : targetError(error, shown)
  tell(putting, 'NOT_COPIED', path, targetError(error, shown).message)
}

/** The attributes of an inode that the copy gets. Those that can't be read are told. */
export const xattrsFor = async (putting: Putting, { path }: CopyItem): Promise<readonly Xattr[]> => {
  const { from, setsXattrs, keeping, findings } = putting
  if (!setsXattrs || !hasXattrs(from)) return []
  try {
    return settable(await from.xattrs(path), path, keeping, findings)
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    tell(putting, 'XATTRS_UNREADABLE', path, error.message)
    return []
  }
}

/** Path of a name in a place. */
export const pathIn = (place: Place, name: Uint8Array): Buffer => Buffer.concat([place.path, Buffer.from('/'), name])

const remove = (place: Place, part: Uint8Array): void => {
  try {
    unlinkSync(place.at(part))
  } catch {
    // renamed, or never made
  }
}

/** Makes something under a passing name and gives it its own. */
const put = async (
  putting: Putting,
  { place }: Into,
  { path }: CopyItem,
  name: Uint8Array,
  make: (part: Buffer) => Promise<boolean>,
): Promise<boolean> => {
  const part = putting.partName()
  let isDone = false
  try {
    if (!(await make(part))) return false
    const landing = land(place, part, name, putting.overwrite)
    isDone = landing === 'done'
    if (landing !== 'done') tellObstacle(putting, path, landing)
  } catch (error) {
    tellOrThrow(putting, error, path, shownPath(pathIn(place, name)))
  } finally {
    if (!isDone) remove(place, part)
  }
  return isDone
}

/** What is the same for all kinds once they have their name. */
const landed = (
  { findings, keeping, setter }: Putting,
  into: Into,
  { path, stat }: CopyItem,
  name: Uint8Array,
  xattrs: readonly Xattr[],
  after?: () => void,
): void => {
  tellLost(stat, path, keeping, findings)
  if (xattrs.length === 0) return
  into.hold()
  setter.add(into.place.atForTools(name), path, xattrs, async () => {
    after?.()
    await into.letGo()
  })
}

/** Copies a regular file. @returns true where it has its name now */
export const putFile = async (putting: Putting, into: Into, item: CopyItem, name: Uint8Array): Promise<boolean> => {
  const { from, keeping, keepPartial, counts, signal } = putting
  const { path, stat } = item
  const { place } = into
  const xattrs = await xattrsFor(putting, item)
  // who may not write may not set attributes either
  const isLate = xattrs.length > 0 && (stat.mode & 0o200) === 0 && process.getuid?.() !== 0
  let error: LiveError | undefined
  let written = 0
  let partial: Uint8Array | undefined
  let reported = 0
  const onBytes = (bytes: number): void => {
    putting.onBytes(bytes - reported)
    reported = bytes
  }
  const isPut = await put(putting, into, item, name, async part => {
    try {
      const device = await from.open(path)
      try {
        const extraMode = isLate ? 0o200 : 0
        const to = place.at(part)
        const copied = await copyFile({ from: device, to, stat, keeping, extraMode, keepPartial, signal, onBytes })
        error = copied.error
        written = copied.size
      } finally {
        await device.close()
      }
    } catch (caught) {
      if (!isLiveError(caught) || isFatal(caught)) throw caught
      error = caught
    }
    if (error && keepPartial && written > 0) {
      partial = hostName(Buffer.concat([name, Buffer.from('.partial')]), putting.traits.kind).name
      const landing = land(place, part, partial, putting.overwrite)
      if (landing !== 'done') partial = undefined
    }
    return !error
  })
  onBytes(stat.size)
  if (error)
    tell(
      putting,
      'UNREADABLE',
      path,
      `${error.message}; ${partial ? `its first ${written} bytes are kept as ${shownPath(partial)}` : 'nothing of it was kept'}`,
    )
  if (!isPut) return false
  counts.files++
  counts.bytes += written
  landed(
    putting,
    into,
    item,
    name,
    xattrs,
    isLate ? () => chmodSync(place.at(name), modeFor(stat, keeping)) : undefined,
  )
  return true
}

/**
 * Gives a file one more name.
 *
 * @param to  its first name's path
 * @param inode  what that path must lead to
 * @returns  false where the target takes no more links: then it is to be copied again
 */
export const putHardLink = (
  putting: Putting,
  { place }: Into,
  { path }: CopyItem,
  name: Uint8Array,
  to: Uint8Array,
  inode: bigint,
): boolean => {
  const part = putting.partName()
  try {
    linkSync(Buffer.from(to), place.at(part))
    // somebody may have changed the target: what was linked then is not ours
    if (lstatSync(place.at(part), { bigint: true }).ino === inode) {
      const landing = land(place, part, name, putting.overwrite)
      if (landing === 'done') putting.counts.hardLinks++
      else tellObstacle(putting, path, landing)
      return true
    }
  } catch (error) {
    if (errnoOf(error) === '' || isFatal(error)) throw error
  } finally {
    remove(place, part)
  }
  putting.findings.lose('HARD_LINKS_NOT_KEPT', 'the target takes no more hard links, so files were copied again', path)
  return false
}

/** Copies a symlink. @throws  errors of the source */
export const putSymlink = async (putting: Putting, into: Into, item: CopyItem, name: Uint8Array): Promise<void> => {
  const { from, keeping, findings, counts } = putting
  const to = Buffer.from(encodeName(await from.readLink(item.path)))
  const xattrs = await xattrsFor(putting, item)
  const isPut = await put(putting, into, item, name, async part => {
    const at = into.place.at(part)
    try {
      symlinkSync(to, at)
    } catch (error) {
      if (!['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'].includes(errnoOf(error))) throw error
      findings.lose('SYMLINKS_NOT_KEPT', 'the target holds no symbolic links', item.path, 'error')
      return false
    }
    setOwnerAndTime(at, item, keeping)
    return true
  })
  if (!isPut) return
  counts.symlinks++
  landed(putting, into, item, name, xattrs)
}

const setOwnerAndTime = (at: Buffer, { stat }: CopyItem, { owners }: Keeping): void => {
  if (owners) lchownSync(at, stat.uid, stat.gid)
  const time = hostTime(stat)
  lutimesSync(at, time, time)
}

/** Copies a device or fifo. Sockets are told only: who listens at one makes it. */
export const putSpecial = async (putting: Putting, into: Into, item: CopyItem, name: Uint8Array): Promise<void> => {
  const { keeping, findings, counts } = putting
  const { path, stat } = item
  const isDevice = stat.kind === 'block' || stat.kind === 'character'
  if (isDevice && !keeping.devices) {
    findings.lose('DEVICES_NOT_KEPT', 'devices were left out: only root can make them, when asked for', path)
    return
  }
  const tool = isDevice ? 'mknod' : 'mkfifo'
  if (stat.kind === 'socket' || !(await findTool(tool))) {
    findings.lose(`${stat.kind.toUpperCase()}S_NOT_KEPT`, `a ${stat.kind} can't be copied here`, path, 'note')
    return
  }
  const isPut = await put(putting, into, item, name, async part => {
    const { major = 0, minor = 0 } = stat.device ?? {}
    const words = isDevice ? [stat.kind === 'block' ? 'b' : 'c', String(major), String(minor)] : []
    const mode = modeFor(stat, keeping).toString(8)
    const at = into.place.atForTools(part).toString()
    const { code, stderr } = await runTool(tool, ['-m', mode, '--', at, ...words])
    if (code !== 0) {
      tell(putting, 'NOT_COPIED', path, `${tool} failed: ${stderr.trim().split('\n').at(-1)}`)
      return false
    }
    setOwnerAndTime(into.place.at(part), item, keeping)
    return true
  })
  if (!isPut) return
  counts.special++
  landed(putting, into, item, name, [])
}
