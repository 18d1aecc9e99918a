import { lchownSync, linkSync, lstatSync, lutimesSync, unlinkSync } from 'node:fs'
import type { Spare } from '../bytes/spare.js'
import { isLiveError } from '../error.js'
import { type FileSystem, hasXattrs, type Xattr } from '../fs/filesystem.js'
import { encodeName, printableName } from '../fs/name.js'
import type { FolderTraits } from '../host/folder.js'
import { findTool, runTool } from '../host/process.js'
import { hostTime, type Keeping, modeFor, settable, tellLost, type XattrSetter } from './copy-attributes.js'
import { targetError } from './copy-file.js'
import type { CopyCounts, CopyFindings } from './copy-findings.js'
import { errnoOf, type Landing, obstacle, type Place, shownPath } from './copy-place.js'
import type { CopyItem } from './copy-source.js'
import { charactersOf, isFatal, unpacked, type WriteTask } from './copy-write.js'
import type { CopyWriter, Written } from './copy-writer.js'

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
  /** gives all names in the target, in the order in which they come to it */
  readonly writer: CopyWriter
  readonly signal: AbortSignal
  /** for small files on their way from the source to the writer, and pieces of others: 1 MiB each */
  readonly spare: Spare
  /** a name that no other file has, for one that is not whole yet */
  partName(): Buffer
  onBytes(bytes: number): void
  /** ends the copy with an error that was met where nobody waits */
  fail(error: unknown): void
}

/** A file that has its name, for further names of it; undefined where it got none. */
export type Made = { readonly path: Uint8Array; readonly inode: bigint } | undefined

/** Where something is put: the place stays open until it is let go. */
export interface Into {
  readonly place: Place
  hold(): void
  letGo(): Promise<void>
}

