import { type Device, readInto } from '../../block/device.js'
import type { CompressorName } from '../../bytes/codec.js'
import { openKept } from '../../bytes/kept.js'
import { openSpare } from '../../bytes/spare.js'
import { corrupt, isLiveError, type LiveError } from '../../error.js'
import { STORED } from './layout.js'

/** Expands one block; at most `capacity` bytes come back. */
export type BlockDecoder = (name: CompressorName, input: Uint8Array, capacity: number) => Promise<Uint8Array>

/** The same into shared memory; gives the bytes written. `input` may be shared too. */
export type BlockPlacer = (name: CompressorName, input: Uint8Array, target: Uint8Array) => Promise<number>

/** Where a block stands in the image and how: bytes `offset` to `offset + size`, expanded `length` bytes. */
export interface StoredAt {
  readonly offset: number
  readonly size: number
  readonly compressed: boolean
  readonly length: number
}

/** Splits a size word. @throws CORRUPT  more bytes than a block has */
export const parseSizeWord = (
  word: number,
  blockSize: number,
  device: string,
  offset: number,
  field: string,
): { size: number; compressed: boolean } => {
  const size = word & (STORED - 1)
  // A hole is the word 0 alone: no block of no bytes is ever stored.
  if (size > blockSize || word >= STORED * 2 || word === STORED)
    throw corrupt({ device, offset, field, expected: `at most ${blockSize} bytes`, found: word })
  return { size, compressed: (word & STORED) === 0 }
}

/** Reads data and fragment blocks of one image; keeps some of them expanded. */
export interface BlockReader {
  /** a block expanded, exactly `at.length` bytes; from the cache where it is there. Not to be changed. */
  read(at: StoredAt, field: string): Promise<Uint8Array>
  /** a block expanded, for the caller to keep: the cache lets go of it where nobody else has it, else it is copied */
  take(at: StoredAt, field: string): Promise<Uint8Array>
  /** a block expanded into `target`, which is as long as it; where it fails nothing writes there later */
  readInto(at: StoredAt, field: string, target: Uint8Array): Promise<void>
  /** What `look` makes of a block. It has the bytes only until it is done: their memory is taken again for other blocks. */
  use<T>(at: StoredAt, field: string, look: (bytes: Uint8Array) => T | Promise<T>): Promise<T>
  /** the same for a block whose expanded length nobody tells: at most `at.length` bytes */
  useUpTo<T>(at: StoredAt, field: string, look: (bytes: Uint8Array) => T): Promise<T>
  /** starts reading a block that `read` or `take` will be asked for soon */
  ahead(at: StoredAt, field: string): void
  /** the same for `useUpTo` */
  aheadUpTo(at: StoredAt, field: string): void
  /** how many blocks reading ahead pays for: those that decoders can work on at once */
  readonly depth: number
}

/** A block that may be given away, and whether somebody was given its bytes. */
interface KeptBlock extends StoredAt {
  readonly bytes: Promise<Uint8Array>
  given: boolean
}

const CACHE_BYTES = 6 << 20
/** of those whose memory is taken again, and as many blocks at least as are read side by side */
const SHARED_BYTES = 3 << 20

/**
 * Opens the data blocks of an image.
 *
 * @param depth       blocks to keep in flight when reading in sequence; 0 reads none ahead
 * @param decodeInto  where there is one, `readInto` of shared memory copies nothing
 * @param blockSize   bytes of the largest block
 */
