import type { Random } from './random.js'
import type { LogEntry } from './recording-device.js'

type Write = Extract<LogEntry, { kind: 'write' }>

/** What a power cut leaves of some devices that share a log. */
export interface CutMedia {
  /** bytes by the device's name; the caller's own */
  readonly media: ReadonlyMap<string, Uint8Array>
  /** entries of the log before the flush that the cut prevented */
  readonly begun: number
}

/** Above so many writes that were not flushed, subsets of them are drawn and not all tried. */
const MOST = 12
const DRAWN = 128
const SECTOR = 512

/** Which sectors of a write are on the medium: all, none, or those whose number it takes. */
type Kept = true | false | ((sector: number) => boolean)

const apply = (bytes: Uint8Array, { offset, bytes: content }: Write, kept: Kept): void => {
  if (kept === true) bytes.set(content, offset)
  else if (kept)
    for (let at = 0; at < content.length; at += SECTOR)
      if (kept(at / SECTOR)) bytes.set(content.subarray(at, at + SECTOR), offset + at)
}

function* choices(pending: readonly Write[], { below }: Random): Generator<(index: number) => Kept> {
  const count = pending.length
  if (count <= MOST) for (let mask = 0; mask < 2 ** count; mask++) yield index => (mask & (1 << index)) !== 0
  else {
    yield () => true
    yield () => false
    for (let n = 0; n < count; n++) {
      yield index => index !== n
      yield index => index === n
      yield index => index < n
    }
    for (let n = 0; n < DRAWN; n++) {
      const drawn = pending.map(() => below(2) === 0)
      yield index => drawn[index]!
    }
  }
  // Sectors are whole, and arrive in any order.
  for (const [torn, { bytes }] of pending.entries()) {
    const sectors = Math.ceil(bytes.length / SECTOR)
    if (sectors < 2) continue
    const others = [true, false, pending.map(() => below(2) === 0)]
    const some = Array.from({ length: sectors }, () => below(2) === 0)
    const parts = [1, sectors - 1, below(sectors)].map(end => (sector: number) => sector < end)
    parts.push(...parts.map(part => (sector: number) => !part(sector)), sector => some[sector]!)
    for (const part of parts)
      for (const other of others)
        yield index => (index === torn ? part : typeof other === 'boolean' ? other : other[index]!)
  }
}

/**
 * Every set of media that a power cut in a log could leave: of the writes that their device had not flushed each is kept or
 * lost, in any combination, or kept in some of its sectors. A cut between two flushes leaves nothing that one right before
 * the second could not leave, so it stands for all of them.
 *
 * @param before  bytes of each device by its name
 */
export function* cutMedia(
  before: ReadonlyMap<string, Uint8Array>,
  log: readonly LogEntry[],
  random: Random,
): Generator<CutMedia> {
  const durable = new Map([...before].map(([name, bytes]) => [name, new Uint8Array(bytes)]))
  let pending: Write[] = []
  for (let at = 0; at <= log.length; at++) {
    const entry = log[at]
    if (entry?.kind === 'write') {
      pending.push(entry)
      continue
    }
    for (const kept of choices(pending, random)) {
      const media = new Map([...durable].map(([name, bytes]) => [name, new Uint8Array(bytes)]))
      for (const [index, write] of pending.entries()) apply(media.get(write.device)!, write, kept(index))
      yield { media, begun: at }
    }
    if (!entry) return
    for (const write of pending) if (write.device === entry.device) apply(durable.get(write.device)!, write, true)
    pending = pending.filter(({ device }) => device !== entry.device)
  }
}
