import { createWriteStream } from 'node:fs'
import { lstat, open, rm } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { finished } from 'node:stream/promises'
import { memory } from '../block/memory.js'
import { LiveError, systemError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Entry, pathBelow, type Stat, splitPath, type XattrFileSystem } from '../fs/filesystem.js'
import { encodeName } from '../fs/name.js'
import type { Change } from '../liveos/changes/change.js'
import { copyTree } from './copy-tree.js'
import type { Report } from './progress.js'

/** What an archive of changes holds. */
export interface ArchiveOutcome {
  readonly path: string
  /** files, directories, links and devices in it, parents of what changed among them */
  readonly members: number
  /** bytes of files */
  readonly bytes: number
  /** name of the member that lists what was deleted */
  readonly deletions: string
  /** how many names it lists */
  readonly deleted: number
}

/** Directory of the archive that is no part of the root filesystem; with a number behind it where the root has that name. */
const OWN_DIRECTORY = '.liveos'
const DELETED = 'deleted'

/**
 * Names to remove, each with all below it, before the archive is unpacked over the base: what was deleted, the old names of
 * what was renamed, and what became another kind of file. What is below another one is left out.
 */
export const deletedNames = (changes: readonly Change[]): readonly string[] => {
  const gone = new Set<string>()
  for (const { path, from, change } of changes) {
    if (change === 'deleted' || change === 'type') gone.add(path)
    if (change === 'renamed' && from !== undefined) gone.add(from)
  }
  const isBelowOther = (path: string): boolean => {
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1))
      if (gone.has(path.slice(0, at))) return true
    return false
  }
  return [...gone].filter(path => !isBelowOther(path))
}

/** The paths of a root that go into an archive. */
interface Selection {
  /** what changed, and the directories on the way to it */
  readonly paths: ReadonlySet<string>
  /** renamed directories, which go with all below them */
  readonly whole: ReadonlySet<string>
}

const select = (changes: readonly Change[]): Selection => {
  const paths = new Set<string>(['/'])
  const whole = new Set<string>()
  const add = (path: string): void => {
    for (let at = path; at !== '' && !paths.has(at); at = at.slice(0, at.lastIndexOf('/'))) paths.add(at)
  }
  const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/'))
  for (const { path, from, after, change } of changes) {
    add(after ? path : parentOf(path))
    // Where names only went, the directory's time is another one too.
    if (change === 'renamed' && from !== undefined) add(parentOf(from))
    if (change === 'renamed' && after?.kind === 'directory') whole.add(path)
  }
  return { paths, whole }
}

/** A filesystem of which only what changed is shown, with a file of deleted names beside it. */
const changedOnly = (
  root: XattrFileSystem,
  { paths, whole }: Selection,
  own: { readonly directory: string; readonly content: Uint8Array },
): XattrFileSystem => {
  const file = pathBelow(own.directory, DELETED)
  const made = (kind: 'directory' | 'file', size: number): Stat => ({
    kind,
    inode: 0,
    mode: kind === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    size,
    mtime: 0,
    mtimeNanoseconds: 0,
    linkCount: 1,
  })
  const ownEntry = (name: string, kind: Entry['kind']): Entry => ({ name, kind, inode: 0 })
  const isWhole = (path: string): boolean => {
    for (let at = path; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) if (whole.has(at)) return true
    return false
  }
  const isOwn = (path: string): boolean => path === own.directory || path === file
  return {
    name: root.name,
    type: root.type,
    label: root.label,
    uuid: root.uuid,
    async stat(path) {
      if (path === own.directory) return made('directory', 0)
      if (path === file) return made('file', own.content.length)
      return root.stat(path)
    },
    async list(path) {
      if (path === own.directory) return [ownEntry(DELETED, 'file')]
      const entries = await root.list(path)
      const shown = isWhole(path) ? entries : entries.filter(({ name }) => paths.has(pathBelow(path, name)))
      return path === '/' ? [...shown, ownEntry(own.directory.slice(1), 'directory')] : shown
    },
    readLink: path => root.readLink(path),
    open: async path => (path === file ? memory(own.content, file) : root.open(path)),
    xattrs: async path => (isOwn(path) ? [] : root.xattrs(path)),
    close: async () => {},
  }
}

const freeName = async (root: XattrFileSystem): Promise<string> => {
  const taken = new Set((await root.list('/')).map(({ name }) => name))
  let name = OWN_DIRECTORY
  for (let number = 2; taken.has(name); number++) name = `${OWN_DIRECTORY}-${number}`
  return `/${name}`
}

const isThere = (output: string): LiveError =>
  new LiveError('REFUSED', `${output} is there already: choose another name, or remove it first`, {
    path: resolve(output),
  })

/** Says so before the work, not after it. @throws REFUSED  the file is there already */
export const refuseExisting = async (output: string): Promise<void> => {
  if (await lstat(output).catch(() => undefined)) throw isThere(output)
}

const syncDirectory = async (path: string): Promise<void> => {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } catch {
    // some filesystems have nothing to flush of a directory
  } finally {
    await handle.close()
  }
}

/**
 * Writes what changed to a new tar archive: everything that was added or is otherwise than in the base, whole, the
 * directories on the way to it, and the member `.liveos/deleted`: names without a leading slash, each ended by NUL, to be
 * removed with all below them before the rest is unpacked over the base. A run that fails leaves no file.
 *
 * @throws REFUSED  the file is there already; READ_ONLY, NO_SPACE, IO, CANCELLED
 */
export const writeArchive = async (
  root: XattrFileSystem,
  changes: readonly Change[],
  output: string,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<{ readonly outcome: ArchiveOutcome; readonly findings: readonly Finding[] }> => {
  const path = resolve(output)
  const names = deletedNames(changes)
  const content = Buffer.concat(names.flatMap(name => [encodeName(splitPath(name).join('/')), Buffer.of(0)]))
  const directory = await freeName(root)
  const handle = await open(path, 'wx').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') throw isThere(output)
    throw systemError(error, `making ${output}`)
  })
  const to = createWriteStream(path, { fd: handle.fd, autoClose: false })
  try {
    const from = changedOnly(root, select(changes), { directory, content })
    const copying = copyTree({ from, paths: ['/'], to: { tar: to } }, { signal })
    let step = await copying.next()
    for (; !step.done; step = await copying.next()) report(step.value)
    const { findings, files, directories, symlinks, hardLinks, special, bytes } = step.value
    to.end()
    await finished(to)
    await handle.sync()
    await handle.close()
    await syncDirectory(dirname(path))
    const members = files + directories + symlinks + hardLinks + special
    return {
      outcome: { path, members, bytes, deletions: `.${directory}/${DELETED}`, deleted: names.length },
      findings,
    }
  } catch (error) {
    to.destroy()
    await handle.close().catch(() => undefined)
    await rm(path, { force: true }).catch(() => undefined)
    throw systemError(error, `writing ${output}`)
  }
}
