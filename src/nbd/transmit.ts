import type { Socket } from 'node:net'
import { canReadInto, type Device, type Extent, extentsOf, isSparse, type WritableDevice } from '../block/device.js'
import { isLiveError, LiveError } from '../error.js'
import { budget } from './budget.js'
import { canWrite } from './export.js'
import type { Input } from './input.js'
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_EPERM,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
  REQUEST_SIZE,
} from './layout.js'
import {
  encodeDataChunk,
  encodeErrorChunk,
  encodeHoleChunk,
  encodeNoneChunk,
  encodeSimpleReply,
  encodeStatusChunk,
  parseRequest,
  type Request,
  type StatusExtent,
} from './request-layout.js'
import { slots } from './slots.js'
import { writeZeros, ZERO_PIECE } from './zero.js'

/** What one request may move at most, bytes. */
export const MAX_PAYLOAD = 32 << 20
/**
 * Bytes and requests of one connection that are under way, from the request to its answer being taken by the kernel. More bytes
 * than a processor caches would be read long before they are sent, and be slower to send; large blocks that are expanded side
 * by side are worth more.
 */
const LEAST_BYTES = 4 << 20
const MOST_BYTES = 16 << 20
const BLOCKS_UNDER_WAY = 32
const MOST_REQUESTS = 128
/** Extents that one block status tells at most, and holes that one read tells. */
const MOST_EXTENTS = 1024
const MOST_HOLES = 256
/** A shorter hole costs less as zeros. */
const LEAST_HOLE = 4096
const SECTOR = 512
/** Id of base:allocation. */
export const ALLOCATION_ID = 1

/** An export as one client has it. */
export interface Session {
  readonly device: Device | WritableDevice
  readonly writable: boolean
  /** bytes; as an Export tells it */
  readonly preferredBlockSize?: number | undefined
  /** structured replies */
  readonly structured: boolean
  /** base:allocation was agreed upon */
  readonly allocation: boolean
  /** told of errors that are no answer to a client's mistake */
  readonly onFailure: (error: unknown) => void
}

const errnoOf = (error: unknown, { type }: Request): number => {
  if (!isLiveError(error)) return NBD_EIO
  if (error.code === 'NO_SPACE') return NBD_ENOSPC
  if (error.code === 'READ_ONLY') return NBD_EPERM
  // what the protocol wants of a write past the end
  if (error.code === 'OUT_OF_RANGE')
    return type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL
  return error.code === 'USAGE' ? NBD_EINVAL : NBD_EIO
}

const FLAGS: Readonly<Record<number, number>> = {
  [NBD_CMD_READ]: NBD_CMD_FLAG_DF,
  [NBD_CMD_WRITE]: NBD_CMD_FLAG_FUA,
  [NBD_CMD_TRIM]: NBD_CMD_FLAG_FUA,
  [NBD_CMD_WRITE_ZEROES]: NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE,
  [NBD_CMD_FLUSH]: 0,
  [NBD_CMD_CACHE]: 0,
  [NBD_CMD_BLOCK_STATUS]: NBD_CMD_FLAG_REQ_ONE,
}

/**
 * A trim makes zeros too: nbdfuse takes it for the punched hole that its caller asked for, in which zeros are read. An export
 * without both would have nbdfuse say that it punched or zeroed what it did not (seen with libnbd 1.14).
 */
const ZEROING: readonly number[] = [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES]
const CHANGING: readonly number[] = [NBD_CMD_WRITE, ...ZEROING]

/** @throws USAGE, READ_ONLY, OUT_OF_RANGE */
const check = ({ type, flags, offset, length }: Request, { device, writable, structured, allocation }: Session) => {
  const wrong = (what: string): LiveError => new LiveError('USAGE', `NBD request: ${what}`, { type, flags, length })
  const known = FLAGS[type]
  if (known === undefined) throw wrong(`command ${type} is not known`)
  // Linux sends FUA with reads and flushes of its own making; the protocol lets it mean nothing there
  if ((flags & ~known & ~NBD_CMD_FLAG_FUA) !== 0) throw wrong(`flags ${flags} do not go with command ${type}`)
  if (type === NBD_CMD_FLUSH) return
  if (CHANGING.includes(type) && !writable)
    throw new LiveError('READ_ONLY', `${device.name} is exported read-only`, { device: device.name })
  if (type === NBD_CMD_READ && length > MAX_PAYLOAD) throw wrong(`${length} bytes are more than ${MAX_PAYLOAD}`)
  if ((flags & NBD_CMD_FLAG_DF) !== 0 && !structured) throw wrong('DF without structured replies')
  if (type === NBD_CMD_BLOCK_STATUS && (!allocation || length === 0)) throw wrong('block status without a context')
  if (offset + length > device.size)
    throw new LiveError('OUT_OF_RANGE', `${device.name}: ${length} bytes at ${offset} lie outside it`, {
      device: device.name,
      offset,
      length,
      size: device.size,
    })
}

