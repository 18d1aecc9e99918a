import { LiveError } from '../error.js'
import { readStatus, type Status, type StatusInput } from '../ops/status.js'
import { print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, rows, safe, size } from './words.js'

/** `liveos status`; exit code 1 where something needs attention. */
export const status = async (
  input: StatusInput,
  { json, dmsetup }: { readonly json?: boolean | undefined; readonly dmsetup?: boolean | undefined },
): Promise<number> => {
  const found = await readStatus(input)
  if (dmsetup) {
    if (found.overlay.dmsetup === null)
      throw new LiveError(
        'NOT_FOUND',
        `the kernel would activate no snapshot here: the overlay is ${found.overlay.state}`,
      )
    process.stdout.write(`${found.overlay.dmsetup}\n`)
  } else print(json, found, () => statusWords(found, paint(process.stdout)))
  return found.level === 'ok' ? 0 : ATTENTION
}

const BAR = 30

const gauge = (percent: number, level: Status['level'], p: Paint): string => {
  const full = Math.min(BAR, Math.round((percent / 100) * BAR))
  const colour = level === 'ok' ? p.good : level === 'warning' ? p.warn : p.bad
  return `[${colour('█'.repeat(full))}${p.faint('░'.repeat(BAR - full))}] ${percent} %`
}

const STATES: Readonly<Record<Status['overlay']['state'], string>> = {
  new: 'new: empty, a boot will begin to use it',
  ok: 'in use',
  full: 'full: the next write of a booted system overflows it',
  invalid: 'invalid: the kernel has given it up',
  damaged: 'damaged: it can’t be read right',
  none: 'none: changes of a booted system are lost at power-off',
}

/** The state of the overlay; not all that a boot takes for a new one is empty. */
const stateWords = ({ overlay, findings }: Status): string =>
  overlay.state === 'new' && findings.some(({ code }) => code === 'OVERLAY_HEADER')
    ? 'new to a boot, but it holds changes'
    : STATES[overlay.state]

const KEPT: Readonly<Record<NonNullable<Status['live']>['keptIn'], string>> = {
  'overlay of the stick': 'in the overlay of the stick',
  'another place': 'elsewhere',
  memory: 'in memory, lost at power-off',
  unknown: 'in a place that only root may look at',
}

/** What the kernel says of the overlay that is in use. */
const liveRows = ({ live }: Status): readonly (readonly [string, string] | undefined)[] => {
  if (!live) return []
  const { name, kind, keptIn, store, room, state } = live
  const where = keptIn === 'overlay of the stick' || store === null ? '' : ` (${store})`
  return [
    ['running', `${name}, ${kind}: changes are kept ${KEPT[keptIn]}${where}${state === 'unknown' ? '' : `, ${state}`}`],
    room && keptIn !== 'overlay of the stick'
      ? [
          '',
          `${size(room.usedBytes)} used, ${size(room.leftBytes)} left${room.limitedBy === 'memory' ? ' of memory' : ''}, ${room.percent} %`,
        ]
      : undefined,
    live.dmsetup === null ? undefined : ['kernel', live.dmsetup],
  ]
}

/** What a look at the overlay found. */
export const statusWords = (found: Status, p: Paint): string[] => {
  const { overlay, base, home, medium } = found
  const lines = [
    p.bold(safe(found.target)) +
      p.faint(
        safe(
          `  ${medium.type}${medium.label ? `, label ${medium.label}` : ''}${medium.uuid ? `, UUID ${medium.uuid}` : ''}, ${size(medium.freeBytes)} free${medium.readOnly ? ', read-only' : ''}`,
        ),
      ),
  ]
  if (overlay.percent !== null) lines.push(gauge(overlay.percent, found.level, p))
  lines.push(
    ...rows([
      [
        'overlay',
        `${overlay.path ?? ''}${overlay.path ? ', ' : ''}${overlay.kind === 'OverlayFS directory' ? overlay.kind : stateWords(found)}`,
      ],
      overlay.allocatedSectors === null
        ? undefined
        : [
            '',
            `${size(overlay.allocatedSectors * 512)} of ${size(overlay.totalSectors! * 512)} used, ${overlay.exceptions} chunks of ${size(overlay.chunkSectors! * 512)} changed, ${size(overlay.metadataSectors! * 512)} of lists`,
          ],
      overlay.left
        ? [
            'left',
            `${size(overlay.left.bytes)}${overlay.left.limitedBy === 'stick' && overlay.kind !== 'OverlayFS directory' ? ', limited by the free space of the stick, as the overlay file has holes' : ''}`,
          ]
        : undefined,
      base
        ? [
            'base',
            `${base.path}, ${size(base.size)}, ${base.kind === 'squashfs' ? `squashfs (${base.compressor}, ${size(base.blockSize!)} blocks)` : 'uncompressed'}`,
          ]
        : undefined,
      base
        ? [
            'root',
            `${base.rootType ?? 'unknown filesystem'}${base.rootLabel ? ` "${base.rootLabel}"` : ''}, ${size(base.rootSize)}`,
          ]
        : undefined,
      [
        'home',
        home
          ? `${home.path}, ${size(home.size)}, ${home.type ?? 'unknown filesystem'}`
          : 'no home.img: /home is part of the root',
      ],
      overlay.dmsetup === null ? undefined : ['dmsetup', overlay.dmsetup],
      ...liveRows(found),
    ]),
  )
  lines.push(...findingLines(found.findings, p))
  return lines
}
