import { join } from 'node:path'
import type { Device, WritableDevice } from '../block/device.js'
import { openWritableSnapshot, type WritableSnapshot } from '../block/snapshot/writable.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { checkNotLocked, type FileLock, lockFile } from '../host/file-lock.js'
import { holderOf } from '../host/place-folder.js'
import { openTemporary, type TemporaryFolder } from '../host/temporary.js'
import { overlaysIn } from '../liveos/live-directory.js'
import { liveVolumes, openTarget, volumesOf } from '../liveos/open-target.js'
import { openSource } from '../liveos/source.js'
import { openStack } from '../liveos/stack.js'
import {
  fileIn,
  findRunning,
  findTarget,
  type HostFile,
  type Target,
  type TargetFile,
  type TargetInput,
  type WritableTarget,
} from '../liveos/target.js'
import type { Layer } from '../liveos/view.js'
import { checkNotInUse, checkWritable } from './identity.js'
import { openSalvaged } from './recover-view.js'
import { overlayOf } from './reset.js'
import { writeMark } from './scratch-mark.js'
import { openScratch, SCRATCH_SECTORS, type Scratch } from './serve-scratch.js'
import { checkNothingUnfinished, dropUndo } from './unfinished.js'

/**
 * What can be exported as bytes: the views of `Layer` (`root` with the overlay, `base` without, `home` image, `medium` the
 * stick's own partition), and `overlay`, the store itself as it lies on the stick.
 */
export type ExportLayer = Layer | 'overlay'

/** A view to be exported; plain JSON, so that another process can open it. */
export interface ExportDescription {
  readonly input: TargetInput
  readonly layer: ExportLayer
  /** show what an overlay still holds that the kernel has given up */
  readonly ignoreInvalid?: boolean | undefined
  /** of `root`: show what can be had from an overlay that is damaged in any way, as `openSalvaged` */
  readonly salvage?: { readonly chunkSectors?: number | undefined } | undefined
  /**
   * Path of a store file that takes all writes, by `openWritableSnapshot` over the view: read-only without it. Where there
   * is no such file, an empty store is made, sparse and with room for every chunk. It stays there at the end, flushed, for
   * `readStore` and `snapshot` with the same view as origin.
   */
  readonly scratch?: string | undefined
  /** the same in a temporary folder, removed when the view is closed */
  readonly throwAway?: boolean | undefined
  /** writes go into the overlay of the stick; of `root` only */
  readonly persist?: boolean | undefined
}

/** A view opened as bytes. */
export interface ExportView {
  /** of the target, as it was named */
  readonly name: string
  readonly device: Device | WritableDevice
  /** where writes go: the scratch store, or the stick's overlay */
  readonly snapshot: WritableSnapshot | undefined
  readonly findings: readonly Finding[]
  /** bytes: reads of multiples of it expand no block twice */
  readonly preferredBlockSize: number
  /** files that must not be taken for a scratch store; none where the overlay takes the writes */
  readonly parts: readonly TargetFile[]
  close(): Promise<void>
}

interface Opened {
  readonly name: string
  readonly device: Device
  readonly findings: readonly Finding[]
  readonly preferredBlockSize?: number
  /** files that the view is made of */
  readonly parts?: readonly TargetFile[]
  close(): Promise<void>
}

const PAGE = 4096

/** Closes one after the other, each whatever the one before did; the first failure is told. */
const closeInOrder = async (open: readonly Pick<Device, 'close'>[]): Promise<void> => {
  const [first, ...rest] = open
  if (!first) return
  try {
    await first.close()
  } finally {
    await closeInOrder(rest)
  }
}

const fileOf = async (name: string, file: TargetFile): Promise<Opened> => {
  const device = await file.folder.open(file.name)
  return { name, device, findings: [], close: () => device.close() }
}

const invalidFinding = (path: string): Finding => ({
  code: 'OVERLAY_INVALID',
  severity: 'warning',
  where: path,
  message: 'the kernel reads this overlay no more; served is what it still holds, and the last changes may be missing',
})

const openRoot = async (target: Target, ignoreInvalid: boolean): Promise<Opened> => {
  try {
    const stack = await openStack(target, { ignoreInvalid })
    const { store, file } = stack.overlay ?? {}
    const isInvalid = store?.state === 'invalid' || store?.truncated
    return {
      name: target.name,
      device: stack.root,
      findings: file && isInvalid ? [invalidFinding(file.path)] : [],
      preferredBlockSize: stack.base.squashfs?.file.blockSize ?? PAGE,
      close: stack.close,
    }
  } catch (error) {
    // An image that is the root filesystem itself can be mounted as it is, whether its files can be read here or not.
    const isItself = isLiveError(error) && ['flat squashfs', 'EROFS'].includes(String(error.data.feature))
    if (!isItself || target.overlay) throw error
    return fileOf(target.name, target.base)
  }
}

const openDamaged = async (
  target: Target,
  overlay: TargetFile,
  salvage: NonNullable<ExportDescription['salvage']>,
): Promise<Opened> => {
  const { root, base, close } = await openSalvaged(target, overlay, salvage)
  const preferredBlockSize = base.squashfs?.file.blockSize ?? PAGE
  return { name: target.name, device: root, findings: [], preferredBlockSize, close }
}

