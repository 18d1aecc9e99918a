import { lstat, opendir, realpath, statfs } from 'node:fs/promises'
import { freemem } from 'node:os'
import { join } from 'node:path'
import { SECTOR } from '../block/snapshot/layout.js'
import {
  type DmSnapshot,
  type DmState,
  devicesBeside,
  dmNameAt,
  dmNumberOf,
  type LoopFacts,
  loopAt,
  mayAskDm,
  numberOf,
  readSnapshotStatus,
  readSnapshots,
} from '../host/dmsetup.js'
import { factsOf, isHostFolder } from '../host/folder.js'
import { attachedLoop, readLoops } from '../host/loops.js'
import { deviceNumber, type Mount, mountOf, readMounts, unescapeOctal } from '../host/medium.js'
import { RUNNING, type Target } from '../liveos/target.js'

/** Bytes of something that fills up. */
export interface Room {
  readonly usedBytes: number
  readonly leftBytes: number
  /** used of used and left, 0 to 100, one decimal */
  readonly percent: number
  /** what ends first */
  readonly limitedBy: 'store' | 'filesystem' | 'memory'
}

/** Where the running kernel puts what is changed, as it tells it itself. Sectors are 512 bytes. */
export interface LiveOverlay {
  readonly kind: 'dm-snapshot' | 'OverlayFS'
  /** what device-mapper calls it, such as live-rw; of an OverlayFS where it is mounted */
  readonly name: string
  /** such as /dev/loop1 */
  readonly loop: string | null
  /** file behind the store, or the upper directory; as the kernel tells it where it can't be found */
  readonly store: string | null
  /** `memory` is lost at power-off; `unknown`: only root can tell */
  readonly keptIn: 'overlay of the stick' | 'another place' | 'memory' | 'unknown'
  /** `unknown`: nobody was asked, as that takes root */
  readonly state: DmState
  readonly allocatedSectors: number | null
  readonly totalSectors: number | null
  readonly metadataSectors: number | null
  readonly room: Room | null
  /** what `dmsetup status` says; null where it was not asked */
  readonly dmsetup: string | null
}

/** @param limitedBy  what has `leftBytes` left */
export const roomOf = (usedBytes: number, leftBytes: number, limitedBy: Room['limitedBy']): Room => {
  const left = Math.max(0, leftBytes)
  const whole = usedBytes + left
  return {
    usedBytes,
    leftBytes: left,
    percent: whole === 0 ? 0 : Math.round((usedBytes / whole) * 1000) / 10,
    limitedBy,
  }
}

/** The room that is less. */
const less = (room: Room, leftBytes: number, limitedBy: Room['limitedBy']): Room =>
  leftBytes < room.leftBytes ? roomOf(room.usedBytes, leftBytes, limitedBy) : room

/** The mount of a stick that carries the running system; undefined for any other. */
export const runningMount = async ({ base }: Pick<Target, 'base'>): Promise<Mount | undefined> => {
  if (!isHostFolder(base.folder)) return undefined
  const mount = await mountOf(base.path).catch(() => undefined)
  for (const path of RUNNING) {
    const running = await mountOf(path).catch(() => undefined)
    if (mount && running?.mountPoint === path && running.device === mount.device) return running
  }
  return undefined
}

/** dracut's name of the root's device */
const ROOT_NAME = 'live-rw'

/** The device of the root, if device-mapper makes it; else the one that dracut would have made. */
const rootDevice = async (): Promise<string | undefined> => {
  const root = await mountOf('/').catch(() => undefined)
  if (root && (await dmNameAt(root.device)) !== undefined) return root.device
  return dmNumberOf(ROOT_NAME)
}

const TMPFS = 0x01021994
const RAMFS = 0x858458f6

/** True for a path on a filesystem that lives in memory; undefined where the path can't be reached. */
const isInMemory = async (path: string): Promise<boolean | undefined> => {
  try {
    const { type } = await statfs(path)
    return type === TMPFS || type === RAMFS
  } catch {
    return undefined
  }
}

interface Kept {
  readonly store: string | null
  readonly keptIn: LiveOverlay['keptIn']
}

