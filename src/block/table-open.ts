import { isLiveError, LiveError, unsupported } from '../error.js'
import type { Device } from './device.js'
import { errorTarget } from './error-target.js'
import { linear, type Segment } from './linear.js'
import { mirror, readMirrorLog } from './mirror.js'
import { MAX_CHUNK_SECTORS, SECTOR } from './snapshot/layout.js'
import { type SnapshotDevice, snapshot } from './snapshot/snapshot.js'
import { readStore } from './snapshot/store.js'
import type { NamedTable, TableLine } from './table.js'
import { type GraphOptions, graphOf, type TableNode } from './table-graph.js'
import { type MirrorTarget, type SnapshotTarget, targetDevices, withDevices } from './table-target.js'
import { zero } from './zero.js'

/** The devices of a set of tables, opened to be read. */
export interface OpenTables {
  /** by the names of their tables */
  readonly devices: ReadonlyMap<string, Device>
  /** closes the devices that came from outside of the set */
  close(): Promise<void>
}

/** Sectors that the kernel chooses for a store that is new, where the table leaves it to the header. */
const DEFAULT_CHUNK_SECTORS = 32

/** Where a line stands, and an error of it. */
interface Place {
  readonly table: string
  /** from 1 */
  readonly line: number
}

const wrong = ({ table, line }: Place, sentence: string, data: Record<string, string | number> = {}): LiveError =>
  new LiveError('USAGE', `${table}, line ${line}: ${sentence}`, { table, line, ...data })

const sectorsOf = ({ size }: Device): number => Math.floor(size / SECTOR)

/** @throws USAGE  the device ends before what a line wants of it */
const checkRoom = (place: Place, device: Device, startSector: number, sectorCount: number): void => {
  const sectors = sectorsOf(device)
  if (startSector + sectorCount > sectors)
    throw wrong(
      place,
      `${device.name} has ${sectors} sectors, and this line needs ${sectorCount} from sector ${startSector} on`,
      { device: device.name, expected: startSector + sectorCount, found: sectors },
    )
}

type Line<T> = T & { readonly startSector: number; readonly sectorCount: number }

/** Snapshots by store, origin and chunk size: several lines may show parts of one, whose list is read once. */
type Snapshots = Map<Device, Map<Device, Map<number, Promise<SnapshotDevice>>>>

const inMap = <K, V>(map: Map<K, V>, key: K, make: () => V): V => {
  const known = map.get(key) ?? make()
  map.set(key, known)
  return known
}

const openSnapshot = async (
  line: Line<SnapshotTarget<Device>>,
  place: Place,
  snapshots: Snapshots,
): Promise<Segment> => {
  const { origin, cow, store: kind, chunkSectors, startSector, sectorCount } = line
  if (kind === 'N')
    throw unsupported(
      'non-persistent snapshot store',
      `${place.table}, line ${place.line}`,
      'a store of kind N keeps the list of its chunks in the memory of the kernel, so nobody else can tell what it shows',
    )
  if (chunkSectors > MAX_CHUNK_SECTORS) throw unsupported('a snapshot chunk larger than 2048 sectors', place.table)
  // A snapshot does not subtract the start of its line: its sectors are those of the origin.
  checkRoom(place, origin, startSector, sectorCount)
  const tableChunkSectors = chunkSectors === 0 ? DEFAULT_CHUNK_SECTORS : chunkSectors
  const open = async (): Promise<SnapshotDevice> =>
    snapshot(origin, cow, { store: await readStore(cow, { originSize: origin.size, tableChunkSectors }) })
  const ofOrigin = inMap(
    inMap(snapshots, cow, () => new Map()),
    origin,
    () => new Map<number, Promise<SnapshotDevice>>(),
  )
  const device = await inMap(ofOrigin, tableChunkSectors, open)
  return { device, deviceOffset: startSector * SECTOR, length: sectorCount * SECTOR }
}

