import { resolve } from 'node:path'
import { LiveError } from '../error.js'
import { readExt4Superblock } from '../fs/ext4/superblock.js'
import { resolvePath } from '../fs/resolve.js'
import { isHostFolder } from '../host/folder.js'
import { isPlaceFolder } from '../host/place-folder.js'
import { volumesOf } from '../liveos/open-target.js'
import { openSource, type Source, type Volume } from '../liveos/source.js'
import type { Target, TargetFile } from '../liveos/target.js'
import type { LoopStep, TableStep } from './table-shell.js'

/** Where a root shell finds the files of a target. */
export interface Places {
  /** what has to be done first, such as mounting the stick's filesystem */
  readonly steps: readonly TableStep[]
  /** a file, or the part of one, for losetup */
  of(file: TargetFile): Promise<Pick<LoopStep, 'path' | 'part'>>
}

/** How the kernel shows the names of a filesystem as they are read here, and changes nothing. */
const OPTIONS: Readonly<Record<string, string>> = { vfat: 'ro,utf8', iso9660: 'ro,utf8', ext4: 'ro,noload' }

const onHost = ({ folder, path }: TargetFile): Pick<LoopStep, 'path' | 'part'> => {
  if (!isPlaceFolder(folder)) return { path: resolve(path), part: null }
  const { partition, start, length } = folder.part
  return {
    path: folder.part.path,
    part: partition === undefined ? null : { offset: start, size: Math.floor(length / 512) * 512 },
  }
}

/** @throws REFUSED  the kernel would have to replay a journal to show what is shown here */
const checkClean = async ({ device, type, name }: Volume): Promise<void> => {
  if (type === 'ext4' && device && (await readExt4Superblock(device)).needsRecovery)
    throw new LiveError(
      'REFUSED',
      `${name} was not unmounted cleanly, and a kernel that may only read it shows it as it was before: mount it once, or run e2fsck on it`,
      { path: name },
    )
}

const placesIn = async (
  source: Source,
  target: Target,
  partition: number | undefined,
  name: string,
): Promise<Places> => {
  const image = resolve(source.name)
  const volume = volumesOf(source, partition).find(each => each.name === target.medium.mountPoint)
  if (!volume) throw new LiveError('REFUSED', `${source.name} has changed meanwhile: try again`, { path: source.name })
  const { partition: entry, device, fs } = volume
  const part = entry && device ? { offset: entry.start, size: Math.floor(device.size / 512) * 512 } : null
  // The base is the volume itself.
  if (!target.stick || !fs)
    return { steps: [], of: async file => (isHostFolder(file.folder) ? onHost(file) : { path: image, part }) }
  await checkClean(volume)
  const path = `/run/${name}-medium`
  const loop = { kind: 'loop' as const, variable: 'medium', path: image, readOnly: true, part }
  const mount = { kind: 'mount' as const, variable: 'medium', type: fs.type, options: OPTIONS[fs.type] ?? 'ro', path }
  return {
    steps: [
      { ...loop, why: entry ? `partition ${entry.number} of the image` : 'the image' },
      { ...mount, why: 'the filesystem that holds the live system' },
    ],
    async of(file) {
      if (isHostFolder(file.folder)) return onHost(file)
      // An absolute symlink on the stick must not lead out of its mount.
      const inside = await resolvePath(fs, `${file.folder.path.slice(volume.name.length + 1)}/${file.name}`)
      return { path: `${path}${inside}`, part: null }
    },
  }
}

/**
 * Finds where a root shell gets at the files of a target.
 *
 * @param name  of the view, for mount points
 * @throws REFUSED  a filesystem on the way can't be shown as it is by a kernel that only reads; and as `openSource`
 */
export const findPlaces = async (target: Target, partition: number | undefined, name: string): Promise<Places> => {
  if (isHostFolder(target.base.folder)) return { steps: [], of: async file => onHost(file) }
  const source = await openSource(target.name)
  try {
    const places = await placesIn(source, target, partition, name)
    const files = new Map<TargetFile, Pick<LoopStep, 'path' | 'part'>>()
    for (const file of [target.base, target.overlay]) if (file) files.set(file, await places.of(file))
    return { steps: places.steps, of: async file => files.get(file)! }
  } finally {
    await source.close()
  }
}
