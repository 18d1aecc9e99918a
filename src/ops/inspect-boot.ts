import type { Device } from '../block/device.js'
import { guardReads } from '../block/guard.js'
import { isLiveError, LiveError } from '../error.js'
import type { FileSystem } from '../fs/filesystem.js'
import { type BootConfig, type BootEntry, missingFiles } from '../liveos/boot/config.js'
import { follow } from '../liveos/boot/follow.js'
import { liveArguments } from '../liveos/boot/live-arguments.js'
import { kernelVersion } from '../liveos/kernel-version.js'
import type { Volume } from '../liveos/source.js'
import { details, type Inspecting, type InspectNode, node } from './inspect-node.js'
import { meansVolume } from './inspect-overlay.js'

/** bytes of a kernel that are read to find its version: headers tell at once, other formats want a search */
const MOST_LOCAL = 64 << 20
const MOST_REMOTE = 128 << 10

/** A device that ends with an error once so many bytes were read. */
const rationed = (device: Device, bytes: number): Device => {
  let left = bytes
  return guardReads(device, async (_, length, read) => {
    left -= length
    if (left < 0) throw new LiveError('IO', `${device.name}: more than ${bytes} bytes would have to be read`)
    return read()
  })
}

/** Asks kernels for their versions, each once. */
export type VersionOf = (path: string) => Promise<string | undefined>

/** Versions of the kernels of a volume, as their files tell. What can't be read is left out: it takes nothing from the rest. */
export const kernelVersions = (fs: FileSystem, { remote }: Inspecting): VersionOf => {
  const known = new Map<string, Promise<string | undefined>>()
  const read = async (path: string): Promise<string | undefined> => {
    try {
      const found = await follow(fs, path)
      if (found?.stat.kind !== 'file') return undefined
      const file = await fs.open(found.path)
      try {
        return (await kernelVersion(rationed(file, remote ? MOST_REMOTE : MOST_LOCAL)))?.version
      } finally {
        await file.close()
      }
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      return undefined
    }
  }
  return path => {
    const found = known.get(path) ?? read(path)
    known.set(path, found)
    return found
  }
}

/** A boot configuration with its entries. */
export const inspectBoot = async (config: BootConfig, versionOf: VersionOf, at: Inspecting): Promise<InspectNode> => {
  const children: InspectNode[] = []
  if (at.depth > 1) for (const entry of config.entries) children.push(await inspectEntry(entry, versionOf))
  return node('boot', config.path, {
    type: config.kind,
    details: details({ firmware: config.firmware, timeoutSeconds: config.timeout, default: config.defaultName }),
    children,
  })
}

const inspectEntry = async (entry: BootEntry, versionOf: VersionOf): Promise<InspectNode> =>
  node('entry', entry.title, {
    type: entry.kind,
    details: details({
      id: entry.id === entry.title ? undefined : entry.id,
      submenu: entry.submenu.length > 0 ? entry.submenu : undefined,
      default: entry.isDefault || undefined,
      conditional: entry.conditional || undefined,
      kernel: entry.kernel?.path,
      kernelVersion: entry.kernel?.exists ? await versionOf(entry.kernel.path) : undefined,
      initrds: entry.initrds.length > 0 ? entry.initrds.map(({ path }) => path) : undefined,
      missing: missing(entry),
      arguments: entry.commandLine || undefined,
    }),
  })

const missing = (entry: BootEntry): readonly string[] | undefined => {
  const files = missingFiles(entry)
  return files.length > 0 ? files : undefined
}

const shownId = ({ fs, name, partition }: Volume): string => {
  const words = [fs?.label ? `label "${fs.label}"` : '', fs?.uuid ? `UUID ${fs.uuid}` : ''].filter(Boolean)
  return `${partition ? `partition ${partition.number}` : name} has ${words.join(' and ') || 'neither label nor UUID'}`
}

/**
 * Tells of live entries that look for their system on a medium of another name, as after relabelling or copying a stick.
 *
 * @param volumes  all of the source, whose names are known
 */
export const checkRoots = (config: BootConfig, volumes: readonly Volume[], at: Inspecting): void => {
  const wrong = new Map<string, string[]>()
  for (const entry of config.entries) {
    if (entry.kind !== 'live') continue
    const word = /^live:(.*)$/.exec(liveArguments(entry).root?.value ?? '')?.[1]
    if (word === undefined || /[$]/.test(word)) continue
    if (volumes.some(volume => meansVolume(word, volume) !== false)) continue
    wrong.set(word, [...(wrong.get(word) ?? []), entry.title])
  }
  for (const [word, titles] of wrong)
    at.findings.push({
      code: 'BOOT_ROOT_ELSEWHERE',
      severity: 'warning',
      where: config.path,
      message: `${config.path}: ${titles.length === 1 ? `the entry "${titles[0]}" looks` : `${titles.length} entries look`} for a medium with ${word}, and that is not this one: ${volumes
        .filter(({ fs }) => fs)
        .map(shownId)
        .join(', ')}`,
      expected: word,
      remedy: 'give the medium that name again, or write its own into the boot entries',
    })
}
