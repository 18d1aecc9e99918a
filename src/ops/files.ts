import type { Writable } from 'node:stream'
import { slice } from '../block/linear.js'
import { isLiveError, LiveError, systemError } from '../error.js'
import type { Finding } from '../finding.js'
import { fileDataLength } from '../fs/data-length.js'
import {
  type FileKind,
  type FileSystem,
  hasXattrs,
  isMapped,
  type Run,
  type Stat,
  splitPath,
} from '../fs/filesystem.js'
import { decodeName, printableName } from '../fs/name.js'
import { resolvePath } from '../fs/resolve.js'
import { walk } from '../fs/walk.js'
import type { TargetInput } from '../liveos/target.js'
import { type Layer, openView } from '../liveos/view.js'
import { readSmall } from './copy-file.js'

export type { Layer } from '../liveos/view.js'

/** A file as `liveos ls` tells it. */
export interface ListedFile {
  readonly path: string
  readonly kind: FileKind
  /** permission bits with set-uid, set-gid and sticky, octal */
  readonly mode: string
  readonly uid: number
  readonly gid: number
  /** bytes */
  readonly size: number
  /** ISO 8601, UTC */
  readonly modified: string
  readonly linkCount: number
  readonly inode: number
  /** of a symlink; null where it can't be read */
  readonly target?: string | null
  /** major:minor of a device node */
  readonly device?: string
}

/** What `liveos stat` tells. */
export interface FileStat extends ListedFile {
  /** null where the filesystem keeps none */
  readonly xattrs:
    | readonly { readonly name: string; readonly value: string; readonly encoding: 'text' | 'hex' }[]
    | null
  /** bytes of the file that are no holes; null where it is no file */
  readonly dataBytes: number | null
  /** where the data lie on the filesystem's device, in bytes; null where that can't be told */
  readonly runs: readonly Run[] | null
}

/** How a home image hides what the root has below /home. */
const homeFinding = (homeImage: string, severity: Finding['severity']): Finding => ({
  code: 'HOME_IMAGE',
  severity,
  where: homeImage,
  message: `a booted system with the livesys scripts mounts ${homeImage} over /home: the files of its users may be there and not here`,
  remedy: 'add --home to read the home image',
})

const reachesHome = (path: string, below: boolean): boolean => {
  const [first] = splitPath(path)
  return first === 'home' || (below && first === undefined)
}

export interface ViewOptions {
  /** what will be read; where a home image lies over it, a finding says so */
  readonly paths: readonly string[]
  /** all below the paths is read */
  readonly recursive?: boolean | undefined
  /** of that finding: a warning where somebody may take the files for all there are */
  readonly homeSeverity?: Finding['severity']
}

/** Where there is no live system, there may be files all the same. */
const withMedium = async (error: unknown, input: TargetInput, layer: Layer): Promise<unknown> => {
  if (!isLiveError(error) || error.code !== 'NOT_FOUND' || error.data.interrupted) return error
  const { base, overlay, image } = input
  if ((layer !== 'root' && layer !== 'base') || (base ?? overlay ?? image) !== undefined) return error
  try {
    await (await openView(input, 'medium')).close()
  } catch {
    return error
  }
  return new LiveError('NOT_FOUND', `${error.message}; with --medium its own files are read`, error.data, error.cause)
}

/** Opens a view for some work and closes it; `files` are those of this computer that it is read from. @throws  as `openView`, and what the work throws */
export const withView = async <T>(
  input: TargetInput,
  layer: Layer,
  { paths, recursive = false, homeSeverity = 'note' }: ViewOptions,
  work: (fs: FileSystem, findings: readonly Finding[], files: readonly string[]) => Promise<T>,
): Promise<T> => {
  const { fs, findings, homeImage, files, close } = await openView(input, layer).catch(async (error: unknown) => {
    throw await withMedium(error, input, layer)
  })
  try {
    const hidden = homeImage !== undefined && paths.some(path => reachesHome(path, recursive))
    return await work(fs, hidden ? [...findings, homeFinding(homeImage, homeSeverity)] : findings, files)
  } finally {
    await close()
  }
}

const isoTime = ({ mtime, mtimeNanoseconds }: Stat): string => {
  const date = new Date(mtime * 1000)
  if (Number.isNaN(date.getTime())) return String(mtime)
  const text = date.toISOString()
  return mtimeNanoseconds === 0
    ? text.replace('.000Z', 'Z')
    : text.replace(/\.\d+Z$/, `.${String(mtimeNanoseconds).padStart(9, '0')}Z`)
}

