import type { Device } from '../block/device.js'
import { snapshot } from '../block/snapshot/snapshot.js'
import { readStore } from '../block/snapshot/store.js'
import { isLiveError } from '../error.js'
import { detectFs } from '../fs/detect.js'
import { openSquashfs } from '../fs/squashfs/reader.js'
import { closeAll, type OpenedFile } from '../host/folder.js'
import { type LiveDirectory, overlaysIn } from '../liveos/live-directory.js'
import { isRoot, rootImageIn } from '../liveos/stack.js'
import { fileIn, type Target, type TargetFile } from '../liveos/target.js'
import { collecting, deeper, details, type Inspecting, type InspectNode, node } from './inspect-node.js'
import { inspectOverlayDirectory, inspectOverlayImage, inspectStore } from './inspect-overlay.js'
import { inspectFlat, inspectRoot } from './inspect-root.js'
import { overlayStatus } from './status-overlay.js'

/** The root's bytes below an overlay. */
interface Root {
  readonly name: string
  readonly origin: Device
}

/** Opens files of a target; all are closed together. */
type Opening = (file: TargetFile) => Promise<OpenedFile>

const opening = async <T>(work: (opened: Opening, open: Device[]) => Promise<T>): Promise<T> => {
  const open: Device[] = []
  try {
    return await work(async file => {
      const device = await file.folder.open(file.name)
      open.push(device)
      return device
    }, open)
  } finally {
    await closeAll(open)
  }
}

/**
 * A live directory with its base, the root in it, overlay, home and swap.
 *
 * @param target  the same as a verb would find it; undefined where it could not be told, such as with two overlays
 */
export const inspectLive = (
  { name, folder, baseName, lostName }: LiveDirectory,
  target: Target | undefined,
  at: Inspecting,
): Promise<InspectNode> =>
  opening(async (opened, open) => {
    if (at.depth <= 0) return node('live', name || '/')
    const children: InspectNode[] = []
    if (baseName === undefined)
      at.findings.push({
        code: 'REFRESH_INTERRUPTED',
        severity: 'error',
        where: `${folder.path}/${lostName}`,
        message: 'the base image is missing, and files of a refresh that was cut short are there',
        remedy: 'mount the stick and run liveos refresh on it: it finishes or takes back what is left',
      })
    else children.push(...(await inspectSystem(await fileIn(folder, baseName, 'base image'), target, opened, open, at)))
    const all = await collecting(at, 'OVERLAY_UNREADABLE', folder.path, () => overlaysIn(folder))
    const state = target ? 'not used by this system' : 'which one is used is not clear'
    for (const overlay of all ?? []) {
      if (overlay.name === target?.overlay?.name) continue
      const isUsed = target?.overlayDirectory === `${folder.path}/${overlay.name}`
      const more: Readonly<Record<string, string>> = isUsed ? {} : { use: state }
      const found = await collecting(at, 'OVERLAY_UNREADABLE', `${folder.path}/${overlay.name}`, async () =>
        overlay.kind === 'directory'
          ? inspectOverlayDirectory(folder, overlay.name, at, more)
          : inspectStore(overlay.name, await opened(await fileIn(folder, overlay.name, 'overlay')), at, more),
      )
      if (found) children.push(found)
    }
    for (const [file, kind] of [
      ['home.img', 'home'],
      ['swap.img', 'swap'],
    ] as const) {
      const found = await collecting(at, 'FILE_UNREADABLE', `${folder.path}/${file}`, async () =>
        (await folder.facts(file))?.kind === 'file'
          ? inspectFile(await opened(await fileIn(folder, file, kind)), file, kind, at)
          : undefined,
      )
      if (found) children.push(found)
    }
    return node('live', name || '/', { children })
  })

/** A base with the root in it, and the overlay that is laid over that. */
const inspectSystem = async (
  file: TargetFile,
  target: Target | undefined,
  opened: Opening,
  open: Device[],
  at: Inspecting,
): Promise<InspectNode[]> => {
  const base = await collecting(at, 'BASE_DAMAGED', file.path, async () => inspectBase(await opened(file), file, at))
  const overlay = await collecting(at, 'OVERLAY_UNREADABLE', target?.overlay?.path ?? file.path, () =>
    inspectOverlay(target, base?.root, opened, open, at),
  )
  const nodes: InspectNode[] = []
  if (base) {
    const shown = overlay?.shown ?? base.root?.origin
    const root = base.root && shown && at.depth > 1 ? [await inspectRoot(base.root.name, shown, deeper(at))] : []
    nodes.push({ ...base.node, children: root })
  } else nodes.push(node('base', file.name, { size: file.facts.size }))
  if (overlay) nodes.push(overlay.node)
  return nodes
}

