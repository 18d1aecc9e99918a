import { availableParallelism } from 'node:os'
import { type Device, extentsOf } from '../block/device.js'
import type { Compressor, CompressorName } from '../bytes/codec.js'
import { LiveError } from '../error.js'
import { COMPRESSORS, FLAG } from '../fs/squashfs/layout.js'
import { defaultCompressor } from '../fs/squashfs/options.js'
import { layOutData } from '../fs/squashfs/pieces.js'
import { type DirectoryNode, readTree, type SquashNode } from '../fs/squashfs/tree.js'
import { boundSize, packing, type SquashSettings, settingsOf } from '../fs/squashfs/writer.js'
import type { Folder } from '../host/folder.js'
import type { MergedRoot } from '../liveos/merged-root.js'
import type { Stack } from '../liveos/stack.js'

/** How the user wants the new image compressed; what is left out stays as it is. */
export interface Transcode {
  readonly comp?: string | undefined
  /** bytes, 4096 to 1048576 */
  readonly blockSize?: number | undefined
  readonly level?: number | undefined
}

/** A squashfs that could be written: its tree, settings and what it will cost. */
export interface ImagePlan {
  readonly root: DirectoryNode
  readonly settings: SquashSettings
  /** true where nothing can be taken over because compressor, options or block size change */
  readonly transcodes: boolean
  readonly blocks: BlockCounts
  /** upper bound of the image's size, bytes */
  readonly sizeAtMost: number
}

export interface BlockCounts {
  readonly total: number
  readonly holes: number
  /** go over as they stand */
  readonly verbatim: number
  readonly verbatimBytes: number
  /** are read, merged and compressed anew where they differ */
  readonly touched: number
  /** expanded bytes of those */
  readonly touchedBytes: number
}

const usage = (message: string): LiveError => new LiveError('USAGE', message)

const withLevel = (compressor: Compressor, level: number): Compressor => {
  const [low, high] = compressor.name === 'zstd' ? [1, 22] : [1, 9]
  if (compressor.name === 'xz' || compressor.name === 'lz4' || compressor.name === 'lzma')
    throw usage(`${compressor.name} has no levels: leave --level out`)
  if (!Number.isInteger(level) || level < low || level > high)
    throw usage(`--level of ${compressor.name} is ${low} to ${high}, not ${level}`)
  return { ...compressor, level }
}

/** A dictionary keeps its share of the block; below 8 KiB mksquashfs knows only the whole block. */
const scaledDictionary = (dictionary: number, from: number, to: number): number => {
  const scaled = (Math.min(dictionary, from) / from) * to
  return scaled < 8192 ? to : scaled
}

/** The settings of the new image: those of the source but for what the user asks for. @throws USAGE */
const chooseSettings = (
  source: SquashSettings,
  { comp, blockSize = source.blockSize, level }: Transcode,
): SquashSettings => {
  if (comp !== undefined && !COMPRESSORS.some(name => name === comp))
    throw usage(`--comp is one of ${COMPRESSORS.filter(name => name !== 'lzma').join(', ')}, not ${comp}`)
  if (!Number.isInteger(Math.log2(blockSize)) || blockSize < 4096 || blockSize > 1 << 20)
    throw usage(`--block-size is a power of two from 4096 to 1048576, not ${blockSize}`)
  let compressor = source.compressor
  if (comp !== undefined && comp !== compressor.name) compressor = defaultCompressor(comp as CompressorName, blockSize)
  else if (blockSize !== source.blockSize && compressor.name === 'xz')
    compressor = {
      ...compressor,
      dictionarySize: scaledDictionary(compressor.dictionarySize, source.blockSize, blockSize),
    }
  if (level !== undefined) compressor = withLevel(compressor, level)
  return { ...source, blockSize, compressor }
}

const withoutReuse = (node: SquashNode, made = new Map<SquashNode, SquashNode>()): SquashNode => {
  const known = made.get(node)
  if (known) return known
  let plain: SquashNode = node
  if (node.kind === 'directory')
    plain = {
      ...node,
      entries: node.entries.map(entry => ({ name: entry.name, node: withoutReuse(entry.node, made) })),
    }
  else if (node.kind === 'file') {
    const { reuse: _, ...rest } = node
    plain = rest
  }
  made.set(node, plain)
  return plain
}

/**
 * Plans the squashfs of a merged root: the source's tree with the merged root in the place of the old one. For an
 * uncompressed base the usual tree, `LiveOS/rootfs.img`.
 *
 * @throws USAGE  an option that can't be, UNSUPPORTED, CORRUPT
 */