/** Finds the file of a loop device. Where it was set up in the initramfs its path lacks the mount's, or names a file that is gone. */
const keptBy = async (loop: LoopFacts, kind: DmSnapshot['kind'] | undefined): Promise<Kept> => {
  const told = loop.backingFile
  const lost = kind === 'N' ? ('memory' as const) : undefined
  const known = (await readLoops()).find(({ name }) => name === loop.name)
  if (known?.device === undefined || known.inode === undefined) {
    const inMemory = await isInMemory(told)
    return { store: told, keptIn: lost ?? (inMemory === undefined ? 'unknown' : inMemory ? 'memory' : 'another place') }
  }
  const mounts = (await readMounts()).filter(({ device }) => device === known.device)
  for (const path of [told, ...mounts.map(({ mountPoint }) => join(mountPoint, told))]) {
    const facts = await factsOf(path).catch(() => undefined)
    if (facts?.inode !== known.inode || deviceNumber(facts.device) !== known.device) continue
    return { store: path, keptIn: lost ?? ((await isInMemory(path)) ? 'memory' : 'another place') }
  }
  // Filesystems in memory have no device; what was deleted with the initramfs goes on there as long as it is open.
  return { store: told, keptIn: lost ?? (known.device.startsWith('0:') ? 'memory' : 'another place') }
}

interface FoundSnapshot {
  readonly name: string
  /** undefined where root alone could tell */
  readonly snapshot: DmSnapshot | undefined
  readonly store: LoopFacts | undefined
}

/** The snapshot that changes go to: the root's of a running system, else the one whose store the overlay is. */
const findSnapshot = async (ownLoop: string | undefined, isRunning: boolean): Promise<FoundSnapshot | undefined> => {
  const own = ownLoop && (await numberOf(ownLoop))
  const root = isRunning ? await rootDevice() : undefined
  const rootName = root && (await dmNameAt(root))
  const snapshots = await readSnapshots()
  if (snapshots) {
    const snapshot = rootName
      ? snapshots.find(({ name }) => name === rootName)
      : snapshots.find(({ store }) => store === own)
    return snapshot && { name: snapshot.name, snapshot, store: await loopAt(snapshot.store) }
  }
  const device = root ?? (own && (await devicesBeside(own, 'holders'))[0])
  const name = device && (await dmNameAt(device))
  if (!name || !device) return undefined
  const under = await devicesBeside(device, 'slaves')
  const loops = (await Promise.all(under.map(loopAt))).filter(loop => loop !== undefined)
  // the base is attached read-only, the store never
  const store = loops.find(loop => loop.name === ownLoop) ?? loops.find(loop => !loop.readOnly)
  return store && { name, snapshot: undefined, store }
}

const liveSnapshot = async (found: FoundSnapshot, ownLoop: string | undefined, ownPath: string | undefined) => {
  const { name, snapshot, store: loop } = found
  const isOwn = loop !== undefined && loop.name === ownLoop
  const kept: Kept = isOwn
    ? { store: ownPath ?? null, keptIn: 'overlay of the stick' }
    : loop
      ? await keptBy(loop, snapshot?.kind)
      : { store: null, keptIn: snapshot?.kind === 'N' ? 'memory' : 'unknown' }
  return { kind: 'dm-snapshot' as const, name, loop: loop?.name ?? null, ...kept }
}

/** What a snapshot holds and has left by the kernel's count. */
const askedSnapshot = async (live: Awaited<ReturnType<typeof liveSnapshot>>): Promise<LiveOverlay> => {
  const status = (await mayAskDm()) ? await readSnapshotStatus(live.name) : undefined
  const usage = status?.usage
  const { keptIn } = live
  let room: Room | null = null
  if (usage) {
    const used = usage.allocatedSectors * SECTOR
    room = roomOf(used, usage.totalSectors * SECTOR - used, 'store')
    if (keptIn === 'memory') room = less(room, freemem(), 'memory')
  }
  return {
    ...live,
    state: status?.state ?? 'unknown',
    allocatedSectors: usage?.allocatedSectors ?? null,
    totalSectors: usage?.totalSectors ?? null,
    metadataSectors: usage?.metadataSectors ?? null,
    room,
    dmsetup: status?.line ?? null,
  }
}

