import { isLiveError } from '../error.js'
import type { Entry, FileSystem } from '../fs/filesystem.js'
import { follow } from '../liveos/boot/follow.js'
import { unifiedDiff } from '../liveos/persistence/unified-diff.js'
import type { Volume } from '../liveos/source.js'
import { NEW_SUFFIX, OLD_SUFFIX } from '../liveos/target.js'
import { configText } from './boot-place.js'
import type { BootFix } from './doctor-boot.js'
import type { Tell } from './doctor-overlay.js'

/** Where boot configurations lie that are changed here. */
const PLACES = [
  '/',
  '/syslinux',
  '/isolinux',
  '/extlinux',
  '/boot',
  '/boot/syslinux',
  '/boot/extlinux',
  '/boot/grub',
  '/boot/grub2',
  '/EFI/BOOT',
  '/EFI/fedora',
  '/loader/entries',
]

/** Old texts that are held against what they would become; each takes a look at all entries. */
const MAX_LEFT = 16

const listed = async (
  fs: FileSystem,
  path: string,
): Promise<{ path: string; entries: readonly Entry[] } | undefined> => {
  try {
    const found = await follow(fs, path)
    return found?.stat.kind === 'directory' ? { path: found.path, entries: await fs.list(found.path) } : undefined
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return undefined
  }
}

/** The text that a configuration would be given if it had this one; undefined where nothing would be changed in it. */
export type Mended = (path: string, text: string) => Promise<string | undefined>

/**
 * What changes of boot configurations left that were cut short.
 *
 * - On FAT, for a moment only `.old` and `.new` have a name. Finishing the change, or putting the old one back where there is no
 *   new one, is the fix.
 * - A change that was done but for its last step left the old text as `.old`: ours is one that such a change makes what has the
 *   name now, and any other is somebody's own.
 */
export const cutFixes = async (volume: Volume, mended: Mended, tell: Tell): Promise<readonly BootFix[]> => {
  const { fs, partition } = volume
  const fixes: BootFix[] = []
  let looked = 0
  const seen = new Set<string>()
  if (!fs) return fixes
  const found = async (path: string, hasName: boolean, hasNew: boolean): Promise<void> => {
    const old = await configText(fs, path + OLD_SUFFIX)
    const now = hasName ? await configText(fs, path) : hasNew ? await configText(fs, path + NEW_SUFFIX) : old
    if (old === undefined || now === undefined) return
    const place = { path, partition: partition?.number ?? null }
    const name = path.slice(path.lastIndexOf('/') + 1)
    if (!hasName) {
      tell(
        'BOOT_FIX_INTERRUPTED',
        'error',
        path,
        `${path} is missing: a change of it was cut short and left it as ${name}${OLD_SUFFIX}`,
        { remedy: 'liveos doctor --fix finishes the change' },
      )
      fixes.push({ ...place, diff: unifiedDiff(path, old, now), before: old, after: now })
    } else if (!hasNew && old !== now && ++looked <= MAX_LEFT && (await mended(path, old)) === now) {
      tell(
        'BOOT_FIX_LEFTOVER',
        'warning',
        path,
        `${path}${OLD_SUFFIX} is left of a change that was cut short when it was all but done`,
        { remedy: 'liveos doctor --fix removes it' },
      )
      fixes.push({ ...place, diff: '', before: now, after: now, leftover: old })
    }
  }
  for (const place of PLACES) {
    const directory = await listed(fs, place)
    if (!directory || seen.has(directory.path)) continue
    seen.add(directory.path)
    const names = new Set(directory.entries.filter(({ kind }) => kind === 'file').map(({ name }) => name))
    for (const name of names) {
      const base = name.slice(0, -OLD_SUFFIX.length)
      if (!name.endsWith(OLD_SUFFIX) || !/\.(cfg|conf|lst)$/i.test(base)) continue
      const path = `${directory.path === '/' ? '' : directory.path}/${base}`
      await found(path, names.has(base), names.has(base + NEW_SUFFIX))
    }
  }
  return fixes
}
