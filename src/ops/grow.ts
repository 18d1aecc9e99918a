import { newStore, type Store } from '../block/snapshot/store.js'
import { LiveError, unsupported } from '../error.js'
import type { Finding } from '../finding.js'
import { type FsType, overlayFsType } from '../fs/detect.js'
import type { OpenedFile } from '../host/folder.js'
import { advised, marked, overlayAs } from '../liveos/advice.js'
import { readTargetStore } from '../liveos/stack.js'
import type { HostFile, Target, TargetInput, WritableTarget } from '../liveos/target.js'
import { isUnsized, LEAST_OVERLAY } from '../liveos/too-small.js'
import { wholeFiles } from '../liveos/whole-files.js'
import { findOverlayPartition, partitionSize } from './grow-partition.js'
import { chooseSize, leastSize, mostSize, type SizeChange } from './grow-size.js'
import { findOverlay } from './grow-target.js'
import { checkNotInUse, checkWritable, type FileIdentity, identityOf } from './identity.js'
import { overlayOf } from './reset.js'
import { checkNothingUnfinished, undoEnds } from './unfinished.js'

export interface GrowOptions {
  /** left out: the size stays */
  readonly size?: SizeChange | undefined
  /** write the holes that the file has */
  readonly fill?: boolean | undefined
}

/** What will become of an overlay's size. Sizes are bytes. */
export interface GrowPlan {
  readonly verb: 'grow'
  readonly target: string
  readonly overlay: FileIdentity
  readonly options: GrowOptions
  readonly change: 'grow' | 'shrink' | 'none'
  readonly oldBytes: number
  readonly newBytes: number
  readonly chunkSize: number
  /** chunks of the origin that it holds */
  readonly exceptions: number
  /** from its begin to the end of what it holds */
  readonly usedBytes: number
  /** the least that it can have as it is */
  readonly leastBytes: number
  /** holes that are filled */
  readonly fillBytes: number
  readonly space: { readonly neededBytes: number; readonly freeBytes: number; readonly fileLimit: number | null }
  readonly estimatedSeconds: number
  readonly steps: readonly string[]
  readonly findings: readonly Finding[]
}

/** Room for the blocks by which a filesystem finds those of the file, and for its directory. */
const MARGIN = 1 << 20
/** bytes a second of a slow stick */
const SPEED = 10e6

/**
 * Plans another size for an overlay, or that its holes are filled.
 *
 * @throws NOT_FOUND, USAGE, UNSUPPORTED, NO_SPACE, READ_ONLY, CORRUPT  the list of chunks can't be read
 * @throws REFUSED  in use, invalid or cut off, on a partition, another verb was cut short, or smaller than what it holds
 */
export const planGrow = async (input: TargetInput, options: GrowOptions): Promise<GrowPlan> => {
  if (options.size === undefined && !options.fill)
    throw new LiveError('USAGE', 'say how large the overlay is to be, such as --size 512M or --size +256M')
  await refuseOnPartition(input, options)
  const target = await findOverlay(input)
  if (target.overlayDirectory)
    throw unsupported(
      'OverlayFS directory',
      target.overlayDirectory,
      'an OverlayFS directory has no size of its own and fills what the stick has free: free space there',
    )
  const overlay = overlayOf(target)
  await checkNothingUnfinished(target)
  await checkNotInUse(target)
  await checkWritable(target)
  if (overlay.facts.kind !== 'file') throw await partitionSize(overlay, options.size)
  const file = await overlay.folder.open(overlay.name)
  try {
    return await planSize(target, overlay, file, await sizedOverlay(overlay, file, target), options)
  } finally {
    await file.close()
  }
}

/** @throws REFUSED  the overlay is a partition of an image or disk that was named as the target */
const refuseOnPartition = async (input: TargetInput, { size }: GrowOptions): Promise<void> => {
  const found = await findOverlayPartition(input)
  if (!found) return
  try {
    throw await partitionSize(found.overlay, size)
  } finally {
    await found.close()
  }
}

/** What makes a filesystem in a file larger. */
const RESIZERS: Partial<Readonly<Record<FsType, string>>> = { ext4: 'resize2fs', f2fs: 'resize.f2fs' }

const resizeWords = (_: Target, type: FsType): string =>
  `this overlay is a filesystem that holds an OverlayFS (${type}): make the file larger with truncate, and the filesystem in it with ${RESIZERS[type] ?? `the tools of ${type}`}`

/** The same, of an overlay that may still be without its size. */
const sizedOverlay = async (overlay: HostFile, file: OpenedFile, target: Target): Promise<Store> =>
  (await isUnsized(file)) ? newStore(file.size) : readOverlay(overlay, file, target, resizeWords)

