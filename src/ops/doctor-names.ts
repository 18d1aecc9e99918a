import type { DirectoryFileSystem } from '../host/directory.js'
import { namedDevices } from '../host/filesystem-names.js'
import { marked, pathWord } from '../liveos/advice.js'
import type { Source } from '../liveos/source.js'
import { hasNames } from './boot-volumes.js'
import type { Tell } from './doctor-overlay.js'

interface Named {
  readonly where: string
  readonly label: string | undefined
  readonly uuid: string | undefined
}

const REMEDY =
  'unplug one of them, or give one another label and UUID (a new UUID wants new boot entries and another overlay name)'

const pairs = (own: readonly Named[], others: readonly Named[], tell: Tell): void => {
  for (const [n, mine] of own.entries())
    for (const other of [...own.slice(n + 1), ...others]) {
      if (mine.where === other.where) continue
      if (mine.uuid !== undefined && mine.uuid === other.uuid)
        tell(
          'SAME_UUID',
          'warning',
          mine.where,
          `${mine.where} and ${other.where} have the same UUID ${mine.uuid}: which one a boot takes is left to chance`,
          { found: mine.uuid, remedy: REMEDY },
        )
      else if (mine.label !== undefined && mine.label === other.label)
        tell(
          'SAME_LABEL',
          'warning',
          mine.where,
          `${mine.where} and ${other.where} have the same label "${mine.label}": a boot by label takes either`,
          { found: mine.label, remedy: REMEDY },
        )
    }
}

/** The disk of a partition: /dev/sdb of /dev/sdb1, /dev/mmcblk0 of /dev/mmcblk0p1. */
const diskOf = (path: string): string => path.replace(/(?<=\d)p\d+$|(?<!\d)\d+$/, '')

/** A directory shows one partition: what boots by UEFI may read its menu from another one of the disk. */
const tellSiblings = (source: string, here: readonly Named[], tell: Tell): void => {
  const disk = diskOf(source)
  const others = here.filter(({ where }) => where !== source && where !== disk && diskOf(where) === disk)
  if (others.length > 0)
    tell(
      'BOOT_OTHER_PARTITIONS',
      'note',
      source,
      `boot menus on ${others.map(({ where }) => where).join(', ')} are not seen from this directory: ${marked(`liveos doctor ${pathWord(disk)}`)} looks at all of the disk`,
    )
}

/**
 * Two filesystems of one UUID or label, by which boots find their stick: on the target itself, and, where it is plugged in,
 * among all that this computer has.
 */
export const checkSameNames = async (source: Source, tell: Tell): Promise<void> => {
  const own: Named[] = source.volumes
    .filter(({ fs, type }) => fs && type !== 'squashfs')
    .map(({ name, fs }) => ({ where: name, label: fs?.label, uuid: fs?.uuid }))
  if (source.kind === 'directory') {
    const { medium } = source.volumes[0]!.fs as DirectoryFileSystem
    if (medium.source === undefined || !hasNames(source)) return
    const here = await namedDevices()
    if (here === undefined) {
      tell(
        'NAMES_UNKNOWN',
        'note',
        source.name,
        'whether another filesystem here has the same label or UUID is not known: this computer has no udev',
      )
      return
    }
    const known = here.map(({ path, ...names }) => ({ where: path, ...names }))
    tellSiblings(medium.source, known, tell)
    const mine: Named = { where: medium.source, label: medium.label, uuid: medium.uuid }
    pairs(
      [mine],
      // a hybrid ISO shows its filesystem on the disk and on its first partition alike
      known.filter(({ where }) => where !== medium.source && where !== diskOf(medium.source!)),
      tell,
    )
    return
  }
  pairs(own, [], tell)
}
