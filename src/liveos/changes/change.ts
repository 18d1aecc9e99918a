import type { Finding } from '../../finding.js'
import type { Stat } from '../../fs/filesystem.js'
import { encodeName } from '../../fs/name.js'

/**
 * What became of a path: `modified` its content, symlink target or device numbers are others; `type` it is another kind of
 * file; `attributes` only what is beside the content. A path that is there before and after is never `renamed`.
 */
export type ChangeKind = 'added' | 'deleted' | 'modified' | 'type' | 'renamed' | 'attributes'

/** What differs between two inodes. `links` is the count of names, of a directory never told. */
export type Aspect = 'content' | 'target' | 'device' | 'mode' | 'owner' | 'xattrs' | 'mtime' | 'links'

/** One path that is not in the root as it was in the base. */
export interface Change {
  /** absolute; of what was deleted the path in the base */
  readonly path: string
  readonly change: ChangeKind
  /** the path in the base, where it was another one */
  readonly from?: string
  /** empty of what was added or deleted */
  readonly changed: readonly Aspect[]
  /** in the base */
  readonly before: Stat | null
  /** in the root */
  readonly after: Stat | null
  /**
   * Bytes of data that are others than before, counted in blocks of the filesystem: of a file that was added, or whose new
   * content has a new inode, all its data; of a deleted one what is gone. Holes count for nothing.
   */
  readonly changedBytes: number
  /** of a symlink */
  readonly target?: { readonly before: string | null; readonly after: string | null }
  /** names of extended attributes */
  readonly xattrs?: {
    readonly added: readonly string[]
    readonly removed: readonly string[]
    readonly changed: readonly string[]
  }
  /** another name of the same inode in the root, which counts its bytes */
  readonly linkTo?: string
}

/** All that an overlay changed, in the order of the paths' bytes. */
export interface Changes {
  readonly changes: readonly Change[]
  /** bytes of the root filesystem's device that may differ from the base */
  readonly touchedBytes: number
  /** what could not be read, and so is not compared */
  readonly findings: readonly Finding[]
}

/** From here on the order of UTF-16 is not that of bytes. */
const FIRST_SURROGATE = 0xd800

/** Orders paths by their bytes. */
export const comparePaths = (a: string, b: string): number => {
  const length = Math.min(a.length, b.length)
  for (let at = 0; at < length; at++) {
    const [x, y] = [a.charCodeAt(at), b.charCodeAt(at)]
    if (x === y) continue
    if (x < FIRST_SURROGATE && y < FIRST_SURROGATE) return x - y
    return Buffer.compare(encodeName(a), encodeName(b))
  }
  return a.length - b.length
}
