import { createHash } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { openFile } from '../block/file.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Folder, factsOf } from '../host/folder.js'
import { attachedLoop } from '../host/loops.js'
import { marked, pathWord, readAs } from '../liveos/advice.js'
import { withoutLinks } from '../liveos/overlay-place.js'
import {
  findBaseName,
  findTarget,
  hostFile,
  NEW_SUFFIX,
  OLD_SUFFIX,
  type TargetFile,
  type TargetInput,
  type WritableTarget,
} from '../liveos/target.js'
import { type OpenBackup, openBackup } from './backup-archive.js'
import { type BackupManifest, CHANGES, encodeManifest, type PartKind } from './backup-manifest.js'
import { checkNotInUse, checkWritable, type FileIdentity, identityOf } from './identity.js'
import { mediumNameOf } from './restore-identity.js'
import { bootPlaces, homePlace, imageOf, overlayPlace, type Placed } from './restore-place.js'
import { checkNotRestoring, RESTORE_STATE, type RestoreState, readRestoreState } from './restore-state.js'
import { checkNothingUnfinished, undoEnds } from './unfinished.js'

/** What is put back. */
export interface RestoreOptions {
  /** all that the backup has if left out */
  readonly only?: readonly ('boot' | 'home' | 'overlay')[] | undefined
}

/** A file that will be put back. */
export interface PlannedFile {
  readonly kind: PartKind
  /** member of the backup */
  readonly from: string
  /** absolute */
  readonly path: string
  /** bytes */
  readonly size: number
  /** SHA-256 over all of it as it is written, hex */
  readonly sha256: string
  /** places at which the name of the medium is changed in it */
  readonly places: number
  /** holes may stay holes */
  readonly sparse: boolean
  /** the file that has its name now */
  readonly replaces: FileIdentity | null
}

/** What a restore will do. Sizes are bytes. */
export interface RestorePlan {
  readonly verb: 'restore'
  readonly target: string
  readonly options: RestoreOptions
  readonly archive: FileIdentity | null
  /** when and of what it was made; null where a restore that was cut short is only finished */
  readonly backup: Pick<BackupManifest, 'created' | 'medium'> | null
  /** SHA-256 over what the backup says of itself, hex */
  readonly mark: string
  /** what a run that was cut short left, and what happens to it */
  readonly resume: { readonly step: string; readonly does: 'go on' | 'start again' | 'finish' } | null
  /** in the order in which they get their names */
  readonly files: readonly PlannedFile[]
  /** on the stick already as the backup has them */
  readonly unchanged: readonly string[]
  readonly lost: readonly string[]
  /** for the new files beside the old ones; of several filesystems the one with the least to spare */
  readonly space: { readonly neededBytes: number; readonly freeBytes: number } | null
  /** from when to when a file has no name; null where each always has one */
  readonly noName: string | null
  readonly estimatedSeconds: number
  readonly steps: readonly string[]
  readonly findings: readonly Finding[]
}

/** Room for the state file and directory blocks. */
const MARGIN = 1 << 20
/** bytes a second of a slow stick */
const SPEED = 10e6

/** Where the step file of a restore stands. @throws NOT_FOUND, USAGE */
export const findRestore = async (input: TargetInput): Promise<Folder> => (await findBaseName(input)).folder

/**
 * Plans to put a backup back, on the stick that it is of or on another one with the same base. After a restore that was cut
 * short, plans to go on with it.
 *
 * @throws NOT_FOUND, USAGE, UNSUPPORTED, CORRUPT, READ_ONLY, NO_SPACE, IO
 * @throws REFUSED  in use, another verb was cut short, or the overlay belongs to another base
 */
export const planRestore = async (
  input: TargetInput,
  file: string,
  options: RestoreOptions = {},
): Promise<RestorePlan> => {
  const home = await findRestore(input)
  const state = await readRestoreState(home)
  if (state !== undefined && state !== 'unreadable') {
    await checkNotRestoring(state.owner, home.path)
    await checkState(input, home, state)
    if (state.step !== 'writing') return planFinish(input, options, home, state)
  }
  const target = await findTarget(input)
  await checkFree(target)
  const archive = await hostFile(file, 'backup')
  const device = await openFile(archive.path)
  try {
    const backup = await openBackup(device)
    return await planFresh(target, archive, backup, options, home, state)
  } finally {
    await device.close()
  }
}

/** @throws REFUSED  in use, or another verb was cut short; READ_ONLY */
export const checkFree = async (target: WritableTarget): Promise<void> => {
  await checkNothingUnfinished(target, { restore: true })
  await checkNotInUse(target)
  await checkWritable(target)
  const loop = target.home && (await attachedLoop(target.home.path))
  if (loop)
    throw new LiveError(
      'REFUSED',
      `the home image ${target.home?.path} is attached to ${loop.name}: unmount what uses it and run 'losetup -d ${loop.name}' first`,
      { path: target.home?.path ?? '', loop: loop.name },
    )
}

/**
 * Checks what the stick says of a restore that was cut short, before files are renamed by it: they lie on this stick, and nobody
 * uses them.
 *
 * @throws REFUSED, READ_ONLY
 */
