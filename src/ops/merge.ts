import { basename, dirname, resolve } from 'node:path'
import { copyData } from '../block/copy.js'
import type { Device } from '../block/device.js'
import type { ReadBackDevice } from '../block/direct.js'
import type { GrowingFile } from '../block/file.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { writeSquashfs } from '../fs/squashfs/writer.js'
import { type Folder, openFolder } from '../host/folder.js'
import { advised } from '../liveos/advice.js'
import { chooseEncoder } from '../liveos/encoder.js'
import { type MergedRoot, openMergedRoot } from '../liveos/merged-root.js'
import { decoderOf, openStack, type Stack } from '../liveos/stack.js'
import type { Target } from '../liveos/target.js'
import { filesOf } from '../liveos/view.js'
import { checkImage } from './check-image.js'
import { checkNotSource } from './copy-onto.js'
import { checkUnchanged, type FileIdentity, identityOf } from './identity.js'
import {
  type BlockCounts,
  describeCompressor,
  estimateSeconds,
  planImage,
  rawSizeAtMost,
  type Transcode,
  trimOf,
} from './image-plan.js'
import { type Progress, progressing, type Report } from './progress.js'
import type { RunOptions } from './refresh-run.js'
import { compareAll, type Verified } from './refresh-write.js'
import { removeFile } from './replaced-file.js'
import { cutSentence, findUndo, isCut } from './undo-journal.js'

export interface MergeOptions extends Transcode {
  /** file to be written; must not be there */
  readonly output: string
  /** `same`: as the base is. Left out: raw */
  readonly format?: 'raw' | 'squashfs' | 'same' | undefined
  /** read it back and compare; true if left out */
  readonly verify?: boolean | undefined
  /** blocks that the root filesystem has free become holes; true if left out */
  readonly trim?: boolean | undefined
}

/** What a merge will write. Sizes are bytes. */
export interface MergePlan {
  readonly verb: 'merge'
  readonly target: string
  readonly base: FileIdentity
  readonly overlay: FileIdentity | null
  readonly options: MergeOptions
  readonly output: string
  readonly format: 'raw' | 'squashfs'
  readonly compression: string | null
  readonly blocks: BlockCounts | null
  readonly trim: { readonly freeBytes: number } | null
  readonly sizeAtMost: number
  readonly freeBytes: number
  readonly estimatedSeconds: number
  readonly findings: readonly Finding[]
}

export interface MergeOutcome {
  readonly verb: 'merge'
  readonly output: string
  readonly size: number
  readonly blocks: { readonly holes: number; readonly verbatim: number; readonly encoded: number } | null
  readonly verified: Verified | null
  readonly findings: readonly Finding[]
}

const outputFolder = async (output: string): Promise<{ folder: Folder; name: string }> => {
  const path = resolve(output)
  const folder = await openFolder(dirname(path))
  return { folder, name: basename(path) }
}

/** @throws REFUSED  a change of the overlay was cut in its middle, so that it shows neither what was nor what was to be */
const checkNotCut = async (target: Target): Promise<void> => {
  const { overlay } = target
  if (!overlay) return
  const undo = await findUndo(overlay.folder, overlay.name).catch((error: unknown) => {
    if (isLiveError(error) && (error.code === 'CORRUPT' || error.code === 'UNSUPPORTED')) return undefined
    throw error
  })
  if (undo && isCut(undo))
    throw new LiveError(
      'REFUSED',
      advised(target, address => cutSentence(undo, address)),
      { path: overlay.path },
    )
}

/** @throws NOT_FOUND, USAGE, REFUSED  the output is there already, or a change was cut short; NO_SPACE, UNSUPPORTED, CORRUPT */
export const planMerge = async (target: Target, options: MergeOptions): Promise<MergePlan> => {
  const { folder, name } = await outputFolder(options.output)
  await checkNotSource(options.output, filesOf(target))
  if (await folder.facts(name))
    throw new LiveError('REFUSED', `${options.output} is there already: choose another name, or remove it first`, {
      path: options.output,
    })
  await checkNotCut(target)
  const stack = await openStack(target)
  try {
    const asked = options.format ?? 'raw'
    const format = asked === 'same' ? (stack.base.squashfs ? 'squashfs' : 'raw') : asked
    if (
      format === 'raw' &&
      (options.comp !== undefined || options.blockSize !== undefined || options.level !== undefined)
    )
      throw new LiveError('USAGE', '--comp, --block-size and --level go with --format squashfs')
    const merged = await openMergedRoot(stack.root, { trim: options.trim, store: stack.overlay?.store })
    const image = format === 'squashfs' ? await planImage(stack, merged, options) : undefined
    if (image) await chooseEncoder(image.settings.compressor, stack.pool)
    const sizeAtMost = image ? image.sizeAtMost : await rawSizeAtMost(stack, merged, folder)
    const freeBytes = await folder.freeBytes()
    const fileBytes = image ? sizeAtMost : stack.root.size
    if (fileBytes > folder.traits.maxFileSize)
      throw new LiveError(
        'NO_SPACE',
        `${options.output} may take ${fileBytes} bytes, and that filesystem holds files of at most ${folder.traits.maxFileSize}: write it to another one`,
        { neededBytes: fileBytes },
      )
    if (sizeAtMost > freeBytes)
      throw new LiveError(
        'NO_SPACE',
        `${options.output} may take ${sizeAtMost} bytes, and there are ${freeBytes} free: write it to another place`,
        { neededBytes: sizeAtMost, freeBytes },
      )
    return {
      verb: 'merge',
      target: target.name,
      base: identityOf(target.base),
      overlay: target.overlay ? identityOf(target.overlay) : null,
      options,
      output: resolve(options.output),
      format,
      compression: image ? describeCompressor(image.settings.compressor, image.settings.blockSize) : null,
      blocks: image?.blocks ?? null,
      trim: trimOf(merged),
      sizeAtMost,
      freeBytes,
      estimatedSeconds: estimateSeconds(image?.blocks.touchedBytes ?? 0, image?.settings.compressor.name, sizeAtMost),
      findings: merged.findings,
    }
  } finally {
    await stack.close()
  }
}

