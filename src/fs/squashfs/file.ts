import {
  checkRange,
  clear,
  type Device,
  type Extent,
  type PlacingDevice,
  readInto,
  type SparseDevice,
} from '../../block/device.js'
import { settled } from '../../block/parallel.js'
import type { BlockReader, StoredAt } from './blocks.js'

/** A regular file in a squashfs, with what a writer needs to take its blocks over as they are. */
export interface SquashFile extends SparseDevice, PlacingDevice {
  readonly blockSize: number
  /** whole blocks and a last short one; a tail that stands in a fragment is not counted */
  readonly blockCount: number
  /** bytes in the fragment, 0 where there is none */
  readonly tailSize: number
  /** the fragment that holds the tail, and the tail's first byte in it */
  readonly tail: { readonly fragment: number; readonly offset: number } | undefined
  /** where a block stands; undefined for a hole. Blocks that are no holes stand one behind the other. */
  stored(block: number): StoredAt | undefined
  /** bytes of a block when expanded */
  lengthOf(block: number): number
  /** a block expanded. Not to be changed. @throws CORRUPT, IO */
  readBlock(block: number): Promise<Uint8Array>
  /** What `look` makes of a block expanded; zeros of a hole. It has the bytes only until it is done. @throws CORRUPT, IO */
  useBlock<T>(block: number, look: (bytes: Uint8Array) => T | Promise<T>): Promise<T>
  /** bytes as they stand in the image: those of a block, or of several that stand one behind the other. @throws IO */
  readStored(offset: number, size: number): Promise<Uint8Array>
  /** the same bytes, as many as `target` takes */
  readStoredInto(offset: number, target: Uint8Array): Promise<void>
}

/** What a file is made from; the reader has checked all of it. */
export interface SquashFileParts {
  readonly image: Device
  readonly name: string
  readonly size: number
  readonly blockSize: number
  readonly sizes: Uint32Array
  readonly compressed: Uint8Array
  readonly startBlock: number
  /** `use` lets a look at the whole fragment expanded, which reaches to the file's end; its bytes are there during the call */
  readonly tail:
    | {
        readonly fragment: number
        readonly offset: number
        readonly use: (look: (fragment: Uint8Array) => void) => Promise<void>
      }
    | undefined
  readonly blocks: BlockReader
}

const NO_OFFSETS = new Float64Array(0)

