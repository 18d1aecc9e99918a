import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import type { Device } from '../../src/block/device.js'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { openReplayed } from '../../src/fs/ext4/journal/replayed.js'
import { type Ext4, openExt4 } from '../../src/fs/ext4/reader.js'
import type { Stat } from '../../src/fs/filesystem.js'
import { walk } from '../../src/fs/walk.js'
import type { Change, Changes } from '../../src/liveos/changes/change.js'
import { type ChangesOptions, readChanges } from '../../src/liveos/changes/read.js'
import type { Stack } from '../../src/liveos/stack.js'
import { type ChangedChunk, storeOf } from './store-writer.js'

/** The chunks in which two images differ, and some that were written again as they were: every `same`-th. */
export const changedChunks = (base: Uint8Array, root: Uint8Array, chunkSize: number, same = 0): ChangedChunk[] => {
  const chunks: ChangedChunk[] = []
  for (let oldChunk = 0; oldChunk * chunkSize < base.length; oldChunk++) {
    const [start, end] = [oldChunk * chunkSize, Math.min(base.length, (oldChunk + 1) * chunkSize)]
    const is = root.subarray(start, end)
    if (Buffer.compare(base.subarray(start, end), is) !== 0 || (same > 0 && oldChunk % same === 0)) {
      const content = new Uint8Array(chunkSize)
      content.set(is)
      chunks.push({ oldChunk, content })
    }
  }
  return chunks
}

/** As much of a stack as reading changes needs: a base and its overlay, in memory. */
export const stackOn = async (origin: Device, cow: Device, ignoreInvalid = false): Promise<Stack> => {
  const store = await readStore(cow, { originSize: origin.size, ignoreInvalid })
  const root = await snapshot(origin, cow, { store, ignoreInvalid })
  return {
    base: { origin },
    overlay: { file: Object.assign(cow, { path: cow.name }), store },
    root,
  } as unknown as Stack
}

/** A stack of a base and of what became of it. */
export const stackOf = (base: Uint8Array, root: Uint8Array, chunkSectors = 8, same = 0): Promise<Stack> =>
  stackOn(
    memory(base, 'base'),
    memory(storeOf(changedChunks(base, root, chunkSectors * 512, same), chunkSectors), 'overlay'),
  )

/** All that is known of a path. */
interface Seen {
  readonly stat: Stat
  readonly content: Uint8Array | undefined
  readonly target: string | undefined
  readonly xattrs: ReadonlyMap<string, string>
  /** of a directory: names with their inodes */
  readonly names: string
  readonly identity: string
}

/** Reads a whole tree, every byte of it. */
const treeOf = async (fs: Ext4): Promise<ReadonlyMap<string, Seen>> => {
  const tree = new Map<string, Seen>()
  for await (const { path, stat: met } of walk(fs)) {
    // a walk tells besides where it can be opened again
    const { place: _, ...stat } = met
    let content: Uint8Array | undefined
    if (stat.kind === 'file') {
      const file = await fs.open(path)
      content = await file.read(0, file.size)
    }
    const inode = await fs.lookup(path)
    tree.set(path, {
      stat,
      content,
      target: stat.kind === 'symlink' ? await fs.readLink(path) : undefined,
      xattrs: new Map((await fs.xattrs(path)).map(({ name, value }) => [name, Buffer.from(value).toString('hex')])),
      names:
        stat.kind === 'directory'
          ? (await fs.list(path))
              .map(({ name, inode }) => `${name} ${inode}`)
              .sort()
              .join('\n')
          : '',
      identity: `${inode.kind} ${inode.ino} ${inode.generation} ${JSON.stringify(inode.crtime)}`,
    })
  }
  return tree
}

const differingBlocks = (a: Uint8Array, b: Uint8Array, blockSize: number): number => {
  let bytes = 0
  for (let at = 0; at < Math.min(a.length, b.length); at += blockSize) {
    const end = Math.min(at + blockSize, a.length, b.length)
    if (Buffer.compare(a.subarray(at, end), b.subarray(at, end)) !== 0) bytes += end - at
  }
  return bytes
}

/** What differs between two things that have the same path, or moved. */
const aspectsOf = (was: Seen, is: Seen): string[] => {
  const aspects: string[] = []
  if (was.content && is.content && Buffer.compare(was.content, is.content) !== 0) aspects.push('content')
  if (was.target !== is.target) aspects.push('target')
  if (JSON.stringify(was.stat.device) !== JSON.stringify(is.stat.device)) aspects.push('device')
  if (was.stat.mode !== is.stat.mode) aspects.push('mode')
  if (was.stat.uid !== is.stat.uid || was.stat.gid !== is.stat.gid) aspects.push('owner')
  const time = was.stat.mtime !== is.stat.mtime || was.stat.mtimeNanoseconds !== is.stat.mtimeNanoseconds
  if (time && was.names === is.names) aspects.push('mtime')
  if (is.stat.kind !== 'directory' && was.stat.linkCount !== is.stat.linkCount) aspects.push('links')
  if (JSON.stringify([...was.xattrs].sort()) !== JSON.stringify([...is.xattrs].sort())) aspects.push('xattrs')
  return aspects.sort()
}

