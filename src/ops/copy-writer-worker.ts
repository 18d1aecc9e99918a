import { parentPort, workerData } from 'node:worker_threads'
import { assert } from '../error.js'
import { isFatal, perform, unpacked, type WriteResult } from './copy-write.js'
import {
  BEGUN,
  inWords,
  type MadeIn,
  STOP,
  unpackTasks,
  WRITER_END,
  WRITER_READY,
  type WriteBatch,
  type WriteReply,
  type WriterData,
} from './copy-writer-message.js'

const port = parentPort
assert(port, 'copy-writer-worker runs as a worker')
const { stop } = workerData as WriterData

const NOTHING = new Uint8Array(0)
let madeIn: MadeIn = new Map()
/** only where files may be replaced must what was made be told from what was there */
const madeOf = (place: number, isFresh: boolean, overwrite: boolean): Set<bigint> => {
  if (isFresh || !overwrite) return new Set()
  let made = madeIn.get(place)
  if (!made) {
    made = new Set()
    madeIn.set(place, made)
  }
  return made
}

const run = ({ data, strings, numbers, forget, made }: WriteBatch): WriteReply => {
  if (made) madeIn = made
  const results: (WriteResult | 0)[] = []
  let at = 0
  for (const { task, size } of unpackTasks({ strings, numbers })) {
    const bytes = size === 0 ? NOTHING : new Uint8Array(data, at, size)
    at = inWords(at + size)
    if (Atomics.load(stop, STOP) !== 0) {
      results.push({ skipped: true })
      continue
    }
    Atomics.add(stop, BEGUN, 1)
    const result = perform(task, bytes, madeOf(task.place, task.isFresh, task.overwrite))
    // where no other file would do better either, those that wait here are not tried
    if ('failure' in result && isFatal(unpacked(result.failure))) Atomics.store(stop, STOP, 1)
    results.push('landing' in result && result.landing === 'done' && result.inode === undefined ? 0 : result)
  }
  for (const place of forget) madeIn.delete(place)
  return { data, results }
}

port.on('message', (message: WriteBatch | typeof WRITER_END) => {
  if (message === WRITER_END) {
    port.close()
    return
  }
  const reply = run(message)
  port.postMessage(reply, [reply.data])
})
port.postMessage(WRITER_READY)
