import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { LiveError } from '../error.js'
import { perform, removeLeft, type WriteResult, type WriteTask } from './copy-write.js'
import {
  BEGUN,
  inWords,
  type MadeIn,
  packTasks,
  STOP,
  WRITER_END,
  WRITER_READY,
  type WriteBatch,
  type WriteReply,
  type WriterData,
} from './copy-writer-message.js'

/** What became of a task; `died` where the thread that had it is gone. */
export type Written = WriteResult | { readonly died: LiveError }

/** Puts things into directories of the target, one after the other. */
export interface CopyWriter {
  /**
   * Takes a task, and waits only where too many are under way. `done` is called once: before this returns, or later.
   *
   * @param bytes  of a file, at most `MOST_BYTES`; they may be changed when this has returned
   * @throws IO  the thread that writes died; then `done` is not called
   */
  write(task: WriteTask, bytes: Uint8Array, done: (result: Written) => void): Promise<void>
  /** nothing more is put into a directory of that number */
  forget(place: number): void
  /** waits until all tasks are done */
  drain(): Promise<void>
  /** begins nothing new: what waits is skipped */
  stop(): void
  /** Waits for what is under way, and ends the thread. */
  close(): Promise<void>
}

export interface WriterOptions {
  /** tasks that are done here before a thread is started, as a small copy is done sooner than one starts; with 0 all wait for it */
  readonly patience?: number
  /** the thread's module, another one only in tests */
  readonly script?: URL
}

/** The largest file that is written whole. */
export const MOST_BYTES = 1 << 20

const PATIENCE = 200
/** so many are done here between two looks whether the thread is up */
const PAUSE = 16
const BATCH_BYTES = 1 << 20
const BATCH_TASKS = 64
/** One that is written, and one that follows it without a pause. */
const MOST_BATCHES = 2
/** While one is written, no smaller one goes after it: fewer messages. */
const WORTH_TASKS = 16
const WORTH_BYTES = 1 << 18
const YOUNG_MB = 2
const OLD_MB = 32

interface Waiting {
  readonly task: WriteTask
  readonly size: number
  readonly done: (result: Written) => void
}

/** As for the codecs' workers: a worker can't be run from its source, so the one that the build left in dist is taken. */
const workerUrl = (): URL =>
  new URL(
    import.meta.url.endsWith('.ts') ? '../../dist/ops/copy-writer-worker.js' : '../ops/copy-writer-worker.js',
    import.meta.url,
  )

/** Opens what writes: in this thread at first, and in one of its own where there is much. */
export const openWriter = ({ patience = PATIENCE, script = workerUrl() }: WriterOptions = {}): CopyWriter => {
  const stop = new Int32Array(new SharedArrayBuffer(8))
  /** of this thread, until the other one takes over */
  let made: MadeIn | undefined = new Map()
  let forget: number[] = []
  let performed = 0
  let worker: Worker | undefined
  let isGone = false
  let isReady = false
  let died: LiveError | undefined
  let closing = false
  /** tasks that the thread began and told the end of */
  let answered = 0

  const buffers: ArrayBuffer[] = []
  let batch: Waiting[] = []
  let bytesInBatch = 0
  let data = new Uint8Array(0)
  const underWay: Waiting[][] = []
  let wakes: (() => void)[] = []
  const change = (): Promise<void> => new Promise(resolve => wakes.push(resolve))
  const changed = (): void => {
    const waiting = wakes
    wakes = []
    for (const wake of waiting) wake()
  }

  const send = (): void => {
    if (batch.length === 0 || !worker || underWay.length >= MOST_BATCHES) return
    if (underWay.length > 0 && batch.length < WORTH_TASKS && bytesInBatch < WORTH_BYTES) return
    const message: WriteBatch = {
      data: data.buffer as ArrayBuffer,
      ...packTasks(batch),
      forget,
      ...(made ? { made } : {}),
    }
    worker.postMessage(message, [data.buffer as ArrayBuffer])
    underWay.push(batch)
    made = undefined
    forget = []
    batch = []
    bytesInBatch = 0
    data = new Uint8Array(0)
  }
  const onReply = ({ data: buffer, results }: WriteReply): void => {
    buffers.push(buffer)
    const tasks = underWay.shift() ?? []
    answered += results.filter(result => !(result !== 0 && 'skipped' in result)).length
    // the next is on its way before what came of this one is looked at
    send()
    for (const [n, { done }] of tasks.entries()) done(results[n] || { landing: 'done' })
    changed()
  }
  const onExit = (cause: unknown): void => {
    if (closing) return
    // One that never came up had nothing: all goes on in this thread.
    if (!isReady) return
    died = new LiveError('IO', 'the thread that writes files died', {}, cause)
    isReady = false
    const lost = [...underWay.splice(0), batch].flat()
    batch = []
    const inWork = Atomics.load(stop, BEGUN) - answered - 1
    for (const [n, { task, done }] of lost.entries()) {
      if (task.kind !== 'made') removeLeft(task, n === inWork)
      done({ died })
    }
    changed()
  }
  const start = (): void => {
    const started = new Worker(script, {
      workerData: { stop } satisfies WriterData,
      resourceLimits: { maxOldGenerationSizeMb: OLD_MB, maxYoungGenerationSizeMb: YOUNG_MB },
      // Directories are opened here and reached there.
      trackUnmanagedFds: false,
      execArgv: [],
    })
    worker = started
    let cause: unknown
    started.on('error', error => {
      cause = error
    })
    started.on('exit', () => {
      isGone = true
      onExit(cause)
      changed()
    })
    started.on('message', (message: WriteReply | typeof WRITER_READY) => {
      if (message !== WRITER_READY) {
        onReply(message)
        return
      }
      isReady = true
      changed()
    })
  }

  const madeOf = ({ place }: WriteTask): Set<bigint> => {
    const known = made?.get(place) ?? new Set()
    made?.set(place, known)
    return known
  }
  const performHere = (task: WriteTask, bytes: Uint8Array): WriteResult => {
    if (stop[STOP] !== 0) return { skipped: true }
    const keeps = task.overwrite && !task.isFresh
    return perform(task, bytes, keeps ? madeOf(task) : new Set())
  }

  return {
    async write(task, bytes, done) {
      if (++performed > patience && !worker) start()
      while (patience === 0 && !isReady && !isGone) await change()
      if (!isReady && !died) {
        done(performHere(task, bytes))
        // Where all that is read is in memory already, nothing else lets the thread say that it is up.
        if (worker && !isGone && performed % PAUSE === 0) await setImmediate()
        return
      }
      while (!died && (batch.length >= BATCH_TASKS || bytesInBatch + bytes.length > BATCH_BYTES)) await change()
      if (died) throw died
      if (data.length === 0) data = new Uint8Array(buffers.pop() ?? new ArrayBuffer(BATCH_BYTES))
      data.set(bytes, bytesInBatch)
      bytesInBatch = inWords(bytesInBatch + bytes.length)
      batch.push({ task, size: bytes.length, done })
      send()
    },
    forget(place) {
      if (made) made.delete(place)
      else forget.push(place)
    },
    async drain() {
      while (underWay.length > 0 || batch.length > 0) await change()
    },
    stop: () => void Atomics.store(stop, STOP, 1),
    async close() {
      Atomics.store(stop, STOP, 1)
      while (underWay.length > 0 || batch.length > 0) await change()
      closing = true
      if (!worker || isGone) return
      worker.postMessage(WRITER_END)
      await once(worker, 'exit').catch(() => undefined)
    },
  }
}
