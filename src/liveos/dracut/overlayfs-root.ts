import type { BaseImage } from './base-image.js'
import { parseDeviceWord } from './device-word.js'
import type { OverlayChoice } from './overlay-choice.js'
import type { Drafting } from './plan.js'
import { SINCE } from './version.js'

const TEMPORARY = 'a temporary directory in memory'

/**
 * True where the overlayfs module of dracut hears that an OverlayFS is wanted, so that it makes the upper directory.
 *
 * WHY it may not: the script that finds it necessary tells the module by one more argument, which an argument of the boot
 * loader that says no outdoes.
 */
const isTold = ({ settings, overlayfs }: Drafting): boolean => {
  const { version, overlayfs: asked, overlayfsByName } = settings
  if (asked.value) return true
  if (overlayfs !== 'required' || version < SINCE.overlayfsTold) return false
  return version >= SINCE.renamed ? overlayfsByName.from === undefined : asked.from === undefined
}

/**
 * The device that the overlayfs module of dracut 110 and later uses for itself: one that is named without a path.
 *
 * WHY only without: it takes the whole word for a device, and `UUID=…:/path` is none.
 */
const ownDevice = ({ settings, facts }: Drafting): string | undefined => {
  const { overlay, version } = settings
  if (version < SINCE.renamed || !/^(LABEL=|UUID=|PARTLABEL=|PARTUUID=|\/dev\/)/.test(overlay.value)) return undefined
  if (overlay.value.includes(':') || !facts.overlay?.match.device) return undefined
  return parseDeviceWord(overlay.value).raw
}

const NO_UPPER = ['vfat', 'exfat', 'ntfs', 'iso9660']
const onFat = ({ facts }: Drafting): boolean => NO_UPPER.includes(facts.overlay?.match.device?.type ?? '')

/** The lower side that a read-only overlay makes, and whether it is left out. */
const lowerSides = (at: Drafting, found: boolean): string => {
  const { readOnly, readOnlyMount, version } = at.settings
  if (!readOnly.value) return '/run/rootfsbase'
  if (readOnlyMount.value) return found ? '/run/overlayfs-r:/run/rootfsbase' : '/run/rootfsbase'
  // WHY: since dracut 110 the root's mount asks for rd.live.overlayfs.readonly, a name that nobody writes
  const message = found
    ? `dracut ${version} reads ${readOnly.from?.raw} in one place and not in the other: the overlay is left out of the root`
    : `dracut ${version} reads ${readOnly.from?.raw} in one place and not in the other, and mounts a layer that is not there`
  if (found) at.tell('READONLY_MISSPELLED', 'warning', message, readOnly.from, { remedy: 'write rd.overlay.readonly' })
  else if (at.initrd.systemd)
    at.stop('fails', 'READONLY_MISSPELLED', message, readOnly.from, 'write rd.overlay.readonly')
  return '/run/rootfsbase'
}

/** What the module of dracut 110 does beside, where an OverlayFS is the root. @returns the upper side, where it takes another */
const moduleEffects = (at: Drafting, persistent: boolean): string | undefined => {
  const device = isTold(at) ? ownDevice(at) : undefined
  if (device === undefined) return undefined
  const { from } = at.settings.overlay
  at.say(
    'overlayfs module',
    `dracut ${at.settings.version} makes /overlay and /ovlwork at the root of ${device} as well`,
    from,
  )
  if (persistent) {
    at.tell(
      'STRAY_LINK',
      'note',
      `dracut ${at.settings.version} leaves a link named overlay in the overlay at each start, because ${from?.raw} names a device without a path`,
      from,
      {
        remedy: 'name the path too: UUID=…:/LiveOS/overlay-LABEL-UUID',
      },
    )
    return undefined
  }
  if (onFat(at)) {
    at.stop(
      'fails',
      'OVERLAYFS_ON_FAT',
      `dracut ${at.settings.version} puts the upper side of the OverlayFS on ${device}, a FAT, which can't hold it: the root can't be mounted`,
      from,
      'name the path of the overlay too',
    )
    return undefined
  }
  at.say('overlayfs module', `changes are kept in /overlay at the root of ${device}`, from)
  at.changes = at.settings.reset.value ? 'emptied' : 'kept'
  return '/overlay'
}

/**
 * Whether the overlay's directory is emptied.
 *
 * WHY it may not: the overlayfs module does that, and only where it hears that there is an OverlayFS.
 */
const resets = (at: Drafting): boolean => {
  const { reset, version } = at.settings
  if (!reset.value) return false
  if (isTold(at)) {
    at.say('reset', 'it is emptied: all its changes are lost', reset.from)
    return true
  }
  const message = `dracut ${version} does not empty an OverlayFS that no argument asks for: ${reset.from?.raw} has no effect`
  at.tell('RESET_WITHOUT_EFFECT', 'warning', message, reset.from, { remedy: 'add rd.live.overlay.overlayfs' })
  return false
}

