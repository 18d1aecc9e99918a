import { isZero, readInto } from '../../block/device.js'
import type { BlockEncoder, Compressor, StoredBlock } from '../../bytes/codec.js'
import { openSpare, type Spare } from '../../bytes/spare.js'
import { LiveError } from '../../error.js'
import { STORED } from './layout.js'
import type { Output } from './output.js'
import type { DataLayout, Piece } from './pieces.js'
import type { FileNode } from './tree.js'

/** How each block of a file came into the new image. */
export const FROM = { hole: 0, verbatim: 1, encoded: 2 } as const

/** What became of a file's data. */
export interface WrittenFile {
  readonly startBlock: number
  /** size words as the inode holds them */
  readonly words: Uint32Array
  /** a value of FROM for each block */
  readonly from: Uint8Array
  readonly holeBytes: number
}

/** A written fragment block. */
export interface WrittenFragment {
  readonly start: number
  readonly word: number
  readonly from: number
}

export interface WrittenData {
  readonly files: ReadonlyMap<FileNode, WrittenFile>
  readonly fragments: readonly WrittenFragment[]
}

export interface DataSettings {
  readonly compressor: Compressor
  readonly blockSize: number
  readonly encoder: BlockEncoder
  /** the image keeps data blocks, or fragments, as they are */
  readonly rawData: boolean
  readonly rawFragments: boolean
  /** fresh blocks read side by side */
  readonly depth: number
  readonly signal?: AbortSignal | undefined
  /** expanded bytes laid down so far */
  readonly onProgress?: ((doneBytes: number) => void) | undefined
}

type Decision = 'hole' | 'verbatim' | 'encode' | Uint8Array
type Fresh = Extract<Piece, { kind: 'fresh' | 'ends' }>

const COPY = 1 << 20

/**
 * Writes the data area. Two walks over the same pieces: one ahead reads the fresh blocks, decides what becomes of each and
 * feeds the encoder; the other behind it lays everything down in order, untouched blocks as they stand.
 *
 * @throws CORRUPT, IO  a block of the source can't be read, NO_SPACE, CANCELLED
 */
export const writeData = async (out: Output, layout: DataLayout, settings: DataSettings): Promise<WrittenData> => {
  const { compressor, blockSize, encoder, signal } = settings
  const decisions = queue<Decision>()
  // What ends the walk ahead and the encoder at once when the walk behind fails.
  const over = new AbortController()
  const either = signal ? AbortSignal.any([signal, over.signal]) : over.signal
  const spare = openSpare()
  const ahead = toEncode(layout, { ...settings, signal: either }, decisions, spare)
  const onDone = (block: Uint8Array): void => giveBack(spare, block)
  const encoded = encoder(compressor, blockSize, ahead, either, onDone)[Symbol.asyncIterator]()
  let coming = encoded.next()
  coming.catch(error => decisions.fail(error))
  const nextEncoded = async (): Promise<StoredBlock> => {
    const { value, done } = await coming
    if (done) throw new Error('liveos bug: the encoder gave fewer blocks than it was given')
    coming = encoded.next()
    coming.catch(error => decisions.fail(error))
    return value
  }

  const decisionOf = async (piece: Fresh): Promise<Decision> => {
    if (!isRaw(piece, settings)) return decisions.take()
    const reading = startFresh(piece, settings, spare)
    const decision = await decide(piece, settings, reading)
    if (!(decision instanceof Uint8Array)) giveBack(spare, await reading.bytes)
    return decision
  }

  const files = new Map<FileNode, WrittenFile & { holeBytes: number; startBlock: number }>()
  for (const [file, { blockCount }] of layout.files)
    files.set(file, {
      startBlock: 0,
      words: new Uint32Array(blockCount),
      from: new Uint8Array(blockCount),
      holeBytes: 0,
    })
  const fragments: WrittenFragment[] = []
  let run: { file: FileNode; offset: number; size: number } | undefined
  let done = 0
  let current: FileNode | undefined

  const copied = new Uint8Array(COPY)
  const copyRun = async (): Promise<void> => {
    if (!run) return
    const { file, offset, size } = run
    run = undefined
    for (let at = 0; at < size; at += COPY) {
      stopIf(signal)
      const bytes = copied.subarray(0, Math.min(COPY, size - at))
      await file.reuse!.file.readStoredInto(offset + at, bytes)
      await out.append(bytes)
    }
  }
  /** Neighbours on the old medium go over in one run. */
  const copy = async (file: FileNode, offset: number, size: number): Promise<void> => {
    if (run && run.file === file && run.offset + run.size === offset && run.size < COPY) run.size += size
    else {
      await copyRun()
      run = { file, offset, size }
    }
  }

  try {
    for (const piece of layout.pieces()) {
      stopIf(signal)
      if (piece.kind === 'fragment') {
        await copyRun()
        fragments.push({
          start: out.position,
          word: piece.at.size | (piece.at.compressed ? 0 : STORED),
          from: FROM.verbatim,
        })
        await copy(piece.from, piece.at.offset, piece.at.size)
        continue
      }
      if (piece.kind === 'ends') {
        await copyRun()
        const decision = await decisionOf(piece)
        const block = decision instanceof Uint8Array ? { bytes: decision, compressed: false } : await nextEncoded()
        fragments.push({ start: out.position, word: wordOf(block), from: FROM.encoded })
        await out.append(block.bytes)
        giveBack(spare, block.bytes)
        done += piece.length
        settings.onProgress?.(done)
        continue
      }
      const { file, block } = piece
      const written = files.get(file)!
      if (current !== file) {
        await copyRun()
        current = file
        written.startBlock = out.position
      }
      const decision = piece.kind === 'fresh' ? await decisionOf(piece) : piece.kind
      if (decision === 'hole') written.holeBytes += piece.length
      else if (decision === 'verbatim') {
        const at = file.reuse!.file.stored(block)!
        written.words[block] = at.size | (at.compressed ? 0 : STORED)
        written.from[block] = FROM.verbatim
        await copy(file, at.offset, at.size)
      } else {
        const stored = decision === 'encode' ? await nextEncoded() : { bytes: decision, compressed: false }
        await copyRun()
        written.words[block] = wordOf(stored)
        written.from[block] = FROM.encoded
        await out.append(stored.bytes)
        giveBack(spare, stored.bytes)
      }
      done += piece.length
      settings.onProgress?.(done)
    }
    await copyRun()
    await out.drain()
    settings.onProgress?.(layout.totalBytes)
  } finally {
    over.abort()
    await encoded.return?.().catch(() => undefined)
    await out.settle()
  }
  return { files, fragments }
}

