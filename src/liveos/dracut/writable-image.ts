import type { BaseImage } from './base-image.js'
import { isNone } from './overlay-word.js'
import type { Drafting } from './plan.js'

/** What is written to without an overlay. */
export interface PlainWrites {
  /** where the image lies then */
  readonly file: string
  /** what is written stays on the medium */
  readonly lasting: boolean
}

/**
 * Whether the image itself is written to, without any overlay: by rd.writable.fsimg, by `none`, or as an unpacked image that was
 * copied to memory. Sets `setup` as dracut does.
 *
 * WHY read-only undoes it: dracut then lays its temporary overlay over the image instead of looking for one.
 */
export const writableImage = (at: Drafting, base: BaseImage): PlainWrites | undefined => {
  const { writableImage, overlay, ram, readOnly } = at.settings
  if (base.layout === 'medium') return undefined
  const inMemory = !base.packed && ram.value && at.overlayfs === ''
  const why = writableImage.value
    ? writableImage.from
    : isNone(overlay.value)
      ? overlay.from
      : inMemory
        ? ram.from
        : undefined
  if (why === undefined) return undefined
  let { file } = base
  if (writableImage.value) {
    file = '/run/initramfs/fsimg/rootfs.img'
    const size = at.facts.image.rootSize ?? base.size
    at.memoryBytes += size
    at.say(
      'writable image',
      `the image is unpacked to ${file} in memory, holes and all (${size} bytes)`,
      writableImage.from,
    )
  }
  if (readOnly.value) {
    at.setup = 'yes'
    at.say(
      'read-only',
      'a read-only overlay is asked for, so the image is not written to: a temporary overlay goes over it',
      readOnly.from,
    )
    return undefined
  }
  at.setup = 'rw'
  if (at.overlayfs !== '') return undefined
  at.say('no overlay', 'the root filesystem is written to as it is, without an overlay', why)
  if (base.packed && !writableImage.value) {
    at.tell(
      'NONE_OVER_PACKED',
      'error',
      `${base.path} lies in a packed image, which can't be written to: without an overlay the root stays read-only`,
      why,
      {
        remedy: 'leave this argument out, or use an unpacked rootfs.img',
      },
    )
    return { file, lasting: false }
  }
  const { mode, ram: copied } = at.settings
  if (!writableImage.value && !copied.value && mode.value === 'ro')
    at.tell(
      'NONE_NEEDS_RW',
      'warning',
      'the live medium is mounted ro, so the image on it can not be written to',
      why,
      { remedy: 'add rw to the arguments' },
    )
  return {
    file,
    lasting: !writableImage.value && !ram.value && !at.facts.live.device?.readOnly && at.settings.mode.value === 'rw',
  }
}
