/** How far a run is. A phase with no known end has `totalBytes` 0. */
export interface Progress {
  /** such as "write" or "verify" */
  readonly phase: string
  readonly doneBytes: number
  readonly totalBytes: number
}

export type Report = (progress: Progress) => void

/**
 * Runs work that reports its progress by callback as the async generator that every verb's `run` is. Reports that nobody
 * fetched in time are replaced by later ones of the same phase, so a slow reader slows nothing down.
 */
export async function* progressing<T>(work: (report: Report) => Promise<T>): AsyncGenerator<Progress, T> {
  const waiting: Progress[] = []
  let wake: (() => void) | undefined
  const report: Report = progress => {
    if (waiting.at(-1)?.phase === progress.phase) waiting.pop()
    waiting.push(progress)
    wake?.()
  }
  let settled = false
  const result = work(report).finally(() => {
    settled = true
    wake?.()
  })
  result.catch(() => undefined)
  try {
    while (!settled || waiting.length > 0) {
      const next = waiting.shift()
      if (next) yield next
      else await new Promise<void>(resolve => (wake = resolve))
      wake = undefined
    }
  } finally {
    // whoever stops listening still waits until the work has come to its safe point
    await result.catch(() => undefined)
  }
  return result
}
