import type { Device } from '../../src/block/device.js'
import { memory } from '../../src/block/memory.js'
import { LiveError } from '../../src/error.js'
import type { FileKind, Stat, Xattr, XattrFileSystem } from '../../src/fs/filesystem.js'
import { encodeName } from '../../src/fs/name.js'

/** An inode of a made-up filesystem. Two names of one inode share the object. */
export interface MockNode {
  readonly kind: FileKind
  readonly content?: Uint8Array | undefined
  /** in place of content */
  readonly device?: Device | undefined
  readonly target?: string | undefined
  /** names may be anything, twice too */
  readonly entries?: readonly (readonly [string, MockNode])[] | undefined
  readonly stat?: Partial<Stat> | undefined
  readonly xattrs?: readonly Xattr[] | undefined
  /** what listing, opening or reading the link ends with */
  readonly fails?: LiveError | undefined
}

export const file = (content: string | Uint8Array, more: Partial<MockNode> = {}): MockNode => ({
  kind: 'file',
  content: typeof content === 'string' ? Buffer.from(content) : content,
  ...more,
})
export const symlink = (target: string): MockNode => ({ kind: 'symlink', target })
export const directory = (
  entries: MockNode['entries'] | Record<string, MockNode>,
  more: Partial<MockNode> = {},
): MockNode => ({
  kind: 'directory',
  entries: Array.isArray(entries) ? entries : Object.entries(entries as Record<string, MockNode>),
  ...more,
})

/**
 * A filesystem out of nodes, for what no real medium shows easily. It takes paths apart at slashes and believes every
 * name, so a listing may lie. Of two entries of one name, `stat` tells of the first, then the second, in turn; all else
 * takes the one whose kind fits.
 */
export const mockFileSystem = (root: MockNode, name = 'mock'): XattrFileSystem => {
  const inodes = new Map<MockNode, number>()
  const turns = new Map<string, number>()
  const inodeOf = (node: MockNode): number => {
    if (!inodes.has(node)) inodes.set(node, inodes.size + 1)
    return node.stat?.inode ?? inodes.get(node)!
  }
  const find = (path: string, turn = false, kind?: FileKind): MockNode => {
    let node = root
    const parts = path.split('/').filter(Boolean)
    for (const [n, part] of parts.entries()) {
      const all = (node.entries ?? []).filter(([entry]) => entry === part)
      const fitting = all.filter(([, { kind: found }]) => found === (n === parts.length - 1 ? kind : 'directory'))
      const same = turn && n === parts.length - 1 ? all : fitting.length > 0 ? fitting : all
      const times = turns.get(path) ?? 0
      if (turn && same.length > 1) turns.set(path, times + 1)
      const next = same[(turn ? times : Math.max(0, times - 1)) % Math.max(1, same.length)]
      if (!next) throw new LiveError('NOT_FOUND', `${name}: no ${path}`, { path })
      node = next[1]
    }
    return node
  }
  const whole = (path: string, kind: FileKind): MockNode => {
    const node = find(path, false, kind)
    if (node.fails) throw node.fails
    if (node.kind !== kind) throw new LiveError('NOT_FOUND', `${name}: no ${kind} ${path}`, { path })
    return node
  }
  return {
    name,
    type: 'mock',
    label: undefined,
    uuid: undefined,
    async stat(path) {
      const node = find(path, true)
      const size = node.device?.size ?? node.content?.length ?? (node.target ? encodeName(node.target).length : 0)
      return {
        kind: node.kind,
        inode: inodeOf(node),
        mode: node.kind === 'directory' ? 0o755 : 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: 1_600_000_000,
        mtimeNanoseconds: 0,
        linkCount: 1,
        ...node.stat,
      }
    },
    async list(path) {
      return whole(path, 'directory').entries!.map(([entry, node]) => ({
        name: entry,
        kind: node.kind,
        inode: inodeOf(node),
      }))
    },
    async readLink(path) {
      return whole(path, 'symlink').target!
    },
    async open(path) {
      const node = whole(path, 'file')
      return node.device ?? memory(node.content!, path)
    },
    async xattrs(path) {
      return find(path).xattrs ?? []
    },
    async close() {},
  }
}
