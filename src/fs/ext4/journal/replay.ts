import { unsupported } from '../../../error.js'
import { copySum } from './checksum.js'
import { hasTails, parseFastCommitHead, parseRevokes, TAG_FLAG } from './layout.js'
import type { JournalLog } from './log.js'
import { type LogEnd, type LoggedTag, type Scan, scanLog, sequenceOf } from './scan.js'

/** What a replay found in the journal. */
export interface Replayed {
  /** whether the filesystem says that its journal is to be replayed */
  readonly needsRecovery: boolean
  /** transactions with a commit */
  readonly transactions: number
  /** blocks of the filesystem that the journal replaces */
  readonly blocks: number
  /** copies that are not used, for the same or a later transaction freed their blocks */
  readonly revoked: number
  /** sequences of the first and last transaction; undefined where there is none */
  readonly firstSequence: number | undefined
  readonly lastSequence: number | undefined
  readonly endedBy: LogEnd
}

/** Where the replaced blocks of a filesystem stand in its journal: three arrays, one index, ascending by block. */
export interface ReplacedBlocks {
  /** block of the filesystem */
  readonly blocks: Float64Array
  /** block of the journal that holds its content */
  readonly copies: Uint32Array
  /** 1 where the content starts with the journal's magic and the copy with zeros */
  readonly escaped: Uint8Array
}

/** What replay leaves of a journal: the blocks, and the sequence that the journal's superblock gets. */
export interface Replay {
  readonly replayed: Replayed
  readonly replaced: ReplacedBlocks
  readonly nextSequence: number
}

/**
 * Goes through the journal as the kernel does: SCAN finds the end of the log, REVOKE what was freed later, REPLAY which copy of
 * each block counts, and compares their checksums. Nothing is written; only places are kept, so the memory is bounded by the
 * journal's length in blocks.
 *
 * @param deviceBlocks  whole blocks of the device; no copy may belong past them
 * @throws CORRUPT  the journal can't be replayed: the kernel would not mount
 * @throws UNSUPPORTED  it holds fast commits
 * @throws IO
 * @see linux fs/jbd2/recovery.c, jbd2_journal_recover
 */
export const replayLog = async (log: JournalLog, deviceBlocks: number): Promise<Replay> => {
  const { superblock } = log
  if (superblock.s_start === 0)
    return {
      replayed: {
        needsRecovery: true,
        transactions: 0,
        blocks: 0,
        revoked: 0,
        firstSequence: undefined,
        lastSequence: undefined,
        endedBy: 'clean',
      },
      replaced: { blocks: new Float64Array(0), copies: new Uint32Array(0), escaped: new Uint8Array(0) },
      nextSequence: (superblock.s_sequence + 1) >>> 0,
    }
  const scan = await scanLog(log)
  await refuseFastCommits(log, scan)
  const { latest, revoked } = await latestTags(log, scan, deviceBlocks)
  const { transactions, endedBy } = scan
  const sorted = [...latest.values()].sort((one, other) => one.block - other.block)
  return {
    replayed: {
      needsRecovery: true,
      transactions,
      blocks: sorted.length,
      revoked,
      firstSequence: transactions > 0 ? superblock.s_sequence : undefined,
      lastSequence: transactions > 0 ? sequenceOf(log, transactions - 1) : undefined,
      endedBy,
    },
    replaced: {
      blocks: Float64Array.from(sorted, tag => tag.block),
      copies: Uint32Array.from(sorted, tag => tag.copy),
      escaped: Uint8Array.from(sorted, tag => (tag.flags & TAG_FLAG.escape ? 1 : 0)),
    },
    nextSequence: sequenceOf(log, transactions + 1),
  }
}

/** A fast commit that follows the last transaction holds changes that the log does not have. */
const refuseFastCommits = async (log: JournalLog, scan: Scan): Promise<void> => {
  const { fastCommitBlock, s_maxlen } = log.superblock
  if (fastCommitBlock === undefined || fastCommitBlock >= s_maxlen) return
  const sequence = parseFastCommitHead(await log.block(fastCommitBlock))
  if (sequence === sequenceOf(log, scan.transactions))
    throw unsupported(
      'fast commit',
      log.device.name,
      "the journal ends with fast commits, which can't be replayed here; mount it once, or run e2fsck",
    )
}

/** The tag that counts for each block, by block. */
const latestTags = async (
  log: JournalLog,
  { tags, revokeBlocks }: Scan,
  deviceBlocks: number,
): Promise<{ latest: Map<number, LoggedTag>; revoked: number }> => {
  const latest = new Map<number, LoggedTag>()
  // Only blocks that have a copy: a journal full of revokes must not fill the memory.
  const named = new Set(tags.map(tag => tag.block))
  const freedBy = new Map<number, number>()
  for (const { block, transaction } of revokeBlocks) {
    const place = { device: log.device.name, base: log.placeOf(block) }
    for (const freed of parseRevokes(await log.block(block), log.superblock, place))
      if (named.has(freed)) freedBy.set(freed, transaction)
  }
  let revoked = 0
  for (const tag of tags) {
    const freed = freedBy.get(tag.block)
    if (freed !== undefined && freed >= tag.transaction) {
      revoked++
      continue
    }
    await checkCopy(log, tag, deviceBlocks)
    latest.set(tag.block, tag)
  }
  return { latest, revoked }
}

/** @throws CORRUPT  the copy's checksum is wrong, or its place is off the device or in the journal itself */
const checkCopy = async (log: JournalLog, tag: LoggedTag, deviceBlocks: number): Promise<void> => {
  const { blockSize, checksum } = log.superblock
  const { block, copy, transaction } = tag
  if (block >= deviceBlocks) throw log.broken(copy, 't_blocknr', `less than ${deviceBlocks}`, block)
  if (log.owns(block * blockSize, blockSize))
    throw log.broken(copy, 't_blocknr', 'no block of the journal itself', block)
  if (!hasTails(log.superblock)) return
  const sum = copySum(await log.block(copy), sequenceOf(log, transaction), log.seed)
  const expected = checksum === 'v3' ? sum : sum & 0xffff
  if (tag.checksum !== expected)
    throw log.broken(
      copy,
      `checksum of the copy of block ${block}`,
      `0x${tag.checksum.toString(16)}`,
      `0x${expected.toString(16)}`,
    )
}
