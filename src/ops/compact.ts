import { join, resolve } from 'node:path'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Folder, factsOf, openFolder } from '../host/folder.js'
import { calledAs, marked, readAs } from '../liveos/advice.js'
import { openMergedRoot } from '../liveos/merged-root.js'
import { openStack, type Stack } from '../liveos/stack.js'
import {
  findTarget,
  type HostFile,
  NEW_SUFFIX,
  OLD_SUFFIX,
  type TargetInput,
  type WritableTarget,
} from '../liveos/target.js'
import { judgeChunks } from './compact-chunks.js'
import { partitionCompact } from './compact-partition.js'
import { type CompactResume, resumeOf } from './compact-resume.js'
import { type CompactState, compactStateName, findCompact, readCompactState } from './compact-state.js'
import { packedSize } from './compact-write.js'
import { findOverlayPartition } from './grow-partition.js'
import { chooseSize, leastSize, mostSize, type SizeChange } from './grow-size.js'
import { checkNotInUse, checkWritable, type FileIdentity, identityOf } from './identity.js'
import type { Report } from './progress.js'
import { checkNotRunning } from './refresh-owner.js'
import { overlayOf } from './reset.js'
import { checkNothingUnfinished, undoEnds } from './unfinished.js'

export interface CompactOptions {
  /** chunks of what the root filesystem has free are dropped; true if left out */
  readonly trim?: boolean | undefined
  /** of the new overlay; the old one's if left out */
  readonly size?: SizeChange | undefined
  /** folder elsewhere for the new store, where the stick has no room for both */
  readonly stage?: string | undefined
}

/** Chunks of an overlay by what becomes of them. */
export interface ChunkCounts {
  readonly before: number
  /** dropped: all of it is free in the root filesystem */
  readonly free: number
  /** dropped: the base holds the same bytes */
  readonly equal: number
  readonly kept: number
}

/** What a compaction will do. Sizes are bytes. */
export interface CompactPlan {
  readonly verb: 'compact'
  readonly target: string
  readonly overlay: FileIdentity | null
  readonly options: CompactOptions
  /** what a run that was cut short left, and what happens to it */
  readonly resume: { readonly step: string; readonly does: CompactResume } | null
  readonly method: 'beside the old overlay' | 'with a stage elsewhere' | 'finishing'
  readonly chunkSize: number
  /** null where an earlier run has counted them */
  readonly chunks: ChunkCounts | null
  readonly usedBytes: { readonly before: number; readonly after: number } | null
  /** what the system can write more, and the file takes less, when it is done */
  readonly givesBackBytes: number
  readonly oldBytes: number
  readonly newBytes: number
  /** false where there is nothing to drop and the size stays */
  readonly worthwhile: boolean
  /** the new file has holes where no chunk is, as the old one has */
  readonly sparse: boolean
  readonly space: {
    readonly neededBytes: number
    readonly freeBytes: number
    readonly stageBytes: number | null
  } | null
  /** from when to when a boot finds no overlay; null where it always does */
  readonly noOverlay: string | null
  readonly estimatedSeconds: number
  readonly steps: readonly string[]
  readonly findings: readonly Finding[]
}

/** How a plan is made: it reads all that the overlay holds. */
export interface PlanOptions {
  readonly report?: Report | undefined
  readonly signal?: AbortSignal | undefined
  /** the folders of tests, which can cut the power */
  readonly wrapFolder?: ((folder: Folder) => Folder) | undefined
}

/** Room for the state file and directory blocks. */
const MARGIN = 1 << 20
/** bytes a second of a slow stick */
const SPEED = 10e6

/**
 * Plans a new store without chunks that equal the base or that the root filesystem has free. After a compaction that was cut
 * short, plans to finish it or to start again.
 *
 * @throws NOT_FOUND, USAGE, UNSUPPORTED, CORRUPT, READ_ONLY, NO_SPACE, CANCELLED
 * @throws REFUSED  in use, or another verb was cut short
 */
