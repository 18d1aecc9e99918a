import { LiveError, unsupported } from '../error.js'
import type { Folder, ReadFolder } from '../host/folder.js'
import { advised, marked } from '../liveos/advice.js'
import type { Target } from '../liveos/target.js'
import { checkNotRunning, type RunOwner } from './refresh-owner.js'
import { removeFile } from './replaced-file.js'
import { createStepFile, readStepFile, rewriteStep } from './step-file.js'

/**
 * - `writing` the new files are being written beside the old ones: the stick is as it was
 * - `aside`   all new files are verified; the old file number `index` is being kept as `.old`
 * - `naming`  the new file number `index` is getting its name. Those before it have theirs
 * - `clearing` all have their names; the old ones are being removed
 */
export type RestoreStep = 'writing' | 'aside' | 'naming' | 'clearing'
const STEPS: readonly RestoreStep[] = ['writing', 'aside', 'naming', 'clearing']

/** A file that is being put back. */
export interface RestoredFile {
  /** of its directory, from the directory of the state file, such as `../boot/grub`; empty for that one itself */
  readonly folder: string
  readonly name: string
  /** bytes */
  readonly size: number
  /** SHA-256 over all of it, hex */
  readonly sha256: string
}

/** What a restore that was cut short left. */
export interface RestoreState {
  readonly step: RestoreStep
  readonly index: number
  readonly owner: RunOwner
  /** path of the backup, and SHA-256 over what it says of itself, hex */
  readonly archive: { readonly path: string; readonly mark: string }
  readonly files: readonly RestoredFile[]
}

/** Name of the state file, in the directory of the system that is restored. */
export const RESTORE_STATE = 'liveos-restore.state'

const VERSION = 1

// the owner too, so that a run which goes on with another's work becomes its owner in one sector
const stepOf = ({ step, index, owner }: Pick<RestoreState, 'step' | 'index' | 'owner'>): object => ({
  liveos: 'restore',
  version: VERSION,
  step,
  index,
  owner,
})

/** Makes the state file. @throws as `createStepFile` */
export const createRestoreState = (folder: Folder, state: RestoreState): Promise<void> => {
  const { archive, files } = state
  return createStepFile(folder, RESTORE_STATE, stepOf(state), { archive, files })
}

/** Records the next step; on the medium when this returns. */
export const recordRestoreStep = (
  folder: Folder,
  state: Pick<RestoreState, 'step' | 'index' | 'owner'>,
): Promise<void> => rewriteStep(folder, RESTORE_STATE, stepOf(state))

/** Takes the state file away: the restore is over. */
export const removeRestoreState = (folder: Folder): Promise<void> => removeFile(folder, RESTORE_STATE)

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null

const isOwner = (value: unknown): value is RunOwner => isObject(value) && typeof value.pid === 'number'

const isFile = (value: unknown): value is RestoredFile =>
  isObject(value) &&
  typeof value.folder === 'string' &&
  typeof value.name === 'string' &&
  !['', '.', '..'].includes(value.name) &&
  !/[/\0]/.test(value.name) &&
  typeof value.size === 'number' &&
  typeof value.sha256 === 'string'

/**
 * Reads the state of a restore; undefined where there is none, 'unreadable' where a cut came before it was complete.
 *
 * @throws UNSUPPORTED  a newer liveos left it
 */
export const readRestoreState = async (folder: ReadFolder): Promise<RestoreState | 'unreadable' | undefined> => {
  const file = await readStepFile(folder, RESTORE_STATE)
  if (file === undefined || file === 'unreadable') return file
  const { version, step, index, owner } = file.step
  if (version !== VERSION)
    throw unsupported(
      'state file of another version',
      folder.path,
      `${RESTORE_STATE} was left by another version of liveos (${String(version)}): finish with that one`,
    )
  const { archive, files } = file.begun
  const known = STEPS.find(name => name === step)
  if (
    known === undefined ||
    typeof index !== 'number' ||
    !isOwner(owner) ||
    !isObject(archive) ||
    typeof archive.path !== 'string' ||
    typeof archive.mark !== 'string' ||
    !Array.isArray(files) ||
    !files.every(isFile) ||
    !(index >= 0 && index <= files.length)
  )
    return 'unreadable'
  return { step: known, index, owner, archive: { path: archive.path, mark: archive.mark }, files }
}

/** @throws REFUSED  another process is still at it */
export const checkNotRestoring = (owner: RunOwner, where: string): Promise<void> =>
  checkNotRunning(owner, `a restore of ${where}`)

/** @throws REFUSED  a restore is running in the folder, or was cut short */
export const checkNoRestore = async (folder: ReadFolder, target: Target): Promise<void> => {
  if (await folder.facts(RESTORE_STATE))
    throw new LiveError(
      'REFUSED',
      `a restore of ${target.name} is running or was cut short: ${advised(target, address => `run ${marked(`liveos restore ${address} FILE`)} with the same backup to finish it first`)}`,
      { path: `${folder.path}/${RESTORE_STATE}` },
    )
}
