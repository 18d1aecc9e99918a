import { basename, dirname, join, resolve } from 'node:path'
import { LiveError } from '../error.js'
import { type FileFacts, type Folder, factsOf, openFolder } from '../host/folder.js'
import { type Medium, mediumOf } from '../host/medium.js'

/** A file of a target, in the folder that it is replaced in. */
export interface TargetFile {
  readonly folder: Folder
  readonly name: string
  readonly path: string
  readonly facts: FileFacts
}

/** What a verb works on: a stick's live directory, or a bare pair of files. */
export interface Target {
  /** as the user named it */
  readonly name: string
  /** mount point and live directory of a stick; undefined for a bare pair */
  readonly stick: { readonly root: string; readonly liveDir: string } | undefined
  readonly medium: Medium
  readonly base: TargetFile
  readonly overlay: TargetFile | undefined
  /** how the overlay was found: by its name, as the only one, or because it was named */
  readonly overlayFoundBy: 'label and UUID' | 'only one' | 'named' | undefined
  /** the name that dracut would look for, where label or UUID are known */
  readonly expectedOverlay: string | undefined
  readonly home: TargetFile | undefined
  /** an OverlayFS directory stands where the overlay file would */
  readonly overlayDirectory: string | undefined
}

/** How a user names a target. */
export interface TargetInput {
  /** directory of a mounted stick; may be left out inside a running live system */
  readonly target?: string | undefined
  /** live directory of a stick that holds several images */
  readonly image?: string | undefined
  readonly overlay?: string | undefined
  readonly base?: string | undefined
  /** leave the overlay out */
  readonly baseOnly?: boolean | undefined
}

const BASES = ['squashfs.img', 'rootfs.img', 'ext3fs.img']
/** Where dracut, and the initrds before it, mount the stick that carries the running system. */
export const RUNNING = ['/run/initramfs/live', '/mnt/live']

/** Files beside a base while it is being replaced: what is done so far, the new one, the old one. */
export const STATE_SUFFIX = '.refresh'
export const NEW_SUFFIX = '.new'
export const OLD_SUFFIX = '.old'
/** File beside an overlay while it is being reset: the bytes that are cleared. */
export const RESET_SUFFIX = '.reset'

const usage = (message: string, data: Record<string, string | readonly string[]> = {}) =>
  new LiveError('USAGE', message, data)

const targetFile = async (path: string, what: string): Promise<TargetFile> => {
  const full = resolve(path)
  const facts = await factsOf(full)
  if (!facts) throw new LiveError('NOT_FOUND', `there is no ${what} ${path}`, { path })
  if (facts.kind === 'directory') throw usage(`${path} is a directory, not ${what}`, { path })
  const folder = await openFolder(dirname(full))
  return { folder, name: basename(full), path: full, facts }
}

const baseIn = async (directory: string): Promise<string | undefined> => {
  for (const name of BASES) if ((await factsOf(join(directory, name)))?.kind === 'file') return name
  return undefined
}

/**
 * The base as a refresh that was cut short may have left it: for a moment a FAT stick holds it only under the name of the
 * old or the new one.
 */
const interruptedBaseIn = async (directory: string): Promise<string | undefined> => {
  for (const name of BASES)
    for (const end of [STATE_SUFFIX, OLD_SUFFIX, NEW_SUFFIX])
      if ((await factsOf(join(directory, name + end)))?.kind === 'file') return name
  return undefined
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
  const { root, liveDir } = await findStick(input.target ?? (await findRunning()), input.image)
  const path = join(root, liveDir)
  return { folder: await openFolder(path), name: ((await baseIn(path)) ?? (await interruptedBaseIn(path)))! }
}

/** The live directories of a stick: those that hold a base image. */
const liveDirectories = async (root: Folder): Promise<readonly string[]> => {
  const found: string[] = []
  for (const name of await root.list()) {
    const directory = join(root.path, name)
    if (
      (await factsOf(directory))?.kind === 'directory' &&
      ((await baseIn(directory)) || (await interruptedBaseIn(directory)))
    )
      found.push(name)
  }
  return found.sort()
}

const findStick = async (directory: string, image: string | undefined): Promise<{ root: string; liveDir: string }> => {
  const full = resolve(directory)
  const facts = await factsOf(full)
  if (!facts)
    throw new LiveError(
      'NOT_FOUND',
      `there is no directory ${directory}: mount the stick and name the place where it is mounted`,
      { path: full },
    )
  if (facts.kind !== 'directory')
    throw usage(
      `${directory} is no directory; name the directory where the stick is mounted, or a pair of files with --base and --overlay`,
      { path: full },
    )
  const inside = async (path: string) => (await baseIn(path)) ?? (await interruptedBaseIn(path))
  if (image !== undefined) {
    if (!(await inside(join(full, image))))
      throw new LiveError('NOT_FOUND', `${join(directory, image)} holds no ${BASES.join(', ')}`, {
        path: join(full, image),
      })
    return { root: full, liveDir: image }
  }
  if (await inside(join(full, 'LiveOS'))) return { root: full, liveDir: 'LiveOS' }
  if (await inside(full)) return { root: dirname(full), liveDir: basename(full) }
  const candidates = await liveDirectories(await openFolder(full))
  if (candidates.length === 1) return { root: full, liveDir: candidates[0]! }
  if (candidates.length === 0)
    throw new LiveError('NOT_FOUND', `${directory} is no LiveOS stick: no directory in it holds ${BASES.join(', ')}`, {
      path: full,
    })
  throw usage(`${directory} holds several images (${candidates.join(', ')}): choose one with --image`, {
    path: full,
    candidates,
  })
}

