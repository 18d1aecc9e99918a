import { basename, join, resolve } from 'node:path'
import type { Device } from '../block/device.js'
import { isStore } from '../block/snapshot/store.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import type { FileSystem } from '../fs/filesystem.js'
import { factsOf, openFolder } from '../host/folder.js'
import type { BootConfig } from '../liveos/boot/config.js'
import { findBootConfigs } from '../liveos/boot/find.js'
import { follow } from '../liveos/boot/follow.js'
import { liveArguments } from '../liveos/boot/live-arguments.js'
import { entriesOf, otherFileSystems } from '../liveos/boot/menus.js'
import { imageTree, soleFile } from '../liveos/image-folder.js'
import { type LiveDirectory, liveDirectories, type Tree } from '../liveos/live-directory.js'
import { explained, mediumOfVolume, readFrom, volumesOf } from '../liveos/open-target.js'
import { openSource, type Source, type Volume } from '../liveos/source.js'
import { fileIn, findRunning, pairOf, type Target, type TargetInput, targetIn } from '../liveos/target.js'
import { checkRoots, inspectBoot, kernelVersions } from './inspect-boot.js'
import { inspectBare, inspectLive } from './inspect-live.js'
import { bootMounts } from './inspect-mounts.js'
import { collecting, type Detail, deeper, details, type Inspecting, type InspectNode, node } from './inspect-node.js'
import { askedOverlay, inspectStore } from './inspect-overlay.js'
import { inspectRoot, installerDetails } from './inspect-root.js'
import { inspectIso, volumeDetails } from './inspect-volume.js'

/** What `liveos inspect` tells. @see docs/schema/inspect.json */
export interface Inspection {
  readonly target: string
  readonly tree: InspectNode
  readonly findings: readonly Finding[]
}

export interface InspectInput extends TargetInput {
  /** levels below the target; all if left out */
  readonly depth?: number | undefined
}

/**
 * Looks at all that is nested in a target. What is broken becomes a finding, and the rest is told.
 *
 * @throws NOT_FOUND, READ_ONLY, USAGE, IO  the target can't be opened
 */
export const inspect = async (input: InspectInput): Promise<Inspection> => {
  const source = await openSource(input.base ?? input.target ?? (await findRunning()))
  const findings: Finding[] = []
  try {
    const at: Inspecting = {
      findings,
      depth: input.depth ?? Number.POSITIVE_INFINITY,
      remote: source.kind === 'url',
    }
    return { target: source.name, tree: await inspectSource(source, input, at), findings }
  } finally {
    await source.close()
  }
}

/** What was found on a volume before anything in it is opened. */
interface Found {
  readonly volume: Volume
  readonly configs: readonly BootConfig[]
  readonly live: readonly LiveDirectory[]
}

/** All that one volume may need to know of the others. */
interface Looking {
  readonly source: Source
  readonly input: TargetInput
  readonly all: readonly Found[]
}

/** Table findings that a hybrid ISO always has, by the way it is made. */
const OF_HYBRID_ISOS = ['PARTITIONS_OVERLAP', 'GPT_UNPROTECTED']

const inspectSource = async (source: Source, input: TargetInput, at: Inspecting): Promise<InspectNode> => {
  const { device, table, tableFailure, name } = source
  const volumes = volumesOf(source, input.partition)
  const isIso = source.volumes[0]?.type === 'iso9660'
  at.findings.push(
    ...(table?.findings ?? []).filter(
      ({ code, severity }) => !(isIso && severity === 'note' && OF_HYBRID_ISOS.includes(code)),
    ),
  )
  if (tableFailure)
    at.findings.push({
      code: 'PARTITION_TABLE_DAMAGED',
      severity: 'error',
      where: name,
      message: tableFailure.message,
    })
  const whole = volumes.find(({ partition }) => partition === undefined)
  const all: Found[] = []
  if (at.depth > 0) for (const volume of volumes) all.push(await lookAt(source, volume, volumes, input, at))
  tellNothing(source, all, at)
  const base = {
    size: device?.size ?? null,
    details: details({
      kind: source.kind,
      table: table?.scheme,
      tableId: table?.id,
      sectorSize: table?.sectorSize,
      ...(whole ? await volumeDetails(whole, at) : {}),
      ...(await installer(
        all.find(({ volume }) => volume === whole),
        at,
      )),
    }),
    ...(whole ? identity(whole) : {}),
  }
  if (at.depth <= 0) return node('target', name, base)
  const looking: Looking = { source, input, all }
  const children: InspectNode[] = []
  for (const found of all)
    if (found.volume === whole) children.push(...(await inspectVolume(found, looking, at)))
    else children.push(await inspectPartition(found, looking, at))
  return node('target', name, { ...base, children })
}

