import type { Finding } from '../../finding.js'
import { printableName } from '../../fs/name.js'
import type { Argument } from './arguments.js'

/** The loader whose words a configuration speaks. */
export type BootKind = 'syslinux' | 'isolinux' | 'extlinux' | 'pxelinux' | 'grub2' | 'bls' | 'grub-legacy'

/** What an entry starts. */
export type EntryKind =
  | 'live'
  | 'installer'
  /** a kernel with neither a live image nor an installer */
  | 'linux'
  /** the next disk, or another system's loader */
  | 'local'
  | 'memtest'
  /** another configuration or menu */
  | 'menu'
  /** the firmware's setup */
  | 'firmware'
  | 'power'
  | 'other'

/** A file that an entry names. */
export interface BootFile {
  /** absolute in the filesystem, its last name as the configuration spells it */
  readonly path: string
  /** undefined where it can't be known, such as a path made of a variable */
  readonly exists: boolean | undefined
}

/** One entry of a menu. */
export interface BootEntry {
  /** what the loader calls it: a label, an --id, or the title */
  readonly id: string
  readonly title: string
  readonly hotkey?: string
  readonly kind: EntryKind
  /** titles of the submenus above it */
  readonly submenu: readonly string[]
  readonly isDefault: boolean
  /** it is there only under a condition that can't be decided here */
  readonly conditional: boolean
  /** not shown in the menu, but can be started */
  readonly hidden: boolean
  readonly kernel?: BootFile
  readonly initrds: readonly BootFile[]
  /** the kernel's command line as the loader hands it over, without what it adds itself */
  readonly commandLine: string
  readonly arguments: readonly Argument[]
  /** another configuration or program that it starts */
  readonly target?: BootFile
  /** the file that the entry stands in, and the byte where it begins */
  readonly place: { readonly path: string; readonly offset: number }
}

/** Paths of an entry's kernel and initrds that are not there, so that it starts nothing. */
export const missingFiles = ({ kernel, initrds }: BootEntry): readonly string[] =>
  [...(kernel ? [kernel] : []), ...initrds].filter(({ exists }) => exists === false).map(({ path }) => path)

/** That these are missing, as a sentence goes on. */
export const notThere = (paths: readonly string[]): string =>
  `${paths.map(path => printableName(path)).join(' and ')} ${paths.length > 1 ? 'are' : 'is'} not there`

/** A boot configuration of a medium, its includes followed. */
export interface BootConfig {
  readonly kind: BootKind
  readonly path: string
  readonly firmware: 'bios' | 'uefi' | 'both'
  /** seconds until the default starts; undefined where the menu waits for ever */
  readonly timeout: number | undefined
  /** what the configuration names as its default, as it stands there; undefined where it names none */
  readonly defaultName: string | undefined
  readonly entries: readonly BootEntry[]
  /** every file that was read for it, the configuration itself first */
  readonly files: readonly string[]
  readonly findings: readonly Finding[]
}

/** What is known of an entry before it is classed. */
export type EntryFacts = Pick<BootEntry, 'title' | 'arguments'> & {
  readonly kernel?: string | undefined
  readonly target?: string | undefined
  /** commands of the entry without a kernel, lower case */
  readonly commands?: readonly string[]
}

const isLive = ({ name, value }: Argument): boolean =>
  name === 'rd.live.image' ||
  name === 'liveimg' ||
  (name === 'root' && value?.startsWith('live:') === true) ||
  (name === 'boot' && (value === 'live' || value === 'casper'))

/** What an entry starts, by its kernel, arguments and commands. */
export const entryKind = ({ title, kernel, target, commands = [], arguments: list }: EntryFacts): EntryKind => {
  const has = (...names: readonly string[]): boolean => names.some(name => commands.includes(name))
  const program = (kernel ?? target ?? '').toLowerCase()
  const file = program.slice(program.lastIndexOf('/') + 1)
  if (/mem(test|86)|mt86plus/.test(file)) return 'memtest'
  if (has('localboot')) return 'local'
  if (/^(reboot|poweroff)\.c32$/.test(file) || has('reboot', 'halt')) return 'power'
  if (/^(chain|whichsys)\.c32$/.test(file)) return 'local'
  if (/menu\.c32$/.test(file) || has('config', 'configfile', 'menu goto', 'menu exit', 'menu quit')) return 'menu'
  if (kernel !== undefined && !/\.c32$/.test(file)) {
    if (list.some(isLive)) return 'live'
    if (list.some(({ name }) => /^(inst\.)?(stage2|repo|ks)$|^method$|^netinst/.test(name))) return 'installer'
    if (/\/(install(\.\w+)?|d-i)\//.test(program)) return 'installer'
    return 'linux'
  }
  if (has('fwsetup')) return 'firmware'
  if (has('chainloader', 'exit', 'rootnoverify')) return 'local'
  return /^uefi firmware/i.test(title) ? 'firmware' : 'other'
}
