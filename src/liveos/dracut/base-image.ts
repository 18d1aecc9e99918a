import type { ImageInside } from './facts.js'
import type { Drafting } from './plan.js'
import { SINCE } from './version.js'

/** The image under the root filesystem. */
export interface BaseImage {
  /** `nested`: an image of a filesystem in a packed one; `flat`: the packed one is the root; `plain`: not packed; `medium`: the live medium itself */
  readonly layout: 'nested' | 'flat' | 'plain' | 'medium'
  /** on the live medium; what is in the packed one behind ` → ` */
  readonly path: string
  /** where the booted system has it */
  readonly file: string
  readonly packed: boolean
  /** bytes of the file on the medium */
  readonly size: number
}

/** How a flat image is known, by version. */
const flatMark = (version: number): readonly (keyof ImageInside)[] =>
  version >= SINCE.renamed ? ['usr', 'ostree'] : version >= SINCE.flatByUsr ? ['usr'] : ['proc']

/** WHY ext3fs.img is asked apart: dracut 110 knows that name no more, images of old releases have no other. */
const knowsExt3 = (version: number): boolean => version < SINCE.renamed

const ram = (at: Drafting, size: number, file: string, checked: boolean): void => {
  const { ram, leastMemory, version } = at.settings
  at.memoryBytes += size
  at.say('copy to memory', `the image is copied to ${file}`, ram.from)
  if (checked && version >= SINCE.overlayfsTold)
    at.say(
      'least memory',
      `with less than ${leastMemory.value} MiB of memory beside it the boot ends in a shell`,
      leastMemory.from,
    )
}

const packedImage = (at: Drafting, dir: string): BaseImage | undefined => {
  const { settings, facts } = at
  const packed = facts.image.packed!
  const { version } = settings
  const { path, size, type, inside } = packed
  const from = settings.squashimg.from
  if (type === 'erofs' && version < SINCE.erofs) {
    at.stop(
      'fails',
      'DRACUT_TOO_OLD',
      `${path} is an EROFS, which dracut ${version} does not mount (it takes 103 or later)`,
      from,
    )
    return undefined
  }
  if (type !== 'squashfs' && type !== 'erofs') {
    at.stop('fails', 'IMAGE_UNKNOWN', `${path} is no squashfs${type ? ` but ${type}` : ''}: it can't be mounted`, from)
    return undefined
  }
  if (type === 'squashfs' && !inside) {
    at.stop(
      'fails',
      'IMAGE_DAMAGED',
      `${path} can't be read: it is cut short or damaged`,
      from,
      'copy it again from where it came, or from a backup',
    )
    return undefined
  }
  at.say('image', `${path} is there, so it is used and no rootfs.img is looked for`, from ?? settings.liveDir.from)
  if (settings.ram.value) ram(at, size, '/run/initramfs/squashed.img', true)
  const made = (layout: BaseImage['layout'], inner: string): BaseImage => ({
    layout,
    path: inner === '' ? path : `${path} → ${inner}`,
    file:
      inner === ''
        ? settings.ram.value
          ? '/run/initramfs/squashed.img'
          : `/run/initramfs/live${path}`
        : `/run/initramfs/squashfs${inner}`,
    packed: true,
    size,
  })
  if (inside === undefined) {
    at.tell(
      'IMAGE_NOT_READ',
      'note',
      `${path} is ${type}, which is not read here: it is taken for a flat image`,
      undefined,
    )
    return made('flat', '')
  }
  if (inside.liveOS) {
    if (inside.rootfs) return made('nested', '/LiveOS/rootfs.img')
    if (inside.ext3fs && knowsExt3(version)) return made('nested', '/LiveOS/ext3fs.img')
    const only = inside.ext3fs ? `only ext3fs.img, a name that dracut knows until 109` : 'no rootfs.img'
    at.stop(
      'fails',
      'IMAGE_WITHOUT_ROOT',
      `${path} holds the directory LiveOS and ${only} in it: there is no root filesystem`,
      from,
      `rename the live directory, now ${dir}, or refresh the image`,
    )
    return undefined
  }
  const marks = flatMark(version)
  if (marks.some(mark => inside[mark])) return made('flat', '')
  at.stop(
    'fails',
    'IMAGE_WITHOUT_ROOT',
    `${path} holds neither /LiveOS nor ${marks.map(mark => `/${mark}`).join(' nor ')}, by which dracut ${version} knows a root filesystem`,
    from,
  )
  return undefined
}

/**
 * The image that is used: the packed one in the live directory, else rootfs.img beside it.
 *
 * @returns undefined where the boot ends for want of one
 */
export const baseImage = (at: Drafting): BaseImage | undefined => {
  const { settings, facts } = at
  const { liveDir, squashimg, version } = settings
  const directory = `/${liveDir.value}`
  if (facts.image.packed) return packedImage(at, directory)
  const names = knowsExt3(version) ? ['rootfs.img', 'ext3fs.img'] : ['rootfs.img']
  const plain = names.map(name => facts.image.plain.find(file => file.name === name)).find(Boolean)
  if (plain) {
    at.say('image', `there is no ${directory}/${squashimg.value}, so ${plain.path} is used as it is`, liveDir.from)
    const file = settings.ram.value ? '/run/initramfs/rootfs.img' : `/run/initramfs/live${plain.path}`
    // WHY no check of memory here: dracut asks for it in the branch of packed images alone
    if (settings.ram.value) ram(at, plain.size, file, false)
    return { layout: 'plain', path: plain.path, file, packed: false, size: plain.size }
  }
  // WHY not with a copy in memory: dracut then copies the image that is not there
  if (at.overlayfs !== '' && !settings.ram.value) {
    at.say(
      'image',
      `there is no image in ${directory}: the live medium itself is taken for the root`,
      settings.overlayfs.from,
    )
    return { layout: 'medium', path: '/', file: '/run/initramfs/live', packed: false, size: 0 }
  }
  const old = facts.image.plain.length > 0 ? `, and dracut ${version} knows ext3fs.img no more` : ''
  at.stop(
    'fails',
    'IMAGE_MISSING',
    `there is neither ${directory}/${squashimg.value} nor ${directory}/rootfs.img${old}: the boot waits for a root that never comes`,
    liveDir.from ?? squashimg.from,
  )
  return undefined
}
