import type { Device } from '../../block/device.js'
import { cursor } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'
import type { Xattr } from '../filesystem.js'
import { parseSizeWord, type StoredAt } from './blocks.js'
import { METADATA_SIZE, type Superblock } from './layout.js'
import { joinParts, type MetadataReader } from './metadata.js'

/*
 * Id, fragment, export and xattr id tables are metadata blocks with an index of u64 positions behind them:
 *
 *   id        u32 id                                   fragment  u64 start_block · u32 size word · u32 unused
 *   export    u64 inode reference                      xattr id  u64 xattr reference · u32 count · u32 size
 *
 * xattr_id_table_start holds u64 xattr_table_start · u32 xattr_ids · u32 unused, then the index.
 * An xattr is u16 type · u16 name length · name[] · u32 value length · value[]; type bit 8: the value is a u64 reference.
 */

const PREFIXES = ['user.', 'trusted.', 'security.'] as const
/** bytes of all names of an inode together, each with a NUL, and of one value at most. @see linux include/uapi/linux/limits.h */
const XATTR_LIST_MAX = 65536
const XATTR_SIZE_MAX = 65536
/** bit of an xattr's type: the value stands elsewhere */
export const XATTR_ELSEWHERE = 0x100
/** Position in a table and byte in the expanded block, packed as the format does. */
export const parseReference = (reference: bigint): { block: number; offset: number } => ({
  block: Number(reference >> 16n),
  offset: Number(reference & 0xffffn),
})

/** Number of an xattr name's prefix, and the name behind it. */
export const splitXattrName = (name: string): { type: number; rest: string } | undefined => {
  const type = PREFIXES.findIndex(prefix => name.startsWith(prefix))
  return type < 0 ? undefined : { type, rest: name.slice(PREFIXES[type]!.length) }
}

/** Reads a whole indexed table: `count` entries of `entrySize` bytes. @throws CORRUPT */
export const readTable = async (
  image: Device,
  metadata: MetadataReader,
  table: { start: number; count: number; entrySize: number; end: number; field: string },
): Promise<Uint8Array> => {
  const { start, count, entrySize, end, field } = table
  const size = count * entrySize
  const blocks = Math.ceil(size / METADATA_SIZE)
  if (start + blocks * 8 > end)
    throw corrupt({
      device: image.name,
      offset: start,
      field,
      expected: `an index of ${blocks * 8} bytes before ${end}`,
      found: `${end - start} bytes`,
    })
  const index = cursor(await image.read(start, blocks * 8), { device: image.name, base: start })
  const parts: Uint8Array[] = []
  let before = -1
  for (let n = 0; n < blocks; n++) {
    const position = index.u64(`${field} index`)
    const length = Math.min(METADATA_SIZE, size - n * METADATA_SIZE)
    // Each block behind the one before, as the kernel wants it too: else a short index could name one block a million times.
    if (position >= start || position <= before)
      throw corrupt({
        device: image.name,
        offset: start + n * 8,
        field: `${field} index`,
        expected: before < 0 ? `below ${start}` : `between ${before} and ${start}`,
        found: position,
      })
    before = position
    parts.push((await metadata.read(position, 0, length, start, field)).bytes)
  }
  return joinParts(parts, size)
}

/** The user and group numbers that inodes point to. @throws CORRUPT */
export const readIds = async (image: Device, metadata: MetadataReader, sb: Superblock): Promise<Uint32Array> => {
  const bytes = await readTable(image, metadata, {
    start: sb.id_table_start,
    count: sb.no_ids,
    entrySize: 4,
    end: sb.bytes_used,
    field: 'id table',
  })
  const view = new DataView(bytes.buffer)
  return Uint32Array.from({ length: sb.no_ids }, (_, n) => view.getUint32(n * 4, true))
}

/** Where every fragment block stands; `length` is the block size at most, the fragment's own length shows when it is expanded. @throws CORRUPT */
export const readFragments = async (
  image: Device,
  metadata: MetadataReader,
  sb: Superblock,
): Promise<readonly StoredAt[]> => {
  if (sb.fragments === 0) return []
  const start = sb.fragment_table_start!
  const bytes = await readTable(image, metadata, {
    start,
    count: sb.fragments,
    entrySize: 16,
    end: sb.bytes_used,
    field: 'fragment table',
  })
  const at = cursor(bytes, { device: image.name, base: start })
  return Array.from({ length: sb.fragments }, (_, n) => {
    const offset = at.u64('fragment start_block')
    const word = at.u32('fragment size')
    at.u32('fragment unused')
    const { size, compressed } = parseSizeWord(word, sb.block_size, image.name, start, `size of fragment ${n}`)
    if (size === 0 || offset + size > sb.inode_table_start)
      throw corrupt({
        device: image.name,
        offset: start,
        field: `fragment ${n}`,
        expected: `bytes before the inode table at ${sb.inode_table_start}`,
        found: `${offset} to ${offset + size}`,
      })
    return { offset, size, compressed, length: sb.block_size }
  })
}

