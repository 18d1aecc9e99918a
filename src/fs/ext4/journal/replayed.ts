import {
  canReadInto,
  checkRange,
  type Device,
  type Extent,
  extentsOf,
  type SparseDevice,
} from '../../../block/device.js'
import { joined } from '../../../block/extents.js'
import { gather, type Part } from '../../../block/gather.js'
import { CRC32C_START, crc32c } from '../../../bytes/crc32c.js'
import { corrupt, isLiveError, type LiveError } from '../../../error.js'
import { INCOMPAT } from '../features.js'
import {
  EXT4_SUPERBLOCK_OFFSET,
  EXT4_SUPERBLOCK_SIZE,
  type Ext4Superblock,
  parseExt4Superblock,
  readExt4Superblock,
} from '../superblock.js'
import { superblockSum } from './checksum.js'
import { readJournalFile } from './file.js'
import { hasTails, JOURNAL_MAGIC, JOURNAL_SUPERBLOCK_SIZE } from './layout.js'
import { type JournalLog, openLog } from './log.js'
import { type ReplacedBlocks, type Replay, type Replayed, replayLog } from './replay.js'

/** s_state and s_feature_incompat in the filesystem's superblock, and its checksum; s_state: the kernel found errors */
const STATE_OFFSET = 58
const INCOMPAT_OFFSET = 96
const CHECKSUM_OFFSET = 1020
const STATE_ERRORS = 2
/** s_sequence, s_start, s_errno and s_checksum in the journal's superblock */
const JOURNAL_OFFSET = { sequence: 24, start: 28, errno: 32, checksum: 252 } as const

/** A block that the journal replaces. */
export interface ReplacedBlock {
  /** block of the filesystem */
  readonly block: number
  /** byte offset on the device below where the journal has its content */
  readonly copyOffset: number
  /** the content's first four bytes are c0 3b 39 98, where the copy has zeros */
  readonly escaped: boolean
}

/** The device of a filesystem as it is after its journal was replayed. */
export interface ReplayedDevice extends SparseDevice {
  readonly replayed: Replayed
  /** bytes of a block of `replacedBlocks` */
  readonly blockSize: number
  /** What the journal replaces, ascending by block. The superblock and the journal's are changed besides. */
  replacedBlocks(): Iterable<ReplacedBlock>
  /** bytes changed besides: of the superblock and of the journal's */
  readonly patchedRuns: readonly { readonly start: number; readonly length: number }[]
}

/**
 * Lays the committed blocks of the journal over a device, in memory: what `e2fsck -E journal_only` would leave on it. The device
 * below is only read.
 *
 * - The superblock has needs_recovery cleared, the mark of errors set where the journal carries s_errno, and its checksum anew.
 * - The journal's superblock says that the log is empty: s_start and s_errno are 0, s_sequence is that of the transaction after
 *   next, the checksum fits.
 * - e2fsck also counts what it wrote in s_kbytes_written, and may note the time in s_wtime; here both stay as they are.
 * - Orphans stay on their list: files that were deleted or being cut while open. The kernel finishes them when it mounts, and
 *   e2fsck even in this mode, which needs an allocator; a reader is not in need of either.
 * - Where fast commits are switched on, the log's ring ends before their area, and those of older transactions are passed over,
 *   as in the kernel; e2fsck 1.47 lets the ring end after their area, and takes older ones for damage.
 * - A damaged journal inode is replaced by the copy in the superblock, as e2fsck does.
 * - Where the kernel would refuse to mount (a wrong checksum in a transaction whose commit is on the medium), e2fsck drops the
 *   transaction and all later ones and asks for a full check. Such a view would mix old and new, so here it is CORRUPT.
 *
 * Without needs_recovery it shows the same bytes. Closing it leaves `device` open.
 *
 * @throws CORRUPT  the superblock or the journal is damaged
 * @throws UNSUPPORTED  the journal lies on another device, holds fast commits, or has an unknown feature
 * @throws IO
 * @see linux fs/jbd2/recovery.c; e2fsprogs e2fsck/journal.c, e2fsck_run_ext3_journal
 */
