import { createHash } from 'node:crypto'
import { lstat, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Device } from '../block/device.js'
import { openFile } from '../block/file.js'
import { corrupt, LiveError, systemError } from '../error.js'
import type { Finding } from '../finding.js'
import { splitPath, type XattrFileSystem } from '../fs/filesystem.js'
import { decodeName, encodeName, printableName } from '../fs/name.js'
import { factsOf } from '../host/folder.js'
import { hostFile } from '../liveos/target.js'
import { openBackup } from './backup-archive.js'
import type { BackupManifest, BackupPart } from './backup-manifest.js'
import { eachPiece } from './backup-write.js'
import { copyTree } from './copy-tree.js'
import { checkUnchanged, type FileIdentity, identityOf, outdated } from './identity.js'
import { type Progress, progressing } from './progress.js'
import { markOfBackup } from './restore.js'
import { openTarTree } from './restore-tree.js'

/** What putting changed files back will do. Sizes are bytes. */
export interface RestoreChangesPlan {
  readonly verb: 'restore'
  /** the directory that the root filesystem is mounted on */
  readonly root: string
  readonly archive: FileIdentity
  readonly backup: Pick<BackupManifest, 'created' | 'medium'>
  /** SHA-256 over what the backup says of itself, hex */
  readonly mark: string
  /** of the archive of changed files */
  readonly bytes: number
  /** names that are removed, each with all below it, before the rest is put back */
  readonly removed: readonly string[]
  readonly steps: readonly string[]
  readonly findings: readonly Finding[]
}

/** What putting changed files back came to. */
export interface RestoreChangesOutcome {
  readonly verb: 'restore'
  readonly root: string
  readonly files: number
  readonly directories: number
  readonly links: number
  /** names that were there and are removed */
  readonly removed: number
  /** bytes of files */
  readonly bytes: number
  readonly findings: readonly Finding[]
}

const MAX_LIST = 64 << 20
/** The directory of the archive that is no part of the root, see `writeArchive`. */
const OWN = /^\.liveos(-\d+)?$/

/** The changed files of a backup. */
interface Changes {
  readonly manifest: BackupManifest
  readonly part: BackupPart
  /** the archive in the backup */
  readonly tar: Device
  /** without the directory that is no part of the root */
  readonly fs: XattrFileSystem
  /** names from the root, without a slash at their begin */
  readonly removed: readonly string[]
}

/** The directory that holds the list, told from one of that name in the root by what is in it; of several the last. */
const ownDirectory = async (fs: XattrFileSystem): Promise<string | undefined> => {
  const found: string[] = []
  for (const { name, kind } of await fs.list('/')) {
    if (kind !== 'directory' || !OWN.test(name) || (await fs.stat(`/${name}`)).mtime !== 0) continue
    const [only, ...more] = await fs.list(`/${name}`)
    if (only?.name === 'deleted' && only.kind === 'file' && more.length === 0) found.push(name)
  }
  const number = (name: string): number => Number(name.split('-')[1] ?? 1)
  return found.sort((a, b) => number(a) - number(b)).at(-1)
}

const openChanges = async (device: Device): Promise<Changes> => {
  const { manifest, open } = await openBackup(device)
  const part = manifest.parts.find(({ kind }) => kind === 'changes')
  if (!part)
    throw new LiveError(
      'USAGE',
      `${device.name} was not made with --changed-only, so it holds no single files: restore it on a stick`,
      { path: device.name },
    )
  const tar = open(part)
  const fs = await openTarTree(tar)
  const own = await ownDirectory(fs)
  const list = own === undefined ? undefined : await fs.open(`/${own}/deleted`)
  if (list && list.size > MAX_LIST)
    throw corrupt({
      device: tar.name,
      offset: 0,
      field: 'size of the list of deleted names',
      expected: MAX_LIST,
      found: list.size,
    })
  const bytes = list ? Buffer.from(await list.read(0, list.size)) : Buffer.alloc(0)
  const removed: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0, at)
    const name = decodeName(bytes.subarray(at, end < 0 ? bytes.length : end))
    const names = splitPath(name)
    if (end < 0 || names.length === 0 || names.includes('..'))
      throw corrupt({
        device: tar.name,
        offset: at,
        field: 'deleted name',
        expected: 'a path below the root, ended by NUL',
        found: printableName(name),
      })
    removed.push(names.join('/'))
    at = end + 1
  }
  const shown: XattrFileSystem = {
    ...fs,
    list: async path => (await fs.list(path)).filter(({ name }) => splitPath(path).length > 0 || name !== own),
  }
  return { manifest, part, tar, fs: shown, removed }
}

