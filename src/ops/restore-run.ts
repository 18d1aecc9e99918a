import { basename, dirname, join, relative } from 'node:path'
import type { Device } from '../block/device.js'
import { openFile } from '../block/file.js'
import { memory } from '../block/memory.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Folder, openFolder } from '../host/folder.js'
import { findTarget, hostFile, NEW_SUFFIX, OLD_SUFFIX, type TargetInput } from '../liveos/target.js'
import { type OpenBackup, openBackup } from './backup-archive.js'
import { checkUnchanged, outdated } from './identity.js'
import { type Progress, progressing, type Report } from './progress.js'
import { thisOwner } from './refresh-owner.js'
import type { RunOptions } from './refresh-run.js'
import { removeFile } from './replaced-file.js'
import { checkFree, checkState, findRestore, markOfBackup, type PlannedFile, type RestorePlan } from './restore.js'
import { rewrittenBoot } from './restore-boot.js'
import { type MediumName, mediumNameOf } from './restore-identity.js'
import {
  checkNotRestoring,
  createRestoreState,
  type RestoreState,
  readRestoreState,
  recordRestoreStep,
  removeRestoreState,
} from './restore-state.js'
import { type SwapFile, swapAll } from './restore-swap.js'
import { type NewFile, writeNew } from './restore-write.js'
import { dropUndo, outcomeFindings } from './unfinished.js'

/** What a restore came to. Sizes are bytes. */
export interface RestoreOutcome {
  readonly verb: 'restore'
  readonly target: string
  /** what was put back */
  readonly files: readonly string[]
  readonly bytes: number
  /** on the stick already as the backup has them */
  readonly unchanged: readonly string[]
  /** how all checksums were counted before anything was replaced; null where an earlier run did */
  readonly readBack: 'medium' | 'page cache' | null
  /** a run that was cut short was finished, and nothing else was done */
  readonly finished: boolean
  readonly findings: readonly Finding[]
}

/** A restore at work. */
interface Work {
  readonly home: Folder
  /** one Folder for each path */
  readonly folderAt: (path: string) => Promise<Folder>
  readonly report: Report
  readonly signal: AbortSignal | undefined
}

/**
 * Runs a restore as planned. Ordered steps and the state after each; every one is flushed before the next:
 *
 * 1. state `writing`; each new file beside the old one, flushed, read back, its checksum counted     the stick as it was
 * 2. for each file: state `aside`, the old one as `.old` · state `naming`, the new one by its name   the old or the new file
 * 3. state `clearing`; the old ones removed, and the state                                           the new files
 *
 * A run after one that was cut in 1 writes only what is not there yet; after 2 began, no backup is needed to finish.
 *
 * @throws REFUSED, CORRUPT, IO, NO_SPACE  before step 2 the stick is as it was
 * @throws CANCELLED  in step 1 too, and what was written stays for the next run
 */
export async function* runRestore(
  input: TargetInput,
  file: string,
  plan: RestorePlan,
  { signal, wrapFolder = folder => folder }: RunOptions = {},
): AsyncGenerator<Progress, RestoreOutcome> {
  return yield* progressing(async report => {
    const known = new Map<string, Folder>()
    const folderAt = async (path: string): Promise<Folder> => {
      const folder = known.get(path) ?? wrapFolder(await openFolder(path))
      known.set(path, folder)
      return folder
    }
    const home = await folderAt((await findRestore(input)).path)
    const state = await readRestoreState(home)
    if (state !== undefined && state !== 'unreadable') {
      await checkNotRestoring(state.owner, home.path)
      await checkState(input, home, state)
    }
    const isPastWriting = state !== undefined && state !== 'unreadable' && state.step !== 'writing'
    if (isPastWriting !== (plan.resume?.does === 'finish') || (state !== undefined) !== (plan.resume !== null))
      throw outdated(plan.target)
    const work: Work = { home, folderAt, report, signal }
    if (isPastWriting) return finish(work, plan, state)
    return putBack(work, input, file, plan, state)
  })
}