export const openReplayed = async (device: Device): Promise<ReplayedDevice> => {
  const superblock = await readExt4Superblock(device)
  if (!superblock.needsRecovery) return unchanged(device, superblock)
  const log = await openLog(device, await readJournalFile(device, superblock))
  const replay = await replayLog(log, Math.floor(device.size / superblock.blockSize))
  const shown = overlaid(device, log, replay.replaced, [])
  const state = await shown.read(EXT4_SUPERBLOCK_OFFSET, EXT4_SUPERBLOCK_SIZE)
  checkBounds(device, superblock, parseExt4Superblock(state, device.name), replay.replaced)
  const patches: readonly Patch[] = [
    { offset: EXT4_SUPERBLOCK_OFFSET, bytes: recovered(state, log.superblock.s_errno) },
    { offset: log.placeOf(0), bytes: await emptied(shown, log, replay) },
  ]
  return {
    ...overlaid(device, log, replay.replaced, patches),
    replayed: replay.replayed,
    blockSize: superblock.blockSize,
    replacedBlocks: () => replacedBlocks(log, replay.replaced),
    patchedRuns: patches.map(({ offset, bytes }) => ({ start: offset, length: bytes.length })),
  }
}

/** What a status line tells of a filesystem's journal, or why it can't be replayed; never throws for what the medium holds. */
export const replayState = async (
  device: Device,
): Promise<Pick<Replayed, 'needsRecovery' | 'transactions' | 'blocks'> | LiveError> => {
  try {
    const { needsRecovery, transactions, blocks } = (await openReplayed(device)).replayed
    return { needsRecovery, transactions, blocks }
  } catch (error) {
    if (isLiveError(error)) return error
    throw error
  }
}

const unchanged = (device: Device, { blockSize }: Ext4Superblock): ReplayedDevice => ({
  name: device.name,
  size: device.size,
  read: (offset, length) => device.read(offset, length),
  ...(canReadInto(device) ? { readInto: (offset: number, target: Uint8Array) => device.readInto(offset, target) } : {}),
  extents(offset, length) {
    checkRange(device, offset, length)
    return extentsOf(device, offset, length)
  },
  close: async () => {},
  blockSize,
  replayed: {
    needsRecovery: false,
    transactions: 0,
    blocks: 0,
    revoked: 0,
    firstSequence: undefined,
    lastSequence: undefined,
    endedBy: 'clean',
  },
  replacedBlocks: () => [],
  patchedRuns: [],
})

