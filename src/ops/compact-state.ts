import { basename, dirname, resolve } from 'node:path'
import { LiveError, unsupported } from '../error.js'
import { type Folder, openFolder, type ReadFolder } from '../host/folder.js'
import { advised, marked } from '../liveos/advice.js'
import { withoutLinks } from '../liveos/overlay-place.js'
import { findBaseName, type Target, type TargetInput } from '../liveos/target.js'
import type { RunOwner } from './refresh-owner.js'
import { removeFile } from './replaced-file.js'
import { createStepFile, readStepFile, rewriteStep } from './step-file.js'

/**
 * - `writing` the new store is being written, beside the old one or in the stage: the old one is the overlay
 * - `rewriting` the verified store in the stage is the only one; it is being copied to the stick
 * - `swapping` the new store is verified; while the old one, or one that a boot changed, can be had it counts, and all starts again
 * - `naming` the old store is put aside as `.old` on a filesystem without atomic renames; the new one counts
 * - `clearing` the new store has its name; leftovers are being removed
 */
export type CompactStep = 'writing' | 'rewriting' | 'swapping' | 'naming' | 'clearing'
const STEPS: readonly CompactStep[] = ['writing', 'rewriting', 'swapping', 'naming', 'clearing']

/** What a compaction that was cut short left. */
export interface CompactState {
  readonly step: CompactStep
  /** name of the overlay in the folder of the state */
  readonly overlay: string
  readonly owner: RunOwner
  /** folder and name of the new store in the stage */
  readonly stage: { readonly folder: string; readonly name: string } | null
  /** bytes of the new store */
  readonly size: number
  /** SHA-256 over all of the new store in the stage, hex; known from `rewriting` on */
  readonly staged: string | null
}

const VERSION = 1
const PREFIX = 'compact-'
const SUFFIX = '.state'

/** The name of the state file of an overlay. It begins with no `overlay-`, so nobody takes it for one. */
export const compactStateName = (overlay: string): string => `${PREFIX}${overlay}${SUFFIX}`

const stepOf = ({ step, staged }: Pick<CompactState, 'step' | 'staged'>): object => ({
  liveos: 'compact',
  version: VERSION,
  step,
  staged,
})

/** Makes the state file. @throws as `createStepFile` */
export const createCompactState = (folder: Folder, state: CompactState): Promise<void> => {
  const { overlay, owner, stage, size } = state
  return createStepFile(folder, compactStateName(overlay), stepOf(state), { overlay, owner, stage, size })
}

/** Records the next step; on the medium when this returns. */
export const recordCompactStep = (
  folder: Folder,
  { overlay, staged }: Pick<CompactState, 'overlay' | 'staged'>,
  step: CompactStep,
): Promise<void> => rewriteStep(folder, compactStateName(overlay), stepOf({ step, staged }))

/** Takes the state file away: the compaction is over. */
export const removeCompactState = (folder: Folder, overlay: string): Promise<void> =>
  removeFile(folder, compactStateName(overlay))

const isPlace = (value: unknown): value is NonNullable<CompactState['stage']> =>
  typeof value === 'object' &&
  value !== null &&
  'folder' in value &&
  typeof value.folder === 'string' &&
  'name' in value &&
  typeof value.name === 'string'

const isOwner = (value: unknown): value is RunOwner =>
  typeof value === 'object' && value !== null && 'pid' in value && typeof value.pid === 'number'

/**
 * Reads the state of an overlay's compaction; undefined where there is none, 'unreadable' where a cut came before it was complete.
 *
 * @throws UNSUPPORTED  a newer liveos left it
 */
export const readCompactState = async (
  folder: Folder,
  overlay: string,
): Promise<CompactState | 'unreadable' | undefined> => {
  const file = await readStepFile(folder, compactStateName(overlay))
  if (file === undefined || file === 'unreadable') return file
  const { version, step, staged } = file.step
  if (version !== VERSION)
    throw unsupported(
      'state file of another version',
      overlay,
      `${compactStateName(overlay)} was left by another version of liveos (${String(version)}): finish with that one`,
    )
  const { owner, stage, size } = file.begun
  const known = STEPS.find(name => name === step)
  if (
    known === undefined ||
    !isOwner(owner) ||
    (stage !== null && !isPlace(stage)) ||
    (staged !== null && typeof staged !== 'string') ||
    typeof size !== 'number'
  )
    return 'unreadable'
  return { step: known, overlay, owner, stage, size, staged }
}

/** The folder of an overlay and, where a compaction was cut short in it, the overlay's name. */
export interface CompactPlace {
  readonly folder: Folder
  readonly overlay: string | undefined
}

/** Looks for a compaction that was cut short, also where the overlay has no name of its own for the moment. @throws NOT_FOUND, USAGE */
export const findCompact = async (input: TargetInput): Promise<CompactPlace> => {
  if (input.overlay !== undefined) {
    const path = await withoutLinks(resolve(input.overlay))
    const folder = await openFolder(dirname(path))
    const overlay = basename(path)
    return { folder, overlay: (await folder.facts(compactStateName(overlay))) ? overlay : undefined }
  }
  const { folder } = await findBaseName(input)
  const found = await compactsIn(folder)
  if (found.length > 1)
    throw new LiveError(
      'USAGE',
      `compactions of several overlays were cut short in ${folder.path} (${found.join(', ')}): choose one with --overlay`,
      { candidates: found },
    )
  return { folder, overlay: found[0] }
}

/** Overlays in a folder whose compaction was cut short. */
export const compactsIn = async (folder: ReadFolder): Promise<string[]> =>
  (await folder.list())
    .filter(name => name.startsWith(PREFIX) && name.endsWith(SUFFIX))
    .map(name => name.slice(PREFIX.length, -SUFFIX.length))
    .sort()

/** @param own  the overlay whose compaction doesn't count. @throws REFUSED  a compaction is running in the folder, or was cut short */
export const checkNoCompact = async (folder: ReadFolder, target: Target, own?: string): Promise<void> => {
  const overlay = (await compactsIn(folder)).find(name => name !== own)
  if (overlay !== undefined)
    throw new LiveError(
      'REFUSED',
      `a compaction of ${overlay} is running or was cut short: ${advised(target, address => `run ${marked(`liveos compact ${address}`)} to finish it first`)}`,
      { path: `${folder.path}/${compactStateName(overlay)}` },
    )
}
