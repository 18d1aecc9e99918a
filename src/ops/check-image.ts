import { createHash } from 'node:crypto'
import { type Device, isZero, readInto } from '../block/device.js'
import { settled } from '../block/parallel.js'
import { openSpare, type Spare } from '../bytes/spare.js'
import { corrupt, LiveError } from '../error.js'
import { pathBelow, type Xattr } from '../fs/filesystem.js'
import { FROM, type WrittenFile } from '../fs/squashfs/data-writer.js'
import type { SquashFile } from '../fs/squashfs/file.js'
import { keepsEnd } from '../fs/squashfs/pieces.js'
import { openSquashfs, type Squashfs, type SquashfsOptions } from '../fs/squashfs/reader.js'
import { type DirectoryNode, type FileNode, readTree, type SquashNode } from '../fs/squashfs/tree.js'
import type { WriteOutcome, WrittenTables } from '../fs/squashfs/writer.js'

/** What was compared with what when a new image was read back. */
export interface ImageCheck {
  /** taken over blocks: their bytes compared with the source's, still compressed */
  readonly verbatim: { readonly blocks: number; readonly bytes: number }
  /** new blocks: expanded and compared with the merged view */
  readonly encoded: { readonly blocks: number; readonly bytes: number }
  /** holes, where the merged view is zero (read, or free), or the source has a hole */
  readonly holes: { readonly blocks: number; readonly bytes: number }
  /** fragment blocks, compared in one of the two ways through the files that end in them */
  readonly fragments: number
  /** inodes whose tables were parsed again and compared */
  readonly inodes: number
}

export interface CheckOptions extends SquashfsOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

const PIECE = 1 << 20

/**
 * Reads a written image back and compares all of it with what it was made from: tables parsed again, untouched blocks byte for
 * byte with their source, new blocks expanded and compared with the content.
 *
 * @param image  the new image, read from the medium where that is possible
 * @throws CORRUPT  something differs, with its place; IO, CANCELLED
 */
export const checkImage = async (
  image: Device,
  expected: DirectoryNode,
  written: WriteOutcome,
  options: CheckOptions,
): Promise<ImageCheck> => {
  const fs = await openSquashfs(image, options)
  const found = await readTree(fs)
  const files: { readonly expected: FileNode; readonly found: FileNode }[] = []
  const inodes = compareTrees(fs, expected, found, files)
  if (fs.superblock.inodes !== inodes)
    throw corrupt({
      device: fs.name,
      offset: 4,
      field: 'inodes, read back',
      expected: inodes,
      found: fs.superblock.inodes,
    })
  // Behind the comparisons that can name what differs: this one finds what is left.
  for (const piece of written.tables) await checkTables(image, piece)
  const totals = { verbatim: { blocks: 0, bytes: 0 }, encoded: { blocks: 0, bytes: 0 }, holes: { blocks: 0, bytes: 0 } }
  const total = files.reduce((sum, file) => sum + file.expected.content.size, 0)
  let done = 0
  const spare = openSpare()
  for (const pair of files) {
    const record = written.data.files.get(pair.expected)!
    await checkFile(fs, pair.expected, pair.found.reuse!.file, record, totals, { ...options, spare }, bytes => {
      done += bytes
      options.onProgress?.(done, total)
    })
  }
  return { ...totals, fragments: fs.fragments.length, inodes }
}

/** Compares a piece of the tables with what was written, fields that nothing reads included. */
const checkTables = async (image: Device, { offset, length, sha256 }: WrittenTables): Promise<void> => {
  const hash = createHash('sha256')
  for (let at = 0; at < length; at += PIECE) hash.update(await image.read(offset + at, Math.min(PIECE, length - at)))
  const found = hash.digest('hex')
  if (found !== sha256)
    throw corrupt({
      device: image.name,
      offset,
      field: `the ${length} bytes of the ${offset === 0 ? 'superblock' : 'tables'}, read back`,
      expected: `sha256 ${sha256}`,
      found,
    })
}