/** Extended attributes of an inode by their index. */
export interface XattrTable {
  read(index: number): Promise<readonly Xattr[]>
}

/** Opens the xattr table. @throws CORRUPT */
export const openXattrs = async (image: Device, metadata: MetadataReader, sb: Superblock): Promise<XattrTable> => {
  const start = sb.xattr_id_table_start
  const bad = (field: string, expected: string, found: string | number, offset = start ?? 0) =>
    corrupt({ device: image.name, offset, field, expected, found })
  if (start === undefined)
    return {
      read: async index => {
        throw bad('xattr index of an inode', 'no index, as there is no xattr table', index)
      },
    }
  if (start + 16 > sb.bytes_used) throw bad('xattr_id_table_start', `at most ${sb.bytes_used - 16}`, start)
  const head = cursor(await image.read(start, 16), { device: image.name, base: start })
  const tableStart = head.u64('xattr_table_start')
  const count = head.u32('xattr_ids')
  if (tableStart >= start) throw bad('xattr_table_start', `below ${start}`, tableStart)
  if (count > ((start - tableStart) / 3) * (METADATA_SIZE / 16))
    throw bad('xattr_ids', 'as many as the table can hold', count)
  const ids = await readTable(image, metadata, {
    start: start + 16,
    count,
    entrySize: 16,
    end: sb.bytes_used,
    field: 'xattr id table',
  })
  const idView = new DataView(ids.buffer)

  const readAt = async (position: { block: number; offset: number }, length: number) =>
    metadata.read(tableStart + position.block, position.offset, length, start, 'xattr')
  /** Sets that were read, as most inodes share one of a few. */
  const known = new Map<number, readonly Xattr[]>()
  const sizeOf = (bytes: Uint8Array, name: string): number => {
    const size = cursor(bytes, { device: image.name, base: tableStart }).u32('xattr value length')
    if (size > XATTR_SIZE_MAX) throw bad(`value length of ${name}`, `at most ${XATTR_SIZE_MAX}`, size, tableStart)
    return size
  }
  return {
    async read(index) {
      const again = known.get(index)
      if (again) return again
      if (index >= count) throw bad('xattr index of an inode', `below ${count}`, index)
      const entries = idView.getUint32(index * 16 + 8, true)
      let at = parseReference(idView.getBigUint64(index * 16, true))
      const follow = async (length: number): Promise<Uint8Array> => {
        const part = await readAt(at, length)
        at = { block: part.position - tableStart, offset: part.offset }
        return part.bytes
      }
      const found: Xattr[] = []
      /** values that stand elsewhere, by their reference: two names may share one */
      const elsewhere = new Map<bigint, Uint8Array>()
      let nameBytes = 0
      for (let n = 0; n < entries; n++) {
        const key = cursor(await follow(4), { device: image.name, base: tableStart })
        const type = key.u16('xattr type')
        const nameLength = key.u16('xattr name length')
        const prefix = PREFIXES[type & 0xff]
        if (!prefix) throw bad('xattr type', '0 to 2', type, tableStart)
        const name = prefix + Buffer.from(await follow(nameLength)).toString('utf8')
        nameBytes += prefix.length + nameLength + 1
        if (nameBytes > XATTR_LIST_MAX)
          throw bad('xattr names of an inode', `at most ${XATTR_LIST_MAX} bytes`, nameBytes, tableStart)
        const size = sizeOf(await follow(4), name)
        if (!(type & XATTR_ELSEWHERE)) {
          found.push({ name, value: await follow(size) })
          continue
        }
        if (size !== 8) throw bad(`reference length of ${name}`, '8', size, tableStart)
        const reference = cursor(await follow(8), { device: image.name, base: tableStart }).big64('xattr reference')
        let value = elsewhere.get(reference)
        if (!value) {
          const there = await readAt(parseReference(reference), 4)
          const length = sizeOf(there.bytes, name)
          value = (await readAt({ block: there.position - tableStart, offset: there.offset }, length)).bytes
          elsewhere.set(reference, value)
        }
        found.push({ name, value })
      }
      known.set(index, found)
      return found
    },
  }
}
