import { type Device, type Extent, extentsOf } from './device.js'

/** The same extents with neighbours of one kind made one. */
export async function* joined(extents: AsyncIterable<Extent>): AsyncIterable<Extent> {
  let last: Extent | undefined
  for await (const extent of extents) {
    if (last && last.kind === extent.kind) last = { ...last, length: last.length + extent.length }
    else {
      if (last) yield last
      last = extent
    }
  }
  if (last) yield last
}

/** The extents of a range of a device, at the offsets they have in a device that shows the range from `start` on. */
export async function* extentsAt(device: Device, offset: number, length: number, start: number): AsyncIterable<Extent> {
  for await (const extent of extentsOf(device, offset, length))
    yield { ...extent, offset: extent.offset - offset + start }
}
