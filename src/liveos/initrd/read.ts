import type { Device } from '../../block/device.js'
import { type ByteReader, byteReader } from '../../bytes/byte-reader.js'
import { cpioMembers, isCpio } from '../../bytes/cpio.js'
import { corrupt, isLiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import { type Packing, packingOf } from './compression.js'
import { type FactsReader, type InitrdFacts, initrdFacts } from './facts.js'
import { type Budget, MAX_UNPACKED, tooLarge, unpack, wholeBudget } from './unpack.js'

/** A piece of an initrd: one stream, with the archives in it. */
export interface InitrdPiece {
  readonly packing: Packing
  /** first byte in the file */
  readonly offset: number
  readonly members: number
  /** bytes of its archives unpacked */
  readonly size: number
}

/** What an initrd is made of, and what is known of it. */
export interface Initrd extends InitrdFacts {
  readonly name: string
  readonly size: number
  readonly pieces: readonly InitrdPiece[]
  readonly findings: readonly Finding[]
}

const CHUNK = 1 << 18
const MAX_MEMBERS = 500_000
/** streams and archives that follow each other; a real one has a handful */
const MAX_PIECES = 256
const HEAD = 16

async function* chunksOf(device: Device): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < device.size; at += CHUNK) yield await device.read(at, Math.min(CHUNK, device.size - at))
}

/** Passes over NULs between archives; false at the end. */
const skipZeros = async (from: ByteReader): Promise<boolean> => {
  for (;;) {
    const bytes = await from.peek(1)
    if (bytes.length === 0) return false
    const at = bytes.findIndex(byte => byte !== 0)
    from.advance(at < 0 ? bytes.length : at)
    if (at >= 0) return true
  }
}

interface Reading {
  readonly device: Device
  readonly pieces: InitrdPiece[]
  readonly findings: Finding[]
  readonly collector: FactsReader
  readonly budget: Budget
  members: number
}

const readArchive = async (from: ByteReader, at: Reading): Promise<void> => {
  for await (const member of cpioMembers(from)) {
    if (++at.members > MAX_MEMBERS)
      throw corrupt({
        device: from.name,
        offset: from.offset,
        field: 'members',
        expected: `at most ${MAX_MEMBERS}`,
        found: at.members,
      })
    await at.collector.see(member)
  }
}

const tellTrailing = ({ device, findings }: Reading, offset: number, what: string): void => {
  findings.push({
    code: 'INITRD_TRAILING',
    severity: 'note',
    where: device.name,
    message: `${device.name}: behind its archives, from byte ${offset} on, stands ${what}, which is left out`,
  })
}

/** The archives in one packed stream. Each needs another one or NULs behind it; what is neither ends the piece. */
const readPacked = async (packing: Packing, outer: ByteReader, at: Reading): Promise<void> => {
  const chunks = unpack(packing, outer, at.budget)
  const inner = byteReader(chunks, `${at.device.name} (${packing} from byte ${outer.offset})`)
  let archives = 0
  try {
    while (await more(inner, archives)) {
      if (!isCpio(await inner.peek(HEAD))) {
        if (archives === 0) throw notCpio(inner)
        tellTrailing(at, outer.offset, 'no archive')
        break
      }
      await readArchive(inner, at)
      archives++
    }
    if (archives === 0) throw notCpio(inner)
  } finally {
    await chunks.return(undefined)
  }
}

/** True where something follows. Behind whole archives, an xz whose own end is cut off is at its end too. */
const more = async (inner: ByteReader, archives: number): Promise<boolean> => {
  try {
    return await skipZeros(inner)
  } catch (error) {
    if (archives > 0 && isLiveError(error) && error.code === 'CORRUPT' && error.data.field === 'xz') return false
    throw error
  }
}

const notCpio = (from: ByteReader) =>
  corrupt({
    device: from.name,
    offset: from.offset,
    field: 'archive',
    expected: 'a cpio archive (070701 or 070702)',
    found: 'something else',
  })

const readPiece = async (outer: ByteReader, at: Reading): Promise<boolean> => {
  const offset = outer.offset
  const packing = packingOf(await outer.peek(HEAD))
  if (packing === undefined) {
    if (at.pieces.length === 0)
      throw corrupt({
        device: at.device.name,
        offset,
        field: 'archive',
        expected: 'a cpio archive, packed or not',
        found: 'something else',
      })
    tellTrailing(at, offset, 'something that is no archive')
    return false
  }
  if (at.pieces.length >= MAX_PIECES)
    throw corrupt({ device: at.device.name, offset, field: 'pieces', expected: `at most ${MAX_PIECES}`, found: 'more' })
  const before = at.members
  const left = at.budget.left
  if (packing === 'none') await readArchive(outer, at)
  else await readPacked(packing, outer, at)
  const size = packing === 'none' ? outer.offset - offset : left - at.budget.left
  at.pieces.push({ packing, offset, members: at.members - before, size })
  return true
}

/**
 * Reads an initrd: cpio archives one behind the other, some packed, as the kernel unpacks them. Only names and a few small files
 * are kept; memory holds a chunk (of zstd a whole frame, packed and unpacked).
 *
 * @param budget  what is unpacked is taken from it
 * @throws CORRUPT      no archive, a damaged one, or one that unpacks to more than 2 GiB
 * @throws UNSUPPORTED  packed in a way that is not known here; the first pieces are not told then
 * @throws IO
 * @see linux init/initramfs.c, unpack_to_rootfs
 */
export const readInitrd = async (device: Device, budget: Budget = wholeBudget()): Promise<Initrd> => {
  const findings: Finding[] = []
  const reading: Reading = {
    device,
    pieces: [],
    findings,
    collector: initrdFacts(),
    budget,
    members: 0,
  }
  if (device.size > MAX_UNPACKED) throw tooLarge(device.name, 0)
  const outer = byteReader(chunksOf(device), device.name)
  while (await skipZeros(outer)) if (!(await readPiece(outer, reading))) break
  if (reading.pieces.length === 0) throw notCpio(outer)
  const { pieces, collector } = reading
  return { name: device.name, size: device.size, pieces, findings, ...collector.facts() }
}
