import { openSpare, type Spare } from '../bytes/spare.js'
import { canReadInto, type Device, type PlacingDevice } from './device.js'

/** A run of bytes of a device. */
export interface Run {
  readonly offset: number
  readonly length: number
}

/** Bytes read; theirs who took them until the next ones are asked for. */
export interface ReadRun {
  readonly offset: number
  readonly bytes: Uint8Array
}

/** Pieces that are read side by side into memory that is taken again. */
const PLACED_AHEAD = 6

/**
 * Reads runs of a device one behind the other, and ahead of who takes them. Where the device reads into memory that it is given,
 * few pieces of shared memory serve for all: fresh memory for each costs page faults, and makes the collector run.
 *
 * @param runs     in the order they are wanted
 * @param maxRun   bytes of the longest one
 * @param spare    memory that others take too, one behind the other
 * @throws  as `read`
 */
export async function* readAhead(
  device: Device,
  runs: AsyncIterable<Run>,
  maxRun: number,
  spare: Spare = openSpare(),
): AsyncGenerator<ReadRun> {
  const reading = canReadInto(device) ? placing(device, maxRun, spare) : fresh(device)
  const flying: Promise<ReadRun>[] = []
  const plan = runs[Symbol.asyncIterator]()
  let more = true
  const fill = async (): Promise<void> => {
    while (more && flying.length < reading.atOnce) {
      const { value, done } = await plan.next()
      if (done) more = false
      else {
        const read = reading.start(value)
        // One that fails while an earlier one is waited for throws in its turn.
        read.catch(() => {})
        flying.push(read)
      }
    }
  }
  try {
    await fill()
    for (let first = flying.shift(); first; first = flying.shift()) {
      const read = await first
      await fill()
      yield read
      reading.release(read.bytes)
    }
  } finally {
    await plan.return?.()
    // Nothing may write into the memory once it is let go of.
    await Promise.allSettled(flying)
  }
}

const fresh = (device: Device) => ({
  atOnce: 1,
  start: async ({ offset, length }: Run): Promise<ReadRun> => ({ offset, bytes: await device.read(offset, length) }),
  release: (_: Uint8Array): void => {},
})

const placing = (device: PlacingDevice, maxRun: number, spare: Spare) => ({
  atOnce: PLACED_AHEAD,
  async start({ offset, length }: Run): Promise<ReadRun> {
    const bytes = new Uint8Array(spare.take(maxRun), 0, length)
    await device.readInto(offset, bytes)
    return { offset, bytes }
  },
  release: ({ buffer }: Uint8Array): void => spare.give(buffer as SharedArrayBuffer),
})
