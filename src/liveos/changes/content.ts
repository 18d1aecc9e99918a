import type { ByteRuns } from '../../block/byte-runs.js'
import { readInto } from '../../block/device.js'
import { parallel } from '../../block/parallel.js'
import { openSpare } from '../../bytes/spare.js'
import { isLiveError, type LiveError } from '../../error.js'
import { readBlockMap } from '../../fs/ext4/block-map.js'
import { hasMap } from '../../fs/ext4/content.js'
import { RO_COMPAT } from '../../fs/ext4/features.js'
import { runsOf } from '../../fs/ext4/file.js'
import { inlineBytes } from '../../fs/ext4/inline.js'
import { type Ext4Inode, INODE_FLAG } from '../../fs/ext4/inode.js'
import type { Run } from '../../fs/filesystem.js'
import { MAX_FINDINGS, type Side, stopIfAborted } from './side.js'
import type { Sweeping } from './sweep.js'
import { isSame } from './tree.js'
import { type Window, windows } from './windows.js'

/** What a comparison of two files found, once all of them were compared. */
export interface Compared {
  changed: boolean
  /** bytes of data that differ, in blocks */
  changedBytes: number
}

/** Bytes of two files to be compared. */
export interface Stretch {
  readonly file: Job
  /** in the file */
  readonly offset: number
  readonly length: number
  /** where they lie in the base, and one past their end; -1 for a hole */
  readonly start: number
  readonly end: number
  /** where they lie in the root; -1 for a hole */
  readonly after: number
}

interface Job extends Compared {
  /** undefined as long as it is not known */
  path: string | undefined
  /** one difference is enough: all that is there now counts as changed */
  readonly whole: number | undefined
  /** what could not be read before its path was known, to be told with that */
  readonly errors: LiveError[]
}

/** Files whose bytes are compared together, in the order of the disk. */
export interface ContentComparison {
  /** Plans the comparison of files that have one inode on both sides, before their names are known. @throws CANCELLED */
  addSame(inodes: readonly number[]): Promise<void>
  /** What is planned and lies in the base, in its order: for `compare`. It is planned no more. */
  takeInBase(): readonly Stretch[]
  /** Compares what lies in a window on the base. @throws CANCELLED */
  compare(stretches: readonly Stretch[], window: Window): Promise<void>
  /**
   * Plans the comparison of two regular files; the answer is whole after `run`.
   *
   * @throws CORRUPT, IO
   */
  add(path: string, before: Ext4Inode, after: Ext4Inode): Promise<Compared>
  /** Compares all that is still planned. @throws CANCELLED */
  run(onBytes: Sweeping['onBytes']): Promise<void>
}

const PIECE = 1 << 19
const READS_AT_ONCE = 8
const HOLES_AT_ONCE = 256

/** Where a file's data lie on its device. Encrypted ones are compared as they are stored. @throws CORRUPT, IO */
const runsIn = async ({ volume }: Side, inode: Ext4Inode): Promise<readonly Run[]> =>
  hasMap(volume, inode) ? runsOf(await readBlockMap(volume, inode), volume.superblock.blockSize, inode.size) : []

/** Bytes of data of a regular file, holes left out. @throws CORRUPT, IO */
export const dataBytes = async (side: Side, inode: Ext4Inode): Promise<number> => {
  if (inode.kind !== 'file') return 0
  if (inode.flags & INODE_FLAG.inlineData) return inode.size
  return (await runsIn(side, inode)).reduce((sum, { length }) => sum + length, 0)
}

/** Data from `offset` to the end. */
const dataFrom = (runs: readonly Run[], offset: number): number =>
  runs.reduce((sum, run) => sum + Math.max(0, run.offset + run.length - Math.max(offset, run.offset)), 0)

/** A part of two files that lies in one piece in each, or is a hole: -1. */
interface Pieces {
  readonly offset: number
  readonly length: number
  readonly before: number
  readonly after: number
}

/** Splits two files up to `end` where a run of either begins or ends. */
function* stretches(before: readonly Run[], after: readonly Run[], end: number): Iterable<Pieces> {
  let [b, a] = [0, 0]
  const at = (runs: readonly Run[], index: number, offset: number): { start: number; until: number } => {
    const run = runs[index]
    if (!run) return { start: -1, until: end }
    if (run.offset > offset) return { start: -1, until: run.offset }
    return { start: run.start + offset - run.offset, until: run.offset + run.length }
  }
  for (let offset = 0; offset < end; ) {
    while (b < before.length && before[b]!.offset + before[b]!.length <= offset) b++
    while (a < after.length && after[a]!.offset + after[a]!.length <= offset) a++
    const [was, is] = [at(before, b, offset), at(after, a, offset)]
    const stop = Math.min(was.until, is.until, end)
    if (was.start >= 0 || is.start >= 0) yield { offset, length: stop - offset, before: was.start, after: is.start }
    offset = stop
  }
}

