import { constants } from 'node:fs'
import { access, chmod, chown, link, open, readdir, readlink, rename, stat, statfs, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Device, WritableDevice } from '../block/device.js'
import { openReadBack, type ReadBackDevice } from '../block/direct.js'
import {
  createFile,
  type FileDevice,
  type GrowingFile,
  openFile,
  openGrowingFile,
  openWritableFile,
} from '../block/file.js'
import { systemError } from '../error.js'
import { findTool, runTool } from './process.js'

/** What the filesystem under a folder can do. */
export interface FolderTraits {
  /** a rename over a name is one step, and a file can have two names */
  readonly atomicRename: boolean
  /** bytes a file may have at most */
  readonly maxFileSize: number
  /** holes cost nothing */
  readonly holes: boolean
  /** for words: vfat, exfat, or the rest */
  readonly kind: 'fat' | 'exfat' | 'posix'
}

/** What is known of a file in a folder. */
export interface FileFacts {
  readonly kind: 'file' | 'directory' | 'other'
  /** bytes */
  readonly size: number
  /** bytes set aside on the medium */
  readonly allocated: number
  /** the filesystem it is on, and its number there: together the file's identity */
  readonly device: number
  readonly inode: number
  /** milliseconds since 1970 */
  readonly modified: number
}

/** A file opened in a folder of this computer or of an image. */
export interface OpenedFile extends Device {
  readonly path: string
  /** bytes that the filesystem has set aside for it */
  readonly allocated: number
  /** true where the filesystem tells holes and has set aside less than the file's size */
  readonly hasHoles: boolean
}

/** Where the bytes of a file came from. */
export type ReadFrom = 'medium' | 'page cache' | 'server'

/** A file opened to be checked, that says where its bytes come from. */
export interface CheckedFile extends Device {
  readonly from: ReadFrom
}

/** A directory that is only read: of this computer, or in an image. */
export interface ReadFolder {
  readonly path: string
  list(): Promise<readonly string[]>
  /** undefined where there is no such file */
  facts(name: string): Promise<FileFacts | undefined>
  open(name: string): Promise<OpenedFile>
  /** past the page cache where that can be */
  openReadBack(name: string): Promise<CheckedFile>
  freeBytes(): Promise<number>
}

/**
 * A directory whose files are replaced safely. Nothing is on the medium before the file's `flush`, and no name before `sync`.
 * Every way in which a writer changes a stick goes through here, so that tests can cut the power between any two steps.
 */
export interface Folder extends ReadFolder {
  readonly traits: FolderTraits
  open(name: string): Promise<FileDevice>
  openWritable(name: string): Promise<WritableDevice>
  /** a file that is there already, to be written, lengthened or shortened */
  openGrowing(name: string): Promise<GrowingFile>
  /** @throws REFUSED  the name is taken */
  create(name: string): Promise<GrowingFile>
  openReadBack(name: string): Promise<ReadBackDevice>
  /** replaces `to` where it is there */
  rename(from: string, to: string): Promise<void>
  link(from: string, to: string): Promise<void>
  unlink(name: string): Promise<void>
  /** the names of this folder are on the medium when it returns */
  sync(): Promise<void>
  /** gives `to` the owner, mode and extended attributes of the file at `fromPath`; tells in words what could not be kept */
  copyAttributes(fromPath: string, to: string): Promise<readonly string[]>
  /** true where files can be made here */
  isWritable(): Promise<boolean>
}

/** True for a directory of this computer. */
export const isHostFolder = (folder: ReadFolder): folder is Folder => 'traits' in folder

const MSDOS_SUPER_MAGIC = 0x4d44
const EXFAT_SUPER_MAGIC = 0x2011bab0
/** 4 GiB - 1: a FAT directory entry holds 32 bits */
export const FAT_MAX_FILE = 2 ** 32 - 1

/** What a filesystem can do, by the number that statfs gives. @see linux include/uapi/linux/magic.h */
export const traitsOf = (fsType: number): FolderTraits => {
  if (fsType === MSDOS_SUPER_MAGIC) return { kind: 'fat', atomicRename: false, maxFileSize: FAT_MAX_FILE, holes: false }
  if (fsType === EXFAT_SUPER_MAGIC)
    return { kind: 'exfat', atomicRename: false, maxFileSize: Number.MAX_SAFE_INTEGER, holes: false }
  return { kind: 'posix', atomicRename: true, maxFileSize: Number.MAX_SAFE_INTEGER, holes: true }
}

