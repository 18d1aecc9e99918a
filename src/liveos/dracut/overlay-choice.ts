import type { BaseImage } from './base-image.js'
import type { OverlayFacts } from './facts.js'
import { type OverlayWord, parseOverlayWord } from './overlay-word.js'
import type { Drafting, PlannedOverlay } from './plan.js'
import { SINCE } from './version.js'

/** The persistent overlay that is used, where one is. */
export interface OverlayChoice {
  readonly kind: PlannedOverlay['kind']
  readonly shown: Partial<PlannedOverlay>
}

/** Filesystems that can't be the upper side of an OverlayFS. */
const NO_UPPER: readonly string[] = ['vfat', 'exfat', 'ntfs', 'iso9660', 'udf', 'squashfs', 'erofs', 'hfsplus']

/** WHY also something unknown: dracut gives device-mapper every file in which blkid sees no filesystem. */
const isForMapper = ({ content }: OverlayFacts): boolean =>
  content === 'new' || content === 'store' || content === 'unknown'

/** WHY a reason and no more: dracut says the same two lines whatever it is that was not found. */
const reasonAgainst = (at: Drafting, word: OverlayWord): string | undefined => {
  const { settings, facts } = at
  const { match, found } = facts.overlay!
  if (word.device.by === 'nothing') return 'it names no device'
  if (match.byCase)
    return `${word.device.raw} is written otherwise than ${match.byCase.name} is called: upper and lower case differ`
  if (!match.device) return `no device here is ${word.device.raw}`
  if (!word.path.startsWith('/'))
    return `dracut ${settings.version} puts no / before ${word.path}, so it looks for a path that is not there`
  if (settings.version < SINCE.erofs && /\s/.test(word.path))
    return `dracut ${settings.version} can't take a path with spaces: "${word.path}"`
  if (found.kind === 'nothing') return `there is no ${word.path} on ${match.device.name}`
  if (found.kind === 'file' && match.device.readOnly)
    return `${match.device.name} can't be written to, and dracut takes only a file that can`
  if (found.kind === 'directory' && found.prepared === false)
    return `${word.path} is a directory, and there is no ovlwork beside it`
  if (found.kind === 'file' && !isForMapper(found) && found.prepared === false)
    return `${word.path} is ${found.content ?? 'something'} without the directories overlayfs and ovlwork in it`
  return undefined
}

const readyKind = ({ facts }: Drafting): PlannedOverlay['kind'] => {
  const { found } = facts.overlay!
  if (found.kind === 'directory') return 'overlayfs directory'
  return isForMapper(found) ? 'dm-snapshot' : 'overlayfs image'
}

const PROMPT = 'Unable to find a persistent overlay; using a temporary one. Press [Enter] to continue.'

/** WHY no prompt without a word: dracut looks for nothing where nothing is asked for, and says so only in its log. */
const missing = (at: Drafting, word: OverlayWord, reason: string): OverlayChoice => {
  const { overlay, noPrompt } = at.settings
  const words = `${reason}: the overlay is not used, and changes go to memory`
  at.say('overlay missing', words, overlay.from)
  at.tell('OVERLAY_NOT_USED', 'warning', words, overlay.from)
  if (noPrompt.value) at.say('no prompt', 'it goes on without asking', noPrompt.from)
  else if (word.device.by !== 'nothing') {
    at.prompts.push(PROMPT)
    at.say('prompt', 'the boot waits until somebody presses Enter', overlay.from)
  }
  const path = word.path
  return { kind: undefined, shown: { device: at.facts.overlay?.match.device?.name, path, used: false, why: reason } }
}