type Totals = Record<'verbatim' | 'encoded' | 'holes', { blocks: number; bytes: number }>

const checkFile = async (
  fs: Squashfs,
  node: FileNode,
  file: SquashFile,
  record: WrittenFile,
  totals: Totals,
  { signal, decoder, spare }: CheckOptions & { readonly spare: Spare },
  progress: (bytes: number) => void,
): Promise<void> => {
  const differs = (block: number, expected: string, found: string) =>
    corrupt({
      device: fs.name,
      offset: file.stored(block)?.offset ?? 0,
      field: `block ${block} of ${file.name}, read back`,
      expected,
      found,
    })
  const copies = copyComparer(node, file, differs, spare)
  const depth = Math.max(1, decoder?.depth ?? 1)
  const window: Promise<void>[] = []
  const blocks = record.from.length
  for (let block = 0; block < blocks; block++) {
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while the new image was being verified')
    const length = file.lengthOf(block)
    const from = record.from[block]
    if (from === FROM.verbatim) await copies.add(block)
    else {
      const check =
        from === FROM.hole
          ? checkHole(node, file, block, length, differs)
          : checkEncoded(node, file, block, length, differs, spare)
      check.catch(() => undefined)
      window.push(check)
      if (window.length >= depth) await window.shift()
    }
    const count = totals[from === FROM.verbatim ? 'verbatim' : from === FROM.hole ? 'holes' : 'encoded']
    count.blocks++
    count.bytes += length
    progress(length)
  }
  await copies.end()
  await Promise.all(window)
  if (file.tailSize > 0) {
    const start = file.size - file.tailSize
    // a fragment that was taken over holds what was there before it was free as well
    const source = keepsEnd(node, fs.superblock.block_size) ? node.reuse!.file : node.content
    if (!equal(await file.read(start, file.tailSize), await source.read(start, file.tailSize)))
      throw differs(blocks, 'the end of the file', 'other bytes')
    progress(file.tailSize)
  }
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

type Differs = (block: number, expected: string, found: string) => LiveError

const checkHole = async (
  node: FileNode,
  file: SquashFile,
  block: number,
  length: number,
  differs: Differs,
): Promise<void> => {
  if (file.stored(block)) throw differs(block, 'a hole', 'data')
  const old = node.reuse?.file
  const wasHole = old && block < old.blockCount && !old.stored(block) && !node.reuse!.changed(block)
  if (!wasHole && !isZero(await node.content.read(block * file.blockSize, length)))
    throw differs(block, 'the bytes of the merged view', 'a hole')
}

const checkEncoded = async (
  node: FileNode,
  file: SquashFile,
  block: number,
  length: number,
  differs: Differs,
  spare: Spare,
): Promise<void> => {
  const start = block * file.blockSize
  await withBoth(spare, length, async (found, expected) => {
    await settled([readInto(file, start, found), readInto(node.content, start, expected)])
    if (!equal(found, expected)) throw differs(block, 'the bytes of the merged view', 'other bytes')
  })
}

/** Two pieces of memory to compare, taken for the time of `work`. */
const withBoth = async (
  spare: Spare,
  length: number,
  work: (found: Uint8Array, expected: Uint8Array) => Promise<void>,
): Promise<void> => {
  const [found, expected] = [spare.take(length), spare.take(length)]
  try {
    await work(new Uint8Array(found, 0, length), new Uint8Array(expected, 0, length))
  } finally {
    spare.give(found)
    spare.give(expected)
  }
}

/** Compares taken over blocks with their source, neighbours together. */
const copyComparer = (node: FileNode, file: SquashFile, differs: Differs, spare: Spare) => {
  let run: { block: number; from: number; to: number; size: number } | undefined
  const end = async (): Promise<void> => {
    if (!run) return
    const { block, from, to, size } = run
    run = undefined
    await withBoth(spare, size, async (found, expected) => {
      await settled([file.readStoredInto(to, found), node.reuse!.file.readStoredInto(from, expected)])
      if (!equal(expected, found))
        throw differs(block, 'the bytes of the old image (this block or one close behind it)', 'other bytes')
    })
  }
  return {
    end,
    async add(block: number): Promise<void> {
      const from = node.reuse!.file.stored(block)
      const to = file.stored(block)
      if (!from || !to || from.size !== to.size || from.compressed !== to.compressed)
        throw differs(block, 'the block of the old image', 'another one')
      if (
        run &&
        run.from + run.size === from.offset &&
        run.to + run.size === to.offset &&
        run.size + from.size <= PIECE
      )
        run.size += from.size
      else {
        await end()
        run = { block, from: from.offset, to: to.offset, size: from.size }
      }
    },
  }
}

/** Compares two trees in everything but file contents; gives the number of nodes and the pairs of files. */
const compareTrees = (
  fs: Squashfs,
  root: DirectoryNode,
  foundRoot: DirectoryNode,
  files: { expected: FileNode; found: FileNode }[],
): number => {
  const seen = new Map<SquashNode, SquashNode>()
  const differs = (path: string, what: string, expected: string | number, found: string | number) =>
    corrupt({
      device: fs.name,
      offset: fs.superblock.inode_table_start,
      field: `${what} of ${path}, read back`,
      expected,
      found,
    })
  const visit = (expected: SquashNode, found: SquashNode, path: string): void => {
    const before = seen.get(expected)
    if (before) {
      if (before !== found) throw differs(path, 'inode', 'a hard link', 'a file of its own')
      return
    }
    seen.set(expected, found)
    if (expected.kind !== found.kind) throw differs(path, 'kind', expected.kind, found.kind)
    for (const field of ['mode', 'uid', 'gid', 'mtime'] as const)
      if (expected[field] !== found[field]) throw differs(path, field, expected[field], found[field])
    if (describeXattrs(expected.xattrs) !== describeXattrs(found.xattrs))
      throw differs(path, 'xattrs', describeXattrs(expected.xattrs), describeXattrs(found.xattrs))
    if (expected.kind === 'symlink' && found.kind === 'symlink' && !equal(expected.target, found.target))
      throw differs(path, 'target', 'the old target', 'another one')
    if (
      'device' in expected &&
      'device' in found &&
      (expected.device.major !== found.device.major || expected.device.minor !== found.device.minor)
    )
      throw differs(
        path,
        'device',
        `${expected.device.major}:${expected.device.minor}`,
        `${found.device.major}:${found.device.minor}`,
      )
    if (expected.kind === 'file' && found.kind === 'file') {
      if (expected.content.size !== found.content.size)
        throw differs(path, 'size', expected.content.size, found.content.size)
      files.push({ expected, found })
    }
    if (expected.kind === 'directory' && found.kind === 'directory') visitEntries(expected, found, path)
  }
  const visitEntries = (expected: DirectoryNode, found: DirectoryNode, path: string): void => {
    if (expected.entries.length !== found.entries.length)
      throw differs(path, 'number of names', expected.entries.length, found.entries.length)
    const names = new Map(found.entries.map(entry => [Buffer.from(entry.name).toString('latin1'), entry.node]))
    for (const { name, node } of expected.entries) {
      const other = names.get(Buffer.from(name).toString('latin1'))
      const child = pathBelow(path, Buffer.from(name).toString())
      if (!other) throw differs(child, 'name', 'there', 'missing')
      visit(node, other, child)
    }
  }
  visit(root, foundRoot, '/')
  return seen.size
}

const describeXattrs = (xattrs: readonly Xattr[]): string =>
  xattrs
    .map(({ name, value }) => `${name}=${Buffer.from(value).toString('hex')}`)
    .sort()
    .join(' ')
