import { assert, corrupt } from '../error.js'

/** Where the bytes of a cursor come from, for the words of an error. */
export interface Place {
  /** the device's name */
  readonly device: string
  /** byte offset of the cursor's first byte in the device */
  readonly base: number
}

/**
 * Reads fields one after another and never past the end. Every method takes the spec's name of the field for the error;
 * without one the error names the type. `u16` and the like are little-endian, `u16be` and the like big-endian.
 *
 * @throws CORRUPT  a field leaves the bytes, or a 64-bit value is above 2^53 - 1
 */
export class Cursor {
  /** offset of the next byte, from the start of the bytes */
  offset = 0
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #place: Place

  constructor(bytes: Uint8Array, place: Place) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#place = place
  }

  /** Bytes left. */
  get remaining(): number {
    return this.#bytes.length - this.offset
  }

  u8(field = 'u8'): number {
    return this.#view.getUint8(this.#take(1, field))
  }

  u16(field = 'u16'): number {
    return this.#view.getUint16(this.#take(2, field), true)
  }

  u16be(field = 'u16be'): number {
    return this.#view.getUint16(this.#take(2, field), false)
  }

  i16(field = 'i16'): number {
    return this.#view.getInt16(this.#take(2, field), true)
  }

  i16be(field = 'i16be'): number {
    return this.#view.getInt16(this.#take(2, field), false)
  }

  u32(field = 'u32'): number {
    return this.#view.getUint32(this.#take(4, field), true)
  }

  u32be(field = 'u32be'): number {
    return this.#view.getUint32(this.#take(4, field), false)
  }

  i32(field = 'i32'): number {
    return this.#view.getInt32(this.#take(4, field), true)
  }

  i32be(field = 'i32be'): number {
    return this.#view.getInt32(this.#take(4, field), false)
  }

  u64(field = 'u64'): number {
    return this.#safe(this.#view.getBigUint64(this.#take(8, field), true), field)
  }

  u64be(field = 'u64be'): number {
    return this.#safe(this.#view.getBigUint64(this.#take(8, field), false), field)
  }

  /** A 64-bit value that may be anything, such as the all-ones that means "none". */
  big64(field = 'big64'): bigint {
    return this.#view.getBigUint64(this.#take(8, field), true)
  }

  big64be(field = 'big64be'): bigint {
    return this.#view.getBigUint64(this.#take(8, field), false)
  }

  /** The next `length` bytes, not copied. */
  bytes(length: number, field = 'bytes'): Uint8Array {
    const at = this.#take(length, field)
    return this.#bytes.subarray(at, at + length)
  }

  /** Passes over `length` bytes. */
  skip(length: number, field = 'reserved'): void {
    this.#take(length, field)
  }

  #take(length: number, field: string): number {
    const at = this.offset
    // A length may come from the medium: NaN and negative ones fail the comparison as well.
    if (!(length >= 0 && length <= this.#bytes.length - at))
      throw corrupt({
        device: this.#place.device,
        offset: this.#place.base + at,
        field,
        expected: `${length} bytes`,
        found: `${this.#bytes.length - at} bytes`,
      })
    this.offset = at + length
    return at
  }

  #safe(value: bigint, field: string): number {
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw corrupt({
        device: this.#place.device,
        offset: this.#place.base + this.offset - 8,
        field,
        expected: 'at most 2^53 - 1',
        found: String(value),
      })
    return Number(value)
  }
}

/** A cursor at the first of `bytes`. */
export const cursor = (bytes: Uint8Array, place: Place): Cursor => new Cursor(bytes, place)

/** Writes little-endian fields one after another into `size` bytes that start as zeros. A value out of range is a bug of ours. */
export class Encoder {
  /** offset of the next byte */
  offset = 0
  readonly #bytes: Uint8Array
  readonly #view: DataView

  constructor(size: number) {
    this.#bytes = new Uint8Array(size)
    this.#view = new DataView(this.#bytes.buffer)
  }

  u8(value: number): this {
    this.#view.setUint8(this.#put(1, value, 0, 0xff), value)
    return this
  }

  u16(value: number): this {
    this.#view.setUint16(this.#put(2, value, 0, 0xffff), value, true)
    return this
  }

  i16(value: number): this {
    this.#view.setInt16(this.#put(2, value, -0x8000, 0x7fff), value, true)
    return this
  }

  u32(value: number): this {
    this.#view.setUint32(this.#put(4, value, 0, 0xffffffff), value, true)
    return this
  }

  i32(value: number): this {
    this.#view.setInt32(this.#put(4, value, -0x80000000, 0x7fffffff), value, true)
    return this
  }

  u64(value: number): this {
    this.#view.setBigUint64(this.#put(8, value, 0, Number.MAX_SAFE_INTEGER), BigInt(value), true)
    return this
  }

  big64(value: bigint): this {
    assert(value >= 0n && value < 1n << 64n, `${value} does not fit in 64 bits`)
    this.#view.setBigUint64(this.#put(8, 0, 0, 0), value, true)
    return this
  }

  bytes(bytes: Uint8Array): this {
    this.#bytes.set(bytes, this.#put(bytes.length, 0, 0, 0))
    return this
  }

  /** Leaves `length` zeros. */
  skip(length: number): this {
    this.#put(length, 0, 0, 0)
    return this
  }

  /** The finished bytes; every one must have been written or skipped. */
  done(): Uint8Array {
    assert(this.offset === this.#bytes.length, `encoded ${this.offset} of ${this.#bytes.length} bytes`)
    return this.#bytes
  }

  #put(length: number, value: number, least: number, most: number): number {
    const at = this.offset
    assert(Number.isInteger(value) && value >= least && value <= most, `${value} does not fit in ${length} bytes`)
    assert(
      length >= 0 && at + length <= this.#bytes.length,
      `${length} bytes at ${at} leave ${this.#bytes.length} bytes`,
    )
    this.offset = at + length
    return at
  }
}

/** An encoder of `size` bytes. */
export const encoder = (size: number): Encoder => new Encoder(size)
