import { openFile } from '../block/file.js'
import { SECTOR } from '../block/snapshot/layout.js'
import { isLiveError, LiveError, unsupported } from '../error.js'
import { overlayFsType } from '../fs/detect.js'
import type { Folder } from '../host/folder.js'
import { mountOf } from '../host/medium.js'
import { overlayAs } from '../liveos/advice.js'
import type { HostFile, TargetInput, WritableTarget } from '../liveos/target.js'
import { LIVE } from './grow-live.js'
import { findOverlay } from './grow-target.js'
import { findLive, type LiveOverlay, type LiveSource, type Room, roomOf, upperRoom } from './status-live.js'
import { readTail, type StoreTail } from './watch-store.js'

/** What stands now in something that fills. */
export interface Reading {
  /** `unknown`: of an OverlayFS or a store in memory there is nothing more to tell than its room */
  readonly state: 'new' | 'ok' | 'full' | 'invalid' | 'overflow' | 'damaged' | 'unknown'
  /** null where it can't be told */
  readonly room: Room | null
  /** what dmsetup status says; null where it was not asked */
  readonly dmsetup: string | null
  /** why it can't be told */
  readonly problem: string | null
  /** by which the next look is a short one */
  readonly tail: StoreTail | undefined
}

/** Something that fills: where changes of a system go to. */
export interface Gauge {
  readonly kind: LiveOverlay['kind']
  /** as device-mapper calls it; of a stick that is not running the name of its overlay */
  readonly name: string
  /** its file or directory; null where there is none */
  readonly path: string | null
  readonly keptIn: LiveOverlay['keptIn']
  /** a running system fills it */
  readonly isRunning: boolean
  /** as the user names what it belongs to */
  readonly target: string
  /** as a command line names it; '' for the running system */
  readonly address: string
  /** the folder of the stick where a history may lie; undefined where there is none outside of what fills */
  readonly beside: { readonly folder: Folder; readonly name: string } | undefined
  read(before: StoreTail | undefined): Promise<Reading>
}

/** What the kernel says, where it says more than the file. */
const stateOf = (file: Reading['state'], live: LiveOverlay | undefined): Reading['state'] => {
  if (live?.state === 'overflow') return 'overflow'
  return live?.state === 'invalid' || live?.state === 'merge failed' ? 'invalid' : file
}

const readFile = async (
  { path, folder }: HostFile,
  source: LiveSource | undefined,
  before: StoreTail | undefined,
): Promise<Reading> => {
  const file = await openFile(path)
  try {
    const store = await readTail(file, before)
    const live = await source?.ask()
    const used = store.allocatedSectors * SECTOR
    // one that is enlarged and not told of it ends where the kernel thinks that it ends
    const total = Math.min(store.totalSectors, live?.totalSectors ?? store.totalSectors) * SECTOR
    const room = roomOf(used, store.full ? 0 : total - used, 'store')
    const free = file.hasHoles ? await folder.freeBytes() : undefined
    const state = store.state === 'ok' && (store.full || store.truncated) ? 'full' : store.state
    return {
      state: stateOf(state, live),
      room: free !== undefined && free < room.leftBytes ? roomOf(used, free, 'filesystem') : room,
      dmsetup: live?.dmsetup ?? null,
      problem: null,
      tail: store.tail,
    }
  } catch (error) {
    if (!isLiveError(error) || error.code !== 'CORRUPT') throw error
    const live = await source?.ask()
    return {
      state: stateOf('damaged', live),
      room: null,
      dmsetup: live?.dmsetup ?? null,
      problem: error.message,
      tail: undefined,
    }
  } finally {
    await file.close()
  }
}

const readLive = async (source: LiveSource): Promise<Reading> => {
  const live = await source.ask()
  const state = stateOf(live.kind === 'OverlayFS' || live.state === 'unknown' ? 'unknown' : 'ok', live)
  return { state, room: live.room, dmsetup: live.dmsetup, problem: null, tail: undefined }
}

