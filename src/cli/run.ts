import { isLiveError, LiveError } from '../error.js'
import type { Progress } from '../ops/progress.js'
import { progressView } from './progress.js'
import { EXIT, paint, safe, sized } from './words.js'

/** Options that every verb that writes has. */
export interface Consent {
  readonly json?: boolean | undefined
  readonly yes?: boolean | undefined
  readonly dryRun?: boolean | undefined
}

/** One JSON document on stdout, or lines of words. */
export const print = (json: boolean | undefined, value: unknown, words: () => readonly string[]): void => {
  process.stdout.write(
    json
      ? `${JSON.stringify(value, undefined, 2)}\n`
      : words()
          .map(line => `${line}\n`)
          .join(''),
  )
}

/** Asks; the answer that counts when nothing is typed is No. @throws REFUSED  there is nobody to ask, CANCELLED  the answer was No */
export const confirm = async (question: string, { yes }: Consent): Promise<void> => {
  if (yes) return
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new LiveError('REFUSED', `${question} Nobody can be asked here: add --yes to say so beforehand`)
  const { confirm: ask, isCancel } = await import('@clack/prompts')
  const answer = await ask({ message: question, initialValue: false, output: process.stderr })
  if (isCancel(answer) || !answer) throw new LiveError('CANCELLED', 'nothing was changed')
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Runs a plan to its outcome, showing progress; Ctrl-C stops it at the next safe point. */
export const drive = async <T>(start: (signal: AbortSignal) => AsyncGenerator<Progress, T>): Promise<T> => {
  const stop = new AbortController()
  const view = progressView(process.stderr)
  const onSignal = () => {
    view.end()
    if (!stop.signal.aborted) process.stderr.write('stopping at the next safe point …\n')
    stop.abort()
  }
  for (const signal of SIGNALS) process.on(signal, onSignal)
  // Whoever reads our words may go; the work on the stick goes on to its end.
  const ignore = (): void => {}
  process.stdout.on('error', ignore)
  process.stderr.on('error', ignore)
  try {
    const running = start(stop.signal)
    for (;;) {
      const { value, done } = await running.next()
      if (done) return value
      view.show(value)
    }
  } finally {
    view.end()
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}

/** An error as the one JSON document. */
export const printError = (error: LiveError): void => {
  process.stdout.write(`${JSON.stringify({ error: error.toJSON() }, undefined, 2)}\n`)
}

/** Says what went wrong and gives the exit code of it. */
export const fail = (error: unknown, json: boolean): number => {
  if (!isLiveError(error)) {
    process.stderr.write(
      `liveos: this is a mistake of liveos itself, please report it:\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    )
    if (json)
      process.stdout.write(
        `${JSON.stringify({ error: { code: 'BUG', message: String(error), data: {} } }, undefined, 2)}\n`,
      )
    return 70
  }
  const p = paint(process.stderr)
  process.stderr.write(`${p.bad('liveos:')} ${safe(sized(error.message))}\n`)
  if (isLiveError(error.cause)) process.stderr.write(`        ${p.faint(safe(sized(error.cause.message)))}\n`)
  if (json) printError(error)
  return EXIT[error.code]
}
