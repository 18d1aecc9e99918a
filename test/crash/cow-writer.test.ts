import { describe, expect, it } from 'vitest'
import type { WritableDevice } from '../../src/block/device.js'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import type { Store } from '../../src/block/snapshot/store.js'
import { createStore, openWritableSnapshot, type WritableSnapshot } from '../../src/block/snapshot/writable.js'
import { isLiveError, LiveError } from '../../src/error.js'
import { cutMedia } from '../support/device-cuts.js'
import { random } from '../support/random.js'
import { type LogEntry, recordingDevice } from '../support/recording-device.js'
import { storeOf } from '../support/store-writer.js'

const numbers = random()
const { seed, below } = numbers
const SECTOR = 512

/** A sector's content: one number over and over, which tells who wrote it. */
const sector = (id: number): Uint8Array => new Uint8Array(new Uint32Array(SECTOR / 4).fill(id).buffer)
const idOf = (view: DataView, index: number): number | undefined => {
  const id = view.getUint32(index * SECTOR, true)
  return id === view.getUint32(index * SECTOR + SECTOR - 4, true) ? id : undefined
}
/** the number that a sector of the origin holds */
const ORIGIN = 1 << 24

/** A place where a store is written, and what lies there before. */
interface Place {
  readonly name: string
  readonly chunkSectors: number
  readonly originSectors: number
  /** chunks of the store */
  readonly chunkCount: number
  /** chunks of the origin that the store holds already */
  readonly held: number
  /** what is on the medium where no chunk was written yet */
  readonly dirt: 'garbage' | 'an old store' | 'an old store that was reset' | 'a list that was cut'
  readonly rounds: number
  /** writes in a round */
  readonly writes: number
}

const PLACES: readonly Place[] = [
  ...(['garbage', 'an old store', 'an old store that was reset'] as const).map(dirt => ({
    name: `chunks of a sector over ${dirt}`,
    chunkSectors: 1,
    originSectors: 121,
    chunkCount: 140,
    held: 0,
    dirt,
    rounds: 14,
    writes: 7,
  })),
  ...(['garbage', 'a list that was cut'] as const).map(dirt => ({
    name: `chunks of two sectors over ${dirt}`,
    chunkSectors: 2,
    originSectors: 301,
    chunkCount: 170,
    held: dirt === 'garbage' ? 60 : 20,
    dirt,
    rounds: 14,
    writes: 7,
  })),
  ...[253, 254, 255, 256].map(held => ({
    name: `chunks of 4 KiB, ${held} exceptions at first`,
    chunkSectors: 8,
    originSectors: 300 * 8 - 3,
    chunkCount: 270,
    held,
    dirt: 'an old store' as const,
    rounds: 5,
    writes: 5,
  })),
  {
    name: 'large chunks',
    chunkSectors: 64,
    originSectors: 20 * 64 - 7,
    chunkCount: 18,
    held: 2,
    dirt: 'garbage',
    rounds: 6,
    writes: 4,
  },
]

const originOf = ({ originSectors }: Place): Uint8Array => {
  const bytes = new Uint8Array(originSectors * SECTOR)
  for (let n = 0; n < originSectors; n++) bytes.set(sector(ORIGIN + n), n * SECTOR)
  return bytes
}

/** Content of a chunk, as an old store on the medium holds it: numbers that no sector may ever show. */
const STALE = 0x7000_0000
const chunkOf = (chunkSectors: number, first: number): Uint8Array => {
  const bytes = new Uint8Array(chunkSectors * SECTOR)
  for (let n = 0; n < chunkSectors; n++) bytes.set(sector(first + n), n * SECTOR)
  return bytes
}

/** The medium before the test, and what its view shows in each sector. */
const mediumOf = (place: Place): { bytes: Uint8Array; shown: number[] } => {
  const { chunkSectors, originSectors, chunkCount, held, dirt } = place
  const size = chunkCount * chunkSectors * SECTOR
  const shown = Array.from({ length: originSectors }, (_, n) => ORIGIN + n)
  const lay = (changes: Parameters<typeof storeOf>[0], bytes: Uint8Array): Uint8Array => {
    const store = storeOf(changes, chunkSectors)
    // storeOf fills up what it does not write
    for (let at = 0; at < Math.min(size, store.length); at += SECTOR) {
      const part = store.subarray(at, at + SECTOR)
      if (part.some(byte => byte !== 0x5a)) bytes.set(part, at)
    }
    return bytes
  }
  const count = chunkCount - Math.ceil(chunkCount / (chunkSectors * 32 + 1)) - 2
  const old = Array.from({ length: count }, (_, n) => ({
    oldChunk: Math.min(count, Math.ceil(originSectors / chunkSectors)) - 1 - n + Math.max(0, count - originSectors),
    content: chunkOf(chunkSectors, STALE),
  }))
  const bytes = dirt === 'garbage' ? numbers.bytes(size) : lay(old, numbers.bytes(size))
  if (dirt === 'an old store that was reset') {
    bytes.fill(0, 0, 4 * SECTOR)
    return { bytes, shown }
  }
  const whole = Array.from({ length: held }, (_, n) => ({
    oldChunk: n,
    content: chunkOf(chunkSectors, (ORIGIN << 1) + n * chunkSectors),
  }))
  if (dirt === 'a list that was cut') {
    // the second sector of a commit arrived, and the first did not
    const store = storeOf([...whole, ...old.slice(0, 30)], chunkSectors)
    store.fill(0, chunkSectors * SECTOR + held * 16, chunkSectors * SECTOR + SECTOR)
    bytes.set(store.subarray(0, size))
  } else {
    lay(whole, bytes)
  }
  for (let n = 0; n < Math.min(originSectors, held * chunkSectors); n++) shown[n] = (ORIGIN << 1) + n
  return { bytes, shown }
}