const findRunning = async (): Promise<string> => {
  for (const path of RUNNING) {
    try {
      await findStick(path, undefined)
      return path
    } catch {}
  }
  throw usage('no TARGET given, and this is no running live system: name the directory where the stick is mounted')
}

/**
 * Finds what a verb is to work on. Nothing is opened or changed.
 *
 * @param stagedBase  stands in for the base that a refresh has moved elsewhere
 * @throws NOT_FOUND, USAGE  also where two overlays could be meant
 */
export const findTarget = async (input: TargetInput, stagedBase?: TargetFile): Promise<Target> => {
  if (input.base !== undefined) return findPair(input, input.base, stagedBase)
  const directory = input.target ?? (await findRunning())
  const { root, liveDir } = await findStick(directory, input.image)
  const path = join(root, liveDir)
  const medium = await mediumOf(path)
  const baseName = await baseIn(path)
  if (!baseName && !stagedBase) {
    const lost = (await interruptedBaseIn(path))!
    throw new LiveError(
      'NOT_FOUND',
      `${join(path, lost)} is missing, but a refresh that was cut short left its files: run 'liveos refresh ${directory}' again`,
      { path: join(path, lost), interrupted: true },
    )
  }
  const base = stagedBase ?? (await targetFile(join(path, baseName!), 'base image'))
  const found = await findOverlay(input, await openFolder(path), medium)
  const home =
    (await factsOf(join(path, 'home.img')))?.kind === 'file'
      ? await targetFile(join(path, 'home.img'), 'home image')
      : undefined
  return { name: directory, stick: { root, liveDir }, medium, base, home, ...found }
}

/**
 * What a refresh that was cut short left, for the checks before it is finished. The base may have no name of its own then:
 * the state file stands in for it.
 */
export const findCutTarget = async (input: TargetInput, folder: Folder, baseName: string): Promise<Target> => {
  const path = join(folder.path, baseName)
  const base = (await folder.facts(baseName))?.kind === 'file' ? path : path + STATE_SUFFIX
  return findTarget(input, await targetFile(base, 'base image'))
}

const findPair = async (input: TargetInput, basePath: string, stagedBase?: TargetFile): Promise<Target> => {
  if (input.target !== undefined) throw usage('name either a stick or --base FILE (with --overlay FILE), not both')
  const base = stagedBase ?? (await targetFile(basePath, 'base image'))
  const overlay =
    input.overlay !== undefined && !input.baseOnly ? await targetFile(input.overlay, 'overlay') : undefined
  return {
    name: basePath,
    stick: undefined,
    medium: await mediumOf(base.path),
    base,
    overlay,
    overlayFoundBy: overlay && 'named',
    expectedOverlay: undefined,
    home: undefined,
    overlayDirectory: undefined,
  }
}

const findOverlay = async (
  { overlay, baseOnly }: TargetInput,
  folder: Folder,
  { label, uuid }: Medium,
): Promise<Pick<Target, 'overlay' | 'overlayFoundBy' | 'expectedOverlay' | 'overlayDirectory'>> => {
  const expected = label || uuid ? `overlay-${label ?? ''}-${uuid ?? ''}` : undefined
  const none = { overlay: undefined, overlayFoundBy: undefined, expectedOverlay: expected, overlayDirectory: undefined }
  if (baseOnly) return none
  if (overlay !== undefined) return { ...none, overlay: await targetFile(overlay, 'overlay'), overlayFoundBy: 'named' }
  const files: string[] = []
  let overlayDirectory: string | undefined
  for (const name of await folder.list()) {
    if (!name.startsWith('overlay-')) continue
    const kind = (await folder.facts(name))?.kind
    if (kind === 'file' && !name.endsWith(RESET_SUFFIX)) files.push(name)
    else if (kind === 'directory') overlayDirectory ??= join(folder.path, name)
  }
  if (expected !== undefined && files.includes(expected))
    return {
      ...none,
      overlay: await targetFile(join(folder.path, expected), 'overlay'),
      overlayFoundBy: 'label and UUID',
    }
  if (files.length > 1)
    throw usage(
      `${folder.path} holds several overlays (${files.sort().join(', ')})${expected ? `, and none is ${expected}, the name that a boot looks for` : ''}: choose one with --overlay`,
      { candidates: files },
    )
  if (files.length === 0) return { ...none, overlayDirectory }
  return { ...none, overlay: await targetFile(join(folder.path, files[0]!), 'overlay'), overlayFoundBy: 'only one' }
}
