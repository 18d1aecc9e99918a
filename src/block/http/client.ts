import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { type AgentOptions, Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { LiveError } from '../../error.js'
import { shownUrl } from './shown.js'

/** Times in milliseconds, and how often. */
export interface Timing {
  /** until a connection stands */
  readonly connectMs: number
  /** without a byte from the server */
  readonly idleMs: number
  /** before the second attempt; doubled for each further one */
  readonly backoffMs: number
  /** attempts one behind the other that bring no byte */
  readonly attempts: number
}

/** Where to ask: the address without name and password, and the header made of those. */
export interface Address {
  readonly url: URL
  readonly authorization: string | undefined
}

/** An answer whose body was not read yet. */
export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** who answered, behind all redirects */
  readonly from: Address
  /** gives the body's pieces in turn. @throws  what cut it; also where it is shorter than the server said */
  read(sink: (piece: Uint8Array) => void): Promise<void>
  /** the body is not wanted */
  drop(): void
}

export interface Client {
  /** Asks, and follows redirects. @throws REFUSED, IO  redirects that can't be followed; and the system's errors */
  get(address: Address, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Answer>
  close(): void
}

const MAX_REDIRECTS = 10
const CONNECTIONS = 6

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Takes name and password out of an address. */
export const addressOf = (given: URL): Address => {
  const url = new URL(given)
  const { username, password } = url
  url.username = ''
  url.password = ''
  url.hash = ''
  const pair = `${decoded(username)}:${decoded(password)}`
  return { url, authorization: pair === ':' ? undefined : `Basic ${Buffer.from(pair).toString('base64')}` }
}

const timedOut = (url: URL, doing: string, ms: number): Error =>
  Object.assign(new Error(`${url.host} ${doing} for ${ms / 1000} s`), { code: 'ETIMEDOUT' })

/** Where a redirect leads. @throws IO, REFUSED */
const redirected = (from: Address, status: number, location: string | undefined): Address => {
  const shown = shownUrl(from.url)
  let to: Address
  try {
    to = addressOf(new URL(location ?? 'none:', from.url))
  } catch {
    // the cause would show the whole address
    throw new LiveError('IO', `${shown}: the server redirects (${status}) to an address that is none`, { status })
  }
  if (location === undefined || !/^https?:$/.test(to.url.protocol))
    throw new LiveError('IO', `${shown}: the server redirects (${status}) to no http address`, { status })
  if (from.url.protocol === 'https:' && to.url.protocol === 'http:')
    throw new LiveError(
      'REFUSED',
      `${shown}: the server redirects to ${shownUrl(to.url)}, where the bytes could be changed on their way: ask for that address yourself, if that is wanted`,
      { status },
    )
  const sameOrigin = from.url.origin === to.url.origin
  return { url: to.url, authorization: to.authorization ?? (sameOrigin ? from.authorization : undefined) }
}

/**
 * Asks servers over connections that are kept.
 *
 * @param onRequest  called for every request that goes out, redirected ones too
 */
export const openClient = (timing: Timing, onRequest: () => void, options: AgentOptions = {}): Client => {
  const kept = { keepAlive: true, maxSockets: CONNECTIONS, ...options }
  const agents = { 'http:': new HttpAgent(kept), 'https:': new HttpsAgent(kept) }

  const ask = ({ url, authorization }: Address, headers: Readonly<Record<string, string>>, signal: AbortSignal) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      onRequest()
      const secure = url.protocol === 'https:'
      const request = (secure ? httpsRequest : httpRequest)(url, {
        agent: agents[secure ? 'https:' : 'http:'],
        signal,
        headers: {
          'user-agent': 'liveos',
          'accept-encoding': 'identity',
          ...(authorization === undefined ? {} : { authorization }),
          ...headers,
        },
      })
      let timer: NodeJS.Timeout | undefined
      const limit = (ms: number, doing: string): void => {
        clearTimeout(timer)
        timer = setTimeout(() => request.destroy(timedOut(url, doing, ms)), ms)
      }
      // from here on, and not while it waits for one of the connections
      request.on('socket', socket => {
        if (!socket.connecting) return limit(timing.idleMs, 'sent nothing')
        limit(timing.connectMs, 'did not take a connection')
        socket.once(secure ? 'secureConnect' : 'connect', () => limit(timing.idleMs, 'sent nothing'))
      })
      request.on('response', response => {
        clearTimeout(timer)
        resolve(response)
      })
      request.on('error', error => {
        clearTimeout(timer)
        reject(error)
      })
      request.on('close', () => clearTimeout(timer))
      request.end()
    })

  const readBody = (response: IncomingMessage, url: URL, sink: (piece: Uint8Array) => void) =>
    new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => response.destroy(timedOut(url, 'sent nothing', timing.idleMs)), timing.idleMs)
      response.on('data', (piece: Buffer) => {
        timer.refresh()
        try {
          sink(piece)
        } catch (error) {
          reject(error)
          response.destroy()
        }
      })
      response.on('error', reject)
      response.on('end', () => resolve())
      response.on('close', () => {
        clearTimeout(timer)
        // settled already where the end was seen
        reject(Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' }))
      })
    })

  return {
    async get(address, headers, signal) {
      let from = address
      for (let hops = 0; ; hops++) {
        const response = await ask(from, headers, signal)
        const status = response.statusCode ?? 0
        const drop = (): void => {
          response.on('error', () => {})
          response.destroy()
        }
        if (![301, 302, 303, 307, 308].includes(status))
          return { status, headers: response.headers, from, drop, read: sink => readBody(response, from.url, sink) }
        drop()
        if (hops === MAX_REDIRECTS)
          throw new LiveError(
            'IO',
            `${shownUrl(address.url)}: more than ${MAX_REDIRECTS} redirects, or a loop of them`,
            {
              status,
            },
          )
        from = redirected(from, status, response.headers.location)
      }
    },
    close() {
      for (const agent of Object.values(agents)) agent.destroy()
    },
  }
}
