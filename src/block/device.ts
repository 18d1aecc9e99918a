import { assert, LiveError } from '../error.js'

/** Bytes at offsets. `size` and every offset and length are bytes. */
export interface Device {
  /** what it is called in messages, such as "overlay of sdb1" */
  readonly name: string
  readonly size: number
  /**
   * Reads exactly `length` bytes. They are the caller's own: nobody changes them later, and changing them changes nothing here.
   *
   * @throws OUT_OF_RANGE  the range leaves the device
   * @throws IO            the medium can't be read
   */
  read(offset: number, length: number): Promise<Uint8Array>
  /**
   * Closes what this device opened itself, such as its file. A device laid over others (linear, slice, snapshot, cache)
   * leaves those open: several devices may share one, so who opened it closes it.
   */
  close(): Promise<void>
}

/** A Device that can be changed. What was written is on the medium only after `flush`. */
export interface WritableDevice extends Device {
  /** @throws OUT_OF_RANGE, NO_SPACE, IO */
  write(offset: number, bytes: Uint8Array): Promise<void>
  flush(): Promise<void>
}

/** A run of bytes that all hold data, or that are all known to be zero. */
export interface Extent {
  readonly offset: number
  readonly length: number
  readonly kind: 'data' | 'hole'
}

/** A Device that knows its holes. Extents come in order, touch each other and cover the asked range; a `data` extent may still hold zeros. */
export interface SparseDevice extends Device {
  extents(offset: number, length: number): AsyncIterable<Extent>
}

/** True where the device knows its holes. */
export const isSparse = (device: Device): device is SparseDevice => 'extents' in device

/** The extents of any device: one data extent where it knows no holes. */
export async function* extentsOf(device: Device, offset = 0, length = device.size - offset): AsyncIterable<Extent> {
  if (length === 0) return
  if (isSparse(device)) yield* device.extents(offset, length)
  else yield { offset, length, kind: 'data' }
}

/** Bytes of a device that are no holes: all of them where it knows none. @throws  as its extents */
export const dataLength = async (device: Device): Promise<number> => {
  let bytes = 0
  for await (const { kind, length } of extentsOf(device)) if (kind === 'data') bytes += length
  return bytes
}

/** A Device that reads into memory that it is given, for who reads much and takes the same memory again. */
export interface PlacingDevice extends Device {
  /** Fills `target` with the bytes from `offset` on; where it throws, `target` holds anything. @throws  as `read` */
  readInto(offset: number, target: Uint8Array): Promise<void>
}

/** True where the device reads into memory that it is given. */
export const canReadInto = (device: Device): device is PlacingDevice => 'readInto' in device

/** Fills `target` from any device. @throws  as `read` */
export const readInto = async (device: Device, offset: number, target: Uint8Array): Promise<void> => {
  if (canReadInto(device)) return device.readInto(offset, target)
  const bytes = await device.read(offset, target.length)
  // The target was not cleared first, so a short read would hand out old memory.
  assert(bytes.length === target.length, `${device.name} read ${bytes.length} bytes for ${target.length}`)
  target.set(bytes)
}

/** Checks a range once, at the seam: every Device calls it first. @throws OUT_OF_RANGE */
export const checkRange = (
  device: { readonly name: string; readonly size: number },
  offset: number,
  length: number,
): void => {
  if (
    !Number.isSafeInteger(offset) ||
    !Number.isSafeInteger(length) ||
    offset < 0 ||
    length < 0 ||
    offset + length > device.size
  )
    throw new LiveError(
      'OUT_OF_RANGE',
      `${device.name}: bytes ${offset} to ${offset + length} lie outside its ${device.size} bytes`,
      {
        device: device.name,
        offset,
        length,
        size: device.size,
      },
    )
}

const ZEROS = Buffer.alloc(1 << 20)

/** Sets all bytes to zero. V8 fills shared memory byte by byte, and copies it by words where both sides lie alike in one. */
export const clear = (bytes: Uint8Array): void => {
  const skip = bytes.byteOffset % 8
  const most = ZEROS.length - 8
  for (let at = 0; at < bytes.length; at += most)
    bytes.set(ZEROS.subarray(skip, skip + Math.min(most, bytes.length - at)), at)
}

/** True where all bytes are zero. */
export const isZero = (bytes: Uint8Array): boolean => {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = 0; at < view.length; at += ZEROS.length) {
    const part = view.subarray(at, at + ZEROS.length)
    if (part.compare(ZEROS, 0, part.length) !== 0) return false
  }
  return true
}