/** The root as an OverlayFS over the image. @returns where changes are kept, undefined where in memory */
export const overlayfsRoot = (at: Drafting, base: BaseImage, choice: OverlayChoice): string | undefined => {
  const { settings, initrd } = at
  const { version } = settings
  const found = choice.kind === 'overlayfs directory' || choice.kind === 'overlayfs image'
  const persistent = found && !settings.readOnly.value
  const lower = lowerSides(at, found)
  const other = moduleEffects(at, persistent)
  if (!persistent && other === undefined) {
    // WHY: the directory is made by a hook, and until dracut 100 systemd mounts the root before that hook runs
    const tooLate = version < SINCE.overlayfsPrepared && initrd.systemd
    if (tooLate || !isTold(at))
      at.stop(
        'fails',
        'OVERLAYFS_UNPREPARED',
        tooLate
          ? `dracut ${version} makes the directory of a temporary OverlayFS only after systemd has tried to mount the root, which fails`
          : `nothing tells dracut ${version} to make the directory of the temporary OverlayFS: the root can't be mounted`,
        settings.overlayfs.from,
        'use a persistent OverlayFS, a nested image with an overlay of device-mapper, or dracut 100 or later',
      )
    at.say('temporary overlay', `changes go to ${TEMPORARY}`, settings.overlayfs.from)
    sizeNote(at)
  }
  const upper = persistent ? choice.shown.path : other
  at.say('root', `the root is an OverlayFS over ${base.path}${upper === undefined ? '' : `, its changes in ${upper}`}`)
  const lowerdir = `lowerdir=${lower}`
  const options = `${lowerdir},upperdir=/run/overlayfs,workdir=/run/ovlwork`
  at.mounts.push({ source: base.file, target: '/run/rootfsbase', type: undefined, options: 'ro' })
  at.mounts.push({ source: 'LiveOS_rootfs', target: '/', type: 'overlay', options })
  if (persistent) at.changes = resets(at) ? 'emptied' : 'kept'
  return upper
}

/** WHY: the size is of device-mapper's temporary store; an OverlayFS takes what its tmpfs gives. */
const sizeNote = ({ settings, tell }: Drafting): void => {
  const { overlaySize, overlay, version } = settings
  if (overlaySize.from)
    tell(
      'SIZE_WITHOUT_EFFECT',
      'note',
      `${overlaySize.from.raw} has no effect on an OverlayFS, which takes up to half of the memory`,
      overlaySize.from,
    )
  if (overlay.value.startsWith('tmpfs:') && version < SINCE.tmpfsOptions)
    tell('TMPFS_NEEDS_111', 'note', `dracut ${version} does not know ${overlay.from?.raw}`, overlay.from)
}

/**
 * An OverlayFS that dracut lays over a root of device-mapper, because an argument that names the overlay also asks for one.
 *
 * WHY it happens: the script that finds the overlay gives the OverlayFS up, the overlayfs module asks the arguments again.
 *
 * @returns undefined where there is none
 */
export const overlayOnTop = (
  at: Drafting,
  choice: OverlayChoice,
): { readonly upper: string | undefined } | undefined => {
  const { settings, initrd } = at
  const { version, overlayfs } = settings
  if (!overlayfs.value) return undefined
  const argument = overlayfs.from
  const remedy =
    argument?.name === 'rd.overlay' ? 'write rd.live.overlay=… in its place' : 'leave rd.live.overlay.overlayfs out'
  if (version >= SINCE.overlayfsPrepared && version < SINCE.renamed && !initrd.systemd) {
    at.stop(
      'fails',
      'OVERLAYFS_ON_TOP',
      `dracut ${version} lays an OverlayFS over an empty directory in place of the root`,
      argument,
      remedy,
    )
    return undefined
  }
  const device = ownDevice(at)
  if (device !== undefined && onFat(at)) {
    // WHY: dracut 111 unmounts the root before it finds out that FAT can't hold the upper side
    if (version >= SINCE.tmpfsOptions)
      at.stop(
        'fails',
        'OVERLAYFS_ON_TOP',
        `dracut ${version} takes the root away to lay an OverlayFS over it, which ${device}, a FAT, can't hold`,
        argument,
        remedy,
      )
    else
      at.tell(
        'OVERLAYFS_ON_TOP',
        'note',
        `dracut ${version} tries to lay an OverlayFS over the root, which ${device}, a FAT, can't hold: the root stays as it is`,
        argument,
        { remedy },
      )
    return undefined
  }
  const path = choice.shown.path
  at.changes = device === undefined ? 'lost' : settings.reset.value ? 'emptied' : 'kept'
  const where = device === undefined ? 'to memory and are lost' : `to /overlay at the root of ${device}`
  const message = `${argument?.raw} also asks for an OverlayFS, which dracut ${version} lays over the root: changes go ${where}, not to ${path ?? 'the overlay'}`
  at.say('overlay on top', message, argument)
  at.tell('OVERLAYFS_ON_TOP', 'warning', message, argument, { remedy })
  at.mounts.push({
    source: 'LiveOS_rootfs',
    target: '/',
    type: 'overlay',
    options: 'lowerdir=/run/rootfsbase,upperdir=/run/overlayfs,workdir=/run/ovlwork',
  })
  return { upper: device === undefined ? undefined : '/overlay' }
}