export const checkState = async (input: TargetInput, home: Folder, { files }: RestoreState): Promise<void> => {
  const target = await findTarget({ ...input, overlay: undefined, baseOnly: true })
  await checkNotInUse(target)
  await checkWritable(target)
  const root = `${await realpath(dirname(home.path))}${sep}`
  const elsewhere = input.overlay === undefined ? undefined : dirname(await withoutLinks(resolve(input.overlay)))
  for (const { folder, name } of files) {
    const path = join(home.path, folder)
    const real = await realpath(path).catch(() => undefined)
    if (real === undefined || !(`${real}${sep}`.startsWith(root) || path === elsewhere))
      throw new LiveError(
        'REFUSED',
        `${RESTORE_STATE} in ${home.path} speaks of ${join(path, name)}, which is not on this stick${elsewhere === undefined ? ': name the overlay with --overlay as the restore did that was cut short' : ''}`,
        { path: home.path },
      )
    for (const end of ['', OLD_SUFFIX, NEW_SUFFIX]) {
      const loop = await attachedLoop(join(path, name + end))
      if (loop)
        throw new LiveError(
          'REFUSED',
          `${join(path, name + end)} is attached to ${loop.name}: unmount what uses it and run 'losetup -d ${loop.name}' first`,
          { path: join(path, name + end), loop: loop.name },
        )
    }
  }
}

const planFinish = (input: TargetInput, options: RestoreOptions, home: Folder, state: RestoreState): RestorePlan => {
  const paths = state.files.map(({ folder, name }) => join(home.path, folder, name))
  return {
    verb: 'restore',
    target: input.target ?? input.base ?? home.path,
    options,
    archive: null,
    backup: null,
    mark: state.archive.mark,
    resume: { step: state.step, does: 'finish' },
    files: [],
    unchanged: [],
    lost: [],
    space: null,
    noName: 'until each file has its name',
    estimatedSeconds: 5,
    steps: [
      `give the verified new files their names, where they have not got them yet: ${paths.join(', ')}`,
      'remove the old ones',
    ],
    findings: [
      {
        code: 'RESTORE_INTERRUPTED',
        severity: 'warning',
        where: home.path,
        message: `a restore of ${state.archive.path} was cut short after its files had been verified`,
        remedy: 'this run finishes it, and needs no backup for that',
      },
    ],
  }
}

/** The mark of a backup: what it says of itself has the checksums of all its parts. */
export const markOfBackup = (manifest: BackupManifest): string =>
  createHash('sha256').update(encodeManifest(manifest)).digest('hex')

const planFresh = async (
  target: WritableTarget,
  archive: TargetFile,
  backup: OpenBackup,
  options: RestoreOptions,
  home: Folder,
  left: RestoreState | 'unreadable' | undefined,
): Promise<RestorePlan> => {
  const { manifest } = backup
  const mark = markOfBackup(manifest)
  const findings: Finding[] = []
  const wanted = manifest.parts.filter(({ kind }) => !options.only || options.only.some(only => only === kind))
  const placed: Placed[] = []
  const name = await mediumNameOf(target)
  for (const part of wanted)
    if (part.kind === 'home' || part.kind === 'overlay') {
      const place =
        part.kind === 'home' ? homePlace(target, findings) : await overlayPlace(target, part, manifest, name, findings)
      if (place) placed.push({ ...(await imageOf(part, backup)), ...place })
    }
  const { overlay } = target
  if (
    overlay &&
    placed.some(
      ({ kind, folder, name: as }) => kind === 'overlay' && folder.path === overlay.folder.path && as === overlay.name,
    )
  )
    findings.push(...(await undoEnds(target)))
  const unchanged: string[] = []
  const boot = wanted.filter(({ kind }) => kind === 'boot')
  if (boot.length > 0 && target.stick)
    placed.push(...(await bootPlaces(target, boot, backup, name, unchanged, findings)))
  if (wanted.some(({ kind }) => kind === 'changes'))
    findings.push({
      code: 'CHANGES_NOT_RESTORED',
      severity: 'warning',
      where: archive.path,
      message: 'this backup holds the files that differ from the base, and no overlay; they are not put back',
      remedy: `run ${marked(`liveos mount ${readAs(target)} DIR --persist`)}, then ${marked(`liveos restore ${pathWord(archive.path)} --root DIR`)}; or start the system and name / there. Without any of that ${marked(unpackChanges(archive.path))} gives the files into a directory here, and .liveos/deleted among them names what was removed`,
    })
  if (placed.length === 0 && unchanged.length === 0 && !wanted.some(({ kind }) => kind === 'changes'))
    throw new LiveError('NOT_FOUND', `${archive.path} has nothing that can be put back on ${target.name}`, {
      path: archive.path,
    })
  const goesOn = isLeft(left, mark, home, placed)
  const own = new Set(
    left && left !== 'unreadable' ? left.files.map(({ folder, name }) => join(home.path, folder, name)) : [],
  )
  const files: PlannedFile[] = []
  for (const { folder, name, takes: _, ...file } of placed) files.push(await plannedFile(folder, name, file, own))
  const space = await planSpace(placed, home, own)
  const replaced = files.flatMap(({ replaces }) => (replaces ? [replaces.path] : []))
  const bytes = placed.reduce((sum, { size }) => sum + size, 0)
  return {
    verb: 'restore',
    target: target.name,
    options,
    archive: identityOf(archive),
    backup: { created: manifest.created, medium: manifest.medium },
    mark,
    resume: left === undefined ? null : { step: 'writing', does: goesOn ? 'go on' : 'start again' },
    files,
    unchanged,
    lost: replaced.map(path => `what ${path} holds now`),
    space,
    noName: placed.some(({ folder }) => !folder.traits.atomicRename)
      ? 'each file for some milliseconds between two renames at the end; a cut just there is mended by running restore again'
      : null,
    estimatedSeconds: Math.ceil((bytes * 2) / SPEED),
    steps: [
      'note what is being done in liveos-restore.state',
      'write each new file beside the old one, flush, read it back and count its checksum',
      'keep the old ones as .old, and give the new ones their names, one after another',
      'remove the old ones',
    ],
    findings,
  }
}