/** A base image that was named itself, with the overlay that was named for it. */
export const inspectBare = (target: Target, at: Inspecting): Promise<InspectNode[]> =>
  opening((opened, open) => inspectSystem(target.base, target, opened, open, at))

interface InspectedBase {
  readonly node: InspectNode
  readonly root: Root | undefined
}

const inspectBase = async (device: OpenedFile, file: TargetFile, at: Inspecting): Promise<InspectedBase> => {
  const { name, path } = file
  const type = await detectFs(device)
  const tell = (code: string, severity: 'note' | 'error', message: string): void => {
    at.findings.push({ code, severity, where: path, message: `${path} ${message}` })
  }
  if (type === 'erofs') tell('BASE_UNSUPPORTED', 'note', 'is an EROFS image, which is known and not read yet')
  if (type === undefined) tell('BASE_DAMAGED', 'error', 'holds no filesystem that is known')
  if (type !== 'squashfs') {
    const raw = type !== undefined && type !== 'erofs'
    return {
      node: node('base', name, { size: device.size, type: type ?? null, details: { nested: false } }),
      root: raw ? { name: '/', origin: device } : undefined,
    }
  }
  const fs = await openSquashfs(device)
  const { superblock, compressor } = fs
  const image = await rootImageIn(fs)
  const flat = !image && isRoot((await fs.list('/')).map(entry => entry.name))
  if (!image && !flat)
    tell('BASE_WITHOUT_ROOT', 'error', 'holds no root filesystem, neither an image of one nor its directories')
  return {
    node: node('base', name, {
      size: device.size,
      type: 'squashfs',
      details: details({
        compressor: compressor.name,
        blockSize: superblock.block_size,
        made: new Date(superblock.mkfs_time * 1000).toISOString().replace('.000Z', 'Z'),
        nested: image !== undefined,
        ...(flat ? await inspectFlat(fs, at) : {}),
      }),
    }),
    root: image && { name: image.path.slice(1), origin: image.file },
  }
}

interface InspectedOverlay {
  readonly node: InspectNode
  /** the root as it is seen through the overlay; undefined where that can't be shown */
  readonly shown: Device | undefined
}

const inspectOverlay = async (
  target: Target | undefined,
  root: Root | undefined,
  opened: Opening,
  open: Device[],
  at: Inspecting,
): Promise<InspectedOverlay | undefined> => {
  if (!target?.overlay) return undefined
  const { name, facts } = target.overlay
  const told = at.findings.length
  const originSize = root?.origin.size
  const cow = await opened(target.overlay)
  // Read once for its status and for what it shows: on a server each of its lists is a request.
  const store = await readStore(cow, { originSize, ignoreInvalid: true }).catch(unlessOther)
  const known = store?.state === 'invalid' || store?.truncated ? undefined : store
  const status = await overlayStatus(target, originSize, at.findings, open, {}, known)
  if (status.kind === 'unknown') {
    // the tree says what it is
    for (let n = at.findings.length - 1; n >= told; n--)
      if (at.findings[n]?.code === 'OVERLAY_UNSUPPORTED') at.findings.splice(n, 1)
    return { node: await inspectOverlayImage(name, cow, at), shown: undefined }
  }
  const described = node('overlay', name, {
    size: facts.size,
    type: status.kind,
    details: details({
      state: status.state,
      percent: status.percent,
      usedBytes: status.allocatedSectors === null ? null : status.allocatedSectors * 512,
      leftBytes: status.left?.bytes ?? null,
      changedChunks: status.exceptions,
      chunkSectors: status.chunkSectors,
      foundBy: target.overlayFoundBy,
    }),
  })
  // what stands above a damaged overlay is told by its status
  if (!root || !store || status.state === 'damaged' || at.depth <= 1) return { node: described, shown: undefined }
  const shown = await snapshot(root.origin, cow, { store, ignoreInvalid: true }).catch(unlessOther)
  return { node: described, shown }
}

/** Its status tells what is wrong with an overlay. @throws what is no error of ours */
const unlessOther = (error: unknown): undefined => {
  if (!isLiveError(error) || error.code === 'CANCELLED') throw error
  return undefined
}

const inspectFile = async (
  device: Device,
  name: string,
  kind: 'home' | 'swap',
  at: Inspecting,
): Promise<InspectNode> => {
  const type = await detectFs(device)
  if (kind === 'home' && type === 'ext4') return inspectRoot(name, device, at, 'home')
  return node(kind, name, {
    size: device.size,
    type: type ?? null,
    details: details({ encrypted: type === 'luks' || undefined }),
  })
}
