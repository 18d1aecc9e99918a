import type { Socket } from 'node:net'
import { assert, LiveError } from '../error.js'

/** What comes in on a socket, taken in pieces of known length. Nobody taking is what holds the sender up. */
export interface Input {
  /**
   * The next `length` bytes; undefined where the other side ended before the first of them. One call at a time.
   *
   * @throws IO  it ended in the middle of them
   */
  take(length: number): Promise<Buffer | undefined>
  /** Passes over bytes without keeping them. @throws IO  as `take` */
  skip(length: number): Promise<void>
  /** bytes that came and were not taken */
  readonly waiting: number
  /** Reads no more; a `take` that waits gets what it gets where the other side ends. The socket can be read by others then. */
  stop(): void
}

/** Bytes that may wait before the socket is paused. */
const MOST_WAITING = 1 << 18
const SKIPPED_AT_ONCE = 1 << 16

interface Wanted {
  readonly bytes: Buffer
  filled: number
  readonly resolve: (bytes: Buffer | undefined) => void
  readonly reject: (error: Error) => void
}

/** Reads a socket from now on. Payloads are copied once, into their own place; what lies whole in one piece is not copied. */
export const inputOf = (socket: Socket): Input => {
  const chunks: Buffer[] = []
  let waiting = 0
  let ended = false
  let wanted: Wanted | undefined

  const fill = (want: Wanted): void => {
    while (chunks.length > 0 && want.filled < want.bytes.length) {
      const chunk = chunks[0]!
      const copied = chunk.copy(want.bytes, want.filled)
      want.filled += copied
      waiting -= copied
      if (copied === chunk.length) chunks.shift()
      else chunks[0] = chunk.subarray(copied)
    }
  }
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk)
    waiting += chunk.length
    if (wanted) {
      fill(wanted)
      if (wanted.filled === wanted.bytes.length) {
        const { resolve, bytes } = wanted
        wanted = undefined
        resolve(bytes)
      }
    }
    if (waiting > MOST_WAITING) socket.pause()
  }
  const onEnd = (): void => {
    ended = true
    if (!wanted) return
    const { filled, bytes, resolve, reject } = wanted
    wanted = undefined
    if (filled === 0) resolve(undefined)
    else reject(cut(filled, bytes.length))
  }
  const cut = (got: number, length: number): LiveError =>
    new LiveError('IO', `the NBD connection ended after ${got} of ${length} bytes`, { got, length })
  socket.on('data', onData)
  socket.on('end', onEnd)
  socket.on('close', onEnd)
  socket.on('error', onEnd)

  const input: Input = {
    async take(length) {
      assert(!wanted, 'two takers of one NBD connection')
      const first = chunks[0]
      if (first && first.length >= length) {
        waiting -= length
        if (first.length === length) chunks.shift()
        else chunks[0] = first.subarray(length)
        if (waiting <= MOST_WAITING && socket.isPaused()) socket.resume()
        return first.subarray(0, length)
      }
      if (length === 0) return Buffer.alloc(0)
      const want = { bytes: Buffer.allocUnsafeSlow(length), filled: 0 }
      const taken = new Promise<Buffer | undefined>((resolve, reject) => {
        const waiter: Wanted = Object.assign(want, { resolve, reject })
        fill(waiter)
        if (waiter.filled === length) resolve(waiter.bytes)
        else if (!ended) wanted = waiter
        else if (waiter.filled === 0) resolve(undefined)
        else reject(cut(waiter.filled, length))
      })
      if (socket.isPaused()) socket.resume()
      return taken
    },
    async skip(length) {
      for (let left = length; left > 0; left -= Math.min(left, SKIPPED_AT_ONCE))
        if (!(await input.take(Math.min(left, SKIPPED_AT_ONCE)))) throw cut(length - left, length)
    },
    get waiting() {
      return waiting
    },
    stop() {
      socket.off('data', onData)
      socket.off('end', onEnd)
      socket.off('close', onEnd)
      socket.off('error', onEnd)
      socket.pause()
      onEnd()
    },
  }
  return input
}