/**
 * Holds changes against both whole trees, read by our own reader: the changes must lead from one to the other, name
 * everything that differs, and nothing else.
 */
export const expectChanges = (
  base: ReadonlyMap<string, Seen>,
  root: ReadonlyMap<string, Seen>,
  found: Changes,
  blockSize: number,
): void => {
  expect(found.findings).toEqual([])
  const byPath = new Map(found.changes.map(change => [change.path + (change.change === 'deleted' ? '\0' : ''), change]))
  expect(byPath.size).toBe(found.changes.length)
  const ordered = [...found.changes].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)))
  expect(found.changes.map(({ path }) => path)).toEqual(ordered.map(({ path }) => path))
  const renamed = found.changes.filter(({ change }) => change === 'renamed')
  for (const { from, path } of renamed) {
    expect(base.get(from!)!.identity, from).toBe(root.get(path)!.identity)
    // What is there before and after is no rename.
    if (root.has(from!)) expect(from).not.toBe(from)
  }
  /** where a path of the base is in the root */
  const placeOf = (path: string): string => {
    let best: Change | undefined
    for (const change of renamed) {
      const inside = path === change.from || (change.before?.kind === 'directory' && path.startsWith(`${change.from}/`))
      if (inside && change.from!.length > (best?.from?.length ?? 0)) best = change
    }
    return best ? best.path + path.slice(best.from!.length) : path
  }
  const explained = new Set<string>()
  for (const [path, was] of base) {
    const gone = byPath.get(`${path}\0`)
    if (gone) {
      expect(root.has(path) && placeOf(path) === path, path).toBe(false)
      expect(gone.before).toEqual(was.stat)
      continue
    }
    const place = placeOf(path)
    const is = root.get(place)
    expect(is, `${path}, now ${place}`).toBeDefined()
    expect(explained.has(place), place).toBe(false)
    explained.add(place)
    const change = byPath.get(place)
    if (was.stat.kind !== is!.stat.kind) {
      expect(change?.change, place).toBe('type')
      continue
    }
    const aspects = aspectsOf(was, is!)
    const told = change ? [...change.changed].sort() : []
    expect(told, place).toEqual(aspects)
    if (!change) continue
    expect([change.before, change.after]).toEqual([was.stat, is!.stat])
    expect(change.from ?? change.path).toBe(path)
    if (aspects.includes('content') && was.identity === is!.identity && change.linkTo === undefined) {
      const common = differingBlocks(was.content!, is!.content!, blockSize)
      expect(change.changedBytes, place).toBeGreaterThanOrEqual(common)
      const rest = Math.abs(was.content!.length - is!.content!.length)
      expect(change.changedBytes, place).toBeLessThanOrEqual(common + rest)
      if (rest === 0) expect(change.changedBytes, place).toBe(common)
    }
    if (change.change !== 'renamed')
      expect(change.change, place).toBe(
        aspects.some(aspect => ['content', 'target', 'device'].includes(aspect)) ? 'modified' : 'attributes',
      )
  }
  for (const [path, is] of root) {
    if (explained.has(path)) continue
    const change = byPath.get(path)
    expect(change?.change, path).toBe('added')
    expect(change!.after).toEqual(is.stat)
  }
  for (const { path, change } of found.changes)
    expect(change === 'deleted' ? base.has(path) : root.has(path), path).toBe(true)
  // No name was lost that could have been a rename.
  const lost = new Set(
    found.changes.filter(({ change }) => change === 'deleted').map(({ path }) => base.get(path)!.identity),
  )
  for (const { change, path } of found.changes)
    if (change === 'added') expect(lost.has(root.get(path)!.identity), path).toBe(false)
}

/** Reads the changes of a stack and holds them against both trees. */
export const judgedChanges = async (stack: Stack, options?: ChangesOptions): Promise<Changes> => {
  const found = await readChanges(stack, options)
  const base = await openExt4(await openReplayed(stack.base.origin))
  const root = await openExt4(await openReplayed(stack.root))
  expectChanges(await treeOf(base), await treeOf(root), found, base.superblock.blockSize)
  return found
}

/** A change as one line of words. */
export const lineOf = ({ change, path, from, changed }: Pick<Change, 'change' | 'path' | 'from' | 'changed'>): string =>
  [change, path, ...(from === undefined ? [] : [`from ${from}`]), ...changed].join(' ')

/** SHA-256 of each regular file of a filesystem, by path. */
export const sha256Of = async (device: Device): Promise<ReadonlyMap<string, string>> => {
  const sums = new Map<string, string>()
  for (const [path, { content }] of await treeOf(await openExt4(await openReplayed(device))))
    if (content) sums.set(path, createHash('sha256').update(content).digest('hex'))
  return sums
}