const finish = async (work: Work, plan: RestorePlan, state: RestoreState): Promise<RestoreOutcome> => {
  const { home, folderAt } = work
  const files: (SwapFile & { path: string })[] = []
  for (const { folder, name, size } of state.files)
    files.push({ folder: await folderAt(join(home.path, folder)), name, size, path: join(home.path, folder, name) })
  // a run that was killed may have left its last step in the page cache only
  for (const folder of new Set([home, ...files.map(({ folder }) => folder)])) await folder.sync()
  const owned = { ...state, owner: await thisOwner() }
  await recordRestoreStep(home, owned)
  await swapAll(home, files, owned)
  return {
    verb: 'restore',
    target: plan.target,
    files: files.map(({ path }) => path),
    bytes: files.reduce((sum, { size }) => sum + size, 0),
    unchanged: [],
    readBack: null,
    finished: true,
    findings: plan.findings.map(finding => ({ ...finding, severity: 'note' })),
  }
}

/** @throws REFUSED  a file is not the one that the plan was made for */
const checkReplaced = async (files: readonly PlannedFile[], folderAt: Work['folderAt']): Promise<void> => {
  for (const { path, replaces } of files) {
    const folder = await folderAt(dirname(path))
    const name = basename(path)
    const facts = await folder.facts(name)
    if (replaces && facts) await checkUnchanged([{ file: { folder, name, path, facts }, planned: replaces }])
    else if (replaces || facts) throw outdated(path)
  }
}

/** @throws REFUSED  somebody left files where the restore wants to write. @param goesOn  those to be written are its own */
const checkNames = async (
  files: readonly PlannedFile[],
  folderAt: Work['folderAt'],
  goesOn: boolean,
): Promise<void> => {
  for (const { path } of files) {
    const folder = await folderAt(dirname(path))
    for (const end of goesOn ? [OLD_SUFFIX] : [OLD_SUFFIX, NEW_SUFFIX])
      if (await folder.facts(basename(path) + end))
        throw new LiveError('REFUSED', `${path}${end} is there and no restore of ours left it: plan again`, {
          path: path + end,
        })
  }
}

/** Removes what a run left that never came past `writing`. The old files have their names. */
const dropLeft = async ({ home, folderAt }: Work, state: RestoreState | 'unreadable'): Promise<void> => {
  if (state !== 'unreadable')
    for (const { folder, name } of state.files)
      await removeFile(await folderAt(join(home.path, folder)), name + NEW_SUFFIX)
  await removeRestoreState(home)
}

const putBack = async (
  work: Work,
  input: TargetInput,
  file: string,
  plan: RestorePlan,
  left: RestoreState | 'unreadable' | undefined,
): Promise<RestoreOutcome> => {
  const { home, folderAt } = work
  const target = await findTarget(input)
  await checkFree(target)
  await checkReplaced(plan.files, folderAt)
  const archive = await hostFile(file, 'backup')
  if (plan.archive) await checkUnchanged([{ file: archive, planned: plan.archive }])
  const device = await openFile(archive.path)
  try {
    const backup = await openBackup(device)
    if (markOfBackup(backup.manifest) !== plan.mark) throw outdated(file)
    const goesOn = plan.resume?.does === 'go on' && left !== undefined && left !== 'unreadable'
    if (left !== undefined && !goesOn) await dropLeft(work, left)
    await checkNames(plan.files, folderAt, goesOn)
    const outcome = {
      verb: 'restore' as const,
      target: plan.target,
      files: plan.files.map(({ path }) => path),
      bytes: plan.files.reduce((sum, { size }) => sum + size, 0),
      unchanged: plan.unchanged,
      finished: false,
    }
    if (plan.files.length === 0) return { ...outcome, readBack: null, findings: plan.findings }
    const state: RestoreState = {
      step: 'writing',
      index: 0,
      owner: await thisOwner(),
      archive: { path: archive.path, mark: plan.mark },
      files: plan.files.map(({ path, size, sha256 }) => ({
        folder: relative(home.path, dirname(path)),
        name: basename(path),
        size,
        sha256,
      })),
    }
    if (goesOn) await recordRestoreStep(home, state)
    else await createRestoreState(home, state)
    const name = await mediumNameOf(target)
    const sources: Device[] = []
    for (const planned of plan.files) sources.push(await sourceOf(planned, backup, name))
    const written = await writeAll(work, plan.files, sources, state)
    const swap: SwapFile[] = []
    for (const { path, size } of plan.files)
      swap.push({ folder: await folderAt(dirname(path)), name: basename(path), size })
    try {
      for (const { path, kind } of plan.files)
        if (kind === 'overlay') await dropUndo(await folderAt(dirname(path)), basename(path))
      await recordRestoreStep(home, { ...state, step: 'aside' })
      await swapAll(home, swap, { ...state, step: 'aside' })
    } catch (error) {
      throw tellState(error, 'run the same restore again to finish')
    }
    return {
      ...outcome,
      readBack: written.readBack,
      findings: [...outcomeFindings(plan.findings), ...written.findings],
    }
  } finally {
    await device.close()
  }
}

