import type { Device } from '../block/device.js'
import { LiveError, unsupported } from '../error.js'
import { detectFs } from './detect.js'
import type { FileSystem } from './filesystem.js'
import type { SquashfsOptions } from './squashfs/reader.js'

/** Expanding compressed blocks elsewhere. */
export type OpenOptions = SquashfsOptions

/**
 * Opens whatever filesystem a device holds. An ext3 or ext4 whose journal was not replayed is shown as the kernel would show it
 * after the replay; the device is only read.
 *
 * @throws UNSUPPORTED  a filesystem that is known and can't be read; NOT_FOUND  none that is known; CORRUPT, IO
 */
export const openFs = async (device: Device, options: OpenOptions = {}): Promise<FileSystem> => {
  const type = await detectFs(device)
  // Each format is loaded only once an image of its kind turns up.
  switch (type) {
    case 'squashfs':
      return (await import('./squashfs/reader.js')).openSquashfs(device, options)
    case 'ext4': {
      const { openReplayed } = await import('./ext4/journal/replayed.js')
      return (await import('./ext4/reader.js')).openExt4(await openReplayed(device))
    }
    case 'iso9660':
      return (await import('./iso9660/reader.js')).openIso9660(device)
    case 'vfat':
      return (await import('./fat/reader.js')).openFat(device)
    case undefined:
      throw new LiveError('NOT_FOUND', `${device.name} holds no filesystem that is known`, { device: device.name })
    default:
      throw unsupported(`reading ${type}`, device.name)
  }
}
