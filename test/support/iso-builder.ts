/** A number in both byte orders. */
export const both = (value: number, size: 2 | 4): Uint8Array => {
  const bytes = Buffer.alloc(size * 2)
  if (size === 2) {
    bytes.writeUInt16LE(value, 0)
    bytes.writeUInt16BE(value, 2)
  } else {
    bytes.writeUInt32LE(value, 0)
    bytes.writeUInt32BE(value, 4)
  }
  return bytes
}

/** A SUSP entry: signature, length, version 1, payload. */
export const entry = (
  signature: string,
  ...payload: readonly (Uint8Array | readonly number[] | string)[]
): Uint8Array => {
  const body = Buffer.concat(
    payload.map(part => (typeof part === 'string' ? Buffer.from(part) : Uint8Array.from(part))),
  )
  return Buffer.concat([Buffer.from(signature, 'latin1'), Buffer.from([body.length + 4, 1]), body])
}

export const px = (mode: number, links = 1, uid = 0, gid = 0, serial?: number): Uint8Array =>
  entry('PX', both(mode, 4), both(links, 4), both(uid, 4), both(gid, 4), serial === undefined ? [] : both(serial, 4))
export const nm = (name: string | Uint8Array, flags = 0): Uint8Array => entry('NM', [flags], name)
export const ce = (block: number, offset: number, length: number): Uint8Array =>
  entry('CE', both(block, 4), both(offset, 4), both(length, 4))
export const ROCK_RIDGE = entry('ER', [10, 0, 0, 1], 'RRIP_1991A')
export const sp = (skip = 0): Uint8Array => entry('SP', [0xbe, 0xef, skip])

/** Parts of a directory record; the name 0 or 1 is the directory itself or its parent. */
export interface RecordParts {
  readonly name: string | Uint8Array | 0 | 1
  readonly extent?: number
  readonly size?: number
  readonly flags?: number
  readonly systemUse?: readonly Uint8Array[]
  readonly extAttrLength?: number
  readonly fileUnitSize?: number
  readonly interleave?: number
  readonly date?: readonly number[]
}

export const record = (parts: RecordParts): Uint8Array => {
  const {
    name,
    extent = 0,
    size = 0,
    flags = 0,
    systemUse = [],
    extAttrLength = 0,
    fileUnitSize = 0,
    interleave = 0,
  } = parts
  const bytes = typeof name === 'number' ? Uint8Array.of(name) : typeof name === 'string' ? Buffer.from(name) : name
  const head = Buffer.concat([
    Uint8Array.of(0, extAttrLength),
    both(extent, 4),
    both(size, 4),
    Uint8Array.from(parts.date ?? [100, 1, 2, 3, 4, 5, 0]),
    Uint8Array.of(flags, fileUnitSize, interleave),
    both(1, 2),
    Uint8Array.of(bytes.length),
    bytes,
    new Uint8Array(bytes.length % 2 === 0 ? 1 : 0),
    ...systemUse,
  ])
  if (head.length > 255) throw new Error(`a record of ${head.length} bytes`)
  head[0] = head.length
  return head
}

/** A directory of records behind those of itself and its parent; `own` is the system use area of the first. */
export const directory = (
  extent: number,
  records: readonly (RecordParts | Uint8Array)[],
  { own = [], sectors = 1 }: { own?: readonly Uint8Array[]; sectors?: number } = {},
): Uint8Array => {
  const bytes = new Uint8Array(sectors * 2048)
  let at = 0
  const size = sectors * 2048
  for (const parts of [
    { name: 0, extent, size, flags: 2, systemUse: own } as const,
    { name: 1, extent, size, flags: 2 } as const,
    ...records,
  ]) {
    const made = parts instanceof Uint8Array ? parts : record(parts)
    if ((at % 2048) + made.length > 2048) at = Math.ceil(at / 2048) * 2048
    bytes.set(made, at)
    at += made.length
  }
  return bytes
}

export interface ImageParts {
  /** content by block */
  readonly blocks: Readonly<Record<number, Uint8Array>>
  readonly root: { readonly extent: number; readonly size?: number }
  readonly jolietRoot?: { readonly extent: number; readonly size?: number }
  /** sectors of 2048 bytes in all */
  readonly sectors?: number
  readonly blockSize?: number
  readonly volumeId?: string
  readonly dates?: readonly string[]
  /** sector of a boot catalog */
  readonly catalog?: number
  readonly application?: string
}

const descriptor = (
  type: number,
  parts: ImageParts,
  root: { extent: number; size?: number },
  volumeId: Uint8Array,
): Uint8Array => {
  const bytes = Buffer.alloc(2048)
  bytes[0] = type
  bytes.write('CD001\x01', 1, 'latin1')
  bytes.fill(0x20, 8, 72)
  bytes.set(volumeId, 40)
  bytes.set(both(parts.sectors ?? 64, 4), 80)
  if (type === 2) bytes.write('%/E', 88, 'latin1')
  bytes.set(both(parts.blockSize ?? 2048, 2), 128)
  bytes.set(record({ name: 0, extent: root.extent, size: root.size ?? 2048, flags: 2 }), 156)
  for (const [n, date] of (parts.dates ?? ['2020010203040500', '2021010203040500']).entries())
    bytes.write(date, 813 + n * 17, 'latin1')
  bytes.fill(0x20, 883, 1395)
  bytes.write(parts.application ?? '', 883, 'latin1')
  return bytes
}

/** An image with its descriptors from sector 16 on. */
export const isoImage = (parts: ImageParts): Uint8Array => {
  const bytes = new Uint8Array((parts.sectors ?? 64) * 2048)
  const volumeId = parts.volumeId ?? 'VOLUME'
  const descriptors = [descriptor(1, parts, parts.root, Buffer.from(volumeId))]
  if (parts.catalog !== undefined) {
    const boot = Buffer.alloc(2048)
    boot.write('\0CD001\x01EL TORITO SPECIFICATION', 0, 'latin1')
    boot.writeUInt32LE(parts.catalog, 71)
    descriptors.push(boot)
  }
  if (parts.jolietRoot) {
    const wide = Buffer.from(volumeId.padEnd(16), 'utf16le').swap16()
    descriptors.push(descriptor(2, parts, parts.jolietRoot, wide))
  }
  const end = Buffer.alloc(2048)
  end.write('\xffCD001\x01', 0, 'latin1')
  for (const [n, sector] of [...descriptors, end].entries()) bytes.set(sector, (16 + n) * 2048)
  for (const [block, content] of Object.entries(parts.blocks))
    bytes.set(content, Number(block) * (parts.blockSize ?? 2048))
  return bytes
}
