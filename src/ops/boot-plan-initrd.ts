import { isLiveError, LiveError } from '../error.js'
import type { FileSystem } from '../fs/filesystem.js'
import { follow } from '../liveos/boot/follow.js'
import type { Initrd } from '../liveos/initrd/read.js'
import { readInitrd } from '../liveos/initrd/read.js'
import { MAX_UNPACKED, wholeBudget } from '../liveos/initrd/unpack.js'
import { kernelVersion } from '../liveos/kernel-version.js'
import type { Volume } from '../liveos/source.js'

/** What is known of an entry's initrds, all together. */
export interface FoundInitrd {
  readonly paths: readonly string[]
  /** undefined where one could not be read */
  readonly initrd: Initrd | undefined
  /** why not */
  readonly failure: string | undefined
}

/** Reads the kernels and initrds of entries, each file once. */
export interface BootFiles {
  initrd(volume: Volume, paths: readonly string[]): Promise<FoundInitrd>
  kernel(volume: Volume, path: string): Promise<string | undefined>
}

/** bytes that all initrds of a target may unpack to, as that takes seconds a GiB */
const MOST_UNPACKED = 8 * MAX_UNPACKED

const words = (error: unknown): string => {
  if (!isLiveError(error) || error.code === 'CANCELLED') throw error
  return error.message
}

const union = (lists: readonly (readonly string[])[]): readonly string[] => [...new Set(lists.flat())].sort()

/** Several initrds of an entry are one behind the other for the kernel. */
const together = (all: readonly Initrd[]): Initrd | undefined => {
  const [first] = all
  if (!first || all.length === 1) return first
  return {
    name: all.map(({ name }) => name).join(', '),
    size: all.reduce((sum, { size }) => sum + size, 0),
    pieces: all.flatMap(({ pieces }) => pieces),
    findings: all.flatMap(({ findings }) => findings),
    maker: all.find(({ maker }) => maker)?.maker,
    dracutVersion: all.find(({ dracutVersion }) => dracutVersion)?.dracutVersion,
    modules: all.some(({ modules }) => modules) ? union(all.map(({ modules }) => modules ?? [])) : undefined,
    kernelVersions: union(all.map(({ kernelVersions }) => kernelVersions)),
    systemd: all.some(({ systemd }) => systemd),
    hooks: union(all.map(({ hooks }) => hooks)),
    hooksPath: all.find(({ hooksPath }) => hooksPath)?.hooksPath,
    builtIn: all.flatMap(({ builtIn }) => builtIn),
    live: union(all.map(({ live }) => live)) as Initrd['live'],
  }
}

/** A boot file, and the filesystem that it lies on. */
export interface BootFilePlace {
  readonly fs: FileSystem
  /** without symlinks, in the spelling of the medium */
  readonly path: string
  /** the same of every path to it */
  readonly key: string
}

/**
 * Finds a boot file of a menu: on the menu's own filesystem, or on another one, which the loader may have as its root by then.
 *
 * @returns undefined where it is on none
 * @throws CORRUPT, IO  it was not found, and one of them could not be searched
 */
export const bootFilePlace = async (
  volumes: readonly Volume[],
  volume: Volume,
  path: string,
): Promise<BootFilePlace | undefined> => {
  let failure: unknown
  for (const { fs, name } of [volume, ...volumes.filter(other => other !== volume)])
    try {
      const found = fs && (await follow(fs, path))
      if (fs && found?.stat.kind === 'file') return { fs, path: found.path, key: `${name}:${found.path}` }
    } catch (error) {
      words(error)
      failure ??= error
    }
  if (failure !== undefined) throw failure
  return undefined
}

/**
 * Opens a reader of boot files.
 *
 * @param volumes       all of the medium
 * @param mostUnpacked  bytes that its initrds may unpack to, all together
 */
export const bootFiles = (volumes: readonly Volume[], mostUnpacked = MOST_UNPACKED): BootFiles => {
  const initrds = new Map<string, Promise<Initrd>>()
  const kernels = new Map<string, Promise<string | undefined>>()
  const once = <T>(known: Map<string, Promise<T>>, key: string, work: () => Promise<T>): Promise<T> => {
    const answer = known.get(key) ?? work()
    known.set(key, answer)
    return answer
  }
  let unpacked = 0
  const read = async (fs: FileSystem, path: string): Promise<Initrd> => {
    if (unpacked >= mostUnpacked)
      throw new LiveError('OUT_OF_RANGE', `${path} is not read: there are more initrds here than a stick has`, { path })
    const device = await fs.open(path)
    const budget = wholeBudget()
    try {
      return await readInitrd({ ...device, name: path }, budget)
    } finally {
      unpacked += MAX_UNPACKED - budget.left
      await device.close()
    }
  }
  return {
    async initrd(volume, paths) {
      const all: Initrd[] = []
      for (const path of paths) {
        try {
          const place = await bootFilePlace(volumes, volume, path)
          if (!place) return { paths, initrd: undefined, failure: `${path} is not there` }
          all.push(await once(initrds, place.key, () => read(place.fs, place.path)))
        } catch (error) {
          return { paths, initrd: undefined, failure: words(error) }
        }
      }
      return { paths, initrd: together(all), failure: paths.length === 0 ? 'the entry names none' : undefined }
    },
    async kernel(volume, path) {
      const place = await bootFilePlace(volumes, volume, path).catch((error: unknown) => void words(error))
      if (!place) return undefined
      return once(kernels, place.key, async () => {
        try {
          const device = await place.fs.open(place.path)
          try {
            return (await kernelVersion(device))?.version
          } finally {
            await device.close()
          }
        } catch (error) {
          words(error)
          return undefined
        }
      })
    },
  }
}