/** The upper directory among the options of an OverlayFS; undefined where it is only read. */
export const upperOf = ({ superOptions }: Pick<Mount, 'superOptions'>): string | undefined => {
  // commas within a path have a backslash before them
  const option = superOptions.split(/(?<!\\),/).find(text => text.startsWith('upperdir='))
  return option && unescapeOctal(option.slice('upperdir='.length)).replace(/\\([,:\\])/g, '$1')
}

/** Room of a filesystem that an OverlayFS writes to; null where it can't be asked for. */
export const upperRoom = async (path: string): Promise<Room | null> => {
  try {
    const { type, blocks, bfree, bavail, bsize } = await statfs(path)
    const room = roomOf((blocks - bfree) * bsize, bavail * bsize, 'filesystem')
    return type === TMPFS || type === RAMFS ? less(room, freemem(), 'memory') : room
  } catch {
    return null
  }
}

/** entries that are looked at, at most: more take too long on a slow stick */
const MOST_ENTRIES = 200_000

/** Bytes that a directory and all below it take on its filesystem; null where not all of it may be looked at, or it is huge. */
export const takenBelow = async (path: string): Promise<number | null> => {
  try {
    const top = await lstat(path)
    const seen = new Set<number>()
    const waiting = [path]
    let blocks = top.blocks
    let entries = 0
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop())
      for await (const { name } of await opendir(at)) {
        if (++entries > MOST_ENTRIES) return null
        const found = await lstat(join(at, name))
        if (found.dev !== top.dev) continue
        if (found.isDirectory()) waiting.push(join(at, name))
        // a file of several names takes its blocks once
        else if (found.nlink > 1) {
          if (seen.has(found.ino)) continue
          seen.add(found.ino)
        }
        blocks += found.blocks
      }
    return blocks * SECTOR
  } catch {
    return null
  }
}

/** The root as an OverlayFS. @param own  major:minor of what belongs to the stick: its filesystem, and its overlay where that is one */
const liveUpper = async (own: readonly (string | undefined)[]): Promise<LiveOverlay | undefined> => {
  const root = (await readMounts()).findLast(({ mountPoint }) => mountPoint === '/')
  const told = root?.type === 'overlay' ? upperOf(root) : undefined
  if (root === undefined || told === undefined) return undefined
  const upper = await realpath(told).catch(() => told)
  const inMemory = await isInMemory(upper)
  const on = inMemory === undefined ? undefined : await mountOf(upper).catch(() => undefined)
  return {
    kind: 'OverlayFS',
    name: root.mountPoint,
    loop: null,
    store: upper,
    keptIn: inMemory
      ? 'memory'
      : on === undefined
        ? 'unknown'
        : own.includes(on.device)
          ? 'overlay of the stick'
          : 'another place',
    state: 'ok',
    allocatedSectors: null,
    totalSectors: null,
    metadataSectors: null,
    room: inMemory === undefined ? null : await upperRoom(upper),
    dmsetup: null,
  }
}

/** An overlay in use, which can be asked again for what it holds. */
export interface LiveSource {
  ask(): Promise<LiveOverlay>
}

/**
 * Finds where the kernel puts what is changed: in a running live system what lies on its root, for any other stick the
 * snapshot that has its overlay as store. Nothing is opened but /proc and /sys; the rest needs root, and is `unknown` without.
 *
 * @param target  undefined: the running system, whatever it was started from
 * @returns undefined where there is none
 * @throws IO
 */
export const findLive = async (
  target: Pick<Target, 'base' | 'overlay'> | undefined,
): Promise<LiveSource | undefined> => {
  const stick = target && (await runningMount(target))
  const isRunning = !target || stick !== undefined
  const file = target?.overlay && isHostFolder(target.overlay.folder) ? target.overlay.path : undefined
  const ownLoop = file === undefined ? undefined : (await attachedLoop(file))?.name
  const upper = isRunning ? await liveUpper([stick?.device, ownLoop && (await numberOf(ownLoop))]) : undefined
  // a container is an OverlayFS too, whose upper directory lies outside of it
  if (upper && !target && !upper.room) return undefined
  if (upper) return { ask: async () => ({ ...upper, room: upper.store ? await upperRoom(upper.store) : null }) }
  const found = isRunning || ownLoop ? await findSnapshot(ownLoop, isRunning) : undefined
  if (!found) return undefined
  const live = await liveSnapshot(found, ownLoop, file)
  return { ask: () => askedSnapshot(live) }
}