/** @throws CORRUPT  a block lies past the filesystem; a replayed superblock may say that it grew */
const checkBounds = (
  device: Device,
  before: Ext4Superblock,
  after: Ext4Superblock,
  { blocks }: ReplacedBlocks,
): void => {
  const most = Math.max(before.blockCount, after.blockCount)
  const last = blocks.at(-1)
  if (last !== undefined && last >= most)
    throw corrupt({
      device: device.name,
      offset: EXT4_SUPERBLOCK_OFFSET + 4,
      field: "the journal can't be replayed: t_blocknr",
      expected: `less than ${most}`,
      found: last,
    })
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** The filesystem's superblock after the replay. */
const recovered = (state: Uint8Array, errno: number): Uint8Array => {
  const bytes = new Uint8Array(state)
  const view = viewOf(bytes)
  view.setUint32(INCOMPAT_OFFSET, view.getUint32(INCOMPAT_OFFSET, true) & ~INCOMPAT.needs_recovery, true)
  if (errno !== 0) view.setUint16(STATE_OFFSET, view.getUint16(STATE_OFFSET, true) | STATE_ERRORS, true)
  if (parseExt4Superblock(state, 'superblock').metadataCsum)
    view.setUint32(CHECKSUM_OFFSET, crc32c(CRC32C_START, bytes.subarray(0, CHECKSUM_OFFSET)), true)
  return bytes
}

/** The journal's superblock after the replay. */
const emptied = async (shown: Device, log: JournalLog, { nextSequence }: Replay): Promise<Uint8Array> => {
  const bytes = await shown.read(log.placeOf(0), JOURNAL_SUPERBLOCK_SIZE)
  const view = viewOf(bytes)
  view.setUint32(JOURNAL_OFFSET.sequence, nextSequence)
  view.setUint32(JOURNAL_OFFSET.start, 0)
  view.setUint32(JOURNAL_OFFSET.errno, 0)
  if (hasTails(log.superblock)) view.setUint32(JOURNAL_OFFSET.checksum, superblockSum(bytes))
  return bytes
}

/** Bytes that stand on the device in place of its own. */
interface Patch {
  readonly offset: number
  readonly bytes: Uint8Array
}

/** Writes what of a patch lies in a range over the bytes of that range. */
const lay = (patch: Patch, over: Uint8Array, offset: number): void => {
  const from = Math.max(patch.offset, offset)
  const to = Math.min(patch.offset + patch.bytes.length, offset + over.length)
  if (from < to) over.set(patch.bytes.subarray(from - patch.offset, to - patch.offset), from - offset)
}

const MAGIC_BYTES = new Uint8Array(4)
viewOf(MAGIC_BYTES).setUint32(0, JOURNAL_MAGIC)

const overlaid = (
  device: Device,
  log: JournalLog,
  { blocks, copies, escaped }: ReplacedBlocks,
  patches: readonly Patch[],
): SparseDevice => {
  const { blockSize } = log.superblock
  /** the first replaced block that ends after an offset */
  const firstAfter = (offset: number): number => {
    const wanted = Math.floor(offset / blockSize)
    let low = 0
    let high = blocks.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (blocks[middle]! < wanted) low = middle + 1
      else high = middle
    }
    return low
  }

  const partsOf = (offset: number, length: number): Part[] => {
    const parts: Part[] = []
    const add = (start: number, count: number): void => {
      const last = parts.at(-1)
      // One read where copies lie one after another, as they mostly do.
      if (last && last.offset + last.length === start)
        parts[parts.length - 1] = { ...last, length: last.length + count }
      else if (count > 0) parts.push({ device, offset: start, length: count })
    }
    const end = offset + length
    let at = offset
    for (let index = firstAfter(offset); index < blocks.length && at < end; index++) {
      const start = blocks[index]! * blockSize
      if (start >= end) break
      if (start > at) add(at, start - at)
      at = Math.max(at, start)
      const count = Math.min(start + blockSize, end) - at
      add(log.placeOf(copies[index]!) + at - start, count)
      at += count
    }
    if (at < end) add(at, end - at)
    return parts
  }

  async function* extentsIn(offset: number, length: number): AsyncIterable<Extent> {
    for await (const extent of extentsOf(device, offset, length)) {
      if (extent.kind === 'data') {
        yield extent
        continue
      }
      const end = extent.offset + extent.length
      let at = extent.offset
      for (let index = firstAfter(at); index < blocks.length && at < end; index++) {
        const start = Math.max(blocks[index]! * blockSize, at)
        if (start >= end) break
        if (start > at) yield { offset: at, length: start - at, kind: 'hole' }
        at = Math.min(blocks[index]! * blockSize + blockSize, end)
        yield { offset: start, length: at - start, kind: 'data' }
      }
      if (at < end) yield { offset: at, length: end - at, kind: 'hole' }
    }
  }

  const shown: SparseDevice = {
    name: device.name,
    size: device.size,
    async read(offset, length) {
      checkRange(device, offset, length)
      const bytes = await gather(partsOf(offset, length), length)
      const end = offset + length
      for (let index = firstAfter(offset); index < blocks.length && blocks[index]! * blockSize < end; index++)
        if (escaped[index]) lay({ offset: blocks[index]! * blockSize, bytes: MAGIC_BYTES }, bytes, offset)
      for (const patch of patches) lay(patch, bytes, offset)
      return bytes
    },
    extents(offset, length) {
      checkRange(device, offset, length)
      return joined(extentsIn(offset, length))
    },
    async close() {},
  }
  return shown
}

function* replacedBlocks(log: JournalLog, { blocks, copies, escaped }: ReplacedBlocks): Iterable<ReplacedBlock> {
  for (let index = 0; index < blocks.length; index++)
    yield {
      block: blocks[index]!,
      copyOffset: log.placeOf(copies[index]!),
      escaped: escaped[index] === 1,
    }
}
