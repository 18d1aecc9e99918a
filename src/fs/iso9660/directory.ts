import type { Place } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'
import { type DirectoryRecord, FLAG, isDots, parseRecord, SECTOR } from './layout.js'
import { jolietName, primaryName } from './names.js'
import { type Node, nodeOf } from './node.js'
import { parseRockRidge } from './rock-ridge.js'
import { type AreaReader, readEntries, type SuspStart } from './susp.js'

/** How the names of a tree are kept. */
export type TreeKind = 'rockridge' | 'joliet' | 'primary'

/** What reading a directory of a tree takes. */
export interface TreeFormat {
  readonly device: string
  readonly kind: TreeKind
  readonly blockSize: number
  /** of a Rock Ridge tree */
  readonly susp: SuspStart | undefined
}

/** A directory as read. */
export interface Directory {
  /** in the order of the medium */
  readonly nodes: readonly Node[]
  readonly byName: ReadonlyMap<string, Node>
  /** what the directory's own record tells */
  readonly self: Node
}

/**
 * The records of a directory, in their order.
 *
 * @param bytes  all of it; `place` is of the first byte
 * @throws CORRUPT  also where a record crosses a sector, or the first is not the directory's own
 */
export const parseRecords = (bytes: Uint8Array, place: Place, blockSize: number): readonly DirectoryRecord[] => {
  const records: DirectoryRecord[] = []
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] === 0) {
      at = (Math.floor(at / blockSize) + 1) * blockSize
      continue
    }
    const sectorEnd = (Math.floor((place.base + at) / SECTOR) + 1) * SECTOR - place.base
    const record = parseRecord(bytes.subarray(0, sectorEnd), at, place)
    if (records.length === 0 && !(isDots(record) && record.name[0] === 0))
      throw corrupt({
        device: place.device,
        offset: record.offset + 33,
        field: 'first record of a directory',
        expected: 'its own (name 0)',
        found: JSON.stringify(Buffer.from(record.name).toString('latin1')),
      })
    records.push(record)
    at += record.length
  }
  if (records.length === 0)
    throw corrupt({
      device: place.device,
      offset: place.base,
      field: 'first record of a directory',
      expected: 'its own (name 0)',
      found: 'none',
    })
  return records
}

const sameName = (a: DirectoryRecord, b: DirectoryRecord): boolean => Buffer.compare(a.name, b.name) === 0

/** The records of files in several sections put together; files of other systems that belong to a file (associated) left out. */
function* filesOf(records: readonly DirectoryRecord[], device: string): Iterable<readonly DirectoryRecord[]> {
  let open: DirectoryRecord[] = []
  for (const record of records) {
    if (isDots(record) || record.flags & FLAG.associated) continue
    const [first] = open
    if (first && !sameName(first, record))
      throw corrupt({
        device,
        offset: record.offset + 33,
        field: 'name of a further section of a file',
        expected: JSON.stringify(Buffer.from(first.name).toString('latin1')),
        found: JSON.stringify(Buffer.from(record.name).toString('latin1')),
      })
    open.push(record)
    if (record.flags & FLAG.multiExtent) continue
    yield open
    open = []
  }
  if (open.length > 0)
    throw corrupt({
      device,
      offset: open[0]!.offset + 25,
      field: 'directory record flags',
      expected: 'a last section of the file',
      found: 'none',
    })
}

/**
 * Reads the names of a directory.
 *
 * @param bytes  all of it
 * @param start  byte offset on the device
 * @throws CORRUPT, IO
 */
export const readDirectory = async (
  bytes: Uint8Array,
  start: number,
  format: TreeFormat,
  readArea: AreaReader,
): Promise<Directory> => {
  const { device, blockSize } = format
  const records = parseRecords(bytes, { device, base: start }, blockSize)
  const self = await readSelf(records[0]!, start, format, readArea)
  const nodes: Node[] = []
  const byName = new Map<string, Node>()
  for (const file of filesOf(records, device)) {
    const node = await readNode(file, format, readArea)
    if (!node) continue
    if (byName.has(node.name))
      throw corrupt({
        device,
        offset: node.place.base,
        field: 'name of a directory record',
        expected: 'a name that no other record of the directory has',
        found: JSON.stringify(node.name),
      })
    nodes.push(node)
    byName.set(node.name, node)
  }
  return { nodes, byName, self }
}

const readSelf = async (
  record: DirectoryRecord,
  start: number,
  { susp, blockSize, device }: TreeFormat,
  readArea: AreaReader,
): Promise<Node> => {
  // What leads elsewhere means nothing in the directory's own record.
  const own = { ...record, extent: start / blockSize, ext_attr_length: 0 }
  if (!susp) return nodeOf('', [own], undefined, blockSize, device)
  const { entries, fault } = await readEntries(own, ownSkip(record, susp), blockSize, device, readArea)
  if (fault) throw fault
  const rock = parseRockRidge({ entries: entries.filter(({ signature }) => /^(PX|TF)$/.test(signature)), fault })
  if (rock.fault) throw rock.fault
  return nodeOf('', [own], rock, blockSize, device)
}

const ownSkip = (record: DirectoryRecord, susp: SuspStart): number => {
  // only the root's own record has SP
  const at = record.system_use.subarray(susp.root)
  return at[0] === 0x53 && at[1] === 0x50 ? susp.root : susp.others
}

const readNode = async (
  file: readonly DirectoryRecord[],
  { kind, susp, blockSize, device }: TreeFormat,
  readArea: AreaReader,
): Promise<Node | undefined> => {
  const record = file[0]!
  const namePlace: Place = { device, base: record.offset + 33 }
  if (!susp) {
    const name = kind === 'joliet' ? jolietName(record.name, namePlace) : primaryName(record.name, namePlace)
    return nodeOf(name, file, undefined, blockSize, device)
  }
  const rock = parseRockRidge(await readEntries(record, susp.others, blockSize, device, readArea))
  if (rock.moved) return undefined
  return nodeOf(rock.name ?? primaryName(record.name, namePlace), file, rock, blockSize, device)
}