/** A command for a shell that gives the changed files of a backup, by tar and zstd alone. */
const unpackChanges = (path: string): string =>
  `mkdir rescued && tar --zstd -xOf ${pathWord(path)} ${CHANGES} | tar -xpf - -C rescued --xattrs --xattrs-include='*'`

const isLeft = (
  left: RestoreState | 'unreadable' | undefined,
  mark: string,
  home: Folder,
  placed: readonly Placed[],
): boolean => {
  if (left === undefined || left === 'unreadable' || left.archive.mark !== mark) return false
  const files = placed.map(({ folder, name, size, sha256 }) => [relative(home.path, folder.path), name, size, sha256])
  return (
    JSON.stringify(files) ===
    JSON.stringify(left.files.map(({ folder, name, size, sha256 }) => [folder, name, size, sha256]))
  )
}

/** @param own  paths whose `.new` an earlier run of this left. @throws REFUSED, NO_SPACE  the file is too large for FAT */
const plannedFile = async (
  folder: Folder,
  name: string,
  file: Omit<PlannedFile, 'path' | 'replaces'>,
  own: ReadonlySet<string>,
): Promise<PlannedFile> => {
  const path = join(folder.path, name)
  const taken = [name + OLD_SUFFIX, ...(own.has(path) ? [] : [name + NEW_SUFFIX])]
  for (const other of taken)
    if (await folder.facts(other))
      throw new LiveError(
        'REFUSED',
        `${other} is there in ${folder.path} and no restore of ours left it: remove it or give it another name first`,
        { path: join(folder.path, other) },
      )
  if (!(await folder.isWritable()))
    throw new LiveError('READ_ONLY', `you may not write in ${folder.path}: run this as its owner or as root`, {
      path: folder.path,
    })
  if (file.size > folder.traits.maxFileSize)
    throw new LiveError(
      'NO_SPACE',
      `${path} has ${file.size} bytes, and no file on that filesystem has more than ${folder.traits.maxFileSize}`,
      {
        neededBytes: file.size,
        freeBytes: folder.traits.maxFileSize,
      },
    )
  const facts = await folder.facts(name)
  if (facts && facts.kind !== 'file')
    throw new LiveError('REFUSED', `${path} is no file, and stands where one is to be put back`, { path })
  return { ...file, path, replaces: facts ? identityOf({ folder, name, path, facts }) : null }
}

/** @throws NO_SPACE */
const planSpace = async (
  placed: readonly Placed[],
  home: Folder,
  own: ReadonlySet<string>,
): Promise<{ neededBytes: number; freeBytes: number }> => {
  const deviceOf = async (path: string): Promise<number | undefined> => (await factsOf(path))?.device
  const device = await deviceOf(home.path)
  // an overlay may lie on another filesystem than the rest
  const places = [{ folder: home, device, takes: MARGIN }]
  for (const { folder, takes } of placed) places.push({ folder, device: await deviceOf(folder.path), takes })
  let tightest: RestorePlan['space'] = null
  for (const one of new Set(places.map(place => place.device))) {
    const there = places.filter(place => place.device === one)
    const { folder } = there[0]!
    let freeBytes = await folder.freeBytes()
    for (const path of own) {
      const left = await factsOf(path + NEW_SUFFIX)
      if (left && left.device === one) freeBytes += left.allocated
    }
    const neededBytes = there.reduce((sum, { takes }) => sum + takes, 0)
    if (placed.length > 0 && neededBytes > freeBytes)
      throw new LiveError(
        'NO_SPACE',
        `${folder.path} has ${freeBytes} bytes free for what is put back, which takes ${neededBytes} beside the old files until it is verified: free space there, or put one part back after another with --only`,
        { neededBytes, freeBytes },
      )
    if (!tightest || freeBytes - neededBytes < tightest.freeBytes - tightest.neededBytes)
      tightest = { neededBytes, freeBytes }
  }
  return tightest!
}

export { abandonRestore, type RestoreOutcome, runRestore } from './restore-run.js'