/** Why something did not get its name. */
export const OBSTACLES: Readonly<Record<Exclude<Landing, 'done'>, string>> = {
  there: 'something of that name is there already, and only --overwrite replaces it',
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

/**
 * What all tasks of an inode say. It has taken the name then.
 *
 * @param made  the passing name under which it was made; without it, it gets one where anything may be at the name
 */
export const taskFor = (
  { overwrite, keeping, partName }: Putting,
  { place }: Into,
  { stat }: CopyItem,
  name: Uint8Array,
  made?: Uint8Array,
): Omit<WriteTask, 'kind'> => {
  const characters = charactersOf(name)
  const isFree = place.take(characters)
  // Where nothing can be at the name, to write under another one and rename costs a tenth of the whole copy.
  const part = made ?? (isFree && place.isFresh ? name : partName())
  return {
    place: place.id,
    directory: place.reached,
    part: charactersOf(part),
    name: characters,
    target: '',
    isFresh: place.isFresh,
    isFree,
    overwrite,
    owner: keeping.owners ? { uid: stat.uid, gid: stat.gid } : undefined,
    mode: undefined,
    hasMode: false,
    time: hostTime(stat),
    tellInode: false,
  }
}

/** How a task ended: undefined where it was not begun as the copy ends. @throws  errors of the target */
const landingOf = ({ overwrite }: Putting, { place }: Into, name: Uint8Array, result: Written): Landing | undefined => {
  if ('died' in result) throw result.died
  if ('failure' in result) throw unpacked(result.failure)
  if ('skipped' in result) return undefined
  // which directories this copy made is known in this thread
  return result.landing === 'directory' && obstacle(place, name, overwrite) === 'collides' ? 'collides' : result.landing
}

/** Of what has no bytes. */
export const NOTHING = new Uint8Array(0)

/** Gives what was made under a passing name its own. @throws  errors of the target */
export const giveName = async (
  putting: Putting,
  into: Into,
  item: CopyItem,
  part: Uint8Array,
  name: Uint8Array,
): Promise<Landing | undefined> => {
  const task: WriteTask = { kind: 'made', ...taskFor(putting, into, item, name, part) }
  const result = await new Promise<Written>((resolve, reject) => {
    putting.writer.write(task, NOTHING, resolve).catch(reject)
  })
  return landingOf(putting, into, name, result)
}

/** Makes something under a passing name and gives it its own. */
export const put = async (
  putting: Putting,
  into: Into,
  item: CopyItem,
  name: Uint8Array,
  make: (part: Buffer) => Promise<boolean>,
): Promise<boolean> => {
  const { place } = into
  const part = putting.partName()
  let isDone = false
  try {
    if (!(await make(part))) return false
    const landing = await giveName(putting, into, item, part, name)
    isDone = landing === 'done'
    if (landing && landing !== 'done') tellObstacle(putting, item.path, landing)
  } catch (error) {
    tellOrThrow(putting, error, item.path, shownPath(pathIn(place, name)))
  } finally {
    if (!isDone) remove(place, part)
  }
  return isDone
}

/** Hands a task over. `end` is told whether it has its name, and what is thrown there ends the copy. */
export const handOver = async (
  putting: Putting,
  into: Into,
  { path }: CopyItem,
  name: Uint8Array,
  task: WriteTask,
  bytes: Uint8Array,
  end: (isPut: boolean, inode: bigint | undefined) => void,
): Promise<void> =>
  putting.writer.write(task, bytes, result => {
    let landing: Landing | undefined
    try {
      try {
        landing = landingOf(putting, into, name, result)
        if (landing && landing !== 'done') tellObstacle(putting, path, landing)
      } catch (error) {
        if (!(task.kind === 'symlink' && noSymlinks(error)))
          tellOrThrow(putting, error, path, shownPath(pathIn(into.place, name)))
        else putting.findings.lose('SYMLINKS_NOT_KEPT', 'the target holds no symbolic links', path, 'error')
      }
    } catch (error) {
      putting.fail(error)
    }
    end(landing === 'done', 'inode' in result ? result.inode : undefined)
  })

const noSymlinks = (error: unknown): boolean =>
  error instanceof Error &&
  'syscall' in error &&
  error.syscall === 'symlink' &&
  ['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'].includes(errnoOf(error))

/** What is the same for all kinds once they have their name. */
export const landed = (
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

/**
 * Gives a file one more name.
 *
 * @param made  its first name, which must lead to that inode
 * @returns  false where the target takes no more links: then it is to be copied again
 */
export const putHardLink = async (
  putting: Putting,
  into: Into,
  item: CopyItem,
  name: Uint8Array,
  made: NonNullable<Made>,
): Promise<boolean> => {
  const { place } = into
  const { path } = item
  const part = putting.partName()
  try {
    linkSync(Buffer.from(made.path), place.at(part))
    // somebody may have changed the target: what was linked then is not ours
    if (lstatSync(place.at(part), { bigint: true }).ino === made.inode) {
      const landing = await giveName(putting, into, item, part, name)
      if (landing === 'done') putting.counts.hardLinks++
      else if (landing) tellObstacle(putting, path, landing)
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

/**
 * Hands over a symlink.
 *
 * @param done  as of a file
 * @throws  errors of the source
 */
export const putSymlink = async (
  putting: Putting,
  into: Into,
  item: CopyItem,
  name: Uint8Array,
  done: () => void,
): Promise<void> => {
  const target = charactersOf(encodeName(await putting.from.readLink(item.path)))
  const xattrs = await xattrsFor(putting, item)
  const task: WriteTask = { kind: 'symlink', ...taskFor(putting, into, item, name), target }
  await handOver(putting, into, item, name, task, NOTHING, isPut => {
    if (isPut) {
      putting.counts.symlinks++
      landed(putting, into, item, name, xattrs)
    }
    done()
  })
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
    findings.lose('DEVICES_NOT_KEPT', 'devices were left out: only root can make them, with --same-owner', path)
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
