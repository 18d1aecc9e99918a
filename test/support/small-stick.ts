import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { openStack } from '../../src/liveos/stack.js'
import { findTarget, type TargetInput } from '../../src/liveos/target.js'
import { storeOf } from './store-writer.js'

const run = promisify(execFile)

export const CHUNK = 4096
export const BLOCK = 16384
export const OVERLAY = 'overlay-TEST-0001'

/** Bytes that compress a little, the same for the same seed. */
export const bytesOf = (seed: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  let state = seed * 2654435761 + 1
  for (let n = 0; n < length; n++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    bytes[n] = n % 3 === 0 ? state >>> 24 : n & 0xff
  }
  return bytes
}

/** A stick with a small root, and what the booted system would see. */
export interface SmallStick {
  readonly path: string
  readonly root: Uint8Array
  readonly merged: Uint8Array
}

/** Lays a stick out; a base that is not `packed` is a squashfs of bare blocks, which needs no workers: `LiveOS` with a base made by mksquashfs (or raw) and an overlay whose chunks change some blocks, one to zeros. */
export const smallStick = async (
  path: string,
  {
    raw = false,
    packed = true,
    blocks = 12,
    changed = [1, 2, 9, 20, 33, 44, 45, 46, 47],
  }: { raw?: boolean; packed?: boolean; blocks?: number; changed?: readonly number[] } = {},
): Promise<SmallStick> => {
  const root = bytesOf(1, blocks * BLOCK + 5000)
  root.fill(0, 3 * BLOCK, 4 * BLOCK)
  const changes = changed.map(oldChunk => ({
    oldChunk,
    content: oldChunk >= 44 && oldChunk <= 47 ? new Uint8Array(CHUNK) : bytesOf(100 + oldChunk, CHUNK),
  }))
  const merged = root.slice()
  for (const { oldChunk, content } of changes)
    merged.set(content.subarray(0, Math.min(CHUNK, root.length - oldChunk * CHUNK)), oldChunk * CHUNK)
  const live = join(path, 'LiveOS')
  await mkdir(live, { recursive: true })
  if (raw) await writeFile(join(live, 'rootfs.img'), root)
  else {
    const tree = `${path}.tree`
    await mkdir(join(tree, 'LiveOS'), { recursive: true })
    await writeFile(join(tree, 'LiveOS/rootfs.img'), root)
    await run('mksquashfs', [
      tree,
      join(live, 'squashfs.img'),
      '-comp',
      'gzip',
      '-b',
      String(BLOCK),
      '-noappend',
      '-no-progress',
      '-all-root',
      '-mkfs-time',
      '0',
      '-all-time',
      '0',
      ...(packed ? [] : ['-noI', '-noD', '-noF']),
    ])
    await rm(tree, { recursive: true })
  }
  await writeFile(join(live, OVERLAY), storeOf(changes, CHUNK / 512, 8))
  return { path, root, merged }
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** SHA-256 of the root as a boot would see it now. */
export const viewOf = async (input: TargetInput): Promise<string> => {
  const stack = await openStack(await findTarget(input), { threads: 1 })
  try {
    return sha256(await stack.root.read(0, stack.root.size))
  } finally {
    await stack.close()
  }
}

/** Runs a verb's generator to its outcome. */
export const finished = async <T>(running: AsyncGenerator<unknown, T>): Promise<T> => {
  for (;;) {
    const { value, done } = await running.next()
    if (done) return value as T
  }
}
