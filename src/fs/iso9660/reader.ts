import { cutShort } from '../../block/cut-short.js'
import type { Device } from '../../block/device.js'
import { linear } from '../../block/linear.js'
import type { Place } from '../../bytes/cursor.js'
import { LiveError, unsupported } from '../../error.js'
import type { Finding } from '../../finding.js'
import { type MappedFileSystem, type Run, type Stat, splitPath } from '../filesystem.js'
import { decodeName } from '../name.js'
import { parseRecords, type TreeFormat, type TreeKind } from './directory.js'
import { SECTOR, type VolumeDescriptor } from './layout.js'
import { openMetadata } from './metadata.js'
import { dataStart, type Node } from './node.js'
import { type AreaReader, parseStart, readEntries, type SuspStart, usesRockRidge } from './susp.js'
import { openTree, type Tree } from './tree.js'
import { readVolume, type Volume, volumeLabel, volumeUuid } from './volume.js'

/** An open ISO 9660 image. */
export interface Iso9660 extends MappedFileSystem {
  readonly type: 'iso9660'
  readonly image: Device
  /** which of the image's trees this is */
  readonly tree: TreeKind
  /** the descriptor of that tree */
  readonly descriptor: VolumeDescriptor
  /** bytes that the volume says it has; an image may be longer, or cut short */
  readonly volumeSize: number
  /** what was seen at opening: that the image ends before the volume does */
  findings(): readonly Finding[]
  /**
   * The paths of all regular files of which the first byte of the data is at one of these bytes of the device: the first
   * path for each that is found, level by level. Reads every directory where one is not found.
   *
   * @throws CORRUPT, UNSUPPORTED, IO
   */
  filesAt(starts: ReadonlySet<number>): Promise<ReadonlyMap<number, { readonly path: string; readonly size: number }>>
}

export interface Iso9660Options {
  /** the tree to read, where not the one that Linux takes: Rock Ridge, else Joliet, else the primary names */
  readonly tree?: TreeKind
}

/**
 * Opens the tree of an ISO 9660 image.
 *
 * @throws CORRUPT, IO
 * @throws UNSUPPORTED  High Sierra, directories of more than 64 MiB
 * @throws NOT_FOUND    it has no such tree
 * @see linux fs/isofs
 */
export const openIso9660 = async (image: Device, options: Iso9660Options = {}): Promise<Iso9660> => {
  const volume = await readVolume(image)
  const readArea = openMetadata(image)
  const { descriptor, format, root, tree } = await chooseTree(image, volume, readArea, options.tree)

  const notFound = (path: string, what = 'file or directory') =>
    new LiveError('NOT_FOUND', `${image.name}: no ${what} ${path}`, { device: image.name, path })
  const lookup = async (path: string): Promise<Node> => {
    let node = root
    for (const name of splitPath(path)) {
      if (!node.directory) throw notFound(path)
      const next = (await tree.directory(node)).byName.get(name)
      if (!next) throw notFound(path)
      node = next
    }
    if (node.fault) throw node.fault
    return node
  }
  const statOf = async (node: Node): Promise<Stat> => {
    if (!node.directory || node.directory.length !== undefined) return node.stat
    // The record stands for a directory that was moved: what is known of it stands in the directory itself.
    const { self } = await tree.directory(node)
    return { ...self.stat, inode: node.stat.inode }
  }
  const runsOf = (node: Node, path: string): readonly Run[] => {
    const where = `${path} in ${image.name}`
    if (node.obstacle === 'zisofs') throw unsupported('zisofs', where)
    if (node.obstacle === 'sparse files of Rock Ridge') throw unsupported('sparse files of Rock Ridge', where)
    if (node.obstacle === 'interleaved files') throw unsupported('interleaved files', where)
    const runs: Run[] = []
    let offset = 0
    for (const { start, length } of node.sections) {
      if (start + length > image.size)
        throw cutShort({
          device: image.name,
          offset: node.place.base + 2,
          field: `extent of ${path}`,
          size: image.size,
          needed: start + length,
        })
      const last = runs.at(-1)
      if (last && last.start + last.length === start) runs[runs.length - 1] = { ...last, length: last.length + length }
      else runs.push({ offset, length, start })
      offset += length
    }
    return runs
  }
  const fileOf = async (path: string): Promise<Node> => {
    const node = await lookup(path)
    if (node.stat.kind !== 'file') throw notFound(path, 'regular file')
    return node
  }

  const volumeSize = volume.primary.volume_space_size * volume.primary.logical_block_size
  const beyond: Finding = {
    code: 'ISO_BEYOND_DEVICE',
    severity: 'error',
    where: image.name,
    message: `${image.name} is cut short: the volume has ${volumeSize} bytes, and there are only its first ${image.size} bytes`,
    expected: volumeSize,
    found: image.size,
    remedy: 'copy or download it again',
  }

  return {
    name: image.name,
    type: 'iso9660',
    label: volumeLabel(volume),
    uuid: volumeUuid(volume),
    image,
    tree: format.kind,
    descriptor,
    volumeSize,
    findings: () => (volumeSize > image.size ? [beyond] : []),
    stat: async path => statOf(await lookup(path)),
    async list(path) {
      const node = await lookup(path)
      if (!node.directory) throw notFound(path, 'directory')
      const { nodes } = await tree.directory(node)
      return nodes.map(({ name, stat: { kind, inode } }) => ({ name, kind, inode }))
    },
    async readLink(path) {
      const { target } = await lookup(path)
      if (!target) throw notFound(path, 'symlink')
      return decodeName(target)
    },
    async open(path) {
      const runs = runsOf(await fileOf(path), path)
      const segments = runs.map(({ start, length }) => ({ device: image, deviceOffset: start, length }))
      return linear(segments, `${path} in ${image.name}`)
    },
    extents: async path => runsOf(await fileOf(path), path),
    // A volume is written once and without gaps that could be used.
    async *freeRuns() {},
    async filesAt(starts) {
      const found = new Map<number, { path: string; size: number }>()
      let level: { node: Node; path: string }[] = [{ node: root, path: '' }]
      while (level.length > 0 && found.size < starts.size) {
        const next: typeof level = []
        for (const { node, path } of level)
          for (const child of (await tree.directory(node)).nodes) {
            const at = `${path}/${child.name}`
            const start = child.sections[0]?.start
            if (child.directory) next.push({ node: child, path: at })
            else if (start !== undefined && starts.has(start) && !found.has(start))
              found.set(start, { path: at, size: child.sections.reduce((sum, { length }) => sum + length, 0) })
          }
        level = next
      }
      return found
    },
    async close() {},
  }
}

