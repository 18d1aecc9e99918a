import { assert, isLiveError } from '../error.js'
import { type NbdFile, openNbdFile } from '../host/nbd-file.js'
import { type Serving, serveView } from './serve.js'
import type { ServeAnswer, ServeRequest } from './serve-process.js'
import { openExportView } from './serve-view.js'

assert(process.send, 'serve-child runs as a process of its own')

const say = (answer: ServeAnswer): Promise<void> =>
  new Promise(resolve => {
    // whoever asked may be gone
    if (process.connected && process.send) process.send(answer, () => resolve())
    else resolve()
  })

const failure = (error: unknown): ServeAnswer =>
  isLiveError(error)
    ? { kind: 'failed', error: error.toJSON() }
    : { kind: 'failed', error: { code: 'BUG', message: error instanceof Error ? (error.stack ?? '') : String(error) } }

let serving: Serving | undefined
let file: NbdFile | undefined
let detached = false
let ending: Promise<void> | undefined

const closeFile = async (): Promise<void> => {
  await file?.stop()
  file = undefined
}

const finish = async (): Promise<void> => {
  try {
    // Unmounting writes back what the kernel holds, so the server must still be there.
    await closeFile()
    const outcome = await serving?.stop()
    await say({ kind: 'stopped', outcome: outcome ?? null })
    process.exit(0)
  } catch (error) {
    await serving?.stop().catch(() => undefined)
    await say(failure(error))
    process.exit(1)
  }
}

const end = (): Promise<void> => (ending ??= finish())

const start = async ({ description, once, detach }: Extract<ServeRequest, { kind: 'start' }>): Promise<void> => {
  detached = detach
  try {
    serving = await serveView(await openExportView(description), { once })
    const { uri, socket, size } = serving
    await say({ kind: 'started', uri, socket: socket!, size })
    void serving.ended.then(end, end)
  } catch (error) {
    await say(failure(error))
    process.exit(1)
  }
}

const answer = async (request: ServeRequest): Promise<void> => {
  if (request.kind === 'start') return start(request)
  if (request.kind === 'stop') return end()
  try {
    assert(serving?.socket, 'a file of an export that was not started')
    if (request.kind === 'open file') {
      const { uri, socket } = serving
      file = await openNbdFile({ uri, socket }, request)
      await say({ kind: 'file', file: file ? { path: file.path, by: file.by } : null })
    } else {
      await closeFile()
      await say({ kind: 'file closed' })
    }
  } catch (error) {
    await say(failure(error))
  }
}

process.on('message', (request: ServeRequest) => void answer(request))
// Nobody is left who would stop it.
process.on('disconnect', () => {
  if (!detached) void end()
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end())
