import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll } from 'vitest'

/** What a server says of the file, and how it misbehaves. May be changed while it runs. */
export interface Served {
  bytes: Uint8Array
  etag?: string | undefined
  lastModified?: string | undefined
  ranges?: boolean
  ifRange?: boolean
  /** takes an answer over; false: answer as usual */
  before?: (request: IncomingMessage, response: ServerResponse, count: number) => boolean | undefined
  /** ends each connection after so many bytes of a body */
  cutAfter?: number | undefined
  headers?: Record<string, string> | undefined
}

export interface FileServer {
  readonly url: string
  readonly port: number
  /** ranges asked for, `-` where there was none */
  readonly asked: string[]
  readonly requests: IncomingMessage[]
  /** connections so far */
  connections: number
  close(): Promise<void>
}

const parse = (header: string | undefined, size: number): [number, number] | undefined => {
  const match = /^bytes=(\d+)-(\d*)$/.exec(header ?? '')
  if (!match) return undefined
  return [Number(match[1]), Math.min(size, match[2] ? Number(match[2]) + 1 : size)]
}

/** A web server in this process that gives one file by range, with faults on demand. Closed after the tests of the file. */
export const serveFile = async (
  served: Served,
  make: (listener: RequestListener) => Server = createServer,
): Promise<FileServer> => {
  const asked: string[] = []
  const requests: IncomingMessage[] = []
  const server = make((request, response) => {
    asked.push(request.headers.range ?? '-')
    requests.push(request)
    if (served.before?.(request, response, requests.length)) return
    const { bytes, etag, lastModified } = served
    if (etag) response.setHeader('etag', etag)
    if (lastModified) response.setHeader('last-modified', lastModified)
    for (const [key, value] of Object.entries(served.headers ?? {})) response.setHeader(key, value)
    const condition = request.headers['if-range']
    const holds =
      condition === undefined || (served.ifRange !== false && (condition === etag || condition === lastModified))
    const range = served.ranges === false || !holds ? undefined : parse(request.headers.range, bytes.length)
    if (range && range[0] >= bytes.length) {
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}` })
      response.end()
      return
    }
    const [from, to] = range ?? [0, bytes.length]
    if (range) response.setHeader('content-range', `bytes ${from}-${to - 1}/${bytes.length}`)
    response.setHeader('content-length', to - from)
    response.writeHead(range ? 206 : 200)
    if (served.cutAfter !== undefined && to - from > served.cutAfter) {
      response.write(bytes.subarray(from, from + served.cutAfter), () => response.destroy())
      return
    }
    response.end(bytes.subarray(from, to))
  })
  server.keepAliveTimeout = 60_000
  const handle = { connections: 0 }
  server.on('connection', () => handle.connections++)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const close = (): Promise<void> =>
    new Promise(resolve => {
      server.closeAllConnections()
      server.close(() => resolve())
    })
  afterAll(close)
  return Object.assign(handle, { url: `http://127.0.0.1:${port}/image.iso`, port, asked, requests, close })
}
