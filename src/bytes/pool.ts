import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { assert, LiveError, systemError } from '../error.js'
import type { Compressor, CompressorName } from './codec.js'
import { checkEncodable } from './codecs.js'
import {
  INSIDE,
  POOL_END,
  type PoolReply,
  type PoolRequest,
  type PoolWorkerData,
  STOPPING,
  unpackFailure,
} from './pool-message.js'

/** Codecs on worker threads. Blocks wait in line where all are busy; how many may wait is the caller's to bound. */
export interface CodecPool {
  /** how many workers there are at most */
  readonly threads: number
  /**
   * Decompresses one block of at most `capacity` bytes; the result is the caller's own.
   *
   * @throws CodecError   the block is damaged or larger
   * @throws UNSUPPORTED  the codec can't be loaded on this computer
   * @throws IO           the worker died
   * @throws CANCELLED    the pool was closed
   */
  decode(name: CompressorName, input: Uint8Array, capacity: number): Promise<Uint8Array>
  /**
   * Decompresses one block into `target`, which lies in shared memory; where `input` lies in such memory too, nothing is copied
   * between threads. Both are the pool's until this is settled.
   *
   * @returns bytes written
   * @throws  as `decode`
   */
  decodeInto(name: CompressorName, input: Uint8Array, target: Uint8Array): Promise<number>
  /**
   * Compresses one block of 1 to `blockSize` bytes; undefined where it would not get smaller.
   *
   * @throws UNSUPPORTED  these settings can't be compressed here, or the codec can't be loaded
   * @throws IO           the worker died
   * @throws CANCELLED    the pool was closed
   */
  encode(compressor: Compressor, input: Uint8Array, blockSize: number): Promise<Uint8Array | undefined>
  /** Starts all workers, for who will have much for them soon: that takes as long as a hundred blocks, and is done beside other work. */
  start(): void
  /** Ends the workers, each once it is out of its block; what is not done then is rejected. */
  close(): Promise<void>
}

/** How many workers at most, all cores without it; `script` is the worker's module, another one only in tests. */
export interface PoolOptions {
  readonly threads?: number
  readonly script?: URL
}

interface Job {
  readonly work: PoolRequest['work']
  readonly input: Uint8Array
  readonly outputSize: number
  readonly resolve: (bytes: Uint8Array | undefined) => void
  readonly reject: (error: Error) => void
}

/** Shared memory for one job: the block in front, its result behind. */
interface Slot {
  memory: SharedArrayBuffer
  job: Job | undefined
}

interface Crew {
  readonly worker: Worker
  readonly control: Int32Array
  slots: readonly Slot[]
  busy: number
  /** of the pool that has it now */
  onReply: (reply: PoolReply) => void
  onExit: (cause: unknown) => void
}

/** A worker finds its next block waiting when one is done. */
const SLOTS = 2
/** Slots grow in steps, so that a row of slightly larger blocks does not reallocate each time. */
const GRAIN = 65536
const WORD = 8
const YOUNG_MB = 4
const OLD_MB = 64

/**
 * The compiled worker, beside this module. Where this module runs from its source (vitest turns TypeScript into JavaScript in
 * its own threads), a worker thread of Node 20 can't do the same with the worker's, so the one that the build left in dist is taken.
 */
const workerUrl = (): URL =>
  new URL(
    import.meta.url.endsWith('.ts') ? '../../dist/bytes/pool-worker.js' : '../bytes/pool-worker.js',
    import.meta.url,
  )

const aligned = (size: number): number => Math.ceil(size / GRAIN) * GRAIN

/** Longest wait for the workers at the end of the process, in milliseconds; a block takes less than half a second where nothing else runs. */
const LAST_WAIT = 20_000

/** All workers of this thread that are not gone. */
const alive = new Set<Crew>()

/** How long a worker that a pool gave back waits for another one, in milliseconds: starting one takes as long as a hundred blocks. */
const SPARE_FOR = 1000
/** Workers that wait for the next pool, by the module that they run. */
const spare = new Map<Crew, { readonly script: string; readonly timer: NodeJS.Timeout }>()

const emptySlots = (): readonly Slot[] =>
  Array.from({ length: SLOTS }, (): Slot => ({ memory: new SharedArrayBuffer(0), job: undefined }))

