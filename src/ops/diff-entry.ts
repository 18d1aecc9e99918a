import type { FileKind, Stat } from '../fs/filesystem.js'
import type { Change } from '../liveos/changes/change.js'

/** An inode as `liveos diff --json` tells it. */
export interface DiffInode {
  readonly kind: FileKind
  readonly inode: number
  /** permission bits with set-uid, set-gid and sticky, octal */
  readonly mode: string
  readonly uid: number
  readonly gid: number
  /** bytes */
  readonly size: number
  /** ISO 8601, UTC */
  readonly modified: string
  readonly linkCount: number
  /** major:minor of a device node */
  readonly device?: string
}

/** A change as `liveos diff --json` tells it. */
export interface DiffEntry extends Omit<Change, 'before' | 'after'> {
  readonly before: DiffInode | null
  readonly after: DiffInode | null
}

const isoTime = ({ mtime, mtimeNanoseconds }: Stat): string => {
  const date = new Date(mtime * 1000)
  if (Number.isNaN(date.getTime())) return String(mtime)
  const text = date.toISOString()
  return mtimeNanoseconds === 0
    ? text.replace('.000Z', 'Z')
    : text.replace(/\.\d+Z$/, `.${String(mtimeNanoseconds).padStart(9, '0')}Z`)
}

const inodeOf = (stat: Stat | null): DiffInode | null =>
  stat && {
    kind: stat.kind,
    inode: stat.inode,
    mode: stat.mode.toString(8).padStart(4, '0'),
    uid: stat.uid,
    gid: stat.gid,
    size: stat.size,
    modified: isoTime(stat),
    linkCount: stat.linkCount,
    ...(stat.device ? { device: `${stat.device.major}:${stat.device.minor}` } : {}),
  }

/** A change as JSON shows it. */
export const entryOf = (change: Change): DiffEntry => ({
  ...change,
  before: inodeOf(change.before),
  after: inodeOf(change.after),
})
