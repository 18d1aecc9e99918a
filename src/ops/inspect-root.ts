import type { Device } from '../block/device.js'
import type { FileSystem } from '../fs/filesystem.js'
import { openFs } from '../fs/open.js'
import { installedKernels } from '../liveos/kernel-version.js'
import { readRelease } from '../liveos/release.js'
import { collecting, type Detail, details, type Inspecting, type InspectNode, node } from './inspect-node.js'

/** What a root filesystem says of the system in it. */
const systemDetails = async (fs: FileSystem, at: Inspecting): Promise<Readonly<Record<string, Detail>>> => {
  const release = await collecting(at, 'RELEASE_UNREADABLE', fs.name, () => readRelease(fs))
  const kernels = await collecting(at, 'KERNELS_UNREADABLE', fs.name, () => installedKernels(fs))
  at.findings.push(...(release?.findings ?? []))
  return details({
    distribution: release?.prettyName ?? release?.name,
    id: release?.id,
    version: release?.versionId ?? release?.version,
    variant: release?.variant,
    architecture: release?.architecture,
    sugar: release?.sugarVersion,
    sugarOnAStick: release && release.soasMarks.length > 0 ? true : undefined,
    kernels:
      kernels && kernels.length > 0 ? kernels.filter(({ rescue }) => !rescue).map(({ version }) => version) : undefined,
  })
}

/**
 * A root filesystem, or whatever filesystem an image holds.
 *
 * @param device  its bytes, overlay included
 */
export const inspectRoot = async (
  name: string,
  device: Device,
  at: Inspecting,
  kind: 'root' | 'home' = 'root',
): Promise<InspectNode> => {
  const fs = await collecting(at, 'ROOT_UNREADABLE', device.name, () => openFs(device))
  if (!fs) return node(kind, name, { size: device.size })
  return node(kind, name, {
    size: device.size,
    type: fs.type,
    label: fs.label ?? null,
    uuid: fs.uuid ?? null,
    details: kind === 'root' ? { ...(await ext4Details(fs)), ...(await systemDetails(fs, at)) } : await ext4Details(fs),
  })
}

/** A flat squashfs: the root filesystem itself. */
export const inspectFlat = (fs: FileSystem, at: Inspecting): Promise<Readonly<Record<string, Detail>>> =>
  systemDetails(fs, at)

const ext4Details = async (fs: FileSystem): Promise<Readonly<Record<string, Detail>>> => {
  if (!['ext2', 'ext3', 'ext4'].includes(fs.type)) return {}
  const { superblock } = fs as unknown as { superblock: { hasErrors: boolean; clean: boolean; blockSize: number } }
  return details({ blockSize: superblock.blockSize, errors: superblock.hasErrors || undefined })
}
