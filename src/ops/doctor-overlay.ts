import type { Device } from '../block/device.js'
import { exceptionsPerArea } from '../block/snapshot/layout.js'
import { type Salvage, salvageStore } from '../block/snapshot/salvage.js'
import { snapshot } from '../block/snapshot/snapshot.js'
import type { Finding } from '../finding.js'
import { overlayFsType } from '../fs/detect.js'
import type { OpenedFile } from '../host/folder.js'
import { advised, marked } from '../liveos/advice.js'
import { overlaysIn } from '../liveos/live-directory.js'
import type { Target } from '../liveos/target.js'
import { tooSmallAdvice } from '../liveos/too-small.js'
import { isTrapSize } from './grow-size.js'

/** Adds a finding. */
export type Tell = (
  code: string,
  severity: Finding['severity'],
  where: string,
  message: string,
  more?: Partial<Finding>,
) => void

/** The overlay as doctor finds it. Sizes are bytes. */
export interface OverlayCheckup {
  readonly path: string
  readonly size: number
  /** `other`: it is no store */
  readonly damage: Salvage['damage'] | 'other'
  /** chunks of the base that it holds, as far as its list makes sense */
  readonly exceptions: number
  /** of its size, 0 to 100, one decimal; null where that can't be told */
  readonly percent: number | null
}

const FILLING = 80
const CRITICAL = 95
/** Bytes free on a stick below which an overlay with holes is in danger at once. */
const LITTLE_ROOM = 64 << 20

/** The name of the overlay against what a boot looks for, and other candidates beside it. */
export const checkNames = async (target: Target, tell: Tell): Promise<void> => {
  const { overlay, expectedOverlay, overlayFoundBy, stick, base } = target
  if (!stick) return
  const names = (await overlaysIn(base.folder)).map(({ name }) => name)
  if (overlayFoundBy === 'only one' && overlay && expectedOverlay && overlay.name !== expectedOverlay)
    tell(
      'OVERLAY_ORPHANED',
      'warning',
      overlay.path,
      `no boot uses this overlay: the stick was relabelled or copied, and a boot looks for ${expectedOverlay}`,
      {
        expected: expectedOverlay,
        found: overlay.name,
        remedy: `rename it to ${expectedOverlay} on the stick itself; on a copy in a folder this means nothing`,
      },
    )
  for (const name of names)
    if (overlay && overlayFoundBy === 'label and UUID' && name !== overlay.name)
      tell(
        'OVERLAY_UNUSED',
        'note',
        `${base.folder.path}/${name}`,
        `no boot uses ${name}: it looks for ${overlay.name}`,
        {
          expected: overlay.name,
          found: name,
          remedy: 'remove it once nothing in it is wanted any more',
        },
      )
  if (overlay && overlayFoundBy === 'partition')
    tell(
      'OVERLAY_PARTITION',
      'note',
      overlay.path,
      'the overlay is a whole partition: a boot uses it where its initrd lays it over the base, which dracut does not do by itself',
    )
  if (names.length === 0 && expectedOverlay && !overlay && !target.overlayDirectory)
    tell(
      'NO_OVERLAY',
      'note',
      base.folder.path,
      'there is no overlay: what a booted system changes is lost at power-off',
    )
}

const damageWords = (target: Target, path: string, found: Salvage, tooSmall: string, tell: Tell): void => {
  const { damage, tear, store, lostCount, lostAtLeast } = found
  const remedy = advised(target, address => `liveos recover ${address}`)
  const at = tear && { expected: tear.expected, found: tear.found }
  const follow =
    lostAtLeast && lostCount === 0
      ? "more followed, nobody knows how many, that can't"
      : `${lostAtLeast ? 'at least ' : ''}${lostCount} entries follow that can't`
  const loses = `${store?.exceptions.count ?? 0} changes can be had back, ${follow}`
  if (damage === 'full')
    tell(
      'OVERLAY_FULL',
      'error',
      path,
      'the overlay is full: it has overflowed, or will with the next write of a boot',
      {
        remedy: advised(target, address =>
          target.overlay?.facts.kind === 'other'
            ? `make its partition larger: ${marked(`liveos grow ${address} --size +512M`)} says how`
            : `${marked(`liveos recover ${address}`)} makes room and checks the filesystem; ${marked(`liveos refresh ${address}`)} merges it into the base`,
        ),
      },
    )
  else if (damage === 'invalid')
    tell('OVERLAY_INVALID', 'error', path, 'the kernel has marked the overlay invalid and reads no more from it', {
      expected: 1,
      found: 0,
      remedy,
    })
  else if (damage === 'truncated')
    tell('OVERLAY_TRUNCATED', 'error', path, `the file ends before what its list names: ${loses}`, {
      ...at,
      remedy,
    })
  else if (damage === 'torn')
    tell(
      'OVERLAY_TORN',
      'error',
      path,
      `its list makes no sense from entry ${tear?.index} on (byte ${tear?.offset}): ${loses}`,
      {
        ...at,
        remedy,
      },
    )
  else if (damage === 'stale area')
    tell(
      'OVERLAY_STALE_AREA',
      'error',
      path,
      `its list runs into one of an earlier life at entry ${tear?.index}: ${loses}`,
      {
        ...at,
        remedy,
      },
    )
  else if (damage === 'wrong base')
    tell(
      'OVERLAY_WRONG_BASE',
      'error',
      path,
      `it lists chunks past the end of the base, so it belongs to another one`,
      {
        ...at,
        remedy: advised(
          target,
          address =>
            `put the base back that it was made over; ${marked(`liveos reset ${address}`)} empties it, which loses its changes`,
        ),
      },
    )
  else if (damage === 'header')
    tell(
      'OVERLAY_HEADER',
      'error',
      path,
      store
        ? `its header is gone; its lists look like those of chunks of ${store.chunkSectors} sectors, with ${store.exceptions.count} changes`
        : 'it is no overlay: there is neither a header nor a list',
      {
        remedy: advised(target, address =>
          store
            ? `liveos recover ${address} --chunk ${store.chunkSectors}`
            : `${marked(`liveos reset ${address}`)} makes a new one of it`,
        ),
      },
    )
  else if (damage === 'too small')
    tell('OVERLAY_TOO_SMALL', 'error', path, 'it is too small for an overlay', { remedy: tooSmall })
}