const openMirror = async (line: Line<MirrorTarget<Device>>, place: Place, name: string): Promise<Segment> => {
  const { log, legs, sectorCount } = line
  for (const { device, deviceSector } of legs) checkRoom(place, device, deviceSector, sectorCount)
  const regionCount = Math.ceil(sectorCount / log.regionSectors)
  // Otherwise the kernel takes the log for new, and makes the legs alike from the first one.
  const known = log.device && log.sync === undefined ? await readMirrorLog(log.device, regionCount) : () => false
  const size = sectorCount * SECTOR
  const device = mirror(
    legs.map(leg => ({ device: leg.device, deviceOffset: leg.deviceSector * SECTOR })),
    {
      size,
      regionSize: log.regionSectors * SECTOR,
      inSync: log.sync === 'nosync' ? () => true : known,
      name,
    },
  )
  return { device, length: size }
}

const openLine = async (line: TableLine<Device>, place: Place, snapshots: Snapshots): Promise<Segment> => {
  const { startSector, sectorCount } = line
  const length = sectorCount * SECTOR
  switch (line.type) {
    case 'linear':
      checkRoom(place, line.device, line.deviceSector, sectorCount)
      return { device: line.device, deviceOffset: line.deviceSector * SECTOR, length }
    case 'zero':
      return { device: zero(length), length }
    case 'error':
      return { device: errorTarget(length, `error line of ${place.table}`), length }
    case 'snapshot':
    case 'snapshot-merge':
      return openSnapshot(line, place, snapshots)
    case 'snapshot-origin':
      // Its start is not subtracted either.
      checkRoom(place, line.device, startSector, sectorCount)
      return { device: line.device, deviceOffset: startSector * SECTOR, length }
    case 'mirror':
      return openMirror(line, place, `mirror of ${place.table}`)
  }
}

/** What stands for a device while a graph is opened. */
const opener = (openDevice: (word: string) => Promise<Device>) => {
  const outside = new Map<string, Promise<Device>>()
  const inside = new Map<TableNode, Promise<Device>>()
  const snapshots: Snapshots = new Map()

  const openWord = (word: string, { table, line }: Place): Promise<Device> => {
    const known = outside.get(word) ?? openDevice(word)
    outside.set(word, known)
    return known.catch((error: unknown) => {
      if (!isLiveError(error)) throw error
      const { code, message, data } = error
      throw new LiveError(code, `${table}, line ${line}: ${word}: ${message}`, { ...data, table, line }, error)
    })
  }
  const openLines = async ({ name, lines }: TableNode): Promise<Device> => {
    const segments: Segment[] = []
    for (const [index, line] of lines.entries()) {
      const place = { table: name, line: index + 1 }
      const devices = new Map<TableNode | string, Device>()
      for (const named of targetDevices<TableNode | string>(line))
        devices.set(named, await (typeof named === 'string' ? openWord(named, place) : openNode(named)))
      const opened = withDevices<TableNode | string, Device>(line, named => devices.get(named)!)
      segments.push(await openLine({ ...line, ...opened }, place, snapshots))
    }
    return linear(segments, name)
  }
  const openNode = (node: TableNode): Promise<Device> => {
    const known = inside.get(node) ?? openLines(node)
    inside.set(node, known)
    return known
  }
  const close = async (): Promise<void> => {
    const opened = await Promise.allSettled(outside.values())
    const devices = opened.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
    const closed = await Promise.allSettled(devices.map(device => device.close()))
    for (const result of closed) if (result.status === 'rejected') throw result.reason
  }
  return { openNode, close }
}

/**
 * Opens the devices that a set of tables describes, to be read: what a kernel that activated them now would show. A
 * snapshot-merge shows what it is merging, a snapshot-origin its origin.
 *
 * @param openDevice  opens a device that is none of the tables, by the word that a table has for it; closed with the result
 * @throws USAGE  as `graphOf`, or a device is shorter than a line needs
 * @throws UNSUPPORTED  as `graphOf`, or a store of kind N; CORRUPT  a store or log is damaged; whatever `openDevice` throws
 */
export const openTables = async (
  tables: readonly NamedTable[],
  openDevice: (word: string) => Promise<Device>,
  options: GraphOptions = {},
): Promise<OpenTables> => {
  const nodes = graphOf(tables, options)
  const { openNode, close } = opener(openDevice)
  try {
    const devices = new Map<string, Device>()
    for (const [name, node] of nodes) devices.set(name, await openNode(node))
    return { devices, close }
  } catch (error) {
    await close().catch(() => undefined)
    throw error
  }
}
