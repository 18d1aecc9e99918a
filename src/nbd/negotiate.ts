import type { Socket } from 'node:net'
import { LiveError } from '../error.js'
import { type Export, isWritableExport } from './export.js'
import { type Input, inputOf } from './input.js'
import {
  BASE_ALLOCATION,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_NO_ZEROES,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
  OPTION_SIZE,
} from './layout.js'
import {
  encodeExportName,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeMetaContext,
  encodeOptionReply,
  encodeString,
  parseInfoRequest,
  parseMetaRequest,
  parseOption,
  parseText,
} from './option-layout.js'
import { ALLOCATION_ID, MAX_PAYLOAD } from './transmit.js'

/** What a client and the server have agreed upon. */
export interface Agreed {
  /** another one than it came in on where TLS was started */
  readonly socket: Socket
  readonly input: Input
  readonly chosen: Export
  readonly structured: boolean
  readonly allocation: boolean
}

/** What is offered to a client. */
export interface Offer {
  readonly exports: readonly Export[]
  /** starts TLS on a socket; without it there is none, with it there is nothing else */
  readonly startTls?: ((socket: Socket) => Promise<Socket>) | undefined
  /** told of a socket that took the place of another */
  readonly onSocket: (socket: Socket) => void
}

/** Bytes of data that an option may have at most; the longest that is known has a name and some queries. */
const MAX_OPTION = 1 << 16

/** Connections share one device, and a flush of it is for all of them, so several are safe. */
const flagsOf = (chosen: Export, structured: boolean): number =>
  NBD_FLAG_HAS_FLAGS |
  NBD_FLAG_CAN_MULTI_CONN |
  NBD_FLAG_SEND_CACHE |
  NBD_FLAG_SEND_FLUSH |
  (structured ? NBD_FLAG_SEND_DF : 0) |
  (isWritableExport(chosen) ? NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES : NBD_FLAG_READ_ONLY)

/** Waits until the kernel has the bytes: a client that asks and never reads fills no memory. */
const written = (socket: Socket, bytes: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => socket.write(bytes, error => (error ? reject(error) : resolve())))

const withoutContexts = { structured: false, allocationOf: undefined as string | undefined }

/**
 * Speaks with a new client until it has chosen an export. Undefined where it left, or nothing suits it.
 *
 * @throws CORRUPT, IO, USAGE  what it says is no NBD
 */