/** Numbers of which each sector shows one. */
type Shown = readonly ReadonlySet<number>[]

/** What a writer did: its log, and which numbers each sector was given when. */
interface Recorded {
  readonly place: Place
  readonly origin: Uint8Array
  readonly before: Uint8Array
  readonly log: LogEntry[]
  /** a sector was given a number by a write that began, or with none by one that failed, when the log was so long */
  readonly given: { readonly at: number; readonly sector: number; readonly id: number }[]
  /** what each sector shows, or one of what it shows, once the log is so long */
  readonly promised: { readonly at: number; readonly shown: Shown }[]
}

/** Lets writes that run at once end in any order. */
const shuffling = (cow: WritableDevice): WritableDevice => ({
  ...cow,
  async write(offset, bytes) {
    for (let n = below(12); n > 0; n--) await Promise.resolve()
    await cow.write(offset, bytes)
    for (let n = below(12); n > 0; n--) await Promise.resolve()
  },
})

/** Writes rounds of random sectors, some at once, with a flush after each round. */
const write = async (place: Place, wrap: (cow: WritableDevice) => WritableDevice = shuffling): Promise<Recorded> => {
  const origin = originOf(place)
  const { bytes: before, shown: first } = mediumOf(place)
  let shown = first.map(id => new Set([id]))
  const log: LogEntry[] = []
  const cow = wrap(recordingDevice(memory(before.slice(), 'cow'), log))
  const recorded: Recorded = { place, origin, before, log, given: [], promised: [{ at: 0, shown: shown.slice() }] }
  let device: WritableSnapshot | undefined
  let next = 1
  const put = async (first: number, count: number): Promise<void> => {
    const bytes = new Uint8Array(count * SECTOR)
    const ids = Array.from({ length: count }, () => next++)
    for (const [n, id] of ids.entries()) {
      bytes.set(sector(id), n * SECTOR)
      recorded.given.push({ at: log.length, sector: first + n, id })
      shown[first + n] = new Set([...shown[first + n]!, id])
    }
    await device!.write(first * SECTOR, bytes)
    for (const [n, id] of ids.entries()) shown[first + n] = new Set([id])
  }
  /** Runs a step that may fail. */
  const attempt = async (work: () => Promise<void>): Promise<boolean> => {
    try {
      await work()
      return true
    } catch (error) {
      if (!isLiveError(error)) throw error
      return false
    }
  }
  for (let round = 0; round < place.rounds; round++) {
    if (!device || below(4) === 0) {
      // What was accepted and not flushed is given up with the device.
      shown = allowedAt(recorded, log.length)
      await attempt(async () => {
        device = await openWritableSnapshot(memory(origin, 'base'), cow)
      })
    }
    if (!device) continue
    const starts = new Set<number>()
    while (starts.size < place.writes) starts.add(below(Math.floor(place.originSectors / 4)) * 4)
    const writes = [...starts].map(start => async () => {
      const first = start + below(4)
      const count = 1 + below(4 - (first % 4))
      if (first + count <= place.originSectors) await attempt(() => put(first, count))
    })
    if (below(2) === 0) await Promise.all(writes.map(work => work()))
    else for (const work of writes) await work()
    const accepted = shown.slice()
    if (await attempt(() => device!.flush())) recorded.promised.push({ at: log.length, shown: accepted })
  }
  return recorded
}

/** What each sector may show after a cut before step `begun`: what it was sure to, or anything that it was given since. */
const allowedAt = ({ given, promised }: Recorded, begun: number): Set<number>[] => {
  const { at, shown } = promised.findLast(promise => promise.at <= begun)!
  const allowed = shown.map(ids => new Set(ids))
  for (const gift of given) if (gift.at >= at && gift.at <= begun) allowed[gift.sector]!.add(gift.id)
  return allowed
}

