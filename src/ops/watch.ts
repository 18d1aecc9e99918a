import { createHash } from 'node:crypto'
import { mkdir, statfs } from 'node:fs/promises'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { type Folder, openFolder } from '../host/folder.js'
import type { TargetInput } from '../liveos/target.js'
import { thisOwner } from './refresh-owner.js'
import type { Room } from './status-live.js'
import { type Forecast, forecast, type Point } from './watch-forecast.js'
import { findGauge, type Gauge, type Reading } from './watch-gauge.js'
import { attempt, type Line, openRing } from './watch-history.js'
import type { StoreTail } from './watch-store.js'
import { decide, isTold, type Level, LIMITS, type Limits, levelOf, NOTHING_TOLD, type Told } from './watch-warn.js'

export { announce, CHANNELS, type Channel } from '../host/notify.js'
export { aboutTime } from './watch-forecast.js'
export { type InstallOutcome, type InstallPlan, planInstall, runInstall } from './watch-install.js'
export { metricsText } from './watch-metrics.js'
export { type Level, LIMITS, type Limits } from './watch-warn.js'

export interface WatchOptions {
  readonly limits?: Partial<Limits> | undefined
  /** false: keep no history on the stick */
  readonly history?: boolean | undefined
  /** the caller says nothing to anybody, so what is news stays so for the next */
  readonly silent?: boolean | undefined
}

/** One look at what fills. */
export interface WatchSample {
  /** ISO 8601, by the computer's clock */
  readonly at: string
  readonly target: string
  readonly kind: Gauge['kind']
  readonly name: string
  readonly path: string | null
  readonly keptIn: Gauge['keptIn']
  readonly isRunning: boolean
  readonly state: Reading['state']
  readonly room: Room | null
  readonly dmsetup: string | null
  readonly problem: string | null
  readonly level: Level
  readonly forecast: Forecast | null
  /** what is news and was not said before */
  readonly say: 'level' | 'forecast' | null
  /** file of the history on the stick; null where none can be kept */
  readonly history: string | null
}

/** Something that is looked at again and again. */
export interface Watch {
  /** what it belongs to, as a command line names it; '' for the running system */
  readonly address: string
  /** @throws NOT_FOUND  the stick has gone; IO */
  sample(): Promise<WatchSample>
}

/** seconds between two lines of the history on the stick */
const HISTORY_EVERY = 15 * 60
/** points kept for the forecast */
const MOST_POINTS = 512

const TMPFS = 0x01021994

/**
 * The folder for what is only of use until the next start: in memory, never on what is watched. systemd names one for a
 * service; root has /run, a user's session its own. Undefined where there is none.
 */
const runtimeFolder = async (): Promise<Folder | undefined> => {
  const { RUNTIME_DIRECTORY: given, XDG_RUNTIME_DIR: session } = process.env
  const path = given?.split(':')[0] ?? (process.getuid?.() === 0 ? '/run/liveos' : session && join(session, 'liveos'))
  if (!path) return undefined
  try {
    await mkdir(path, { mode: 0o700, recursive: true })
    return (await statfs(path)).type === TMPFS ? await openFolder(path) : undefined
  } catch {
    return undefined
  }
}

const ringName = ({ kind, name, path }: Gauge): string =>
  `watch-${createHash('sha256')
    .update(`${kind} ${path ?? name}`)
    .digest('hex')
    .slice(0, 16)}.jsonl`

/** What a line of the ring in memory keeps beside a point. */
interface Kept {
  readonly told: Told
  readonly tail: StoreTail | undefined
}

/** A line that this program wrote in this boot. What does not look like one is none. */
const keptIn = (line: Line, boot: string | null): (Point & Kept) | undefined => {
  const { boot: of, seconds, usedBytes, told, tail } = line as Partial<Point & Kept> & Line
  if (of !== boot || !Number.isFinite(seconds) || !Number.isFinite(usedBytes) || !isTold(told)) return undefined
  return { seconds: Number(seconds), usedBytes: Number(usedBytes), told, tail: tail ?? undefined }
}

/** True for a line of the history that says nothing new. */
const isOldNews = (last: Line | undefined, boot: string | null, now: number, level: Level, used: number): boolean =>
  last !== undefined &&
  last.boot === boot &&
  last.level === level &&
  (last.usedBytes === used || now - Number(last.seconds) < HISTORY_EVERY)

/**
 * Begins to watch what fills: the overlay of a stick, or where a running live system's changes go to. What was seen and said
 * since the start of this computer is gone on with, also by another process: `--once` of a timer warns no more often than a
 * watch that stays.
 *
 * @throws NOT_FOUND  there is no overlay; REFUSED  only root can look at it; USAGE, READ_ONLY, UNSUPPORTED
 */
export const openWatch = async (input: TargetInput, options: WatchOptions = {}): Promise<Watch> => {
  const limits: Limits = { ...LIMITS, ...options.limits }
  const gauge = await findGauge(input)
  const { boot } = await thisOwner()
  const runtime = await runtimeFolder()
  const recent = runtime && (await attempt(() => openRing(runtime, ringName(gauge))))
  const beside = options.history === false ? undefined : gauge.beside
  let history = beside && (await attempt(() => openRing(beside.folder, beside.name)))

  const kept = (recent?.lines ?? []).map(line => keptIn(line, boot)).filter(line => line !== undefined)
  const points: Point[] = kept.map(({ seconds, usedBytes }) => ({ seconds, usedBytes }))
  let { told, tail }: Kept = kept.at(-1) ?? { told: NOTHING_TOLD, tail: undefined }

  const note = async (
    line: Readonly<Record<string, unknown>>,
    level: Level,
    used: number,
    now: number,
  ): Promise<void> => {
    if (!history || isOldNews(history.lines.at(-1), boot, now, level, used)) return
    const ring = history
    // a stick that can't be written to any more is watched all the same
    history = await attempt(async () => {
      await ring.append(line)
      return ring
    })
  }

  return {
    address: gauge.address,
    async sample() {
      const reading = await gauge.read(tail)
      const now = Math.round(uptime() * 10) / 10
      const { room, state } = reading
      // what can't be told is no news, what can't be read is
      const percent = room?.percent ?? (state === 'unknown' ? 0 : 100)
      const used = room?.usedBytes ?? 0
      tail = reading.tail
      if (room && (points.at(-1)?.seconds ?? -1) < now) points.push({ seconds: now, usedBytes: used })
      if (points.length > MOST_POINTS) points.shift()
      const isLost = state === 'overflow' || state === 'invalid'
      const level = levelOf(percent, isLost, state === 'full' || state === 'damaged', limits)
      const ahead = room && !isLost ? forecast(points, room.leftBytes) : undefined
      const decision = decide(told, { level, percent, forecast: ahead, now }, limits)
      if (!options.silent) told = decision.told
      const at = new Date().toISOString()
      const content = { seconds: now, usedBytes: used, leftBytes: room?.leftBytes ?? null, boot }
      await attempt(async () => recent?.append({ ...content, told, tail: tail ?? null }))
      await note({ at, ...content, percent, state, level }, level, used, now)
      return {
        at,
        target: gauge.target,
        kind: gauge.kind,
        name: gauge.name,
        path: gauge.path,
        keptIn: gauge.keptIn,
        isRunning: gauge.isRunning,
        state,
        room,
        dmsetup: reading.dmsetup,
        problem: reading.problem,
        level,
        forecast: ahead ?? null,
        say: (options.silent ? undefined : decision.say) ?? null,
        history: history && beside ? join(beside.folder.path, beside.name) : null,
      }
    },
  }
}