const keepSpare = (crew: Crew, script: string): void => {
  const timer = setTimeout(() => {
    spare.delete(crew)
    crew.worker.postMessage(POOL_END)
  }, SPARE_FOR)
  timer.unref()
  crew.onReply = () => {}
  crew.onExit = () => {
    clearTimeout(timer)
    spare.delete(crew)
  }
  // What the last pool's blocks needed is not kept.
  crew.slots = emptySlots()
  spare.set(crew, { script, timer })
}

const takeSpare = (script: string): Crew | undefined => {
  for (const [crew, { script: runs, timer }] of spare) {
    if (runs !== script) continue
    clearTimeout(timer)
    spare.delete(crew)
    return crew
  }
  return undefined
}

/**
 * Native codecs abort the whole process where their worker is terminated under them (node-liblzma: "FATAL ERROR: napi_throw"),
 * and Node terminates workers on exit, be it Ctrl-C. So workers are never terminated by us, and at exit each one gets the time
 * to come out of the codec, and goes into no other.
 */
const awaitWorkers = (): void => {
  for (const { control } of alive) Atomics.store(control, STOPPING, 1)
  for (const { control } of alive) Atomics.wait(control, INSIDE, 1, LAST_WAIT)
}

const outputOffsetOf = (input: Uint8Array): number => aligned(input.length + WORD)

const occupy = (crew: Crew, slot: Slot, job: Job): void => {
  slot.job = job
  // Only a busy worker keeps the process alive.
  if (crew.busy++ === 0) crew.worker.ref()
}

/** Gives a job to a free slot of a worker. */
const dispatch = (crew: Crew, job: Job): void => {
  const index = crew.slots.findIndex(slot => slot.job === undefined)
  const slot = crew.slots[index]
  assert(slot, 'a worker without a free slot')
  const { work, input, outputSize } = job
  if (work.kind === 'decode into' && input.buffer instanceof SharedArrayBuffer) {
    occupy(crew, slot, job)
    const { buffer: shared, byteOffset: inputOffset, length: inputLength } = input
    const request: PoolRequest = { slot: index, shared, inputOffset, inputLength, outputOffset: 0, outputSize: 0, work }
    crew.worker.postMessage(request)
    return
  }
  // V8 copies to and from shared memory by words where both sides lie alike in a word (25 GB/s), otherwise by bytes (3 GB/s).
  const inputOffset = input.byteOffset % WORD
  const outputOffset = outputOffsetOf(input)
  const needed = outputOffset + aligned(outputSize)
  const grown = needed > slot.memory.byteLength
  if (grown) slot.memory = new SharedArrayBuffer(needed)
  new Uint8Array(slot.memory, inputOffset, input.length).set(input)
  occupy(crew, slot, job)
  const request: PoolRequest = { slot: index, inputOffset, inputLength: input.length, outputOffset, outputSize, work }
  crew.worker.postMessage(grown ? { ...request, memory: slot.memory } : request)
}

const settle = (crew: Crew, reply: PoolReply): void => {
  const slot = crew.slots[reply.slot]
  const job = slot?.job
  assert(slot && job, 'an answer to no question')
  slot.job = undefined
  if (--crew.busy === 0) crew.worker.unref()
  if ('failure' in reply) job.reject(unpackFailure(reply.failure))
  else if ('bytes' in reply) job.resolve(reply.bytes)
  else if (reply.length < 0) job.resolve(undefined)
  else if (job.work.kind === 'decode into') job.resolve(job.work.target.subarray(0, reply.length))
  else {
    // Copied out of the shared memory, which the next job overwrites; slice() does it at a tenth of the speed.
    const bytes = new Uint8Array(Buffer.allocUnsafeSlow(reply.length).buffer)
    bytes.set(new Uint8Array(slot.memory, outputOffsetOf(job.input), reply.length))
    job.resolve(bytes)
  }
}