export const planImage = async (stack: Stack, merged: MergedRoot, transcode: Transcode): Promise<ImagePlan> => {
  const { squashfs } = stack.base
  const source: SquashSettings = squashfs
    ? settingsOf(squashfs.fs)
    : {
        blockSize: 131072,
        compressor: defaultCompressor('xz', 131072),
        flags: FLAG.exportable,
        mkfsTime: Math.floor(stack.target.base.facts.modified / 1000),
      }
  const settings = chooseSettings(source, transcode)
  if (settings.compressor.name === 'lzma')
    throw usage('kernels do not mount a squashfs compressed with lzma: choose another compressor, such as --comp xz')
  const transcodes =
    !squashfs ||
    settings.blockSize !== source.blockSize ||
    JSON.stringify(settings.compressor) !== JSON.stringify(source.compressor)
  let root: DirectoryNode
  if (!squashfs) root = usualTree(merged.device, settings.mkfsTime)
  else {
    const exceptions = stack.overlay?.store.exceptions
    const chunk = stack.overlay?.store.chunkSize ?? 1
    const { blockSize } = source
    root = await readTree(squashfs.fs, (path, node) =>
      path !== squashfs.path
        ? undefined
        : {
            ...node,
            content: merged.device,
            reuse: {
              ...node.reuse!,
              changed: block =>
                merged.replayed.touches(block * blockSize, (block + 1) * blockSize) ||
                (exceptions?.touches(
                  Math.floor((block * blockSize) / chunk),
                  Math.ceil(((block + 1) * blockSize) / chunk),
                ) ??
                  false),
              empty: block => {
                const start = block * blockSize
                return merged.free?.covers(start, Math.min(start + blockSize, merged.device.size)) ?? false
              },
            },
          },
    )
    if (transcodes) root = withoutReuse(root) as DirectoryNode
  }
  return { root, settings, transcodes, blocks: countBlocks(root, settings), sizeAtMost: boundSize(root, settings) }
}

const usualTree = (content: Device, mtime: number): DirectoryNode => {
  const head = { uid: 0, gid: 0, mtime, xattrs: [] }
  const directory = (name: string, node: SquashNode): DirectoryNode => ({
    kind: 'directory',
    ...head,
    mode: 0o755,
    entries: [{ name: Buffer.from(name), node }],
  })
  return directory('LiveOS', directory('rootfs.img', { kind: 'file', ...head, mode: 0o644, content }))
}

const countBlocks = (root: DirectoryNode, { blockSize, flags }: SquashSettings): BlockCounts => {
  const counts = { total: 0, holes: 0, verbatim: 0, verbatimBytes: 0, touched: 0, touchedBytes: 0 }
  for (const piece of layOutData(root, blockSize, packing(flags)).pieces()) {
    counts.total++
    if (piece.kind === 'hole') counts.holes++
    else if ('at' in piece) {
      counts.verbatim++
      counts.verbatimBytes += piece.at.size
    } else {
      counts.touched++
      counts.touchedBytes += piece.length
    }
  }
  return counts
}

/** what a file of any usual filesystem takes at least for a byte */
const PAGE = 4096

/** Bytes that a raw image of a merged root may take in a folder: where there are no holes, all of it. */
export const rawSizeAtMost = async (
  { base, overlay, root: { size } }: Stack,
  { device, replayed }: MergedRoot,
  { traits }: Folder,
): Promise<number> => {
  if (!traits.holes) return size
  const rounded = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE
  let bytes = 0
  if (base.squashfs) {
    let end = 0
    for await (const extent of extentsOf(device)) {
      if (extent.kind === 'hole') continue
      const start = Math.max(end, Math.floor(extent.offset / PAGE) * PAGE)
      end = rounded(extent.offset + extent.length)
      bytes += Math.max(0, end - start)
    }
  } else {
    const { exceptions, chunkSize } = overlay?.store ?? { exceptions: { count: 0 }, chunkSize: 0 }
    // A file's holes can't be asked for: what is laid over it may lie in them.
    bytes = base.file.allocated + exceptions.count * rounded(chunkSize) + replayed.bytes + replayed.count * PAGE
  }
  return Math.min(size, bytes)
}

/** Compression speed of one core in bytes a second, roughly, for an estimate in a plan. */
const SPEED: Readonly<Record<CompressorName, number>> = {
  gzip: 12e6,
  lzma: 3e6,
  lzo: 8e6,
  xz: 3.5e6,
  lz4: 150e6,
  zstd: 8e6,
}
/** bytes a second that a stick takes and gives, for the same estimate */
const STICK_SPEED = 30e6

/** Seconds that writing an image and reading it back will take, roughly. */
export const estimateSeconds = (
  touchedBytes: number,
  compressor: CompressorName | undefined,
  writtenBytes: number,
): number =>
  Math.ceil(
    (compressor ? touchedBytes / (SPEED[compressor] * availableParallelism()) : 0) + (2 * writtenBytes) / STICK_SPEED,
  )

/** A compressor with its settings in a few words. */
export const describeCompressor = (compressor: Compressor, blockSize: number): string => {
  const kib = `${blockSize / 1024} KiB blocks`
  switch (compressor.name) {
    case 'gzip':
    case 'zstd':
      return `${compressor.name} level ${compressor.level}, ${kib}`
    case 'lzo':
      return `lzo algorithm ${compressor.algorithm}, ${kib}`
    case 'xz':
      return `xz${compressor.filters ? ' with branch filters' : ''}, dictionary ${compressor.dictionarySize / 1024} KiB, ${kib}`
    case 'lz4':
      return `lz4${compressor.highCompression ? ' high compression' : ''}, ${kib}`
    case 'lzma':
      return `lzma, ${kib}`
  }
}

/** What a merge gives back: bytes that the root filesystem has free, which become holes where they can; null where nothing is trimmed. */
export const trimOf = ({ free }: MergedRoot): { readonly freeBytes: number } | null =>
  free ? { freeBytes: free.bytes } : null
