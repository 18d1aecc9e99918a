import { isLiveError, LiveError } from '../error.js'
import type { ReadFolder } from '../host/folder.js'

const BASES = ['squashfs.img', 'rootfs.img', 'ext3fs.img']

/** Files beside a base while it is being replaced: what is done so far, the new one, the old one. */
export const STATE_SUFFIX = '.refresh'
export const NEW_SUFFIX = '.new'
export const OLD_SUFFIX = '.old'
/** File beside an overlay while it is being reset: the bytes that are cleared. */
export const RESET_SUFFIX = '.reset'
/** File beside an overlay that was changed in place: the bytes from before, by which `undo` takes the change back. */
export const UNDO_SUFFIX = '.undo'

/** Ends of names of files that are no overlay, whatever they begin with. */
const BESIDE = [STATE_SUFFIX, NEW_SUFFIX, OLD_SUFFIX, RESET_SUFFIX, UNDO_SUFFIX]

/** The directories of a stick, on this computer or in an image. */
export interface Tree<F extends ReadFolder = ReadFolder> {
  /** its root, for words */
  readonly path: string
  /** a directory of it by names separated with `/`, '' for the root; undefined where it is none */
  folder(path: string): Promise<F | undefined>
}

/** The directory of a stick that holds the base image. */
export interface LiveDirectory<F extends ReadFolder = ReadFolder> {
  /** such as LiveOS; '' for the root of the tree */
  readonly name: string
  readonly folder: F
  /** undefined where a refresh was cut while the base has no name of its own */
  readonly baseName: string | undefined
  /** the base's name also in that case */
  readonly lostName: string
}

/** The name of the base image in a folder. */
export const baseIn = async (folder: ReadFolder): Promise<string | undefined> => {
  for (const name of BASES) if ((await folder.facts(name))?.kind === 'file') return name
  return undefined
}

/**
 * The base as a refresh that was cut short may have left it: for a moment a FAT stick holds it only under the name of the
 * old or the new one.
 */
const interruptedBaseIn = async (folder: ReadFolder): Promise<string | undefined> => {
  for (const name of BASES)
    for (const end of [STATE_SUFFIX, OLD_SUFFIX, NEW_SUFFIX])
      if ((await folder.facts(name + end))?.kind === 'file') return name
  return undefined
}

const look = async <F extends ReadFolder>(tree: Tree<F>, name: string): Promise<LiveDirectory<F> | undefined> => {
  const folder = await tree.folder(name)
  if (!folder) return undefined
  const baseName = await baseIn(folder)
  const lostName = baseName ?? (await interruptedBaseIn(folder))
  return lostName === undefined ? undefined : { name, folder, baseName, lostName }
}

/**
 * All live directories of a tree: its root, and the directories in it that hold a base image, by name. One that can't be
 * looked into takes nothing from the others.
 *
 * @param onFailure  told of those that can't be looked into; without it the first error is thrown where nothing is found
 * @throws READ_ONLY, CORRUPT, IO  the root; see `onFailure`
 */
export const liveDirectories = async <F extends ReadFolder>(
  tree: Tree<F>,
  onFailure?: (name: string, error: LiveError) => void,
): Promise<readonly LiveDirectory<F>[]> => {
  const root = await tree.folder('')
  if (!root) return []
  const found: LiveDirectory<F>[] = []
  const inRoot = await look(tree, '')
  if (inRoot) found.push(inRoot)
  let failure: LiveError | undefined
  for (const name of [...(await root.list())].sort()) {
    try {
      if ((await root.facts(name))?.kind !== 'directory') continue
      const directory = await look(tree, name)
      if (directory) found.push(directory)
    } catch (error) {
      if (!isLiveError(error)) throw error
      failure ??= error
      onFailure?.(name, error)
    }
  }
  if (failure && found.length === 0 && !onFailure) throw failure
  return found
}

/**
 * The live directory that is meant: the named one, LiveOS, the root itself, or the only one there is.
 *
 * @throws NOT_FOUND  no directory holds a base image; USAGE  several do, or the named one is not on the stick
 */
