import { type DeviceWord, parseMountWord } from './device-word.js'
import type { LiveSettings } from './settings.js'
import { SINCE } from './version.js'

/** Where an overlay is looked for. */
export interface OverlayWord {
  readonly device: DeviceWord
  /** path on that device as it is used; without a leading slash it finds nothing */
  readonly path: string
  /** the path was not given: it is made of label and UUID of the live medium */
  readonly automatic: boolean
}

/** The name of the overlay in the live directory, where no path is given. */
export const automaticPath = (
  liveDir: string,
  { label, uuid }: { readonly label: string | undefined; readonly uuid: string | undefined },
): string => `/${liveDir}/overlay-${label ?? ''}-${uuid ?? ''}`

/** True for the words that ask for the image without an overlay. */
export const isNone = (overlay: string): boolean => ['none', 'None', 'NONE'].includes(overlay)

/**
 * Takes the words of an overlay apart: the device before the first colon, the path behind the last one.
 *
 * WHY the last: the shell cuts the longest match from the front for the path and the longest from the back for the device.
 *
 * @param medium  the device of root=live:, whose label and UUID make the automatic name, not the overlay's
 * @returns undefined where none is asked for
 * @see dracut dmsquash-live-root.sh, do_live_overlay
 */
export const parseOverlayWord = (
  { overlay, liveDir, version }: LiveSettings,
  medium: { readonly label: string | undefined; readonly uuid: string | undefined },
): OverlayWord | undefined => {
  const { value } = overlay
  if (value === '' || isNone(value)) return undefined
  const colon = value.indexOf(':')
  const device = parseMountWord(colon < 0 ? value : value.slice(0, colon))
  const given = colon < 0 ? '' : value.slice(value.lastIndexOf(':') + 1)
  if (given === '' || given === 'auto') return { device, path: automaticPath(liveDir.value, medium), automatic: true }
  const slashed = given.startsWith('/') || version < SINCE.overlayfsPrepared ? given : `/${given}`
  return { device, path: slashed, automatic: false }
}