/** An ISO without a live image may hold an installer, whose tree says of what. */
const installer = async (
  found: Found | undefined,
  at: Inspecting,
): Promise<Readonly<Record<string, Detail | undefined>>> =>
  found?.volume.fs?.type === 'iso9660' && found.live.length === 0 ? installerDetails(found.volume.fs, at) : {}

/** Says so where a target holds nothing that is known. */
const tellNothing = ({ name, device, table, kind }: Source, all: readonly Found[], at: Inspecting): void => {
  const tell = (code: string, message: string): void => {
    at.findings.push({ code, severity: 'warning', where: name, message: `${name} ${message}` })
  }
  if (at.depth <= 0) return
  if (device?.size === 0) tell('TARGET_EMPTY', 'is empty')
  else if (kind === 'directory' && all.every(({ live, configs }) => live.length === 0 && configs.length === 0))
    tell('NOTHING_FOUND', 'is no LiveOS stick: no directory in it holds squashfs.img, rootfs.img or ext3fs.img')
  else if (!table && all.every(({ volume }) => volume.type === undefined && !volume.fs && !volume.failure))
    tell('NOTHING_FOUND', 'holds nothing that is known: no partitions, no filesystem, no image')
}

/** The directories of a volume; of this computer as other verbs find them, links followed. */
const treeOf = (source: Source, fs: FileSystem, name: string): Tree => {
  if (source.kind !== 'directory') return imageTree(fs, name, readFrom(source))
  const root = resolve(name)
  return {
    path: root,
    async folder(path) {
      const full = join(root, path)
      return (await factsOf(full))?.kind === 'directory' ? openFolder(full) : undefined
    },
  }
}

const lookAt = async (
  source: Source,
  volume: Volume,
  volumes: readonly Volume[],
  { image }: TargetInput,
  at: Inspecting,
): Promise<Found> => {
  const { fs, name, type } = volume
  if (!fs || type === 'squashfs') return { volume, configs: [], live: [] }
  const others = otherFileSystems(volumes, volume)
  const configs = (await collecting(at, 'BOOT_UNREADABLE', name, () => findBootConfigs(fs, others))) ?? []
  for (const config of configs) at.findings.push(...config.findings)
  const failures: [string, LiveError][] = []
  const live =
    (await collecting(at, 'STICK_UNREADABLE', name, () =>
      liveDirectories(treeOf(source, fs, name), (directory, error) => failures.push([directory, error])),
    )) ?? []
  for (const [directory, failure] of failures) {
    const error = await explained(failure)
    // what the search for boot files met there too is told once
    if (isLiveError(error) && !at.findings.some(({ message }) => message.includes(error.message)))
      at.findings.push({
        code: 'STICK_UNREADABLE',
        severity: 'error',
        where: `${name}:/${directory}`,
        message: error.message,
      })
  }
  const wanted = image === undefined ? live : live.filter(directory => directory.name === image)
  if (wanted.length === 0 && live.length > 0)
    throw new LiveError(
      'NOT_FOUND',
      `${name} has no live directory ${image ?? ''}: there are ${live.map(directory => directory.name || '/').join(', ')}`,
      { path: name },
    )
  return { volume, configs, live: wanted }
}

const identity = ({ fs, type }: Volume): Pick<InspectNode, 'type' | 'label' | 'uuid'> => ({
  type: fs?.type ?? type ?? null,
  label: fs?.label ?? null,
  uuid: fs?.uuid ?? null,
})

const inspectPartition = async (found: Found, looking: Looking, at: Inspecting): Promise<InspectNode> => {
  const { volume } = found
  const { partition, device } = volume
  const store = await overlayPartition(volume, at)
  return node('partition', `partition ${partition?.number ?? '?'}`, {
    size: device?.size ?? null,
    ...identity(volume),
    ...(store ? { type: 'dm-snapshot store' } : {}),
    details: details({
      partitionType: partition && (partition.typeName ?? partition.type),
      partitionName: partition?.name || undefined,
      partitionUuid: partition?.uuid,
      start: partition?.start,
      bootable: partition && (partition.active || partition.legacyBoot) ? true : undefined,
      ...store?.details,
      ...(await volumeDetails(volume, at)),
    }),
    children: at.depth > 1 ? await inspectVolume(found, looking, deeper(at)) : [],
  })
}

/** An overlay that has a partition of its own. */
const overlayPartition = async (
  { device, type, partition, name }: Volume,
  at: Inspecting,
): Promise<InspectNode | undefined> =>
  device && type === undefined && partition?.role !== 'extended'
    ? collecting(at, 'PARTITION_UNREADABLE', name, async () =>
        (await isStore(device)) ? inspectStore(name, device, at) : undefined,
      )
    : undefined