/** What goes into each file: a part of the backup, a boot configuration with the name of this stick in it. */
const sourceOf = async (
  { from, kind, places }: PlannedFile,
  { manifest, open }: OpenBackup,
  name: MediumName,
): Promise<Device> => {
  const source = open(manifest.parts.find(({ path }) => path === from)!)
  if (kind !== 'boot' || places === 0) return source
  return memory(rewrittenBoot(await source.read(0, source.size), manifest.medium, name).bytes, source.name)
}

const writeAll = async (
  work: Work,
  files: readonly PlannedFile[],
  sources: readonly Device[],
  state: RestoreState,
): Promise<{ readBack: 'medium' | 'page cache'; findings: readonly Finding[] }> => {
  const { folderAt, report, signal } = work
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0)
  const done = { write: 0, verify: 0 }
  const findings: Finding[] = []
  let readBack: 'medium' | 'page cache' = 'medium'
  try {
    for (const [n, planned] of files.entries()) {
      const { path, size, sha256, sparse, replaces } = planned
      const file: NewFile = { folder: await folderAt(dirname(path)), name: basename(path), size, sha256, sparse }
      const onBytes = (phase: 'write' | 'verify', bytes: number): void => {
        done[phase] += bytes
        report({ phase, doneBytes: done[phase], totalBytes })
      }
      const written = await writeNew(file, sources[n]!, replaces?.path, onBytes, signal)
      findings.push(...written.findings)
      if (written.readBack === 'page cache') readBack = 'page cache'
    }
    await checkReplaced(files, folderAt)
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped before the new files took the place of the old ones')
    return { readBack, findings }
  } catch (error) {
    if (isLiveError(error) && error.code === 'CANCELLED')
      throw tellState(error, 'the stick is as it was; the same restore goes on with what is written')
    await dropLeft(work, state).catch(() => undefined)
    throw tellState(error, 'the stick is as it was')
  }
}

/** The same error with a sentence on the state of the stick. */
const tellState = (error: unknown, state: string): unknown =>
  isLiveError(error)
    ? new LiveError(error.code, `${error.message} (${state})`, { ...error.data, state }, error.cause)
    : error

/**
 * Gives up a restore that was cut short before anything was replaced: what it wrote is removed.
 *
 * @throws NOT_FOUND  there is none; REFUSED  it came further, and has to be finished
 */
export const abandonRestore = async (input: TargetInput): Promise<readonly string[]> => {
  const home = await findRestore(input)
  const state = await readRestoreState(home)
  if (state === undefined)
    throw new LiveError('NOT_FOUND', `no restore was cut short in ${home.path}`, { path: home.path })
  if (state !== 'unreadable') {
    await checkNotRestoring(state.owner, home.path)
    await checkState(input, home, state)
    if (state.step !== 'writing')
      throw new LiveError(
        'REFUSED',
        `the restore in ${home.path} was already replacing files when it was cut short, and can only be finished: run it again without --abandon`,
        { path: home.path },
      )
  }
  const work = { home, folderAt: openFolder, report: () => {}, signal: undefined }
  await dropLeft(work, state)
  return state === 'unreadable' ? [] : state.files.map(({ folder, name }) => join(home.path, folder, name + NEW_SUFFIX))
}
