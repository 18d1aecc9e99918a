import { basename } from 'node:path'
import { isHttpUrl } from '../block/http.js'
import { LiveError } from '../error.js'
import { type Folder, factsOf, type ReadFolder, type ReadFrom } from '../host/folder.js'
import type { Medium } from '../host/medium.js'
import { imageTree, soleFile } from './image-folder.js'
import { findLiveDirectory, type LiveDirectory, liveDirectories } from './live-directory.js'
import { openSource, type Source, type Volume } from './source.js'
import {
  fileIn,
  findRunning,
  findTarget,
  pairOf,
  type Target,
  type TargetFile,
  type TargetInput,
  targetIn,
} from './target.js'

/** A target found in whatever was named, opened as far as that takes. */
export interface OpenTarget {
  readonly target: Target
  close(): Promise<void>
}

/**
 * Finds what a verb is to read, in a directory, disk, image or URL.
 *
 * @throws NOT_FOUND, USAGE  also where several live systems or overlays could be meant
 * @throws READ_ONLY  no permission; CORRUPT, UNSUPPORTED, IO
 */
export const openTarget = async (input: TargetInput, signal?: AbortSignal): Promise<OpenTarget> => {
  const name = input.base === undefined ? (input.target ?? (await findRunning())) : undefined
  if (name === undefined || (!isHttpUrl(name) && (await factsOf(name))?.kind === 'directory'))
    return { target: await findTarget(input), close: async () => {} }
  const source = await openSource(name, signal)
  try {
    return { target: await targetOn(source, input), close: () => source.close() }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** Filesystems that a root filesystem is kept in as it is. */
const ROOT_TYPES: readonly string[] = ['ext4', 'xfs', 'btrfs', 'f2fs']

const readFrom = ({ kind }: Source): ReadFrom => (kind === 'url' ? 'server' : 'page cache')

/** A volume with the live directories in it. */
interface Candidate {
  readonly volume: Volume
  readonly found: readonly LiveDirectory<ReadFolder>[]
}

/** The live systems on a source, by volume. A squashfs is a base itself, not a stick that holds one. */
export const candidatesOn = async (source: Source): Promise<readonly Candidate[]> => {
  const from = readFrom(source)
  const candidates: Candidate[] = []
  for (const volume of source.volumes) {
    if (!volume.fs || volume.type === 'squashfs') continue
    const found = await liveDirectories(imageTree(volume.fs, volume.name, from))
    if (found.length > 0) candidates.push({ volume, found })
  }
  return candidates
}

/** A volume as the medium of a target. */
export const mediumOfVolume = ({ name, fs, type }: Volume): Medium => ({
  mountPoint: name,
  type: fs?.type ?? type ?? 'unknown',
  source: undefined,
  readOnly: true,
  label: fs?.label,
  uuid: fs?.uuid,
})

/** The target on an opened source. @throws as `openTarget` */
export const targetOn = async (source: Source, input: TargetInput): Promise<Target> => {
  const [first] = source.volumes
  const candidates = (await candidatesOn(source)).filter(
    ({ volume }) => input.partition === undefined || volume.partition?.number === input.partition,
  )
  const [candidate] = candidates
  if (candidates.length > 1)
    throw new LiveError(
      'USAGE',
      `${source.name} has live systems on several partitions (${candidates.map(({ volume }) => volume.partition?.number ?? 'the whole').join(', ')}): choose one with --partition`,
      { path: source.name },
    )
  if (candidate?.volume.fs) {
    const { volume } = candidate
    const found = await findLiveDirectory(imageTree(candidate.volume.fs, volume.name, readFrom(source)), input.image)
    if (found.baseName === undefined)
      throw new LiveError(
        'NOT_FOUND',
        `${found.folder.path}/${found.lostName} is missing, but a refresh that was cut short left its files: mount the stick and run 'liveos refresh' on it`,
        { path: found.folder.path, interrupted: true },
      )
    const base = await fileIn(found.folder, found.baseName, 'base image')
    return targetIn(source.name, volume.name, found, mediumOfVolume(volume), base, input)
  }
  if (source.device && first?.device === source.device && isBase(first)) {
    const base = await bareBase(source, source.device)
    return pairOf(source.name, mediumOfVolume(first), base, input)
  }
  throw new LiveError(
    'NOT_FOUND',
    `${source.name} holds no live system: no filesystem on it has a directory with squashfs.img, rootfs.img or ext3fs.img${why(source)}`,
    { path: source.name },
  )
}

const isBase = ({ type }: Volume): boolean =>
  type === 'squashfs' || type === 'erofs' || (type !== undefined && ROOT_TYPES.includes(type))

/** A file of this computer stays one in its folder, so that its identity can be held against a plan. */
const bareBase = async (source: Source, device: NonNullable<Source['device']>): Promise<TargetFile> => {
  if (source.kind !== 'url') return hostBase(source.name)
  const name = basename(new URL(source.name).pathname) || 'image'
  return fileIn(soleFile(device, source.name, name, 'server'), name, 'base image')
}

const hostBase = async (path: string): Promise<TargetFile<Folder>> => (await findTarget({ base: path })).base

const why = ({ volumes, tableFailure }: Source): string => {
  const failures = [tableFailure, ...volumes.map(volume => volume.failure)].filter(error => error !== undefined)
  return failures.length === 0 ? '' : ` (${failures.map(error => error.message).join('; ')})`
}
