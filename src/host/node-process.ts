import { fork } from 'node:child_process'
import { once } from 'node:events'
import { LiveError } from '../error.js'

/** A Node process of ours that does one thing for another, told by messages. */
export interface NodeProcess {
  readonly pid: number
  /** its first message */
  readonly first: unknown
  /** Sends a message and waits for the answer. @throws IO  it has ended */
  ask(message: unknown): Promise<unknown>
  /** Lets it go on by itself when this process ends. */
  release(): void
  /** when it is gone */
  readonly ended: Promise<void>
  kill(): void
}

const LAST_WORDS = 4096

/**
 * Starts a module of ours in a Node process of its own, gives it a message and waits for its first one. It is in a session of
 * its own, so Ctrl-C at a terminal does not reach it; that this process has ended it learns by its channel being closed.
 *
 * @throws IO  it ended before it said anything; CANCELLED  the signal came first
 */
export const startNode = async (script: URL, message: object, signal?: AbortSignal): Promise<NodeProcess> => {
  const child = fork(script, [], { detached: true, execArgv: [], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  let words = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-LAST_WORDS)
  })
  const ended = new Promise<void>(resolve => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const gone = ended.then(() => {
    throw new LiveError('IO', `a process of liveos ended: ${words.trim() || `exit code ${child.exitCode ?? 'none'}`}`, {
      code: child.exitCode,
    })
  })
  gone.catch(() => undefined)
  const kill = (): void => void child.kill('SIGKILL')
  const answer = async (asked: object): Promise<unknown> => {
    const reply = once(child, 'message').then(([value]: unknown[]) => value)
    reply.catch(() => undefined)
    // the channel may be closed already; then its end is the answer
    child.send(asked, () => undefined)
    return Promise.race([reply, gone])
  }
  const aborted = (): void => kill()
  signal?.addEventListener('abort', aborted)
  try {
    if (signal?.aborted) kill()
    const first = await answer(message)
    return {
      pid: child.pid!,
      first,
      ask: asked => answer(asked as object),
      release() {
        child.disconnect()
        child.stderr?.destroy()
        child.unref()
      },
      ended,
      kill,
    }
  } catch (error) {
    kill()
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped')
    throw error
  } finally {
    signal?.removeEventListener('abort', aborted)
  }
}
