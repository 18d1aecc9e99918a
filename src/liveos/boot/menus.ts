import { isLiveError, LiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import type { FileSystem } from '../../fs/filesystem.js'
import type { Volume } from '../source.js'
import type { BootConfig, BootEntry } from './config.js'
import { findBootConfigs } from './find.js'

/** An entry with where it is listed, and its number as `liveos boot` counts them. */
export interface MenuEntry {
  /** from 1, over all menus in the order of partitions and paths; undefined of what starts no kernel */
  readonly number: number | undefined
  readonly entry: BootEntry
  readonly config: BootConfig
  readonly volume: Volume
}

/** The menus of a target. */
export interface Menus {
  readonly entries: readonly MenuEntry[]
  readonly findings: readonly Finding[]
}

/** Filesystems of volumes where boot files may lie, but for one. */
export const otherFileSystems = (volumes: readonly Volume[], but: Volume): readonly FileSystem[] =>
  volumes.flatMap(({ fs, type }) => (fs && fs !== but.fs && type !== 'squashfs' ? [fs] : []))

/** The configurations of a volume. */
export interface VolumeMenus {
  readonly volume: Volume
  readonly configs: readonly BootConfig[]
}

/** All entries of these configurations. */
export const entriesOf = (found: readonly VolumeMenus[]): readonly MenuEntry[] => {
  let number = 0
  return found.flatMap(({ volume, configs }) =>
    configs.flatMap(config =>
      config.entries.map(entry => {
        const counts = entry.kernel !== undefined && entry.kind !== 'menu'
        return { number: counts ? ++number : undefined, entry, config, volume }
      }),
    ),
  )
}

/**
 * All entries of all menus of these volumes. A filesystem that can't be searched is a finding.
 *
 * @param all  of the medium: where the files of these menus may lie
 */
export const menusOf = async (volumes: readonly Volume[], all: readonly Volume[] = volumes): Promise<Menus> => {
  const found: VolumeMenus[] = []
  const findings: Finding[] = []
  for (const volume of volumes) {
    if (!volume.fs || volume.type === 'squashfs') continue
    try {
      const configs = await findBootConfigs(volume.fs, otherFileSystems(all, volume))
      found.push({ volume, configs })
      findings.push(...configs.flatMap(config => config.findings))
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      findings.push({ code: 'BOOT_UNREADABLE', severity: 'error', where: volume.name, message: error.message })
    }
  }
  return { entries: entriesOf(found), findings }
}

/** What starts a computer. */
export type Firmware = 'bios' | 'uefi'

const isStartedBy = ({ config }: MenuEntry, firmware: Firmware): boolean =>
  config.firmware === firmware || config.firmware === 'both'

/** SYSLINUX and its kin are asked before GRUB where a BIOS has both: their boot sector is the medium's own. */
const RANK: Readonly<Record<Firmware, readonly BootConfig['kind'][]>> = {
  bios: ['isolinux', 'syslinux', 'extlinux', 'grub2', 'grub-legacy', 'bls', 'pxelinux'],
  uefi: ['grub2', 'bls', 'grub-legacy', 'syslinux', 'isolinux', 'extlinux', 'pxelinux'],
}
/** Menus at the places where loaders look come before those that others lead to. */
const depthOf = (path: string): number => path.split('/').length + (/^\/efi\/boot\//i.test(path) ? -2 : 0)

/** UEFI looks there first. */
const isEsp = ({ partition }: Volume): boolean => partition?.typeName === 'EFI System'

const MAX_LEADS = 8

/** The entry that starts by itself: the default of the menu that the firmware comes to, through menus that it leads to. */
const defaultOf = (menus: Pick<Menus, 'entries'>, firmware: Firmware): MenuEntry | undefined => {
  const rank = RANK[firmware]
  const found = [...new Map(menus.entries.map(entry => [entry.config, entry])).values()]
  const [main] = found
    .filter(entry => isStartedBy(entry, firmware))
    .sort(
      ({ config: a, volume: of }, { config: b, volume: other }) =>
        (firmware === 'uefi' ? Number(isEsp(other)) - Number(isEsp(of)) : 0) ||
        rank.indexOf(a.kind) - rank.indexOf(b.kind) ||
        depthOf(a.path) - depthOf(b.path) ||
        (a.path < b.path ? -1 : Number(a.path > b.path)),
    )
    .map(({ config }) => config)
  let config = main
  for (let n = 0; config && n < MAX_LEADS; n++) {
    const own = menus.entries.filter(found => found.config === config)
    const chosen = own.find(({ entry }) => entry.isDefault) ?? own.find(({ entry }) => entry.kind === 'live')
    const target = chosen?.entry.kind === 'menu' ? chosen.entry.target?.path : undefined
    if (target === undefined) return chosen
    const next = menus.entries.find(found => found.config.path === target && found.config !== config)?.config
    if (!next) return own.find(({ entry }) => entry.kind === 'live')
    config = next
  }
  return undefined
}

/** An entry that is to be looked at, and which firmware comes to it. */
export interface ChosenEntry extends MenuEntry {
  readonly starts: readonly Firmware[]
  /** the menu starts something else by itself */
  readonly insteadOf: string | undefined
}

/** The first live entry of the menu whose default is none. */
const liveIn = (menus: Pick<Menus, 'entries'>, chosen: MenuEntry): MenuEntry | undefined =>
  menus.entries.find(({ config, entry }) => config === chosen.config && entry.kind === 'live') ??
  menus.entries.find(({ entry }) => entry.kind === 'live')

/**
 * The entries that start by themselves, one of each firmware's menu; one for both where it is the same text.
 */
export const defaultEntries = (menus: Pick<Menus, 'entries'>): readonly ChosenEntry[] => {
  const chosen: ChosenEntry[] = []
  for (const firmware of ['bios', 'uefi'] as const) {
    const byItself = defaultOf(menus, firmware)
    if (!byItself) continue
    const live = byItself.entry.kind === 'live' ? byItself : liveIn(menus, byItself)
    const found = live ?? byItself
    const same = chosen.findIndex(({ entry, config }) => entry === found.entry && config === found.config)
    const insteadOf = found === byItself ? undefined : byItself.entry.title
    if (same >= 0) chosen[same] = { ...chosen[same]!, starts: [...chosen[same]!.starts, firmware] }
    else chosen.push({ ...found, starts: [firmware], insteadOf })
  }
  return chosen
}

/** The entry of a number, an id or a title. @throws USAGE, NOT_FOUND  there is none, or several */
export const namedEntry = (menus: Menus, name: string, target: string): ChosenEntry => {
  const { entries } = menus
  const startable = entries.filter(({ number }) => number !== undefined)
  const starts = ({ config }: MenuEntry): readonly Firmware[] =>
    config.firmware === 'both' ? ['bios', 'uefi'] : [config.firmware]
  const byNumber = /^\d+$/.test(name) ? startable.find(({ number }) => number === Number(name)) : undefined
  const byName = startable.filter(({ entry }) => entry.id === name || entry.title === name)
  const found = byNumber ?? byName[0]
  if (found) return { ...found, starts: starts(found), insteadOf: undefined }
  if (startable.length === 0)
    throw new LiveError(
      'NOT_FOUND',
      `${target} has no boot entry that starts a kernel: give its arguments with --args`,
      {
        path: target,
      },
    )
  throw new LiveError(
    'USAGE',
    `${target} has no entry ${name}; there are: ${startable.map(({ number, entry, config }) => `${number} "${entry.title}" (${config.path})`).join(', ')}`,
    { path: target },
  )
}
