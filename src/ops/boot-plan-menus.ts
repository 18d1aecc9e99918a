import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import type { BootConfig, BootEntry } from '../liveos/boot/config.js'
import { findBootConfigs } from '../liveos/boot/find.js'
import type { Volume } from '../liveos/source.js'

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

/** All entries of all menus of these volumes. A filesystem that can't be searched is a finding. */
export const menusOf = async (volumes: readonly Volume[]): Promise<Menus> => {
  const entries: MenuEntry[] = []
  const findings: Finding[] = []
  let number = 0
  for (const volume of volumes) {
    if (!volume.fs || volume.type === 'squashfs') continue
    let configs: readonly BootConfig[] = []
    try {
      configs = await findBootConfigs(volume.fs)
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      findings.push({ code: 'BOOT_UNREADABLE', severity: 'error', where: volume.name, message: error.message })
    }
    for (const config of configs) {
      findings.push(...config.findings)
      for (const entry of config.entries) {
        const counts = entry.kernel !== undefined && entry.kind !== 'menu'
        entries.push({ number: counts ? ++number : undefined, entry, config, volume })
      }
    }
  }
  return { entries, findings }
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

const MAX_LEADS = 8

/** The entry that starts by itself: the default of the menu that the firmware comes to, through menus that it leads to. */
const defaultOf = (menus: Menus, firmware: Firmware): MenuEntry | undefined => {
  const rank = RANK[firmware]
  const configs = [...new Set(menus.entries.filter(found => isStartedBy(found, firmware)).map(({ config }) => config))]
  const [main] = configs.sort(
    (a, b) =>
      rank.indexOf(a.kind) - rank.indexOf(b.kind) || depthOf(a.path) - depthOf(b.path) || (a.path < b.path ? -1 : 1),
  )
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
const liveIn = (menus: Menus, chosen: MenuEntry): MenuEntry | undefined =>
  menus.entries.find(({ config, entry }) => config === chosen.config && entry.kind === 'live') ??
  menus.entries.find(({ entry }) => entry.kind === 'live')

/**
 * The entries that start by themselves, one of each firmware's menu; one for both where it is the same text.
 */
export const defaultEntries = (menus: Menus): readonly ChosenEntry[] => {
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