/** Beside the overlay of a stick: what goes to memory has no history. @param live  of a running system */
const historyBeside = async (
  target: WritableTarget | undefined,
  live: LiveOverlay | undefined,
): Promise<Gauge['beside']> => {
  const keeps = target?.overlay?.name ?? target?.overlayDirectory
  if (!target || keeps === undefined || target.medium.readOnly) return undefined
  if (live && live.keptIn !== 'overlay of the stick') return undefined
  const { folder } = target.overlay ?? target.base
  if (!(await folder.isWritable())) return undefined
  const [there, root] = [await mountOf(folder.path).catch(() => undefined), await mountOf('/').catch(() => undefined)]
  // never on what fills: that is the root of a running live system
  if (live && (!there || there.device === root?.device)) return undefined
  return { folder, name: `watch-${keeps.slice(keeps.lastIndexOf('/') + 1)}.jsonl` }
}

const unasked = (name: string): LiveError =>
  process.getuid?.() === 0
    ? new LiveError('NOT_FOUND', `how full ${name} is can't be asked: install the package dmsetup`, { path: name })
    : new LiveError('REFUSED', `only root can ask how full ${name} is: run this with sudo`, { path: name })

/** @throws UNSUPPORTED  it is a filesystem */
const checkStore = async ({ path }: HostFile): Promise<void> => {
  const file = await openFile(path)
  try {
    const type = await overlayFsType(file)
    if (type) throw unsupported(`overlay that is a ${type} filesystem`, path)
  } finally {
    await file.close()
  }
}

const targetOf = async (input: TargetInput): Promise<WritableTarget | undefined> => {
  const named = input.target === LIVE ? { ...input, target: undefined } : input
  try {
    return await findOverlay(named)
  } catch (error) {
    // a system that runs from memory has no stick any more
    if (named.target !== undefined || named.base !== undefined || !isLiveError(error)) throw error
    if (!(await findLive(undefined))) throw error
    return undefined
  }
}

/**
 * Finds what fills: of a running live system where its changes go to, else the overlay of a stick.
 *
 * @throws NOT_FOUND  there is no overlay; REFUSED  only root can look at it; USAGE, READ_ONLY, UNSUPPORTED
 */
export const findGauge = async (input: TargetInput): Promise<Gauge> => {
  const target = await targetOf(input)
  const source = await findLive(target)
  const live = await source?.ask()
  const overlay = target?.overlay
  const about = {
    isRunning: live !== undefined,
    target: target?.name ?? 'the running system',
    address: target && !live ? overlayAs(target) : '',
    beside: await historyBeside(target, live),
  }
  if (source && live && (live.keptIn !== 'overlay of the stick' || live.kind === 'OverlayFS')) {
    if (!live.room && (live.kind === 'OverlayFS' || live.state === 'unknown')) throw unasked(live.name)
    const { kind, name, store, keptIn } = live
    return { kind, name, path: store, keptIn, ...about, read: () => readLive(source) }
  }
  if (overlay) {
    await checkStore(overlay)
    return {
      kind: 'dm-snapshot',
      name: live?.name ?? overlay.name,
      path: overlay.path,
      keptIn: 'overlay of the stick',
      ...about,
      read: before => readFile(overlay, source, before),
    }
  }
  const directory = target?.overlayDirectory
  if (directory !== undefined)
    return {
      kind: 'OverlayFS',
      name: directory.slice(directory.lastIndexOf('/') + 1),
      path: directory,
      keptIn: 'overlay of the stick',
      ...about,
      read: async () => ({
        state: 'unknown',
        room: await upperRoom(directory),
        dmsetup: null,
        problem: null,
        tail: undefined,
      }),
    }
  throw new LiveError('NOT_FOUND', `${about.target} has no overlay: there is nothing that fills`, {
    path: about.target,
  })
}