const wrongIn = (view: Uint8Array, allowed: Shown): string | undefined => {
  const words = new DataView(view.buffer, view.byteOffset, view.byteLength)
  for (const [n, ids] of allowed.entries()) {
    const id = idOf(words, n)
    if (id === undefined || !ids.has(id)) return `sector ${n} shows ${id}, and not ${[...ids].join(' or ')}`
  }
  return undefined
}

/** The kernel lists chunks of the store in ascending order, and whoever looks for damage counts on that. */
const disorderIn = ({ exceptions }: Store): string | undefined => {
  const chunks = Array.from(exceptions.stored(), ({ newChunk }) => newChunk)
  const at = chunks.findIndex((chunk, n) => chunk < (chunks[n - 1] ?? 0))
  return at < 0 ? undefined : `chunk ${chunks[at]} is listed behind chunk ${chunks[at - 1]}`
}

/** Opens a medium, and sometimes goes on writing until it is full. Gives what is wrong. */
const look = async (
  { origin, place }: Recorded,
  medium: Uint8Array,
  allowed: Shown,
  goOn: boolean,
): Promise<string | undefined> => {
  const base = memory(origin, 'base')
  try {
    const cut = await snapshot(base, memory(medium, 'cow'))
    const view = await cut.read(0, origin.length)
    const wrong = wrongIn(view, allowed) ?? disorderIn(cut.store)
    if (wrong || !goOn) return wrong
    const cow = memory(medium, 'cow')
    const device = await openWritableSnapshot(base, cow)
    const chunkSize = place.chunkSectors * SECTOR
    for (let chunk = Math.ceil(origin.length / chunkSize) - 1, n = 0; chunk >= 0; chunk--, n++) {
      if (device.store.exceptions.find(chunk) !== undefined) continue
      const offset = chunk * chunkSize
      try {
        await device.write(offset, sector(5))
      } catch (error) {
        if (isLiveError(error) && error.code === 'NO_SPACE' && device.store.full) break
        throw error
      }
      view.set(sector(5), offset)
      if (n % 16 === 7 || device.store.exceptions.count % (chunkSize / 16) < 2) {
        await device.flush()
        const now = await (await snapshot(base, cow)).read(0, origin.length)
        if (Buffer.compare(now, view) !== 0) return `another view with ${device.store.exceptions.count} exceptions`
      }
    }
    await device.close()
    const end = await (await snapshot(base, cow)).read(0, origin.length)
    return Buffer.compare(end, view) === 0 ? undefined : 'another view in the end'
  } catch (error) {
    return String(error)
  }
}

const judge = async (
  recorded: Recorded,
  { most = 3, log = recorded.log }: { most?: number; log?: readonly LogEntry[] } = {},
): Promise<{ states: number; wrong: string[]; wentOn: number }> => {
  const wrong: string[] = []
  let states = 0
  let wentOn = 0
  let known: { begun: number; allowed: Shown } | undefined
  for (const { media, begun } of cutMedia(new Map([['cow', recorded.before]]), log, numbers)) {
    states++
    if (known?.begun !== begun) known = { begun, allowed: allowedAt(recorded, begun) }
    const goOn = below(40) === 0
    if (goOn) wentOn++
    const found = await look(recorded, media.get('cow')!, known.allowed, goOn)
    if (found) wrong.push(`cut before step ${begun}: ${found}`)
    if (wrong.length >= most) break
  }
  return { states, wrong, wentOn }
}

let total = 0

describe(`a power cut at any step of the COW writer (seed ${seed})`, () => {
  it.each(PLACES)('$name', async place => {
    const recorded = await write(place)
    const { states, wrong, wentOn } = await judge(recorded)
    total += states
    console.log(
      `${place.name}: ${recorded.log.length} steps, ${states} states, ${wentOn} written further, seed ${seed}`,
    )
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThan(50)
    expect(recorded.promised.length).toBe(place.rounds + 1)
  })

  it('tens of thousands of states', () => {
    console.log(`the COW writer, all places: ${total} states, seed ${seed}`)
    expect(total).toBeGreaterThan(20_000)
  })

  it('an empty store written over an old one: the old view, a new store, or an empty one', async () => {
    const place = PLACES[1]!
    const origin = originOf(place)
    const { bytes: before } = mediumOf({ ...place, held: 70, dirt: 'garbage' })
    const shown = await (await snapshot(memory(origin), memory(before))).read(0, origin.length)
    for (const chunkSectors of [1, 8]) {
      const log: LogEntry[] = []
      await createStore(recordingDevice(memory(before.slice(), 'cow'), log), { chunkSectors })
      let states = 0
      for (const { media, begun } of cutMedia(new Map([['cow', before]]), log, numbers)) {
        states++
        const cow = memory(media.get('cow')!, 'cow')
        const view = await (await snapshot(memory(origin), cow)).read(0, origin.length)
        const isOld = Buffer.compare(view, shown) === 0
        if (!isOld) expect(Buffer.compare(view, origin)).toBe(0)
        if (begun > 1) expect(isOld).toBe(false)
      }
      expect(states).toBeGreaterThan(10)
    }
  })
})

