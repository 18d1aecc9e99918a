import type { Device } from '../block/device.js'
import { isStore, readStore } from '../block/snapshot/store.js'
import { isLiveError } from '../error.js'
import { detectFs } from '../fs/detect.js'
import type { FileSystem } from '../fs/filesystem.js'
import { openFs } from '../fs/open.js'
import type { ReadFolder } from '../host/folder.js'
import type { Argument } from '../liveos/boot/arguments.js'
import { follow } from '../liveos/boot/follow.js'
import { expectedOverlay } from '../liveos/live-directory.js'
import type { Volume } from '../liveos/source.js'
import { collecting, details, type Inspecting, type InspectNode, node } from './inspect-node.js'

/** What an overlay is that no target puts to use: a store, an OverlayFS image, or nothing that is known. */
export const inspectStore = async (
  name: string,
  device: Device,
  at: Inspecting,
  more: Readonly<Record<string, string>> = {},
): Promise<InspectNode> => {
  const type = await collecting(at, 'OVERLAY_DAMAGED', device.name, async () =>
    (await isStore(device)) ? undefined : detectFs(device),
  )
  if (type)
    return node('overlay', name, {
      size: device.size,
      type: 'OverlayFS image',
      details: details({ filesystem: type, ...more }),
    })
  const store = await collecting(at, 'OVERLAY_DAMAGED', device.name, () => readStore(device))
  return node('overlay', name, {
    size: device.size,
    type: 'dm-snapshot',
    details: details({
      state: store === undefined ? 'damaged' : store.full && store.state === 'ok' ? 'full' : store.state,
      percent: store && Math.round((store.allocatedSectors / store.totalSectors) * 1000) / 10,
      usedBytes: store && store.allocatedSectors * 512,
      changedChunks: store?.exceptions.count,
      chunkSectors: store?.chunkSectors,
      ...more,
    }),
  })
}

/** Directories that a boot wants beside each other for an OverlayFS. */
const WORK = 'ovlwork'

const noWork = (at: Inspecting, where: string, what: string): void => {
  at.findings.push({
    code: 'OVERLAY_NO_WORK_DIRECTORY',
    severity: 'warning',
    where,
    message: `${what}, so a boot does not use this OverlayFS and keeps no changes`,
    remedy: `make a directory ${WORK} beside it`,
  })
}

/** An OverlayFS directory; a boot wants its sister `ovlwork` beside it. */
export const inspectOverlayDirectory = async (
  folder: ReadFolder,
  name: string,
  at: Inspecting,
  more: Readonly<Record<string, string>> = {},
): Promise<InspectNode> => {
  const hasWork = (await folder.facts(WORK))?.kind === 'directory'
  if (!hasWork) noWork(at, `${folder.path}/${name}`, `there is no directory ${WORK} beside ${name}`)
  return node('overlay', name, { type: 'OverlayFS directory', details: { workDirectory: hasWork, ...more } })
}

/** An OverlayFS in a filesystem file: what it is on, and whether both its directories are there. */
export const inspectOverlayImage = async (name: string, device: Device, at: Inspecting): Promise<InspectNode> => {
  const fs = await collecting(at, 'OVERLAY_UNREADABLE', device.name, () => openFs(device))
  const names = fs && (await collecting(at, 'OVERLAY_UNREADABLE', device.name, () => fs.list('/')))
  const has = (wanted: string): boolean =>
    names?.some(entry => entry.name === wanted && entry.kind === 'directory') ?? false
  if (names && !(has('overlayfs') && has(WORK)))
    noWork(at, device.name, `${name} lacks the directory ${has('overlayfs') ? WORK : 'overlayfs'}`)
  return node('overlay', name, {
    size: device.size,
    type: 'OverlayFS image',
    label: fs?.label ?? null,
    uuid: fs?.uuid ?? null,
    details: details({
      filesystem: fs?.type ?? (await detectFs(device).catch(() => undefined)),
      workDirectory: names && has(WORK),
    }),
  })
}

/** What a boot argument such as `rd.live.overlay=UUID=…:/LiveOS/overlay-…` names. */
export interface AskedOverlay {
  /** as it stands there */
  readonly raw: string
  /** where the device was found; undefined where no volume here is it */
  readonly volume: Volume | undefined
  /** of the file or directory on it */
  readonly path: string
  /** what is there; undefined where nothing is */
  readonly kind: 'file' | 'directory' | undefined
}

/** A label with the escapes that udev writes. */
const unescaped = (text: string): string =>
  text.replace(/\\x([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))

/**
 * Whether a boot's word for a device, such as `UUID=1A2B-3C4D` or `CDLABEL=LIVE`, means a volume; undefined where that can't
 * be told.
 */
export const meansVolume = (word: string, { fs, partition }: Volume): boolean | undefined => {
  const [, kind, value] = /^(UUID|LABEL|CDLABEL|PARTUUID|PARTLABEL)=(.*)$/.exec(word) ?? []
  if (kind === undefined || value === undefined) return undefined
  const found = { UUID: fs?.uuid, LABEL: fs?.label, CDLABEL: fs?.label, PARTUUID: partition?.uuid }[kind]
  const known = kind === 'PARTLABEL' ? partition?.name : found
  const asked = unescaped(value)
  return kind.endsWith('UUID') ? known?.toLowerCase() === asked.toLowerCase() : known === asked
}

/** Values that switch something and name no device. */
const NO_DEVICE = new Set(['', '0', 'no', 'off', 'none', '1', 'yes', 'on', 'true'])

/**
 * Follows a boot's argument for its overlay as dracut does: the device before the first colon, the path behind the last;
 * `auto` or none is the usual name by label and UUID of the stick.
 *
 * @param home     the volume with the live directory
 * @param volumes  all there are here
 * @returns undefined where no persistent overlay is asked for
 * @see dracut modules.d/70dmsquash-live/dmsquash-live-root.sh, do_live_overlay
 */
export const askedOverlay = async (
  asked: Argument | undefined,
  home: Volume,
  liveDir: string,
  volumes: readonly Volume[],
): Promise<AskedOverlay | undefined> => {
  if (asked === undefined || NO_DEVICE.has((asked.value ?? '').toLowerCase())) return undefined
  const { raw, value = '' } = asked
  const colon = value.indexOf(':')
  const word = colon < 0 ? value : value.slice(0, colon)
  const rest = colon < 0 ? '' : value.slice(value.lastIndexOf(':') + 1)
  const usual = `/${liveDir || 'LiveOS'}/${home.fs ? (expectedOverlay(home.fs) ?? 'overlay') : 'overlay'}`
  const path = rest === '' || rest === 'auto' ? usual : rest.startsWith('/') ? rest : `/${rest}`
  const told = volumes.map(volume => meansVolume(word, volume))
  // a directory of this computer may not know what it is called, and /dev names mean nothing elsewhere
  const isHome =
    told.every(known => known === undefined) || (home.fs?.uuid === undefined && home.fs?.label === undefined)
  const volume = isHome ? home : volumes[told.indexOf(true)]
  return { raw, volume, path, kind: volume?.fs && (await kindAt(volume.fs, path)) }
}

const kindAt = async (fs: FileSystem, path: string): Promise<'file' | 'directory' | undefined> => {
  try {
    const kind = (await follow(fs, path))?.stat.kind
    return kind === 'file' || kind === 'directory' ? kind : undefined
  } catch (error) {
    if (!isLiveError(error)) throw error
    return undefined
  }
}
