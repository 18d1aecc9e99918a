import { execFile } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { isZero } from '../../src/block/device.js'
import { findTarget } from '../../src/liveos/target.js'
import { type MergeOptions, type MergeOutcome, type MergePlan, planMerge, runMerge } from '../../src/ops/merge.js'
import { run } from './ext4-images.js'
import { sameBytes } from './outcome.js'
import { finished, OVERLAY } from './small-stick.js'
import { type ChangedChunk, storeOf } from './store-writer.js'

const execute = promisify(execFile)

/** How the base of a stick is made. */
export interface StickOptions {
  /** bytes of a squashfs block; a bare rootfs.img where it is left out */
  readonly blockSize?: number | undefined
  readonly comp?: string
  /** the end of the image goes to a fragment */
  readonly tail?: boolean
  /** nothing is compressed */
  readonly bare?: boolean
}

/** A store that makes one image of another, in chunks of so many sectors. */
export const storeBetween = (before: Uint8Array, after: Uint8Array, chunkSectors = 8): Uint8Array => {
  const size = chunkSectors * 512
  const changes: ChangedChunk[] = []
  for (let oldChunk = 0; oldChunk * size < before.length; oldChunk++) {
    const range = [oldChunk * size, Math.min((oldChunk + 1) * size, before.length)] as const
    if (Buffer.compare(before.subarray(...range), after.subarray(...range)) === 0) continue
    const content = new Uint8Array(size)
    content.set(after.subarray(...range))
    changes.push({ oldChunk, content })
  }
  // not the superblock first, as it would stand where that of an ext4 in the overlay's file has its place (chunks of a sector)
  return storeOf([...changes.slice(1), ...changes.slice(0, 1)], chunkSectors, 2)
}

/** Puts an image into a squashfs, as live systems have it. */
export const squashImage = async (
  image: Uint8Array,
  output: string,
  { blockSize = 131072, comp = 'gzip', tail = false, bare = false }: StickOptions,
): Promise<void> => {
  const tree = `${output}.tree`
  await mkdir(join(tree, 'LiveOS'), { recursive: true })
  await writeFile(join(tree, 'LiveOS/rootfs.img'), image)
  const level = comp === 'gzip' ? ['-Xcompression-level', '1'] : []
  const kept = bare ? ['-noI', '-noD', '-noF'] : []
  const ends = tail ? ['-always-use-fragments'] : []
  const options = [
    '-comp',
    comp,
    '-b',
    String(blockSize),
    '-noappend',
    '-no-progress',
    '-all-root',
    ...level,
    ...ends,
    ...kept,
  ]
  await execute('mksquashfs', [tree, output, ...options])
  await rm(tree, { recursive: true })
}

/** Lays out a stick: `LiveOS` with a base and an overlay over it. Gives its path. */
export const layStick = async (
  path: string,
  image: Uint8Array,
  overlay: Uint8Array | undefined,
  options: StickOptions = {},
): Promise<string> => {
  const live = join(path, 'LiveOS')
  await mkdir(live, { recursive: true })
  if (options.blockSize === undefined) await writeFile(join(live, 'rootfs.img'), image)
  else await squashImage(image, join(live, 'squashfs.img'), options)
  if (overlay) await writeFile(join(live, OVERLAY), overlay)
  return path
}

/** The root image in a squashfs, as unsquashfs reads it. */
export const unsquashed = async (image: string): Promise<Buffer> => {
  const options = { encoding: 'buffer', maxBuffer: 1 << 30 } as const
  return (await execute('unsquashfs', ['-cat', image, 'LiveOS/rootfs.img'], options)).stdout
}

/** Merges a stick into a file. */
export const merged = async (
  stick: string,
  options: MergeOptions,
): Promise<{ plan: MergePlan; outcome: MergeOutcome }> => {
  const target = await findTarget({ target: stick })
  const plan = await planMerge(target, options)
  return { plan, outcome: await finished(runMerge(target, plan)) }
}

/** What dumpe2fs says: the blocks of each free run (ends exclusive), and the counts in the superblock and the groups. */
export const dumped = async (
  image: string,
): Promise<{ free: readonly (readonly [number, number])[]; counts: readonly string[]; blockSize: number }> => {
  const text = await run('dumpe2fs', [image])
  const bytesOf = (field: string): number => Number(new RegExp(`^${field}: +(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  const blockSize = bytesOf('Block size')
  // with bigalloc the first block of the last free cluster ends a run
  const last = Math.max(1, bytesOf('Cluster size') / blockSize)
  const free: [number, number][] = []
  // groups name their free blocks and then, in a line of their own, their free inodes
  for (const [, list] of text.matchAll(/^ {2}Free blocks: ([\d, -]+)$/gm))
    for (const part of list!.split(', ')) {
      const [from, to = from] = part.split('-').map(Number)
      free.push([from!, to! + last])
    }
  const counts = [...text.matchAll(/^.*[Ff]ree (?:blocks|inodes|clusters).*$/gm)].map(([line]) => line)
  return { free, counts, blockSize }
}

/** Exit status and words of e2fsck, which only looks. */
export const checked = async (image: string): Promise<{ status: number; output: string }> => {
  try {
    const output = await run('e2fsck', ['-fn', image])
    return { status: 0, output }
  } catch (error) {
    const { code, stdout } = error as { code?: number; stdout?: string }
    return { status: code ?? -1, output: stdout ?? String(error) }
  }
}

/** Runs of bytes that are free, by dumpe2fs. */
export const freeRuns = async (image: string): Promise<readonly (readonly [number, number])[]> => {
  const { free, blockSize } = await dumped(image)
  return free.map(([from, to]) => [from * blockSize, to * blockSize])
}

/** Fails where two images differ in a byte that is not free, and where a free byte is neither zero nor that of `old`. */
export const sameOutsideFree = (
  found: Uint8Array,
  expected: Uint8Array,
  free: readonly (readonly [number, number])[],
  old?: Uint8Array,
): void => {
  expect(found.length).toBe(expected.length)
  let at = 0
  for (const [from, to] of [...free, [found.length, found.length] as const]) {
    sameBytes(found.subarray(at, from), expected.subarray(at, from))
    at = to
    const bytes = found.subarray(from, to)
    if (isZero(bytes) || (old && Buffer.compare(bytes, old.subarray(from, to)) === 0)) continue
    for (let n = from; n < to; n++)
      if (found[n] !== 0 && found[n] !== old?.[n]) throw new Error(`byte ${n} is free, and now ${found[n]}`)
  }
}

/** What e2fsck may say of a filesystem that was mounted at the cut: its totals are kept up only when it is unmounted. */
const TOTALS = /^$|^e2fsck|^Pass|^Free (blocks|inodes) count wrong|Fix\? no$|: [0-9]+\/|WARNING/

/** What e2fsck complains of besides. */
export const faultsIn = ({ output }: { output: string }): readonly string[] =>
  output.split('\n').filter(line => !TOTALS.test(line))