/**
 * The store of an overlay that a verb is to write to.
 *
 * @param ofFilesystem  the sentence where it is no store but a filesystem
 * @throws UNSUPPORTED, CORRUPT, REFUSED  as `planGrow`
 */
export const readOverlay = async (
  { path }: HostFile,
  file: OpenedFile,
  target: Target,
  ofFilesystem: (target: Target, type: FsType) => string = wholeFiles,
): Promise<Store> => {
  const type = await overlayFsType(file)
  if (type) throw unsupported(`overlay that is a ${type} filesystem`, path, ofFilesystem(target, type))
  const store = await readTargetStore(target, file)
  if (store.state === 'invalid' || store.truncated)
    throw new LiveError(
      'REFUSED',
      `${path} ${store.truncated ? 'was cut off in the middle of its list' : 'was marked invalid by the kernel'}: ${advised(target, address => `run ${marked(`liveos recover ${address}`)}, which repairs it and makes room too`)}`,
      { path },
    )
  return store
}

const planSize = async (
  target: WritableTarget,
  overlay: HostFile,
  file: OpenedFile,
  store: Store,
  options: GrowOptions,
): Promise<GrowPlan> => {
  const { folder, name, path } = overlay
  const { traits } = folder
  const oldBytes = file.size
  const { chunkSize } = store
  const leastBytes = leastSize(store)
  const { size: newBytes, why } =
    options.size === undefined
      ? { size: oldBytes, why: undefined }
      : chooseSize(options.size, {
          current: oldBytes,
          chunkSize,
          most: mostSize(traits.maxFileSize),
          // an overlay that is full already is not made to be less full
          least: oldBytes < LEAST_OVERLAY ? leastBytes : Math.min(leastBytes, oldBytes),
        })
  const change = newBytes > oldBytes ? 'grow' : newBytes < oldBytes ? 'shrink' : 'none'
  const holes = file.hasHoles ? oldBytes - file.allocated : 0
  const fillBytes = options.fill && change !== 'shrink' ? holes : 0
  const neededBytes = Math.max(0, newBytes - oldBytes) + fillBytes
  const freeBytes = await folder.freeBytes()
  if (neededBytes > 0 && neededBytes + MARGIN > freeBytes)
    throw new LiveError(
      'NO_SPACE',
      `${folder.path} has ${freeBytes} bytes free, and ${neededBytes} are needed: free space there, or see what the overlay itself can give back: ${advised(target, address => `run ${marked(`liveos compact ${address} --dry-run`)}`)}`,
      { neededBytes, freeBytes },
    )
  const findings: Finding[] = await undoEnds(target)
  const add = (code: string, severity: Finding['severity'], message: string, remedy?: string): void => {
    findings.push({ code, severity, where: path, message, ...(remedy === undefined ? {} : { remedy }) })
  }
  if (why !== undefined) add('SIZE_ROUNDED', 'note', `the overlay gets ${newBytes} bytes: ${why}`)
  if (holes > 0 && !options.fill)
    add(
      'OVERLAY_OVERCOMMITTED',
      'note',
      `the overlay has holes of ${holes} bytes: when the stick fills up the kernel invalidates it long before its own size is used`,
      `run ${marked(`liveos grow ${overlayAs(target)} --fill`)} to take that room now`,
    )
  const usedBytes = store.nextFreeChunk * chunkSize
  if (change === 'shrink' && usedBytes > newBytes * 0.95)
    add('OVERLAY_CRITICAL', 'warning', `at that size the overlay is ${percent(usedBytes, newBytes)} % full`)
  return {
    verb: 'grow',
    target: target.name,
    overlay: identityOf(overlay),
    options,
    change,
    oldBytes,
    newBytes,
    chunkSize,
    exceptions: store.exceptions.count,
    usedBytes,
    leastBytes,
    fillBytes,
    space: {
      neededBytes,
      freeBytes,
      fileLimit: traits.maxFileSize < Number.MAX_SAFE_INTEGER ? mostSize(traits.maxFileSize) : null,
    },
    estimatedSeconds: Math.ceil((neededBytes + (fillBytes > 0 ? oldBytes : 0)) / SPEED),
    steps: [
      ...(fillBytes > 0 ? [`write zeros into the holes of ${name}, and flush`] : []),
      ...(change === 'grow' ? [`append ${newBytes - oldBytes} zero bytes to ${name}, and flush`] : []),
      ...(change === 'shrink' ? [`flush ${name}, cut its last ${oldBytes - newBytes} bytes off, and flush`] : []),
      'read its list of chunks again and compare',
    ],
    findings,
  }
}

const percent = (part: number, whole: number): number => Math.round((part / whole) * 1000) / 10

export type { GrowOutcome } from './grow-run.js'
export { runGrow } from './grow-run.js'
