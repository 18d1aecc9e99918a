import { orMissing } from '../../error.js'
import { type FileSystem, type Stat, splitPath } from '../../fs/filesystem.js'
import { resolvePath } from '../../fs/resolve.js'

/** Filesystems whose loaders and kernels find a name in either case. */
const FOLDING = ['vfat', 'msdos', 'exfat', 'iso9660', 'ntfs', 'hfs', 'hfsplus']

/** What a path leads to. */
export interface Followed {
  /** the path without symlinks, in the spelling of the medium */
  readonly path: string
  readonly stat: Stat
}

/** The spelling of a path on the medium; undefined where no name fits. */
const folded = async (fs: FileSystem, path: string): Promise<string | undefined> => {
  let here = ''
  for (const name of splitPath(path)) {
    const entries = (await orMissing(fs.list(here || '/'))) ?? []
    const wanted = name.toLowerCase()
    const found = entries.find(entry => entry.name === name) ?? entries.find(e => e.name.toLowerCase() === wanted)
    if (!found) return undefined
    here = `${here}/${found.name}`
  }
  return here || '/'
}

/**
 * Follows a path over symlinks inside a filesystem; where loaders fold case, so does this.
 *
 * @returns undefined where a name is missing, or a link leads nowhere or round in a circle
 * @throws CORRUPT, IO
 */
export const follow = async (fs: FileSystem, path: string): Promise<Followed | undefined> => {
  let resolved = await orMissing(resolvePath(fs, path))
  if (resolved === undefined && FOLDING.includes(fs.type)) {
    const spelled = await folded(fs, joinPath('/', path))
    resolved = spelled === undefined ? undefined : await orMissing(resolvePath(fs, spelled))
  }
  return resolved === undefined ? undefined : { path: resolved, stat: await fs.stat(resolved) }
}

/** An absolute path without `.`, `..` and empty names; `..` of the root is the root. */
export const joinPath = (directory: string, path: string): string => {
  const names: string[] = []
  for (const name of splitPath(path.startsWith('/') ? path : `${directory}/${path}`))
    if (name === '..') names.pop()
    else names.push(name)
  return `/${names.join('/')}`
}

/** The directory of an absolute path. */
export const directoryOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/'))) || '/'
