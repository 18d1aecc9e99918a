import type { StoredAt } from './blocks.js'
import type { DirectoryNode, FileNode, SquashNode } from './tree.js'

/** Where a block of the new image comes from. */
export type Piece =
  | { readonly kind: 'hole'; readonly file: FileNode; readonly block: number; readonly length: number }
  | {
      readonly kind: 'verbatim'
      readonly file: FileNode
      readonly block: number
      readonly at: StoredAt
      readonly length: number
    }
  /** read, compared and compressed where it is neither zero nor what stood there before */
  | {
      readonly kind: 'fresh'
      readonly file: FileNode
      readonly block: number
      readonly start: number
      readonly length: number
    }
  /** a fragment block of another squashfs as it stands */
  | {
      readonly kind: 'fragment'
      readonly fragment: number
      readonly at: StoredAt
      readonly from: FileNode
      readonly length: number
    }
  /** a new fragment block of several files' ends */
  | { readonly kind: 'ends'; readonly fragment: number; readonly ends: readonly End[]; readonly length: number }

/** The end of a file in a new fragment. */
export interface End {
  readonly file: FileNode
  readonly start: number
  readonly length: number
  readonly offset: number
}

/** How a file's data will be laid out. */
export interface FileLayout {
  readonly blockCount: number
  readonly fragment: { readonly index: number; readonly offset: number } | undefined
}

/** The order of everything in the data area: files in the order of the tree, copied fragments, new fragments. */
export interface DataLayout {
  readonly files: ReadonlyMap<FileNode, FileLayout>
  readonly fragmentCount: number
  readonly totalBytes: number
  pieces(): Iterable<Piece>
}

/** Every file of a tree once, in the order of names. */
export function* filesOf(node: SquashNode, seen = new Set<SquashNode>()): Iterable<FileNode> {
  if (node.kind === 'directory') for (const { node: child } of sortedEntries(node)) yield* filesOf(child, seen)
  else if (node.kind === 'file' && !seen.has(node)) {
    seen.add(node)
    yield node
  }
}

/** Entries of a directory in the order of their names' bytes, as the format wants them. */
export const sortedEntries = (directory: DirectoryNode): DirectoryNode['entries'] =>
  [...directory.entries].sort((a, b) => Buffer.compare(a.name, b.name))

/** True where the end of a file goes over in the fragment of another squashfs that holds it, as it stands there. */
export const keepsEnd = ({ content: { size }, reuse }: FileNode, blockSize: number): boolean => {
  const whole = Math.floor(size / blockSize)
  return (
    size % blockSize > 0 &&
    reuse?.file.tail !== undefined &&
    reuse.file.size === size &&
    !reuse.changed(whole) &&
    !reuse.empty(whole)
  )
}

/**
 * Lays out the data of a tree; reads nothing.
 *
 * @param packEnds  'never', files shorter than a block ('small'), or the end of every file ('always') go to fragments
 */
export const layOutData = (
  root: DirectoryNode,
  blockSize: number,
  packEnds: 'never' | 'small' | 'always',
): DataLayout => {
  const files = new Map<FileNode, FileLayout>()
  const copied = new Map<StoredAt, Extract<Piece, { kind: 'fragment' }>>()
  const fresh: End[][] = []
  let filled = blockSize
  let totalBytes = 0

  const list = [...filesOf(root)]
  for (const file of list) {
    const { size } = file.content
    totalBytes += size
    const whole = Math.floor(size / blockSize)
    const end = size % blockSize
    if (file.reuse?.file.tail && keepsEnd(file, blockSize)) {
      const { tail } = file.reuse.file
      const at = file.reuse.source.fragments[tail.fragment]!
      let piece = copied.get(at)
      if (!piece) {
        piece = { kind: 'fragment', fragment: copied.size, at, from: file, length: 0 }
        copied.set(at, piece)
      }
      files.set(file, { blockCount: whole, fragment: { index: piece.fragment, offset: tail.offset } })
    } else if (end > 0 && !file.reuse && (packEnds === 'always' || (packEnds === 'small' && whole === 0))) {
      if (filled + end > blockSize) {
        fresh.push([])
        filled = 0
      }
      fresh.at(-1)!.push({ file, start: whole * blockSize, length: end, offset: filled })
      // the index counts from the copied fragments, whose number is known at the end
      files.set(file, { blockCount: whole, fragment: { index: -fresh.length, offset: filled } })
      filled += end
    } else files.set(file, { blockCount: Math.ceil(size / blockSize), fragment: undefined })
  }
  for (const [file, layout] of files)
    if (layout.fragment && layout.fragment.index < 0)
      files.set(file, { ...layout, fragment: { ...layout.fragment, index: copied.size - layout.fragment.index - 1 } })

  return {
    files,
    fragmentCount: copied.size + fresh.length,
    totalBytes,
    *pieces() {
      for (const file of list) {
        const { blockCount } = files.get(file)!
        const { reuse, content } = file
        for (let block = 0; block < blockCount; block++) {
          const length = Math.min(blockSize, content.size - block * blockSize)
          const usable =
            reuse && block < reuse.file.blockCount && reuse.file.lengthOf(block) === length && !reuse.changed(block)
          if (reuse?.empty(block)) yield { kind: 'hole', file, block, length }
          else if (!usable) yield { kind: 'fresh', file, block, start: block * blockSize, length }
          else {
            const at = reuse.file.stored(block)
            yield at ? { kind: 'verbatim', file, block, at, length } : { kind: 'hole', file, block, length }
          }
        }
      }
      yield* copied.values()
      for (const [n, ends] of fresh.entries())
        yield { kind: 'ends', fragment: copied.size + n, ends, length: ends.reduce((sum, end) => sum + end.length, 0) }
    },
  }
}
