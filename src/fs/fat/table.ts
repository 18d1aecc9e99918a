import { cache } from '../../block/cache.js'
import type { Device } from '../../block/device.js'
import { slice } from '../../block/linear.js'
import { type BootSector, FIRST_CLUSTER } from './layout.js'

/** Entries of a table that are looked at together; even, so that FAT12's halves of bytes stay in one window. */
const WINDOW_ENTRIES = 2048
/** 4 MiB of a table are kept at most */
const CACHE = { blockSize: 65_536, blocks: 64, readAhead: 4 }

/** Some entries of a table, one behind the other. */
export interface Window {
  /** number of the cluster of the first entry */
  readonly first: number
  /** the number behind the last */
  readonly end: number
  /** what the table says of a cluster of this window; of FAT32 without the upper 4 bits */
  entry(cluster: number): number
}

/** A file allocation table; pieces of it are read as they are needed. */
export interface Table {
  /** the window in which a cluster's entry is; cluster must be below `clusterCount + 2` */
  window(cluster: number): Promise<Window>
  /** byte offset of a cluster's entry on the device */
  place(cluster: number): number
  /** entry 1 with all its bits, two of which tell how the volume was left */
  readState(): Promise<number>
}

/**
 * Opens one of a volume's tables.
 *
 * @param index  which; the active one if left out
 */
export const openTable = (device: Device, boot: BootSector, index = boot.activeFat): Table => {
  const { variant, clusterCount, fatSize } = boot
  const start = boot.fatStart + index * fatSize
  const table = cache(slice(device, start, fatSize, device.name), CACHE)
  const end = clusterCount + FIRST_CLUSTER
  const offsetOf = (cluster: number): number => Math.floor((cluster * variant) / 8)
  return {
    place: cluster => start + offsetOf(cluster),
    async window(cluster) {
      const first = cluster - (cluster % WINDOW_ENTRIES)
      const last = Math.min(first + WINDOW_ENTRIES, end)
      const offset = offsetOf(first)
      const bytes = await table.read(offset, Math.ceil((last * variant) / 8) - offset)
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      return { first, end: last, entry: asked => entryOf(view, variant, asked - first) }
    },
    async readState() {
      const bytes = await table.read(0, variant === 12 ? 3 : variant / 4)
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      return variant === 32 ? view.getUint32(4, true) : entryOf(view, variant, 1)
    },
  }
}

const entryOf = (view: DataView, variant: BootSector['variant'], index: number): number => {
  if (variant === 32) return view.getUint32(index * 4, true) & 0x0fff_ffff
  if (variant === 16) return view.getUint16(index * 2, true)
  const word = view.getUint16(Math.floor(index * 1.5), true)
  return index % 2 === 0 ? word & 0xfff : word >>> 4
}
