import { type ByteRuns, byteRuns } from '../../../block/byte-runs.js'
import type { ReplayedDevice } from './replayed.js'

/** All bytes that a replay changes, those of the superblock and of the journal's too. */
export const replacedRuns = ({ replacedBlocks, patchedRuns, blockSize }: ReplayedDevice): ByteRuns => {
  const runs = [...patchedRuns]
  for (const { block } of replacedBlocks()) runs.push({ start: block * blockSize, length: blockSize })
  runs.sort((a, b) => a.start - b.start)
  // a patch may lie in a replaced block
  const ascending: { start: number; length: number }[] = []
  for (const { start, length } of runs) {
    const last = ascending.at(-1)
    const from = last ? Math.max(start, last.start + last.length) : start
    if (start + length > from) ascending.push({ start: from, length: start + length - from })
  }
  return byteRuns(ascending)
}
