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
  async function* (compressor, blockSize, blocks, signal) {
    checkEncodable(compressor)
    const { stopped, release } = watch(signal)
    const source = blocks[Symbol.asyncIterator]()
    const flying: Promise<StoredBlock>[] = []
    const encode = async (bytes: Uint8Array): Promise<StoredBlock> => {
      assert(bytes.length > 0 && bytes.length <= blockSize, `a block of ${bytes.length} bytes`)
      const smaller = await pool.encode(compressor, bytes, blockSize)
      return smaller ? { bytes: smaller, compressed: true } : { bytes, compressed: false }
    }
    let more = true
    try {
      while (more || flying.length > 0) {
        while (more && flying.length < IN_FLIGHT * pool.threads) {
          const next = await Promise.race([source.next(), stopped])
          if (next.done) more = false
          else {
            const stored = encode(next.value)
            // One that fails while an earlier one is waited for throws when its turn comes, not as an unhandled rejection.
            stored.catch(() => {})
            flying.push(stored)
          }
        }
        const first = flying.shift()
        if (first) yield await Promise.race([first, stopped])
      }
    } finally {
      release()
      // A source that is in the middle of next() answers return() only after it: not waited for.
      if (more) source.return?.()?.catch(() => {})
    }
  }

/** A promise that rejects when the signal is aborted, and never does anything else. */
const watch = (signal: AbortSignal | undefined): { stopped: Promise<never>; release: () => void } => {
  let abort = (): void => {}
  const stopped = new Promise<never>((_, reject) => {
    abort = () => reject(new LiveError('CANCELLED', 'compressing was cancelled', {}, signal?.reason))
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
  })
  stopped.catch(() => {})
  return { stopped, release: () => signal?.removeEventListener('abort', abort) }
}
