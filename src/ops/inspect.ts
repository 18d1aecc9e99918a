import type { Device } from '../block/device.js'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, isMapped } from '../fs/filesystem.js'
import { readBootCatalog } from '../fs/iso9660/boot-catalog.js'
import { readHybrid } from '../fs/iso9660/hybrid.js'
import { readIsoMd5 } from '../fs/iso9660/media-check.js'
import type { BootConfig, BootEntry } from '../liveos/boot/config.js'
import { findBootConfigs } from '../liveos/boot/find.js'
import { imageTree } from '../liveos/image-folder.js'
import { type LiveDirectory, liveDirectories } from '../liveos/live-directory.js'
import { mediumOfVolume } from '../liveos/open-target.js'
import { openSource, type Source, type Volume } from '../liveos/source.js'
import { fileIn, findRunning, type Target, type TargetInput, targetIn } from '../liveos/target.js'
import { inspectLive } from './inspect-live.js'
import { bootMounts } from './inspect-mounts.js'
import { collecting, type Detail, deeper, details, type Inspecting, type InspectNode, node } from './inspect-node.js'
import { inspectRoot } from './inspect-root.js'

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

const failed = (at: Inspecting, code: string, where: string, failure: { message: string; code: string }): void => {
  at.findings.push({
    code,
    severity: failure.code === 'UNSUPPORTED' ? 'note' : 'error',
    where,
    message: failure.message,
  })
}

const inspectSource = async (source: Source, input: TargetInput, at: Inspecting): Promise<InspectNode> => {
  const { device, table, tableFailure, volumes, name } = source
  at.findings.push(...(table?.findings ?? []))
  if (tableFailure) failed(at, 'PARTITION_TABLE_DAMAGED', name, tableFailure)
  const [first] = volumes
  const whole = first && first.partition === undefined ? first : undefined
  const base = {
    size: device?.size ?? null,
    details: details({
      kind: source.kind,
      table: table?.scheme,
      tableId: table?.id,
      sectorSize: table?.sectorSize,
      ...(whole ? await volumeDetails(whole, at) : {}),
    }),
    ...(whole ? identity(whole) : {}),
  }
  if (at.depth <= 0) return node('target', name, base)
  const children: InspectNode[] = []
  if (whole) children.push(...(await inspectVolume(whole, input, at)))
  for (const volume of volumes) if (volume !== whole) children.push(await inspectPartition(volume, input, at))
  return node('target', name, { ...base, children })
}

const identity = ({ fs, type }: Volume): Pick<InspectNode, 'type' | 'label' | 'uuid'> => ({
  type: fs?.type ?? type ?? null,
  label: fs?.label ?? null,
  uuid: fs?.uuid ?? null,
})

const inspectPartition = async (volume: Volume, input: TargetInput, at: Inspecting): Promise<InspectNode> => {
  const { partition, device } = volume
  return node('partition', `partition ${partition?.number ?? '?'}`, {
    size: device?.size ?? null,
    ...identity(volume),
    details: details({
      partitionType: partition && (partition.typeName ?? partition.type),
      partitionName: partition?.name || undefined,
      partitionUuid: partition?.uuid,
      start: partition?.start,
      bootable: partition && (partition.active || partition.legacyBoot) ? true : undefined,
      ...(await volumeDetails(volume, at)),
    }),
    children: at.depth > 1 ? await inspectVolume(volume, input, deeper(at)) : [],
  })
}

/** Free bytes of filesystems whose count is quickly told; a large ext4's bitmaps are not read for a number. */
const freeBytes = async (fs: FileSystem, at: Inspecting): Promise<number | undefined> => {
  if (at.remote || fs.type === 'iso9660' || !isMapped(fs)) return undefined
  let bytes = 0
  for await (const { length } of fs.freeRuns()) bytes += length
  return bytes
}

const volumeDetails = async (
  { fs, failure, name, type }: Volume,
  at: Inspecting,
): Promise<Readonly<Record<string, Detail | undefined>>> => {
  if (failure) failed(at, 'FILESYSTEM_UNREADABLE', name, failure)
  if (!fs) return {}
  const own = 'findings' in fs && typeof fs.findings === 'function' ? (fs.findings() as readonly Finding[]) : []
  at.findings.push(...own)
  const dirty = 'dirty' in fs && fs.dirty === true
  if (dirty && !own.some(({ code }) => code.includes('DIRTY')))
    at.findings.push({
      code: 'FAT_DIRTY',
      severity: 'warning',
      where: name,
      message: 'this FAT was not unmounted: files may be missing or half written',
      remedy: 'run fsck.vfat on it before anything is written there',
    })
  const free = type === 'vfat' ? await collecting(at, 'FAT_DAMAGED', name, () => freeBytes(fs, at)) : undefined
  return {
    variant: 'variant' in fs && typeof fs.variant === 'number' ? `FAT${fs.variant}` : undefined,
    dirty: dirty || undefined,
    freeBytes: free,
  }
}

const ROOT_TYPES = ['ext2', 'ext3', 'ext4']

