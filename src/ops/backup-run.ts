import { basename, dirname, join } from 'node:path'
import type { Device } from '../block/device.js'
import { type GrowingFile, openFile } from '../block/file.js'
import { slice } from '../block/linear.js'
import { memory } from '../block/memory.js'
import { readTar } from '../bytes/tar-reader.js'
import { corrupt, isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { decodeName } from '../fs/name.js'
import { type Folder, factsOf, isHostFolder, openFolder } from '../host/folder.js'
import { openTemporary } from '../host/temporary.js'
import { openTarget } from '../liveos/open-target.js'
import type { Target, TargetInput } from '../liveos/target.js'
import { type BackupPlan, checkOutput, kindsOf, PART_SUFFIX } from './backup.js'
import { openZstd } from './backup-archive.js'
import {
  type BackupManifest,
  type BackupPart,
  CHANGES,
  CHECKSUMS,
  encodeChecksums,
  encodeManifest,
  MANIFEST,
  readManifest,
} from './backup-manifest.js'
import { findParts, type SourcePart } from './backup-parts.js'
import {
  archiveOf,
  findWritten,
  type Member,
  type Scanned,
  scanPart,
  verifyBackup,
  type Written,
  writeFrames,
} from './backup-write.js'
import { runDiff } from './diff.js'
import { checkNotInUse, outdated } from './identity.js'
import { type Progress, progressing, type Report } from './progress.js'
import type { RunOptions } from './refresh-run.js'
import { isSameImage, markOf } from './refresh-state.js'
import { removeFile } from './replaced-file.js'
import { mediumNameOf } from './restore-identity.js'
import { checkNothingUnfinished } from './unfinished.js'

/** What a backup came to. Sizes are bytes. */
export interface BackupOutcome {
  readonly verb: 'backup'
  readonly output: string
  /** of the file */
  readonly size: number
  readonly parts: readonly BackupPart[]
  /** taken over from a run that was cut short */
  readonly resumedBytes: number
  /** all checksums were counted anew from what was read back */
  readonly readBack: 'medium' | 'page cache'
  readonly findings: readonly Finding[]
}

/**
 * Writes a backup as planned. Ordered steps and the state after each:
 *
 * 1. every part read once, for its checksum and its zeros                              nothing is written
 * 2. `FILE.part` written in frames, each few with a checkpoint behind them, flushed    a part that a second run goes on with
 * 3. read back, every checksum counted anew                                            the same
 * 4. renamed to FILE                                                                   FILE, whole and verified
 *
 * What a cut leaves of 2 is kept as far as the last checkpoint whose checksum is right, if it is of the very same parts.
 *
 * @throws REFUSED  the stick has changed since the plan was made, or while it was read
 * @throws NO_SPACE, IO, CANCELLED  `FILE.part` stays, and a second run goes on with it
 */
export async function* runBackup(
  input: TargetInput,
  plan: BackupPlan,
  { signal, wrapFolder = folder => folder }: RunOptions = {},
): AsyncGenerator<Progress, BackupOutcome> {
  return yield* progressing(async report => {
    await checkOutput(plan.output)
    const { target, close } = await openTarget(input, signal)
    try {
      await checkNothingUnfinished(target)
      if (isHostFolder(target.base.folder)) await checkNotInUse(target)
      const found = await findParts(target, input, kindsOf(plan.options))
      try {
        await checkPlanned(target, plan, found.parts)
        return await keep({ target, input, plan, report, signal }, found.parts, wrapFolder)
      } finally {
        await found.close()
      }
    } finally {
      await close()
    }
  })
}

/** A backup at work. */
interface Work {
  readonly target: Target
  readonly input: TargetInput
  readonly plan: BackupPlan
  readonly report: Report
  readonly signal: AbortSignal | undefined
}

/** @throws REFUSED  the stick is not as it was planned for */
const checkPlanned = async (target: Target, plan: BackupPlan, found: readonly SourcePart[]): Promise<void> => {
  const base = await target.base.folder.open(target.base.name)
  const mark = await markOf(base).finally(() => base.close())
  const planned = plan.parts.filter(({ kind }) => kind !== 'changes')
  const isSame =
    planned.length === found.length &&
    planned.every(({ path, size, modified }, n) => {
      const now = found[n]!
      return path === now.path && size === now.size && modified === now.modified
    })
  if (!isSame || !isSameImage(mark, plan.base)) throw outdated(plan.target)
}

/** The files that differ from the base, as an archive of their own in a temporary folder. */
const findChanges = async (
  { input, report, signal }: Work,
  folder: string,
): Promise<{ part: SourcePart; findings: readonly Finding[] }> => {
  const path = join(folder, CHANGES)
  const running = runDiff(input, { output: path, signal })
  let step = await running.next()
  for (; !step.done; step = await running.next()) report(step.value)
  const size = (await factsOf(path))?.size ?? 0
  return {
    part: { kind: 'changes', path: CHANGES, size, modified: 0, sparse: false, open: () => openFile(path) },
    findings: step.value.findings,
  }
}

const keep = async (
  work: Work,
  found: readonly SourcePart[],
  wrapFolder: (folder: Folder) => Folder,
): Promise<BackupOutcome> => {
  const { plan, report, signal } = work
  const wantsChanges = plan.parts.some(({ kind }) => kind === 'changes')
  const temporary = wantsChanges ? await openTemporary('backup') : undefined
  const opened: Device[] = []
  try {
    const changes = temporary && (await findChanges(work, temporary.path))
    const sources = changes ? [...found, changes.part] : found
    const totalBytes = sources.reduce((sum, { size }) => sum + size, 0)
    let doneBytes = 0
    const parts: Scanned[] = []
    for (const source of sources) {
      const onBytes = (bytes: number): void => {
        doneBytes += bytes
        report({ phase: 'read', doneBytes, totalBytes })
      }
      parts.push(await scanPart(source, onBytes, signal))
      opened.push(await source.open())
    }
    const folder = wrapFolder(await openFolder(dirname(plan.output)))
    const { manifest, ...rest } = await writePart(folder, work, parts, opened)
    return {
      verb: 'backup',
      output: plan.output,
      parts: manifest.parts,
      ...rest,
      findings: [...plan.findings, ...(changes?.findings ?? [])],
    }
  } finally {
    for (const device of opened) await device.close()
    await temporary?.remove()
  }
}

const manifestOf = async (
  { target, plan }: Work,
  parts: readonly Scanned[],
  created: string,
): Promise<BackupManifest> => ({
  liveos: 'backup',
  version: 1,
  created,
  medium: { type: target.medium.type, ...(await mediumNameOf(target)) },
  liveDir: target.stick?.liveDir ?? null,
  base: plan.base,
  parts: parts.map(({ kind, path, size, sha256, sparse }) => ({ kind, path, size, sha256, sparse })),
})

/** The whole archive as it is before it is compressed. */
const contentOf = (
  manifest: BackupManifest,
  parts: readonly Scanned[],
  devices: readonly Device[],
  name: string,
): Device => {
  const modified = Math.max(0, Math.trunc(Date.parse(manifest.created) / 1000) || 0)
  const members: Member[] = [
    { path: MANIFEST, modified, device: memory(encodeManifest(manifest)) },
    { path: CHECKSUMS, modified, device: memory(encodeChecksums(manifest.parts)) },
    ...parts.map(({ path, modified, data }, n) => ({ path, modified, data, device: devices[n]! })),
  ]
  return archiveOf(members, name)
}

/** What a run before this one left, if it is the begin of the very same archive; it keeps the time at which that was begun. */
const findLeft = async (
  file: GrowingFile,
  fresh: BackupManifest,
): Promise<{ written: Written; manifest: BackupManifest } | undefined> => {
  try {
    const written = await findWritten(file)
    if (written.contentBytes === 0) return undefined
    const content = await openZstd(slice(file, 0, written.fileBytes, file.name))
    const { value: first } = await readTar(content).next()
    if (!first || decodeName(first.path) !== MANIFEST) return undefined
    const { created } = await readManifest(slice(content, first.contentStart, first.size))
    const manifest = { ...fresh, created }
    const expected = encodeManifest(manifest)
    const found = await content.read(first.contentStart, first.size)
    return Buffer.compare(found, expected) === 0 ? { written, manifest } : undefined
  } catch (error) {
    if (!isLiveError(error) || (error.code !== 'CORRUPT' && error.code !== 'UNSUPPORTED')) throw error
    return undefined
  }
}

const writePart = async (
  folder: Folder,
  work: Work,
  parts: readonly Scanned[],
  devices: readonly Device[],
): Promise<{ manifest: BackupManifest; size: number; resumedBytes: number; readBack: BackupOutcome['readBack'] }> => {
  const { plan, report, signal } = work
  const name = basename(plan.output)
  const partName = name + PART_SUFFIX
  const fresh = await manifestOf(work, parts, new Date().toISOString())
  const file = (await folder.facts(partName)) ? await folder.openGrowing(partName) : await folder.create(partName)
  let manifest = fresh
  let resumedBytes = 0
  try {
    const left = await findLeft(file, fresh)
    manifest = left?.manifest ?? fresh
    const written = left?.written ?? { fileBytes: 0, contentBytes: 0 }
    resumedBytes = written.fileBytes
    if (file.size !== written.fileBytes) await file.truncate(written.fileBytes)
    await writeFrames(contentOf(manifest, parts, devices, plan.target), file, written, report, signal)
  } catch (error) {
    throw tellPart(error, plan)
  } finally {
    await file.close()
  }
  await folder.sync()
  const back = await folder.openReadBack(partName)
  let differs: BackupPart | undefined
  try {
    differs = await verifyBackup(back, report, signal)
  } catch (error) {
    throw isLiveError(error) && error.code === 'CORRUPT'
      ? await dropPart(folder, partName, error)
      : tellPart(error, plan)
  } finally {
    await back.close()
  }
  if (differs)
    throw await dropPart(
      folder,
      partName,
      corrupt({
        device: plan.output + PART_SUFFIX,
        offset: 0,
        field: `SHA-256 of ${differs.path} read back`,
        expected: differs.sha256,
        found: 'another: the stick was changed while it was read, or the file is not kept as it was written',
      }),
    )
  await checkOutput(plan.output)
  await folder.rename(partName, name)
  await folder.sync()
  return { manifest, size: back.size, resumedBytes, readBack: back.from }
}

/** What was written is not what it should be, so nothing is to go on with. */
const dropPart = async (folder: Folder, name: string, error: LiveError): Promise<LiveError> => {
  await removeFile(folder, name).catch(() => undefined)
  return error
}

/** The same error with a sentence on what there is. */
const tellPart = (error: unknown, { output }: BackupPlan): unknown =>
  isLiveError(error)
    ? new LiveError(
        error.code,
        `${error.message} (what is written so far stays as ${output}${PART_SUFFIX}: the same command goes on with it)`,
        { ...error.data, part: output + PART_SUFFIX },
        error.cause,
      )
    : error
