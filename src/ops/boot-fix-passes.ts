import { memory } from '../block/memory.js'
import { bytesOf } from '../liveos/boot/text.js'
import { unifiedDiff } from '../liveos/persistence/unified-diff.js'
import type { Volume } from '../liveos/source.js'
import type { BootCheckup, BootFix } from './doctor-boot.js'
import type { Tell } from './doctor-overlay.js'

/** A volume as it would be with another text in one of its files. */
export const withText = (volume: Volume, path: string, text: string): Volume => {
  const { fs } = volume
  if (!fs) return volume
  const bytes = bytesOf(text)
  return {
    ...volume,
    fs: {
      ...fs,
      stats: undefined,
      openAt: undefined,
      stat: async at => (at === path ? { ...(await fs.stat(at)), size: bytes.length } : fs.stat(at)),
      open: async at => (at === path ? memory(bytes, path) : fs.open(at)),
    },
  }
}

/** True for the volume of a fix. */
export const isOn = ({ partition }: Volume, fix: BootFix): boolean => (partition?.number ?? null) === fix.partition

/** What is wrong once may hide what is wrong besides: so often is looked again. */
const MAX_PASSES = 4

/**
 * Looks for what is to be changed, with the changes made looks again, and gives all of them as one.
 *
 * @param look  tells what is wrong, and what to change
 */
export const untilMended = async (
  start: readonly Volume[],
  tell: Tell,
  look: (volumes: readonly Volume[], tell: Tell) => Promise<BootCheckup>,
): Promise<BootCheckup> => {
  const found = await look(start, tell)
  const fixes = new Map<string, BootFix>()
  let volumes = start
  let more = found.fixes
  for (let pass = 0; more.length > 0 && pass < MAX_PASSES; pass++) {
    for (const fix of more) {
      const key = `${fix.partition} ${fix.path}`
      const before = fixes.get(key)?.before ?? fix.before
      fixes.set(key, { ...fix, before, diff: unifiedDiff(fix.path, before, fix.after) })
      volumes = volumes.map(volume => (isOn(volume, fix) ? withText(volume, fix.path, fix.after) : volume))
    }
    more = (await look(volumes, () => undefined)).fixes
  }
  return { ...found, fixes: [...fixes.values()].filter(({ before, after }) => before !== after) }
}
