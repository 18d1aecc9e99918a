import { isLiveError } from '../error.js'
import { detectFs } from '../fs/detect.js'
import { readExt4Superblock } from '../fs/ext4/superblock.js'
import { checkFat } from '../fs/fat/check.js'
import type { Fat } from '../fs/fat/reader.js'
import { isHostFolder } from '../host/folder.js'
import { attachedLoop } from '../host/loops.js'
import { holderOf } from '../host/place-folder.js'
import { advised, marked } from '../liveos/advice.js'
import { NEW_SUFFIX, OLD_SUFFIX, RESET_SUFFIX, STATE_SUFFIX, type Target, type TargetInput } from '../liveos/target.js'
import { openView } from '../liveos/view.js'
import { compactsIn } from './compact-state.js'
import type { Tell } from './doctor-overlay.js'
import { restoresLeft } from './restore-left.js'
import { cutSentence, findUndo, isCut, standingOf } from './undo-journal.js'

const words = (error: unknown): string => (error instanceof Error ? error.message : String(error))
const passing = (error: unknown): void => {
  if (!isLiveError(error) || error.code === 'CANCELLED') throw error
}

/** What verbs that were cut short have left, and what they left on purpose. */
export const checkLeftovers = async (target: Target, tell: Tell): Promise<void> => {
  const { base, overlay } = target
  const run = (verb: string): string => advised(target, address => `liveos ${verb} ${address}`)
  const { folder } = base
  if (await folder.facts(base.name + STATE_SUFFIX))
    tell('REFRESH_INTERRUPTED', 'error', folder.path, 'a refresh was cut short', { remedy: run('refresh') })
  else
    for (const [suffix, what] of [
      [NEW_SUFFIX, 'a new base that no refresh knows of'],
      [OLD_SUFFIX, 'the base from before a refresh'],
    ] as const)
      if (await folder.facts(base.name + suffix))
        tell('LEFTOVER', 'note', `${folder.path}/${base.name}${suffix}`, `${base.name}${suffix} is ${what}`, {
          remedy: 'remove it once it is not wanted any more',
        })
  for (const other of await compactsIn(folder))
    tell('COMPACT_INTERRUPTED', 'error', `${folder.path}/${other}`, `a compaction of ${other} was cut short`, {
      remedy: run('compact'),
    })
  for (const { code, severity, where, message, remedy } of await restoresLeft(target, 'error'))
    tell(code, severity, where, message, remedy === undefined ? {} : { remedy })
  if (!overlay) return
  if (await overlay.folder.facts(overlay.name + RESET_SUFFIX))
    tell('RESET_INTERRUPTED', 'error', overlay.path, 'a reset was cut short', { remedy: run('reset') })
  try {
    const undo = await findUndo(overlay.folder, overlay.name)
    if (undo && isCut(undo))
      tell(
        'CHANGE_INTERRUPTED',
        'error',
        overlay.path,
        advised(target, address => cutSentence(undo, address)),
        { remedy: run(undo.phase === 'recording' && undo.about?.verb === 'recover' ? 'recover' : 'undo') },
      )
    else if (undo?.journal && (await standingOf(overlay.folder, overlay.name, undo.journal)) === 'held')
      tell(
        'CHANGE_INTERRUPTED',
        'error',
        overlay.path,
        `a ${undo.about?.verb ?? 'change'} of this overlay was cut short before its last step, which gives it back to the kernel`,
        { remedy: run('recover') },
      )
    else if (undo)
      tell(
        'UNDO_KEPT',
        'note',
        overlay.path,
        `${undo.name} can take the last ${undo.about?.verb ?? 'change'} back, until the stick is booted`,
        {
          remedy: advised(
            target,
            address =>
              `${marked(`liveos undo ${address}`)} does it; once it is not wanted any more, remove ${undo.name}`,
          ),
        },
      )
  } catch (error) {
    passing(error)
    tell('UNDO_DAMAGED', 'warning', overlay.path, words(error))
  }
  const loop = isHostFolder(overlay.folder) && (await attachedLoop(holderOf(overlay)))
  if (loop)
    tell(
      'OVERLAY_IN_USE',
      'note',
      overlay.path,
      `the overlay is in use by ${loop.name}: the kernel may be ahead of what the file shows`,
    )
}

/** The home image: what it holds, and how it was left. */
export const checkHome = async ({ home }: Target, tell: Tell): Promise<void> => {
  if (!home) return
  const file = await home.folder.open(home.name)
  try {
    const type = await detectFs(file)
    if (type === 'luks')
      return tell('HOME_ENCRYPTED', 'note', home.path, 'the home image is encrypted, and not looked into')
    if (type === undefined)
      return tell('HOME_UNKNOWN', 'error', home.path, 'the home image holds no known filesystem', {
        remedy: 'put a copy of it back',
      })
    if (type !== 'ext4') return
    const { hasErrors, errorCount, blockCount, blockSize, needsRecovery } = await readExt4Superblock(file)
    const check = `e2fsck -f ${home.path}`
    if (blockCount * blockSize > file.size)
      tell('HOME_TRUNCATED', 'error', home.path, 'the home image is shorter than its filesystem', {
        expected: blockCount * blockSize,
        found: file.size,
        remedy: 'put a copy of it back',
      })
    if (hasErrors)
      tell('HOME_ERRORS', 'warning', home.path, `the kernel marked errors in the home image (${errorCount} counted)`, {
        remedy: check,
      })
    if (needsRecovery)
      tell(
        'HOME_NEEDS_REPLAY',
        'note',
        home.path,
        'the home image was not unmounted cleanly: its journal waits for the next mount',
      )
  } catch (error) {
    passing(error)
    tell('HOME_DAMAGED', 'error', home.path, words(error), { remedy: `e2fsck -f ${home.path}` })
  } finally {
    await file.close()
  }
}

const LITTLE = 16 << 20

/** The stick's own filesystem: room, and, where it is FAT and named itself, all of its tables. */
export const checkMedium = async (target: Target, input: TargetInput, tell: Tell): Promise<void> => {
  const { medium, base, stick } = target
  if (isHostFolder(base.folder)) {
    const freeBytes = await base.folder.freeBytes()
    if (stick && freeBytes < LITTLE)
      tell(
        'STICK_FULL',
        'note',
        medium.mountPoint,
        `the stick has only ${freeBytes} bytes free: verbs that need room on it will refuse`,
        { found: freeBytes },
      )
    if (stick && medium.readOnly)
      tell(
        'STICK_READ_ONLY',
        'note',
        medium.mountPoint,
        'the stick is mounted read-only; after errors the kernel does so by itself',
      )
    return
  }
  if (input.base !== undefined) return
  try {
    const view = await openView(input, 'medium')
    try {
      if (view.fs.type !== 'vfat') return
      for (const { code, severity, where, message, ...more } of await checkFat(view.fs as Fat))
        tell(code, severity, where, message, {
          ...more,
          ...(more.remedy === undefined && severity !== 'note'
            ? { remedy: 'fsck.vfat -a on the partition, unmounted' }
            : {}),
        })
    } finally {
      await view.close()
    }
  } catch (error) {
    passing(error)
    tell('MEDIUM_UNREAD', 'note', target.name, `the stick's own filesystem was not checked: ${words(error)}`)
  }
}
