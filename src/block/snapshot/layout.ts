import { corrupt, unsupported } from '../../error.js'

/*
 * The persistent store of dm-snapshot, version 1. Numbers are little-endian.
 *
 *   chunk 0                header, the rest of the chunk unused
 *   chunk 1                metadata area 0: one chunk of exceptions, n = chunk bytes / 16 of them
 *   chunks 2 to n + 1      data
 *   chunk n + 2            metadata area 1, and so on: area k is chunk 1 + k * (n + 1)
 *
 *   struct disk_header                            struct disk_exception
 *    0  u32  magic       0x70416e53, "SnAp"        0  u64  old_chunk  in the origin
 *    4  u32  valid       1; 0 once invalidated     8  u64  new_chunk  in this store; 0 ends the list
 *    8  u32  version     1
 *   12  u32  chunk_size  in sectors
 *
 * See linux drivers/md/dm-snap-persistent.c.
 */

/** bytes of a sector, the unit of chunk_size and of every number in a device-mapper table */
export const SECTOR = 512
/** `SnAp`; a store whose first word is 0 is new: the kernel writes its header when it is activated */
export const SNAP_MAGIC = 0x70416e53
/** the only version there is */
export const SNAPSHOT_DISK_VERSION = 1
/** bytes of the header that hold a meaning */
export const HEADER_SIZE = 16
/** bytes of an exception */
export const EXCEPTION_SIZE = 16
/** the largest chunk read here, in sectors: 1 MiB */
export const MAX_CHUNK_SECTORS = 2048

/** struct disk_header */
export interface Header {
  readonly magic: number
  readonly valid: number
  readonly version: number
  /** sectors */
  readonly chunk_size: number
}

/** struct disk_exception: where the store keeps a chunk of the origin. Both are chunks, not bytes. */
export interface DiskException {
  readonly old_chunk: number
  readonly new_chunk: number
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/**
 * Reads the header. One with magic 0 (a new store) comes as it is, unchecked, as the kernel is about to overwrite it.
 *
 * @param bytes   the start of the store, 16 bytes or more
 * @param device  the store's name, for messages
 * @throws CORRUPT  magic or version is wrong, or chunk_size is no power of two
 * @throws UNSUPPORTED  a chunk is larger than 2048 sectors
 * @see linux drivers/md/dm-snap-persistent.c, read_header
 */
export const parseHeader = (bytes: Uint8Array, device: string): Header => {
  const view = viewOf(bytes)
  const header: Header = {
    magic: view.getUint32(0, true),
    valid: view.getUint32(4, true),
    version: view.getUint32(8, true),
    chunk_size: view.getUint32(12, true),
  }
  const { magic, version, chunk_size } = header
  if (magic === 0) return header
  if (magic !== SNAP_MAGIC) throw corrupt({ device, offset: 0, field: 'magic', expected: SNAP_MAGIC, found: magic })
  if (version !== SNAPSHOT_DISK_VERSION)
    throw corrupt({ device, offset: 8, field: 'version', expected: SNAPSHOT_DISK_VERSION, found: version })
  if (chunk_size === 0 || (chunk_size & (chunk_size - 1)) !== 0)
    throw corrupt({ device, offset: 12, field: 'chunk_size', expected: 'a power of two', found: chunk_size })
  if (chunk_size > MAX_CHUNK_SECTORS) throw unsupported('a snapshot chunk larger than 2048 sectors', device)
  return header
}

/** The header as one sector, zeros behind the struct as the kernel writes them. */
export const encodeHeader = ({ magic, valid, version, chunk_size }: Header): Uint8Array => {
  const bytes = new Uint8Array(SECTOR)
  const view = viewOf(bytes)
  view.setUint32(0, magic, true)
  view.setUint32(4, valid, true)
  view.setUint32(8, version, true)
  view.setUint32(12, chunk_size, true)
  return bytes
}

/** How many exceptions an area holds. `chunkSize` is bytes. */
export const exceptionsPerArea = (chunkSize: number): number => chunkSize / EXCEPTION_SIZE

/** The chunk of the store that holds metadata area `area`. */
export const areaChunk = (area: number, perArea: number): number => 1 + area * (perArea + 1)

/** True for a chunk of the store that holds, or one day will hold, a metadata area. */
export const isAreaChunk = (chunk: number, perArea: number): boolean => chunk % (perArea + 1) === 1

/** The byte offset in the store of the exception that was stored as number `index`, counted from 0. */
export const exceptionOffset = (index: number, chunkSize: number): number => {
  const perArea = exceptionsPerArea(chunkSize)
  return areaChunk(Math.floor(index / perArea), perArea) * chunkSize + (index % perArea) * EXCEPTION_SIZE
}

const chunkNumber = (view: DataView, at: number, device: string, offset: number, field: string): number => {
  const high = view.getUint32(at + 4, true)
  if (high >= 2 ** 21)
    throw corrupt({
      device,
      offset: offset + at,
      field,
      expected: 'a chunk below 2^53',
      found: String(view.getBigUint64(at, true)),
    })
  return high * 2 ** 32 + view.getUint32(at, true)
}

/**
 * Reads a metadata area up to its first free entry, the one whose new_chunk is 0. An area without one is full, and the
 * list goes on in the next.
 *
 * @param bytes   the area, one chunk
 * @param device  the store's name, for messages
 * @param offset  byte offset of the area in the store, for messages
 * @throws CORRUPT  a chunk number is 2^53 or more
 * @see linux drivers/md/dm-snap-persistent.c, insert_exceptions
 */
export const parseArea = (bytes: Uint8Array, device: string, offset: number): DiskException[] => {
  const view = viewOf(bytes)
  const exceptions: DiskException[] = []
  for (let at = 0; at + EXCEPTION_SIZE <= bytes.length; at += EXCEPTION_SIZE) {
    if (view.getUint32(at + 8, true) === 0 && view.getUint32(at + 12, true) === 0) break
    exceptions.push({
      old_chunk: chunkNumber(view, at, device, offset, 'old_chunk'),
      new_chunk: chunkNumber(view, at + 8, device, offset, 'new_chunk'),
    })
  }
  return exceptions
}

/** A metadata area of one chunk: the exceptions, at most as many as fit, and zeros behind them. `chunkSize` is bytes. */
export const encodeArea = (exceptions: readonly DiskException[], chunkSize: number): Uint8Array => {
  const bytes = new Uint8Array(chunkSize)
  const view = viewOf(bytes)
  for (const [index, { old_chunk, new_chunk }] of exceptions.entries()) {
    view.setBigUint64(index * EXCEPTION_SIZE, BigInt(old_chunk), true)
    view.setBigUint64(index * EXCEPTION_SIZE + 8, BigInt(new_chunk), true)
  }
  return bytes
}
