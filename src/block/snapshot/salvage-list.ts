import { isLiveError } from '../../error.js'
import type { Device } from '../device.js'
import { areaChunk, EXCEPTION_SIZE, isAreaChunk } from './layout.js'
import { isFar, isInRows, placeOf } from './salvage-order.js'

/** An exception behind the place where a list stops making sense, as far as it can be read. Both are chunks. */
export interface LostException {
  /** place in the list, counted from 0 */
  readonly index: number
  readonly oldChunk: number
  readonly newChunk: number
}

/** Sizes that a list is held against. */
export interface ListGeometry {
  /** bytes */
  readonly chunkSize: number
  readonly perArea: number
  /** whole chunks that the store's device holds */
  readonly chunkCount: number
  /** Infinity where the origin is not known */
  readonly originChunks: number
}

/** Where a list stops making sense. */
export interface Tear {
  readonly kind: 'truncated' | 'torn' | 'stale area' | 'wrong base'
  /** place in the list, counted from 0, of the first entry that is not kept */
  readonly index: number
  /** byte offset in the store of what is wrong */
  readonly offset: number
  readonly field: 'old_chunk' | 'new_chunk' | 'area' | 'size'
  readonly expected: string
  readonly found: string
}

/** A list of exceptions as far as it is consistent, in the order in which it was stored. */
export interface ReadEntries {
  readonly oldChunks: Float64Array
  readonly newChunks: Float64Array
  readonly tear: Tear | undefined
  readonly lost: readonly LostException[]
  readonly lostCount: number
  /** true where more may follow than were counted: the list goes on past the end of the file, or not all of it can be read */
  readonly lostAtLeast: boolean
  readonly staleBehind: boolean
}

const MOST_LOST = 65536

/** An area as it stands: number pairs, NaN where a number is above 2^53; undefined where it can't be read. */
interface Area {
  readonly index: number
  readonly offset: number
  readonly oldChunks: Float64Array
  readonly newChunks: Float64Array
  /** entries before the first free one */
  readonly used: number
  /** an entry behind the first free one is not free */
  readonly behind: number | undefined
}

const parse = (index: number, offset: number, bytes: Uint8Array): Area => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const count = bytes.length / EXCEPTION_SIZE
  const oldChunks = new Float64Array(count)
  const newChunks = new Float64Array(count)
  const number = (at: number): number => {
    const high = view.getUint32(at + 4, true)
    return high >= 2 ** 21 ? Number.NaN : high * 2 ** 32 + view.getUint32(at, true)
  }
  let used = count
  let behind: number | undefined
  for (let n = 0; n < count; n++) {
    oldChunks[n] = number(n * EXCEPTION_SIZE)
    newChunks[n] = number(n * EXCEPTION_SIZE + 8)
    if (newChunks[n] === 0) used = Math.min(used, n)
    else if (n > used) behind ??= n
  }
  return { index, offset, oldChunks, newChunks, used, behind }
}

const readArea = async (
  cow: Device,
  { chunkSize, perArea }: ListGeometry,
  index: number,
): Promise<Area | undefined> => {
  const offset = areaChunk(index, perArea) * chunkSize
  try {
    return parse(index, offset, await cow.read(offset, chunkSize))
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return undefined
  }
}

const AHEAD = 16

/** The areas in order, read ahead as far as they are likely to be wanted. */
async function* areas(cow: Device, geometry: ListGeometry): AsyncIterable<Area | undefined> {
  const { perArea, chunkCount } = geometry
  for (let first = 0, most = 1; ; first += most, most = Math.min(AHEAD, most * 2)) {
    const reads: Promise<Area | undefined>[] = []
    for (let index = first; index < first + most && areaChunk(index, perArea) < chunkCount; index++) {
      const read = readArea(cow, geometry, index)
      // one that nobody gets to may fail
      read.catch(() => {})
      reads.push(read)
    }
    for (const read of reads) yield await read
    if (reads.length < most) return
  }
}

const farTear = (newChunk: number, highest: number) =>
  ({
    kind: 'torn',
    field: 'new_chunk',
    expected: `a chunk next to ${highest}, as the kernel takes them in order`,
    found: String(newChunk),
  }) as const

