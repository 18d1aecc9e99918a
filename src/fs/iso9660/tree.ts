import type { Device } from '../../block/device.js'
import { corrupt, unsupported } from '../../error.js'
import { type Directory, parseRecords, readDirectory, type TreeFormat } from './directory.js'
import { SECTOR } from './layout.js'
import type { Node } from './node.js'
import type { AreaReader } from './susp.js'

/** What is read of a directory at most: half a million names. */
const MAX_DIRECTORY = 64 << 20
/** Half of the longest path that Linux takes, as each name has a slash. */
const MAX_DEPTH = 2048
/** Nothing in a right image is metadata of two directories; writers get some grace all the same. */
const GRACE = 4
/** Bytes that the directories kept in memory may take: about a hundred thousand names. */
const KEPT_BYTES = 96 << 20
/** About what a name takes in memory beyond its record. */
const NODE_BYTES = 600

/** The directories of one tree. */
export interface Tree {
  /** what the root's own record tells */
  root(): Promise<Node>
  /** the names of a directory. @throws CORRUPT, UNSUPPORTED, IO */
  directory(node: Node): Promise<Directory>
}

/** What is known of a directory by its extent: the one that names it, how deep it lies, whether its size was counted. */
interface Known {
  readonly parent: number
  readonly depth: number
  counted: boolean
}

interface Kept {
  readonly directory: Promise<Directory>
  bytes: number
}

/**
 * Opens the directories below a root. Each has one name, so that every walk ends; all together hold no more bytes than
 * the device a few times, so that it ends soon.
 *
 * @param root  the root's extent, in bytes
 */
export const openTree = (
  device: Device,
  root: { readonly start: number; readonly length: number },
  format: TreeFormat,
  readArea: AreaReader,
): Tree => {
  const known = new Map<number, Known>([[root.start, { parent: -1, depth: 0, counted: false }]])
  const kept = new Map<number, Kept>()
  const from = { device: device.name, base: root.start }
  let keptBytes = 0
  let allowed = device.size * GRACE

  const learn = (directory: Directory, parent: number): void => {
    const depth = known.get(parent)!.depth + 1
    const here = new Set<number>()
    for (const node of directory.nodes) {
      if (!node.directory || node.directory.length === 0) continue
      const { start } = node.directory
      const bad = (expected: string, found: string | number) =>
        corrupt({
          device: device.name,
          offset: node.place.base,
          field: `directory ${JSON.stringify(node.name)}`,
          expected,
          found,
        })
      if (here.has(start) || (known.get(start)?.parent ?? parent) !== parent)
        throw bad('a directory with one name', 'one that has another name, or holds this one')
      if (depth > MAX_DEPTH) throw bad(`at most ${MAX_DEPTH} directories in each other`, depth)
      here.add(start)
    }
    for (const start of here) if (!known.has(start)) known.set(start, { parent, depth, counted: false })
  }

  const lengthOf = async (node: Node): Promise<number> => {
    const { start, length } = node.directory!
    if (length !== undefined) return length
    const first = await readArea(start, Math.min(SECTOR, Math.max(0, device.size - start)), 'CL block', node.place)
    return parseRecords(first, { device: device.name, base: start }, format.blockSize)[0]!.size
  }

  const load = async (node: Node): Promise<{ directory: Directory; bytes: number }> => {
    const { start } = node.directory!
    const length = await lengthOf(node)
    if (length > MAX_DIRECTORY) throw unsupported('a directory of more than 64 MiB', device.name)
    const about = known.get(start)
    const first = about?.counted === false
    let bytes = 0
    const counted: AreaReader = async (offset, size, field, place) => {
      bytes += size
      if (first && bytes > allowed)
        throw corrupt({
          device: device.name,
          offset: node.place.base,
          field: 'directories',
          expected: 'each in bytes of its own',
          found: 'more than the device holds',
        })
      return readArea(offset, size, field, place)
    }
    const content = await counted(start, length, 'directory extent', node.place)
    const directory = await readDirectory(content, start, format, counted)
    learn(directory, start)
    if (first && !about.counted) {
      about.counted = true
      allowed -= bytes
    }
    return { directory, bytes: bytes + directory.nodes.length * NODE_BYTES }
  }

  const keep = (start: number, node: Node): Promise<Directory> => {
    const loaded = load(node)
    const entry: Kept = { directory: loaded.then(({ directory }) => directory), bytes: 0 }
    kept.set(start, entry)
    loaded.then(
      ({ bytes }) => {
        if (kept.get(start) !== entry) return
        entry.bytes = bytes
        keptBytes += bytes
        for (const [oldest, { bytes: freed }] of kept) {
          if (keptBytes <= KEPT_BYTES || oldest === start) break
          kept.delete(oldest)
          keptBytes -= freed
        }
      },
      () => {
        if (kept.get(start) === entry) kept.delete(start)
      },
    )
    return entry.directory
  }

  const rootNode: Node = {
    name: '',
    stat: {
      kind: 'directory',
      inode: 0,
      mode: 0,
      uid: 0,
      gid: 0,
      size: 0,
      mtime: 0,
      mtimeNanoseconds: 0,
      linkCount: 1,
    },
    target: undefined,
    sections: [],
    obstacle: undefined,
    fault: undefined,
    directory: root,
    place: from,
  }
  const directory = async (node: Node): Promise<Directory> => {
    if (node.fault) throw node.fault
    const { start, length } = node.directory!
    // Linux shows such a one as empty; only the root must tell of itself.
    if (length === 0 && node !== rootNode) return { nodes: [], byName: new Map(), self: node }
    const entry = kept.get(start)
    if (!entry) return keep(start, node)
    // A Map iterates in order of insertion, so its first key is the directory not used for longest.
    kept.delete(start)
    kept.set(start, entry)
    return entry.directory
  }

  return {
    root: async () => (await directory(rootNode)).self,
    directory,
  }
}
