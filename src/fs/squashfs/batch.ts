import type { Device } from '../../block/device.js'
import type { BlockEncoder, Compressor, StoredBlock } from '../../bytes/codec.js'
import { assert, LiveError } from '../../error.js'
import { openSquashfs } from './reader.js'

/** Runs mksquashfs once. It reads a tar from `input`; `open` gives the image it made, once `finished` has settled. */
export interface MksquashfsRun {
  /** waits until all is with the program. @throws IO  it has ended */
  write(bytes: Uint8Array): Promise<void>
  /** ends the input and waits for the program. @throws IO  it failed, with its own words */
  finish(): Promise<Device>
  /** stops the program where it still runs and removes what it left */
  dispose(): Promise<void>
}

/** Starts mksquashfs with these arguments behind source and target. */
export type StartMksquashfs = (args: readonly string[], signal?: AbortSignal) => Promise<MksquashfsRun>

/** Input of one run: large enough that start and end cost little, small enough for any temporary directory. */
const BATCH_BYTES = 64 << 20
const BATCH_BLOCKS = 4096

const STRATEGIES = ['default', 'filtered', 'huffman_only', 'run_length_encoded', 'fixed']
const FILTERS = ['x86', 'powerpc', 'ia64', 'arm', 'armthumb', 'sparc']
const ALGORITHMS = ['lzo1x_1', 'lzo1x_1_11', 'lzo1x_1_12', 'lzo1x_1_15', 'lzo1x_999']

const named = (mask: number, names: readonly string[]): string => names.filter((_, bit) => mask & (1 << bit)).join(',')

/** mksquashfs' words for a compressor with its options. */
export const compressorArguments = (compressor: Compressor, blockSize: number): readonly string[] => {
  const args = ['-comp', compressor.name, '-b', String(blockSize)]
  switch (compressor.name) {
    case 'gzip':
      args.push('-Xcompression-level', String(compressor.level), '-Xwindow-size', String(compressor.windowBits))
      if (compressor.strategies) args.push('-Xstrategy', named(compressor.strategies, STRATEGIES))
      break
    case 'xz':
      if (compressor.dictionarySize !== blockSize) args.push('-Xdict-size', String(compressor.dictionarySize))
      if (compressor.filters) args.push('-Xbcj', named(compressor.filters, FILTERS))
      break
    case 'lzo':
      args.push('-Xalgorithm', ALGORITHMS[compressor.algorithm]!)
      if (compressor.algorithm === 4) args.push('-Xcompression-level', String(compressor.level))
      break
    case 'lz4':
      if (compressor.highCompression) args.push('-Xhc')
      break
    case 'zstd':
      args.push('-Xcompression-level', String(compressor.level))
      break
    case 'lzma':
      break
  }
  return args
}

/** A tar header of a regular file, ustar form. */
const tarHeader = (name: string, size: number): Uint8Array => {
  const header = Buffer.alloc(512)
  header.write(name, 0)
  header.write('0000644\0', 100)
  header.write('0000000\0', 108)
  header.write('0000000\0', 116)
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124)
  header.write('00000000000\0', 136)
  header.write('        0', 148)
  header.write('ustar\x0000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return header
}

const nameOf = (index: number): string => index.toString().padStart(6, '0')

interface Batch {
  readonly run: MksquashfsRun
  readonly lengths: readonly number[]
  readonly image: Promise<Device>
}

/**
 * An encoder that lets mksquashfs compress: each block goes in as a file of its own and comes out as that file's one block,
 * which is lifted out as it stands. Native speed, all cores, and the very filters and options of the source.
 * While one batch is being finished, the next is fed.
 *
 * @throws IO  mksquashfs failed
 */
export const batchEncoder = (start: StartMksquashfs, threads: number): BlockEncoder =>
  async function* encode(compressor, blockSize, blocks, signal, onDone): AsyncGenerator<StoredBlock> {
    const args = [
      ...compressorArguments(compressor, blockSize),
      ...['-no-fragments', '-no-duplicates', '-no-xattrs', '-no-progress', '-noI', '-noappend', '-mem', '64M'],
      ...['-processors', String(threads), '-tar', '-all-time', '0', '-mkfs-time', '0'],
    ]
    const input = blocks[Symbol.asyncIterator]()
    /** runs that are not disposed of, with the image of those that were fed */
    const live = new Map<MksquashfsRun, Promise<Device> | undefined>()
    let over = false

    const feed = async (): Promise<Batch | undefined> => {
      let run: MksquashfsRun | undefined
      const lengths: number[] = []
      let bytes = 0
      while (bytes < BATCH_BYTES && lengths.length < BATCH_BLOCKS) {
        const { value, done } = await input.next()
        if (done) break
        if (!run) {
          run = await start(args, signal)
          live.set(run, undefined)
        }
        // Nobody waits for this batch any more: it was begun ahead.
        if (over) return undefined
        assert(value.length > 0 && value.length <= blockSize, 'a block of 1 byte to the block size')
        await run.write(tarHeader(nameOf(lengths.length), value.length))
        await run.write(value)
        if (value.length % 512) await run.write(new Uint8Array(512 - (value.length % 512)))
        lengths.push(value.length)
        bytes += value.length
        onDone?.(value)
      }
      if (!run) return undefined
      await run.write(new Uint8Array(1024))
      const image = run.finish()
      image.catch(() => undefined)
      live.set(run, image)
      return { run, lengths, image }
    }

    const lift = async function* ({ run, lengths, image }: Batch): AsyncGenerator<StoredBlock> {
      const fs = await openSquashfs(await image)
      const root = await fs.lookup('/')
      const entries = root.kind === 'directory' ? await fs.listing(root) : []
      if (entries.length !== lengths.length)
        throw new LiveError('IO', `mksquashfs gave ${entries.length} blocks for ${lengths.length}`, {
          expected: lengths.length,
          found: entries.length,
        })
      for (const [n, entry] of entries.entries()) {
        const inode = await fs.inodeAt(entry)
        if (inode.kind !== 'file' || inode.size !== lengths[n])
          throw new LiveError('IO', `mksquashfs gave another block ${n} than it was given`)
        const file = await fs.file(inode, nameOf(n))
        const at = file.stored(0)
        // a block of zeros comes back as a hole; it is small as it is
        if (!at) yield { bytes: new Uint8Array(lengths[n]!), compressed: false }
        else yield { bytes: await file.readStored(at.offset, at.size), compressed: at.compressed }
      }
      await run.dispose()
      live.delete(run)
    }

    const disposeAll = async (): Promise<void> => {
      for (const [run, image] of live) {
        live.delete(run)
        await run.dispose()
        // It may have been opened just after.
        await image?.then(
          device => device.close(),
          () => undefined,
        )
      }
    }

    let feeding = feed()
    feeding.catch(() => undefined)
    try {
      let batch = await feeding
      while (batch) {
        feeding = feed()
        feeding.catch(() => undefined)
        yield* lift(batch)
        batch = await feeding
      }
    } finally {
      over = true
      // The first round ends a feeding that waits for its program, the second what that feeding had just started.
      await disposeAll()
      await feeding.catch(() => undefined)
      await disposeAll()
      await input.return?.()
    }
  }