/**
 * Looks at an overlay, trusting nothing in it.
 *
 * @param origin  the base; undefined where it can't be read
 * @returns  what it is, and the root as far as it shows one
 */
export const checkOverlay = async (
  target: Target,
  file: OpenedFile,
  origin: Device | undefined,
  tell: Tell,
): Promise<{
  readonly checkup: OverlayCheckup
  readonly root: Device | undefined
  readonly salvage: Salvage | undefined
}> => {
  const { path, size } = file
  const type = await overlayFsType(file).catch(() => undefined)
  if (type) {
    tell('OVERLAY_UNSUPPORTED', 'note', path, `this overlay is a ${type} filesystem, not a dm-snapshot store`)
    return {
      checkup: { path, size, damage: 'other', exceptions: 0, percent: null },
      root: undefined,
      salvage: undefined,
    }
  }
  const found = await salvageStore(file, { originSize: origin?.size })
  const { store, damage, header } = found
  damageWords(target, path, found, await tooSmallAdvice(target, path, file), tell)
  const percent = store ? Math.round((store.allocatedSectors / store.totalSectors) * 1000) / 10 : null
  if (store && (damage === 'clean' || damage === 'new')) {
    if (isTrapSize(size, store.chunkSize))
      tell(
        'OVERLAY_TRAP_SIZE',
        'warning',
        path,
        `at a size of ${size} bytes the kernel does not stop the writes of a full overlay, but gives it up`,
        {
          expected: `a size not of 1 modulo ${exceptionsPerArea(store.chunkSize) + 1} chunks of ${store.chunkSize} bytes`,
          found: size,
          remedy: advised(target, address => `liveos grow ${address} --size +${store.chunkSize}`),
        },
      )
    if (percent !== null && percent >= FILLING)
      tell(
        percent >= CRITICAL ? 'OVERLAY_CRITICAL' : 'OVERLAY_FILLING',
        percent >= CRITICAL ? 'error' : 'warning',
        path,
        `the overlay is ${percent} % full`,
        {
          remedy: advised(
            target,
            address =>
              `${marked(`liveos grow ${address} --size +512M`)} makes room on the stick, ${marked(`liveos refresh ${address}`)} merges it into the base`,
          ),
        },
      )
  }
  if (found.staleBehind)
    tell(
      'OVERLAY_STALE_BEHIND',
      'note',
      path,
      'a list of an earlier life follows its own; the kernel clears it before it gets there',
    )
  if (file.hasHoles && store) {
    const freeBytes = (await target.overlay?.folder.freeBytes()) ?? 0
    const holes = size - file.allocated
    if (freeBytes < holes)
      tell(
        'OVERLAY_OVERCOMMITTED',
        freeBytes < LITTLE_ROOM ? 'error' : 'warning',
        path,
        `the overlay file has ${holes} bytes of holes and the stick ${freeBytes} bytes free: when the stick is full the kernel gives the overlay up`,
        {
          expected: holes,
          found: freeBytes,
          remedy: advised(target, address => `free space, then run ${marked(`liveos grow ${address} --fill`)}`),
        },
      )
  }
  const checkup = { path, size, damage, exceptions: store?.exceptions.count ?? 0, percent }
  const usable = origin && store && header !== 'guessed' && damage !== 'wrong base'
  return {
    checkup,
    root: usable ? await snapshot(origin, file, { store, ignoreInvalid: true }) : undefined,
    salvage: found,
  }
}
