import { assert } from '../error.js'
import { checkRange, type Device, isSparse, type SparseDevice } from './device.js'
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
): Device => {
  assert(blockSize > 0 && blocks > 0 && readAhead < blocks, 'a cache holds more than it reads ahead')
  // A Map iterates in order of insertion, so its first key is the block not used for longest.
  const kept = new Map<number, Promise<Uint8Array>>()
  let expectedBlock = -1

  const block = (index: number): Promise<Uint8Array> => {
    const known = kept.get(index)
    if (known) {
      kept.delete(index)
      kept.set(index, known)
      return known
    }
    const start = index * blockSize
    const fetched = device.read(start, Math.min(blockSize, device.size - start))
    kept.set(index, fetched)
    for (const oldest of kept.keys()) {
      if (kept.size <= blocks) break
      kept.delete(oldest)
    }
    fetched.catch(() => {
      if (kept.get(index) === fetched) kept.delete(index)
    })
    return fetched
  }

  const readAheadOf = (firstBlock: number, lastBlock: number): void => {
    const sequential = firstBlock === expectedBlock || firstBlock === expectedBlock - 1
    expectedBlock = lastBlock + 1
    if (!sequential) return
    const end = Math.min(lastBlock + 1 + readAhead, Math.ceil(device.size / blockSize))
    // `block` itself handles a failure; who really needs the block will meet it again.
    for (let index = lastBlock + 1; index < end; index++) if (!kept.has(index)) void block(index).catch(() => {})
  }

  const cached: Device = {
    name: device.name,
    get size() {
      return device.size
    },
    async read(offset, length) {
      checkRange(device, offset, length)
      if (length === 0) return new Uint8Array(0)
      const firstBlock = Math.floor(offset / blockSize)
      const lastBlock = Math.floor((offset + length - 1) / blockSize)
      const first = block(firstBlock)
      if (readAhead > 0) readAheadOf(firstBlock, lastBlock)
      const skip = offset - firstBlock * blockSize
      // A copy, never the kept array: the caller may do with it as it likes.
      if (firstBlock === lastBlock) return new Uint8Array((await first).subarray(skip, skip + length))
      const bytes = new Uint8Array(length)
      await parallel(lastBlock - firstBlock + 1, FETCHES_AT_ONCE, async index => {
        const content = index === 0 ? await first : await block(firstBlock + index)
        if (index === 0) bytes.set(content.subarray(skip))
        else
          bytes.set(
            content.subarray(0, Math.min(content.length, length - index * blockSize + skip)),
            index * blockSize - skip,
          )
      })
      return bytes
    },
    async close() {},
  }
  if (!isSparse(device)) return cached
  const sparse: Pick<SparseDevice, 'extents'> = { extents: (offset, length) => device.extents(offset, length) }
  return Object.assign(cached, sparse)
}
