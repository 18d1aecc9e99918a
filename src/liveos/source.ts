import type { Device } from '../block/device.js'
import { openFile } from '../block/file.js'
import { isAddress, shownName } from '../block/http/shown.js'
import { isHttpUrl, openHttp } from '../block/http.js'
import { openPartition, type Partition } from '../block/partitions/partition.js'
import { type PartitionTable, readPartitions } from '../block/partitions/reader.js'
import { isLiveError, LiveError } from '../error.js'
import { detectFs, type FsType } from '../fs/detect.js'
import type { FileSystem } from '../fs/filesystem.js'
import { printableName } from '../fs/name.js'
import { openFs } from '../fs/open.js'
import { openDirectory, permissionError } from '../host/directory.js'
import { closeAll, factsOf } from '../host/folder.js'

/** A place of a source that may hold a filesystem: all of it, or a partition. */
export interface Volume {
  /** for words, such as `stick.img partition 1` */
  readonly name: string
  readonly partition: Partition | undefined
  /** undefined for a directory of this computer */
  readonly device: Device | undefined
  /** as its marks say; undefined where nothing is known */
  readonly type: FsType | undefined
  readonly fs: FileSystem | undefined
  /** why there is no `fs`, or why its kind could not be told */
  readonly failure: LiveError | undefined
}

/** What a TARGET names, opened to be read: a directory, disk, image or URL. */
export interface Source {
  /** as it was named */
  readonly name: string
  readonly kind: 'directory' | 'device' | 'image' | 'url'
  readonly device: Device | undefined
  readonly table: PartitionTable | undefined
  /** why the table could not be read */
  readonly tableFailure: LiveError | undefined
  /** the whole first where it holds a filesystem, then partitions in the order of their numbers */
  readonly volumes: readonly Volume[]
  close(): Promise<void>
}

/** Tries, and gives the error back where it is one of ours. */
const attempt = async <T>(work: () => Promise<T>): Promise<T | LiveError> => {
  try {
    return await work()
  } catch (error) {
    if (isLiveError(error)) return error
    throw error
  }
}

/** An extended partition is a list of others, and holds no filesystem. */
const emptyVolume = (name: string, device: Device, partition: Partition): Volume => ({
  name,
  partition,
  device,
  type: undefined,
  fs: undefined,
  failure: undefined,
})

const volumeOf = async (name: string, device: Device, partition: Partition | undefined): Promise<Volume> => {
  const type = await attempt(() => detectFs(device))
  if (isLiveError(type)) return { name, partition, device, type: undefined, fs: undefined, failure: type }
  if (type === undefined) return { name, partition, device, type, fs: undefined, failure: undefined }
  const fs = await attempt(() => openFs(device))
  return isLiveError(fs)
    ? { name, partition, device, type, fs: undefined, failure: fs }
    : { name, partition, device, type, fs, failure: undefined }
}

/** An opened device with all that is found on it. It is closed with the source. */
const sourceOn = async (name: string, kind: Source['kind'], device: Device): Promise<Source> => {
  const read = await attempt(() => readPartitions(device))
  const [table, tableFailure] = isLiveError(read) ? [undefined, read] : [read, undefined]
  const whole = await volumeOf(name, device, undefined)
  const volumes: Volume[] = whole.type !== undefined || !table ? [whole] : []
  for (const partition of table?.partitions ?? []) {
    if (partition.start >= device.size) continue
    // A hybrid ISO's partition 1 often is the whole of it again.
    if (whole.fs && partition.start === 0) continue
    const volume = `${name} partition ${partition.number}`
    const place = openPartition(device, partition)
    volumes.push(
      partition.role === 'extended' ? emptyVolume(volume, place, partition) : await volumeOf(volume, place, partition),
    )
  }
  return { name, kind, device, table, tableFailure, volumes, close: () => closeAll([device]) }
}

/** There is no such file: says so, and how a path inside a target is written where that was meant. */
const missing = async (name: string): Promise<LiveError> => {
  if (isAddress(name)) {
    const shown = printableName(shownName(name))
    return new LiveError('USAGE', `${shown} is no whole address: server, port or a character in it is wrong`, {
      path: shown,
    })
  }
  const data = { path: name }
  for (let at = name.length - 1; at > 0; at--) {
    if (name[at] !== ':' && name[at] !== '/') continue
    const target = name.slice(0, at)
    const facts = await factsOf(target).catch(() => undefined)
    if (!facts) continue
    const isPlace =
      name[at] === ':' || facts.kind !== 'directory' || (await factsOf(`${target}/LiveOS`).catch(() => undefined))
    if (!isPlace) break
    const number = name[at] === ':' && facts.kind !== 'directory' ? /^\d+$/.exec(name.slice(at + 1))?.[0] : undefined
    if (number !== undefined)
      return new LiveError(
        'NOT_FOUND',
        `there is no ${printableName(name)}: partition ${number} of ${printableName(target)} is named by ${printableName(target)} --partition ${number}, and only an overlay in it by --overlay ${printableName(name)}`,
        data,
      )
    const inside = `${target}:/${name.slice(at).replace(/^[:/]+/, '')}`
    return new LiveError(
      'NOT_FOUND',
      `there is no ${printableName(name)}: a path inside ${printableName(target)} is written ${printableName(inside)}`,
      data,
    )
  }
  return new LiveError('NOT_FOUND', `there is no ${printableName(name)}`, data)
}

/**
 * Opens a TARGET to look at it. What can't be read on it is told in its volumes; only a target that can't be opened throws.
 *
 * @throws NOT_FOUND, READ_ONLY, USAGE, IO, UNSUPPORTED  a server without ranges
 */
export const openSource = async (name: string, signal?: AbortSignal): Promise<Source> => {
  if (isHttpUrl(name)) {
    const device = await openHttp(name, { signal })
    return closing(device, () => sourceOn(device.name, 'url', device))
  }
  const facts = await factsOf(name).catch(async (error: unknown) => {
    throw await permissionError(name, error)
  })
  if (facts?.kind === 'directory') {
    const fs = await openDirectory(name)
    const volume = { name, partition: undefined, device: undefined, type: undefined, fs, failure: undefined }
    return {
      name,
      kind: 'directory',
      device: undefined,
      table: undefined,
      tableFailure: undefined,
      volumes: [volume],
      close: () => fs.close(),
    }
  }
  if (!facts) throw await missing(name)
  const device = await openFile(name).catch(async (error: unknown) => {
    if (isLiveError(error) && error.code === 'READ_ONLY') throw await permissionError(name, error)
    if (isLiveError(error) && error.code === 'USAGE')
      throw new LiveError('USAGE', `${printableName(name)} is neither a directory nor a file nor a block device`, {
        path: name,
      })
    throw error
  })
  return closing(device, () => sourceOn(name, facts.kind === 'file' ? 'image' : 'device', device))
}

const closing = async <T>(device: Device, work: () => Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    await device.close()
    throw error
  }
}