const during = async <T>(doing: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    throw systemError(error, doing)
  }
}

/** Facts of a path, links followed; undefined where nothing is there. */
export const factsOf = async (path: string): Promise<FileFacts | undefined> => {
  try {
    const found = await stat(path)
    return {
      kind: found.isFile() ? 'file' : found.isDirectory() ? 'directory' : 'other',
      size: found.size,
      allocated: found.blocks * 512,
      device: found.dev,
      inode: found.ino,
      modified: Math.trunc(found.mtimeMs),
    }
  } catch (error) {
    // links in a circle lead to nothing, as one to a name that is not there
    if (error instanceof Error && 'code' in error && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(String(error.code)))
      return undefined
    throw systemError(error, `looking at ${path}`)
  }
}

/** What a symbolic link says it leads to; undefined where the path is none. */
export const linkTarget = async (path: string): Promise<string | undefined> => {
  try {
    return await readlink(path)
  } catch {
    return undefined
  }
}

/** Opens a directory of this computer. @throws NOT_FOUND, READ_ONLY  permission denied */
export const openFolder = async (path: string): Promise<Folder> => {
  const { type } = await during(`looking at ${path}`, () => statfs(path))
  const at = (name: string) => join(path, name)
  return {
    path,
    traits: traitsOf(type),
    list: () => during(`listing ${path}`, () => readdir(path)),
    facts: name => factsOf(at(name)),
    open: name => openFile(at(name)),
    openWritable: name => openWritableFile(at(name)),
    openGrowing: name => openGrowingFile(at(name)),
    create: name => createFile(at(name), { exclusive: true }),
    openReadBack: name => openReadBack(at(name)),
    rename: (from, to) => during(`renaming ${at(from)} to ${to}`, () => rename(at(from), at(to))),
    link: (from, to) => during(`linking ${at(from)} as ${to}`, () => link(at(from), at(to))),
    unlink: name => during(`removing ${at(name)}`, () => unlink(at(name))),
    async sync() {
      await during(`flushing ${path}`, async () => {
        const handle = await open(path, 'r')
        try {
          await handle.sync()
        } finally {
          await handle.close()
        }
      })
    },
    async freeBytes() {
      const { bavail, bsize } = await during(`looking at ${path}`, () => statfs(path))
      return bavail * bsize
    },
    copyAttributes: (fromPath, to) => copyAttributes(fromPath, at(to)),
    async isWritable() {
      try {
        await access(path, constants.W_OK)
        return true
      } catch {
        return false
      }
    },
  }
}

/** Owner and mode by ourselves; cp, where it is there, knows how to carry ACLs, security labels and user attributes over too. */
const copyAttributes = async (from: string, to: string): Promise<readonly string[]> => {
  const lost: string[] = []
  const old = await during(`looking at ${from}`, () => stat(from))
  // the owner first: changing it takes bits of the mode away. What may not be done is told below.
  await chown(to, old.uid, old.gid).catch(() => undefined)
  await chmod(to, old.mode & 0o7777).catch(() => undefined)
  if (await findTool('cp')) {
    const { stderr } = await runTool('cp', ['--attributes-only', '--preserve=mode,ownership,xattr', '--', from, to])
    if (stderr.trim()) lost.push(...stderr.trim().split('\n'))
  }
  const copy = await during(`looking at ${to}`, () => stat(to))
  if (old.uid !== copy.uid || old.gid !== copy.gid)
    lost.push(`owner ${old.uid}:${old.gid} of ${from} (it is ${copy.uid}:${copy.gid} now)`)
  if ((old.mode & 0o7777) !== (copy.mode & 0o7777)) lost.push(`mode ${(old.mode & 0o7777).toString(8)} of ${from}`)
  return lost
}

/** Closes devices, the first failure told after all were tried. */
export const closeAll = async (devices: Iterable<Device>): Promise<void> => {
  const results = await Promise.allSettled([...devices].map(device => device.close()))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
