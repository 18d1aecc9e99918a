import type { Progress } from '../ops/progress.js'
import { duration, size } from './words.js'

/** Shows how far a run is; on a terminal as one line that is redrawn, elsewhere as a plain line now and then. */
export interface ProgressView {
  show(progress: Progress): void
  /** clears the line */
  end(): void
}

const WIDTH = 24
/** a bar shorter than this tells nothing */
const LEAST_WIDTH = 6
const REDRAW_MS = 100
const PLAIN_MS = 5000

const fraction = ({ doneBytes, totalBytes }: Progress): number =>
  totalBytes > 0 ? Math.min(1, doneBytes / totalBytes) : 0

/** @param columns  room for it, where a bar is to be drawn in what the words leave */
const describe = (progress: Progress, seconds: number, columns?: number): string => {
  const { phase, doneBytes, totalBytes } = progress
  if (totalBytes === 0) return `${phase} …`
  const part = fraction(progress)
  // 100 % is for when everything is on the medium, which the outcome says
  const percent = Math.min(99, Math.floor(part * 100))
  const speed = seconds > 0.2 ? `${size(doneBytes / seconds)}/s` : ''
  const eta = part > 0.01 && seconds > 0.5 ? `about ${duration((seconds * (1 - part)) / part)} left` : ''
  const name = phase.padEnd(7)
  const told = [`${String(percent).padStart(3)} %`, `${size(doneBytes)} of ${size(totalBytes)}`, speed, eta]
    .filter(Boolean)
    .join('  ')
  const width = Math.min(WIDTH, (columns ?? 0) - name.length - told.length - 4)
  const drawn = width < LEAST_WIDTH ? '' : `[${'#'.repeat(Math.round(part * width)).padEnd(width, '.')}] `
  return `${name} ${drawn}${told}`
}

/** Progress on a stream, stderr as a rule, so that stdout stays what was asked for. */
export const progressView = (stream: NodeJS.WriteStream): ProgressView => {
  let phase = ''
  let started = 0
  let shown = 0
  // a terminal of no size is one whose size nobody knows
  const room = (): number => (stream.columns || 80) - 1
  const write = (text: string) => stream.write(stream.isTTY ? `\r\u001b[K${text.slice(0, room())}` : `${text}\n`)
  return {
    show(progress) {
      const now = Date.now()
      const isNew = progress.phase !== phase
      if (isNew) {
        phase = progress.phase
        started = now
      }
      const every = stream.isTTY ? REDRAW_MS : PLAIN_MS
      if (!isNew && now - shown < every) return
      shown = now
      write(describe(progress, (now - started) / 1000, stream.isTTY ? room() : undefined))
    },
    end() {
      if (stream.isTTY) stream.write('\r\u001b[K')
    },
  }
}