export const planCompact = async (
  input: TargetInput,
  options: CompactOptions = {},
  how: PlanOptions = {},
): Promise<CompactPlan> => {
  const found = await findOverlayPartition(input)
  if (found) {
    await found.close()
    throw partitionCompact(found.overlay, found.target)
  }
  const { folder, overlay } = await findCompact(input)
  if (overlay === undefined) return planFresh(await findTarget(input), options, undefined, how)
  const state = await readCompactState(folder, overlay)
  if (state === undefined) return planFresh(await findTarget(input), options, undefined, how)
  if (state !== 'unreadable') await checkNotRunning(state.owner, `a compaction of ${overlay}`)
  const { wrapFolder = each => each } = how
  const does = await resumeOf(wrapFolder(folder), overlay, state)
  return does === 'start again'
    ? planFresh(await findTarget(input), options, state, how)
    : planResume(input, options, folder, overlay, state as CompactState, does)
}

const planResume = (
  input: TargetInput,
  options: CompactOptions,
  folder: Folder,
  overlay: string,
  state: CompactState,
  does: CompactResume,
): CompactPlan => ({
  verb: 'compact',
  target: input.target ?? input.base ?? folder.path,
  overlay: null,
  options,
  resume: { step: state.step, does },
  method: 'finishing',
  chunkSize: 0,
  chunks: null,
  usedBytes: null,
  givesBackBytes: 0,
  oldBytes: state.size,
  newBytes: state.size,
  worthwhile: true,
  sparse: false,
  space: null,
  noOverlay: `until ${overlay} has its name again`,
  estimatedSeconds: does === 'finish' ? 5 : Math.ceil(state.size / SPEED),
  steps: {
    'start again': [],
    'put the old one back': [
      `give the old store its name ${overlay} back`,
      'remove what the earlier run left',
      'compact it from the start',
    ],
    'copy the staged one': [
      `copy the new store from ${state.stage?.folder} to ${overlay}${NEW_SUFFIX}, flush, read it back and compare`,
      `give it the name ${overlay}`,
      'remove the copy in the stage',
    ],
    finish: [`give the verified new store the name ${overlay}, where it has not got it yet`, 'remove the old one'],
  }[does],
  findings: [
    {
      code: 'COMPACT_INTERRUPTED',
      severity: 'warning',
      where: join(folder.path, overlay),
      message: `a compaction was cut short in step "${state.step}"`,
      remedy: 'this run finishes it',
    },
  ],
})

/** @throws REFUSED  somebody left files where the compaction wants to write */
const checkNamesFree = async ({ folder, name }: HostFile): Promise<void> => {
  for (const end of [NEW_SUFFIX, OLD_SUFFIX])
    if (await folder.facts(name + end))
      throw new LiveError(
        'REFUSED',
        `${name}${end} is there and no compaction of ours left it: remove it or give it another name first`,
        { path: join(folder.path, name + end) },
      )
}

