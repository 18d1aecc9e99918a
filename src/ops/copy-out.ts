import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { lstat, rename, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { LiveError, systemError } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, splitPath } from '../fs/filesystem.js'
import { printableName } from '../fs/name.js'
import { resolvePath } from '../fs/resolve.js'
import { parseAddress } from './address.js'
import type { CopyPath } from './copy-source.js'
import { type CopyTreeOptions, type CopyTreeOutcome, copyTree } from './copy-tree.js'
import type { Progress } from './progress.js'

export type { CopyTreeOutcome } from './copy-tree.js'

export interface CopyOutOptions extends CopyTreeOptions {
  /** directories and all below them */
  readonly recursive?: boolean | undefined
  /** a tar archive, whatever the target is called */
  readonly tar?: boolean | undefined
}

/** `link`: one that leads nowhere */
type Place = 'directory' | 'file' | 'link' | 'other' | undefined

const placeOf = async (path: string): Promise<Place> => {
  try {
    // a link to a directory is a directory, as for cp
    const found = await stat(path)
    return found.isDirectory() ? 'directory' : found.isFile() ? 'file' : 'other'
  } catch {
    return (await lstat(path).catch(() => undefined)) ? 'link' : undefined
  }
}

/** A target that makes an archive: `-`, or a name that ends in .tar and is no directory, but for the copy of one archive. */
const isArchive = (to: string, place: Place, { tar, recursive }: CopyOutOptions, paths: readonly string[]): boolean =>
  tar === true ||
  to === '-' ||
  (to.endsWith('.tar') && place !== 'directory' && (recursive || paths.length !== 1 || !paths[0]!.endsWith('.tar')))

/** Who names a link may want what it leads to. */
const linkCopied = (path: string, target: string): Finding => ({
  code: 'LINK_COPIED',
  severity: 'note',
  where: path,
  message: `${printableName(path)} is a symbolic link to ${printableName(target)} and was copied as one`,
  remedy: `put a slash behind its name to copy what it leads to: ${printableName(path)}/`,
})

/**
 * Looks where a copy is to go, before anything is opened.
 *
 * @throws USAGE  it is a place inside a target, where nothing is written; an archive would go to a terminal
 */
export const checkPlace = async (
  to: string,
  stdout: { readonly isTTY?: boolean },
  { tar }: { readonly tar?: boolean | undefined },
): Promise<void> => {
  if (to === '-' && stdout.isTTY)
    throw new LiveError(
      'USAGE',
      'an archive is nothing for a terminal: name a file NAME.tar, or put | tar -x behind it',
    )
  if (tar && (await placeOf(to)) === 'directory')
    throw new LiveError('USAGE', `${printableName(to)} is a directory: --tar wants the name of the archive`, {
      path: to,
    })
  const { target } = parseAddress(to)
  if (to.includes(':/') && target !== undefined && target !== to && (await placeOf(target)) !== undefined)
    throw new LiveError(
      'USAGE',
      `${printableName(to)} is a place inside ${printableName(target)}: files are only copied out of a target, never into it`,
      { path: to },
    )
}

const lastName = (path: string): string => splitPath(path).at(-1) ?? ''

const taken = (to: string): LiveError =>
  new LiveError('REFUSED', `${printableName(to)} is there already: choose another name, or add --overwrite`, {
    path: to,
  })

/**
 * Copies paths of a filesystem to a place of this computer, as `cp` does: into a directory that is there, else as the name
 * that is given; or into a tar archive.
 *
 * @param to  directory, file, archive `NAME.tar`, or `-` for an archive on `stdout`
 * @throws USAGE  a directory without `recursive`; several paths, and `to` is no directory
 * @throws NOT_FOUND, REFUSED  the file is there, or `to` is a device, NO_SPACE, IO, CANCELLED
 */
