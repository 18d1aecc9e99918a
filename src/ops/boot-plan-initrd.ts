import { isLiveError } from '../error.js'
import type { FileSystem } from '../fs/filesystem.js'
import { follow } from '../liveos/boot/follow.js'
import type { Initrd } from '../liveos/initrd/read.js'
import { readInitrd } from '../liveos/initrd/read.js'
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

/**
 * Opens a reader of boot files. A path that is not on the menu's own filesystem is looked for on the others: the loader may
 * have another one as its root by then.
 */
export const bootFiles = (volumes: readonly Volume[]): BootFiles => {
  const initrds = new Map<string, Promise<Initrd>>()
  const kernels = new Map<string, Promise<string | undefined>>()
  const places = async function* (
    volume: Volume,
    path: string,
  ): AsyncGenerator<{ fs: FileSystem; path: string; key: string }> {
    for (const { fs, name } of [volume, ...volumes.filter(other => other !== volume)]) {
      const found = fs && (await follow(fs, path).catch((error: unknown) => void words(error)))
      if (fs && found?.stat.kind === 'file') yield { fs, path: found.path, key: `${name}:${found.path}` }
    }
  }
  const first = async (volume: Volume, path: string) => {
    for await (const place of places(volume, path)) return place
    return undefined
  }
  const once = <T>(known: Map<string, Promise<T>>, key: string, work: () => Promise<T>): Promise<T> => {
    const answer = known.get(key) ?? work()
    known.set(key, answer)
    return answer
  }
  const read = async (fs: FileSystem, path: string): Promise<Initrd> => {
    const device = await fs.open(path)
    try {
      return await readInitrd({ ...device, name: path })
    } finally {
      await device.close()
    }
  }
  return {
    async initrd(volume, paths) {
      const all: Initrd[] = []
      for (const path of paths) {
        const place = await first(volume, path)
        if (!place) return { paths, initrd: undefined, failure: `${path} is not there` }
        try {
          all.push(await once(initrds, place.key, () => read(place.fs, place.path)))
        } catch (error) {
          return { paths, initrd: undefined, failure: words(error) }
        }
      }
      return { paths, initrd: together(all), failure: paths.length === 0 ? 'the entry names none' : undefined }
    },
    async kernel(volume, path) {
      const place = await first(volume, path)
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
