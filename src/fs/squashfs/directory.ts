import { cursor } from '../../bytes/cursor.js'
import { corrupt } from '../../error.js'
import type { FileKind } from '../filesystem.js'
import { kindOfType } from './inode.js'

/*
 * A listing is groups: u32 count-1 · u32 start_block · u32 inode_number, then up to 256 entries of
 * u16 offset · i16 inode number minus the group's · u16 basic type · u16 length-1 · name[].
 * All entries of a group have their inodes in the one metadata block at start_block of the inode table.
 */

/** bytes that a directory's file_size counts beyond its listing (for `.` and `..`) */
export const LISTING_EXTRA = 3
export const GROUP_ENTRIES = 256

/** A name in a listing and where its inode is: block in the inode table, byte in the expanded block. */
export interface Listed {
  readonly name: Uint8Array
  readonly kind: FileKind
  readonly inode: number
  readonly startBlock: number
  readonly offset: number
}

const isBadName = (name: Uint8Array): boolean =>
  name.includes(0x2f) ||
  name.includes(0) ||
  (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e)))

/**
 * Reads a listing.
 *
 * @param bytes  the whole listing, file_size - 3 bytes
 * @throws CORRUPT  also for names that would lead out of the directory: `/`, NUL, `.`, `..`
 * @see linux fs/squashfs/squashfs_fs.h, struct squashfs_dir_header, squashfs_dir_entry
 */
export const parseListing = (bytes: Uint8Array, device: string, offset: number): readonly Listed[] => {
  const at = cursor(bytes, { device, base: offset })
  const found: Listed[] = []
  while (at.remaining > 0) {
    const count = at.u32('directory count') + 1
    if (count > GROUP_ENTRIES)
      throw corrupt({ device, offset, field: 'directory count', expected: `at most ${GROUP_ENTRIES}`, found: count })
    const startBlock = at.u32('directory start_block')
    const first = at.u32('directory inode_number')
    for (let n = 0; n < count; n++) {
      const inodeOffset = at.u16('directory entry offset')
      const delta = (at.u16('directory entry inode_number') << 16) >> 16
      const type = at.u16('directory entry type')
      const kind = type >= 1 && type <= 7 ? kindOfType(type) : undefined
      if (!kind) throw corrupt({ device, offset, field: 'directory entry type', expected: '1 to 7', found: type })
      const length = at.u16('directory entry size') + 1
      if (length > 256)
        throw corrupt({ device, offset, field: 'directory entry size', expected: 'at most 256', found: length })
      const name = at.bytes(length, 'directory entry name')
      if (isBadName(name))
        throw corrupt({
          device,
          offset,
          field: 'directory entry name',
          expected: 'a name',
          found: JSON.stringify(Buffer.from(name).toString('latin1')),
        })
      found.push({ name, kind, inode: first + delta, startBlock, offset: inodeOffset })
    }
  }
  return found
}

/** A listing as bytes; entries must stand in the order of their names' bytes. */
export const encodeListing = (entries: readonly (Listed & { readonly type: number })[]): Uint8Array => {
  const groups: (typeof entries)[] = []
  for (let at = 0; at < entries.length; ) {
    const head = entries[at]!
    let end = at + 1
    for (; end < entries.length && end - at < GROUP_ENTRIES; end++) {
      const delta = entries[end]!.inode - head.inode
      if (entries[end]!.startBlock !== head.startBlock || delta < -32768 || delta > 32767) break
    }
    groups.push(entries.slice(at, end))
    at = end
  }
  const size = groups.reduce(
    (sum, group) => sum + 12 + group.reduce((names, entry) => names + 8 + entry.name.length, 0),
    0,
  )
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const group of groups) {
    const head = group[0]!
    view.setUint32(at, group.length - 1, true)
    view.setUint32(at + 4, head.startBlock, true)
    view.setUint32(at + 8, head.inode, true)
    at += 12
    for (const entry of group) {
      view.setUint16(at, entry.offset, true)
      view.setInt16(at + 2, entry.inode - head.inode, true)
      view.setUint16(at + 4, entry.type, true)
      view.setUint16(at + 6, entry.name.length - 1, true)
      bytes.set(entry.name, at + 8)
      at += 8 + entry.name.length
    }
  }
  return bytes
}
