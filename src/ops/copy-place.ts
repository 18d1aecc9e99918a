import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  unlinkSync,
} from 'node:fs'
import { LiveError, systemError } from '../error.js'
import { decodeName, printableName } from '../fs/name.js'

/** What must be known of a directory to give names in it. */
export interface LandingPlace {
  /** inodes that this copy put into it */
  readonly made: Set<bigint>
  /** this copy made the directory itself */
  readonly isFresh: boolean
  /** path of a name in it, for system calls */
  at(name: Uint8Array): Buffer
}

/** What a directory that this copy made does with what is put into it. Directories made in it do the same. */
interface Habits {
  /** two names that differ in any byte are two files */
  readonly keepsNames: boolean
  /** permission bits that a new file has when they are asked for at its making; 0 where that is not known */
  readonly givesModes: number
}

/**
 * A directory of this computer that things are put into. It is held open, and names in it are reached by its number, so
 * that nobody can put a symlink in its way meanwhile. On systems without /proc they are reached by its path. All is done by
 * calls that wait: each is shorter than the way to another thread and back.
 */
export interface Place extends LandingPlace, Habits {
  /** a number that no other place of this process has or had */
  readonly id: number
  readonly path: Buffer
  readonly inode: bigint
  /** how names in it are reached, with a slash at its end, a character for each byte */
  readonly reached: string
  /** the same for other programs of this user */
  atForTools(name: Uint8Array): Buffer
  /** the directory's own number, for its attributes; to be closed */
  readonly fd: number
  /** Takes a name, a character for each byte. @returns  true where nothing can be there: nobody has to look */
  take(name: string): boolean
}

export const errnoOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''

let opened = 0
const SLASH = Buffer.from('/')
const join = (path: Uint8Array, name: Uint8Array): Buffer => Buffer.concat([path, SLASH, name])
let numbersWork: boolean | undefined
const haveNumbers = (): boolean => {
  if (numbersWork === undefined) {
    try {
      accessSync('/proc/self/fd')
      numbersWork = true
    } catch {
      numbersWork = false
    }
  }
  return numbersWork
}

/** For messages. */
export const shownPath = (path: Uint8Array): string => printableName(decodeName(path))

const UNKNOWN: Habits = { keepsNames: false, givesModes: 0 }
/** A name with what filesystems change: upper case, and a letter that Unicode writes in two ways. */
const TRIED = '.liveos-part-TRIED-\u00c9'
const TAKEN_FOR_IT = [TRIED.toLowerCase(), TRIED.normalize('NFD'), `${TRIED}.`, `${TRIED} `]

/** Tries what a new and empty directory does. `at` is the path of a name in it. */
const tryHabits = (at: (name: Uint8Array) => Buffer): Habits => {
  const tried = at(Buffer.from(TRIED))
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL
  try {
    const fd = openSync(tried, flags, 0o777)
    try {
      return {
        keepsNames: !TAKEN_FOR_IT.some(name => lstatSync(at(Buffer.from(name)), { throwIfNoEntry: false })),
        givesModes: fstatSync(fd).mode & 0o777,
      }
    } finally {
      closeSync(fd)
      unlinkSync(tried)
    }
  } catch {
    // what is really put there will tell
    return UNKNOWN
  }
}

/**
 * Opens a directory, no symlink to one.
 *
 * @param reached  how to get to it
 * @param path  what it is called
 * @param parent  the place it is in, where that is known
 */