/** Plans a compaction from the start. @param left  what an earlier run left, which is removed first */
export const planFresh = async (
  target: WritableTarget,
  options: CompactOptions,
  left: CompactState | 'unreadable' | undefined,
  { report = () => {}, signal }: PlanOptions,
): Promise<CompactPlan> => {
  const overlay = overlayOf(target)
  await checkNothingUnfinished(target, { compact: overlay.name })
  await checkNotInUse(target)
  await checkWritable(target)
  if (left === undefined) await checkNamesFree(overlay)
  if (overlay.facts.kind !== 'file') throw partitionCompact(overlay, target)
  const stack = await openStack(target)
  try {
    const { file, store } = stack.overlay!
    if (store.state === 'new')
      throw new LiveError('USAGE', `the overlay ${overlay.name} was never used, so there is nothing to compact`)
    const merged = await openMergedRoot(stack.root, { trim: options.trim, store })
    const chunks = { before: store.exceptions.count, free: 0, equal: 0, kept: 0 }
    let unreadable = 0
    for await (const judged of judgeChunks(stack.base.origin, file, store, merged, signal)) {
      chunks.free += judged.free
      chunks.equal += judged.equal
      chunks.kept += judged.kept.length
      unreadable += judged.unreadable
      const done = chunks.free + chunks.equal + chunks.kept
      report({ phase: 'look', doneBytes: done * store.chunkSize, totalBytes: chunks.before * store.chunkSize })
    }
    const packed = packedSize(chunks.kept, store.chunkSize)
    const { size: newBytes, why } = chooseSize(options.size ?? { by: 0 }, {
      current: file.size,
      chunkSize: store.chunkSize,
      most: mostSize(overlay.folder.traits.maxFileSize),
      // one that is full and stays so is not made smaller
      least: Math.min(leastSize(packed), options.size === undefined ? file.size : Number.POSITIVE_INFINITY),
    })
    const sparse = file.hasHoles
    const usedBytes = {
      before: store.nextFreeChunk * store.chunkSize,
      after: packed.nextFreeChunk * store.chunkSize,
    }
    const space = await planSpace(
      stack,
      options,
      left,
      sparse ? usedBytes.after + store.chunkSize : newBytes,
      usedBytes.after,
    )
    const findings: Finding[] = [
      ...(await undoEnds(target)),
      ...merged.findings.map(finding => ({ ...finding, ...asCompact(finding.code, target), where: target.name })),
    ]
    if (why !== undefined)
      findings.push({
        code: 'SIZE_ROUNDED',
        severity: 'note',
        where: overlay.path,
        message: `the overlay gets ${newBytes} bytes: ${why}`,
      })
    if (unreadable > 0)
      findings.push({
        code: 'BASE_UNREADABLE',
        severity: 'warning',
        where: target.base.path,
        message: `the base can't be read below ${unreadable} chunks, so they are kept unseen`,
        remedy: `run ${marked(`liveos verify ${readAs(target)}`)}`,
      })
    return {
      verb: 'compact',
      target: target.name,
      overlay: identityOf(overlay),
      options,
      resume: left === undefined ? null : { step: left === 'unreadable' ? 'writing' : left.step, does: 'start again' },
      method: options.stage === undefined ? 'beside the old overlay' : 'with a stage elsewhere',
      chunkSize: store.chunkSize,
      chunks,
      usedBytes,
      givesBackBytes: usedBytes.before - usedBytes.after,
      oldBytes: file.size,
      newBytes,
      worthwhile: usedBytes.after < usedBytes.before || newBytes !== file.size,
      sparse,
      space,
      noOverlay: noOverlay(overlay, options),
      estimatedSeconds: Math.ceil((usedBytes.before + newBytes * 2) / SPEED),
      steps: stepsOf(overlay, options, newBytes),
      findings,
    }
  } finally {
    await stack.close()
  }
}

/** What a merge would say of the root filesystem, in the words of a compaction. */
const asCompact = (code: string, target: WritableTarget): Partial<Finding> | undefined => {
  const words: Readonly<Record<string, Partial<Finding>>> = {
    ROOT_UNKNOWN: {
      severity: 'note',
      message: 'the root filesystem is of no kind that is known here, so only chunks that equal the base are dropped',
    },
    JOURNAL_NOT_REPLAYED: {
      severity: 'note',
      message: "the journal of the ext4 root can't be replayed here, so only chunks that equal the base are dropped",
      remedy: `start the system once, or run ${marked(`liveos recover ${calledAs(target)}`)}; then compact again`,
    },
    JOURNAL_REPLAYED: {
      message:
        'the ext4 root was not unmounted cleanly: its journal stays in the overlay for the next start to replay, and what is free is what is free after that',
    },
    ROOT_HAS_ERRORS: {
      severity: 'warning',
      remedy: `run ${marked(`liveos recover ${calledAs(target)}`)}, which checks and repairs it`,
    },
    NOT_TRIMMED: {
      severity: 'note',
      remedy: `run ${marked(`liveos doctor ${readAs(target)}`)} to see what is wrong with it`,
    },
  }
  return words[code]
}