/**
 * Plans to put the changed files of a backup back below a directory, such as the root filesystem that `liveos mount --persist`
 * shows, or `/` of a started system.
 *
 * @throws NOT_FOUND, USAGE  no such directory, or a backup without single files; CORRUPT, UNSUPPORTED, IO
 */
export const planRestoreChanges = async (file: string, root: string): Promise<RestoreChangesPlan> => {
  if ((await factsOf(root))?.kind !== 'directory')
    throw new LiveError('NOT_FOUND', `there is no directory ${root}: mount the root filesystem there first`, {
      path: root,
    })
  const full = await realpath(root)
  const archive = await hostFile(file, 'backup')
  const device = await openFile(archive.path)
  try {
    const { manifest, part, removed } = await openChanges(device)
    return {
      verb: 'restore',
      root: full,
      archive: identityOf(archive),
      backup: { created: manifest.created, medium: manifest.medium },
      mark: markOfBackup(manifest),
      bytes: part.size,
      removed,
      steps: [
        ...(removed.length > 0 ? [`remove ${removed.length} names that were removed there too`] : []),
        'put every file back: what may replace another is written under another name and gets its own when it is whole',
        'flush',
      ],
      findings: [],
    }
  } finally {
    await device.close()
  }
}

/** Removes a path below a directory with all below it, where directories alone lead to it. A link on the way leads elsewhere. */
const removeBelow = async (root: string, path: string): Promise<boolean> => {
  const names = splitPath(path)
  let at = Buffer.from(root === '/' ? '' : root)
  for (const [n, name] of names.entries()) {
    at = Buffer.concat([at, Buffer.from('/'), encodeName(name)])
    const stats = await lstat(at).catch(() => undefined)
    if (!stats || (n < names.length - 1 && !stats.isDirectory())) return false
  }
  try {
    // of a name that is no text, only what is no directory can be removed: rm takes no bytes for what is below
    await rm(path.isWellFormed() ? join(root, path) : at, { recursive: path.isWellFormed() })
    return true
  } catch (error) {
    throw systemError(error, `removing ${printableName(path)}`)
  }
}

/**
 * Puts changed files back. A run that was cut short is gone on with by running it again: it does the same once more.
 *
 * @throws REFUSED  the backup has changed since the plan was made; READ_ONLY, NO_SPACE, IO, CANCELLED
 */
export async function* runRestoreChanges(
  plan: RestoreChangesPlan,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Progress, RestoreChangesOutcome> {
  return yield* progressing(async report => {
    const archive = await hostFile(plan.archive.path, 'backup')
    await checkUnchanged([{ file: archive, planned: plan.archive }])
    const device = await openFile(archive.path)
    try {
      const { manifest, part, tar, fs, removed } = await openChanges(device)
      if (markOfBackup(manifest) !== plan.mark) throw outdated(archive.path)
      const hash = createHash('sha256')
      await eachPiece(tar, 'the backup was being verified', signal, (bytes, offset) => {
        hash.update(bytes)
        report({ phase: 'verify', doneBytes: offset + bytes.length, totalBytes: tar.size })
      })
      const found = hash.digest('hex')
      if (found !== part.sha256)
        throw corrupt({ device: tar.name, offset: 0, field: 'SHA-256', expected: part.sha256, found })
      let gone = 0
      for (const path of removed) {
        if (signal?.aborted)
          throw new LiveError('CANCELLED', 'stopped while names were being removed; run it again to go on')
        if (await removeBelow(plan.root, path)) gone++
      }
      const running = copyTree(
        { from: fs, paths: [{ path: '/', as: '' }], to: { directory: plan.root } },
        { overwrite: true, sameOwner: process.getuid?.() === 0, setUid: true, xattrs: true, signal },
      )
      let step = await running.next()
      for (; !step.done; step = await running.next()) report(step.value)
      const { files, directories, symlinks, hardLinks, bytes, findings } = step.value
      return {
        verb: 'restore',
        root: plan.root,
        files,
        directories,
        links: symlinks + hardLinks,
        removed: gone,
        bytes,
        findings,
      }
    } finally {
      await device.close()
    }
  })
}
