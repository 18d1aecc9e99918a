import { type ByteRuns, byteRuns, sameRuns } from '../block/byte-runs.js'
import type { Device } from '../block/device.js'
import { masked } from '../block/masked.js'
import { snapshot } from '../block/snapshot/snapshot.js'
import { readStore, type Store } from '../block/snapshot/store.js'
import { isLiveError } from '../error.js'
import { openMergedRoot } from './merged-root.js'

const PIECE = 1 << 20

/**
 * True where a base shows by itself what it shows under an overlay, so that emptying the overlay changes nothing. Compared is all
 * that overlay and replay change: as it stands, or else with the overlay's journal replayed and without what is free.
 *
 * What is free is told by the two together, so an overlay that calls everything free would hide what differs: all bytes by which
 * free blocks are known lie in blocks that are not free, thus are compared, and the base must have the very same ones free.
 *
 * @param origin   the root filesystem in the base
 * @param overlay  a store; one that is invalid, damaged or not known is not held by any base
 * @throws IO
 */
export const holdsOverlay = async (origin: Device, overlay: Device): Promise<boolean> => {
  try {
    const store = await readStore(overlay, { originSize: origin.size })
    if (store.state === 'invalid') return false
    const root = await snapshot(origin, overlay, { store })
    const chunks = exceptionRuns(store, origin.size)
    if (await sameBytes(root, origin, chunks)) return true
    const above = await openMergedRoot(root, { store })
    let below = origin
    if (above.free) {
      const { free } = await openMergedRoot(origin)
      if (!free || !sameRuns(above.free, free)) return false
      below = masked(origin, free)
    }
    return (await sameBytes(above.device, below, chunks)) && (await sameBytes(above.device, below, above.replayed))
  } catch (error) {
    if (isLiveError(error) && (error.code === 'CORRUPT' || error.code === 'UNSUPPORTED')) return false
    throw error
  }
}

/** The bytes of the origin that a store has chunks for. */
const exceptionRuns = ({ exceptions, chunkSize }: Store, size: number): ByteRuns =>
  byteRuns(
    (function* () {
      for (const { oldChunk } of exceptions.range()) {
        const start = oldChunk * chunkSize
        yield { start, length: Math.min(chunkSize, size - start) }
      }
    })(),
  )

const sameBytes = async (one: Device, other: Device, runs: ByteRuns): Promise<boolean> => {
  for (let index = 0; index < runs.count; index++)
    for (let at = runs.start(index); at < runs.end(index); at += PIECE) {
      const length = Math.min(PIECE, runs.end(index) - at)
      const [a, b] = await Promise.all([one.read(at, length), other.read(at, length)])
      if (Buffer.compare(a, b) !== 0) return false
    }
  return true
}