const listed = async (fs: FileSystem, path: string, stat: Stat): Promise<ListedFile> => ({
  path,
  kind: stat.kind,
  mode: stat.mode.toString(8).padStart(4, '0'),
  uid: stat.uid,
  gid: stat.gid,
  size: stat.size,
  modified: isoTime(stat),
  linkCount: stat.linkCount,
  inode: stat.inode,
  ...(stat.kind === 'symlink' ? { target: await fs.readLink(path).catch(() => null) } : {}),
  ...(stat.device ? { device: `${stat.device.major}:${stat.device.minor}` } : {}),
})

export interface ListOptions {
  readonly recursive?: boolean | undefined
  /** the directory itself and not what it holds */
  readonly directory?: boolean | undefined
  /** told of what can't be read; the listing goes on */
  readonly onFinding: (finding: Finding) => void
}

/**
 * The files of a directory, or of all below it, or a file itself. Damage below the path is told and passed over.
 *
 * @throws NOT_FOUND, CORRUPT, IO  the path itself
 */
export async function* listFiles(
  fs: FileSystem,
  path: string,
  { recursive = false, directory = false, onFinding }: ListOptions,
): AsyncGenerator<ListedFile, void> {
  const start = await resolvePath(fs, path, { followLast: !directory })
  const stat = await fs.stat(start)
  if (directory || stat.kind !== 'directory') {
    yield await listed(fs, start, stat)
    return
  }
  const maxDepth = recursive ? Number.POSITIVE_INFINITY : 1
  for await (const found of walk(fs, start, { order: 'bytes', maxDepth, onFinding }))
    if (found.path !== start) yield await listed(fs, found.path, found.stat)
}

/** Text as it is, anything else in hex: values of attributes are bytes, often with a NUL at the end. */
const shownValue = (value: Uint8Array): { value: string; encoding: 'text' | 'hex' } => {
  const end = value.at(-1) === 0 ? value.subarray(0, -1) : value
  const text = decodeName(end)
  return printableName(text) === text
    ? { value: text, encoding: 'text' }
    : { value: Buffer.from(value).toString('hex'), encoding: 'hex' }
}

/** All that is known of a file; a symlink as the last name is not followed. @throws NOT_FOUND, CORRUPT, IO */
export const statFile = async (fs: FileSystem, path: string): Promise<FileStat> => {
  const found = await resolvePath(fs, path, { followLast: false })
  const stat = await fs.stat(found)
  return {
    ...(await listed(fs, found, stat)),
    xattrs: hasXattrs(fs) ? (await fs.xattrs(found)).map(({ name, value }) => ({ name, ...shownValue(value) })) : null,
    dataBytes: stat.kind === 'file' ? await fileDataLength(fs, found) : null,
    runs: stat.kind === 'file' && isMapped(fs) ? await fs.extents(found) : null,
  }
}

const PIECE = 1 << 20

const written = (out: Writable, bytes: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => out.write(bytes, error => (error ? reject(error) : resolve())))

/**
 * Writes a regular file to a stream; symlinks are followed. Of one that can't be read to its end, what stands before the first
 * bad spot is written before this throws.
 *
 * @throws NOT_FOUND, USAGE  a directory; CORRUPT, UNSUPPORTED, IO  also in the middle of the file; CANCELLED
 */
export const writeFileTo = async (fs: FileSystem, path: string, out: Writable, signal?: AbortSignal): Promise<void> => {
  const found = await resolvePath(fs, path)
  const { kind } = await fs.stat(found)
  if (kind !== 'file') throw new LiveError('USAGE', `${printableName(path)} is a ${kind}, not a file`, { path })
  const file = await fs.open(found)
  const { size } = file
  const pieceAt = async (at: number): Promise<{ bytes: Uint8Array; error?: LiveError }> => {
    const length = Math.min(PIECE, size - at)
    const piece = await readSmall(slice(file, at, length, file.name))
    // a spot that could be read at the second try is none
    return piece.bytes.length === length ? { bytes: piece.bytes } : piece
  }
  try {
    let next = pieceAt(0)
    for (let at = 0; at < size; ) {
      if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped')
      const { bytes, error } = await next
      at += bytes.length
      // the next piece is read while this one is written
      if (!error && at < size) {
        next = pieceAt(at)
        next.catch(() => undefined)
      }
      try {
        await written(out, bytes)
      } catch (error) {
        throw systemError(error, `writing ${printableName(path)}`)
      }
      if (error) throw cutShort(path, at, size, error)
    }
  } finally {
    await file.close()
  }
}

/** The error of a bad spot, with how far the file could be read. */
const cutShort = (path: string, readBytes: number, size: number, error: LiveError): LiveError =>
  new LiveError(
    error.code,
    `${printableName(path)}: only its first ${readBytes} bytes of ${size} bytes could be read`,
    { ...error.data, path, readBytes, size },
    error,
  )
