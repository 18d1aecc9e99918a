import { createHash } from 'node:crypto'
import type { Device } from '../block/device.js'
import { LiveError, unsupported } from '../error.js'
import type { Folder } from '../host/folder.js'
import { advised, marked } from '../liveos/advice.js'
import { STATE_SUFFIX, type Target } from '../liveos/target.js'
import type { RefreshOptions } from './refresh.js'
import type { RunOwner } from './refresh-owner.js'
import { removeFile } from './replaced-file.js'
import { createStepFile, readStepFile, rewriteStep } from './step-file.js'

/**
 * - `writing` the new image is being written beside the old one, or the old one copied to the stage: the stick is as it was
 * - `rewriting` the verified copy in the stage is the only base; the new image is being written on the stick
 * - `swapping` the new image is complete and verified; names are being changed
 * - `resetting` the new image has its name; overlay and leftovers are being cleared
 */
export type RefreshStep = 'writing' | 'rewriting' | 'swapping' | 'resetting'

/** An image told by its size and a hash over its two ends: superblock and tables, which no two images share. */
export interface ImageMark {
  readonly size: number
  /** SHA-256 over the first 4 KiB and the last 64 KiB, hex */
  readonly ends: string
}

export interface RefreshState {
  readonly step: RefreshStep
  /** known from `swapping` on */
  readonly fresh: ImageMark | null
  readonly old: ImageMark
  readonly keepOld: boolean
  /** folder and name of the staged copy */
  readonly stage: { readonly folder: string; readonly name: string } | null
  /** SHA-256 over all of the staged copy, hex; known from `rewriting` on */
  readonly staged: string | null
  /** what is merged, and how: a second run goes on with the same. Undefined in the state of an earlier liveos. */
  readonly begun?: BegunWith | undefined
}

/** What a refresh was begun with. */
export interface BegunWith {
  readonly owner: RunOwner
  /** name of the overlay beside the base, or its path elsewhere; null for none */
  readonly overlay: string | null
  readonly options: Pick<RefreshOptions, 'comp' | 'blockSize' | 'level' | 'trim' | 'verify'>
}

const VERSION = 2
const HEAD_BYTES = 4096
const TAIL_BYTES = 65536

/** The mark of an image. */
export const markOf = async (image: Device): Promise<ImageMark> => ({
  size: image.size,
  ends: createHash('sha256')
    .update(await image.read(0, Math.min(HEAD_BYTES, image.size)))
    .update(await image.read(Math.max(0, image.size - TAIL_BYTES), Math.min(TAIL_BYTES, image.size)))
    .digest('hex'),
})

/** The mark of a file; undefined where there is none. */
export const markOfName = async (folder: Folder, name: string): Promise<ImageMark | undefined> => {
  if ((await folder.facts(name))?.kind !== 'file') return undefined
  const file = await folder.open(name)
  try {
    return await markOf(file)
  } finally {
    await file.close()
  }
}

/** True where two marks are of the same image. */
export const isSameImage = (a: ImageMark | null | undefined, b: ImageMark | null | undefined): boolean =>
  !!a && !!b && a.size === b.size && a.ends === b.ends

const stepOf = ({ step, fresh, staged }: Pick<RefreshState, 'step' | 'fresh' | 'staged'>): object => ({
  liveos: 'refresh',
  version: VERSION,
  step,
  fresh,
  staged,
})

/** Makes the state file. It and its name are on the medium when this returns. @throws REFUSED  there is one already; NO_SPACE, IO  and there is none then */
export const createState = (folder: Folder, base: string, state: RefreshState): Promise<void> => {
  const { old, keepOld, stage, begun } = state
  return createStepFile(folder, base + STATE_SUFFIX, stepOf(state), { old, keepOld, stage, begun })
}

/** Records the next step; on the medium when this returns. @param known  what is known by now: mark of the new image, hash of the staged copy */
export const recordStep = (
  folder: Folder,
  base: string,
  step: RefreshStep,
  { fresh, staged }: Pick<RefreshState, 'fresh' | 'staged'>,
): Promise<void> => rewriteStep(folder, base + STATE_SUFFIX, stepOf({ step, fresh, staged }))

const isMark = (value: unknown): value is ImageMark =>
  typeof value === 'object' &&
  value !== null &&
  'size' in value &&
  typeof value.size === 'number' &&
  'ends' in value &&
  typeof value.ends === 'string'

const isBegun = (value: unknown): value is BegunWith =>
  typeof value === 'object' &&
  value !== null &&
  'owner' in value &&
  typeof value.owner === 'object' &&
  value.owner !== null &&
  'pid' in value.owner &&
  typeof value.owner.pid === 'number' &&
  'overlay' in value &&
  (value.overlay === null || typeof value.overlay === 'string') &&
  'options' in value &&
  typeof value.options === 'object' &&
  value.options !== null

/**
 * Reads the state file of a base; undefined where there is none, 'unreadable' where a cut came before it was complete.
 *
 * @throws UNSUPPORTED  a newer liveos left it
 */
export const readState = async (folder: Folder, base: string): Promise<RefreshState | 'unreadable' | undefined> => {
  const file = await readStepFile(folder, base + STATE_SUFFIX)
  if (file === undefined || file === 'unreadable') return file
  const { step: first, begun: rest } = file
  if (first.version !== VERSION)
    throw unsupported(
      'state file of another version',
      base,
      `${base}${STATE_SUFFIX} was left by another version of liveos (${String(first.version)}): finish with that one`,
    )
  const { step, fresh } = first
  const hash = first.staged
  const { old, keepOld, stage } = rest
  if (
    (step !== 'writing' && step !== 'rewriting' && step !== 'swapping' && step !== 'resetting') ||
    !isMark(old) ||
    (fresh !== null && !isMark(fresh)) ||
    (hash !== null && typeof hash !== 'string')
  )
    return 'unreadable'
  const staged = stage as { folder?: unknown; name?: unknown } | null
  if (staged !== null && (typeof staged?.folder !== 'string' || typeof staged.name !== 'string')) return 'unreadable'
  const begun = isBegun(rest.begun) ? rest.begun : undefined
  return { step, fresh, old, keepOld: keepOld === true, stage: staged as RefreshState['stage'], staged: hash, begun }
}

/** Takes the state file away: the refresh is over. */
export const removeState = async (folder: Folder, base: string): Promise<void> => {
  await removeFile(folder, base + STATE_SUFFIX)
}

/**
 * Refuses to touch the overlay of a base that a refresh is working on, or was when it was cut short: until that is finished the
 * overlay may hold what no base holds yet.
 *
 * @throws REFUSED
 */
export const checkNoRefresh = async (target: Target): Promise<void> => {
  const { folder, name } = target.base
  if (!(await folder.facts(name + STATE_SUFFIX))) return
  throw new LiveError(
    'REFUSED',
    `a refresh of ${target.name} is running or was cut short: ${advised(target, address => `run ${marked(`liveos refresh ${address}`)} to finish it first`)}`,
    { path: `${folder.path}/${name}${STATE_SUFFIX}` },
  )
}
