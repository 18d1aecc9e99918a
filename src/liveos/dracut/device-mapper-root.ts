import type { BaseImage } from './base-image.js'
import type { OverlayChoice } from './overlay-choice.js'
import type { Drafting } from './plan.js'
import { SINCE } from './version.js'
import type { PlainWrites } from './writable-image.js'

/** A device of device-mapper that a boot makes. */
export interface PlannedTable {
  readonly name: string
  readonly readOnly: boolean
  /** as dmsetup takes it, devices by what they hold; `?` for sectors that are not known */
  readonly table: string
}

const SECTOR = 512
/** sectors of a chunk, as dracut asks for */
const CHUNK = 8

/** Sectors of so many bytes, the last one whole or left out, as blockdev counts. */
export const sectorsOf = (bytes: number | undefined): string =>
  bytes === undefined ? '?' : String(Math.floor(bytes / SECTOR))

/** @param sectors  undefined where dracut does not know the size */
const thinTables = ({ settings, tables }: Drafting, origin: string | undefined, sectors: string | undefined): void => {
  const { overlaySize, version } = settings
  const data = overlaySize.value * 2048
  tables.push({ name: 'live-overlay-pool', readOnly: false, table: `0 ${data} thin-pool meta data 1024 1024` })
  // WHY: until dracut 60 the device was as large as the image, later as its pool
  const size = version >= SINCE.overlayfsPrepared ? String(data) : sectors
  if (size === undefined) return
  const table = `0 ${size} thin live-overlay-pool 0${origin === undefined ? '' : ` ${origin}`}`
  tables.push({ name: 'live-rw', readOnly: false, table })
}

const thinRoot = (at: Drafting, origin: string, sectors: string): void => {
  const { overlaySize, thin } = at.settings
  at.say('thin', 'the root is a thin device in memory', thin.from)
  at.say('size', `it takes ${overlaySize.value} MiB at most`, overlaySize.from)
  thinTables(at, origin, sectors)
}

/**
 * The devices of a writable image, and of a thin root, that are made though an OverlayFS becomes the root.
 *
 * WHY none of a flat image as it lies: dracut does not ask for its size, and device-mapper takes no table without one.
 */
export const unusedDevices = (at: Drafting, { layout, size }: BaseImage): void => {
  const { setup, settings, facts, tables } = at
  const copied = settings.writableImage.value
  const bytes = layout === 'flat' ? size : facts.image.rootSize
  if (settings.thin.value && setup !== 'rw' && layout !== 'medium') {
    thinTables(at, undefined, layout === 'flat' && !copied ? undefined : sectorsOf(bytes))
    at.tell(
      'THIN_WITHOUT_EFFECT',
      'note',
      'the thin device is made and nothing uses it: the root is an OverlayFS',
      settings.thin.from,
    )
  }
  if (setup !== 'rw' || (layout === 'flat' && !copied)) return
  tables.push({ name: 'live-rw', readOnly: false, table: `0 ${sectorsOf(bytes)} linear base 0` })
}

/** The devices of device-mapper that make the root, and what they are of. */
export const deviceMapperRoot = (
  at: Drafting,
  base: BaseImage,
  plain: PlainWrites | undefined,
  choice: OverlayChoice,
): { readonly kind: 'dm-snapshot' | 'dm-linear' | 'dm-thin'; readonly upper: string | undefined } => {
  const { settings, facts } = at
  const { readOnly, thin, overlaySize } = settings
  const sectors = sectorsOf(facts.image.rootSize)
  at.mounts.push({
    source: '/dev/mapper/live-rw',
    target: '/',
    type: undefined,
    options: settings.rootFlags?.value ?? '',
  })
  if (at.setup === 'rw') {
    at.tables.push({ name: 'live-rw', readOnly: false, table: `0 ${sectors} linear base 0` })
    at.changes = plain?.lasting ? 'kept' : 'lost'
    return { kind: 'dm-linear', upper: plain?.lasting ? base.path : undefined }
  }
  const persistent = choice.kind === 'dm-snapshot'
  // WHY: with a writable image and a read-only overlay, dracut lays only the temporary one over it
  const layered = readOnly.value && (persistent || at.setup === '')
  const temporary = !persistent || readOnly.value
  if (temporary && !thin.value)
    at.say('temporary overlay', `changes go to memory, ${overlaySize.value} MiB at most`, overlaySize.from)
  const store = persistent ? 'overlay' : 'temporary'
  if (layered)
    at.tables.push({ name: 'live-ro', readOnly: true, table: `0 ${sectors} snapshot base ${store} P ${CHUNK}` })
  const origin = layered ? 'live-ro' : 'base'
  if (thin.value) {
    if (persistent) {
      at.changes = 'lost'
      at.tell(
        'THIN_NOT_PERSISTENT',
        'warning',
        `rd.live.overlay.thin keeps changes in memory alone: the overlay ${choice.shown.path} is not written to`,
        thin.from,
      )
    }
    thinRoot(at, origin, sectors)
  } else
    at.tables.push({
      name: 'live-rw',
      readOnly: false,
      table: `0 ${sectors} snapshot ${origin} ${temporary ? 'temporary' : 'overlay'} PO ${CHUNK}`,
    })
  if (layered && !persistent)
    at.tell(
      'READONLY_WITHOUT_OVERLAY',
      'warning',
      'a read-only overlay is asked for and there is none: dracut lays two devices over one temporary store',
      readOnly.from,
    )
  at.tables.push({ name: 'live-base', readOnly: true, table: `0 ${sectors} linear base 0` })
  const keeps = persistent && !temporary && !thin.value
  return { kind: thin.value ? 'dm-thin' : 'dm-snapshot', upper: keeps ? choice.shown.path : undefined }
}
