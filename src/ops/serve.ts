import { readFile } from 'node:fs/promises'
import { isLiveError, LiveError, systemError } from '../error.js'
import type { Finding } from '../finding.js'
import { type SocketPlace, socketPlace } from '../host/socket-place.js'
import { type NbdServer, openServer, uriOf } from '../nbd/server.js'
import type { ExportView } from './serve-view.js'

/** Where a view is served, and to whom. */
export interface ServeOptions {
  /** path of the Unix socket, in a temporary directory of its own if left out */
  readonly socket?: string | undefined
  /** TCP in the place of a Unix socket; 0: any port that is free */
  readonly port?: number | undefined
  /** address for TCP, 127.0.0.1 if left out: nobody but this computer */
  readonly bind?: string | undefined
  /** paths of PEM files; with `ca` clients need a certificate of that authority */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string | undefined } | undefined
  /** stop once the last client has gone */
  readonly once?: boolean | undefined
  readonly description?: string | undefined
}

/** How serving ended. */
export interface ServeOutcome {
  readonly verb: 'serve'
  readonly uri: string
  /** clients that used the view */
  readonly clients: number
  /** chunks that the overlay or scratch store holds now, and how many bytes they are; null where nothing could be written */
  readonly store: { readonly chunks: number; readonly bytes: number; readonly full: boolean } | null
  readonly findings: readonly Finding[]
}

/** A view that is being served. */
export interface Serving {
  readonly uri: string
  /** undefined with TCP */
  readonly socket: string | undefined
  /** bytes */
  readonly size: number
  /** settles when it was stopped, with `once` also after the last client. @throws NO_SPACE, IO  the last flush failed */
  readonly ended: Promise<ServeOutcome>
  /** Answers what was asked, flushes and closes the view. @throws NO_SPACE, IO  the last flush failed */
  stop(): Promise<ServeOutcome>
}

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/

/**
 * @throws USAGE  a socket and a port; writing offered to other computers without knowing whom
 */
const checkPlace = ({ socket, port, bind, tls }: ServeOptions, canWrite: boolean): void => {
  if (socket !== undefined && (port !== undefined || bind !== undefined))
    throw new LiveError('USAGE', 'name either a path for a Unix socket or a port, not both')
  if (bind !== undefined && port === undefined) throw new LiveError('USAGE', 'an address needs a port beside it')
  if (port !== undefined && !(Number.isInteger(port) && port >= 0 && port < 65536))
    throw new LiveError('USAGE', `${port} is no port`)
  if (bind !== undefined && !LOOPBACK.test(bind) && canWrite && !tls?.ca)
    throw new LiveError(
      'USAGE',
      `at ${bind} other computers could write to it: that needs TLS and an authority for the clients' certificates (--tls-ca)`,
    )
}

const textOf = async (path: string): Promise<string> => {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw systemError(error, `reading ${path}`)
  }
}

/** What clients met, once for each kind. */
const failureFindings = (name: string, failures: ReadonlyMap<string, number>): Finding[] =>
  [...failures].map(([message, count]) => ({
    code: 'REQUEST_FAILED',
    severity: 'warning',
    where: name,
    message: `${message}${count > 1 ? ` (${count} times)` : ''}`,
  }))

/** Programs that look first and then connect anew are one client. */
const REUNION_MS = 500

/** Sentences of failures that are kept at most. */
const MOST_KEPT = 20

/**
 * Serves a view by NBD until it is stopped. The view is closed with it, also where this throws.
 *
 * @throws USAGE, REFUSED  the place is taken; READ_ONLY, NOT_FOUND, IO
 */
export const serveView = async (view: ExportView, options: ServeOptions): Promise<Serving> => {
  const { port, bind = '127.0.0.1', tls, once = false } = options
  const { device, snapshot, preferredBlockSize } = view
  const failures = new Map<string, number>()
  let clients = 0
  let settle: (result: Promise<ServeOutcome>) => void = () => undefined
  const ended = new Promise<ServeOutcome>(resolve => (settle = resolve))
  ended.catch(() => undefined)

  let place: SocketPlace | undefined
  let server: NbdServer | undefined
  let stopping: Promise<ServeOutcome> | undefined
  const finish = async (): Promise<ServeOutcome> => {
    clearTimeout(leaving)
    try {
      await server?.close()
    } finally {
      await place?.remove()
      await view.close()
    }
    const store = snapshot && {
      chunks: snapshot.store.exceptions.count,
      bytes: snapshot.store.exceptions.count * snapshot.store.chunkSize,
      full: snapshot.store.full,
    }
    const findings = [...view.findings, ...failureFindings(device.name, failures)]
    return { verb: 'serve', uri, clients, store: store ?? null, findings }
  }
  const stop = (): Promise<ServeOutcome> => {
    stopping ??= finish()
    settle(stopping)
    return stopping
  }

  let uri = ''
  let now = 0
  let leaving: NodeJS.Timeout | undefined
  try {
    checkPlace(options, snapshot !== undefined)
    const identity = tls && {
      cert: await textOf(tls.cert),
      key: await textOf(tls.key),
      ca: tls.ca === undefined ? undefined : await textOf(tls.ca),
    }
    place = port === undefined ? await socketPlace(options.socket) : undefined
    server = await openServer([{ device, preferredBlockSize, description: options.description ?? device.name }], {
      place: place ? { path: place.listenAt } : { host: bind, port: port ?? 0 },
      tls: identity,
      onClients(count) {
        if (count > now) clients++
        now = count
        clearTimeout(leaving)
        if (once && count === 0) leaving = setTimeout(() => void stop().catch(() => undefined), REUNION_MS)
      },
      onFailure(error) {
        const message = error instanceof Error ? error.message : String(error)
        if (failures.has(message) || failures.size < MOST_KEPT) failures.set(message, (failures.get(message) ?? 0) + 1)
        if (!isLiveError(error)) process.emitWarning(error instanceof Error ? error : message)
      },
    })
    await place?.publish()
    uri = place ? uriOf({ path: place.path }, '', tls !== undefined) : server.uri
  } catch (error) {
    await finish().catch(() => undefined)
    throw error
  }
  return { uri, socket: place?.path, size: device.size, ended, stop }
}
