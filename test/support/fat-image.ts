/** A name in a hand-made directory. */
export interface Item {
  /** 11 bytes as they stand on the medium, in latin1 */
  readonly short: string
  readonly cluster?: number
  readonly size?: number
  readonly attributes?: number
  readonly lower?: number
  readonly date?: number
  readonly time?: number
  /** UTF-16 parts before it, its name in full */
  readonly long?: string
  /** what is done to each of the raw entries, the long name's parts first */
  readonly change?: (raw: Uint8Array, index: number) => void
}

/** A FAT volume under construction: sectors and clusters of 512 bytes. */
export interface FatImage {
  readonly bytes: Uint8Array
  readonly fatStart: number
  readonly fatSize: number
  readonly rootStart: number
  /** byte offset of a cluster */
  cluster(number: number): number
  /** sets an entry in both tables, or in the one of `index` */
  entry(cluster: number, value: number, index?: number): void
  /** chains clusters, the last one ended */
  chain(...clusters: number[]): void
  /** writes a directory at a byte offset; returns the offsets of the short entries */
  directory(offset: number, items: readonly Item[]): readonly number[]
}

const CLUSTERS = { 12: 200, 16: 5000, 32: 300 } as const
const END = { 12: 0xfff, 16: 0xffff, 32: 0x0fffffff } as const

/** The checksum of a short name, by the formula of the specification. */
const checksum = (short: Uint8Array): number =>
  short.reduce((sum, byte) => (((sum & 1) << 7) + (sum >> 1) + byte) & 255, 0)

const rawEntries = (item: Item): Uint8Array[] => {
  const { short, cluster = 0, size = 0, attributes = 0x20, lower = 0, date = 0x2821, time = 0, long, change } = item
  const raw = new Uint8Array(32)
  raw.set(Buffer.from(short, 'latin1'))
  const view = new DataView(raw.buffer)
  raw[11] = attributes
  raw[12] = lower
  view.setUint16(20, cluster >>> 16, true)
  view.setUint16(22, time, true)
  view.setUint16(24, date, true)
  view.setUint16(26, cluster & 0xffff, true)
  view.setUint32(28, size, true)
  const parts: Uint8Array[] = []
  for (let at = 0; long !== undefined && (at < long.length || at === 0); at += 13) {
    const part = new Uint8Array(32).fill(0xff)
    const units = new Uint16Array(13).fill(0xffff)
    for (let n = 0; n < 13 && at + n <= long.length; n++) units[n] = long.charCodeAt(at + n) || 0
    const bytes = new Uint8Array(units.buffer)
    part[0] = at / 13 + 1
    part.set(bytes.subarray(0, 10), 1)
    part[11] = 0x0f
    part[12] = 0
    part[13] = checksum(raw.subarray(0, 11))
    part.set(bytes.subarray(10, 22), 14)
    part.fill(0, 26, 28)
    part.set(bytes.subarray(22), 28)
    parts.unshift(part)
  }
  if (parts[0]) parts[0][0]! |= 0x40
  const all = [...parts, raw]
  if (change) for (const [index, entry] of all.entries()) change(entry, index)
  return all
}

/** An empty volume: two tables, in FAT12 and FAT16 a root of 32 entries, in FAT32 the root in cluster 2. */
export const fatImage = (variant: 12 | 16 | 32): FatImage => {
  const clusterCount = CLUSTERS[variant]
  const reserved = variant === 32 ? 8 : 1
  const fatSectors = Math.ceil(((clusterCount + 2) * variant) / 8 / 512)
  const rootSectors = variant === 32 ? 0 : 2
  const sectors = reserved + 2 * fatSectors + rootSectors + clusterCount
  const bytes = new Uint8Array(sectors * 512)
  const view = new DataView(bytes.buffer)
  bytes.set([0xeb, 0x58, 0x90, ...Buffer.from('by hand ')])
  view.setUint16(11, 512, true)
  bytes[13] = 1
  view.setUint16(14, reserved, true)
  bytes[16] = 2
  view.setUint16(17, rootSectors * 16, true)
  view.setUint16(19, sectors, true)
  bytes[21] = 0xf8
  const extended = variant === 32 ? 64 : 36
  if (variant === 32) {
    view.setUint32(36, fatSectors, true)
    view.setUint32(44, 2, true)
  } else view.setUint16(22, fatSectors, true)
  bytes[extended + 2] = 0x29
  view.setUint32(extended + 3, 0xabcd0123, true)
  bytes.set(Buffer.from('NO NAME    '), extended + 7)
  view.setUint16(510, 0xaa55, true)
  const fatStart = reserved * 512
  const fatSize = fatSectors * 512
  const rootStart = fatStart + 2 * fatSize
  const dataStart = rootStart + rootSectors * 512
  const put = (at: number, cluster: number, value: number): void => {
    if (variant === 32) view.setUint32(at + cluster * 4, value, true)
    else if (variant === 16) view.setUint16(at + cluster * 2, value, true)
    else {
      const where = at + Math.floor(cluster * 1.5)
      const old = view.getUint16(where, true)
      view.setUint16(where, cluster % 2 ? (old & 0x000f) | (value << 4) : (old & 0xf000) | value, true)
    }
  }
  const image: FatImage = {
    bytes,
    fatStart,
    fatSize,
    rootStart: variant === 32 ? dataStart : rootStart,
    cluster: number => dataStart + (number - 2) * 512,
    entry(cluster, value, index) {
      for (const table of index === undefined ? [0, 1] : [index]) put(fatStart + table * fatSize, cluster, value)
    },
    chain(...clusters) {
      for (const [index, cluster] of clusters.entries()) image.entry(cluster, clusters[index + 1] ?? END[variant])
    },
    directory(offset, items) {
      let at = offset
      return items.map(item => {
        for (const raw of rawEntries(item)) {
          bytes.set(raw, at)
          at += 32
        }
        return at - 32
      })
    },
  }
  image.entry(0, END[variant] - 7)
  image.entry(1, END[variant])
  if (variant === 32) image.chain(2)
  return image
}
