import { dirname, resolve, sep } from 'node:path'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { factsOf, isHostFolder, openFolder } from '../host/folder.js'
import { openTarget } from '../liveos/open-target.js'
import type { Target, TargetInput } from '../liveos/target.js'
import { PART_KINDS, type PartKind } from './backup-manifest.js'
import { findParts } from './backup-parts.js'
import { checkNotInUse } from './identity.js'
import { type ImageMark, markOf } from './refresh-state.js'
import { checkNothingUnfinished } from './unfinished.js'

/** What a backup keeps. */
export interface BackupOptions {
  /** all there is if left out */
  readonly only?: readonly ('boot' | 'home' | 'overlay')[] | undefined
  /** in the place of the overlay the files that differ from the base, and the names of those that are gone */
  readonly changedOnly?: boolean | undefined
}

/** A file that a backup will hold, as it was when the plan was made. */
export interface PlannedPart {
  readonly kind: PartKind
  /** from the root of the stick, and of the member */
  readonly path: string
  /** bytes; null where that is known only once the changes have been found */
  readonly size: number | null
  /** milliseconds since 1970; null as above */
  readonly modified: number | null
}

/** What a backup will do. Sizes are bytes. */
export interface BackupPlan {
  readonly verb: 'backup'
  readonly target: string
  /** the file that will be written */
  readonly output: string
  readonly options: BackupOptions
  readonly parts: readonly PlannedPart[]
  readonly base: ImageMark & { readonly name: string }
  /** a run before this one left so much, which is looked at and gone on with */
  readonly resumeBytes: number | null
  /** zeros take nothing, and the rest is compressed */
  readonly bytesAtMost: number
  readonly freeBytes: number
  readonly estimatedSeconds: number
  readonly steps: readonly string[]
  readonly findings: readonly Finding[]
}

/** bytes a second of a slow stick */
const SPEED = 20e6
/** End of the name of a backup that is not whole yet. */
export const PART_SUFFIX = '.part'

/** The kinds of parts that are wanted. @throws USAGE */
export const kindsOf = ({ only, changedOnly }: BackupOptions): ReadonlySet<PartKind> => {
  const kinds = new Set<PartKind>(only ?? PART_KINDS)
  if (changedOnly && only && !kinds.has('overlay'))
    throw new LiveError('USAGE', '--changed-only is about the overlay, which --only leaves out')
  if (!changedOnly) kinds.delete('changes')
  else if (kinds.has('overlay') || !only) {
    kinds.delete('overlay')
    kinds.add('changes')
  }
  return kinds
}

const isInside = (path: string, root: string): boolean => path.startsWith(root.endsWith(sep) ? root : root + sep)

/** @throws REFUSED  the file is there; NOT_FOUND, USAGE  its directory */
export const checkOutput = async (output: string): Promise<void> => {
  const facts = await factsOf(output)
  if (facts)
    throw new LiveError(
      facts.kind === 'file' ? 'REFUSED' : 'USAGE',
      facts.kind === 'file'
        ? `${output} is there already: choose another name, or remove it first`
        : `${output} is no file: name the file that the backup is to be written to`,
      { path: output },
    )
  if ((await factsOf(dirname(output)))?.kind !== 'directory')
    throw new LiveError('NOT_FOUND', `there is no directory ${dirname(output)}`, { path: dirname(output) })
}

/**
 * Plans a backup of a stick's overlay, home image and boot configuration into one file. The stick is only read.
 *
 * @throws NOT_FOUND  there is nothing to keep; USAGE, UNSUPPORTED, CORRUPT, IO
 * @throws REFUSED  in use, another verb was cut short on it, or the file is there already
 */
export const planBackup = async (
  input: TargetInput,
  file: string,
  options: BackupOptions = {},
  signal?: AbortSignal,
): Promise<BackupPlan> => {
  const output = resolve(file)
  const kinds = kindsOf(options)
  await checkOutput(output)
  const { target, close } = await openTarget(input, signal)
  try {
    await checkNothingUnfinished(target)
    if (isHostFolder(target.base.folder)) await checkNotInUse(target)
    const found = await findParts(target, input, kinds)
    const parts: PlannedPart[] = found.parts.map(({ kind, path, size, modified }) => ({ kind, path, size, modified }))
    await found.close()
    if (kinds.has('changes') && target.overlay) parts.push({ kind: 'changes', path: '', size: null, modified: null })
    if (parts.length === 0)
      throw new LiveError('NOT_FOUND', `${target.name} has nothing of what is to be kept`, { path: target.name })
    const base = await target.base.folder.open(target.base.name)
    const mark = await markOf(base).finally(() => base.close())
    const folder = await openFolder(dirname(output))
    if (!(await folder.isWritable()))
      throw new LiveError('READ_ONLY', `you may not write in ${folder.path}: name a place where you may`, {
        path: folder.path,
      })
    const left = await factsOf(output + PART_SUFFIX)
    const freeBytes = (await folder.freeBytes()) + (left?.allocated ?? 0)
    const bytesAtMost = parts.reduce((sum, { size }) => sum + (size ?? target.overlay?.facts.size ?? 0), 0)
    return {
      verb: 'backup',
      target: target.name,
      output,
      options,
      parts,
      base: { name: target.base.name, ...mark },
      resumeBytes: left ? left.size : null,
      bytesAtMost,
      freeBytes,
      estimatedSeconds: Math.ceil((bytesAtMost * 2) / SPEED),
      steps: [
        'read everything once: checksums, and where there are zeros',
        ...(left ? [`keep what ${output}${PART_SUFFIX} has of the same, as far as it is whole`] : []),
        `write ${output}${PART_SUFFIX}: a tar archive, compressed with zstd; flush`,
        'read it back and count every checksum anew',
        `give it the name ${output}`,
      ],
      findings: [
        ...found.findings,
        ...placeFindings(target, output, bytesAtMost, freeBytes, folder.traits.maxFileSize),
      ],
    }
  } finally {
    await close()
  }
}

const placeFindings = (
  target: Target,
  output: string,
  bytesAtMost: number,
  freeBytes: number,
  maxFileSize: number,
): Finding[] => {
  const findings: Finding[] = []
  if (target.stick && isHostFolder(target.base.folder) && isInside(output, target.stick.root))
    findings.push({
      code: 'BACKUP_ON_THE_STICK',
      severity: 'warning',
      where: output,
      message: 'the backup will be on the stick itself, and lost together with it',
      remedy: 'name a place elsewhere',
    })
  if (bytesAtMost > Math.min(freeBytes, maxFileSize))
    findings.push({
      code: 'BACKUP_MAY_NOT_FIT',
      severity: 'note',
      where: output,
      message: `up to ${bytesAtMost} bytes are kept, and ${Math.min(freeBytes, maxFileSize)} fit there: they do if what is kept can be compressed well`,
    })
  return findings
}

export { type BackupOutcome, runBackup } from './backup-run.js'
