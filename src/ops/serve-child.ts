import { writeFile } from 'node:fs/promises'
import { assert, isLiveError } from '../error.js'
import { type NbdFile, openNbdFile } from '../host/nbd-file.js'
import { type Serving, serveView } from './serve.js'
import type { ServeAnswer, ServeRequest } from './serve-process.js'
import { openExportView } from './serve-view.js'

assert(process.send, 'serve-child runs as a process of its own')

const say = async (answer: ServeAnswer): Promise<void> => {
  if (resultPath !== undefined && (answer.kind === 'stopped' || answer.kind === 'failed'))
    await writeFile(resultPath, JSON.stringify(answer), { mode: 0o600 }).catch(() => undefined)
  await new Promise<void>(resolve => {
    // whoever asked may be gone
    if (process.connected && process.send) process.send(answer, () => resolve())
    else resolve()
  })
}

const failure = (error: unknown): ServeAnswer =>
  isLiveError(error)
    ? { kind: 'failed', error: error.toJSON() }
    : { kind: 'failed', error: { code: 'BUG', message: error instanceof Error ? (error.stack ?? '') : String(error) } }

let serving: Serving | undefined
let file: NbdFile | undefined
/** where the last words go once nobody listens */
let resultPath: string | undefined
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

const start = async ({ description, once }: Extract<ServeRequest, { kind: 'start' }>): Promise<void> => {
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
      const told = file && { path: file.path, by: file.by, pid: file.pid, mountPoint: file.mountPoint }
      await say({ kind: 'file', file: told ?? null })
    } else if (request.kind === 'release') {
      resultPath = request.resultPath
      // Where it was started may be on a stick that is to be unmounted before this ends.
      process.chdir('/')
      await say({ kind: 'released' })
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
  if (resultPath === undefined) void end()
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end())
// Nobody reads what is said here once it was released.
process.stderr.on('error', () => undefined)