const openMedium = async (input: TargetInput): Promise<Opened> => {
  const source = await openSource(input.target ?? (await findRunning()))
  try {
    if (source.kind === 'directory')
      throw new LiveError(
        'USAGE',
        `${source.name} is mounted, and what a mounted filesystem has on its device changes at any time: unmount it and name the device or image`,
        { path: source.name },
      )
    const volumes = volumesOf(source, input.partition).filter(({ device, fs }) => device && fs)
    const meant = volumes.length > 1 ? await liveVolumes(source, volumes) : volumes
    const [volume] = meant
    if (!volume?.device || meant.length !== 1)
      throw new LiveError(
        'USAGE',
        `${source.name} has ${volumes.length === 0 ? 'no filesystem that is known' : 'several filesystems: choose one with --partition'}`,
        { path: source.name },
      )
    return { name: source.name, device: volume.device, findings: [], close: source.close }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** What must not be taken for a scratch store: the files of a target, and overlays beside its base. */
const partsOf = async ({ base, overlay, home }: Target): Promise<readonly TargetFile[]> => {
  const { folder } = base
  const files = (await overlaysIn(folder)).filter(({ kind }) => kind === 'file')
  const beside = await Promise.all(files.map(({ name }) => fileIn(folder, name, 'overlay')))
  return [base, overlay, home, ...beside].filter(file => file !== undefined)
}

const openReadOnly = async ({ input, layer, ignoreInvalid = false, salvage }: ExportDescription): Promise<Opened> => {
  if (layer === 'medium') return openMedium(input)
  const wanted = layer === 'root' || layer === 'overlay' ? input : { ...input, baseOnly: true }
  const { target, close } = await openTarget(wanted)
  const missing = (what: string): LiveError =>
    new LiveError('NOT_FOUND', `${target.name} has no ${what}`, { path: target.name })
  const open = (): Promise<Opened> => {
    if (layer === 'home') {
      if (!target.home) throw missing('home image: /home is a part of its root')
      return fileOf(target.name, target.home)
    }
    if (layer === 'overlay') {
      if (!target.overlay) throw missing('overlay')
      return fileOf(target.name, target.overlay)
    }
    return salvage && target.overlay ? openDamaged(target, target.overlay, salvage) : openRoot(target, ignoreInvalid)
  }
  try {
    const parts = await partsOf(target)
    const opened = await open()
    return {
      ...opened,
      parts,
      async close() {
        await opened.close()
        await close()
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

/**
 * A stick whose overlay may take writes.
 *
 * @throws REFUSED  in use, or another verb was cut short on it; READ_ONLY, NOT_FOUND
 */
export const findPersistent = async (
  input: TargetInput,
): Promise<{ readonly target: WritableTarget; readonly overlay: HostFile }> => {
  const target = await findTarget(input)
  const overlay = overlayOf(target)
  await checkNotInUse(target)
  await checkNothingUnfinished(target)
  await checkWritable(target)
  await checkNotLocked(holderOf(overlay))
  return { target, overlay }
}

/** The stack of a stick whose overlay takes the writes. @throws  as `findPersistent` */
const openPersistent = async (input: TargetInput): Promise<ExportView> => {
  const { target, overlay } = await findPersistent(input)
  const open: Pick<Device, 'close'>[] = []
  let lock: FileLock | undefined
  const close = async (): Promise<void> => {
    await closeInOrder([...open].reverse())
    await lock?.release()
  }
  try {
    lock = await lockFile(holderOf(overlay))
    // Writes into chunks that it holds already change nothing by which an undo would tell that it comes too late.
    await dropUndo(overlay.folder, overlay.name)
    const stack = await openStack({ ...target, overlay: undefined })
    open.push(stack)
    const cow = await overlay.folder.openWritable(overlay.name)
    open.push(cow)
    const snapshot = await openWritableSnapshot(stack.root, cow)
    open.push(snapshot)
    const preferredBlockSize = stack.base.squashfs?.file.blockSize ?? PAGE
    return { name: target.name, device: snapshot, snapshot, findings: [], preferredBlockSize, parts: [], close }
  } catch (error) {
    await close().catch(() => undefined)
    throw error
  }
}

/**
 * Opens a view as bytes, with what takes its writes.
 *
 * @throws NOT_FOUND, USAGE, CORRUPT, UNSUPPORTED, IO  as opening the target; REFUSED, READ_ONLY  where the overlay is to be written
 */
export const openExportView = async (description: ExportDescription): Promise<ExportView> => {
  const { input, layer, scratch, throwAway = false, persist = false } = description
  if (persist) {
    if (layer !== 'root' || scratch !== undefined || throwAway)
      throw new LiveError('USAGE', 'the overlay takes writes of the root only, and no scratch file beside it', {
        layer,
      })
    return openPersistent(input)
  }
  const view = await openReadOnly(description)
  const { name, device, findings, preferredBlockSize = PAGE, parts: files = [], close } = view
  if (scratch === undefined && !throwAway)
    return { name, device, snapshot: undefined, findings, preferredBlockSize, parts: files, close }
  let cow: Scratch | undefined
  let folder: TemporaryFolder | undefined
  try {
    folder = scratch === undefined ? await openTemporary('scratch') : undefined
    cow = await openScratch(folder ? join(folder.path, 'writes.cow') : scratch!, device, files)
    const snapshot = await openWritableSnapshot(device, cow, { chunkSectors: SCRATCH_SECTORS })
    if (scratch !== undefined) await writeMark(cow, device)
    const opened = [snapshot, cow, ...(folder ? [{ close: folder.remove }] : []), { close }]
    return {
      name,
      device: snapshot,
      snapshot,
      findings: [...findings, ...cow.findings],
      preferredBlockSize,
      parts: files,
      close: () => closeInOrder(opened),
    }
  } catch (error) {
    await cow?.close()
    await folder?.remove()
    await close()
    throw error
  }
}