/** Why an entry can't be right by itself; `highest` is that of the entries before it. */
const wrongAlone = (
  oldChunk: number,
  newChunk: number,
  highest: number,
  { perArea, chunkCount, originChunks }: ListGeometry,
): Pick<Tear, 'kind' | 'field' | 'expected' | 'found'> | undefined => {
  const torn = (field: Tear['field'], expected: string, found: number) =>
    ({ kind: 'torn', field, expected, found: String(found) }) as const
  if (Number.isNaN(newChunk)) return torn('new_chunk', 'a chunk below 2^53', newChunk)
  if (Number.isNaN(oldChunk)) return torn('old_chunk', 'a chunk below 2^53', oldChunk)
  if (isAreaChunk(newChunk, perArea)) return torn('new_chunk', 'a chunk of data, not of a list', newChunk)
  if (isFar(newChunk, highest) && (newChunk >= chunkCount || oldChunk >= originChunks))
    return farTear(newChunk, highest)
  if (newChunk >= chunkCount)
    return {
      kind: 'truncated',
      field: 'new_chunk',
      expected: `a chunk below ${chunkCount}, the end of the file`,
      found: String(newChunk),
    }
  if (oldChunk >= originChunks)
    return {
      kind: 'wrong base',
      field: 'old_chunk',
      expected: `a chunk below ${originChunks}, the end of the base`,
      found: String(oldChunk),
    }
  return undefined
}

/** Numbers that grow. */
const numbers = () => {
  let all = new Float64Array(256)
  let count = 0
  return {
    get count() {
      return count
    },
    push(number: number) {
      if (count === all.length) {
        const longer = new Float64Array(count * 2)
        longer.set(all)
        all = longer
      }
      all[count++] = number
    },
    to: (length: number) => all.slice(0, length),
  }
}

/** The first index whose number was there before, and where that was. */
const firstRepeat = (all: Float64Array): { index: number; earlier: number } | undefined => {
  const sorted = all.slice().sort()
  const repeated = new Set<number>()
  for (let n = 1; n < sorted.length; n++) if (sorted[n] === sorted[n - 1]) repeated.add(sorted[n]!)
  if (repeated.size === 0) return undefined
  const seen = new Map<number, number>()
  for (let index = 0; index < all.length; index++) {
    const number = all[index]!
    if (!repeated.has(number)) continue
    const earlier = seen.get(number)
    if (earlier !== undefined) return { index, earlier }
    seen.set(number, index)
  }
  return undefined
}

/** Reads the list of a store as far as it is consistent, and what follows. */
export const readEntries = async (cow: Device, geometry: ListGeometry): Promise<ReadEntries> => {
  const { perArea, chunkSize } = geometry
  const oldList = numbers()
  const newList = numbers()
  let tear: Tear | undefined
  let far: Tear | undefined
  let highest = 1
  let ended = false
  let areaCount = 0
  const offsetOf = (index: number): number =>
    areaChunk(Math.floor(index / perArea), perArea) * chunkSize + (index % perArea) * EXCEPTION_SIZE
  for await (const area of areas(cow, geometry)) {
    const first = areaCount++ * perArea
    if (!area) {
      tear = {
        kind: 'torn',
        index: first,
        offset: offsetOf(first),
        field: 'area',
        expected: 'a list that can be read',
        found: 'an error of the medium',
      }
      break
    }
    for (let n = 0; n < area.used; n++) {
      const [oldChunk, newChunk] = [area.oldChunks[n]!, area.newChunks[n]!]
      const wrong = wrongAlone(oldChunk, newChunk, highest, geometry)
      if (wrong) {
        tear = { ...wrong, index: first + n, offset: area.offset + n * EXCEPTION_SIZE }
        break
      }
      if (isFar(newChunk, highest))
        far ??= { ...farTear(newChunk, highest), index: first + n, offset: area.offset + n * EXCEPTION_SIZE }
      oldList.push(oldChunk)
      newList.push(newChunk)
      highest = Math.max(highest, newChunk)
    }
    if (!tear && area.behind !== undefined)
      tear = {
        kind: 'torn',
        index: first + area.used,
        offset: area.offset + area.used * EXCEPTION_SIZE,
        field: 'new_chunk',
        expected: 'no free entry, as others follow it in this area',
        found: '0',
      }
    if (tear) break
    if (area.used < perArea) {
      ended = true
      break
    }
  }
  if (!ended && !tear)
    tear = {
      kind: 'truncated',
      index: oldList.count,
      offset: cow.size,
      field: 'size',
      expected: `room for list ${areaCount}, before byte ${(areaChunk(areaCount, perArea) + 1) * chunkSize}`,
      found: String(cow.size),
    }
  const twinIn = (count: number) => twinTear(oldList.to(count), newList.to(count), perArea, offsetOf)
  const twin = twinIn(oldList.count)
  // Where entries that are far off make no sense together, the first of them ends the list, as if the others were not there.
  if (far && (twin || !isInRows(newList.to(newList.count), perArea))) tear = earliest(far, twinIn(far.index))
  else tear = earliest(tear, twin)
  const kept = Math.min(oldList.count, tear?.index ?? oldList.count)
  const entries = { oldChunks: oldList.to(kept), newChunks: newList.to(kept) }
  const behind = tear ? await lostBehind(cow, geometry, tear, entries) : NONE_LOST
  // One entry alone is rather damaged than of another base.
  if (tear?.kind === 'wrong base' && behind.pastOrigin < 2 && tear.index > 0) tear = { ...tear, kind: 'torn' }
  const staleBehind = !tear && (await isStale(cow, geometry, areaCount))
  const { lost, lostCount, lostAtLeast } = behind
  return { ...entries, tear, lost, lostCount, lostAtLeast, staleBehind }
}