const wordOf = ({ bytes, compressed }: StoredBlock): number => bytes.length | (compressed ? 0 : STORED)

/** @throws CANCELLED */
const stopIf = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped before the new image was complete')
}

/** True for a block that is kept as it is. The walk behind reads those itself: nothing would hold back a walk ahead. */
const isRaw = (piece: Fresh, { rawData, rawFragments }: DataSettings): boolean =>
  piece.kind === 'fresh' ? rawData : rawFragments

/** What becomes of a fresh block; its bytes where it is kept as it is. @throws CORRUPT, IO  the source can't be read */
const decide = async (piece: Fresh, settings: DataSettings, reading: Reading): Promise<Decision> => {
  const bytes = await reading.bytes
  if (piece.kind === 'fresh' && isZero(bytes)) return 'hole'
  if (await reading.isUnchanged) return 'verbatim'
  return isRaw(piece, settings) ? bytes : 'encode'
}

/** The walk ahead: reads fresh blocks, `depth` of them side by side, and hands on those that want encoding. */
async function* toEncode(
  layout: DataLayout,
  settings: DataSettings,
  decisions: Queue<Decision>,
  spare: Spare,
): AsyncGenerator<Uint8Array> {
  const { signal } = settings
  const window: { readonly piece: Fresh; readonly reading: Reading }[] = []
  const handOn = async function* (): AsyncGenerator<Uint8Array> {
    const { piece, reading } = window.shift()!
    const decision = await decide(piece, settings, reading)
    decisions.put(decision)
    if (decision === 'encode') yield await reading.bytes
    else giveBack(spare, await reading.bytes)
  }
  try {
    for (const piece of layout.pieces()) {
      if ((piece.kind !== 'fresh' && piece.kind !== 'ends') || isRaw(piece, settings)) continue
      stopIf(signal)
      window.push({ piece, reading: startFresh(piece, settings, spare) })
      if (window.length >= settings.depth) yield* handOn()
    }
    while (window.length > 0) yield* handOn()
  } catch (error) {
    decisions.fail(error)
    throw error
  }
}

/** A block that nobody looks at any more. What an encoder made is memory of its own, which the collector sees. */
const giveBack = (spare: Spare, { buffer }: Uint8Array): void => {
  if (buffer instanceof SharedArrayBuffer) spare.give(buffer)
}

const readFresh = async (piece: Fresh, { blockSize }: DataSettings, spare: Spare): Promise<Uint8Array> => {
  const bytes = new Uint8Array(spare.take(blockSize), 0, piece.length)
  if (piece.kind === 'fresh') await readInto(piece.file.content, piece.start, bytes)
  else
    for (const { file, start, length, offset } of piece.ends)
      await readInto(file.content, start, bytes.subarray(offset, offset + length))
  return bytes
}

/** A fresh block on its way. */
interface Reading {
  readonly bytes: Promise<Uint8Array>
  /** It came out as what stood there before, so that keeps its old form. */
  readonly isUnchanged: Promise<boolean>
}

const startFresh = (piece: Fresh, settings: DataSettings, spare: Spare): Reading => {
  const old = piece.kind === 'fresh' ? oldOf(piece) : undefined
  // The old block first: the content may lie over it and finds it expanded then. One that can't be read is simply no match.
  const isUnchanged = old
    ? old.file.useBlock(old.block, async was => Buffer.compare(was, await bytes) === 0).catch(() => false)
    : Promise.resolve(false)
  const bytes = readFresh(piece, settings, spare)
  bytes.catch(() => undefined)
  return { bytes, isUnchanged }
}

/** What stood in the place of a block, where it had its length. */
const oldOf = ({ file, block, length }: Extract<Piece, { kind: 'fresh' }>) => {
  const old = file.reuse?.file
  if (!old || block >= old.blockCount || old.lengthOf(block) !== length || !old.stored(block)) return undefined
  return { file: old, block }
}

interface Queue<T> {
  put(value: T): void
  take(): Promise<T>
  /** every later `take` beyond what is queued fails so */
  fail(error: unknown): void
}

const queue = <T>(): Queue<T> => {
  const values: T[] = []
  let waiting: { resolve(value: T): void; reject(error: unknown): void } | undefined
  let failure: { readonly error: unknown } | undefined
  return {
    put(value) {
      if (waiting) {
        waiting.resolve(value)
        waiting = undefined
      } else values.push(value)
    },
    take() {
      if (values.length > 0) return Promise.resolve(values.shift()!)
      if (failure) return Promise.reject(failure.error)
      return new Promise((resolve, reject) => {
        waiting = { resolve, reject }
      })
    },
    fail(error) {
      failure ??= { error }
      waiting?.reject(failure.error)
      waiting = undefined
    },
  }
}
