import { connect, type Socket } from 'node:net'

/** Numbers of the NBD protocol, written by hand from its document and not taken from what is tested. */
export const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff])
export const u32 = (value: number): Buffer => Buffer.from((value >>> 0).toString(16).padStart(8, '0'), 'hex')
export const u64 = (value: number | bigint): Buffer => Buffer.from(BigInt(value).toString(16).padStart(16, '0'), 'hex')
export const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex')
export const text = (value: string): Buffer => Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)])

/** "IHAVEOPT" */
const OPT = hex('49 48 41 56 45 4f 50 54')

/** An option of a client. */
export const option = (number: number, ...data: Buffer[]): Buffer => {
  const all = Buffer.concat(data)
  return Buffer.concat([OPT, u32(number), u32(all.length), all])
}

/** A request of a client. */
export const request = (
  type: number,
  cookie: number | bigint,
  offset: number | bigint,
  length: number,
  flags = 0,
): Buffer => Buffer.concat([hex('25 60 95 13'), u16(flags), u16(type), u64(cookie), u64(offset), u32(length)])

/** The other end of a server's socket, byte by byte. */
export interface Peer {
  readonly socket: Socket
  send(...parts: Buffer[]): void
  /** exactly so many bytes; fails where the server ends before */
  take(length: number): Promise<Buffer>
  /** bytes that came and were not taken, once the server has ended the connection */
  rest(): Promise<Buffer>
  close(): void
}

/** Connects; nothing is said yet. */
export const peer = async (path: string | { host: string; port: number }): Promise<Peer> => {
  const socket = typeof path === 'string' ? connect(path) : connect(path)
  let got = Buffer.alloc(0)
  let ended = false
  let wake: () => void = () => undefined
  socket.on('data', chunk => {
    got = Buffer.concat([got, chunk])
    wake()
  })
  for (const event of ['end', 'close', 'error'] as const)
    socket.on(event, () => {
      ended = true
      wake()
    })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  const more = (): Promise<void> =>
    new Promise(resolve => {
      wake = resolve
    })
  return {
    socket,
    send: (...parts) => void socket.write(Buffer.concat(parts)),
    async take(length) {
      while (got.length < length) {
        if (ended) throw new Error(`the server ended after ${got.length} of ${length} bytes`)
        await more()
      }
      const taken = got.subarray(0, length)
      got = got.subarray(length)
      return taken
    },
    async rest() {
      while (!ended) await more()
      return got
    },
    close: () => void socket.destroy(),
  }
}

/** A reply to an option. */
export const optionReply = async (client: Peer): Promise<{ option: number; type: number; data: Buffer }> => {
  const head = await client.take(20)
  if (!head.subarray(0, 8).equals(hex('00 03 e8 89 04 55 65 a9'))) throw new Error('no reply to an option')
  return { option: head.readUInt32BE(8), type: head.readUInt32BE(12), data: await client.take(head.readUInt32BE(16)) }
}

/** All replies to an option up to the one that ends them. */
export const optionReplies = async (client: Peer): Promise<{ type: number; data: Buffer }[]> => {
  const all: { type: number; data: Buffer }[] = []
  for (;;) {
    const { type, data } = await optionReply(client)
    all.push({ type, data })
    if (type === 1 || type >= 2 ** 31) return all
  }
}

/** One reply of the transmission phase: a simple one, or a chunk. Of a simple one without an error `length` bytes follow. */
export const reply = async (
  client: Peer,
  length = 0,
): Promise<
  | { kind: 'simple'; error: number; cookie: bigint; data: Buffer }
  | { kind: 'chunk'; done: boolean; type: number; cookie: bigint; data: Buffer }
> => {
  const magic = await client.take(4)
  if (magic.equals(hex('67 44 66 98'))) {
    const rest = await client.take(12)
    const error = rest.readUInt32BE(0)
    const data = await client.take(error === 0 ? length : 0)
    return { kind: 'simple', error, cookie: rest.readBigUInt64BE(4), data }
  }
  if (!magic.equals(hex('66 8e 33 ef'))) throw new Error(`no reply: ${magic.toString('hex')}`)
  const rest = await client.take(16)
  return {
    kind: 'chunk',
    done: (rest.readUInt16BE(0) & 1) === 1,
    type: rest.readUInt16BE(2),
    cookie: rest.readBigUInt64BE(4),
    data: await client.take(rest.readUInt32BE(12)),
  }
}

/** Speaks the greeting and options up to the transmission phase of the export that has no name. */
export const chosen = async (
  path: string | { host: string; port: number },
  { structured = true, allocation = structured }: { structured?: boolean; allocation?: boolean } = {},
): Promise<{ client: Peer; size: number; flags: number }> => {
  const client = await peer(path)
  await client.take(18)
  client.send(u32(3))
  if (structured) {
    client.send(option(8))
    await optionReplies(client)
  }
  if (allocation) {
    client.send(option(10, text(''), u32(1), text('base:allocation')))
    await optionReplies(client)
  }
  client.send(option(7, text(''), u16(0)))
  const info = (await optionReplies(client)).find(({ type, data }) => type === 3 && data.readUInt16BE(0) === 0)!.data
  return { client, size: Number(info.readBigUInt64BE(2)), flags: info.readUInt16BE(10) }
}
