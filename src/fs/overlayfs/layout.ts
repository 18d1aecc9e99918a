import { corrupt } from '../../error.js'
import type { Xattr } from '../filesystem.js'
import { decodeName, printableName } from '../name.js'

/*
 * An OverlayFS keeps nothing of its own: deletions are character devices 0:0, and all else stands in extended attributes of
 * the upper inodes. NS is `trusted`, or `user` for a mount with userxattr.
 *
 *   NS.overlay.opaque     y  of a directory: nothing below it is shown
 *                         x  of a directory: empty files in it that have NS.overlay.whiteout are deletions
 *   NS.overlay.redirect   the name, or the path from the root, that the lower inode has
 *   NS.overlay.metacopy   of a file: its data are the lower one's
 *   NS.overlay.origin     a handle of the lower inode that it was copied from
 *   NS.overlay.nlink      U+1, L-2 …: names of an indexed inode, counted from the links of the upper or the lower one
 *   NS.overlay.overlay.*  shown as NS.overlay.*: what an OverlayFS inside this one wrote
 *
 * The handle, and in hexadecimal the names in the directory `index` of the work directory:
 *
 *    0  version   0         |  4  type
 *    1  magic     0xfb      |  5  uuid   16 bytes, of the lower filesystem
 *    2  len       of all    | 21  fid    type 1: inode number and generation, 32 bits each
 *    3  flags      bit 0: big endian
 */

/** Whose attributes an OverlayFS keeps its marks in. */
export type Namespace = 'trusted' | 'user'

/** What an upper inode says of how it lies over the lower one. */
export interface Marks {
  /** nothing of the lower directory is shown */
  readonly isOpaque: boolean
  /** empty files in this directory may stand for deletions */
  readonly hasXattrWhiteouts: boolean
  /** a name beside it, or from the root where it begins with a slash */
  readonly redirect: string | undefined
  readonly isMetacopy: boolean
  /** number of the lower inode it was copied from, where that is told in a form known here */
  readonly originInode: number | undefined
  /** how many names an indexed inode has */
  readonly nlink: { readonly of: 'upper' | 'lower'; readonly more: number } | undefined
}

/** A path of Linux, its NUL included. @see linux include/uapi/linux/limits.h */
const PATH_MAX = 4096
const ROOT_MARKS = ['impure', 'origin', 'uuid']
const HANDLE_MAGIC = 0xfb
const HANDLE_SIZE = 21
const BIG_ENDIAN = 1
const INODE_AND_GENERATION = 1

const prefixOf = (namespace: Namespace): string => `${namespace}.overlay.`

/** The attributes as a mounted OverlayFS shows them: its own are hidden, those of an inner one have their name back. */
export const visibleXattrs = (xattrs: readonly Xattr[], namespace: Namespace): readonly Xattr[] => {
  const prefix = prefixOf(namespace)
  if (!xattrs.some(({ name }) => name.startsWith(prefix))) return xattrs
  return xattrs.flatMap(xattr => {
    if (!xattr.name.startsWith(prefix)) return [xattr]
    const rest = xattr.name.slice(prefix.length)
    return rest.startsWith('overlay.') ? [{ ...xattr, name: `${prefix}${rest.slice('overlay.'.length)}` }] : []
  })
}

/** True where an upper root has marks of this namespace that the kernel writes to it. */
export const hasRootMarks = (xattrs: readonly Xattr[], namespace: Namespace): boolean =>
  xattrs.some(({ name }) => ROOT_MARKS.some(mark => name === prefixOf(namespace) + mark))

/** True where an empty file is marked as a deletion. */
export const isXattrWhiteout = (xattrs: readonly Xattr[], namespace: Namespace): boolean =>
  xattrs.some(({ name }) => name === `${prefixOf(namespace)}whiteout`)

const text = (value: Uint8Array): string => Buffer.from(value).toString('latin1')

const parseRedirect = (value: Uint8Array, field: string, device: string): string => {
  const wrong = (expected: string, found: string | number) => corrupt({ device, offset: 0, field, expected, found })
  if (value.length === 0 || value.length >= PATH_MAX) throw wrong(`1 to ${PATH_MAX - 1} bytes`, value.length)
  const redirect = decodeName(value)
  const shown = printableName(redirect.length > 100 ? `${redirect.slice(0, 100)}…` : redirect)
  if (redirect.includes('\0')) throw wrong('a path', shown)
  const names = redirect.split('/')
  const isAbsolute = names[0] === '' && names.length > 1
  if (!isAbsolute && names.length > 1) throw wrong('a name, or a path from the root', shown)
  if ((isAbsolute ? names.slice(1) : names).some(name => name === '' || name === '.' || name === '..'))
    throw wrong('names without . and ..', shown)
  return redirect
}

const parseNlink = (value: Uint8Array): Marks['nlink'] => {
  const [, of, more] = /^([UL])([+-]\d{1,9})\0?$/.exec(text(value)) ?? []
  return of === undefined ? undefined : { of: of === 'U' ? 'upper' : 'lower', more: Number(more) }
}

/** The lower inode's number in a handle; undefined where it is of a form, or of a filesystem, that tells none. */
const parseHandle = (bytes: Uint8Array): number | undefined => {
  const [version, magic, length, flags, type] = bytes
  if (version !== 0 || magic !== HANDLE_MAGIC || length! > bytes.length || length! < HANDLE_SIZE + 8) return undefined
  if (flags! & BIG_ENDIAN || type !== INODE_AND_GENERATION) return undefined
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).readUInt32LE(HANDLE_SIZE)
}

/** The inode number in the name of an index entry; undefined where it is none. */
export const parseIndexName = (name: string): number | undefined =>
  /^([0-9a-f]{2}){29,148}$/.test(name) ? parseHandle(Buffer.from(name, 'hex')) : undefined

/**
 * What the attributes of an upper inode say.
 *
 * @param where  the inode's path, for words
 * @throws CORRUPT  a redirect that the kernel takes from nobody: empty, too long, with `.` or `..`, or out of its directory
 * @see linux fs/overlayfs/overlayfs.h
 */
export const parseMarks = (
  xattrs: readonly Xattr[],
  namespace: Namespace,
  { device, where }: { readonly device: string; readonly where: string },
): Marks => {
  const prefix = prefixOf(namespace)
  const find = (name: string): Uint8Array | undefined => xattrs.find(xattr => xattr.name === prefix + name)?.value
  const opaque = find('opaque')
  const redirect = find('redirect')
  const origin = find('origin')
  const nlink = find('nlink')
  return {
    isOpaque: opaque?.length === 1 && text(opaque) === 'y',
    hasXattrWhiteouts: opaque?.length === 1 && text(opaque) === 'x',
    redirect: redirect && parseRedirect(redirect, `${prefix}redirect of ${printableName(where)}`, device),
    isMetacopy: find('metacopy') !== undefined,
    originInode: origin && parseHandle(origin),
    nlink: nlink && parseNlink(nlink),
  }
}