export async function* copyOut(
  from: FileSystem,
  paths: readonly string[],
  to: string,
  options: CopyOutOptions,
  stdout: Writable,
): AsyncGenerator<Progress, CopyTreeOutcome> {
  if (to === '') throw new LiveError('USAGE', 'the name of where to copy is empty')
  const resolved: string[] = []
  const links: Finding[] = []
  for (const path of paths) {
    const found = await resolvePath(from, path, { followLast: path.endsWith('/') && splitPath(path).length > 0 })
    const { kind } = await from.stat(found)
    if (kind === 'symlink') links.push(linkCopied(path, await from.readLink(found)))
    if (kind === 'directory' && !options.recursive)
      throw new LiveError('USAGE', `${printableName(path)} is a directory: add -r to copy it with all it holds`, {
        path,
      })
    resolved.push(found)
  }
  const outcome = yield* copyFound(from, resolved, to, options, stdout)
  return { ...outcome, findings: [...links, ...outcome.findings] }
}

async function* copyFound(
  from: FileSystem,
  resolved: readonly string[],
  to: string,
  options: CopyOutOptions,
  stdout: Writable,
): AsyncGenerator<Progress, CopyTreeOutcome> {
  const place = await placeOf(to)
  if (isArchive(to, place, options, resolved)) return yield* toArchive(from, resolved, to, place, options, stdout)
  if (place === 'directory' || to.endsWith('/'))
    return yield* copyTree({ from, paths: resolved, to: { directory: to } }, options)
  if (resolved.length > 1)
    throw new LiveError('USAGE', `${printableName(to)} is no directory, and ${resolved.length} paths are to go there`, {
      path: to,
    })
  const [only] = resolved
  if (only === undefined) throw new LiveError('USAGE', 'name what to copy')
  if ((await placeOf(dirname(to))) !== 'directory')
    throw new LiveError('NOT_FOUND', `there is no directory ${printableName(dirname(to))}`, { path: dirname(to) })
  if ((await from.stat(only)).kind === 'directory') {
    if (place !== undefined)
      throw new LiveError('REFUSED', `${printableName(to)} is there, and it is no directory`, { path: to })
    return yield* copyTree({ from, paths: [{ path: only, as: '' }], to: { directory: to } }, options)
  }
  if (place === 'other')
    throw new LiveError(
      'REFUSED',
      `${printableName(to)} is a device or a pipe, which a copy would replace: write into it with liveos cat … > ${printableName(to)}`,
      { path: to },
    )
  if (place !== undefined && !options.overwrite) throw taken(to)
  const as: CopyPath = { path: only, as: basename(to) }
  return yield* copyTree({ from, paths: [as], to: { directory: dirname(to) } }, options)
}

async function* toArchive(
  from: FileSystem,
  paths: readonly string[],
  to: string,
  place: Place,
  options: CopyOutOptions,
  stdout: Writable,
): AsyncGenerator<Progress, CopyTreeOutcome> {
  const named = paths.map(path => ({ path, as: lastName(path) }))
  if (to === '-') return yield* copyTree({ from, paths: named, to: { tar: stdout } }, options)
  if (place === 'directory')
    throw new LiveError('USAGE', `${printableName(to)} is a directory: --tar wants the name of the archive`, {
      path: to,
    })
  // A pipe or device is written as it is; a file has its name once it is whole.
  const direct = place === 'other'
  if (place === 'link' || (place === 'file' && !options.overwrite)) throw taken(to)
  // not of the archive's name, which may be as long as a name can be
  const part = direct ? to : join(dirname(to), `.liveos-part-${randomBytes(8).toString('hex')}`)
  const file = createWriteStream(part, { flags: direct ? 'w' : 'wx', flush: !direct })
  const opened = new Promise<void>((resolve, reject) => {
    file.once('open', () => resolve())
    file.once('error', reject)
  })
  // each failure comes to who writes or waits; an event that nobody hears would end the program
  file.on('error', () => {})
  try {
    await opened
  } catch (error) {
    throw systemError(error, `making ${printableName(to)}`)
  }
  let whole = false
  try {
    const outcome = yield* copyTree({ from, paths: named, to: { tar: file } }, options)
    try {
      file.end()
      await finished(file)
      if (!direct) await rename(part, to)
    } catch (error) {
      throw systemError(error, `writing ${printableName(to)}`)
    }
    whole = true
    return outcome
  } finally {
    if (!whole) {
      file.destroy()
      if (!direct) await unlink(part).catch(() => undefined)
    }
  }
}