/** Fails one access of a device: `n` counts writes and flushes. A write that fails may have done its first half. */
const failing = (cow: WritableDevice, n: number, code: 'IO' | 'NO_SPACE', stays: boolean): WritableDevice => {
  let count = 0
  const fails = (): boolean => {
    count++
    return stays ? count > n : count === n + 1
  }
  const error = (): LiveError => new LiveError(code, `injected ${code}`)
  return {
    ...cow,
    async write(offset, bytes) {
      if (fails()) {
        if (n % 2 === 0 && code === 'IO')
          await cow.write(offset, bytes.subarray(0, Math.floor(bytes.length / 2 / SECTOR) * SECTOR))
        throw error()
      }
      await cow.write(offset, bytes)
    },
    async flush() {
      if (fails()) throw error()
      await cow.flush()
    },
  }
}

describe('an error at any access of the store', () => {
  it.each([
    ['IO', false],
    ['IO', true],
    ['NO_SPACE', false],
    ['NO_SPACE', true],
  ] as const)('%s (for good: %s): what was flushed is there, and the next writer goes on', async (code, stays) => {
    const place = { ...PLACES[0]!, rounds: 6, writes: 6 }
    const accesses = (await write(place)).log.length
    let errors = 0
    for (let n = 0; n < accesses; n++) {
      const recorded = await write(place, cow => shuffling(failing(cow, n, code, stays)))
      const { promised, log } = recorded
      if (promised.length < place.rounds + 1) errors++
      const medium = recorded.before.slice()
      for (const entry of log) if (entry.kind === 'write') medium.set(entry.bytes, entry.offset)
      const allowed = allowedAt(recorded, log.length)
      expect(await look(recorded, medium, allowed, true), `access ${n}, seed ${seed}`).toBeUndefined()
      if (n % 29 === 3) expect((await judge(recorded, { most: 1 })).wrong, `access ${n}, seed ${seed}`).toEqual([])
    }
    expect(errors).toBeGreaterThan(5)
  })
})

describe('the test can fail', () => {
  const isArea = (place: Place, { offset }: { offset: number }): boolean => {
    const chunk = Math.floor(offset / (place.chunkSectors * SECTOR))
    return chunk % (place.chunkSectors * 32 + 1) === 1
  }
  const found = async (change: (log: readonly LogEntry[], place: Place) => readonly LogEntry[], place = PLACES[1]!) => {
    const recorded = await write(place)
    return (await judge(recorded, { most: 1, log: change(recorded.log, place) })).wrong
  }
  /** Leaves flushes out; the log stays as long, so that what was promised when stays the same. */
  const without = (log: readonly LogEntry[], drop: (index: number) => boolean): LogEntry[] =>
    log.map((entry, index) =>
      entry.kind === 'flush' && drop(index)
        ? { device: 'cow', kind: 'write', offset: 0, bytes: new Uint8Array(0) }
        : entry,
    )
  const isMetadata = (log: readonly LogEntry[], place: Place, index: number): boolean => {
    const entry = log[index]
    return entry?.kind === 'write' && isArea(place, entry) && entry.bytes.some(byte => byte !== 0)
  }

  it.each<readonly [string, Parameters<typeof found>[0]]>([
    ['no flush between data and metadata', (log, place) => without(log, n => isMetadata(log, place, n + 1))],
    ['no flush behind the metadata', (log, place) => without(log, n => isMetadata(log, place, n - 1))],
    [
      'the area that follows is not cleared',
      (log, place) =>
        log.map(entry =>
          entry.kind === 'write' &&
          isArea(place, entry) &&
          entry.offset > SECTOR &&
          entry.bytes.every(byte => byte === 0)
            ? { ...entry, bytes: new Uint8Array(0) }
            : entry,
        ),
    ],
    [
      'the header is written before the first area is cleared',
      log => {
        const area = log.findIndex(entry => entry.kind === 'write' && entry.bytes.length > SECTOR)
        const header = log.findIndex(entry => entry.kind === 'write' && entry.bytes[0] === 0x53 && entry.offset === 0)
        const changed = [...log]
        const early = changed.splice(header, 2)
        changed.splice(area, 0, ...early)
        return changed
      },
    ],
  ])('%s', async (title, change) => {
    const place = title.startsWith('the header') ? PLACES[2]! : PLACES[1]!
    const wrong = await found(change, place)
    console.log(`${title}: ${wrong[0] ?? 'not seen'}`)
    expect(wrong.length).toBe(1)
  })
})
