import { openKept } from '../bytes/kept.js'
import { assert } from '../error.js'
import { checkRange, type Device, isSparse, type PlacingDevice, readInto, type SparseDevice } from './device.js'
import { parallel } from './parallel.js'

/** How much a cache keeps. */
export interface CacheOptions {
  /** bytes of a block, the least that is fetched */
  readonly blockSize?: number
  /** how many blocks are kept */
  readonly blocks?: number
  /** how many blocks behind a sequential read are fetched with it */
  readonly readAhead?: number
}

const FETCHES_AT_ONCE = 16

/**
 * Keeps the blocks of a slow device that were read last. Readers of one block share one fetch; a fetch that failed is
 * forgotten, so the next read tries again. Changes of `device` behind its back are not seen. Closing it leaves `device` open.
 */
export const cache = (
  device: Device,
  { blockSize = 65_536, blocks = 256, readAhead = 0 }: CacheOptions = {},
): PlacingDevice => {
  assert(blockSize > 0 && blocks > 0 && readAhead < blocks, 'a cache holds more than it reads ahead')
  const kept = openKept<number>(blocks * blockSize)
  let expectedBlock = -1

  const fetchOf =
    (index: number) =>
    async (memory: Uint8Array): Promise<number> => {
      const start = index * blockSize
      const length = Math.min(blockSize, device.size - start)
      await readInto(device, start, memory.subarray(0, length))
      return length
    }

  const readAheadOf = (firstBlock: number, lastBlock: number): void => {
    const sequential = firstBlock === expectedBlock || firstBlock === expectedBlock - 1
    expectedBlock = lastBlock + 1
    if (!sequential) return
    const end = Math.min(lastBlock + 1 + readAhead, Math.ceil(device.size / blockSize))
    for (let index = lastBlock + 1; index < end; index++) kept.ahead(index, blockSize, fetchOf(index))
  }

  /** Fills `target` with what it wants of a block. */
  const place = (index: number, offset: number, target: Uint8Array): Promise<void> =>
    kept.use(index, blockSize, fetchOf(index), content => {
      const start = Math.max(0, offset - index * blockSize)
      const at = index * blockSize + start - offset
      target.set(content.subarray(start, start + target.length - at), at)
    })

  const cached: PlacingDevice = {
    name: device.name,
    get size() {
      return device.size
    },
    async read(offset, length) {
      checkRange(device, offset, length)
      const index = Math.floor(offset / blockSize)
      const skip = offset - index * blockSize
      if (readAhead === 0 && length > 0 && skip + length <= blockSize)
        return kept.use(
          index,
          blockSize,
          fetchOf(index),
          content => new Uint8Array(content.subarray(skip, skip + length)),
        )
      const bytes = new Uint8Array(length)
      await cached.readInto(offset, bytes)
      return bytes
    },
    async readInto(offset, target) {
      checkRange(device, offset, target.length)
      if (target.length === 0) return
      const firstBlock = Math.floor(offset / blockSize)
      const lastBlock = Math.floor((offset + target.length - 1) / blockSize)
      const first = place(firstBlock, offset, target)
      if (readAhead > 0) readAheadOf(firstBlock, lastBlock)
      if (firstBlock === lastBlock) return first
      // All are waited for: nothing may write into the memory once this has failed.
      const failures: unknown[] = []
      await parallel(lastBlock - firstBlock + 1, FETCHES_AT_ONCE, async index => {
        if (failures.length > 0 && index > 0) return
        await (index === 0 ? first : place(firstBlock + index, offset, target)).catch(error => failures.push(error))
      })
      if (failures.length > 0) throw failures[0]
    },
    async close() {},
  }
  if (!isSparse(device)) return cached
  const sparse: Pick<SparseDevice, 'extents'> = { extents: (offset, length) => device.extents(offset, length) }
  return Object.assign(cached, sparse)
}