/** Makes the Device of a file. Reading in sequence keeps `blocks.depth` blocks in flight. */
export const squashFile = (parts: SquashFileParts): SquashFile => {
  const { image, name, size, blockSize, sizes, compressed, blocks, tail } = parts
  const blockCount = sizes.length
  // Most files are a tail and nothing else.
  const offsets = blockCount === 0 ? NO_OFFSETS : new Float64Array(blockCount + 1)
  if (blockCount > 0) offsets[0] = parts.startBlock
  for (let n = 0; n < blockCount; n++) offsets[n + 1] = offsets[n]! + sizes[n]!
  const tailStart = blockCount * blockSize
  /** the block behind the last read, and how many blocks were read one behind the other up to there */
  let expected = -1
  let inSequence = 0

  const lengthOf = (block: number): number => Math.min(blockSize, size - block * blockSize)
  const stored = (block: number): StoredAt | undefined =>
    sizes[block] === 0
      ? undefined
      : { offset: offsets[block]!, size: sizes[block]!, compressed: compressed[block] === 1, length: lengthOf(block) }
  const label = (block: number): string => `block ${block} of ${name}`
  const readBlock = async (block: number): Promise<Uint8Array> => {
    const at = stored(block)
    return at ? blocks.read(at, label(block)) : new Uint8Array(lengthOf(block))
  }
  /** Fills `target` with bytes of the tail from byte `from` of the file on. */
  const placeTail = (from: number, target: Uint8Array): Promise<void> => {
    const start = tail!.offset + from - tailStart
    return tail!.use(fragment => target.set(fragment.subarray(start, start + target.length)))
  }
  /** Runs of holes and data between two blocks. */
  const isHole = (block: number): boolean => block < blockCount && sizes[block] === 0

  return {
    name,
    size,
    blockSize,
    blockCount,
    tailSize: tail ? size - tailStart : 0,
    tail: tail && { fragment: tail.fragment, offset: tail.offset },
    stored,
    lengthOf,
    readBlock,
    async useBlock(block, look) {
      const at = stored(block)
      return at ? blocks.use(at, label(block), look) : look(new Uint8Array(lengthOf(block)))
    },
    readStored: (offset, size) => image.read(offset, size),
    readStoredInto: (offset, target) => readInto(image, offset, target),
    async read(offset, length) {
      checkRange(this, offset, length)
      if (length === 0) return new Uint8Array(0)
      const first = Math.floor(offset / blockSize)
      const last = Math.floor((offset + length - 1) / blockSize)
      const follows = first === expected || first === expected - 1
      inSequence = (follows ? inSequence : 0) + last + 1 - (follows ? expected : first)
      expected = last + 1
      // All blocks of this read are expanded side by side, and in a sequence the ones behind it, the more the longer it is:
      // who reads some parts of one block, as a snapshot does around its chunks, pays for no other.
      const ahead = follows ? last + Math.min(blocks.depth, inSequence - 1) : last
      for (let n = first + 1; n <= Math.min(ahead, blockCount - 1) && n <= first + Math.max(blocks.depth, 1); n++) {
        const at = stored(n)
        if (at) blocks.ahead(at, label(n))
      }
      const whole = first === last && first < blockCount && offset === first * blockSize ? stored(first) : undefined
      if (whole?.length === length) return blocks.take(whole, label(first))
      const bytes = new Uint8Array(length)
      for (let n = first; n <= last; n++) {
        const from = n * blockSize
        if (isHole(n)) continue
        const start = Math.max(offset, from)
        if (n >= blockCount) {
          await placeTail(start, bytes.subarray(start - offset))
          continue
        }
        const block = await readBlock(n)
        const next = stored(n + blocks.depth)
        if (next && n + blocks.depth <= ahead && n + blocks.depth < blockCount)
          blocks.ahead(next, label(n + blocks.depth))
        const end = Math.min(offset + length, from + block.length)
        bytes.set(block.subarray(start - from, end - from), start - offset)
      }
      return bytes
    },
    async readInto(offset, target) {
      checkRange(this, offset, target.length)
      const end = offset + target.length
      const place = async (from: number, to: number): Promise<void> => {
        const block = Math.floor(from / blockSize)
        const room = target.subarray(from - offset, to - offset)
        const at = block < blockCount ? stored(block) : undefined
        if (at && room.length === at.length) return blocks.readInto(at, label(block), room)
        if (isHole(block)) {
          clear(room)
          return
        }
        if (!at) return placeTail(from, room)
        const start = from - block * blockSize
        return blocks.use(at, label(block), bytes => room.set(bytes.subarray(start, start + room.length)))
      }
      // The blocks are read side by side: how many is the caller's to bound.
      const placing: Promise<void>[] = []
      for (let at = offset; at < end; ) {
        const next = Math.min(end, (Math.floor(at / blockSize) + 1) * blockSize)
        placing.push(place(at, next))
        at = next
      }
      await settled(placing)
    },
    async *extents(offset, length): AsyncIterable<Extent> {
      checkRange(this, offset, length)
      const end = offset + length
      for (let at = offset; at < end; ) {
        let block = Math.floor(at / blockSize)
        const hole = isHole(block)
        while (block * blockSize < end && isHole(block) === hole) block++
        const stop = Math.min(end, block * blockSize)
        yield { offset: at, length: stop - at, kind: hole ? 'hole' : 'data' }
        at = stop
      }
    },
    async close() {},
  }
}
