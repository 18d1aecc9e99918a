import { LiveError } from '../error.js'
import { type FileSystem, splitPath } from './filesystem.js'
import { printableName } from './name.js'

/** Links followed on one path, as many as Linux follows. @see linux include/linux/namei.h, MAXSYMLINKS */
const MAX_LINKS = 40
/** Names still to go: far more than a path of Linux has, so that links to long paths of links end too. */
const MAX_NAMES = 65_536

export interface ResolveOptions {
  /** false: a symlink as the last name stays, as for a listing; true if left out */
  readonly followLast?: boolean
}

/**
 * Finds the path without symlinks that a path leads to. Links are followed as a system booted from the filesystem would:
 * absolute targets start at its root, and `..` stops there.
 *
 * @returns an absolute path of an inode that is there
 * @throws NOT_FOUND  a name is missing, a name on the way is no directory, or there are more than 40 links
 */
export const resolvePath = async (
  fs: FileSystem,
  path: string,
  { followLast = true }: ResolveOptions = {},
): Promise<string> => {
  const notFound = (why: string) =>
    new LiveError('NOT_FOUND', `${fs.name}: ${printableName(path)}: ${why}`, { device: fs.name, path })
  /** names to go, the next one last */
  const names = [...splitPath(path)].reverse()
  const found: string[] = []
  let links = 0
  for (let name = names.pop(); name !== undefined; name = names.pop()) {
    if (name === '..') {
      found.pop()
      continue
    }
    const here = `/${[...found, name].join('/')}`
    const { kind } = await fs.stat(here)
    if (kind !== 'symlink' || (names.length === 0 && !followLast)) {
      if (kind !== 'directory' && names.length > 0) throw notFound(`${printableName(here)} is no directory`)
      found.push(name)
      continue
    }
    if (++links > MAX_LINKS) throw notFound(`more than ${MAX_LINKS} symbolic links, or a loop of them`)
    const target = await fs.readLink(here)
    if (target === '') throw notFound(`${printableName(here)} is a symbolic link to nothing`)
    if (target.startsWith('/')) found.length = 0
    const more = splitPath(target)
    if (names.length + more.length > MAX_NAMES) throw notFound('its symbolic links lead too far')
    for (let n = more.length - 1; n >= 0; n--) names.push(more[n]!)
  }
  const resolved = `/${found.join('/')}`
  // of the root, or of what `..` led to, nothing was asked yet
  await fs.stat(resolved)
  return resolved
}
