import { type ByteRuns, runKeeper } from '../../block/byte-runs.js'
import type { Store } from '../../block/snapshot/store.js'
import type { ReplayedDevice } from '../../fs/ext4/journal/replayed.js'

/** Bytes from `start` to before `end`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/** Joins sorted ranges that overlap or touch. */
function* joined(ranges: Iterable<ByteRange>): Iterable<ByteRange> {
  let last: { start: number; end: number } | undefined
  for (const { start, end } of ranges) {
    if (last && start <= last.end) last.end = Math.max(last.end, end)
    else {
      if (last) yield last
      last = { start, end }
    }
  }
  if (last) yield last
}

/** Ranges of several sources, each sorted by start, as one sorted row. */
function* merged(sources: readonly Iterable<ByteRange>[]): Iterable<ByteRange> {
  const rows = sources.map(source => source[Symbol.iterator]())
  const heads = rows.map(row => row.next())
  for (;;) {
    let first = -1
    for (const [index, head] of heads.entries())
      if (!head.done && (first < 0 || head.value.start < heads[first]!.value!.start)) first = index
    if (first < 0) return
    yield heads[first]!.value!
    heads[first] = rows[first]!.next()
  }
}

/** Makes a set of runs from sources that each are sorted by start; they may overlap. */
export const byteRanges = (...sources: readonly Iterable<ByteRange>[]): ByteRuns => {
  const keeper = runKeeper()
  for (const { start, end } of joined(merged(sources.map(joined)))) keeper.add(start, end - start)
  return keeper.runs()
}

/**
 * Where the root filesystem can differ from its base: the chunks of the overlay, and the blocks that the journal of
 * either of the two replaces. Bytes outside are the same in both.
 */
export const touchedRanges = (store: Store, base: ReplayedDevice, root: ReplayedDevice): ByteRuns => {
  function* chunks(): Iterable<ByteRange> {
    const { exceptions, chunkSize } = store
    for (let index = 0; index < exceptions.count; index++) {
      const start = exceptions.oldChunkAt(index) * chunkSize
      yield { start, end: Math.min(start + chunkSize, root.size) }
    }
  }
  function* blocks(device: ReplayedDevice): Iterable<ByteRange> {
    for (const { block } of device.replacedBlocks())
      yield { start: block * device.blockSize, end: (block + 1) * device.blockSize }
  }
  return byteRanges(chunks(), blocks(base), blocks(root))
}
