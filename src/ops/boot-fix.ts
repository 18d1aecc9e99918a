import { dirname, join, resolve } from 'node:path'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Folder, openFolder } from '../host/folder.js'
import { bytesOf, textOf } from '../liveos/boot/text.js'
import { findRunning, NEW_SUFFIX, OLD_SUFFIX, type TargetInput } from '../liveos/target.js'
import { type BootFix, checkBoot } from './doctor-boot.js'
import { type Progress, progressing } from './progress.js'
import { removeEmptied, removeFile, sharedChain, swapNames } from './replaced-file.js'

/** Boot configurations that are to be changed. Plain JSON. */
export interface BootFixPlan {
  readonly verb: 'fix boot'
  readonly target: string
  readonly files: readonly BootFix[]
  readonly findings: readonly Finding[]
}

/** What was changed. */
export interface BootFixOutcome {
  readonly verb: 'fix boot'
  readonly target: string
  readonly changed: readonly string[]
  /** old texts that a change before this one had left */
  readonly removed: readonly string[]
  readonly findings: readonly Finding[]
}

/** How files of a target are reached; tests put a recording folder in. */
export type OpenFolder = (path: string) => Promise<Folder>

/**
 * Plans the changes of boot configurations by which boots keep what they are to keep.
 *
 * @throws NOT_FOUND, USAGE, IO
 */
export const planBootFix = async (input: TargetInput): Promise<BootFixPlan> => {
  const target = input.target ?? (await findRunning())
  const findings: Finding[] = []
  const { fixes } = await checkBoot(
    { ...input, target },
    (code, severity, where, message, more = {}) => void findings.push({ code, severity, where, message, ...more }),
  )
  return { verb: 'fix boot', target, files: fixes, findings }
}

const read = async (folder: Folder, name: string): Promise<string> => {
  const file = await folder.open(name)
  try {
    return textOf(await file.read(0, file.size))
  } finally {
    await file.close()
  }
}

const has = async (folder: Folder, name: string): Promise<boolean> => (await folder.facts(name))?.kind === 'file'

/** @throws REFUSED  the file is not the one that was planned for */
const expect = async (folder: Folder, name: string, text: string): Promise<void> => {
  if ((await read(folder, name)) === text) return
  const path = join(folder.path, name)
  if (name.endsWith(OLD_SUFFIX))
    throw new LiveError(
      'REFUSED',
      `${path} is in the way: the old text is kept under that name for a moment, and this one is no change of liveos's; move it elsewhere`,
      { path },
    )
  throw new LiveError('REFUSED', `${path} is not as it was when the change was planned: run liveos doctor again`, {
    path,
  })
}

type Texts = Pick<BootFix, 'before' | 'after' | 'leftover'>

/** Writes the new text beside the old one, read back and on the medium. */
const writeFresh = async (folder: Folder, name: string, fresh: string, after: string): Promise<void> => {
  await removeFile(folder, fresh)
  const file = await folder.create(fresh)
  try {
    await file.write(0, bytesOf(after))
    await file.flush()
  } finally {
    await file.close()
  }
  await folder.copyAttributes(join(folder.path, name), fresh)
  await folder.sync()
}

/**
 * Gives a boot configuration another text. Ordered steps, each on the medium before the next; on FAT there is no configuration
 * between the two renames, and such a stick can't boot until this was run again:
 *
 * 1. write the new text as .new    2. swap the names, see `swapNames`    3. remove the old one
 *
 * @throws REFUSED  the file has changed, another file has the name .old, or two names may share their clusters
 */
const replaceText = async (folder: Folder, name: string, { before, after, leftover }: Texts): Promise<void> => {
  const fresh = name + NEW_SUFFIX
  const old = name + OLD_SUFFIX
  await removeEmptied(folder, name)
  const [named, waits, kept] = [await has(folder, name), await has(folder, fresh), await has(folder, old)]
  if (!folder.traits.atomicRename && named && waits && kept) throw sharedChain(folder, old, name)
  if (leftover !== undefined) {
    await expect(folder, name, after)
    if (kept) await expect(folder, old, leftover)
    return removeFile(folder, old)
  }
  if (!named && kept && !waits) {
    await expect(folder, old, before)
    await folder.rename(old, name)
    await folder.sync()
    if (before === after) return
    return replaceText(folder, name, { before, after })
  }
  if (named) {
    await expect(folder, name, before)
    if (kept) {
      // beside a whole configuration, an old one is ours only where it is the very text that is replaced
      await expect(folder, old, before)
      await removeFile(folder, old)
    }
    await writeFresh(folder, name, fresh, after)
  }
  await swapNames(folder, name, false, {
    old: () => expect(folder, name, before),
    waiting: () => expect(folder, fresh, after),
    done: () => expect(folder, name, after),
  })
  if (await has(folder, old)) await expect(folder, old, before)
  await removeFile(folder, old)
}

/**
 * Carries a plan out, file by file.
 *
 * @throws REFUSED    a file has changed since
 * @throws READ_ONLY  the target is no mounted stick, or may not be written to
 * @throws IO, NO_SPACE, CANCELLED
 */
export async function* runBootFix(
  plan: BootFixPlan,
  { signal, open = openFolder }: { readonly signal?: AbortSignal | undefined; readonly open?: OpenFolder } = {},
): AsyncGenerator<Progress, BootFixOutcome> {
  return yield* progressing(async () => {
    const changed: string[] = []
    const removed: string[] = []
    for (const fix of plan.files) {
      if (signal?.aborted)
        throw new LiveError('CANCELLED', `${changed.length} of ${plan.files.length} boot configurations were changed`)
      if (fix.partition !== null)
        throw new LiveError(
          'READ_ONLY',
          `${fix.path} lies in an image or on a disk: mount the stick and name the directory where it is mounted`,
          { path: fix.path },
        )
      const path = join(resolve(plan.target), fix.path)
      await replaceText(await open(dirname(path)), path.slice(path.lastIndexOf('/') + 1), fix)
      if (fix.leftover === undefined) changed.push(path)
      else removed.push(path + OLD_SUFFIX)
    }
    return { verb: 'fix boot', target: plan.target, changed, removed, findings: [] }
  })
}
