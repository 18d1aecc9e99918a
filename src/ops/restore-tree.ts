import type { Device } from '../block/device.js'
import { readTar, type TarEntry } from '../bytes/tar-reader.js'
import { corrupt, LiveError, unsupported } from '../error.js'
import { type Entry, type Stat, splitPath, type XattrFileSystem } from '../fs/filesystem.js'
import { decodeName, printableName } from '../fs/name.js'
import { contentOf } from './backup-archive.js'

/** An inode of an archive; a directory has names. */
interface Node {
  readonly inode: number
  entry: TarEntry | undefined
  readonly names: Map<string, Node> | undefined
  links: number
}

const MAX_MEMBERS = 1 << 20

/** What stands for a directory that the archive has no member of. */
const UNSAID: Pick<Stat, 'mode' | 'uid' | 'gid' | 'mtime' | 'mtimeNanoseconds'> = {
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: 0,
  mtimeNanoseconds: 0,
}

/**
 * Shows an archive as a FileSystem, as it would be unpacked into an empty directory: of a name that comes twice the last one
 * counts. Closing it leaves `archive` open.
 *
 * @throws CORRUPT  also a member below a link or a file, and a hard link to what is not there; UNSUPPORTED, IO
 */
export const openTarTree = async (archive: Device): Promise<XattrFileSystem> => {
  let inodes = 0
  const make = (entry: TarEntry | undefined, isDirectory: boolean): Node => ({
    inode: ++inodes,
    entry,
    names: isDirectory ? new Map() : undefined,
    links: 1,
  })
  const root = make(undefined, true)

  const wrong = (entry: TarEntry, field: string, expected: string): LiveError =>
    corrupt({
      device: archive.name,
      offset: entry.offset,
      field,
      expected,
      found: printableName(decodeName(entry.linkPath && entry.kind === 'hardlink' ? entry.linkPath : entry.path)),
    })
  const find = (names: readonly string[]): Node | undefined => {
    let node: Node | undefined = root
    for (const name of names) node = node?.names?.get(name)
    return node
  }
  const add = (entry: TarEntry): void => {
    const names = splitPath(decodeName(entry.path))
    const name = names.at(-1)
    if (name === undefined) {
      if (entry.kind !== 'directory') throw wrong(entry, 'root', 'a directory')
      root.entry = entry
      return
    }
    let parent = root
    for (const part of names.slice(0, -1)) {
      const next = parent.names!.get(part) ?? make(undefined, true)
      if (!next.names) throw wrong(entry, 'path', 'a name below directories alone')
      parent.names!.set(part, next)
      parent = next
    }
    const before = parent.names!.get(name)
    if (before?.names) {
      if (entry.kind !== 'directory') throw wrong(entry, 'path', 'a name that is not that of a directory before it')
      before.entry = entry
      return
    }
    if (before) before.links--
    if (entry.kind !== 'hardlink') {
      parent.names!.set(name, make(entry, entry.kind === 'directory'))
      return
    }
    const first = find(splitPath(decodeName(entry.linkPath!)))
    if (!first || first.names || first === before) throw wrong(entry, 'linkpath', 'a file before it')
    first.links++
    parent.names!.set(name, first)
  }
  let count = 0
  for await (const entry of readTar(archive)) {
    if (++count > MAX_MEMBERS) throw unsupported('archive of more than 1048576 members', archive.name)
    add(entry)
  }

  const look = (path: string): Node => {
    const node = find(splitPath(path))
    if (node) return node
    throw new LiveError('NOT_FOUND', `${archive.name}: no file or directory ${printableName(path)}`, {
      device: archive.name,
      path,
    })
  }
  const ofKind = (path: string, kind: TarEntry['kind']): Node & { readonly entry: TarEntry } => {
    const { entry, ...node } = look(path)
    if (entry?.kind === kind) return { ...node, entry }
    throw new LiveError('NOT_FOUND', `${archive.name}: ${printableName(path)} is no ${kind}`, {
      device: archive.name,
      path,
    })
  }
  const kindOf = ({ entry, names }: Node): Stat['kind'] =>
    names || !entry || entry.kind === 'hardlink' ? 'directory' : entry.kind
  return {
    name: archive.name,
    type: 'tar',
    label: undefined,
    uuid: undefined,
    async stat(path) {
      const node = look(path)
      const { mode, uid, gid, mtime, mtimeNanoseconds } = node.entry ?? UNSAID
      const { entry } = node
      const size = entry?.kind === 'symlink' ? entry.linkPath!.length : (entry?.size ?? 0)
      const base = { kind: kindOf(node), inode: node.inode, mode, uid, gid, size, mtime, mtimeNanoseconds }
      return { ...base, linkCount: node.links, ...(entry?.device ? { device: entry.device } : {}) }
    },
    async list(path) {
      const { names } = look(path)
      if (!names)
        throw new LiveError('NOT_FOUND', `${archive.name}: ${printableName(path)} is no directory`, {
          device: archive.name,
          path,
        })
      return [...names].map(([name, node]): Entry => ({ name, kind: kindOf(node), inode: node.inode }))
    },
    readLink: async path => decodeName(ofKind(path, 'symlink').entry.linkPath!),
    open: async path => contentOf(archive, ofKind(path, 'file').entry),
    xattrs: async path =>
      (look(path).entry?.xattrs ?? []).map(({ name, value }) => ({ name: decodeName(name), value })),
    async close() {},
  }
}