/** Bytes of the blocks that differ. */
const differingBytes = (a: Uint8Array, b: Uint8Array, offset: number, blockSize: number): number => {
  if (Buffer.compare(a, b) === 0) return 0
  let bytes = 0
  for (let at = 0; at < a.length; ) {
    const end = Math.min(a.length, at + blockSize - ((offset + at) % blockSize))
    if (Buffer.compare(a.subarray(at, end), b.subarray(at, end)) !== 0) bytes += end - at
    at = end
  }
  return bytes
}

/** Compares contents of files where the two sides may differ, and nowhere else. */
export const contentComparison = ({ base, root, touched, told, signal }: Sweeping): ContentComparison => {
  const { blockSize } = root.volume.superblock
  let planned: Stretch[] = []
  const same = new Map<number, Job>()
  const spare = openSpare()
  /** errors that wait for a path */
  let untold = 0
  // No block is in two files, so that all files of both sides have at most twice the device; hard links that became files of
  // their own are compared with the old one each, and sharing blocks is a feature of its own.
  const shares = (root.volume.superblock.roCompat & RO_COMPAT.shared_blocks) !== 0
  let bytesLeft = root.volume.device.size * (shares ? 32 : 8)

  const plan = (file: Job, { offset, length: whole, before, after }: Pieces): void => {
    bytesLeft -= whole
    if (bytesLeft < 0) throw root.volume.wrong(after, 'blocks of a file', 'of no other file', 'more than there are')
    for (let skip = 0; skip < whole; skip += PIECE) {
      const length = Math.min(PIECE, whole - skip)
      const [start, end] = before < 0 ? [-1, -1] : [before + skip, before + skip + length]
      planned.push({ file, offset: offset + skip, length, start, end, after: after < 0 ? -1 : after + skip })
    }
  }

  const addMapped = async (file: Job, before: Ext4Inode, after: Ext4Inode): Promise<void> => {
    const was = await runsIn(base, before)
    const is = await runsIn(root, after)
    const common = Math.min(before.size, after.size)
    if (before.size !== after.size) {
      file.changed = true
      file.changedBytes = file.whole ?? dataFrom(was, common) + dataFrom(is, common)
      if (file.whole !== undefined) return
    }
    for (const stretch of stretches(was, is, common)) {
      if (stretch.before !== stretch.after) plan(file, stretch)
      else planTouched(file, stretch, touched)
    }
  }
  /** Blocks are compared whole, so that what is counted does not depend on the size of chunks. */
  const planTouched = (file: Job, { offset, length, before }: Pieces, ranges: ByteRuns): void => {
    let [from, to] = [0, 0]
    const add = (): void => {
      if (to > from)
        plan(file, { offset: offset + from, length: to - from, before: before + from, after: before + from })
    }
    for (const { start, end } of ranges.within(before, before + length)) {
      const first = Math.floor((start - before) / blockSize) * blockSize
      if (first > to) {
        add()
        from = first
      }
      to = Math.min(length, Math.ceil((end - before) / blockSize) * blockSize)
    }
    add()
  }

  /** A file that is kept in its inode on one of the sides, or on both: it is small there. */
  const addInline = async (file: Job, before: Ext4Inode, after: Ext4Inode): Promise<void> => {
    // First, as they tell whether the size is possible.
    const inside = [before, after].map((inode, n) =>
      inode.flags & INODE_FLAG.inlineData ? inlineBytes((n === 0 ? base : root).volume, inode) : undefined,
    )
    const common = Math.min(before.size, after.size)
    /** A file's bytes up to `common`, and how much data comes behind. */
    const seen = async (side: Side, inode: Ext4Inode, inline?: Uint8Array): Promise<[Uint8Array, number]> => {
      if (inline) return [inline.subarray(0, common), inode.size - common]
      const runs = await runsIn(side, inode)
      const bytes = new Uint8Array(common)
      for (const { offset, length, start } of runs) {
        const part = Math.min(length, common - offset)
        if (part > 0) bytes.set(await side.volume.device.read(start, part), offset)
      }
      return [bytes, dataFrom(runs, common)]
    }
    const [was, wasBehind] = await seen(base, before, inside[0])
    const [is, isBehind] = await seen(root, after, inside[1])
    const differing = differingBytes(was, is, 0, blockSize)
    file.changed = before.size !== after.size || differing > 0
    if (file.changed) file.changedBytes = file.whole ?? differing + wasBehind + isBehind
  }

  /** True where a difference would tell nothing new. */
  const isDecided = ({ file }: Stretch): boolean => file.whole !== undefined && file.changed
  const compare = (stretch: Stretch, was: Uint8Array, is: Uint8Array): void => {
    const { file, offset } = stretch
    const bytes = differingBytes(was, is, offset, blockSize)
    if (bytes === 0 || isDecided(stretch)) return
    file.changedBytes = file.whole ?? file.changedBytes + bytes
    file.changed = true
  }
  /** @param was  its bytes in the base, where they are known */
  const compareOne = async (stretch: Stretch, was: Uint8Array | undefined): Promise<void> => {
    const { file, start, end, after, length } = stretch
    const memory = spare.take(length)
    const is = new Uint8Array(memory, 0, length)
    try {
      const old = was ?? (start < 0 ? new Uint8Array(length) : await base.volume.device.read(start, end - start))
      if (after < 0) is.fill(0)
      else await readInto(root.volume.device, after, is)
      compare(stretch, old, is)
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      if (file.path !== undefined) told.tell(error, file.path)
      else if (untold++ < MAX_FINDINGS) file.errors.push(error)
      else told.tell(error, `a file of ${root.name}`)
    } finally {
      spare.give(memory)
    }
  }
  const compareAll = async (stretches: readonly Stretch[], window?: Window): Promise<void> => {
    await parallel(stretches.length, READS_AT_ONCE, async index => {
      stopIfAborted(signal)
      const stretch = stretches[index]!
      // Where the whole piece can't be read, its parts may be.
      if (!isDecided(stretch)) await compareOne(stretch, window?.within(stretch.start, stretch.end))
    })
  }
  const newJob = (path: string | undefined, whole?: number): Job => ({
    path,
    whole,
    changed: false,
    changedBytes: 0,
    errors: [],
  })
  const takeInBase = (): readonly Stretch[] => {
    const inBase = planned.filter(({ start }) => start >= 0)
    planned = planned.filter(({ start }) => start < 0)
    return inBase.sort((a, b) => a.start - b.start)
  }

  return {
    async addSame(inodes) {
      for (const ino of inodes) {
        stopIfAborted(signal)
        const begun = planned.length
        try {
          const [was, is] = [await base.inode(ino), await root.inode(ino)]
          if (!isSame(was, is) || (was.flags | is.flags) & INODE_FLAG.inlineData) continue
          const file = newJob(undefined)
          await addMapped(file, was, is)
          same.set(ino, file)
        } catch (error) {
          if (!isLiveError(error) || error.code === 'CANCELLED') throw error
          // It is told with its name, when that is asked for.
          planned.length = begun
        }
      }
    },
    takeInBase,
    compare: compareAll,
    async add(path, before, after) {
      const known = before.ino === after.ino ? same.get(after.ino) : undefined
      if (known) {
        for (const error of known.errors) told.tell(error, path)
        // What is still to be compared tells by itself.
        known.path ??= path
        return known
      }
      const file = newJob(path, before.ino === after.ino ? undefined : await dataBytes(root, after))
      if ((before.flags | after.flags) & INODE_FLAG.inlineData) await addInline(file, before, after)
      else await addMapped(file, before, after)
      return file
    },
    async run(onBytes) {
      const total = planned.reduce((sum, { length }) => sum + length, 0)
      let done = 0
      const tell = (stretches: readonly Stretch[]): void => {
        done += stretches.reduce((sum, { length }) => sum + length, 0)
        onBytes(done, total)
        stopIfAborted(signal)
      }
      for await (const { items, window } of windows(base, takeInBase(), stretch => stretch)) {
        await compareAll(items, window)
        tell(items)
      }
      // What is a hole in the base, in the order of the root.
      const rest = planned.sort((a, b) => a.after - b.after)
      planned = []
      for (let at = 0; at < rest.length; at += HOLES_AT_ONCE) {
        const some = rest.slice(at, at + HOLES_AT_ONCE)
        await compareAll(some)
        tell(some)
      }
    },
  }
}