/**
 * Extents of a request whose borders are those of sectors: qemu-img counts in sectors and takes a hole that ends within one for
 * the whole of it. What a hole loses is data, which may be zeros too.
 */
async function* extentsBySector(device: Device, offset: number, length: number): AsyncIterable<Extent> {
  const end = offset + length
  let from = offset
  const until = (to: number, kind: Extent['kind']): Extent => {
    const extent = { offset: from, length: to - from, kind }
    from = to
    return extent
  }
  for await (const extent of extentsOf(device, offset, length)) {
    if (extent.kind === 'data') continue
    const stop = extent.offset + extent.length
    const first = extent.offset === offset ? offset : Math.ceil(extent.offset / SECTOR) * SECTOR
    const last = stop === end ? end : Math.floor(stop / SECTOR) * SECTOR
    if (last <= first) continue
    if (first > from) yield until(first, 'data')
    yield until(last, 'hole')
  }
  if (from < end) yield until(end, 'data')
}

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Gives memory for so many bytes until the answer is sent; undefined where fresh memory is as good. */
type Lend = (length: number) => Buffer | undefined

const readBytes = async (device: Device, offset: number, length: number, lend: Lend): Promise<Buffer> => {
  const place = canReadInto(device) ? lend(length) : undefined
  if (!place || !canReadInto(device)) return bufferOf(await device.read(offset, length))
  await device.readInto(offset, place)
  return place
}

/** A read with its holes told. The data are read in one piece, from the first to the last of them. */
const readSparse = async (device: Device, { offset, length, cookie }: Request, lend: Lend): Promise<Buffer[]> => {
  const pieces: { kind: 'data' | 'hole'; from: number; to: number }[] = []
  for await (const { offset: from, length: count, kind: told } of extentsBySector(device, offset, length)) {
    const kind = told === 'hole' && count >= LEAST_HOLE && pieces.length < 2 * MOST_HOLES ? 'hole' : 'data'
    const last = pieces.at(-1)
    if (last?.kind === kind) last.to = from + count
    else pieces.push({ kind, from, to: from + count })
  }
  const data = pieces.filter(({ kind }) => kind === 'data')
  const start = data[0]?.from ?? offset
  const end = data.at(-1)?.to ?? offset
  const bytes = end > start ? await readBytes(device, start, end - start, lend) : Buffer.alloc(0)
  return pieces.flatMap(({ kind, from, to }, n) => {
    const isLast = n === pieces.length - 1
    if (kind === 'hole') return [encodeHoleChunk(cookie, from, to - from, isLast)]
    return [encodeDataChunk(cookie, from, to - from, isLast), bytes.subarray(from - start, to - start)]
  })
}

const read = async (request: Request, { device, structured }: Session, lend: Lend): Promise<Buffer[]> => {
  const { cookie, offset, length, flags } = request
  if (!structured) return [encodeSimpleReply(cookie, 0), await readBytes(device, offset, length, lend)]
  if (length === 0) return [encodeNoneChunk(cookie)]
  if ((flags & NBD_CMD_FLAG_DF) === 0 && isSparse(device)) return readSparse(device, request, lend)
  return [encodeDataChunk(cookie, offset, length, true), await readBytes(device, offset, length, lend)]
}

const blockStatus = async ({ cookie, offset, length, flags }: Request, { device }: Session): Promise<Buffer[]> => {
  const most = (flags & NBD_CMD_FLAG_REQ_ONE) === 0 ? MOST_EXTENTS : 1
  const told: StatusExtent[] = []
  for await (const extent of extentsBySector(device, offset, length)) {
    told.push({ length: extent.length, flags: extent.kind === 'hole' ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0 })
    if (told.length === most) break
  }
  return [encodeStatusChunk(cookie, ALLOCATION_ID, told)]
}

