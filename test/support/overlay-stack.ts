import type { Device } from '../../src/block/device.js'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { openPool } from '../../src/bytes/pool.js'
import type { OpenedFile } from '../../src/host/folder.js'
import type { OverlaidStack } from '../../src/liveos/usage/usage.js'

const asFile = (device: Device, path: string): OpenedFile =>
  ({
    name: device.name,
    path,
    size: device.size,
    allocated: device.size,
    hasHoles: false,
    read: (offset: number, length: number) => device.read(offset, length),
    close: async () => {},
  }) as unknown as OpenedFile

/** A stack out of devices, without a stick around it. */
export const overlaidStack = async (origin: Device, cow: Uint8Array | Device): Promise<OverlaidStack> => {
  const file = asFile(cow instanceof Uint8Array ? memory(cow, 'cow') : cow, '/LiveOS/overlay')
  const store = await readStore(file, { originSize: origin.size, ignoreInvalid: true })
  return {
    target: undefined as never,
    base: { file: asFile(origin, '/LiveOS/rootfs.img'), squashfs: undefined, origin },
    overlay: { file, store },
    root: await snapshot(origin, file, { store, ignoreInvalid: true }),
    pool: openPool({ threads: 1 }),
    close: async () => {},
  }
}

/** What differs between two images of one size, as the chunks of a store. */
export const changesBetween = (
  before: Uint8Array,
  after: Uint8Array,
  chunkSize: number,
): { oldChunk: number; content: Uint8Array }[] => {
  const changes: { oldChunk: number; content: Uint8Array }[] = []
  for (let at = 0; at < after.length; at += chunkSize) {
    const content = Buffer.alloc(chunkSize)
    content.set(after.subarray(at, at + chunkSize))
    if (
      Buffer.compare(content.subarray(0, Math.min(chunkSize, after.length - at)), before.subarray(at, at + chunkSize))
    )
      changes.push({ oldChunk: at / chunkSize, content })
  }
  return changes
}
