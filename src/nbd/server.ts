import { createServer, type Socket } from 'node:net'
import { isLiveError, LiveError, systemError } from '../error.js'
import { canWrite, type Export, isWritableExport } from './export.js'
import { negotiate } from './negotiate.js'
import { type TlsIdentity, tlsStarter } from './tls.js'
import { transmit } from './transmit.js'

/** Where a server listens: a path that is free, or an address of this computer (port 0: any that is free). */
export type Place = { readonly path: string } | { readonly host: string; readonly port: number }

export interface ServerOptions {
  readonly place: Place
  /** with it, clients that start no TLS get nothing */
  readonly tls?: TlsIdentity | undefined
  readonly maxConnections?: number
  /** milliseconds from a client's coming until it has chosen an export */
  readonly handshakeTimeout?: number
  /** milliseconds that `close` waits for what is under way */
  readonly closeTimeout?: number
  /** how many clients use an export now; called at each change */
  readonly onClients?: (count: number) => void
  /** told of what went wrong with a device or a client; the server goes on */
  readonly onFailure?: (error: unknown) => void
}

/** A server that runs until it is closed. */
export interface NbdServer {
  /** how clients name the first export */
  readonly uri: string
  readonly place: Place
  readonly clients: number
  /**
   * Lets nobody in any more, answers what was asked, ends the connections, flushes. The exports' devices stay open.
   *
   * @throws NO_SPACE, IO  the flush failed
   */
  close(): Promise<void>
}

interface Connection {
  socket: Socket
  /** asks it to end; before it has an export, ends it */
  stop: () => void
  ended: Promise<void>
}

const MOST_CONNECTIONS = 16
const HANDSHAKE_MS = 10_000
const CLOSE_MS = 5_000

/** The address by which clients name an export. @see https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md */
export const uriOf = (place: Place, name = '', tls = false): string => {
  const scheme = tls ? 'nbds' : 'nbd'
  const path = encodeURIComponent(name)
  if ('path' in place)
    return `${scheme}+unix:///${path}?socket=${encodeURIComponent(place.path).replaceAll('%2F', '/')}`
  const host = place.host.includes(':') ? `[${place.host}]` : place.host
  return `${scheme}://${host}:${place.port}/${path}`
}

/**
 * Starts an NBD server. It keeps the process alive until it is closed.
 *
 * @throws REFUSED  the place is taken; USAGE  certificate and key are no good; IO
 * @see https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 */
export const openServer = async (
  exports: readonly Export[],
  {
    place,
    tls,
    maxConnections = MOST_CONNECTIONS,
    handshakeTimeout = HANDSHAKE_MS,
    closeTimeout = CLOSE_MS,
    onClients = () => undefined,
    onFailure = () => undefined,
  }: ServerOptions,
): Promise<NbdServer> => {
  const startTls = tls && tlsStarter(tls)
  const connections = new Set<Connection>()
  let clients = 0
  let closing = false
  const count = (change: number): void => {
    clients += change
    onClients(clients)
  }

  const serve = async (connection: Connection): Promise<void> => {
    const watch = (socket: Socket): void => {
      connection.socket = socket
      // a client that vanishes is told by its end; without a listener the process would end too
      socket.on('error', () => undefined)
    }
    watch(connection.socket)
    const timer = setTimeout(() => connection.socket.destroy(), handshakeTimeout)
    try {
      const agreed = await negotiate(connection.socket, { exports, startTls, onSocket: watch })
      clearTimeout(timer)
      if (!agreed || closing) return
      const { socket, input, chosen, structured, allocation } = agreed
      const { device, preferredBlockSize } = chosen
      connection.stop = input.stop
      count(1)
      try {
        const writable = isWritableExport(chosen)
        await transmit(socket, input, { device, writable, preferredBlockSize, structured, allocation, onFailure })
      } finally {
        count(-1)
      }
    } catch (error) {
      // what the system says of a connection is no news: clients come and go
      if (isLiveError(error) ? error.code !== 'IO' : !(error instanceof Error && 'code' in error)) onFailure(error)
      connection.socket.destroy()
    } finally {
      clearTimeout(timer)
      connection.socket.destroySoon()
    }
  }

  const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => {
    if (closing || connections.size >= maxConnections) {
      socket.destroy()
      return
    }
    const connection: Connection = { socket, stop: () => void connection.socket.destroy(), ended: Promise.resolve() }
    connections.add(connection)
    connection.ended = serve(connection).finally(() => connections.delete(connection))
  })

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const where = 'path' in place ? place.path : `${place.host} port ${place.port}`
      reject(
        error.code === 'EADDRINUSE'
          ? new LiveError('REFUSED', `${where} is taken already`, { place: where }, error)
          : systemError(error, `listening at ${where}`),
      )
    })
    server.listen('path' in place ? { path: place.path } : { host: place.host, port: place.port }, resolve)
  })
  server.removeAllListeners('error')
  server.on('error', onFailure)
  const address = server.address()
  const bound: Place =
    'path' in place || address === null || typeof address === 'string' ? place : { ...place, port: address.port }

  let closed: Promise<void> | undefined
  const close = async (): Promise<void> => {
    closing = true
    server.close()
    const all = [...connections]
    for (const { stop } of all) stop()
    let timer: NodeJS.Timeout | undefined
    const patience = new Promise<void>(resolve => {
      timer = setTimeout(resolve, closeTimeout)
    })
    await Promise.race([Promise.all(all.map(({ ended }) => ended)), patience])
    clearTimeout(timer)
    for (const { socket } of all) socket.destroy()
    // a write that was under way has ended by now, or nobody was told that it did
    for (const { device, readOnly = false } of exports) if (!readOnly && canWrite(device)) await device.flush()
  }
  return {
    uri: uriOf(bound, exports[0]?.name, tls !== undefined),
    place: bound,
    get clients() {
      return clients
    },
    close: () => (closed ??= close()),
  }
}