/** Starts a worker. */
const spawn = (script: URL): Crew => {
  const control = new Int32Array(new SharedArrayBuffer(8))
  const worker = new Worker(script, {
    workerData: { control } satisfies PoolWorkerData,
    resourceLimits: { maxOldGenerationSizeMb: OLD_MB, maxYoungGenerationSizeMb: YOUNG_MB },
    // Flags of the parent (loaders, inspectors) are not meant for it.
    execArgv: [],
  })
  const crew: Crew = { worker, control, slots: emptySlots(), busy: 0, onReply: () => {}, onExit: () => {} }
  let cause: unknown
  worker.unref()
  worker.on('message', (reply: PoolReply) => crew.onReply(reply))
  worker.on('error', error => {
    cause = error
  })
  worker.on('exit', () => {
    alive.delete(crew)
    if (alive.size === 0) process.off('exit', awaitWorkers)
    crew.onExit(cause)
  })
  if (alive.size === 0) process.on('exit', awaitWorkers)
  alive.add(crew)
  return crew
}

/**
 * Opens a pool of workers. They start when blocks come, one at a time as the others are busy, or all by `start`, and do not keep
 * the process alive when idle. Each has two slots of shared memory as large as the largest block seen, in and out.
 */
export const openPool = ({ threads = availableParallelism(), script = workerUrl() }: PoolOptions = {}): CodecPool => {
  assert(Number.isInteger(threads) && threads > 0, `${threads} threads`)
  const crews: Crew[] = []
  const waiting: Job[] = []
  let closed = false

  const start = (): Crew => {
    const crew = takeSpare(script.href) ?? spawn(script)
    crew.onReply = reply => {
      settle(crew, reply)
      pump()
    }
    crew.onExit = cause => {
      crews.splice(crews.indexOf(crew), 1)
      const error = closed ? cancelled() : new LiveError('IO', 'a compression worker died', {}, cause)
      for (const slot of crew.slots) slot.job?.reject(error)
      pump()
    }
    crews.push(crew)
    return crew
  }

  /** The idlest worker, a new one where all have work and there may be more, or none where all are full. */
  const choose = (): Crew | undefined => {
    let best: Crew | undefined
    for (const crew of crews) if (!best || crew.busy < best.busy) best = crew
    if ((!best || best.busy > 0) && crews.length < threads) return start()
    return best && best.busy < SLOTS ? best : undefined
  }

  const pump = (): void => {
    while (!closed && waiting.length > 0) {
      const crew = choose()
      if (!crew) return
      const job = waiting.shift()!
      try {
        dispatch(crew, job)
      } catch (error) {
        job.reject(systemError(error, 'sharing a block with a compression worker'))
      }
    }
  }

  const submit = (work: Job['work'], input: Uint8Array, outputSize: number): Promise<Uint8Array | undefined> =>
    new Promise((resolve, reject) => {
      if (closed) return reject(cancelled())
      waiting.push({ work, input, outputSize, resolve, reject })
      pump()
    })

  return {
    threads,
    start: () => {
      try {
        while (!closed && crews.length < threads) start()
      } catch {
        // So many threads may not be had here; the next block starts one, or tells.
      }
    },
    decode: async (name, input, capacity) => {
      const bytes = await submit({ kind: 'decode', name, capacity }, input, 0)
      assert(bytes, 'a block decoded to nothing')
      return bytes
    },
    decodeInto: async (name, input, target) => {
      assert(target.buffer instanceof SharedArrayBuffer, 'a target that threads do not share')
      return (await submit({ kind: 'decode into', name, target }, input, 0))!.length
    },
    encode: async (compressor, input, blockSize) => {
      checkEncodable(compressor)
      return submit({ kind: 'encode', compressor, blockSize }, input, input.length)
    },
    close: async () => {
      closed = true
      for (const job of waiting.splice(0)) job.reject(cancelled())
      await Promise.all(
        [...crews].map(async crew => {
          if (crew.busy > 0 || spare.size >= availableParallelism()) return end(crew)
          crews.splice(crews.indexOf(crew), 1)
          keepSpare(crew, script.href)
        }),
      )
    },
  }
}

/** Ends a worker once it is out of the codec, and waits for that. */
const end = async ({ worker, control }: Crew): Promise<void> => {
  Atomics.store(control, STOPPING, 1)
  // A worker that was unref'd once does not reliably keep the process alive for its own exit event, ref'd again or not.
  const alive = setInterval(() => {}, 1000)
  try {
    worker.postMessage(POOL_END)
    await once(worker, 'exit')
  } finally {
    clearInterval(alive)
  }
}

const cancelled = (): LiveError => new LiveError('CANCELLED', 'the compression workers were closed')
