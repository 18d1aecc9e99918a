import { CRC32BE_START, commitHolds, crc32be, tailHolds } from './checksum.js'
import { BLOCK_TYPE, hasTails, parseCommit, parseHeader, parseTags } from './layout.js'
import type { JournalLog } from './log.js'

/** checksum v1: h_chksum_type and h_chksum_size of a CRC-32 */
const CRC32_TYPE = 1
const CRC32_SIZE = 4

/**
 * Why the log ends where it does.
 *
 * - `clean`: the journal says that there is nothing to replay
 * - `end of log`: after the last commit comes no block of the next transaction
 * - `no commit`: the next transaction was begun, its commit is missing
 * - `stale blocks`: the next transaction has a wrong checksum and an older time than the one before, so it is left over from
 *   an earlier use of the journal
 * - `bad checksum`: the last transaction's blocks were not all written; only with asynchronous commits, where nothing waited for them
 */
export type LogEnd = 'clean' | 'end of log' | 'no commit' | 'stale blocks' | 'bad checksum'

/** What the transactions with a commit name. Transactions count from 0, the one of s_sequence. */
export interface Scan {
  readonly transactions: number
  readonly endedBy: LogEnd
  /** the tags in the order of the log; the copy lies in block `copy` of the journal */
  readonly tags: readonly LoggedTag[]
  /** the revoke blocks in the order of the log, by their place in the journal */
  readonly revokeBlocks: readonly { readonly block: number; readonly transaction: number }[]
}

/** A tag with its place in the log. */
export interface LoggedTag {
  readonly block: number
  readonly flags: number
  readonly checksum: number
  readonly copy: number
  readonly transaction: number
}

/** The sequence of a transaction; it is a number of 32 bits that starts again at 0. */
export const sequenceOf = (log: JournalLog, transaction: number): number =>
  (log.superblock.s_sequence + transaction) >>> 0

/**
 * The first pass: goes through the log from its start, one transaction after another, to find where it ends.
 *
 * A sound log is at most as long as the ring, so a walk that comes round is over: every list here is bounded by the journal.
 *
 * @throws CORRUPT  a checksum is wrong in a transaction that is not the leftover of an interrupted write; the kernel refuses to
 *   mount then
 * @throws IO
 * @see linux fs/jbd2/recovery.c, do_one_pass with PASS_SCAN
 */
export const scanLog = async (log: JournalLog): Promise<Scan> => {
  const { superblock } = log
  const tags: LoggedTag[] = []
  const revokeBlocks: { block: number; transaction: number }[] = []
  /** how many of the two lists belong to transactions with a commit */
  let committedTags = 0
  let committedRevokes = 0
  let transaction = 0
  let begun = false
  /** blocks of the ring that the walk has not passed */
  let left = superblock.endBlock - superblock.s_first
  let at = superblock.s_start
  /** the block of this transaction whose checksum is wrong; its commit tells whether that is damage or an older log */
  let doubted: number | undefined
  let badCommit: { readonly transaction: number; readonly block: number } | undefined
  let lastCommitTime = 0n
  let sum = CRC32BE_START

  const take = (): number => {
    const block = at
    at = log.next(at)
    left--
    return block
  }
  const end = (endedBy: LogEnd): Scan => {
    tags.length = committedTags
    revokeBlocks.length = committedRevokes
    return badCommit
      ? { transactions: badCommit.transaction, endedBy: 'bad checksum', tags, revokeBlocks }
      : { transactions: transaction, endedBy, tags, revokeBlocks }
  }

  while (left > 0) {
    const block = take()
    const bytes = await log.block(block)
    const header = parseHeader(bytes)
    if (!header || header.sequence !== sequenceOf(log, transaction)) break
    const { type } = header
    if (type === BLOCK_TYPE.descriptor || type === BLOCK_TYPE.revoke) {
      begun = true
      if (hasTails(superblock) && !tailHolds(bytes, log.seed)) doubted ??= block
    }
    if (type === BLOCK_TYPE.descriptor) {
      const named = parseTags(bytes, superblock)
      // The copies would lie over the start of the log: such a transaction was never finished.
      if (named.length > left) break
      const summed = superblock.checksum === 'v1' && !badCommit
      if (summed) sum = crc32be(sum, bytes)
      for (const tag of named) {
        const copy = take()
        if (summed) sum = crc32be(sum, await log.block(copy))
        tags.push({ ...tag, copy, transaction })
      }
    } else if (type === BLOCK_TYPE.revoke) revokeBlocks.push({ block, transaction })
    else if (type === BLOCK_TYPE.commit) {
      const commit = parseCommit(bytes)
      const time = commit.h_commit_sec
      if (doubted !== undefined) {
        if (time < lastCommitTime) return end('stale blocks')
        throw log.broken(doubted, `checksum of a block of transaction ${header.sequence}`, 'the right one', 'another')
      }
      if (badCommit)
        throw log.broken(
          badCommit.block,
          `commit of transaction ${sequenceOf(log, badCommit.transaction)}`,
          'the right checksum, for a later transaction was committed',
          'a wrong one',
        )
      if (!checksumHolds(log, bytes, sum)) {
        if (time < lastCommitTime) return end('stale blocks')
        if (!superblock.asyncCommit)
          throw log.broken(block, `checksum of transaction ${header.sequence}`, 'the right one', 'another')
        badCommit = { transaction, block }
      } else {
        committedTags = tags.length
        committedRevokes = revokeBlocks.length
      }
      lastCommitTime = time
      sum = CRC32BE_START
      transaction++
      begun = false
    } else break
  }
  return end(begun ? 'no commit' : 'end of log')
}

/** Whether the checksum of a commit block is right; with v1 it is that of the whole transaction, and may be left out. */
const checksumHolds = (log: JournalLog, bytes: Uint8Array, sum: number): boolean => {
  if (hasTails(log.superblock)) return commitHolds(bytes, log.seed)
  if (log.superblock.checksum === 'none') return true
  const { h_chksum_type, h_chksum_size, h_chksum } = parseCommit(bytes)
  if (h_chksum_type === 0 && h_chksum_size === 0 && h_chksum === 0) return true
  return h_chksum_type === CRC32_TYPE && h_chksum_size === CRC32_SIZE && h_chksum === sum
}
