import { parentPort, workerData } from 'node:worker_threads'
import { assert } from '../error.js'
import { decodeBlock, decodeBlockInto, encodeBlock, isCodecLoaded, loadCodec } from './codecs.js'
import {
  INSIDE,
  POOL_END,
  type PoolReply,
  type PoolRequest,
  type PoolWorkerData,
  packFailure,
  STOPPING,
} from './pool-message.js'

const port = parentPort
assert(port, 'pool-worker runs as a worker')
const { control } = workerData as PoolWorkerData

/** the shared memory of each slot */
const memories: SharedArrayBuffer[] = []

const perform = (request: PoolRequest): PoolReply => {
  const { slot, shared, inputOffset, inputLength, outputOffset, outputSize, work } = request
  const memory = memories[slot]
  assert(memory ?? shared, 'a slot without memory')
  const input = new Uint8Array((shared ?? memory)!, inputOffset, inputLength)
  if (work.kind === 'decode into') return { slot, length: decodeBlockInto(work.name, input, work.target) }
  if (work.kind === 'decode') return { slot, bytes: decodeBlock(work.name, input, work.capacity) }
  assert(memory, 'a slot without memory')
  const output = new Uint8Array(memory, outputOffset, outputSize)
  const bytes = encodeBlock(work.compressor, input, work.blockSize)
  if (!bytes) return { slot, length: -1 }
  output.set(bytes)
  return { slot, length: bytes.length }
}

const enter = (): boolean => {
  Atomics.store(control, INSIDE, 1)
  return Atomics.load(control, STOPPING) === 0
}

const leave = (): void => {
  Atomics.store(control, INSIDE, 0)
  Atomics.notify(control, INSIDE)
}

const answer = async (request: PoolRequest): Promise<void> => {
  const { slot, memory, work } = request
  if (memory) memories[slot] = memory
  try {
    const name = work.kind === 'encode' ? work.compressor.name : work.name
    if (!isCodecLoaded(name)) await loadCodec(name)
    if (enter()) {
      const reply = perform(request)
      port.postMessage(reply, 'bytes' in reply ? [reply.bytes.buffer as ArrayBuffer] : [])
    }
  } catch (error) {
    port.postMessage({ slot, failure: packFailure(error) } satisfies PoolReply)
  } finally {
    leave()
  }
}

port.on('message', (message: PoolRequest | typeof POOL_END) => {
  if (message === POOL_END) port.close()
  else void answer(message)
})
