import { join } from 'node:path'
import { copyData } from '../block/copy.js'
import type { Device } from '../block/device.js'
import { createFile } from '../block/file.js'
import { linear, type Segment } from '../block/linear.js'
import { LiveError } from '../error.js'
import { printableName } from '../fs/name.js'
import { closeAll } from '../host/folder.js'
import { temporaryRoom } from '../host/temporary.js'
import { marked, pathWord } from '../liveos/advice.js'
import { type BootConfig, type EntryKind, missingFiles, notThere } from '../liveos/boot/config.js'
import { menusOf } from '../liveos/boot/menus.js'
import { volumesOf } from '../liveos/open-target.js'
import type { Source, Volume } from '../liveos/source.js'
import { argumentPlaces, type BootPlace } from './boot-place.js'
import { bootFilePlace } from './boot-plan-initrd.js'

/** An entry of a medium's boot menus that starts a kernel. */
export interface NumberedEntry {
  /** from 1, over all menus of the medium in the order of partitions and paths */
  readonly number: number
  readonly title: string
  readonly kind: EntryKind
  /** the menu's own choice */
  readonly isDefault: boolean
  /** path of the boot configuration, and what starts it */
  readonly config: string
  readonly firmware: BootConfig['firmware']
  readonly partition: number | null
  readonly kernel: string
  readonly initrds: readonly string[]
  readonly arguments: string
}

/** The entries of a medium, and which firmware can start its menus. */
export interface BootMenus {
  readonly entries: readonly NumberedEntry[]
  readonly bios: boolean
  readonly uefi: boolean
  /** where the files of which numbers are not there */
  readonly missing: ReadonlyMap<number, MissingFiles>
}

/** Kernel and initrds of an entry that are not there. */
export interface MissingFiles {
  readonly paths: readonly string[]
  readonly place: BootPlace
}

/** Reads every boot menu of a medium. A filesystem that can't be searched has none. */
export const bootMenus = async (source: Source, partition?: number): Promise<BootMenus> => {
  const { entries } = await menusOf(volumesOf(source, partition), source.volumes)
  const missing = new Map<number, MissingFiles>()
  for (const { number, entry, config, volume } of entries) {
    const paths = missingFiles(entry)
    if (number === undefined || paths.length === 0) continue
    const placeOf = await argumentPlaces(volume.fs!, entry, config.entries)
    missing.set(number, { paths, place: placeOf(undefined) })
  }
  const started = new Set(entries.map(({ config }) => config.firmware))
  return {
    entries: entries.flatMap(({ number, entry, config, volume }) =>
      number === undefined || !entry.kernel
        ? []
        : [
            {
              number,
              title: entry.title,
              kind: entry.kind,
              isDefault: entry.isDefault,
              config: config.path,
              firmware: config.firmware,
              partition: volume.partition?.number ?? null,
              kernel: entry.kernel.path,
              initrds: entry.initrds.map(({ path }) => path),
              arguments: entry.commandLine,
            },
          ],
    ),
    bios: started.has('bios') || started.has('both'),
    uefi: started.has('uefi') || started.has('both'),
    missing,
  }
}

/** The entry of a number. @throws USAGE, NOT_FOUND  there is none, or its kernel or initrd is not there */
export const entryOf = ({ entries, missing }: BootMenus, number: number, name: string): NumberedEntry => {
  const found = entries[number - 1]
  const lost = missing.get(number)
  if (found && lost) {
    const { path, line } = lost.place
    throw new LiveError(
      'NOT_FOUND',
      `entry ${number} "${printableName(found.title)}" (${printableName(path)}:${line}) can't be started: ${notThere(lost.paths)}`,
      { path: name, entry: number, missing: lost.paths },
    )
  }
  if (found) return found
  if (entries.length === 0)
    throw new LiveError('NOT_FOUND', `${name} has no boot entry that starts a kernel`, { path: name })
  throw new LiveError(
    'USAGE',
    `${name} has no entry ${number}: there are 1 to ${entries.length}, see ${marked(`liveos boot ${pathWord(name)} --dry-run`)}`,
    { path: name },
  )
}

/** The files that a direct start takes out of the medium, in the machine's folder. */
export const KERNEL = 'kernel'
export const INITRD = 'initrd'

/** The kernel's own limit for one archive after another. @see linux Documentation/driver-api/early-userspace/buffer-format.rst */
const ALIGNMENT = 4

/** Devices one after another, each padded so that the next is found. */
const together = (devices: readonly Device[]): Device => {
  const segments: Segment[] = []
  for (const device of devices) {
    const excess = device.size % ALIGNMENT
    segments.push({ device, length: device.size }, { length: excess === 0 ? 0 : ALIGNMENT - excess })
  }
  return linear(segments, INITRD)
}

const openFrom = async (source: Source, volume: Volume, path: string, what: string): Promise<Device> => {
  const found = await bootFilePlace(source.volumes, volume, path)
  if (!found)
    throw new LiveError(
      'NOT_FOUND',
      path.includes('$')
        ? `the ${what} ${printableName(path)} is a name that only the boot loader can complete: boot without --entry`
        : `${volume.name} has no ${what} ${printableName(path)}`,
      { path },
    )
  return found.fs.open(found.path)
}

const copyInto = async (device: Device, path: string, signal: AbortSignal | undefined): Promise<void> => {
  const file = await createFile(path, { mode: 0o600, exclusive: true })
  try {
    await copyData(device, file, { signal })
    await file.truncate(device.size)
  } finally {
    await file.close()
  }
}

/**
 * Copies the kernel and the initrds of an entry into a folder, as `KERNEL` and `INITRD`.
 *
 * @throws NOT_FOUND  a file is missing; NO_SPACE, CORRUPT, IO, CANCELLED
 */
export const takeEntry = async (
  source: Source,
  { kernel, initrds, partition }: NumberedEntry,
  folder: string,
  signal?: AbortSignal,
): Promise<void> => {
  const volume = source.volumes.find(({ partition: own }) => (own?.number ?? null) === partition)!
  const opened: Device[] = []
  const open = async (path: string, what: string): Promise<Device> => {
    const device = await openFrom(source, volume, path, what)
    opened.push(device)
    return device
  }
  try {
    const image = await open(kernel, 'kernel')
    const rest: Device[] = []
    for (const path of initrds) rest.push(await open(path, 'initrd'))
    const size = opened.reduce((sum, device) => sum + device.size, 0)
    const room = await temporaryRoom()
    if (size > room)
      throw new LiveError(
        'NO_SPACE',
        `kernel and initrd take ${size} bytes, and ${folder} has ${room} free: set TMPDIR`,
        {
          size,
          room,
        },
      )
    await copyInto(image, join(folder, KERNEL), signal)
    if (rest.length > 0) await copyInto(together(rest), join(folder, INITRD), signal)
  } finally {
    await closeAll(opened)
  }
}
