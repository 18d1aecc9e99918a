import type { CpioMember } from '../../bytes/cpio.js'
import { decodeName, printableName } from '../../fs/name.js'

/** What made an initrd: only dracut's decides about an overlay by the rules that are known here. */
export type InitrdMaker = 'dracut' | 'initramfs-tools' | 'mkinitcpio'

/** What is known of an initrd, all its pieces and files together. */
export interface InitrdFacts {
  /** undefined where nothing tells */
  readonly maker: InitrdMaker | undefined
  /** such as `059-4` or `107-8.fc43`; undefined where it is not dracut's or does not tell */
  readonly dracutVersion: string | undefined
  /** dracut's modules, sorted; undefined where there is no list and nothing shows them */
  readonly modules: readonly string[] | undefined
  /** kernels whose modules are in it, as `uname -r` says */
  readonly kernelVersions: readonly string[]
  /** true where systemd runs in it */
  readonly systemd: boolean
  /** hooks as `phase/name`, sorted */
  readonly hooks: readonly string[]
  /** where its hooks lie: `/var/lib/dracut/hooks` since dracut 102, `/usr/lib/dracut/hooks` before */
  readonly hooksPath: string | undefined
  /** kernel arguments that are built in, which come before those of the boot loader */
  readonly builtIn: readonly { readonly path: string; readonly text: string }[]
  /** live systems that it can start: dracut's, Debian's live-boot, Ubuntu's casper */
  readonly live: readonly ('dmsquash-live' | 'live-boot' | 'casper')[]
}

const MAX_TEXT = 256 << 10
const MAX_NAMES = 5000
const MAX_BUILT_IN = 100

/** What files show of a module where there is no list of them. */
const SHOWN_BY: readonly (readonly [module: string, path: RegExp])[] = [
  ['dmsquash-live', /^s?bin\/dmsquash-live-root(\.sh)?$/],
  ['dmsquash-live-autooverlay', /^s?bin\/create-overlay(\.sh)?$/],
  ['livenet', /^s?bin\/livenetroot(\.sh)?$/],
  ['overlayfs', /^(var\/)?lib\/dracut\/hooks\/\S+\/\d+-?(mount|prepare)-overlayfs\.sh$/],
  ['plymouth', /^s?bin\/plymouthd?$/],
]

/** Collects facts out of members. */
export interface FactsReader {
  see(member: CpioMember): Promise<void>
  facts(): InitrdFacts
}

/** Files whose text is read, `usr/` left out. */
const isText = (path: string): boolean =>
  /^(lib|etc)\/(initrd-release|os-release)$|^lib\/dracut\/(modules\.txt|dracut-version\.sh)$|^etc\/cmdline(\.d\/[^/]+\.conf)?$/.test(
    path,
  )

/** A value of a file of lines `NAME="value"`. */
const assigned = (text: string | undefined, name: string): string | undefined =>
  new RegExp(`^${name}=["']?([^"'\\n]*)["']?\\s*$`, 'm').exec(text ?? '')?.[1] || undefined

/** Opens a collector for one initrd. */
export const initrdFacts = (): FactsReader => {
  const texts = new Map<string, string>()
  const kernels = new Set<string>()
  const hooks = new Set<string>()
  const shown = new Set<string>()
  const live = new Set<InitrdFacts['live'][number]>()
  /** inode of a hard link without content to the path that is waited for */
  const waiting = new Map<number, string>()
  let hooksPath: string | undefined
  let named: string | undefined
  let systemd = false
  let maker: InitrdMaker | undefined

  const look = (path: string, full: string): void => {
    const kernel = /^lib\/modules\/([^/]+)/.exec(path)?.[1]
    if (kernel !== undefined && kernels.size < MAX_NAMES) kernels.add(printableName(kernel))
    const hook = /^((?:var\/)?lib\/dracut\/hooks)\/(.+)$/.exec(path)
    if (hook?.[1] !== undefined) hooksPath ??= `/${full.slice(0, full.length - path.length)}${hook[1]}`
    if (hook?.[2]?.includes('/') && hooks.size < MAX_NAMES) hooks.add(printableName(hook[2]))
    const version = /^lib\/dracut\/dracut-(\d[^/]*)$/.exec(path)?.[1]
    if (version !== undefined && !version.endsWith('.sh')) named ??= printableName(version)
    for (const [module, pattern] of SHOWN_BY) if (pattern.test(path)) shown.add(module)
    if (/^lib\/systemd\/systemd$/.test(path)) systemd = true
    if (/^lib\/dracut(\/|$)|^var\/lib\/dracut\//.test(path)) maker = 'dracut'
    if (/^(conf\/initramfs\.conf|scripts\/init-premount(\/|$)|share\/initramfs-tools(\/|$))/.test(path))
      maker ??= 'initramfs-tools'
    if (/^(init_functions|buildconfig)$/.test(path)) maker ??= 'mkinitcpio'
    if (/^(scripts\/live|lib\/live\/boot)(\/|$|\.)/.test(path)) live.add('live-boot')
    if (/^scripts\/casper$/.test(path)) live.add('casper')
  }

  return {
    async see(member) {
      const full = decodeName(member.path)
      const path = full.replace(/^usr\//, '')
      look(path, full)
      if (member.kind !== 'file') return
      const { c_ino, c_nlink } = member.header
      const wanted = isText(path) ? path : waiting.get(c_ino)
      if (wanted === undefined || texts.size > MAX_BUILT_IN + 10) return
      // of several names of one file only the last has its content
      if (member.size === 0 && c_nlink > 1) {
        if (waiting.size < MAX_NAMES) waiting.set(c_ino, wanted)
      } else texts.set(wanted, Buffer.from(await member.read(MAX_TEXT)).toString('utf8'))
    },
    facts() {
      const release = [texts.get('lib/initrd-release'), texts.get('etc/initrd-release'), texts.get('lib/os-release')]
      const told = release.map(text => assigned(text, 'DRACUT_VERSION')).find(Boolean)
      const inName = release.map(text => /\bdracut-(\d[^\s")]*)/.exec(text ?? '')?.[1]).find(Boolean)
      const dracutVersion =
        told ?? named ?? assigned(texts.get('lib/dracut/dracut-version.sh'), 'DRACUT_VERSION') ?? inName
      const list = texts.get('lib/dracut/modules.txt')?.split(/\s+/).filter(Boolean)
      const modules = [...new Set([...(list ?? []), ...shown])].sort()
      if (modules.includes('dmsquash-live')) live.add('dmsquash-live')
      return {
        maker: dracutVersion !== undefined ? 'dracut' : maker,
        dracutVersion: dracutVersion === undefined ? undefined : printableName(dracutVersion),
        modules: list || modules.length > 0 ? modules.map(printableName) : undefined,
        kernelVersions: [...kernels].sort(),
        systemd: systemd || modules.includes('systemd'),
        hooks: [...hooks].sort(),
        hooksPath,
        builtIn: [...texts]
          .filter(([path]) => /^etc\/cmdline/.test(path))
          // those of the directory come first, as dracut reads them
          .sort(([a], [b]) => Number(a === 'etc/cmdline') - Number(b === 'etc/cmdline') || (a < b ? -1 : 1))
          .map(([path, text]) => ({ path: `/${path}`, text: text.replace(/\s+/g, ' ').trim() }))
          .filter(({ text }) => text !== ''),
        live: [...live].sort(),
      }
    },
  }
}