const perform = async (
  request: Request,
  payload: Buffer | undefined,
  session: Session,
  lend: Lend,
  gone: () => boolean,
): Promise<Buffer[]> => {
  const { device, structured } = session
  const { type, cookie, flags, offset, length } = request
  if (type === NBD_CMD_READ) return read(request, session, lend)
  if (type === NBD_CMD_BLOCK_STATUS) return blockStatus(request, session)
  if (canWrite(device) && session.writable) {
    if (type === NBD_CMD_WRITE && payload && payload.length > 0) await device.write(offset, payload)
    if (ZEROING.includes(type)) await writeZeros(device, offset, length, gone)
    if (type === NBD_CMD_FLUSH || (CHANGING.includes(type) && (flags & NBD_CMD_FLAG_FUA) !== 0)) await device.flush()
  }
  return [structured ? encodeNoneChunk(cookie) : encodeSimpleReply(cookie, 0)]
}

/** Puts parts on the wire in one call of the system; `taken` is called when the kernel has them, or nobody will. */
const send = (socket: Socket, parts: readonly Buffer[], taken: () => void): void => {
  if (socket.destroyed) {
    taken()
    return
  }
  socket.cork()
  for (const [n, part] of parts.entries()) socket.write(part, n === parts.length - 1 ? () => taken() : undefined)
  socket.uncork()
}

/**
 * Answers a client's requests until it says that it goes, or goes. Answers come in the order in which they are ready. A client
 * that takes no answers is not read from any more once it has a bounded amount of them waiting.
 *
 * @throws CORRUPT, IO  what the client sends is no NBD, or it went in the middle of it
 */
export const transmit = async (socket: Socket, input: Input, session: Session): Promise<void> => {
  const most = Math.min(MOST_BYTES, Math.max(LEAST_BYTES, (session.preferredBlockSize ?? 0) * BLOCKS_UNDER_WAY))
  const underWay = budget(most, MOST_REQUESTS)
  const memory = slots(most)

  const answer = async (request: Request, payload: Buffer | undefined, lend: Lend): Promise<Buffer[]> => {
    try {
      check(request, session)
      return await perform(request, payload, session, lend, () => socket.destroyed)
    } catch (error) {
      const errno = errnoOf(error, request)
      if (errno === NBD_EIO || (isLiveError(error) && error.code === 'NO_SPACE')) session.onFailure(error)
      const words = error instanceof Error ? error.message : String(error)
      return session.structured
        ? [encodeErrorChunk(request.cookie, errno, words)]
        : [encodeSimpleReply(request.cookie, errno)]
    }
  }

  try {
    for (;;) {
      const head = await input.take(REQUEST_SIZE)
      if (!head) return
      const request = parseRequest(head)
      const { type, length } = request
      if (type === NBD_CMD_DISC) return
      if (type === NBD_CMD_WRITE && length > MAX_PAYLOAD)
        throw new LiveError('USAGE', `an NBD client wants to write ${length} bytes in one request`, { length })
      const carries = type === NBD_CMD_WRITE || (type === NBD_CMD_READ && length <= MAX_PAYLOAD)
      const cost = REQUEST_SIZE + (carries ? length : ZEROING.includes(type) ? Math.min(length, ZERO_PIECE) : 0)
      await underWay.take(cost)
      let payload: Buffer | undefined
      try {
        if (type === NBD_CMD_WRITE && session.writable) {
          payload = await input.take(length)
          if (!payload) throw new LiveError('IO', 'an NBD client went before it sent the data of a write')
        } else if (type === NBD_CMD_WRITE) await input.skip(length)
      } catch (error) {
        underWay.give(cost)
        throw error
      }
      let lent: Buffer | undefined
      const lend = (bytes: number): Buffer | undefined => (lent = memory.take(bytes))
      const taken = (): void => {
        if (lent) memory.give(lent)
        underWay.give(cost)
      }
      void answer(request, payload, lend).then(parts => send(socket, parts, taken))
    }
  } catch (error) {
    // answers that wait for a reader wait no more
    socket.destroy()
    throw error
  } finally {
    await underWay.idle()
  }
}