const ROOT_TYPES = ['ext2', 'ext3', 'ext4']

const inspectVolume = async (
  { volume, configs, live }: Found,
  looking: Looking,
  at: Inspecting,
): Promise<InspectNode[]> => {
  const { fs, device, type } = volume
  const { input, all } = looking
  if (type === 'squashfs' && device) return inspectNamedBase(volume, device, looking, at)
  if (!fs) return []
  const volumes = all.map(found => found.volume)
  const children: InspectNode[] = []
  if (type === 'iso9660' && device) children.push(...(await inspectIso(volume.name, device, at)))
  for (const directory of live) {
    // an overlay that was named belongs to one image, the one that other verbs would take
    const isMeant = live.length === 1 || directory.name === (input.image ?? 'LiveOS')
    const target = await targetOf(volume, fs, directory, isMeant ? input : { ...input, overlay: undefined }, at)
    const found = await inspectLive(directory, target, deeper(at))
    const mounts = await bootMounts(directory, target, entriesOf(all), volumes)
    children.push(mounts.length > 0 ? { ...found, details: { mounts } } : found)
  }
  children.push(...(await strayOverlays(volume, all, at)))
  if (live.length === 0 && device && ROOT_TYPES.includes(fs.type)) {
    const root = await inspectRoot('/', device, at)
    if (root.details.distribution !== undefined || root.details.kernels !== undefined) children.push(root)
  }
  const versionOf = kernelVersions(fs, at)
  for (const config of configs) {
    if (knowsItself(volume)) checkRoots(config, volumes, at)
    children.push(await inspectBoot(config, versionOf, at))
  }
  return children
}

/** A directory of this computer that is no mount point has the label of the filesystem around it. */
const knowsItself = ({ device, fs, name }: Volume): boolean =>
  device !== undefined ||
  (fs !== undefined && 'medium' in fs && (fs.medium as { mountPoint?: string }).mountPoint === fs.name && name !== '')

/** Overlays that boot entries of other volumes keep on this one. */
const strayOverlays = async (volume: Volume, all: readonly Found[], at: Inspecting): Promise<InspectNode[]> => {
  const { fs } = volume
  if (!fs || at.depth <= 0) return []
  const volumes = all.map(found => found.volume)
  const done = new Set<string>()
  const nodes: InspectNode[] = []
  for (const { volume: home, live } of all) {
    if (home === volume) continue
    for (const { name } of live)
      for (const entry of all.flatMap(({ configs }) => configs).flatMap(({ entries }) => entries)) {
        const given = liveArguments(entry)
        if ((given.dir?.value ?? 'LiveOS') !== name) continue
        const asked = await askedOverlay(given.overlay, home, name, volumes)
        if (asked?.volume !== volume || asked.kind === undefined || done.has(asked.path)) continue
        done.add(asked.path)
        if (asked.kind === 'directory') nodes.push(node('overlay', asked.path, { type: 'OverlayFS directory' }))
        else {
          const found = await collecting(at, 'OVERLAY_UNREADABLE', asked.path, () => strayFile(fs, asked.path, at))
          if (found) nodes.push(found)
        }
      }
  }
  return nodes
}

const strayFile = async (fs: FileSystem, path: string, at: Inspecting): Promise<InspectNode> => {
  const file = await fs.open((await follow(fs, path))?.path ?? path)
  try {
    return await inspectStore(path, file, at)
  } finally {
    await file.close()
  }
}

/** A squashfs that was named itself, or that fills a partition. */
const inspectNamedBase = async (
  volume: Volume,
  device: Device,
  { source, input }: Looking,
  at: Inspecting,
): Promise<InspectNode[]> => {
  const name = volume.partition ? volume.name : basename(source.name) || source.name
  const base = await fileIn(soleFile(device, volume.name, name, readFrom(source)), name, 'base image')
  const target = await collecting(at, 'TARGET_UNCLEAR', volume.name, () =>
    pairOf(volume.name, mediumOfVolume(volume), base, input),
  )
  return target ? inspectBare(target, at) : []
}

const targetOf = async (
  volume: Volume,
  fs: FileSystem,
  directory: LiveDirectory,
  input: TargetInput,
  at: Inspecting,
): Promise<Target | undefined> => {
  if (directory.baseName === undefined) return undefined
  try {
    const base = await fileIn(directory.folder, directory.baseName, 'base image')
    const medium = { ...mediumOfVolume(volume), label: fs.label, uuid: fs.uuid }
    return await targetIn(volume.name, volume.name, directory, medium, base, input)
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    at.findings.push({
      code: 'OVERLAY_UNCLEAR',
      severity: 'warning',
      where: directory.folder.path,
      message: error.message,
    })
    return undefined
  }
}
