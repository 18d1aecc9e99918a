import type { Argument } from '../boot/arguments.js'
import { getArg, getBool, getFirst, type Setting } from './command-line.js'
import { type DeviceWord, parseDeviceWord } from './device-word.js'
import { SINCE } from './version.js'

/** What dracut takes from a command line for a live boot, by the names that a version knows. Sizes are MiB, as they are given. */
export interface LiveSettings {
  readonly version: number
  /** undefined: it is no live boot */
  readonly root: Setting<DeviceWord> | undefined
  readonly rootIsUsable: boolean
  /** `rd.live.image` is there, which the scripts of the booted system ask for */
  readonly liveImage: Argument | undefined
  readonly liveDir: Setting<string>
  readonly squashimg: Setting<string>
  /** the overlay's words as dracut takes them; empty where none is asked for */
  readonly overlay: Setting<string>
  /** an OverlayFS is wanted */
  readonly overlayfs: Setting<boolean>
  /** `rd.overlay` itself is a yes: what the overlayfs module of dracut 110 asks first */
  readonly overlayfsByName: Setting<boolean>
  readonly reset: Setting<boolean>
  readonly readOnly: Setting<boolean>
  /** the same as the generator of the root's mount reads it, which misspells the old name since dracut 110 */
  readonly readOnlyMount: Setting<boolean>
  readonly overlaySize: Setting<number>
  readonly thin: Setting<boolean>
  readonly noPrompt: Setting<boolean>
  readonly ram: Setting<boolean>
  readonly leastMemory: Setting<number>
  readonly writableImage: Setting<boolean>
  readonly check: Setting<boolean>
  /** `ro` or `rw`, the last of them; the live medium is mounted so */
  readonly mode: Setting<'ro' | 'rw'>
  readonly isoScan: Setting<string> | undefined
  readonly updates: Setting<string> | undefined
  readonly rootFlags: Setting<string> | undefined
  readonly cryptOverlay: Setting<string> | undefined
  /** of the livesys scripts in the booted system */
  readonly home: Setting<string> | undefined
  readonly noHome: Argument | undefined
  readonly noSwap: Argument | undefined
}

const DEFAULT_OVERLAY_SIZE = 32768
const DEFAULT_LEAST_MEMORY = 1024

const defaulted = (setting: Setting<string> | undefined, value: string): Setting<string> =>
  // An empty value is none: the scripts ask with -z.
  setting && setting.value !== '' ? setting : { value, from: undefined }

const numbered = (setting: Setting<string> | undefined, value: number): Setting<number> =>
  setting && /^\d{1,9}$/.test(setting.value)
    ? { value: Number(setting.value), from: setting.from }
    : { value, from: undefined }

/** WHY: root=live: says itself that it is one; rd.live.image makes any other root= one. */
const rootOf = (list: readonly Argument[], image: Argument | undefined): Setting<DeviceWord> | undefined => {
  const root = getArg(list, 'root')
  if (!root) return undefined
  const live = root.value.startsWith('live:')
  if (!live && !image && !/^https?:/.test(root.value)) return undefined
  return { value: parseDeviceWord(live ? root.value.slice('live:'.length) : root.value), from: root.from }
}

/** WHY: since dracut 110 one word carries a device and a switch; what is only a switch leaves the device to the old name. */
const overlayOf = (list: readonly Argument[], version: number): Setting<string> => {
  const none: Setting<string> = { value: '', from: undefined }
  if (version >= SINCE.renamed) {
    const given = getArg(list, 'rd.overlay')
    if (given && !['0', 'no', 'off', '', '1'].includes(given.value)) return given
    return getArg(list, 'rd.live.overlay') ?? none
  }
  return (
    (version >= SINCE.oldNamesGone ? getArg(list, 'rd.live.overlay') : getFirst(list, 'rd.live.overlay', 'overlay')) ??
    none
  )
}

const modeOf = (list: readonly Argument[]): Setting<'ro' | 'rw'> => {
  const from = list.findLast(({ raw }) => raw === 'ro' || raw === 'rw')
  return { value: from?.raw === 'rw' ? 'rw' : 'ro', from }
}

/** Reads a command line as a version of dracut does, arguments that are built into the initrd first. */
export const liveSettings = (list: readonly Argument[], version: number): LiveSettings => {
  const renamed = version >= SINCE.renamed
  const legacy = version < SINCE.oldNamesGone
  const old = (...names: readonly string[]): readonly string[] => (legacy ? names : [])
  const image = getBool(list, ['rd.live.image'], old('liveimg'))
  const liveImage = image.value ? image.from : undefined
  const root = rootOf(list, liveImage)
  const newName = (name: string): readonly string[] =>
    renamed ? [`rd.overlay.${name}`, `rd.live.overlay.${name}`] : [`rd.live.overlay.${name}`]
  return {
    version,
    root,
    rootIsUsable: root !== undefined && root.value.by !== 'nothing',
    liveImage,
    liveDir: defaulted(legacy ? getFirst(list, 'rd.live.dir', 'live_dir') : getArg(list, 'rd.live.dir'), 'LiveOS'),
    squashimg: defaulted(getArg(list, 'rd.live.squashimg'), 'squashfs.img'),
    overlay: overlayOf(list, version),
    overlayfs: getBool(list, renamed ? ['rd.overlay', 'rd.live.overlay.overlayfs'] : ['rd.live.overlay.overlayfs']),
    overlayfsByName: renamed ? getBool(list, ['rd.overlay']) : { value: false, from: undefined },
    reset: getBool(list, newName('reset'), old('reset_overlay')),
    readOnly: getBool(list, newName('readonly'), old('readonly_overlay')),
    readOnlyMount: renamed
      ? getBool(list, ['rd.overlay.readonly', 'rd.live.overlayfs.readonly'])
      : getBool(list, newName('readonly'), old('readonly_overlay')),
    overlaySize: numbered(getArg(list, 'rd.live.overlay.size'), DEFAULT_OVERLAY_SIZE),
    thin: getBool(list, ['rd.live.overlay.thin']),
    noPrompt:
      version >= SINCE.flatByUsr
        ? getBool(list, ['rd.live.overlay.nouserconfirmprompt'])
        : { value: false, from: undefined },
    ram: getBool(list, ['rd.live.ram'], old('live_ram')),
    leastMemory: numbered(getArg(list, 'rd.minmem'), DEFAULT_LEAST_MEMORY),
    writableImage: getBool(list, ['rd.writable.fsimg'], old('writable_fsimg')),
    // present, whatever its value
    check: getBool(list, [], ['rd.live.check', ...old('check')]),
    mode: modeOf(list),
    isoScan: getArg(list, 'iso-scan/filename'),
    updates: getArg(list, 'live.updates'),
    rootFlags: getArg(list, 'rootflags'),
    home: getArg(list, 'persistenthome'),
    noHome: getArg(list, 'nopersistenthome')?.from,
    noSwap: getArg(list, 'noswap')?.from,
    cryptOverlay: version >= SINCE.tmpfsOptions ? getArg(list, 'rd.overlay.crypt') : undefined,
  }
}
