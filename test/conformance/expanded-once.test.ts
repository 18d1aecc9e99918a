import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { openPool } from '../../src/bytes/pool.js'
import { openExt4 } from '../../src/fs/ext4/reader.js'
import { openSquashfs } from '../../src/fs/squashfs/reader.js'
import { readChanges } from '../../src/liveos/changes/read.js'
import { type OverlaidStack, readOverlayUsage } from '../../src/liveos/usage/usage.js'
import { run } from '../support/ext4-images.js'
import { random } from '../support/random.js'
import { type ChangedChunk, storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const judged = needTools('mke2fs', 'mksquashfs')

const CHUNK = 4096
const FOLDERS = 400
const FILES = 6

/**
 * A root of many folders with a few files each, squashed, and two overlays: one rewrites a chunk of every file where it lies, the
 * other of one file alone.
 */
const rewritten = async () => {
  const noise = random(5)
  const folder = await path('image')
  const tree = await path('tree')
  for (let n = 0; n < FOLDERS; n++) {
    await mkdir(join(tree, `folder ${n}`), { recursive: true })
    for (let file = 0; file < FILES; file++)
      await writeFile(join(tree, `folder ${n}`, `file ${file}`), Buffer.concat([noise.bytes(9000), Buffer.alloc(7000)]))
  }
  await mkdir(join(folder, 'LiveOS'), { recursive: true })
  const root = join(folder, 'LiveOS', 'rootfs.img')
  const base = await path('squashfs.img')
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '4096', '-N', '4096', '-d', tree, root, '64M'])
  await run('mksquashfs', [folder, base, '-comp', 'gzip', '-b', '131072', '-no-progress', '-quiet'])
  const chunks: ChangedChunk[] = []
  const fs = await openExt4(await openFile(root))
  for (let n = 0; n < FOLDERS; n++)
    for (let file = 0; file < FILES; file++) {
      const [first] = await fs.extents(`/folder ${n}/file ${file}`)
      chunks.push({ oldChunk: first!.start / CHUNK, content: noise.bytes(CHUNK) })
    }
  await fs.close()
  const [one] = chunks
  return { base, all: storeOf(chunks, CHUNK / 512), one: storeOf([one!], CHUNK / 512), files: chunks.length }
}

let making: ReturnType<typeof rewritten> | undefined
const made = () => {
  making ??= rewritten()
  return making
}

/** Does something with the root, and counts how often a block of the base is expanded. */
const counted = async <T>(which: 'all' | 'one', look: (stack: OverlaidStack) => Promise<T>) => {
  const { base, [which]: overlay } = await made()
  const times = new Map<string, number>()
  const count = (input: Uint8Array): void => {
    const key = createHash('sha256').update(input).digest('hex')
    times.set(key, (times.get(key) ?? 0) + 1)
  }
  const pool = openPool({ threads: 2 })
  const file = await openFile(base)
  const fs = await openSquashfs(file, {
    decoder: {
      decode: async (name, input, capacity) => {
        count(input)
        return pool.decode(name, input, capacity)
      },
      depth: 4,
    },
  })
  const origin = await fs.open('/LiveOS/rootfs.img')
  const cow = Object.assign(memory(overlay, 'overlay'), { path: 'overlay' })
  const store = await readStore(cow, { originSize: origin.size })
  const root = await snapshot(origin, cow, { store })
  try {
    const found = await look({
      base: { file, squashfs: { fs, path: '/LiveOS/rootfs.img', file: origin }, origin },
      overlay: { file: cow, store },
      root,
      pool,
    } as unknown as OverlaidStack)
    const total = [...times.values()].reduce((sum, n) => sum + n, 0)
    return { found, blocks: times.size, total }
  } finally {
    await pool.close()
    await file.close()
  }
}

judged.describe('a look at an overlay that rewrites the whole base expands each block of it once', () => {
  // Some blocks are met again: of inode tables, and where two pieces that are read meet.
  const once = (blocks: number): number => Math.ceil(blocks * 1.1)

  judged.it('diff', async () => {
    const { found, blocks, total } = await counted('all', stack => readChanges(stack))
    expect(found.changes.filter(({ changed }) => changed.includes('content'))).toHaveLength((await made()).files)
    expect(blocks).toBeGreaterThan(200)
    expect(total).toBeLessThanOrEqual(once(blocks))
  })

  judged.it('usage', async () => {
    const { found, blocks, total } = await counted('all', stack => readOverlayUsage(stack))
    expect(found.owners.filter(owner => owner.path?.startsWith('/folder '))).toHaveLength((await made()).files)
    expect(blocks).toBeGreaterThan(200)
    expect(total).toBeLessThanOrEqual(once(blocks))
  })
})

judged.it('a diff of one file expands the blocks that lead to it, and no others', async () => {
  const { found, blocks, total } = await counted('one', stack => readChanges(stack))
  expect(found.changes.map(({ path }) => path)).toEqual(['/folder 0/file 0'])
  expect(blocks).toBeLessThan(20)
  expect(total).toBeLessThan(30)
})
