import { setMaxListeners } from 'node:events'
import type { AgentOptions } from 'node:https'
import { LiveError } from '../error.js'
import { checkRange, type Device } from './device.js'
import type { Timing } from './http/client.js'
import type { Session } from './http/session.js'
import { shownUrl } from './http/shown.js'

/** A file on a server, read by range. */
export interface HttpDevice extends Device {
  /** requests that went out so far, redirected and repeated ones too */
  readonly requests: number
  /** bytes of the file that came in so far */
  readonly bytesFetched: number
}

export interface HttpOptions {
  /** ends all requests: whoever reads gets CANCELLED */
  readonly signal?: AbortSignal | undefined
  /** of connections, such as `ca` */
  readonly agent?: AgentOptions | undefined
  readonly timing?: Partial<Timing> | undefined
}

const TIMING: Timing = { connectMs: 30_000, idleMs: 30_000, backoffMs: 250, attempts: 5 }

/** True for an address that `openHttp` takes. */
export const isHttpUrl = (text: string): boolean => /^https?:\/\//i.test(text) && URL.canParse(text)

/**
 * Opens a file on a web server for reading by range. What was read last is kept, up to 16 MiB; who reads in sequence
 * is read ahead of, up to 4 MiB. Connections that break are taken up again where they broke. A file that changes
 * meanwhile ends with IO, as far as the server tells its versions apart (ETag, Last-Modified, size).
 *
 * @param text  http or https address. A name and password in it become a header and are never shown, nor is a query.
 * @throws USAGE  it is no such address
 * @throws NOT_FOUND, REFUSED  no such file; a redirect from https to http
 * @throws UNSUPPORTED  the server gives no ranges, tells no size, or compresses
 * @throws IO  it can't be reached or answers with an error; reads end with IO as well
 * @throws CANCELLED  the signal was aborted
 * @see RFC 9110, section 14
 */
export const openHttp = async (text: string, { signal, agent, timing }: HttpOptions = {}): Promise<HttpDevice> => {
  // not by the error of `new URL`, which holds all of the address
  if (!isHttpUrl(text))
    throw new LiveError('USAGE', 'the address of an image starts with http:// or https:// and names a server')
  // Only here: most targets are files, and HTTP with TLS takes longer to load than all the rest.
  const [{ addressOf, openClient }, { openPages, PAGE }, { openSession }] = await Promise.all([
    import('./http/client.js'),
    import('./http/pages.js'),
    import('./http/session.js'),
  ])
  const original = addressOf(new URL(text))
  const name = shownUrl(original.url)
  const times = { ...TIMING, ...timing }
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  const abort = (): void => stop.abort()
  signal?.addEventListener('abort', abort)
  if (signal?.aborted) abort()
  const stopped = (): LiveError =>
    signal?.aborted
      ? new LiveError('CANCELLED', `reading ${name} was cancelled`, { device: name }, signal.reason)
      : new LiveError('IO', `${name} was closed`, { device: name })
  let requests = 0
  let bytesFetched = 0
  const client = openClient(times, () => requests++, agent)
  const close = async (): Promise<void> => {
    signal?.removeEventListener('abort', abort)
    stop.abort()
    client.close()
  }
  let session: Session
  try {
    const attempts = { name, timing: times, signal: stop.signal, stopped }
    session = await openSession(original, client, PAGE, count => (bytesFetched += count), attempts)
  } catch (error) {
    await close()
    throw error
  }
  const pages = openPages(session)
  const device: HttpDevice = {
    name,
    size: session.size,
    get requests() {
      return requests
    },
    get bytesFetched() {
      return bytesFetched
    },
    async read(offset, length) {
      checkRange(device, offset, length)
      if (stop.signal.aborted) throw stopped()
      return pages.read(offset, length)
    },
    close,
  }
  return device
}
