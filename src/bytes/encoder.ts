import { assert, LiveError } from '../error.js'
import type { BlockEncoder, StoredBlock } from './codec.js'
import { checkEncodable } from './codecs.js'
import type { CodecPool } from './pool.js'

/** Blocks at work for each thread, so that none waits for the consumer. */
const IN_FLIGHT = 2

/**
 * A BlockEncoder on a pool's threads. It reads ahead two blocks a thread and holds no more than that.
 *
 * @throws UNSUPPORTED  these settings can't be compressed in this process
 * @throws CANCELLED    the signal was aborted
 */
export const poolEncoder = (pool: CodecPool): BlockEncoder =>
  async function* (compressor, blockSize, blocks, signal, onDone) {
    checkEncodable(compressor)
    const { wait, release } = untilStopped(signal)
    const source = blocks[Symbol.asyncIterator]()
    const flying: Promise<StoredBlock>[] = []
    const encode = async (bytes: Uint8Array): Promise<StoredBlock> => {
      assert(bytes.length > 0 && bytes.length <= blockSize, `a block of ${bytes.length} bytes`)
      const smaller = await pool.encode(compressor, bytes, blockSize)
      if (!smaller) return { bytes, compressed: false }
      onDone?.(bytes)
      return { bytes: smaller, compressed: true }
    }
    let more = true
    try {
      while (more || flying.length > 0) {
        while (more && flying.length < IN_FLIGHT * pool.threads) {
          const next = await wait(source.next())
          if (next.done) more = false
          else {
            const stored = encode(next.value)
            // One that fails while an earlier one is waited for throws when its turn comes, not as an unhandled rejection.
            stored.catch(() => {})
            flying.push(stored)
          }
        }
        const first = flying.shift()
        if (first) yield await wait(first)
      }
    } finally {
      release()
      // A source that is in the middle of next() answers return() only after it: not waited for.
      if (more) source.return?.()?.catch(() => {})
    }
  }

/**
 * Waits for promises until the signal is aborted. `Promise.race` with one promise that lasts would keep all that was ever waited
 * for in memory.
 */
const untilStopped = (signal: AbortSignal | undefined) => {
  const waiting = new Set<(error: LiveError) => void>()
  const cancelled = (): LiveError => new LiveError('CANCELLED', 'compressing was cancelled', {}, signal?.reason)
  const abort = (): void => {
    for (const reject of waiting) reject(cancelled())
  }
  signal?.addEventListener('abort', abort, { once: true })
  return {
    wait: async <T>(promise: Promise<T>): Promise<T> => {
      if (signal?.aborted) {
        promise.catch(() => {})
        throw cancelled()
      }
      let stop: (error: LiveError) => void = () => {}
      try {
        return await new Promise<T>((resolve, reject) => {
          stop = reject
          waiting.add(stop)
          promise.then(resolve, reject)
        })
      } finally {
        waiting.delete(stop)
      }
    },
    release: () => signal?.removeEventListener('abort', abort),
  }
}
