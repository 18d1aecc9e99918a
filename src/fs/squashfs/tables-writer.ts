import { unsupported } from '../../error.js'
import type { Xattr } from '../filesystem.js'
import { type MetadataPacker, metadataWriter } from './metadata-writer.js'
import { splitXattrName } from './tables.js'

/**
 * A table with its index behind it.
 *
 * @param position  where the table will stand in the image
 * @returns         its bytes, and the position of its index, which the superblock names
 */
export const indexedTable = (
  bytes: Uint8Array,
  pack: MetadataPacker,
  position: number,
): { parts: Uint8Array; indexAt: number } => {
  const table = metadataWriter(pack)
  table.write(bytes)
  const { bytes: packed, blocks } = table.finish()
  const index = BigUint64Array.from(blocks, block => BigInt(position + block))
  return { parts: Buffer.concat([packed, new Uint8Array(index.buffer)]), indexAt: position + packed.length }
}

/** Collects the xattrs of all inodes; equal sets are kept once. */
export interface XattrWriter {
  /** index of a set; undefined for an empty one, or where the image keeps none */
  index(xattrs: readonly Xattr[]): number | undefined
  /** the table as it will stand at `position`; undefined where there are no xattrs */
  finish(position: number): { readonly bytes: Uint8Array; readonly indexAt: number } | undefined
}

/** @throws UNSUPPORTED  a name outside user., trusted. and security. */
export const xattrWriter = (pack: MetadataPacker, keep: boolean): XattrWriter => {
  const table = metadataWriter(pack)
  const known = new Map<string, number>()
  const ids: { reference: bigint; count: number; size: number }[] = []
  return {
    index(xattrs) {
      if (!keep || xattrs.length === 0) return undefined
      const entries = xattrs.map(xattr => encodeXattr(xattr))
      const bytes = Buffer.concat(entries)
      const key = bytes.toString('latin1')
      const again = known.get(key)
      if (again !== undefined) return again
      const here = table.here()
      table.write(bytes)
      ids.push({
        reference: (BigInt(here.block) << 16n) | BigInt(here.offset),
        count: xattrs.length,
        size: bytes.length,
      })
      known.set(key, ids.length - 1)
      return ids.length - 1
    },
    finish(position) {
      if (ids.length === 0) return undefined
      const { bytes } = table.finish()
      const view = new DataView(new ArrayBuffer(ids.length * 16))
      for (const [n, { reference, count, size }] of ids.entries()) {
        view.setBigUint64(n * 16, reference, true)
        view.setUint32(n * 16 + 8, count, true)
        view.setUint32(n * 16 + 12, size, true)
      }
      const idTable = metadataWriter(pack)
      idTable.write(new Uint8Array(view.buffer))
      const packed = idTable.finish()
      const idsAt = position + bytes.length
      const head = new DataView(new ArrayBuffer(16 + packed.blocks.length * 8))
      head.setBigUint64(0, BigInt(position), true)
      head.setUint32(8, ids.length, true)
      for (const [n, block] of packed.blocks.entries()) head.setBigUint64(16 + n * 8, BigInt(idsAt + block), true)
      return {
        bytes: Buffer.concat([bytes, packed.bytes, new Uint8Array(head.buffer)]),
        indexAt: idsAt + packed.bytes.length,
      }
    },
  }
}

const encodeXattr = ({ name, value }: Xattr): Uint8Array => {
  const split = splitXattrName(name)
  if (!split) throw unsupported(`xattr name ${name}`, 'squashfs')
  const rest = Buffer.from(split.rest)
  const bytes = new Uint8Array(8 + rest.length + value.length)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, split.type, true)
  view.setUint16(2, rest.length, true)
  bytes.set(rest, 4)
  view.setUint32(4 + rest.length, value.length, true)
  bytes.set(value, 8 + rest.length)
  return bytes
}
