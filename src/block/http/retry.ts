import { LiveError } from '../../error.js'
import { statusError } from './answer.js'
import type { Timing } from './client.js'

/** Wrong in passing: what was asked for is asked again. */
export class Passing extends Error {
  /** how long to wait, where that is known */
  readonly pauseMs: number | undefined
  /** what to say when no attempt is left; else the cause is said */
  readonly last: LiveError | undefined

  constructor(message: string, more: { cause?: unknown; last?: LiveError; pauseMs?: number | undefined } = {}) {
    super(message, { cause: more.cause })
    this.last = more.last
    this.pauseMs = more.pauseMs
  }
}

/** Attempts for one range, however much each of them brings. */
const MAX_ATTEMPTS = 32

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

/** What to look at where the system's own words don't say. */
const inWords = (code: string, message: string): string => {
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return `no server of that name is found: check the address, and that this computer is on the network (${message})`
  if (code === 'ECONNREFUSED')
    return `nothing answers there: check name and port, and that the server runs (${message})`
  return message
}

/** The error of a server that can't be reached. */
export const unreachable = (name: string, error: unknown): LiveError =>
  new LiveError(
    'IO',
    `${name}: ${inWords(codeOf(error), error instanceof Error ? error.message : String(error))}`,
    { device: name, errno: codeOf(error) },
    error,
  )

const pause = (ms: number, signal: AbortSignal, stopped: () => LiveError): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(stopped())
      return
    }
    const end = (): void => {
      clearTimeout(timer)
      reject(stopped())
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', end)
      resolve()
    }, ms)
    signal.addEventListener('abort', end, { once: true })
  })

/** What attempts need to know. */
export interface Attempts {
  readonly name: string
  readonly timing: Timing
  readonly signal: AbortSignal
  /** the error of whoever waits when the signal is aborted */
  stopped(): LiveError
}

/**
 * Runs `work` until it comes to its end or fails with more than Passing.
 *
 * @param done  counts what came in: attempts that bring something are not in vain
 */
export const trying = async <T>(
  { name, timing, signal, stopped }: Attempts,
  work: () => Promise<T>,
  done: () => number,
): Promise<T> => {
  let inVain = 0
  for (let attempts = 1; ; attempts++) {
    const before = done()
    try {
      if (signal.aborted) throw stopped()
      return await work()
    } catch (error) {
      if (!(error instanceof Passing)) throw error
      inVain = done() > before ? 0 : inVain + 1
      if (inVain >= timing.attempts || attempts >= MAX_ATTEMPTS)
        throw error.last ?? (error.cause === undefined ? statusError(0, name) : unreachable(name, error.cause))
      await pause(error.pauseMs ?? (inVain === 0 ? 0 : timing.backoffMs * 2 ** (inVain - 1)), signal, stopped)
    }
  }
}