const inspectVolume = async (volume: Volume, input: TargetInput, at: Inspecting): Promise<InspectNode[]> => {
  const { fs, device, type } = volume
  if (!fs) return []
  const children: InspectNode[] = []
  if (type === 'iso9660' && device) children.push(...(await inspectIso(volume.name, device, at)))
  if (type === 'squashfs' && device) return [await bareBase(volume, device, input, at)]
  const configs = (await collecting(at, 'BOOT_UNREADABLE', volume.name, () => findBootConfigs(fs))) ?? []
  for (const config of configs) at.findings.push(...config.findings)
  const from = at.remote ? 'server' : 'page cache'
  const found =
    (await collecting(at, 'STICK_UNREADABLE', volume.name, () => liveDirectories(imageTree(fs, volume.name, from)))) ??
    []
  for (const directory of found) {
    const target = await targetOf(volume, fs, directory, input, at)
    const live = await collecting(at, 'LIVE_UNREADABLE', directory.folder.path, () =>
      inspectLive(directory, target, deeper(at)),
    )
    if (live) children.push({ ...live, details: { mounts: bootMounts(directory, target, configs) } })
  }
  if (found.length === 0 && device && ROOT_TYPES.includes(fs.type)) {
    const root = await inspectRoot('/', device, at)
    if (root.details.distribution !== undefined || root.details.kernels !== undefined) children.push(root)
  }
  for (const config of configs) children.push(inspectBoot(config, at))
  return children
}

/** A squashfs that was named itself. */
const bareBase = async (volume: Volume, device: Device, input: TargetInput, at: Inspecting): Promise<InspectNode> => {
  const { soleFile } = await import('../liveos/image-folder.js')
  const { pairOf } = await import('../liveos/target.js')
  const folder = soleFile(device, volume.name, 'squashfs.img', at.remote ? 'server' : 'page cache')
  const directory: LiveDirectory = { name: '', folder, baseName: 'squashfs.img', lostName: 'squashfs.img' }
  const base = await fileIn(folder, 'squashfs.img', 'base image')
  const target = await collecting(at, 'TARGET_UNCLEAR', volume.name, () =>
    pairOf(volume.name, mediumOfVolume(volume), base, input),
  )
  return inspectLive(directory, target, at)
}

const targetOf = async (
  volume: Volume,
  fs: FileSystem,
  directory: LiveDirectory,
  input: TargetInput,
  at: Inspecting,
): Promise<Target | undefined> => {
  if (directory.baseName === undefined) return undefined
  const base = await fileIn(directory.folder, directory.baseName, 'base image')
  const choice = { ...input, overlay: input.image === directory.name || !input.image ? input.overlay : undefined }
  try {
    return await targetIn(
      volume.name,
      volume.name,
      directory,
      { ...mediumOfVolume(volume), label: fs.label, uuid: fs.uuid },
      base,
      choice,
    )
  } catch (error) {
    if (!isLiveError(error)) throw error
    at.findings.push({
      code: 'OVERLAY_UNCLEAR',
      severity: 'warning',
      where: directory.folder.path,
      message: error.message,
    })
    return undefined
  }
}

const inspectIso = async (name: string, device: Device, at: Inspecting): Promise<InspectNode[]> => {
  const catalog = await collecting(at, 'BOOT_CATALOG_DAMAGED', name, () => readBootCatalog(device))
  const hybrid = await collecting(at, 'HYBRID_DAMAGED', name, () => readHybrid(device))
  const md5 = await collecting(at, 'CHECKSUM_DAMAGED', name, () => readIsoMd5(device))
  const images = (catalog?.entries ?? []).map(entry =>
    node('boot image', entry.path ?? `El Torito ${entry.platform}`, {
      size: entry.length,
      details: details({
        platform: String(entry.platform),
        bootable: entry.bootable,
        media: entry.media,
        start: entry.offset,
      }),
    }),
  )
  if (hybrid)
    images.push(node('boot image', 'master boot record', { details: { loader: hybrid.loader, platform: 'x86' } }))
  if (md5) images.push(node('boot image', 'implanted checksum', { details: { md5: md5.md5 } }))
  return images
}

const inspectBoot = (config: BootConfig, at: Inspecting): InspectNode =>
  node('boot', config.path, {
    type: config.kind,
    details: details({ firmware: config.firmware, timeoutSeconds: config.timeout, default: config.defaultName }),
    children: at.depth > 1 ? config.entries.map(inspectEntry) : [],
  })

const inspectEntry = (entry: BootEntry): InspectNode =>
  node('entry', entry.title, {
    type: entry.kind,
    details: details({
      id: entry.id === entry.title ? undefined : entry.id,
      submenu: entry.submenu.length > 0 ? entry.submenu : undefined,
      default: entry.isDefault || undefined,
      conditional: entry.conditional || undefined,
      kernel: entry.kernel?.path,
      initrds: entry.initrds.length > 0 ? entry.initrds.map(({ path }) => path) : undefined,
      missing: missing(entry),
      arguments: entry.commandLine || undefined,
    }),
  })

const missing = ({ kernel, initrds }: BootEntry): readonly string[] | undefined => {
  const files = [...(kernel ? [kernel] : []), ...initrds].filter(({ exists }) => exists === false)
  return files.length > 0 ? files.map(({ path }) => path) : undefined
}
