import { basename } from 'node:path'
import type { Device } from '../block/device.js'
import { isHttpUrl } from '../block/http.js'
import { isStore } from '../block/snapshot/store.js'
import { isLiveError, LiveError, orMissing } from '../error.js'
import { permissionError } from '../host/directory.js'
import { factsOf, isHostFolder, type ReadFolder, type ReadFrom } from '../host/folder.js'
import type { Medium } from '../host/medium.js'
import { imageTree, soleFile } from './image-folder.js'
import { findLiveDirectory, type LiveDirectory } from './live-directory.js'
import { partitionFile, partitionName, storePartitions } from './overlay-place.js'
import { openSource, type Source, type Volume } from './source.js'
import {
  fileIn,
  findRunning,
  findTarget,
  type OverlayTarget,
  pairOf,
  type Target,
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
 * @throws READ_ONLY  no permission: the message says what is closed and what to type; CORRUPT, UNSUPPORTED, IO
 */
export const openTarget = async (input: TargetInput, signal?: AbortSignal): Promise<OpenTarget> => {
  try {
    return await openNamed(input, signal)
  } catch (error) {
    throw await explained(error)
  }
}

const openNamed = async (input: TargetInput, signal: AbortSignal | undefined): Promise<OpenTarget> => {
  const name = input.base === undefined ? (input.target ?? (await findRunning())) : undefined
  if (name === undefined || (!isHttpUrl(name) && (await factsOf(name))?.kind === 'directory')) {
    const target = await findTarget(input)
    await checkReadable(target)
    return { target, close: async () => {} }
  }
  const source = await openSource(name, signal)
  try {
    const target = await targetOn(source, input)
    await checkReadable(target)
    return { target, close: () => source.close() }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** An error about permissions, of whatever depth, becomes one that names the owner and what to type. */
export const explained = async (error: unknown): Promise<unknown> => {
  if (!isLiveError(error) || error.code !== 'READ_ONLY' || 'closed' in error.data) return error
  const { cause } = error
  const path = cause instanceof Error && 'path' in cause && typeof cause.path === 'string' ? cause.path : undefined
  return path === undefined ? error : permissionError(path, error)
}

/** Opens the files of this computer once, so that all verbs tell of a closed one in the same words. */
const checkReadable = async ({ base, overlay }: Target): Promise<void> => {
  for (const file of [base, overlay])
    if (file && isHostFolder(file.folder)) await (await file.folder.open(file.name)).close()
}

/** Filesystems that a root filesystem is kept in as it is. */
const ROOT_TYPES: readonly string[] = ['ext4', 'xfs', 'btrfs', 'f2fs']

const isBase = ({ type }: Volume): boolean =>
  type === 'squashfs' || type === 'erofs' || (type !== undefined && ROOT_TYPES.includes(type))

/** Where reads of a source come from. */
export const readFrom = ({ kind }: Source): ReadFrom => (kind === 'url' ? 'server' : 'page cache')

/** A volume as the medium of a target. */
export const mediumOfVolume = ({ name, fs, type }: Volume): Medium => ({
  mountPoint: name,
  type: fs?.type ?? type ?? 'unknown',
  source: undefined,
  readOnly: true,
  label: fs?.label,
  uuid: fs?.uuid,
})

/** The volumes that are meant. @throws USAGE  there is no such partition */
export const volumesOf = (source: Source, partition: number | undefined): readonly Volume[] => {
  if (partition === undefined) return source.volumes
  const chosen = source.volumes.filter(volume => volume.partition?.number === partition)
  if (chosen.length > 0) return chosen
  const numbers = source.volumes.flatMap(volume => (volume.partition ? [volume.partition.number] : []))
  throw new LiveError(
    'USAGE',
    `${source.name} has no partition ${partition}${numbers.length > 0 ? `: there are ${numbers.join(', ')}` : ', as it has no partitions'}`,
    { path: source.name },
  )
}

/** A volume with the live directory that is meant on it. */
interface Candidate {
  readonly volume: Volume
  readonly found: LiveDirectory<ReadFolder>
}

/** The volumes that hold a live system, and why others could not be searched. A squashfs is a base itself, not a stick that holds one. */
const candidatesOn = async (
  source: Source,
  volumes: readonly Volume[],
  image: string | undefined,
): Promise<{ candidates: readonly Candidate[]; failures: readonly LiveError[] }> => {
  const candidates: Candidate[] = []
  const failures: LiveError[] = []
  for (const volume of volumes) {
    if (volume.failure) failures.push(volume.failure)
    if (!volume.fs || volume.type === 'squashfs') continue
    try {
      candidates.push({
        volume,
        found: await findLiveDirectory(imageTree(volume.fs, volume.name, readFrom(source)), image),
      })
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      // that there is none is told in one sentence for all volumes
      if (error.code !== 'NOT_FOUND' || image !== undefined) failures.push(error)
    }
  }
  return { candidates, failures }
}

const placeOf = ({ partition }: Volume): string => (partition ? String(partition.number) : 'the whole')

/** The volumes of a source that hold a live system, as far as they can be searched. */
export const liveVolumes = async (source: Source, volumes: readonly Volume[]): Promise<readonly Volume[]> =>
  (await candidatesOn(source, volumes, undefined)).candidates.map(({ volume }) => volume)

/** The target on an opened source. @throws as `openTarget` */
export const targetOn = async (source: Source, input: TargetInput): Promise<Target> => {
  const volumes = volumesOf(source, input.partition)
  const { candidates, failures } = await candidatesOn(source, volumes, input.image)
  const [candidate] = candidates
  if (candidates.length > 1)
    throw new LiveError(
      'USAGE',
      `${source.name} has live systems on several partitions (${candidates.map(({ volume }) => placeOf(volume)).join(', ')}): choose one with --partition`,
      { path: source.name },
    )
  if (candidate) return liveTarget(source, candidate, input)
  const [first] = volumes
  if (first?.device && volumes.length === 1 && isBase(first) && input.image === undefined)
    return bareTarget(source, first, first.device, input)
  const all = source.tableFailure ? [source.tableFailure, ...failures] : failures
  const [only] = all
  if (all.length === 1 && only && only.code !== 'UNSUPPORTED') throw only
  throw new LiveError(
    'NOT_FOUND',
    source.device && (await isStore(source.device))
      ? `${source.name} is an overlay and holds changes only: name the stick, or the base that was changed, with --base FILE --overlay ${source.name}`
      : `${source.name} holds no live system: no filesystem on it has a directory with squashfs.img, rootfs.img or ext3fs.img${why(source, all)}`,
    { path: source.name },
    only,
  )
}

const liveTarget = async (source: Source, { volume, found }: Candidate, input: TargetInput): Promise<Target> => {
  if (found.baseName === undefined)
    throw new LiveError(
      'NOT_FOUND',
      `${found.folder.path}/${found.lostName} is missing, but a refresh that was cut short left its files: mount the stick and run 'liveos refresh' on it`,
      { path: found.folder.path, interrupted: true },
    )
  const base = await fileIn(found.folder, found.baseName, 'base image')
  const target = await targetIn(source.name, volume.name, found, mediumOfVolume(volume), base, input)
  return target.overlay || target.overlayDirectory || input.baseOnly ? target : withOverlayPartition(source, target)
}

/**
 * A live system without an overlay of its own is the one of the only partition beside it that holds a store.
 *
 * @throws USAGE  several do
 */
const withOverlayPartition = async ({ kind, name }: Source, target: Target): Promise<Target> => {
  if (kind !== 'image' && kind !== 'device') return target
  const found = await storePartitions(name)
  const [part] = found
  if (!part) return target
  if (found.length > 1) {
    const candidates = found.map(({ partition = 0 }) => partitionName(name, partition))
    throw new LiveError(
      'USAGE',
      `${name} holds several overlays, each in a partition of its own (${candidates.join(', ')}): choose one with --overlay, or leave them out with --base-only`,
      { candidates },
    )
  }
  return { ...target, overlay: await partitionFile(part, name, target.base), overlayFoundBy: 'partition' }
}

/** A base that was named itself. A file of this computer stays one in its folder, so that its identity can be held against a plan. */
const bareTarget = async (source: Source, volume: Volume, device: Device, input: TargetInput): Promise<Target> => {
  const { overlay, baseOnly } = input
  if (source.kind !== 'url' && device === source.device)
    return { ...(await findTarget({ base: source.name, overlay, baseOnly })), name: source.name }
  const name = source.kind === 'url' ? basename(new URL(source.name).pathname) || 'image' : basename(source.name)
  const place = volume.partition ? `${name} partition ${volume.partition.number}` : name
  const folder = soleFile(device, source.name, place, readFrom(source))
  return pairOf(source.name, mediumOfVolume(volume), await fileIn(folder, place, 'base image'), input)
}

const why = ({ device }: Source, failures: readonly LiveError[]): string => {
  if (device?.size === 0) return ' (it is empty)'
  return failures.length === 0 ? '' : ` (${failures.map(error => error.message).join('; ')})`
}

/** A target of which the overlay can be changed. */
export interface OpenOverlayTarget {
  readonly target: OverlayTarget
  /** the same target for another process */
  readonly input: TargetInput
  close(): Promise<void>
}

/**
 * Finds a target of which the overlay is to be changed and the base only read. So it may also be an image or disk, where the
 * overlay is a file elsewhere or a partition of its own.
 *
 * @throws NOT_FOUND, USAGE, READ_ONLY, CORRUPT, UNSUPPORTED, IO
 */
export const openOverlayTarget = async (input: TargetInput): Promise<OpenOverlayTarget> => {
  const { target: name, base } = input
  const kind = name === undefined || base !== undefined ? undefined : (await factsOf(name))?.kind
  if (kind === 'file' || kind === 'other') {
    // what is none is told in the words for verbs that write
    const opened = await orMissing(openTarget(input))
    const overlay = opened?.target.overlay
    if (opened && overlay && isHostFolder(overlay.folder)) {
      const { target, close } = opened
      return { target: { ...target, overlay: { ...overlay, folder: overlay.folder } }, input, close }
    }
    await opened?.close()
  }
  const target = await findTarget(input)
  const { overlay } = target
  // the very files, as there may be others by the time that they are opened again
  const same = overlay ? { base: target.base.path, overlay: overlay.path } : input
  return { target, input: same, close: async () => {} }
}
