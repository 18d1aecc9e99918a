import type { Device } from '../block/device.js'
import { snapshot } from '../block/snapshot/snapshot.js'
import { readStore } from '../block/snapshot/store.js'
import { isLiveError } from '../error.js'
import { detectFs } from '../fs/detect.js'
import { openSquashfs } from '../fs/squashfs/reader.js'
import type { OpenedFile } from '../host/folder.js'
import type { LiveDirectory } from '../liveos/live-directory.js'
import { isRoot, rootImageIn } from '../liveos/stack.js'
import type { TargetFile } from '../liveos/target.js'
import { fileIn, type Target } from '../liveos/target.js'
import { collecting, deeper, details, type Inspecting, type InspectNode, node } from './inspect-node.js'
import { inspectFlat, inspectRoot } from './inspect-root.js'
import { overlayStatus } from './status.js'

/** The root's bytes below and above an overlay. */
interface Root {
  readonly name: string
  readonly origin: Device
}

/**
 * A live directory with its base, the root in it, overlay, home and swap.
 *
 * @param target  the same as a verb would find it; undefined where it could not be told, such as with two overlays
 */
export const inspectLive = async (
  { name, folder, baseName, lostName }: LiveDirectory,
  target: Target | undefined,
  at: Inspecting,
): Promise<InspectNode> => {
  if (at.depth <= 0) return node('live', name || '/')
  const children: InspectNode[] = []
  const open: Device[] = []
  const opened = async (file: TargetFile): Promise<OpenedFile> => {
    const device = await file.folder.open(file.name)
    open.push(device)
    return device
  }
  try {
    if (baseName === undefined)
      at.findings.push({
        code: 'REFRESH_INTERRUPTED',
        severity: 'error',
        where: `${folder.path}/${lostName}`,
        message: 'the base image is missing, and files of a refresh that was cut short are there',
        remedy: 'mount the stick and run liveos refresh on it: it finishes or takes back what is left',
      })
    else {
      const base = await collecting(at, 'BASE_DAMAGED', `${folder.path}/${baseName}`, async () =>
        inspectBase(await opened(await fileIn(folder, baseName, 'base image')), baseName, at),
      )
      if (base) children.push(await withRoot(base, target, open, children, at))
    }
    for (const file of (await folder.list()).filter(entry => entry.startsWith('overlay-')))
      if (file !== target?.overlay?.name) children.push(await strangeOverlay(folder, file))
    for (const [file, kind] of [
      ['home.img', 'home'],
      ['swap.img', 'swap'],
    ] as const)
      if ((await folder.facts(file))?.kind === 'file')
        children.push(await inspectFile(await opened(await fileIn(folder, file, kind)), file, kind, at))
    return node('live', name || '/', { children })
  } finally {
    for (const device of open) await device.close()
  }
}

interface InspectedBase {
  readonly node: InspectNode
  readonly root: Root | undefined
}

const inspectBase = async (file: OpenedFile, name: string, at: Inspecting): Promise<InspectedBase> => {
  const type = await detectFs(file)
  if (type !== 'squashfs') {
    const raw = type !== undefined && type !== 'erofs'
    return {
      node: node('base', name, { size: file.size, type: type ?? null, details: { nested: false } }),
      root: raw ? { name, origin: file } : undefined,
    }
  }
  const fs = await openSquashfs(file)
  const { superblock, compressor } = fs
  const image = await rootImageIn(fs)
  const flat = !image && isRoot((await fs.list('/')).map(entry => entry.name))
  return {
    node: node('base', name, {
      size: file.size,
      type: 'squashfs',
      details: details({
        compressor: compressor.name,
        blockSize: superblock.block_size,
        made: new Date(superblock.mkfs_time * 1000).toISOString().replace('.000Z', 'Z'),
        nested: image !== undefined,
        ...(flat && at.depth > 1 ? await inspectFlat(fs, at) : {}),
      }),
    }),
    root: image && { name: image.path.slice(1), origin: image.file },
  }
}

/** Adds the root to its base, as the booted system sees it, and the overlay beside it. */
const withRoot = async (
  base: InspectedBase,
  target: Target | undefined,
  open: Device[],
  siblings: InspectNode[],
  at: Inspecting,
): Promise<InspectNode> => {
  const { root } = base
  let shown: Device | undefined = root?.origin
  if (target?.overlay) {
    const { name, facts } = target.overlay
    const status = await overlayStatus(target, root?.origin.size, at.findings, open, {})
    siblings.push(
      node('overlay', name, {
        size: facts.size,
        type: status.kind,
        details: details({
          state: status.state,
          percent: status.percent,
          usedBytes: status.allocatedSectors === null ? null : status.allocatedSectors * 512,
          leftBytes: status.left?.bytes ?? null,
          changedChunks: status.exceptions,
          chunkSectors: status.chunkSectors,
        }),
      }),
    )
    const cow = await target.overlay.folder.open(name)
    open.push(cow)
    // what stands above a damaged overlay is told by its status
    if (root && status.kind === 'dm-snapshot' && status.state !== 'damaged')
      shown = await readStore(cow, { originSize: root.origin.size, ignoreInvalid: true })
        .then(store => snapshot(root.origin, cow, { store, ignoreInvalid: true }))
        .catch((error: unknown) => {
          if (isLiveError(error)) return root.origin
          throw error
        })
  } else if (target?.overlayDirectory)
    siblings.push(node('overlay', target.overlayDirectory, { type: 'OverlayFS directory' }))
  if (!root || !shown || at.depth <= 1) return base.node
  const inner = deeper(at)
  return { ...base.node, children: [await inspectRoot(root.name, shown, inner)] }
}

const strangeOverlay = async (folder: LiveDirectory['folder'], name: string): Promise<InspectNode> => {
  const facts = await folder.facts(name)
  return node('overlay', name, {
    size: facts?.kind === 'file' ? facts.size : null,
    type: facts?.kind === 'directory' ? 'OverlayFS directory' : null,
    details: { state: 'not used by this system' },
  })
}

const inspectFile = async (
  device: Device,
  name: string,
  kind: 'home' | 'swap',
  at: Inspecting,
): Promise<InspectNode> => {
  const type = await collecting(at, 'FILE_UNREADABLE', device.name, () => detectFs(device))
  if (kind === 'home' && type === 'ext4') return inspectRoot(name, device, at, 'home')
  return node(kind, name, { size: device.size, type: type ?? null })
}
