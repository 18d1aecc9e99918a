import type { Device } from '../block/device.js'
import { MAX_CHUNK_SECTORS } from '../block/snapshot/layout.js'
import { type Salvage, salvageStore } from '../block/snapshot/salvage.js'
import { type SnapshotDevice, snapshot } from '../block/snapshot/snapshot.js'
import type { Store } from '../block/snapshot/store.js'
import { undone } from '../block/undo/undone.js'
import { openPool } from '../bytes/pool.js'
import { LiveError, unsupported } from '../error.js'
import { overlayFsType } from '../fs/detect.js'
import { closeAll, type OpenedFile } from '../host/folder.js'
import { type Base, openBase } from '../liveos/stack.js'
import type { Target, TargetFile } from '../liveos/target.js'
import { tooSmallAdvice } from '../liveos/too-small.js'
import { wholeFiles } from '../liveos/whole-files.js'
import { type FoundUndo, findUndo, isCut } from './undo-journal.js'

/** An overlay that may be damaged in any way, and what can be seen through it. */
export interface SalvagedView {
  readonly base: Base
  /** the overlay's file; as it was before a change that was cut in its middle */
  readonly cow: Device
  readonly salvage: Salvage
  /** the longest consistent beginning of its list */
  readonly store: Store
  /** the root filesystem as far as the store holds it */
  readonly root: SnapshotDevice
  /** the undo journal beside it */
  readonly undo: FoundUndo | undefined
  close(): Promise<void>
}

/** @throws REFUSED  it can't be used, with why */
const checkUsable = (
  path: string,
  { damage, header, store, tear }: Salvage,
  told: number | undefined,
  tooSmall: string,
): Store => {
  const refuse = (why: string) => new LiveError('REFUSED', `${path} ${why}`, { path, damage })
  if (damage === 'too small')
    throw refuse(`is too small to be an overlay, and nothing in it can be recovered: ${tooSmall}`)
  if (header === 'guessed' && told === undefined)
    throw refuse(
      store
        ? `has lost its header, and looks like an overlay with chunks of ${store.chunkSectors} sectors that holds ${store.exceptions.count} changes: --chunk ${store.chunkSectors} takes it for one`
        : 'has lost its header, and no list of changes can be found in it',
    )
  if (damage === 'wrong base')
    throw refuse(
      `belongs to another base: entry ${tear?.index} of its list is chunk ${tear?.found}, past the end of this one. Put the base back that it was made over`,
    )
  if (!store) throw refuse('holds no list of changes')
  return store
}

/** Looks for what can be had, with the chunk size that was told where the header can't tell it. @throws USAGE, REFUSED, IO */
const salvageAs = async (path: string, cow: Device, originSize: number, told: number | undefined): Promise<Salvage> => {
  if (told === undefined) return salvageStore(cow, { originSize })
  if (!Number.isInteger(Math.log2(told)) || told < 1 || told > MAX_CHUNK_SECTORS)
    throw new LiveError('USAGE', `chunks have 1 to ${MAX_CHUNK_SECTORS} sectors, a power of two, and not ${told}`)
  const { header, store } = await salvageStore(cow, { originSize })
  if ((header === 'ok' || header === 'invalid') && store && store.chunkSectors !== told)
    throw new LiveError(
      'REFUSED',
      `the header of ${path} says that its chunks have ${store.chunkSectors} sectors: --chunk is for an overlay that has lost its header`,
      { path, chunkSectors: store.chunkSectors },
    )
  return salvageStore(cow, { originSize, chunkSectors: told })
}

/**
 * Opens what can be seen through an overlay in any state.
 *
 * @param chunkSectors  takes an overlay that has lost its header for one with chunks of so many sectors
 * @throws USAGE  there are no such chunks
 * @throws REFUSED  the overlay holds nothing that could be recovered, lost its header, or belongs to another base
 * @throws CORRUPT, UNSUPPORTED, IO  the base, or the journal beside the overlay
 */
export const openSalvaged = async (
  target: Target,
  overlay: Pick<TargetFile, 'folder' | 'name' | 'path'>,
  { chunkSectors, threads }: { chunkSectors?: number | undefined; threads?: number | undefined } = {},
): Promise<SalvagedView> => {
  const pool = openPool(threads === undefined ? {} : { threads })
  const open: Device[] = []
  const close = async (): Promise<void> => {
    await pool.close()
    await closeAll(open)
  }
  try {
    const baseFile: OpenedFile = await target.base.folder.open(target.base.name)
    open.push(baseFile)
    const base = await openBase(baseFile, pool)
    const file = await overlay.folder.open(overlay.name)
    open.push(file)
    const undo = await findUndo(overlay.folder, overlay.name)
    let cow: Device = file
    if (undo?.journal && isCut(undo)) {
      const journal = await overlay.folder.open(undo.name)
      open.push(journal)
      cow = undone(file, journal, undo.journal)
    }
    const type = await overlayFsType(cow).catch(() => undefined)
    if (type) throw unsupported(`overlay that is a ${type} filesystem`, overlay.path, wholeFiles(target, type))
    const salvage = await salvageAs(overlay.path, cow, base.origin.size, chunkSectors)
    const store = checkUsable(overlay.path, salvage, chunkSectors, await tooSmallAdvice(target, overlay.path, cow))
    const root = await snapshot(base.origin, cow, { store, ignoreInvalid: true })
    return { base, cow, salvage, store, root, undo, close }
  } catch (error) {
    await close()
    throw error
  }
}
