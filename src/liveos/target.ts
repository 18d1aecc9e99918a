import { basename, dirname, join, resolve } from 'node:path'
import { isAddress, shownName } from '../block/http/shown.js'
import { isHttpUrl } from '../block/http.js'
import { isStore } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'
import { type FileFacts, type Folder, factsOf, openFolder, type ReadFolder } from '../host/folder.js'
import { type Medium, mediumOf } from '../host/medium.js'
import { marked, pathWord, typedAs } from './advice.js'
import {
  expectedOverlay,
  findLiveDirectory,
  findOverlayName,
  type LiveDirectory,
  STATE_SUFFIX,
  type Tree,
} from './live-directory.js'
import { mountCommand } from './mount-command.js'
import { noFile } from './no-file.js'
import { overlayFile } from './overlay-place.js'

export { NEW_SUFFIX, OLD_SUFFIX, RESET_SUFFIX, STATE_SUFFIX, UNDO_SUFFIX } from './live-directory.js'

/** A file of a target, in its folder: one of this computer is replaced there, one of an image only read. */
export interface TargetFile<F extends ReadFolder = ReadFolder> {
  readonly folder: F
  readonly name: string
  readonly path: string
  readonly facts: FileFacts
}

/** What a verb works on: a stick's live directory, or a bare pair of files. */
export interface Target<F extends ReadFolder = ReadFolder> {
  /** as the user named it */
  readonly name: string
  /** root and live directory of a stick; undefined for a bare pair */
  readonly stick: { readonly root: string; readonly liveDir: string } | undefined
  readonly medium: Medium
  readonly base: TargetFile<F>
  readonly overlay: TargetFile<F> | undefined
  /** how the overlay was found: by its name, as the only one, as the only partition that holds one, or because it was named */
  readonly overlayFoundBy: 'label and UUID' | 'only one' | 'partition' | 'named' | undefined
  /** the name that dracut would look for, where label or UUID are known */
  readonly expectedOverlay: string | undefined
  readonly home: TargetFile<F> | undefined
  /** an OverlayFS directory stands where the overlay file would */
  readonly overlayDirectory: string | undefined
}

/** A file that can be replaced: its folder is one of this computer. */
export type HostFile = TargetFile<Folder>
/** A target whose files can be replaced. */
export type WritableTarget = Target<Folder>

/** A target of which only the overlay is changed: its base may lie in an image. */
export interface OverlayTarget extends Target {
  readonly overlay: HostFile | undefined
}

/** How a user names a target. */
export interface TargetInput {
  /** directory of a mounted stick, disk, image or URL; may be left out inside a running live system */
  readonly target?: string | undefined
  /** live directory of a stick that holds several images */
  readonly image?: string | undefined
  /** number of the partition, where several hold a live system */
  readonly partition?: number | undefined
  readonly overlay?: string | undefined
  readonly base?: string | undefined
  /** leave the overlay out */
  readonly baseOnly?: boolean | undefined
}

/** Where dracut, and the initrds before it, mount the stick that carries the running system. */
export const RUNNING = ['/run/initramfs/live', '/mnt/live']

const usage = (message: string, data: Record<string, string | readonly string[]> = {}) =>
  new LiveError('USAGE', message, data)

/** A file of this computer. @throws NOT_FOUND, USAGE  a directory */
export const hostFile = async (path: string, what: string): Promise<HostFile> => {
  const full = resolve(path)
  const facts = await factsOf(full)
  if (!facts) throw noFile(path, what)
  if (facts.kind === 'directory') throw usage(`${path} is a directory, and no ${what}`, { path })
  const folder = await openFolder(dirname(full))
  return { folder, name: basename(full), path: full, facts }
}

/** A file in a folder. @throws NOT_FOUND */
export const fileIn = async <F extends ReadFolder>(folder: F, name: string, what: string): Promise<TargetFile<F>> => {
  const path = join(folder.path, name)
  const facts = await folder.facts(name)
  if (!facts) throw new LiveError('NOT_FOUND', `there is no ${what} ${path}`, { path })
  return { folder, name, path, facts }
}

/** A directory of this computer as a Tree. */
const hostTree = (root: string): Tree<Folder> => ({
  path: root,
  folder: async path => {
    const full = join(root, path)
    return (await factsOf(full))?.kind === 'directory' ? openFolder(full) : undefined
  },
})

/** True for a file that begins as an overlay does. */
const isOverlay = async (path: string): Promise<boolean> => {
  const folder = await openFolder(dirname(path))
  const file = await folder.open(basename(path))
  try {
    return await isStore(file)
  } finally {
    await file.close()
  }
}

const findStick = async (
  directory: string,
  image: string | undefined,
): Promise<{ root: string; found: LiveDirectory<Folder> }> => {
  const full = resolve(directory)
  const facts = isHttpUrl(directory) ? undefined : await factsOf(full)
  if (!facts && isAddress(directory))
    throw usage(
      `${shownName(directory)} is on a server, and can only be read: name a stick that is mounted here, or a copy on this computer`,
      { path: shownName(directory) },
    )
  if (!facts)
    throw new LiveError(
      'NOT_FOUND',
      `there is no directory ${directory}: mount the stick and name the place where it is mounted`,
      { path: full },
    )
  if (facts.kind === 'file' && (await isOverlay(full)))
    throw usage(
      `${directory} is an overlay and holds changes only: name the directory where its stick is mounted, or both files: ${marked(`--base FILE --overlay ${pathWord(directory)}`)}`,
      { path: full },
    )
  if (facts.kind !== 'directory')
    throw usage(
      `${directory} is no directory, and this verb works on a mounted stick: mount it (${marked(await mountCommand(directory, facts))}) and name the place, or name a pair of files with --base and --overlay`,
      { path: full },
    )
  const found = await findLiveDirectory(hostTree(full), image)
  // The live directory itself was named: its name belongs to the stick.
  return found.name === '' ? { root: dirname(full), found: { ...found, name: basename(full) } } : { root: full, found }
}