const earliest = (one: Tear | undefined, other: Tear | undefined): Tear | undefined =>
  !one || (other && other.index < one.index) ? other : one

/**
 * A chunk that comes twice. Where it stands in a later area than the first time, and that area makes sense by itself, the whole
 * area is of an earlier life: the kernel had not cleared it, or the medium had not kept that it did.
 */
const twinTear = (
  oldChunks: Float64Array,
  newChunks: Float64Array,
  perArea: number,
  offsetOf: (index: number) => number,
): Tear | undefined => {
  let tear: Tear | undefined
  for (const [field, all] of [
    ['old_chunk', oldChunks],
    ['new_chunk', newChunks],
  ] as const) {
    const repeat = firstRepeat(all)
    if (!repeat) continue
    const area = Math.floor(repeat.index / perArea)
    const stale = area > Math.floor(repeat.earlier / perArea)
    const found = {
      kind: stale ? ('stale area' as const) : ('torn' as const),
      index: stale ? area * perArea : repeat.index,
      offset: offsetOf(repeat.index),
      field,
      expected: 'a chunk that no earlier exception has',
      found: String(all[repeat.index]),
    }
    tear = earliest(tear, found)
  }
  return tear
}

type Lost = Pick<ReadEntries, 'lost' | 'lostCount' | 'lostAtLeast'> & { readonly pastOrigin: number }

const NONE_LOST: Lost = { lost: [], lostCount: 0, lostAtLeast: false, pastOrigin: 0 }

/** Entries from a tear on: how many there are, and those whose numbers make sense by themselves and are not kept before. */
const lostBehind = async (
  cow: Device,
  geometry: ListGeometry,
  tear: Tear,
  kept: { readonly newChunks: Float64Array; readonly oldChunks: Float64Array },
): Promise<Lost> => {
  const { perArea, chunkCount, originChunks } = geometry
  const lost: LostException[] = []
  let lostCount = 0
  let lostAtLeast = false
  let ended = false
  let pastOrigin = 0
  const known = new Set<number>()
  const keptNew = kept.newChunks.slice().sort()
  const isKept = (chunk: number): boolean => keptNew[placeOf(keptNew, chunk)] === chunk
  for (let index = Math.floor(tear.index / perArea); !ended && areaChunk(index, perArea) < chunkCount; index++) {
    const area = await readArea(cow, geometry, index)
    if (!area) {
      lostAtLeast = true
      continue
    }
    let last = -1
    for (let n = 0; n < perArea; n++) {
      const place = index * perArea + n
      const [oldChunk, newChunk] = [area.oldChunks[n]!, area.newChunks[n]!]
      if (place < tear.index || newChunk === 0) continue
      last = n
      lostCount++
      const end = tear.kind === 'truncated' ? Number.POSITIVE_INFINITY : chunkCount
      const sane = newChunk >= 2 && !isAreaChunk(newChunk, perArea) && newChunk < end
      if (sane && oldChunk >= originChunks) pastOrigin++
      if (!sane || !(oldChunk < originChunks) || lost.length >= MOST_LOST || known.has(newChunk) || isKept(newChunk))
        continue
      known.add(newChunk)
      lost.push({ index: place, oldChunk, newChunk })
    }
    ended = last < perArea - 1
  }
  return { lost, lostCount, lostAtLeast: lostAtLeast || !ended, pastOrigin }
}

/** True where the area behind the last one holds a list that could be one. */
const isStale = async (cow: Device, geometry: ListGeometry, areaIndex: number): Promise<boolean> => {
  const { perArea, chunkCount, originChunks } = geometry
  if (areaChunk(areaIndex, perArea) >= chunkCount) return false
  const area = await readArea(cow, geometry, areaIndex)
  if (!area || area.used === 0) return false
  for (let n = 0; n < area.used; n++) {
    const [oldChunk, newChunk] = [area.oldChunks[n]!, area.newChunks[n]!]
    if (!(newChunk < chunkCount) || isAreaChunk(newChunk, perArea) || !(oldChunk < originChunks)) return false
  }
  return true
}
