import type { Place } from '../../bytes/cursor.js'
import { corrupt, type LiveError } from '../../error.js'
import type { FileKind, Stat } from '../filesystem.js'
import { parseShortDate } from './date.js'
import { type DirectoryRecord, FLAG } from './layout.js'
import type { RockRidge } from './rock-ridge.js'

/** Bytes of a file in one piece. */
export interface Section {
  /** byte offset on the device */
  readonly start: number
  readonly length: number
}

/** Ways of storing a file that are not read. */
export type Obstacle = 'zisofs' | 'sparse files of Rock Ridge' | 'interleaved files'

/** A name in a directory, with all that its records tell. */
export interface Node {
  readonly name: string
  readonly stat: Stat
  /** of a symlink */
  readonly target: Uint8Array | undefined
  /** where a file's data are, in the file's order */
  readonly sections: readonly Section[]
  /** why a file's data can't be read as they are: the feature that is missing */
  readonly obstacle: Obstacle | undefined
  /** of a directory: its extent. The length is undefined where only the directory itself tells it (Rock Ridge CL). */
  readonly directory: { readonly start: number; readonly length: number | undefined } | undefined
  /** what is wrong with all but name and kind; none of it is to be used */
  readonly fault: LiveError | undefined
  /** where the record is, for errors */
  readonly place: Place
}

/** What Linux gives files that tell no mode. */
const PLAIN_MODE = 0o555

const isDirectory = (record: DirectoryRecord): boolean => (record.flags & FLAG.directory) !== 0

/** First byte of a record's data. */
export const dataStart = (record: DirectoryRecord, blockSize: number): number =>
  (record.extent + record.ext_attr_length) * blockSize

/**
 * Makes a node of the records of one file.
 *
 * @param records  one, or of a file in several sections all
 * @throws CORRUPT  the records contradict Rock Ridge, or themselves
 */
export const nodeOf = (
  name: string,
  records: readonly DirectoryRecord[],
  rock: RockRidge | undefined,
  blockSize: number,
  device: string,
): Node => {
  const record = records[0]!
  const place: Place = { device, base: record.offset }
  const bad = (field: string, expected: string, found: string | number) =>
    corrupt({ device, offset: record.offset, field, expected, found })
  const child = rock?.childBlock
  const kind: FileKind = child !== undefined ? 'directory' : kindOf(record, rock)
  if (child === undefined && (kind === 'directory') !== isDirectory(record))
    throw bad(
      'PX st_mode',
      isDirectory(record) ? 'a directory, as the flags say' : 'no directory, as the flags say',
      kind,
    )
  if (kind === 'symlink' && !rock?.target && !rock?.fault) throw bad('SL entry', 'the target of a symlink', 'none')
  if (kind === 'directory' && records.length > 1)
    throw bad('directory record flags', 'a directory in one section', 'several')
  const sections = records.map(r => ({ start: dataStart(r, blockSize), length: r.size })).filter(s => s.length > 0)
  const bytes = sections.reduce((sum, { length }) => sum + length, 0)
  const stored = kind === 'file' ? rock?.stored : undefined
  const interleaved = records.some(r => r.interleave !== 0)
  const directory =
    kind !== 'directory'
      ? undefined
      : child !== undefined
        ? { start: child * blockSize, length: undefined }
        : { start: dataStart(record, blockSize), length: record.size }
  return {
    name,
    place,
    fault: rock?.fault,
    target: kind === 'symlink' ? rock?.target : undefined,
    sections: kind === 'file' ? sections : [],
    obstacle: stored
      ? stored.as === 'zisofs'
        ? 'zisofs'
        : 'sparse files of Rock Ridge'
      : interleaved
        ? 'interleaved files'
        : undefined,
    directory,
    stat: {
      kind,
      // as the kernel: directories by their extent, all else by the record, unless Rock Ridge numbers the files
      inode: rock?.posix?.serial ?? (child === undefined && directory ? directory.start : record.offset),
      mode: rock?.posix?.mode ?? PLAIN_MODE,
      uid: rock?.posix?.uid ?? 0,
      gid: rock?.posix?.gid ?? 0,
      linkCount: rock?.posix?.linkCount ?? 1,
      size:
        kind === 'symlink'
          ? (rock?.target?.length ?? 0)
          : kind === 'file'
            ? (stored?.size ?? bytes)
            : kind === 'directory'
              ? record.size
              : 0,
      mtime: rock?.mtime ?? parseShortDate(record.date) ?? 0,
      mtimeNanoseconds: 0,
      ...(kind === 'block' || kind === 'character' ? { device: rock?.device ?? { major: 0, minor: 0 } } : {}),
    },
  }
}

const kindOf = (record: DirectoryRecord, rock: RockRidge | undefined): FileKind =>
  rock?.posix?.kind ?? (isDirectory(record) ? 'directory' : 'file')
