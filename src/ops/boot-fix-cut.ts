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

/**
 * Boot configurations that lost their name when a change of them was cut short: on FAT, for a moment only `.old` and `.new` have
 * one. Finishing the change, or putting the old one back where there is no new one, is the fix.
 */
export const cutFixes = async (volume: Volume, tell: Tell): Promise<readonly BootFix[]> => {
  const { fs, partition } = volume
  const fixes: BootFix[] = []
  const seen = new Set<string>()
  if (!fs) return fixes
  for (const place of PLACES) {
    const directory = await listed(fs, place)
    if (!directory || seen.has(directory.path)) continue
    seen.add(directory.path)
    const names = new Set(directory.entries.filter(({ kind }) => kind === 'file').map(({ name }) => name))
    for (const name of names) {
      const base = name.slice(0, -OLD_SUFFIX.length)
      if (!name.endsWith(OLD_SUFFIX) || !/\.(cfg|conf|lst)$/i.test(base) || names.has(base)) continue
      const path = `${directory.path === '/' ? '' : directory.path}/${base}`
      const before = await configText(fs, path + OLD_SUFFIX)
      const after = names.has(base + NEW_SUFFIX) ? await configText(fs, path + NEW_SUFFIX) : before
      if (before === undefined || after === undefined) continue
      tell(
        'BOOT_FIX_INTERRUPTED',
        'error',
        path,
        `${path} is missing: a change of it was cut short and left it as ${base}${OLD_SUFFIX}`,
        {
          remedy: 'liveos doctor --fix finishes the change',
        },
      )
      fixes.push({ path, partition: partition?.number ?? null, diff: unifiedDiff(path, before, after), before, after })
    }
  }
  return fixes
}
