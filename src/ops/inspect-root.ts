import type { Device } from '../block/device.js'
import { isLiveError } from '../error.js'
import type { FileSystem } from '../fs/filesystem.js'
import { openFs } from '../fs/open.js'
import { follow } from '../liveos/boot/follow.js'
import { architectureOf, installedKernels } from '../liveos/kernel-version.js'
import { readRelease } from '../liveos/release.js'
import { collecting, type Detail, details, type Inspecting, type InspectNode, node } from './inspect-node.js'

/** Programs that nearly every system has one of. */
const PROGRAMS = ['/usr/bin/bash', '/usr/bin/sh', '/bin/sh', '/sbin/init']

/** The architecture of a system by one of its programs. */
const architectureIn = async (fs: FileSystem): Promise<string | undefined> => {
  for (const path of PROGRAMS) {
    try {
      const found = await follow(fs, path)
      if (found?.stat.kind !== 'file') continue
      const file = await fs.open(found.path)
      try {
        const architecture = await architectureOf(file)
        if (architecture !== undefined) return architecture
      } finally {
        await file.close()
      }
    } catch (error) {
      // a program that can't be read says nothing of the system
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    }
  }
  return undefined
}

const ARCHITECTURE = /\.(x86_64|i[3-6]86|aarch64|armv7hl|ppc64le|s390x|riscv64)(?:\+\w+)?$/

/** What a root filesystem says of the system in it. */
const systemDetails = async (fs: FileSystem, at: Inspecting): Promise<Readonly<Record<string, Detail>>> => {
  const release = await collecting(at, 'RELEASE_UNREADABLE', fs.name, () => readRelease(fs))
  const kernels = await collecting(at, 'KERNELS_UNREADABLE', fs.name, () => installedKernels(fs))
  at.findings.push(...(release?.findings ?? []))
  const versions = kernels?.filter(({ rescue }) => !rescue).map(({ version }) => version) ?? []
  const byKernel = versions.map(version => ARCHITECTURE.exec(version)?.[1]).find(found => found !== undefined)
  return details({
    ...releaseDetails(release),
    architecture: release?.architecture ?? byKernel ?? (await architectureIn(fs)),
    kernels: versions.length > 0 ? versions : undefined,
  })
}

type Release = Awaited<ReturnType<typeof readRelease>>

const releaseDetails = (release: Release): Readonly<Record<string, Detail | undefined>> => ({
  distribution: release?.prettyName ?? release?.name,
  id: release?.id,
  version: release?.versionId ?? release?.version,
  variant: release?.variant,
  architecture: release?.architecture,
  sugar: release?.sugarVersion,
  sugarOnAStick: release && release.soasMarks.length > 0 ? true : undefined,
})

/** What the tree of an installer says of itself, in `.treeinfo` or `.discinfo`. */
export const installerDetails = async (
  fs: FileSystem,
  at: Inspecting,
): Promise<Readonly<Record<string, Detail | undefined>>> => {
  const release = await collecting(at, 'RELEASE_UNREADABLE', fs.name, () => readRelease(fs))
  at.findings.push(...(release?.findings ?? []))
  return releaseDetails(release)
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
  const fs = await collecting(at, kind === 'home' ? 'HOME_UNREADABLE' : 'ROOT_UNREADABLE', device.name, () =>
    openFs(device),
  )
  if (!fs) return node(kind, name, { size: device.size })
  const own = ext4Details(fs, at)
  return node(kind, name, {
    size: device.size,
    type: fs.type,
    label: fs.label ?? null,
    uuid: fs.uuid ?? null,
    details: kind === 'root' ? { ...own, ...(await systemDetails(fs, at)) } : own,
  })
}

/** A flat squashfs: the root filesystem itself. */
export const inspectFlat = (fs: FileSystem, at: Inspecting): Promise<Readonly<Record<string, Detail>>> =>
  systemDetails(fs, at)

interface WithSuperblock {
  readonly superblock: { readonly hasErrors: boolean; readonly blockSize: number }
}

const ext4Details = (fs: FileSystem, at: Inspecting): Readonly<Record<string, Detail>> => {
  if (!['ext2', 'ext3', 'ext4'].includes(fs.type)) return {}
  const { superblock } = fs as unknown as WithSuperblock
  if (superblock.hasErrors)
    at.findings.push({
      code: 'FILESYSTEM_ERRORS',
      severity: 'warning',
      where: fs.name,
      message: `${fs.name}: the kernel has found errors in this ${fs.type} and marked it so`,
      remedy: 'run e2fsck on it before anything more is written there',
    })
  return details({ blockSize: superblock.blockSize, errors: superblock.hasErrors || undefined })
}