const openPlace = (reached: Buffer, path: Buffer, isFresh: boolean, parent?: Place): Place => {
  const fd = openSync(reached, constants.O_RDONLY | (constants.O_DIRECTORY ?? 0) | (constants.O_NOFOLLOW ?? 0))
  let inode: bigint
  try {
    inode = fstatSync(fd, { bigint: true }).ino
  } catch (error) {
    closeSync(fd)
    throw error
  }
  const byNumber = haveNumbers()
  const base = byNumber ? Buffer.from(`/proc/self/fd/${fd}`) : path
  const forTools = byNumber ? Buffer.from(`/proc/${process.pid}/fd/${fd}`) : path
  const at = (name: Uint8Array): Buffer => join(base, name)
  const { keepsNames, givesModes } = isFresh ? (parent?.isFresh ? parent : tryHabits(at)) : UNKNOWN
  // Names of a source are not sure to differ, where it is damaged or its names were shortened.
  const taken = new Set<string>()
  return {
    keepsNames,
    givesModes,
    take(name) {
      if (!keepsNames || taken.has(name)) return false
      taken.add(name)
      return true
    },
    id: opened++,
    path,
    made: new Set(),
    isFresh,
    inode,
    reached: `${base.toString('latin1')}/`,
    at,
    atForTools: name => join(forTools, name),
    fd,
  }
}

/** Opens the directory that a copy goes to; made where it is missing. The caller's own path may lead over symlinks. @throws NOT_FOUND, READ_ONLY, USAGE */
export const openTarget = (path: string): Place => {
  try {
    let isFresh = true
    try {
      mkdirSync(path, 0o700)
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
      isFresh = false
    }
    // `/.`, so that a link as the last name is followed here, and here only
    return openPlace(Buffer.from(`${path}/.`), Buffer.from(path), isFresh)
  } catch (error) {
    if (errnoOf(error) === 'ENOTDIR') throw new LiveError('USAGE', `${path} is no directory`, { path }, error)
    throw systemError(error, `opening ${path}`)
  }
}

/** Why a name could not be taken, in words; or the place. */
export type Entered = { readonly place: Place; readonly collides: boolean } | { readonly refused: string }

/** Makes a directory in a place, or opens the one that is there. A symlink is never followed. */
export const enterPlace = (parent: Place, name: Uint8Array): Entered => {
  const at = parent.at(name)
  let isFresh = true
  try {
    mkdirSync(at, 0o700)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    isFresh = false
    const there = lstatSync(at)
    if (there.isSymbolicLink()) return { refused: 'a symbolic link is there, which is not followed' }
    if (!there.isDirectory()) return { refused: 'something that is no directory is there' }
  }
  const place = openPlace(at, join(parent.path, name), isFresh, parent)
  parent.take(Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1'))
  const collides = parent.made.has(place.inode)
  parent.made.add(place.inode)
  return { place, collides }
}

/** What became of a name. */
export type Landing = 'done' | 'there' | 'collides' | 'directory'

/** What is at a name, as far as it stands in the way of a copy; undefined where nothing does. */
export const obstacle = (
  place: LandingPlace,
  name: Uint8Array,
  overwrite: boolean,
): Exclude<Landing, 'done'> | undefined => {
  const there = lstatSync(place.at(name), { bigint: true, throwIfNoEntry: false })
  if (!there) return undefined
  if (place.made.has(there.ino)) return 'collides'
  if (there.isDirectory()) return 'directory'
  // in a directory that this copy made, all is its own
  if (place.isFresh) return 'collides'
  return overwrite ? undefined : 'there'
}

/**
 * Gives a finished file its name. Where it may not be free, looking and renaming are one step as one thread does it for all files of a copy, so that two
 * whose names the filesystem takes for one don't replace each other.
 */
export const land = (
  place: LandingPlace,
  part: Uint8Array,
  name: Uint8Array,
  { overwrite, isFree }: { readonly overwrite: boolean; readonly isFree: boolean },
): Landing => {
  const blocked = isFree ? undefined : obstacle(place, name, overwrite)
  if (blocked) return blocked
  renameSync(place.at(part), place.at(name))
  // what could be replaced must be told from what this copy made itself
  if (overwrite && !place.isFresh) place.made.add(lstatSync(place.at(name), { bigint: true }).ino)
  return 'done'
}