export const negotiate = async (first: Socket, { exports, startTls, onSocket }: Offer): Promise<Agreed | undefined> => {
  let socket = first
  let input = inputOf(socket)
  let isSecure = startTls === undefined
  let known = withoutContexts

  await written(socket, encodeGreeting())
  const clientFlags = (await input.take(4))?.readUInt32BE(0)
  if (clientFlags === undefined) return undefined
  if (
    (clientFlags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) !== 0 ||
    (clientFlags & NBD_FLAG_FIXED_NEWSTYLE) === 0
  )
    throw new LiveError('USAGE', `an NBD client speaks another dialect (flags ${clientFlags})`)

  const find = (name: string): Export | undefined => exports.find(({ name: own = '' }) => own === name)
  const agreed = (chosen: Export): Agreed => ({
    socket,
    input,
    chosen,
    structured: known.structured,
    allocation: known.allocationOf === (chosen.name ?? ''),
  })
  const reply = (option: number, type: number, data?: Uint8Array) =>
    written(socket, encodeOptionReply(option, type, data))

  const inform = async (option: number, data: Buffer): Promise<Export | undefined> => {
    const request = parseInfoRequest(data)
    const chosen = request && find(request.name)
    if (!request || !chosen) {
      await reply(option, request ? NBD_REP_ERR_UNKNOWN : NBD_REP_ERR_INVALID)
      return undefined
    }
    await reply(option, NBD_REP_INFO, encodeInfoExport(chosen.device.size, flagsOf(chosen, known.structured)))
    await reply(option, NBD_REP_INFO, encodeInfoBlockSize(1, chosen.preferredBlockSize ?? 4096, MAX_PAYLOAD))
    if (request.wanted.includes(NBD_INFO_NAME))
      await reply(option, NBD_REP_INFO, encodeInfoText(NBD_INFO_NAME, chosen.name ?? ''))
    if (request.wanted.includes(NBD_INFO_DESCRIPTION) && chosen.description !== undefined)
      await reply(option, NBD_REP_INFO, encodeInfoText(NBD_INFO_DESCRIPTION, chosen.description))
    await reply(option, NBD_REP_ACK)
    return chosen
  }

  const contexts = async (option: number, data: Buffer): Promise<void> => {
    const request = parseMetaRequest(data)
    const isSet = option === NBD_OPT_SET_META_CONTEXT
    if (isSet) known = { ...known, allocationOf: undefined }
    if (!request || !known.structured) return reply(option, NBD_REP_ERR_INVALID)
    if (!find(request.name)) return reply(option, NBD_REP_ERR_UNKNOWN)
    const { name, queries } = request
    const isAsked = isSet
      ? queries.includes(BASE_ALLOCATION)
      : queries.length === 0 || queries.includes(BASE_ALLOCATION) || queries.includes('base:')
    if (isAsked)
      await reply(option, NBD_REP_META_CONTEXT, encodeMetaContext(isSet ? ALLOCATION_ID : 0, BASE_ALLOCATION))
    if (isSet && isAsked) known = { ...known, allocationOf: name }
    await reply(option, NBD_REP_ACK)
  }

  const secure = async (option: number, data: Buffer): Promise<void> => {
    if (!startTls) return reply(option, NBD_REP_ERR_UNSUP)
    if (isSecure || data.length > 0) return reply(option, NBD_REP_ERR_INVALID)
    // What came in plain text behind the option was said by nobody knows whom.
    if (input.waiting > 0) throw new LiveError('USAGE', 'an NBD client went on in plain text after it asked for TLS')
    input.stop()
    await reply(option, NBD_REP_ACK)
    socket = await startTls(socket)
    onSocket(socket)
    input = inputOf(socket)
    isSecure = true
    known = withoutContexts
  }

  for (;;) {
    const head = await input.take(OPTION_SIZE)
    if (!head) return undefined
    const { option, length } = parseOption(head)
    if (length > MAX_OPTION)
      throw new LiveError('USAGE', `an NBD option with ${length} bytes of data`, { option, length })
    const data = await input.take(length)
    if (!data) return undefined
    if (option === NBD_OPT_ABORT) {
      // it may be gone already, as the protocol allows
      await reply(option, NBD_REP_ACK).catch(() => undefined)
      return undefined
    }
    if (option === NBD_OPT_STARTTLS) await secure(option, data)
    else if (option === NBD_OPT_EXPORT_NAME) {
      // the one option that has no reply for a refusal
      const name = parseText(data)
      const chosen = isSecure && name !== undefined ? find(name) : undefined
      if (!chosen) return undefined
      const noZeroes = (clientFlags & NBD_FLAG_NO_ZEROES) !== 0
      await written(socket, encodeExportName(chosen.device.size, flagsOf(chosen, known.structured), noZeroes))
      return agreed(chosen)
    } else if (!isSecure) await reply(option, NBD_REP_ERR_TLS_REQD)
    else if (option === NBD_OPT_GO || option === NBD_OPT_INFO) {
      const chosen = await inform(option, data)
      if (chosen && option === NBD_OPT_GO) return agreed(chosen)
    } else if (option === NBD_OPT_LIST) {
      if (data.length > 0) await reply(option, NBD_REP_ERR_INVALID)
      else {
        for (const { name = '', description = '' } of exports)
          await reply(option, NBD_REP_SERVER, Buffer.concat([encodeString(name), Buffer.from(description)]))
        await reply(option, NBD_REP_ACK)
      }
    } else if (option === NBD_OPT_STRUCTURED_REPLY) {
      if (data.length === 0) known = { ...known, structured: true }
      await reply(option, data.length === 0 ? NBD_REP_ACK : NBD_REP_ERR_INVALID)
    } else if (option === NBD_OPT_LIST_META_CONTEXT || option === NBD_OPT_SET_META_CONTEXT) await contexts(option, data)
    else await reply(option, NBD_REP_ERR_UNSUP)
  }
}
