import { type Argument, lastArgument } from './arguments.js'

/**
 * The arguments of an entry that decide how a live system starts, each as it stands there: the last of its names, old and new
 * spellings alike. What dracut makes of them is not decided here.
 *
 * @see dracut modules.d/70dmsquash-live, man dracut.cmdline
 */
export interface LiveArguments {
  /** `root=live:UUID=…` */
  readonly root: Argument | undefined
  /** `rd.live.image`, before dracut 013 `liveimg` */
  readonly image: Argument | undefined
  readonly dir: Argument | undefined
  readonly squashimg: Argument | undefined
  /** `rd.overlay=…` of dracut 110, before it `rd.live.overlay=…` */
  readonly overlay: Argument | undefined
  readonly overlayfs: Argument | undefined
  readonly overlayReset: Argument | undefined
  readonly overlayReadonly: Argument | undefined
  readonly overlaySize: Argument | undefined
  readonly overlayThin: Argument | undefined
  readonly overlayFilesystem: Argument | undefined
  readonly overlayCrypt: Argument | undefined
  readonly noPrompt: Argument | undefined
  readonly ram: Argument | undefined
  readonly leastMemory: Argument | undefined
  readonly writableImage: Argument | undefined
  readonly check: Argument | undefined
  readonly debug: Argument | undefined
  readonly updates: Argument | undefined
  readonly isoScan: Argument | undefined
  readonly persistentHome: Argument | undefined
  readonly noPersistentHome: Argument | undefined
  readonly noSwap: Argument | undefined
  readonly selinux: Argument | undefined
  readonly enforcing: Argument | undefined
  /** `ro` or `rw`, whichever comes last */
  readonly mode: Argument | undefined
  /** of Debian: `boot=live`, `persistence`, `toram`, `live-media-path` */
  readonly boot: Argument | undefined
  readonly persistence: Argument | undefined
  readonly toRam: Argument | undefined
  readonly mediaPath: Argument | undefined
}

const NAMES: { readonly [K in keyof LiveArguments]-?: readonly string[] } = {
  root: ['root'],
  image: ['rd.live.image', 'liveimg'],
  dir: ['rd.live.dir', 'live_dir'],
  squashimg: ['rd.live.squashimg', 'squashimg'],
  overlay: ['rd.overlay', 'rd.live.overlay', 'overlay'],
  overlayfs: ['rd.live.overlay.overlayfs'],
  overlayReset: ['rd.overlay.reset', 'rd.live.overlay.reset', 'reset_overlay'],
  overlayReadonly: ['rd.overlay.readonly', 'rd.live.overlay.readonly', 'readonly_overlay'],
  overlaySize: ['rd.live.overlay.size', 'rd.live.overlay_size'],
  overlayThin: ['rd.live.overlay.thin', 'rd.live.overlay_thin'],
  overlayFilesystem: ['rd.live.overlay.cowfs'],
  overlayCrypt: ['rd.overlay.crypt'],
  noPrompt: ['rd.live.overlay.nouserconfirmprompt'],
  ram: ['rd.live.ram', 'live_ram'],
  leastMemory: ['rd.minmem'],
  writableImage: ['rd.writable.fsimg', 'rd.writable_fsimg'],
  check: ['rd.live.check', 'rd.live.check.ram', 'check'],
  debug: ['rd.live.debug', 'rdlivedebug'],
  updates: ['live.updates'],
  isoScan: ['iso-scan/filename'],
  persistentHome: ['persistenthome'],
  noPersistentHome: ['nopersistenthome'],
  noSwap: ['noswap'],
  selinux: ['selinux'],
  enforcing: ['enforcing'],
  mode: ['ro', 'rw'],
  boot: ['boot'],
  persistence: ['persistence', 'persistent'],
  toRam: ['toram'],
  mediaPath: ['live-media-path'],
}

/** Picks the arguments of a live system out of an entry's. */
export const liveArguments = ({ arguments: list }: { readonly arguments: readonly Argument[] }): LiveArguments =>
  Object.fromEntries(Object.entries(NAMES).map(([key, names]) => [key, lastArgument(list, ...names)])) as {
    [K in keyof LiveArguments]: LiveArguments[K]
  }
