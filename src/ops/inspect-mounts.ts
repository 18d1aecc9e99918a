import type { BootConfig, BootEntry } from '../liveos/boot/config.js'
import { liveArguments } from '../liveos/boot/live-arguments.js'
import type { LiveDirectory } from '../liveos/live-directory.js'
import type { Target } from '../liveos/target.js'

const OFF = new Set(['0', 'no', 'off', 'none'])

/** The live entry that starts by itself, or the first one there is. */
const liveEntry = (configs: readonly BootConfig[], dir: string): BootEntry | undefined => {
  const entries = configs.flatMap(config => config.entries).filter(({ kind }) => kind === 'live')
  const mine = entries.filter(entry => (liveArguments(entry).dir?.value ?? 'LiveOS') === (dir || '/'))
  return mine.find(({ isDefault }) => isDefault) ?? mine[0]
}

/**
 * What a boot of a live directory mounts where, in words: by the arguments of the entry that starts by itself, and by what is
 * there. Rules that depend on the initrd's version are left out.
 */
export const bootMounts = (
  { name }: LiveDirectory,
  target: Target | undefined,
  configs: readonly BootConfig[],
): readonly string[] => {
  if (!target) return []
  const { base, overlay, overlayDirectory, home, medium } = target
  const entry = liveEntry(configs, name)
  const arguments_ = entry && liveArguments(entry)
  const mounts = [`/run/initramfs/live ← ${medium.type}${medium.label ? ` "${medium.label}"` : ''}`]
  const lower = base.name === 'squashfs.img' ? `the root image in ${base.name}` : base.name
  const asked = arguments_?.overlay
  const wanted = asked !== undefined && !OFF.has(asked.value ?? '')
  if (entry === undefined) mounts.push(`/ ← ${lower}; no boot entry here starts it`)
  else if (wanted && overlayDirectory) mounts.push(`/ ← ${lower} under the OverlayFS ${overlayDirectory}`)
  else if (wanted && overlay) mounts.push(`/ ← ${lower} under ${overlay.name}: changes are kept`)
  else if (wanted)
    mounts.push(
      `/ ← ${lower} under a temporary overlay: ${asked.raw} finds nothing here, so changes are lost at power-off`,
    )
  else if (overlay || overlayDirectory)
    mounts.push(
      `/ ← ${lower} under a temporary overlay: the entry "${entry.title}" asks for no overlay, so the one here is not used`,
    )
  else mounts.push(`/ ← ${lower} under a temporary overlay: changes are lost at power-off`)
  if (home && !arguments_?.noPersistentHome)
    mounts.push(`/home ← ${home.name}, where the system has the livesys scripts`)
  return mounts
}