export const findLiveDirectory = async <F extends ReadFolder>(
  tree: Tree<F>,
  image: string | undefined,
): Promise<LiveDirectory<F>> => {
  const bases = BASES.join(', ')
  if (image !== undefined) {
    if (image.split('/').includes('..'))
      throw new LiveError('USAGE', `--image names a directory of the stick itself, and ${image} leads out of it`, {
        path: `${tree.path}/${image}`,
      })
    const named = await look(tree, image)
    if (named) return named
    const others = (await liveDirectories(tree, () => {})).map(({ name }) => name || '/')
    throw new LiveError(
      'NOT_FOUND',
      `${tree.path}/${image} holds no ${bases}${others.length > 0 ? `; directories that do: ${others.join(', ')}` : ''}`,
      { path: `${tree.path}/${image}`, candidates: others },
    )
  }
  const usual = (await look(tree, 'LiveOS')) ?? (await look(tree, ''))
  if (usual) return usual
  const found = await liveDirectories(tree)
  if (found.length === 1) return found[0]!
  if (found.length === 0)
    throw new LiveError('NOT_FOUND', `${tree.path} is no LiveOS stick: no directory in it holds ${bases}`, {
      path: tree.path,
    })
  const candidates = found.map(({ name }) => name)
  throw new LiveError(
    'USAGE',
    `${tree.path} holds several images (${candidates.join(', ')}): choose one with --image`,
    { path: tree.path, candidates },
  )
}

/** What a filesystem is called. */
interface Identity {
  readonly label: string | undefined
  readonly uuid: string | undefined
}

/** How an overlay was found in a live directory. */
export interface OverlayChoice {
  /** name of the file */
  readonly file: string | undefined
  readonly foundBy: 'label and UUID' | 'only one' | undefined
  /** the name that dracut would look for, where label or UUID are known */
  readonly expected: string | undefined
  /** path of a directory with such a name: an OverlayFS */
  readonly directory: string | undefined
}

/** The name of the overlay that a boot looks for, by the label and UUID of the filesystem. */
export const expectedOverlay = ({ label, uuid }: Identity): string | undefined =>
  label || uuid ? `overlay-${label ?? ''}-${uuid ?? ''}` : undefined

/** What a folder has under the names of overlays, files and directories, by name. */
export const overlaysIn = async (
  folder: ReadFolder,
): Promise<readonly { readonly name: string; readonly kind: 'file' | 'directory' }[]> => {
  const found: { name: string; kind: 'file' | 'directory' }[] = []
  for (const name of [...(await folder.list())].sort()) {
    if (!name.startsWith('overlay-')) continue
    const kind = (await folder.facts(name))?.kind
    if (kind === 'directory' || (kind === 'file' && !BESIDE.some(end => name.endsWith(end)))) found.push({ name, kind })
  }
  return found
}

/**
 * The overlay in a live directory: of the name that a boot looks for, or the only one.
 *
 * @throws USAGE  there are several, and none has that name
 */
export const findOverlayName = async (folder: ReadFolder, identity: Identity): Promise<OverlayChoice> => {
  const expected = expectedOverlay(identity)
  const all = await overlaysIn(folder)
  const named = all.find(({ name }) => name === expected)
  const chosen = named ?? (all.length === 1 ? all[0] : undefined)
  if (!chosen && all.length > 1) {
    const candidates = all.map(({ name }) => name)
    throw new LiveError(
      'USAGE',
      `${folder.path} holds several overlays (${candidates.join(', ')})${expected ? `, and none is ${expected}, the name that a boot looks for` : ''}: choose one with --overlay, or leave them out with --base-only`,
      { candidates },
    )
  }
  if (!chosen) return { file: undefined, foundBy: undefined, expected, directory: undefined }
  const foundBy = named ? 'label and UUID' : 'only one'
  return chosen.kind === 'file'
    ? { file: chosen.name, foundBy, expected, directory: undefined }
    : { file: undefined, foundBy, expected, directory: `${folder.path}/${chosen.name}` }
}
