import { execFile, execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { createFile, openFile } from '../../src/block/file.js'
import type { BlockEncoder } from '../../src/bytes/codec.js'
import type { CodecPool } from '../../src/bytes/pool.js'
import { openSquashfs, type Squashfs } from '../../src/fs/squashfs/reader.js'
import { type DirectoryNode, type FileNode, readTree, type SquashNode } from '../../src/fs/squashfs/tree.js'
import { boundSize, settingsOf, type WriteOutcome, writeSquashfs } from '../../src/fs/squashfs/writer.js'
import { needMount, whileMounted } from './mounting.js'
import { type Listing, listDirectory, listSpecial, PSEUDO } from './squashfs-tree.js'
import { type Gate, needTools } from './tools.js'

const run = promisify(execFile)

/** Compressors that this program writes and kernels mount. */
export const WRITTEN = ['gzip', 'xz', 'zstd', 'lz4', 'lzo'] as const

/** Lets mksquashfs make an image of a tree, with the pseudo files, and gives its path. */
export const makeImage = async (tree: string, file: string, args: readonly string[]): Promise<string> => {
  await run('mksquashfs', [tree, file, '-noappend', '-no-progress', ...PSEUDO, ...args])
  return file
}

/** Opens an image for as long as `use` runs; blocks are expanded by the pool where there is one. */
export const withSquashfs = async <T>(
  file: string,
  use: (fs: Squashfs) => Promise<T>,
  pool?: CodecPool,
): Promise<T> => {
  const device = await openFile(file)
  try {
    return await use(await openSquashfs(device, pool ? { decoder: { decode: pool.decode, depth: 6 } } : {}))
  } finally {
    await device.close()
  }
}

/** What unsquashfs makes of an image. Without root it can't make the devices, which are not compared here. */
export const extracted = async (file: string): Promise<Listing> => {
  const to = `${file}.out`
  await run('unsquashfs', ['-no-progress', '-ignore-errors', '-d', to, file], { maxBuffer: 1 << 24 })
  try {
    return await listDirectory(to)
  } finally {
    await rm(to, { recursive: true })
  }
}

/** A tree with each file's node changed; a file under two names is changed once and stays one. */
export const mapFiles = (root: DirectoryNode, change: (node: FileNode, path: string) => SquashNode): DirectoryNode => {
  const made = new Map<SquashNode, SquashNode>()
  const visit = (node: SquashNode, path: string): SquashNode => {
    let now = made.get(node)
    if (!now) {
      if (node.kind === 'directory') now = directory(node, path)
      else now = node.kind === 'file' ? change(node, path) : node
      made.set(node, now)
    }
    return now
  }
  const directory = (node: DirectoryNode, path: string): DirectoryNode => ({
    ...node,
    entries: node.entries.map(({ name, node: child }) => ({
      name,
      node: visit(child, `${path}/${Buffer.from(name)}`),
    })),
  })
  return directory(root, '')
}

/** The same tree with no block to be taken over. */
export const withoutReuse = (root: DirectoryNode): DirectoryNode =>
  mapFiles(root, ({ reuse: _, ...node }) => ({ ...node }))

/** Writes an image's tree, changed or not, into another image; checks what holds for every image. */
export const rewrite = (
  file: string,
  to: string,
  encoder: BlockEncoder,
  change: (root: DirectoryNode) => DirectoryNode = root => root,
): Promise<WriteOutcome> =>
  withSquashfs(file, async fs => {
    const root = change(await readTree(fs))
    const settings = settingsOf(fs)
    const out = await createFile(to)
    const done = await writeSquashfs(out, root, settings, { encoder })
    expect(out.size).toBe(done.size)
    await out.close()
    expect(done.size % 4096).toBe(0)
    expect(boundSize(root, settings)).toBeGreaterThanOrEqual(done.size)
    return done
  })

/** The gate of tests that have this computer's kernel mount an image by a loop device: root, loop and squashfs. */
export const needLoopMount = (): Gate => {
  const tools = needTools('mount', 'umount', 'mksquashfs')
  if (tools.reason !== undefined) return tools
  return needMount('a squashfs by a loop device', scratch => {
    writeFileSync(join(scratch, 'file'), 'x')
    execFileSync('mksquashfs', [join(scratch, 'file'), join(scratch, 'img'), '-no-progress'], { stdio: 'pipe' })
    return ['-t', 'squashfs', '-o', 'loop,ro', join(scratch, 'img'), scratch]
  })
}

/** What this computer's kernel shows of an image. */
export const mounted = (file: string): Promise<{ files: Listing; special: Listing }> =>
  whileMounted(['-t', 'squashfs', '-o', 'loop,ro', file], `${file}.mounted`, async at => ({
    files: await listDirectory(at),
    special: await listSpecial(at),
  }))