/** The mount point of the running live system. @throws USAGE  this is none */
export const findRunning = async (): Promise<string> => {
  for (const path of RUNNING) {
    try {
      await findStick(path, undefined)
      return path
    } catch {}
  }
  throw usage('no TARGET given, and this is no running live system: name the directory where the stick is mounted')
}

/**
 * The folder and name of the base that a verb is to replace, whether it is there or was lost in the middle of a refresh.
 *
 * @throws NOT_FOUND, USAGE
 */
export const findBaseName = async (input: TargetInput): Promise<{ folder: Folder; name: string }> => {
  if (input.base !== undefined) {
    const full = resolve(input.base)
    return { folder: await openFolder(dirname(full)), name: basename(full) }
  }
  const { found } = await findStick(input.target ?? (await findRunning()), input.image)
  return { folder: found.folder, name: found.lostName }
}

/**
 * Finds what a verb is to work on, among the directories of this computer. Nothing is opened or changed.
 *
 * @param stagedBase  stands in for the base that a refresh has moved elsewhere
 * @throws NOT_FOUND, USAGE  also where two overlays could be meant
 */
export const findTarget = async (input: TargetInput, stagedBase?: HostFile): Promise<WritableTarget> => {
  if (input.base !== undefined) return findPair(input, input.base, stagedBase)
  const directory = input.target ?? (await findRunning())
  const { root, found } = await findStick(directory, input.image)
  const path = join(root, found.name)
  if (found.baseName === undefined && !stagedBase)
    throw new LiveError(
      'NOT_FOUND',
      `${join(path, found.lostName)} is missing, but a refresh that was cut short left its files: run ${marked(`liveos refresh ${typedAs({ target: directory, image: input.image })}`)} again`,
      { path: join(path, found.lostName), interrupted: true },
    )
  const base = stagedBase ?? (await hostFile(join(path, found.baseName!), 'base image'))
  return targetIn(directory, root, { ...found, folder: await openFolder(path) }, await mediumOf(path), base, input)
}

/** Puts a target together from its live directory. @throws NOT_FOUND, USAGE  also where two overlays could be meant */
export const targetIn = async <F extends ReadFolder>(
  name: string,
  root: string,
  { name: liveDir, folder }: LiveDirectory<F>,
  medium: Medium,
  base: TargetFile<F>,
  { overlay, baseOnly }: TargetInput,
): Promise<Target<F | Folder>> => {
  const choice =
    baseOnly || overlay !== undefined
      ? { file: undefined, foundBy: undefined, expected: expectedOverlay(medium), directory: undefined }
      : await findOverlayName(folder, medium)
  const named = overlay !== undefined && !baseOnly ? await overlayFile(overlay, base) : undefined
  return {
    name,
    stick: { root, liveDir },
    medium,
    base,
    overlay: named ?? (choice.file === undefined ? undefined : await fileIn(folder, choice.file, 'overlay')),
    overlayFoundBy: named ? 'named' : choice.foundBy,
    expectedOverlay: choice.expected,
    home:
      (await folder.facts('home.img'))?.kind === 'file' ? await fileIn(folder, 'home.img', 'home image') : undefined,
    overlayDirectory: choice.directory,
  }
}

/**
 * What a refresh that was cut short left, for the checks before it is finished. The base may have no name of its own then:
 * the state file stands in for it.
 */
export const findCutTarget = async (input: TargetInput, folder: Folder, baseName: string): Promise<WritableTarget> => {
  const path = join(folder.path, baseName)
  const base = (await folder.facts(baseName))?.kind === 'file' ? path : path + STATE_SUFFIX
  return findTarget(input, await hostFile(base, 'base image'))
}

const findPair = async (input: TargetInput, basePath: string, stagedBase?: HostFile): Promise<WritableTarget> => {
  if (input.target !== undefined) throw usage('name either a stick or --base FILE (with --overlay FILE), not both')
  const base = stagedBase ?? (await hostFile(basePath, 'base image'))
  return pairOf(basePath, await mediumOf(base.path), base, input)
}

/** A bare base, with the overlay that was named for it. @throws NOT_FOUND, USAGE */
export const pairOf = async <F extends ReadFolder>(
  name: string,
  medium: Medium,
  base: TargetFile<F>,
  { overlay: path, baseOnly }: TargetInput,
): Promise<Target<F | Folder>> => {
  const overlay = path !== undefined && !baseOnly ? await overlayFile(path, base) : undefined
  return {
    name,
    stick: undefined,
    medium,
    base,
    overlay,
    overlayFoundBy: overlay && 'named',
    expectedOverlay: undefined,
    home: undefined,
    overlayDirectory: undefined,
  }
}