/** @throws NO_SPACE, USAGE */
const planSpace = async (
  { target }: Stack<Folder>,
  { stage }: CompactOptions,
  left: CompactState | 'unreadable' | undefined,
  newBytes: number,
  usedBytes: number,
): Promise<NonNullable<CompactPlan['space']>> => {
  const { folder, name, facts } = overlayOf(target)
  const leftover = left === undefined ? 0 : ((await folder.facts(name + NEW_SUFFIX))?.allocated ?? 0)
  const freeBytes = (await folder.freeBytes()) + leftover
  const neededBytes = newBytes + MARGIN
  let stageBytes: number | null = null
  let available = freeBytes
  if (stage !== undefined) {
    const elsewhere = await openFolder(resolve(stage))
    if (elsewhere.path === folder.path)
      throw new LiveError('USAGE', '--stage wants a folder elsewhere, not on the stick itself')
    const staged =
      left && left !== 'unreadable' && left.stage?.folder === elsewhere.path
        ? ((await factsOf(join(elsewhere.path, left.stage.name)))?.allocated ?? 0)
        : 0
    stageBytes = (await elsewhere.freeBytes()) + staged
    if (stageBytes < usedBytes + MARGIN)
      throw new LiveError('NO_SPACE', `${stage} has ${stageBytes} bytes free, and the new store needs ${usedBytes}`, {
        neededBytes: usedBytes,
        freeBytes: stageBytes,
      })
    // the old one is removed before the new one comes; on the same filesystem the staged one takes room too
    available += facts.allocated - ((await factsOf(elsewhere.path))?.device === facts.device ? usedBytes : 0)
  }
  if (neededBytes > available)
    throw new LiveError(
      'NO_SPACE',
      `${folder.path} has ${available} bytes free for the new store, which takes ${neededBytes}: ${stage === undefined ? 'name a folder elsewhere with --stage DIR, make the overlay smaller with --size, or free space there' : 'make the overlay smaller with --size, or free space there'}`,
      { neededBytes, freeBytes: available },
    )
  return { neededBytes, freeBytes, stageBytes }
}

const noOverlay = ({ folder, name }: HostFile, { stage }: CompactOptions): string | null => {
  if (stage !== undefined)
    return `from the moment the old ${name} is removed (the new one verified in ${stage}) until it is copied back: a second run finishes`
  if (folder.traits.atomicRename) return null
  return 'between two renames at the end, some milliseconds; a cut just there is mended by running compact again'
}

const stepsOf = ({ folder, name }: HostFile, { stage }: CompactOptions, newBytes: number): readonly string[] => {
  const swap =
    stage === undefined && folder.traits.atomicRename
      ? `link the old ${name} as ${name}${OLD_SUFFIX}, rename the new one over it`
      : stage === undefined
        ? `rename the old ${name} to ${name}${OLD_SUFFIX}, the new one to ${name}`
        : `give the new store the name ${name}`
  return [
    `note what is being done in ${compactStateName(name)}`,
    stage === undefined
      ? `write ${name}${NEW_SUFFIX} of ${newBytes} bytes: the chunks that are kept, one behind the other; flush`
      : `write the new store to ${stage}; flush`,
    'read it back: its list, and each chunk against what base and old overlay show',
    ...(stage === undefined
      ? []
      : [
          `remove the old ${name} from the stick`,
          `copy the new store to ${name}${NEW_SUFFIX} of ${newBytes} bytes, flush, read it back and compare`,
        ]),
    swap,
    stage === undefined ? 'remove the old one' : 'remove the copy in the stage',
  ]
}

export { type CompactOutcome, runCompact } from './compact-run.js'