export const openBlocks = (
  image: Device,
  compression: CompressorName,
  decode: BlockDecoder,
  depth: number,
  decodeInto?: BlockPlacer,
  blockSize = 0,
): BlockReader => {
  /** stored blocks on their way to a decoder */
  const inputs = openSpare()
  const shared = openKept<string>(Math.max(SHARED_BYTES, (depth + 1) * blockSize))
  const kept = new Map<number, KeptBlock>()
  let keptBytes = 0

  const badBlock =
    (at: StoredAt, field: string, isExact: boolean) =>
    (found: string, cause?: unknown): LiveError =>
      corrupt(
        {
          device: image.name,
          offset: at.offset,
          field,
          expected: `a block of ${isExact ? '' : 'at most '}${at.length} bytes (${at.compressed ? compression : 'as it is'})`,
          found,
        },
        cause,
      )

  const fetch = async (at: StoredAt, field: string, isExact: boolean): Promise<Uint8Array> => {
    const stored = await image.read(at.offset, at.size)
    const bad = badBlock(at, field, isExact)
    const isWrong = (length: number): boolean => (isExact ? length !== at.length : length > at.length)
    if (!at.compressed) {
      if (isWrong(stored.length)) throw bad(`${stored.length} bytes`)
      return stored
    }
    let bytes: Uint8Array
    try {
      bytes = await decode(compression, stored, at.length)
    } catch (error) {
      if (isLiveError(error)) throw error
      throw bad(`${at.size} bytes that can't be expanded`, error)
    }
    if (isWrong(bytes.length)) throw bad(`${bytes.length} bytes expanded`)
    return bytes
  }

  /** Expands a block into shared memory. @returns  bytes written */
  const expandInto = async (
    place: BlockPlacer,
    at: StoredAt,
    target: Uint8Array,
    bad: (found: string, cause?: unknown) => LiveError,
  ): Promise<number> => {
    const memory = inputs.take(at.size)
    try {
      const stored = new Uint8Array(memory, 0, at.size)
      await readInto(image, at.offset, stored)
      try {
        return await place(compression, stored, target)
      } catch (error) {
        if (isLiveError(error)) throw error
        throw bad(`${at.size} bytes that can't be expanded`, error)
      }
    } finally {
      inputs.give(memory)
    }
  }
  const placeKept =
    (at: StoredAt, field: string, isExact: boolean) =>
    async (memory: Uint8Array): Promise<number> => {
      if (decodeInto && at.compressed) {
        const bad = badBlock(at, field, isExact)
        const length = await expandInto(decodeInto, at, memory, bad)
        if (isExact && length !== at.length) throw bad(`${length} bytes expanded`)
        return length
      }
      const bytes = await fetch(at, field, isExact)
      memory.set(bytes)
      return bytes.length
    }
  // two names of one place with other numbers are two blocks
  const keyOf = ({ offset, size, compressed, length }: StoredAt, isExact: boolean): string =>
    `${offset} ${size} ${compressed} ${length} ${isExact}`
  const use =
    (isExact: boolean) =>
    async <T>(at: StoredAt, field: string, look: (bytes: Uint8Array) => T | Promise<T>): Promise<T> => {
      const known = isExact ? find(at) : undefined
      if (known) return look(await give(known))
      return shared.use(keyOf(at, isExact), at.length, placeKept(at, field, isExact), look)
    }

  const find = (at: StoredAt): KeptBlock | undefined => {
    const known = kept.get(at.offset)
    const isSame = known?.length === at.length && known.size === at.size && known.compressed === at.compressed
    return isSame ? known : undefined
  }

  const place = async (at: StoredAt, field: string, target: Uint8Array): Promise<void> => {
    if (shared.has(keyOf(at, true))) return use(true)(at, field, bytes => target.set(bytes))
    const known = find(at)
    const isDirect = !at.compressed || (decodeInto && target.buffer instanceof SharedArrayBuffer)
    if (known || !isDirect) {
      target.set(await (known ? give(known) : fetch(at, field, true)))
      return
    }
    const bad = badBlock(at, field, true)
    if (!at.compressed) {
      if (at.size !== at.length) throw bad(`${at.size} bytes`)
      return readInto(image, at.offset, target)
    }
    const length = await expandInto(decodeInto!, at, target, bad)
    if (length !== at.length) throw bad(`${length} bytes expanded`)
  }

  const get = (at: StoredAt, field: string): KeptBlock => {
    const known = find(at)
    if (known) {
      kept.delete(at.offset)
      kept.set(at.offset, known)
      return known
    }
    const bytes = fetch(at, field, true)
    const other = kept.get(at.offset)
    if (other) {
      keptBytes -= other.length
      kept.delete(at.offset)
    }
    const entry: KeptBlock = { ...at, bytes, given: false }
    kept.set(at.offset, entry)
    keptBytes += at.length
    for (const [key, old] of kept) {
      if (keptBytes <= CACHE_BYTES || kept.size <= 1) break
      kept.delete(key)
      keptBytes -= old.length
    }
    // a failure is told to who asked and not kept: the next read tries the medium again
    bytes.catch(() => {
      if (kept.get(at.offset) === entry) {
        kept.delete(at.offset)
        keptBytes -= at.length
      }
    })
    return entry
  }

  const give = (entry: KeptBlock): Promise<Uint8Array> => {
    entry.given = true
    return entry.bytes
  }
  const start = (entry: KeptBlock): void => void entry.bytes.catch(() => undefined)

  return {
    depth,
    read: (at, field) => give(get(at, field)),
    take: async (at, field) => {
      const entry = get(at, field)
      const shared = entry.given
      entry.given = true
      if (!shared && kept.get(at.offset) === entry) {
        kept.delete(at.offset)
        keptBytes -= at.length
      }
      const bytes = await entry.bytes
      return shared ? new Uint8Array(bytes) : bytes
    },
    readInto: place,
    use: use(true),
    useUpTo: use(false),
    ahead: (at, field) => start(get(at, field)),
    aheadUpTo: (at, field) => shared.ahead(keyOf(at, false), at.length, placeKept(at, field, false)),
  }
}