/**
 * Runs a merge: output written, flushed with its name, read back. A run that fails or is stopped leaves no file.
 *
 * @throws REFUSED, NO_SPACE, IO, CORRUPT, CANCELLED
 */
export async function* runMerge(
  target: Target,
  plan: MergePlan,
  { signal, wrapFolder = folder => folder }: RunOptions = {},
): AsyncGenerator<Progress, MergeOutcome> {
  return yield* progressing(async report => {
    const unchanged = () =>
      checkUnchanged([
        { file: target.base, planned: plan.base },
        ...(plan.overlay && target.overlay ? [{ file: target.overlay, planned: plan.overlay }] : []),
      ])
    await unchanged()
    const { folder: found, name } = await outputFolder(plan.output)
    const folder = wrapFolder(found)
    const stack = await openStack(target)
    try {
      const merged = await openMergedRoot(stack.root, { trim: plan.options.trim, store: stack.overlay?.store })
      const made =
        plan.format === 'raw'
          ? await mergeRaw(merged.device, folder, name, plan, report, signal)
          : await mergeSquashfs(stack, merged, folder, name, plan, report, signal)
      // what somebody wrote to meanwhile is neither what it was nor what it is now
      await unchanged().catch(async (error: unknown) => {
        await removeFile(folder, name).catch(() => undefined)
        throw error
      })
      return { verb: 'merge' as const, output: plan.output, ...made, findings: merged.findings }
    } finally {
      await stack.close()
    }
  })
}

type Made = Pick<MergeOutcome, 'size' | 'blocks' | 'verified'>

/** Makes a file and reads it back; removes it again where one of the two fails. */
const making = async <T, V>(
  folder: Folder,
  name: string,
  make: (file: GrowingFile) => Promise<T>,
  check: (back: ReadBackDevice, made: T) => Promise<V>,
): Promise<{ made: T; verified: V }> => {
  const file = await folder.create(name)
  try {
    let made: T
    try {
      made = await make(file)
      await file.flush()
    } finally {
      await file.close()
    }
    await folder.sync()
    const back = await folder.openReadBack(name)
    try {
      return { made, verified: await check(back, made) }
    } finally {
      await back.close()
    }
  } catch (error) {
    await removeFile(folder, name).catch(() => undefined)
    throw error
  }
}

const mergeRaw = async (
  root: Device,
  folder: Folder,
  name: string,
  plan: MergePlan,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Made> => {
  const { size } = root
  const { verified } = await making(
    folder,
    name,
    async file => {
      await file.truncate(size)
      await copyData(root, file, {
        signal,
        onProgress: (doneBytes, totalBytes) => report({ phase: 'write', doneBytes, totalBytes }),
      })
      report({ phase: 'flush', doneBytes: 0, totalBytes: 0 })
    },
    async back => {
      if (plan.options.verify === false) return null
      await compareAll(root, back, report, signal)
      return { bytes: size, readBack: back.from }
    },
  )
  return { size, blocks: null, verified }
}

const mergeSquashfs = async (
  stack: Stack,
  merged: MergedRoot,
  folder: Folder,
  name: string,
  plan: MergePlan,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Made> => {
  const image = await planImage(stack, merged, plan.options)
  const encoder = await chooseEncoder(image.settings.compressor, stack.pool)
  const decoder = decoderOf(stack.pool)
  const { made: written, verified } = await making(
    folder,
    name,
    file =>
      writeSquashfs(file, image.root, image.settings, {
        encoder: encoder.encode,
        depth: decoder.depth,
        signal,
        onProgress: (doneBytes, totalBytes) => report({ phase: 'write', doneBytes, totalBytes }),
      }),
    async (back, outcome) => {
      if (plan.options.verify === false) return null
      const check = await checkImage(back, image.root, outcome, {
        decoder,
        signal,
        onProgress: (doneBytes, totalBytes) => report({ phase: 'verify', doneBytes, totalBytes }),
      })
      return { ...check, readBack: back.from }
    },
  )
  const blocks = { holes: written.holeBlocks, verbatim: written.verbatimBlocks, encoded: written.encodedBlocks }
  return { size: written.size, blocks, verified }
}
