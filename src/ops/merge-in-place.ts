import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { LiveError, unsupported } from '../error.js'
import type { Finding } from '../finding.js'
import type { Folder } from '../host/folder.js'
import { calledAs, marked } from '../liveos/advice.js'
import { overlaysIn } from '../liveos/live-directory.js'
import { openMergedRoot } from '../liveos/merged-root.js'
import { openStack, type Stack } from '../liveos/stack.js'
import { findTarget, type HostFile, type TargetInput, type WritableTarget } from '../liveos/target.js'
import { readOverlay } from './grow.js'
import { checkNotInUse, type FileIdentity, identityOf, readOnlyFindings } from './identity.js'
import { overlayOf } from './reset.js'
import { checkNothingUnfinished, undoEnds } from './unfinished.js'

/** The verb by which a merge in place was asked for; both do the same. */
export type InPlaceVerb = 'refresh' | 'merge'

export interface MergeInPlaceOptions {
  /** read each chunk back from the medium before the overlay forgets it; true if left out */
  readonly verify?: boolean | undefined
}

/** What a merge into the base itself will do. Sizes are bytes. */
export interface MergeInPlacePlan {
  readonly verb: InPlaceVerb
  readonly inPlace: true
  readonly target: string
  readonly base: FileIdentity
  readonly overlay: FileIdentity
  readonly options: MergeInPlaceOptions
  readonly chunkSize: number
  /** changed chunks in the overlay, all of which are written into the base */
  readonly exceptions: number
  readonly writtenBytes: number
  readonly estimatedSeconds: number
  readonly steps: readonly string[]
  readonly lost: readonly string[]
  readonly findings: readonly Finding[]
}

/** bytes a second of a slow stick: read, written and read back */
const SPEED = 5e6

/**
 * Plans to write what the overlay holds into an uncompressed base, where it stands.
 *
 * @throws NOT_FOUND, USAGE  no overlay, or an empty one
 * @throws UNSUPPORTED  the base is compressed, or the overlay is no snapshot store
 * @throws REFUSED  in use, invalid or cut off, or another verb was cut short
 * @throws CORRUPT, IO
 */
export const planMergeInPlace = async (
  verb: InPlaceVerb,
  input: TargetInput,
  options: MergeInPlaceOptions = {},
): Promise<MergeInPlacePlan> => {
  const target = await findTarget(input)
  const overlay = overlayOf(target)
  await checkNothingUnfinished(target)
  await checkNotInUse(target)
  const file = await overlay.folder.open(overlay.name)
  try {
    await readOverlay(overlay, file, target)
  } finally {
    await file.close()
  }
  const stack = await openStack(target)
  try {
    return await planStack(verb, stack, overlay, options)
  } finally {
    await stack.close()
  }
}

const planStack = async (
  verb: InPlaceVerb,
  stack: Stack<Folder>,
  overlay: HostFile,
  options: MergeInPlaceOptions,
): Promise<MergeInPlacePlan> => {
  const { target } = stack
  const { base } = target
  if (stack.base.squashfs)
    throw unsupported(
      'merge in place into a compressed base',
      base.path,
      `${base.name} is compressed, and nothing can be written into it where it stands: ${marked(`liveos refresh ${calledAs(target)}`)} writes a new one beside it and swaps them`,
    )
  const { exceptions, chunkSize } = stack.overlay!.store
  const { count } = exceptions
  if (count === 0) throw new LiveError('USAGE', `the overlay ${overlay.name} is empty, so there is nothing to merge`)
  const writtenBytes = Math.min(count * chunkSize, stack.root.size)
  return {
    verb,
    inPlace: true,
    target: target.name,
    base: identityOf(base),
    overlay: identityOf(overlay),
    options,
    chunkSize,
    exceptions: count,
    writtenBytes,
    estimatedSeconds: Math.ceil(writtenBytes / SPEED) + 1,
    steps: [
      `copy the changed chunks that came last from ${overlay.name} to their places in ${base.name}, and flush`,
      ...(options.verify === false
        ? ['nothing is read back (--no-verify)']
        : ['read them back from the medium and compare']),
      `take them off the list of ${overlay.name}, from its end on, and flush; and so on until the list is empty`,
    ],
    lost: ['the base as it was before these changes: it is written where it stands, and nothing takes that back'],
    findings: await findingsOf(stack, target, writtenBytes),
  }
}

const findingsOf = async (
  stack: Stack<Folder>,
  target: WritableTarget,
  writtenBytes: number,
): Promise<readonly Finding[]> => {
  const { base } = target
  const readOnly = await readOnlyFindings(target)
  const findings: Finding[] = [...readOnly, ...(await undoEnds(target))]
  const add = (code: string, severity: Finding['severity'], where: string, message: string, remedy?: string): void => {
    findings.push({ code, severity, where, message, ...(remedy === undefined ? {} : { remedy }) })
  }
  if (readOnly.length === 0 && !(await isWritable(base.path)))
    add('READ_ONLY', 'error', base.path, `you may not write to ${base.path}: run this as its owner or as root`)
  const { findings: root } = await openMergedRoot(stack.root, { trim: false, store: stack.overlay?.store })
  if (root.some(({ code }) => code.startsWith('JOURNAL_')))
    add(
      'JOURNAL_PENDING',
      'note',
      base.path,
      'the ext4 root was not unmounted cleanly: it is merged as it stands, with its journal, which the next boot replays as it would have anyway',
    )
  if (root.some(({ code }) => code === 'ROOT_UNKNOWN'))
    add('ROOT_UNKNOWN', 'warning', base.path, 'the root filesystem is of no kind that is known here')
  if ((await stat(base.path)).nlink > 1)
    add(
      'BASE_LINKED',
      'warning',
      base.path,
      `${base.name} has further names: what is kept under them changes with it`,
      'copy the file first if it is to stay as it is',
    )
  const others = await otherOverlays(target)
  if (others.length > 0)
    add(
      'OTHER_OVERLAYS',
      'warning',
      base.folder.path,
      `there are further overlays (${others.join(', ')}): over the changed base they show something else`,
      'merge or remove them first if they belong to this base',
    )
  const { file } = stack.base
  const freeBytes = await base.folder.freeBytes()
  const needed = Math.min(writtenBytes, file.size - file.allocated)
  if (file.hasHoles && needed > freeBytes)
    add(
      'MAY_RUN_OUT',
      'warning',
      base.path,
      `${base.name} has holes: filling them may take ${needed} bytes, and ${freeBytes} are free. Where they run out the merge stops, the rest stays in the overlay, and the system is as before`,
      'free space on the stick first',
    )
  return findings
}

const isWritable = (path: string): Promise<boolean> =>
  access(path, constants.W_OK).then(
    () => true,
    () => false,
  )

/** Overlays beside the base that are not the one to be merged. */
const otherOverlays = async ({ base, overlay }: WritableTarget): Promise<readonly string[]> => {
  const files = (await overlaysIn(base.folder)).filter(({ kind }) => kind === 'file')
  return files
    .map(({ name }) => name)
    .filter(name => !(overlay?.folder.path === base.folder.path && overlay.name === name))
}

export { type MergeInPlaceOutcome, runMergeInPlace } from './merge-in-place-run.js'
