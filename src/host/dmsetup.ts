import { readdir, readFile, readlink } from 'node:fs/promises'
import { basename } from 'node:path'
import { type NamedTable, parseTables } from '../block/table.js'
import { isLiveError, LiveError } from '../error.js'
import { findTool, runTool } from './process.js'

/** How the kernel sees a snapshot's store: `overflow` and `invalid` last until it is set up anew, at the next boot. */
export type DmState = 'ok' | 'overflow' | 'invalid' | 'merge failed' | 'unknown'

/** Sectors of 512 bytes, as `dmsetup status` counts them. */
export interface DmUsage {
  readonly allocatedSectors: number
  readonly totalSectors: number
  readonly metadataSectors: number
}

/** What a status line of a snapshot says. */
export interface DmStatus {
  readonly state: DmState
  /** undefined where the state leaves it out */
  readonly usage: DmUsage | undefined
  /** such as `0 98304 snapshot 560/24576 16` */
  readonly line: string
}

/** A snapshot that the kernel has active. Devices are major:minor. */
export interface DmSnapshot {
  /** as device-mapper calls it, such as live-rw */
  readonly name: string
  readonly target: 'snapshot' | 'snapshot-merge'
  readonly origin: string
  readonly store: string
  /** P and PO keep the list of chunks on the store, N in memory alone */
  readonly kind: 'P' | 'PO' | 'N'
  readonly chunkSectors: number
}

/**
 * Reads a line of `dmsetup status`, with or without the device's name before it.
 *
 * @returns undefined where it is of another target
 * @see linux drivers/md/dm-snap.c, snapshot_status
 */
export const parseSnapshotStatus = (text: string): DmStatus | undefined => {
  const [, line, rest = ''] = /(?:^|: )(\d+ \d+ snapshot(?:-merge)?(?: (.*))?)$/.exec(text.trim()) ?? []
  if (line === undefined) return undefined
  const counted = /^(\d+)\/(\d+) (\d+)$/.exec(rest)
  if (counted) {
    const [allocatedSectors, totalSectors, metadataSectors] = counted.slice(1).map(Number) as [number, number, number]
    return { state: 'ok', usage: { allocatedSectors, totalSectors, metadataSectors }, line }
  }
  const states: Readonly<Record<string, DmState>> = {
    Overflow: 'overflow',
    Invalid: 'invalid',
    'Merge failed': 'merge failed',
  }
  return { state: states[rest] ?? 'unknown', usage: undefined, line }
}

/** The table of a line of `dmsetup table`; none where it is of a target that is not known here. */
const tablesOf = (line: string): readonly NamedTable[] => {
  try {
    return parseTables(line, 'dmsetup table')
  } catch (error) {
    // a computer has many kinds of devices, and most are no snapshots
    if (!isLiveError(error)) throw error
    return []
  }
}

/** Reads the snapshots among the lines of `dmsetup table`, devices by their numbers; other targets are left out. */
export const parseSnapshotTables = (text: string): readonly DmSnapshot[] =>
  text
    .split('\n')
    .flatMap(tablesOf)
    .flatMap(({ name, lines }) =>
      lines.flatMap(line => {
        if (line.type !== 'snapshot' && line.type !== 'snapshot-merge') return []
        const { type, origin, cow, store, chunkSectors } = line
        return [{ name, target: type, origin, store: cow, kind: store, chunkSectors }]
      }),
    )

/** True where this process may ask device-mapper. */
export const mayAskDm = async (): Promise<boolean> =>
  process.getuid?.() === 0 && (await findTool('dmsetup')) !== undefined

/** The snapshots that are active. Undefined where they can't be asked for: not root, no dmsetup, no device-mapper. */
export const readSnapshots = async (): Promise<readonly DmSnapshot[] | undefined> => {
  if (!(await mayAskDm())) return undefined
  const { code, stdout } = await runTool('dmsetup', ['table'])
  return code === 0 ? parseSnapshotTables(stdout) : undefined
}

/** What `dmsetup status` says of a snapshot; undefined where there is none of that name any more. */
export const readSnapshotStatus = async (name: string): Promise<DmStatus | undefined> => {
  const { code, stdout } = await runTool('dmsetup', ['status', '--', name])
  return code === 0 ? parseSnapshotStatus(stdout) : undefined
}

/** A loop device and what stands in it, as sysfs tells it to everybody. Offset, limit and size are bytes. */
export interface LoopFacts {
  /** /dev/loop1 */
  readonly name: string
  readonly backingFile: string
  readonly offset: number
  /** 0: none */
  readonly sizeLimit: number
  readonly size: number
  readonly readOnly: boolean
}

const line = (path: string): Promise<string | undefined> =>
  readFile(path, 'utf8').then(
    text => text.trimEnd(),
    () => undefined,
  )

/** The loop device of a number major:minor; undefined where it is none. */
export const loopAt = async (device: string): Promise<LoopFacts | undefined> => {
  const at = `/sys/dev/block/${device}`
  const backingFile = await line(`${at}/loop/backing_file`)
  if (backingFile === undefined) return undefined
  const number = async (name: string): Promise<number> => Number((await line(`${at}/${name}`)) ?? 0)
  return {
    name: `/dev/${basename(await readlink(at).catch(() => at))}`,
    backingFile,
    offset: await number('loop/offset'),
    sizeLimit: await number('loop/sizelimit'),
    size: (await number('size')) * 512,
    readOnly: (await number('ro')) === 1,
  }
}

/** major:minor of a device such as /dev/loop1, by its name in sysfs. */
export const numberOf = (device: string): Promise<string | undefined> =>
  line(`/sys/class/block/${basename(device)}/dev`)

/** The name that device-mapper has for a number major:minor; undefined where it is none of its devices. Anybody may ask. */
export const dmNameAt = (device: string): Promise<string | undefined> => line(`/sys/dev/block/${device}/dm/name`)

/** Devices under a device (`slaves`) or on top of it (`holders`), major:minor each, in no order. */
export const devicesBeside = async (device: string, side: 'slaves' | 'holders'): Promise<readonly string[]> => {
  const at = `/sys/dev/block/${device}/${side}`
  const names = await readdir(at).catch(() => [])
  return (await Promise.all(names.map(name => line(`${at}/${name}/dev`)))).filter(found => found !== undefined)
}

/** major:minor of the device that device-mapper calls so. */
export const dmNumberOf = async (name: string): Promise<string | undefined> => {
  for (const device of await readdir('/sys/class/block').catch(() => []))
    if (device.startsWith('dm-') && (await line(`/sys/class/block/${device}/dm/name`)) === name)
      return line(`/sys/class/block/${device}/dev`)
  return undefined
}

/** Has a loop device look at the size of its file again. @throws NOT_FOUND  losetup is not installed; IO */
export const refreshLoopSize = async (device: string): Promise<void> => {
  const { code, stderr } = await runTool('losetup', ['-c', device])
  if (code !== 0) throw new LiveError('IO', `losetup -c ${device}: ${stderr.trim()}`, { device, code })
}