interface Choice {
  readonly descriptor: VolumeDescriptor
  readonly format: TreeFormat
  readonly root: Node
  readonly tree: Tree
}

/** Reads the root of the wanted tree, or of the one that Linux would take. */
const chooseTree = async (
  image: Device,
  volume: Volume,
  readArea: AreaReader,
  wanted: TreeKind | undefined,
): Promise<Choice> => {
  const open = async (kind: TreeKind, descriptor: VolumeDescriptor, susp: SuspStart | undefined): Promise<Choice> => {
    const blockSize = descriptor.logical_block_size
    const record = descriptor.root_directory_record
    const extent = { start: dataStart(record, blockSize), length: record.size }
    const format: TreeFormat = { device: image.name, kind, blockSize, susp }
    const tree = openTree(image, extent, format, readArea)
    const root = await tree.root()
    return { descriptor, format, tree, root: { ...root, directory: extent } }
  }
  const none = (kind: string) =>
    new LiveError('NOT_FOUND', `${image.name}: it has no ${kind} tree`, { device: image.name, tree: kind })
  const { primary, joliet } = volume
  if (wanted === 'primary') return open('primary', primary, undefined)
  if (wanted === 'joliet') {
    if (!joliet) throw none('Joliet')
    return open('joliet', joliet, undefined)
  }
  const susp = await readSusp(image, primary, readArea)
  if (susp) {
    const choice = await open('rockridge', primary, susp)
    // There are discs with an empty primary tree and a good one of Joliet; the kernel knows them too.
    const isEmpty = wanted === undefined && joliet && (await choice.tree.directory(choice.root)).nodes.length === 0
    if (!isEmpty) return choice
  }
  if (wanted === 'rockridge') throw none('Rock Ridge')
  return joliet ? open('joliet', joliet, undefined) : open('primary', primary, undefined)
}

/** Where SUSP entries start, where the root's own record says that Rock Ridge is in use. */
const readSusp = async (
  image: Device,
  { root_directory_record: record, logical_block_size: blockSize }: VolumeDescriptor,
  readArea: AreaReader,
): Promise<SuspStart | undefined> => {
  const place: Place = { device: image.name, base: dataStart(record, blockSize) }
  const from: Place = { device: image.name, base: record.offset }
  const sector = await readArea(place.base, Math.min(SECTOR, record.size), 'root_directory_record extent', from)
  const own = parseRecords(sector, place, blockSize)[0]!
  const susp = parseStart(own.system_use)
  if (!susp) return undefined
  const { entries, fault } = await readEntries(own, susp.root, blockSize, image.name, readArea)
  if (fault) throw fault
  return usesRockRidge(entries) ? susp : undefined
}
