import type { BootConfig, BootEntry } from '../liveos/boot/config.js'
import { liveArguments } from '../liveos/boot/live-arguments.js'
import type { LiveDirectory } from '../liveos/live-directory.js'
import type { Volume } from '../liveos/source.js'
import type { Target } from '../liveos/target.js'
import { askedOverlay } from './inspect-overlay.js'

/** The live entry of a live directory that starts by itself, or the first one there is. */
export const liveEntry = (configs: readonly BootConfig[], dir: string): BootEntry | undefined => {
  const entries = configs.flatMap(config => config.entries).filter(({ kind }) => kind === 'live')
  const mine = entries.filter(entry => (liveArguments(entry).dir?.value ?? 'LiveOS') === (dir || '/'))
  return mine.find(({ isDefault }) => isDefault) ?? mine[0]
}

/** True where an argument that is there says yes. */
const isOn = (argument: { readonly value?: string } | undefined): boolean =>
  argument !== undefined && !['0', 'no', 'off'].includes(argument.value ?? '')

/**
 * What a boot of a live directory mounts where, in words: by the arguments of the entry that starts by itself, and by what is
 * there. Rules that depend on the initrd's version are left out.
 *
 * @param home     the volume that holds the directory
 * @param volumes  all volumes of the source
 */
export const bootMounts = async (
  { name }: LiveDirectory,
  target: Target | undefined,
  configs: readonly BootConfig[],
  home: Volume,
  volumes: readonly Volume[],
): Promise<readonly string[]> => {
  if (!target) return []
  const { base, overlay, overlayDirectory, home: homeImage, medium } = target
  const entry = liveEntry(configs, name)
  const given = entry && liveArguments(entry)
  const mounts = [`/run/initramfs/live ← ${medium.type}${medium.label ? ` "${medium.label}"` : ''}`]
  const lower = base.name === 'squashfs.img' ? `the root in ${base.name}` : base.name
  const temporary = `${lower} under a temporary overlay`
  const asked = await askedOverlay(given?.overlay, home, name, volumes)
  const isKept = overlay !== undefined || overlayDirectory !== undefined
  const root = (): string => {
    if (!entry || !given) return `${lower}; no boot entry here starts it`
    if (isOn(given.ram)) return `a copy in memory of ${temporary}: changes are lost at power-off`
    if (!asked && /^none$/i.test(given.overlay?.value ?? '')) return `${lower} without an overlay`
    if (!asked)
      return isKept
        ? `${temporary}: the entry "${entry.title}" asks for no overlay, so the one here is not used`
        : `${temporary}: changes are lost at power-off`
    if (asked.volume === undefined)
      return `${lower} under the overlay that ${asked.raw} names, on a device that is not here`
    if (asked.kind === undefined)
      return `${temporary}: ${asked.raw} finds nothing here, so changes are lost at power-off`
    const where =
      asked.volume === home || !asked.volume.partition ? '' : ` on partition ${asked.volume.partition.number}`
    const upper = `${asked.kind === 'directory' ? 'the OverlayFS ' : ''}${asked.path}${where}`
    if (isOn(given.overlayReset)) return `${lower} under ${upper}, which this entry empties at each start`
    if (isOn(given.overlayReadonly))
      return `${lower} under ${upper}, which is only read: new changes are lost at power-off`
    return `${lower} under ${upper}: changes are kept`
  }
  mounts.push(`/ ← ${root()}`)
  if (homeImage && !given?.noPersistentHome)
    mounts.push(`/home ← ${homeImage.name}, where the system has the livesys scripts`)
  return mounts
}
