import { isLiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import type { Entry, FileSystem } from '../../fs/filesystem.js'
import { readBlsMenu } from './bls-menu.js'
import type { BootConfig, BootKind } from './config.js'
import { directoryOf } from './follow.js'
import { readGrubMenu } from './grub-menu.js'
import { readLegacyGrubMenu } from './legacy-grub.js'
import { type BootReader, bootReader } from './reader.js'
import { readSyslinuxMenu } from './syslinux-menu.js'

/** Configurations that are read at most, and directories that are looked into. */
const MAX_CONFIGS = 64
const MAX_DIRECTORIES = 1000
const MAX_DEPTH = 6

/** Below the first level, only directories of these names hold boot files; below EFI any may. */
const BOOT_DIRECTORIES =
  /^(efi|boot|syslinux|isolinux|extlinux|pxelinux(\.cfg)?|grub2?|loader|entries|images|pxeboot|live|install(\.amd)?|slax|x86_64|i[3-6]86|aarch64|arm64|ppc64le|s390x)$/i
/** Directories of a system or of packages: much in them, nothing of a boot loader's. */
const OTHER_DIRECTORIES =
  /^(usr|proc|sys|dev|run|var|home|root|tmp|lib|lib64|bin|sbin|etc|opt|srv|mnt|media|lost\+found|packages|repodata|dists|pool|system volume information)$/i

interface Found {
  readonly path: string
  readonly name: string
  readonly kind: BootKind
}

const SYSLINUX_NAMES: Readonly<Record<string, BootKind>> = {
  'isolinux.cfg': 'isolinux',
  'syslinux.cfg': 'syslinux',
  'syslnx32.cfg': 'syslinux',
  'syslnx64.cfg': 'syslinux',
  'extlinux.conf': 'extlinux',
}

const kindOf = (directory: string, name: string): BootKind | undefined => {
  const lower = name.toLowerCase()
  const parent = directory.slice(directory.lastIndexOf('/') + 1).toLowerCase()
  if (parent === 'pxelinux.cfg' && lower === 'default') return 'pxelinux'
  if (lower === 'grub.cfg' || (parent === 'boot' && /\/efi\/boot$/i.test(directory) && /^boot[^.]*\.conf$/.test(lower)))
    return 'grub2'
  if (lower === 'grub.conf' || lower === 'menu.lst') return 'grub-legacy'
  return SYSLINUX_NAMES[lower]
}

/** True for the words of GRUB legacy: titles, and nothing that only GRUB 2 knows. */
const isLegacyGrub = (text: string): boolean =>
  /^[ \t]*title[ \t=]/im.test(text) && !/^[ \t]*(menuentry|submenu|insmod|function|configfile[ \t]+[$(])/m.test(text)

/**
 * Finds every boot configuration of a medium by the names that loaders look for, wherever they lie: at the usual places and
 * in the directories of a stick with several images.
 *
 * @param others   the other filesystems of the medium, where a menu may have its kernels
 * @returns by path; findings of the search itself stand with the first one
 * @throws CORRUPT, IO  the root can't be listed; anything else is a finding
 */
export const findBootConfigs = async (fs: FileSystem, others: readonly FileSystem[] = []): Promise<BootConfig[]> => {
  const { found, directories, findings } = await search(fs)
  const configs: BootConfig[] = []
  const done = new Set<string>()
  const queue = [...found]
  for (let next = queue.shift(); next; next = queue.shift()) {
    const key = next.path.toLowerCase()
    if (done.has(key)) continue
    if (done.size >= MAX_CONFIGS) {
      const message = `more than ${MAX_CONFIGS} boot configurations: the rest is not read`
      findings.push({ code: 'BOOT_TOO_MUCH', severity: 'warning', where: next.path, message })
      break
    }
    done.add(key)
    const config = await readConfig(bootReader(fs, others), next, directories, mainOf(next, found))
    configs.push(config)
    // A menu may start another one whose name says nothing.
    if (SYSLINUX_KINDS.includes(config.kind))
      for (const { kind, target } of config.entries)
        if (kind === 'menu' && target?.exists && !config.files.includes(target.path))
          queue.push({ path: target.path, name: '', kind: config.kind })
  }
  const used = new Set(configs.filter(({ kind }) => kind === 'grub2').flatMap(({ files }) => files))
  for (const directory of directories) {
    if (!/\/loader\/entries$/i.test(directory)) continue
    const reader = bootReader(fs)
    const menu = await readBlsMenu(reader, directory)
    const ours = menu.entries.every(({ place }) => used.has(place.path))
    const loader = reader.files.some(path => /loader\.conf$/i.test(path))
    // Entries that a grub.cfg lists by blscfg are told there, unless systemd-boot is set up as well.
    if (menu.entries.length === 0 || (ours && !loader)) continue
    const { findings, files } = reader
    configs.push({ kind: 'bls', path: directory, firmware: 'uefi', ...menu, files, findings })
  }
  const sorted = [...configs]
    .sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
    .map(config => withFirmware(config, configs, directories))
  const [first, ...rest] = sorted
  return first && findings.length > 0 ? [{ ...first, findings: [...findings, ...first.findings] }, ...rest] : sorted
}

const SYSLINUX_KINDS: readonly BootKind[] = ['syslinux', 'isolinux', 'extlinux', 'pxelinux']

/** Looks for configurations by name. */
const search = async (
  fs: FileSystem,
): Promise<{ found: Found[]; directories: readonly string[]; findings: Finding[] }> => {
  const found: Found[] = []
  /** every directory that was seen, those not looked into as well */
  const directories: string[] = []
  const findings: Finding[] = []
  let listed = 0
  const queue: { path: string; depth: number }[] = [{ path: '/', depth: 0 }]
  for (let next = queue.shift(); next; next = queue.shift()) {
    if (++listed > MAX_DIRECTORIES) {
      const message = `more than ${MAX_DIRECTORIES} directories: the rest is not searched for boot configurations`
      findings.push({ code: 'BOOT_TOO_MUCH', severity: 'warning', where: next.path, message })
      break
    }
    const { path, depth } = next
    let entries: readonly Entry[]
    try {
      entries = await fs.list(path)
    } catch (error) {
      if (!isLiveError(error) || path === '/') throw error
      const message = `${path} can't be listed: ${error.message}`
      findings.push({ code: 'BOOT_UNREADABLE', severity: 'error', where: path, message })
      continue
    }
    const inEfi = /\/efi(\/|$)/i.test(path)
    for (const { name, kind } of entries) {
      const below = `${path === '/' ? '' : path}/${name}`
      if (kind === 'directory') {
        directories.push(below)
        const wanted = depth === 0 ? !OTHER_DIRECTORIES.test(name) : BOOT_DIRECTORIES.test(name) || inEfi
        if (wanted && depth < MAX_DEPTH) queue.push({ path: below, depth: depth + 1 })
        continue
      }
      // A symlink is another name of a configuration that is found under its own.
      const loader = kind === 'file' ? kindOf(path, name) : undefined
      if (loader) found.push({ path: below, name, kind: loader })
    }
  }
  return { found, directories, findings }
}

/** The configuration that SYSLINUX starts with on a stick where one menu leads to others: the one at a place it looks at itself. */
const mainOf = ({ path, kind }: Found, found: readonly Found[]): string => {
  const usual = /^\/(boot\/)?((sys|iso|ext)linux\/)?[^/]+$/i
  if (!SYSLINUX_KINDS.includes(kind) || usual.test(path)) return path
  return found.find(other => SYSLINUX_KINDS.includes(other.kind) && usual.test(other.path))?.path ?? path
}

const readConfig = async (
  reader: BootReader,
  { path, kind }: Found,
  directories: readonly string[],
  main: string,
): Promise<BootConfig> => {
  const inEfi = /\/efi\//i.test(path)
  const made = (kind: BootKind, menu: Pick<BootConfig, 'timeout' | 'defaultName' | 'entries'>): BootConfig => ({
    kind,
    path,
    firmware: inEfi ? 'uefi' : kind === 'grub2' ? grubFirmware(path, directories) : 'bios',
    ...menu,
    files: reader.files,
    findings: reader.findings,
  })
  if (SYSLINUX_KINDS.includes(kind)) {
    const directory = directoryOf(path)
    const start = kind === 'pxelinux' ? directoryOf(directory) : directory
    return made(kind, await readSyslinuxMenu(reader, path, start, main))
  }
  const probe = bootReader(reader.fs)
  const text = await probe.read(path)
  if (text !== undefined && isLegacyGrub(text)) return made('grub-legacy', await readLegacyGrubMenu(reader, path))
  if (text !== undefined && kind === 'grub-legacy' && !/^[ \t]*menuentry\b/m.test(text))
    return made('grub-legacy', await readLegacyGrubMenu(reader, path))
  return made('grub2', await readGrubMenu(reader, path))
}

/** What starts a grub.cfg outside EFI, by the modules beside it. */
const grubFirmware = (path: string, directories: readonly string[]): BootConfig['firmware'] => {
  const beside = (name: RegExp): boolean =>
    directories.some(
      known => known.startsWith(`${directoryOf(path)}/`) && name.test(known.slice(directoryOf(path).length + 1)),
    )
  const bios = beside(/^i386-pc$/i)
  const uefi = beside(/^(x86_64|i386|arm64|arm|riscv64|loongarch64)-efi$/i)
  return bios === uefi ? 'both' : bios ? 'bios' : 'uefi'
}

/** A grub.cfg that one of EFI reads is started by both. */
const withFirmware = (config: BootConfig, all: readonly BootConfig[], directories: readonly string[]): BootConfig => {
  if (config.kind !== 'grub2' || config.firmware !== 'bios') return config
  const included = all.some(other => other !== config && other.firmware === 'uefi' && other.files.includes(config.path))
  // An EFI image inside the ISO may hold the loader, and its configuration leads here.
  const alone =
    directories.some(path => /^\/efi$/i.test(path)) &&
    !all.some(other => other.kind === 'grub2' && other.firmware === 'uefi')
  return included || alone ? { ...config, firmware: 'both' } : config
}
