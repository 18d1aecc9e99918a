import { crc32 } from 'node:zlib'

/** A record of an MBR, in sectors. */
export interface Record {
  readonly active?: boolean
  readonly type: number
  readonly start: number
  readonly size: number
}

/** Writes an MBR or EBR into an image. */
export const putMbr = (image: Uint8Array, offset: number, records: readonly Record[], id = 0x12345678): void => {
  const view = new DataView(image.buffer, image.byteOffset + offset, 512)
  view.setUint32(440, id, true)
  for (const [index, { active, type, start, size }] of records.entries()) {
    const at = 446 + index * 16
    view.setUint8(at, active ? 0x80 : 0)
    view.setUint8(at + 4, type)
    view.setUint32(at + 8, start, true)
    view.setUint32(at + 12, size, true)
  }
  view.setUint16(510, 0xaa55, true)
}

/** An entry of a GPT; `first` and `last` are sectors. */
export interface GptPart {
  readonly first: bigint
  readonly last: bigint
  readonly name?: string
  readonly attributes?: bigint
}

export interface GptShape {
  readonly sectorSize?: number
  readonly entrySize?: number
  readonly count?: number
  readonly headerSize?: number
  /** what goes into the header before its checksum is made */
  readonly change?: (header: DataView) => void
}

const TYPE = Buffer.from('a2a0d0ebe5b9334487c068b6b72699c7', 'hex')

/** The fields of a GPT's header are sealed again by its checksum. */
export const sealHeader = (image: Uint8Array, offset: number, headerSize = 92): void => {
  const view = new DataView(image.buffer, image.byteOffset + offset, headerSize)
  view.setUint32(16, 0, true)
  view.setUint32(16, crc32(image.subarray(offset, offset + headerSize)), true)
}

/** Writes a protective MBR, a GPT and its backup over the whole image. */
export const putGpt = (image: Uint8Array, parts: readonly GptPart[], shape: GptShape = {}): void => {
  const { sectorSize = 512, entrySize = 128, count = 128, headerSize = 92, change } = shape
  const sectors = Math.floor(image.length / sectorSize)
  const arraySectors = Math.ceil((entrySize * count) / sectorSize)
  putMbr(image, 0, [{ type: 0xee, start: 1, size: sectors - 1 }], 0)
  const array = new Uint8Array(entrySize * count)
  const view = new DataView(array.buffer)
  for (const [index, { first, last, name = '', attributes = 0n }] of parts.entries()) {
    const at = index * entrySize
    array.set(TYPE, at)
    array.fill(index + 1, at + 16, at + 32)
    view.setBigUint64(at + 32, first, true)
    view.setBigUint64(at + 40, last, true)
    view.setBigUint64(at + 48, attributes, true)
    array.set(Buffer.from(name, 'utf16le'), at + 56)
  }
  for (const [own, other, arrayLba] of [
    [1, sectors - 1, 2],
    [sectors - 1, 1, sectors - 1 - arraySectors],
  ] as const) {
    image.set(array, arrayLba * sectorSize)
    const header = new DataView(image.buffer, image.byteOffset + own * sectorSize, sectorSize)
    image.set(Buffer.from('EFI PART'), own * sectorSize)
    header.setUint32(8, 0x10000, true)
    header.setUint32(12, headerSize, true)
    header.setBigUint64(24, BigInt(own), true)
    header.setBigUint64(32, BigInt(other), true)
    header.setBigUint64(40, BigInt(2 + arraySectors), true)
    header.setBigUint64(48, BigInt(sectors - 2 - arraySectors), true)
    image.fill(0x77, own * sectorSize + 56, own * sectorSize + 72)
    header.setBigUint64(72, BigInt(arrayLba), true)
    header.setUint32(80, count, true)
    header.setUint32(84, entrySize, true)
    header.setUint32(88, crc32(array), true)
    change?.(header)
    sealHeader(image, own * sectorSize, headerSize)
  }
}
