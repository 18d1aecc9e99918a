import { createWriteStream } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { LiveError, systemError } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, splitPath } from '../fs/filesystem.js'
import { printableName } from '../fs/name.js'
import { resolvePath } from '../fs/resolve.js'
import type { CopyPath } from './copy-source.js'
import { type CopyTreeOptions, type CopyTreeOutcome, copyTree } from './copy-tree.js'
import type { Progress } from './progress.js'

export interface CopyOutOptions extends CopyTreeOptions {
  /** directories and all below them */
  readonly recursive?: boolean | undefined
  /** a tar archive, whatever the target is called */
  readonly tar?: boolean | undefined
}

/** A target that makes an archive: `-`, or a name that ends in .tar. */
const isArchive = (to: string, tar: boolean | undefined): boolean => tar === true || to === '-' || to.endsWith('.tar')

const kindOfPlace = async (path: string): Promise<'directory' | 'other' | undefined> => {
  try {
    // a link to a directory is a directory, as for cp
    const { stat } = await import('node:fs/promises')
    return (await stat(path)).isDirectory() ? 'directory' : 'other'
  } catch {
    return (await lstat(path).catch(() => undefined)) ? 'other' : undefined
  }
}

const lastName = (path: string): string => splitPath(path).at(-1) ?? ''

/**
 * Copies paths of a filesystem to a place of this computer, as `cp` does: into a directory that is there, else as the name
 * that is given; or into a tar archive.
 *
 * @param to  directory, file, archive `NAME.tar`, or `-` for an archive on `stdout`
 * @throws USAGE  a directory without `recursive`; several paths, and `to` is no directory
 * @throws NOT_FOUND, REFUSED  the file is there, NO_SPACE, IO, CANCELLED
 */
export async function* copyOut(
  from: FileSystem,
  paths: readonly string[],
  to: string,
  options: CopyOutOptions,
  stdout: Writable,
): AsyncGenerator<Progress, CopyTreeOutcome> {
  const resolved: string[] = []
  for (const path of paths) {
    const found = await resolvePath(from, path, { followLast: path.endsWith('/') && splitPath(path).length > 0 })
    if ((await from.stat(found)).kind === 'directory' && !options.recursive)
      throw new LiveError('USAGE', `${printableName(path)} is a directory: add -r to copy it with all it holds`, {
        path,
      })
    resolved.push(found)
  }
  if (isArchive(to, options.tar)) return yield* toArchive(from, resolved, to, options, stdout)
  const place = await kindOfPlace(to)
  if (place === 'directory' || to.endsWith('/'))
    return yield* copyTree({ from, paths: resolved, to: { directory: to } }, options)
  if (resolved.length > 1)
    throw new LiveError('USAGE', `${to} is no directory, and ${resolved.length} paths are to go there`, { path: to })
  const [only] = resolved
  if (only === undefined) throw new LiveError('USAGE', 'name what to copy')
  if ((await from.stat(only)).kind === 'directory') {
    if (place !== undefined) throw new LiveError('REFUSED', `${to} is there, and it is no directory`, { path: to })
    return yield* copyTree({ from, paths: [{ path: only, as: '' }], to: { directory: to } }, options)
  }
  if (place !== undefined && !options.overwrite)
    throw new LiveError('REFUSED', `${to} is there already: choose another name, or add --overwrite`, { path: to })
  const as: CopyPath = { path: only, as: basename(to) }
  return yield* copyTree({ from, paths: [as], to: { directory: dirname(to) } }, options)
}

async function* toArchive(
  from: FileSystem,
  paths: readonly string[],
  to: string,
  options: CopyOutOptions,
  stdout: Writable,
): AsyncGenerator<Progress, CopyTreeOutcome> {
  const named = paths.map(path => ({ path, as: lastName(path) }))
  if (to === '-') return yield* copyTree({ from, paths: named, to: { tar: stdout } }, options)
  const file = createWriteStream(to, { flags: options.overwrite ? 'w' : 'wx', flush: true })
  const opened = new Promise<void>((resolve, reject) => {
    file.once('open', () => resolve())
    file.once('error', reject)
  })
  try {
    await opened
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST')
      throw new LiveError('REFUSED', `${to} is there already: choose another name, or add --overwrite`, { path: to })
    throw systemError(error, `making ${to}`)
  }
  const outcome = yield* copyTree({ from, paths: named, to: { tar: file } }, options)
  file.end()
  try {
    await finished(file)
  } catch (error) {
    throw systemError(error, `writing ${to}`)
  }
  return outcome
}

/** Bytes are missing where one of these is an error. */
export const isIncomplete = (findings: readonly Finding[]): boolean =>
  findings.some(({ severity }) => severity === 'error')
