import { unsupported } from '../error.js'
import type { MirrorLog, MirrorTarget, SnapshotTarget, TableTarget } from './table-target.js'
import type { TableWords } from './table-words.js'

const KNOWN = ['linear', 'zero', 'error', 'snapshot', 'snapshot-origin', 'snapshot-merge', 'mirror'] as const
/** the kernel copies to 8 devices at once */
const MOST_LEGS = 9
/** the largest power of two of sectors whose bytes fit in 31 bits */
const MAX_CHUNK = 2 ** 21

const isPowerOfTwo = (number: number): boolean => Number.isInteger(Math.log2(number))

/** A count, then as many words out of a few; nothing at the end of a line counts as none. */
const parseFeatures = <F extends string>(words: TableWords, known: readonly F[]): readonly F[] => {
  if (words.atEnd()) return []
  const count = words.number('number of features', `0 to ${known.length}`, n => n <= known.length)
  const given = Array.from({ length: count }, () => words.oneOf('feature', known))
  // In the kernel's own order, and each once, as it prints them.
  return known.filter(feature => given.includes(feature))
}

const parseStore = (words: TableWords): SnapshotTarget<string>['store'] => {
  const word = words.take('store', 'P, PO or N')
  // The kernel looks at the first two letters alone, and at one of N.
  if (/^n/i.test(word)) return 'N'
  if (/^p$/i.test(word)) return 'P'
  if (/^po/i.test(word)) return 'PO'
  throw words.wrong('store', 'P, PO or N', word)
}

const parseSnapshot = (words: TableWords, type: SnapshotTarget<string>['type']): SnapshotTarget<string> => {
  const origin = words.take('origin', 'a device')
  const cow = words.take('store device', 'a device')
  if (origin === cow) throw words.wrong('store device', 'another device than the origin', cow)
  const store = parseStore(words)
  if (type === 'snapshot-merge' && store === 'N')
    throw words.wrong('store', 'P or PO, as a store in memory alone can not be merged', store)
  const chunkSectors = words.number(
    'chunk size',
    `0 or a power of two up to ${MAX_CHUNK} sectors`,
    n => n === 0 || (isPowerOfTwo(n) && n <= MAX_CHUNK),
  )
  if (chunkSectors === 0 && store === 'N') throw words.wrong('chunk size', 'a power of two for a store in memory', 0)
  const features = parseFeatures(words, ['discard_zeroes_cow', 'discard_passdown_origin'])
  if (features.includes('discard_passdown_origin') && !features.includes('discard_zeroes_cow'))
    throw words.wrong('feature', 'discard_zeroes_cow beside discard_passdown_origin', features.join(' '))
  return { type, origin, cow, store, chunkSectors, features }
}

const parseLog = (words: TableWords, sectorCount: number): MirrorLog<string> => {
  const type = words.take('log', 'core or disk')
  if (type !== 'core' && type !== 'disk')
    throw unsupported(
      'mirror log of another kind',
      words.place,
      `the mirror log ${type} is not supported: core and disk are`,
    )
  const own = type === 'disk' ? 1 : 0
  const count = words.number(
    'number of log arguments',
    `${own + 1} or ${own + 2} for a ${type} log`,
    n => n === own + 1 || n === own + 2,
  )
  const device = type === 'disk' ? words.take('log device', 'a device') : undefined
  const regionSectors = words.number(
    'region size',
    `a power of two from 2 to the ${sectorCount} sectors of the line`,
    n => n >= 2 && n <= sectorCount && isPowerOfTwo(n),
  )
  const sync = count === own + 2 ? words.oneOf('log argument', ['sync', 'nosync']) : undefined
  return { type, ...(device !== undefined && { device }), regionSectors, ...(sync && { sync }) }
}

const parseMirror = (words: TableWords, sectorCount: number): MirrorTarget<string> => {
  const log = parseLog(words, sectorCount)
  const count = words.number('number of legs', `2 to ${MOST_LEGS}`, n => n >= 2 && n <= MOST_LEGS)
  const legs = Array.from({ length: count }, () => ({
    device: words.take('leg', 'a device'),
    deviceSector: words.sector('first sector of the leg'),
  }))
  const features = parseFeatures(words, ['handle_errors', 'keep_log'])
  if (features.includes('keep_log') && !features.includes('handle_errors'))
    throw words.wrong('feature', 'handle_errors beside keep_log', features.join(' '))
  return { type: 'mirror', log, legs, features }
}

/**
 * Reads a target's name and arguments, to the end of the line, as the kernel's constructors do.
 *
 * @param sectorCount  length of the line, by which a mirror's regions are checked
 * @throws USAGE  arguments are missing, wrong or too many; UNSUPPORTED  another target
 * @see linux drivers/md/{dm-linear,dm-zero,dm-target,dm-snap,dm-exception-store,dm-raid1,dm-log}.c
 */
export const parseTarget = (words: TableWords, sectorCount: number): TableTarget => {
  const type = words.take('target', KNOWN.join(', '))
  const target = parseArguments(words, type, sectorCount)
  words.end(type)
  return target
}

const parseArguments = (words: TableWords, type: string, sectorCount: number): TableTarget => {
  switch (type) {
    case 'linear':
      return {
        type,
        device: words.take('device', 'a device'),
        deviceSector: words.sector('first sector of the device'),
      }
    case 'zero':
    case 'error':
      return { type }
    case 'snapshot':
    case 'snapshot-merge':
      return parseSnapshot(words, type)
    case 'snapshot-origin':
      return { type, device: words.take('device', 'a device') }
    case 'mirror':
      return parseMirror(words, sectorCount)
    default:
      throw unsupported(
        'device-mapper target of another kind',
        words.place,
        `the target ${type} is not supported: ${KNOWN.join(', ')} are`,
      )
  }
}

const featureWords = (features: readonly string[]): readonly (string | number)[] =>
  features.length === 0 ? [] : [features.length, ...features]

/** The arguments of a target, in the order of its line, as `dmsetup table` prints them. */
export const targetWords = (target: TableTarget): readonly (string | number)[] => {
  switch (target.type) {
    case 'linear':
      return [target.device, target.deviceSector]
    case 'zero':
    case 'error':
      return []
    case 'snapshot':
    case 'snapshot-merge': {
      const { origin, cow, store, chunkSectors, features } = target
      return [origin, cow, store, chunkSectors, ...featureWords(features)]
    }
    case 'snapshot-origin':
      return [target.device]
    case 'mirror': {
      const { log, legs, features } = target
      const own = [
        ...(log.device === undefined ? [] : [log.device]),
        log.regionSectors,
        ...(log.sync ? [log.sync] : []),
      ]
      const places = legs.flatMap(({ device, deviceSector }) => [device, deviceSector])
      return [log.type, own.length, ...own, legs.length, ...places, ...featureWords(features)]
    }
  }
}
