import { isLiveError } from '../../error.js'
import type { Device } from '../device.js'
import { exceptionSet } from './exceptions.js'
import {
  areaChunk,
  exceptionsPerArea,
  HEADER_SIZE,
  isAreaChunk,
  MAX_CHUNK_SECTORS,
  parseHeader,
  SECTOR,
} from './layout.js'
import { guessChunkSectors } from './salvage-guess.js'
import { type ListGeometry, type LostException, type ReadEntries, readEntries, type Tear } from './salvage-list.js'
import type { Store } from './store.js'

export type { LostException, Tear } from './salvage-list.js'

/**
 * What is wrong with a store, the worst first said:
 *
 * - `header` no header, or a damaged one, though lists follow · `too small` it holds not even a first list
 * - `wrong base` it lists chunks past the end of the base · `truncated` the file ends before what it lists
 * - `torn` its list makes no sense from some place on · `stale area` it runs on into a list of an earlier life
 * - `invalid` the kernel gave it up; its list is whole · `full` no further chunk fits: a boot overflows it, or did
 * - `clean` · `new` all of it unused
 */
export type DamageClass =
  | 'clean'
  | 'new'
  | 'full'
  | 'invalid'
  | 'truncated'
  | 'torn'
  | 'stale area'
  | 'wrong base'
  | 'header'
  | 'too small'

/** What can be had of a store, whatever its state. */
export interface Salvage {
  readonly damage: DamageClass
  /** what the header says; `guessed`: nothing that can be used, and the chunk size was found by trying */
  readonly header: 'ok' | 'new' | 'invalid' | 'guessed'
  /**
   * The longest consistent beginning of the list, as a store in order: its state is `ok` where the kernel had given it up too.
   * Undefined where there is none, as with damage `too small`, `header` without a guess.
   */
  readonly store: Store | undefined
  /** where and why the list stops making sense */
  readonly tear: Tear | undefined
  /** exceptions behind the tear whose numbers can be read and make sense by themselves, up to 65536 of them */
  readonly lost: readonly LostException[]
  /** how many entries follow the tear, readable or not */
  readonly lostCount: number
  /** true where more may follow than were counted: the list goes on past the end of the file, or not all of it can be read */
  readonly lostAtLeast: boolean
  /** true where a list of an earlier life follows the end; the kernel clears it before it gets there */
  readonly staleBehind: boolean
}

/** What is known besides the store. */
export interface SalvageOptions {
  /** bytes of the origin */
  readonly originSize?: number | undefined
  /** take this chunk size, whatever the header says; sectors */
  readonly chunkSectors?: number | undefined
}

const nothing = (damage: DamageClass, header: Salvage['header']): Salvage => ({
  damage,
  header,
  store: undefined,
  tear: undefined,
  lost: [],
  lostCount: 0,
  lostAtLeast: false,
  staleBehind: false,
})

/** The store that a list of exceptions makes, in a file of this size. */
const storeOf = (
  entries: Pick<ReadEntries, 'oldChunks' | 'newChunks'>,
  { chunkSize, perArea, chunkCount }: ListGeometry,
  cowSize: number,
  state: Store['state'],
): Store => {
  const chunkSectors = chunkSize / SECTOR
  const count = entries.oldChunks.length
  const areaCount = Math.floor(count / perArea) + 1
  const present = areaChunk(areaCount - 1, perArea) < chunkCount
  let nextFreeChunk = entries.newChunks.reduce((most, chunk) => Math.max(most, chunk), 1) + 1
  if (isAreaChunk(nextFreeChunk, perArea)) nextFreeChunk++
  const fillsArea = (count + 1) % perArea === 0
  return {
    state,
    chunkSize,
    chunkSectors,
    exceptions: exceptionSet(entries),
    nextFreeChunk,
    areaCount: present ? areaCount : areaCount - 1,
    cowSize,
    allocatedSectors: nextFreeChunk * chunkSectors,
    totalSectors: Math.floor(cowSize / SECTOR),
    metadataSectors: (present ? 1 + areaCount : areaCount) * chunkSectors,
    full: !present || nextFreeChunk + 1 > chunkCount || (fillsArea && areaChunk(areaCount, perArea) + 1 > chunkCount),
    truncated: !present,
  }
}

const classOf = (header: Salvage['header'], { tear }: ReadEntries, store: Store): DamageClass => {
  if (header === 'guessed') return 'header'
  if (tear) return tear.kind
  if (header === 'invalid') return 'invalid'
  if (header === 'new') return 'new'
  return store.full ? 'full' : 'clean'
}

const headerOf = async (cow: Device): Promise<{ header: Salvage['header']; chunkSectors: number | undefined }> => {
  try {
    const { magic, valid, chunk_size } = parseHeader(await cow.read(0, HEADER_SIZE), cow.name)
    if (magic === 0) return { header: 'new', chunkSectors: undefined }
    return { header: valid === 0 ? 'invalid' : 'ok', chunkSectors: chunk_size }
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return { header: 'guessed', chunkSectors: undefined }
  }
}

/**
 * Looks at a store that may be damaged in any way, trusting nothing in it. It never fails for what the store holds; a place that
 * can't be read ends the list. Time and memory are bounded by the size of its lists.
 *
 * The kernel takes chunks in ascending order, and writes a whole area at once. Older ones (before 3.14) wrote entries in the
 * order in which copies were done, so numbers may go back and forth within a window; farther off they count as damage, unless
 * they are in a row with many others, as writers leave it that work on much at a time.
 *
 * @throws CANCELLED  the device says so
 * @see linux drivers/md/dm-snap-persistent.c
 */
export const salvageStore = async (
  cow: Device,
  { originSize, chunkSectors: told }: SalvageOptions = {},
): Promise<Salvage> => {
  if (cow.size < SECTOR) return nothing('too small', 'guessed')
  const { header, chunkSectors: said } = await headerOf(cow)
  const originBytes = originSize ?? Number.POSITIVE_INFINITY
  let chunkSectors = told ?? said
  if (chunkSectors === undefined) {
    chunkSectors = await guessChunkSectors(cow, originBytes)
    if (header === 'new' && chunkSectors === undefined) {
      const geometry = geometryOf(cow, 8, originBytes)
      if (geometry.chunkCount < 2) return nothing('too small', 'new')
      return { ...nothing('new', 'new'), store: storeOf(NO_ENTRIES, geometry, cow.size, 'new') }
    }
  }
  if (chunkSectors === undefined || chunkSectors > MAX_CHUNK_SECTORS) return nothing('header', 'guessed')
  const geometry = geometryOf(cow, chunkSectors, originBytes)
  if (geometry.chunkCount < 2) return nothing('too small', header)
  const entries = await readEntries(cow, geometry)
  const state = header === 'new' && told === undefined ? 'guessed' : header
  const store = storeOf(entries, geometry, cow.size, 'ok')
  return {
    damage: classOf(state, entries, store),
    header: state,
    store,
    tear: entries.tear,
    lost: entries.lost,
    lostCount: entries.lostCount,
    lostAtLeast: entries.lostAtLeast,
    staleBehind: entries.staleBehind,
  }
}

const NO_ENTRIES = { oldChunks: new Float64Array(0), newChunks: new Float64Array(0) }

const geometryOf = (cow: Device, chunkSectors: number, originBytes: number): ListGeometry => {
  const chunkSize = chunkSectors * SECTOR
  return {
    chunkSize,
    perArea: exceptionsPerArea(chunkSize),
    chunkCount: Math.floor(cow.size / chunkSize),
    originChunks: Math.ceil(originBytes / chunkSize),
  }
}