const used = (at: Drafting, word: OverlayWord): OverlayChoice => {
  const { settings, facts } = at
  const { match, found } = facts.overlay!
  const kind = readyKind(at)
  const place = `${word.path} on ${match.device!.name}`
  at.setup = 'yes'
  if (kind === 'dm-snapshot') {
    at.say(
      'overlay',
      `${place} is a file ${found.content === 'new' ? 'of zeros' : 'with changes in it'}, so it is an overlay of device-mapper`,
      settings.overlay.from,
    )
    if (settings.reset.value)
      at.say('reset', 'its first 64 KiB are cleared: all its changes are lost', settings.reset.from)
    if (at.overlayfs !== '') {
      at.say('overlay', 'the OverlayFS that was asked for is given up for it', settings.overlayfs.from)
      at.overlayfs = ''
    }
  } else {
    const what =
      kind === 'overlayfs directory'
        ? 'a directory with ovlwork beside it'
        : `${found.content} with overlayfs and ovlwork in it`
    at.say('overlay', `${place} is ${what}, so the root is an OverlayFS`, settings.overlay.from)
    at.overlayfs = 'required'
  }
  if (settings.readOnly.value)
    at.say('read-only', 'it is only read; a temporary overlay goes over it', settings.readOnly.from)
  else at.changes = settings.reset.value && kind === 'dm-snapshot' ? 'emptied' : 'kept'
  const why = `it is there${word.automatic ? ', under the name that label and UUID of the medium make' : ''}`
  return { kind, shown: { device: match.device!.name, path: word.path, kind, used: true, why } }
}

/** WHY before anything is looked for: dracut mounts the device of the overlay rw, whatever it then finds on it. */
const remount = (at: Drafting): void => {
  const { overlay, mode } = at.settings
  if (mode.value === 'rw') return
  at.say('remount', 'the overlay is to be on the live medium, so that is mounted rw', overlay.from)
  const n = at.mounts.findIndex(({ target }) => target === '/run/initramfs/live')
  if (n >= 0) at.mounts[n] = { ...at.mounts[n]!, options: 'rw' }
}

/** Whether the overlay that is asked for is found, and as what. Sets `setup`, `overlayfs` and `changes` as dracut does. */
export const overlayChoice = (at: Drafting, { layout }: BaseImage): OverlayChoice => {
  const { settings, facts } = at
  // WHY: dracut looks for overlays only once it has an image to lay them over
  if (layout === 'medium')
    return { kind: undefined, shown: { used: false, why: 'without an image no overlay is looked for' } }
  const medium = facts.live.device ?? { label: undefined, uuid: undefined }
  const word = parseOverlayWord(settings, medium)
  if (at.setup !== '')
    return { kind: undefined, shown: { used: false, why: 'the image is used without a persistent overlay' } }
  if (!word || !facts.overlay) {
    at.say('overlay', 'no argument asks for an overlay, so none is looked for: changes go to memory')
    if (settings.overlayfsByName.value && settings.overlay.value === '')
      return {
        kind: undefined,
        shown: { used: false, why: `${settings.overlayfsByName.from?.raw} asks for an OverlayFS and names no device` },
      }
    return { kind: undefined, shown: { used: false, why: 'no argument asks for one' } }
  }
  const { match, found, sameDevice } = facts.overlay
  if (sameDevice && !match.device?.readOnly) remount(at)
  at.say(
    'overlay path',
    word.automatic
      ? `${word.path} is looked for on ${match.device?.name ?? word.device.raw}: live directory, label and UUID of the live medium`
      : `${word.path} is looked for on ${match.device?.name ?? word.device.raw}`,
    settings.overlay.from,
  )
  if (match.count > 1)
    at.tell(
      'DEVICE_AMBIGUOUS',
      'warning',
      `${match.count} filesystems here are ${word.device.raw}: which one a boot takes is left to chance`,
      settings.overlay.from,
    )
  const reason = reasonAgainst(at, word)
  if (reason !== undefined) return missing(at, word, reason)
  const choice = used(at, word)
  if (choice.kind === 'overlayfs directory' && !settings.readOnly.value && NO_UPPER.includes(match.device?.type ?? ''))
    at.stop(
      'fails',
      'OVERLAYFS_ON_FAT',
      `${word.path} is a directory on ${match.device?.type}, which can't hold the upper side of an OverlayFS: the root can't be mounted`,
      settings.overlay.from,
      'use an overlay file, or a stick with ext4',
    )
  if (found.content === 'unknown' && !settings.reset.value)
    at.stop(
      'fails',
      'OVERLAY_UNKNOWN',
      `${word.path} is neither empty nor a store nor a filesystem: the kernel refuses it, and there is no root`,
      settings.overlay.from,
      'liveos doctor looks whether it can be recovered; an empty file is taken for a new overlay',
    )
  if (found.invalid && !settings.reset.value && !settings.readOnly.value)
    at.stop(
      'fails',
      'OVERLAY_INVALID',
      `the kernel has given ${word.path} up as invalid: the root over it can't be read`,
      settings.overlay.from,
      'liveos recover brings it back',
    )
  return choice
}
