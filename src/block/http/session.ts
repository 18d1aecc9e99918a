import { isLiveError, LiveError, unsupported } from '../../error.js'
import {
  changed,
  checkPlain,
  ifRange,
  isPassing,
  isSameVersion,
  parseContentRange,
  parseLength,
  parseUnsatisfied,
  statusError,
  type Version,
  versionOf,
} from './answer.js'
import type { Address, Answer, Client } from './client.js'
import { type Attempts, Passing, trying, unreachable } from './retry.js'

/** One file on a server, in one version. */
export interface Session {
  readonly size: number
  /** the first bytes, which came with the question for the size */
  readonly first: Uint8Array
  /**
   * Fetches a range; `sink` takes its bytes in order.
   *
   * @throws IO  the server can't be reached, answers wrongly, or has another version now
   */
  fetch(offset: number, length: number, sink: (piece: Uint8Array) => void): Promise<void>
}

const MAX_RETRY_AFTER_S = 30

const retryAfter = ({ headers }: Answer): number | undefined => {
  const seconds = Number(headers['retry-after'] ?? Number.NaN)
  return seconds >= 0 ? Math.min(seconds, MAX_RETRY_AFTER_S) * 1000 : undefined
}

/** Errors that a second attempt right after the first would meet again. */
const isHopeless = (error: unknown): boolean =>
  error instanceof Error &&
  'code' in error &&
  /^(ENOTFOUND|ECONNREFUSED|ERR_|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HPE_|EPROTO)/.test(String(error.code))

/** Asks for the first bytes, and so for size, version and whether there are ranges. @throws as `openHttp` */
export const openSession = async (
  original: Address,
  client: Client,
  firstLength: number,
  onBytes: (count: number) => void,
  attempts: Attempts,
): Promise<Session> => {
  const { name, signal, stopped } = attempts
  /** who answered last: a mirror is stayed with, as another one's file may differ */
  let current = original
  let version: Version | undefined
  let honoursIfRange = true

  const ask = async (offset: number, end: number): Promise<{ answer: Answer; condition: string | undefined }> => {
    const condition = version && honoursIfRange ? ifRange(version) : undefined
    const asked = current
    let answer: Answer
    try {
      answer = await client.get(
        asked,
        { range: `bytes=${offset}-${end - 1}`, ...(condition === undefined ? {} : { 'if-range': condition }) },
        signal,
      )
    } catch (error) {
      if (signal.aborted) throw stopped()
      if (isLiveError(error)) throw error
      if (!version && isHopeless(error)) throw unreachable(name, error)
      throw new Passing('no answer', { cause: error })
    }
    const { status } = answer
    if (status === 200 || status === 206 || status === 416) {
      current = answer.from
      return { answer, condition }
    }
    answer.drop()
    const last = statusError(status, name)
    if (isPassing(status)) throw new Passing(`status ${status}`, { last, pauseMs: retryAfter(answer) })
    if (asked === original) throw last
    // the address that was redirected to may have expired
    current = original
    throw new Passing(`status ${status}`, { last, pauseMs: 0 })
  }

  /** Checks that an answer is the asked range of the known version. */
  const check = (
    { headers, status }: Answer,
    known: Version,
    condition: string | undefined,
    offset: number,
    end: number,
  ) => {
    const wrong = (found: string) =>
      new LiveError('IO', `${name}: asked for bytes ${offset} to ${end}, the server answers with ${found}`, {
        device: name,
        offset,
        end,
        found,
      })
    if (status === 416) throw changed(name, 'it is shorter now')
    if (status === 200) {
      if (!isSameVersion(known, versionOf(headers, parseLength(headers) ?? known.size)))
        throw changed(name, 'another version')
      if (condition === undefined) throw wrong('all of the file')
      // The same file and still no range: a server that takes no If-Range. Versions are compared here in any case.
      honoursIfRange = false
      throw new Passing('no range with If-Range', { pauseMs: 0 })
    }
    checkPlain(headers, name)
    const range = parseContentRange(headers['content-range'])
    if (!range) throw wrong(headers['content-range'] ?? headers['content-type'] ?? 'no Content-Range')
    const now = versionOf(headers, range.total ?? known.size)
    if (!isSameVersion(known, now)) throw changed(name, now.size === known.size ? 'another version' : 'another size')
    if (range.offset !== offset || range.end !== end) throw wrong(`bytes ${range.offset} to ${range.end}`)
    const length = parseLength(headers)
    if (length !== undefined && length !== end - offset) throw wrong(`${length} bytes`)
  }

  /** Reads a body that must have `length` bytes. */
  const take = async (answer: Answer, length: number, sink: (piece: Uint8Array) => void): Promise<void> => {
    let done = 0
    const wrong = (found: string) =>
      new LiveError('IO', `${name}: asked for ${length} bytes, the server sends ${found}`, { device: name })
    try {
      await answer.read(piece => {
        if (done + piece.length > length) throw wrong('more')
        done += piece.length
        onBytes(piece.length)
        sink(piece)
      })
    } catch (error) {
      if (signal.aborted) throw stopped()
      if (isLiveError(error)) throw error
      throw new Passing('cut', { cause: error })
    }
    if (done < length) throw wrong(`${done}`)
  }

  const fetch = (offset: number, length: number, sink: (piece: Uint8Array) => void): Promise<void> => {
    let done = 0
    const end = offset + length
    const attempt = async (): Promise<void> => {
      const at = offset + done
      const { answer, condition } = await ask(at, end)
      try {
        check(answer, version!, condition, at, end)
        await take(answer, end - at, piece => {
          done += piece.length
          sink(piece)
        })
      } catch (error) {
        answer.drop()
        throw error
      }
    }
    return trying(attempts, attempt, () => done)
  }

  /** The answer to the first question: the version, and how many bytes come. */
  const parseFirst = ({ headers, status }: Answer): { found: Version; length: number } => {
    checkPlain(headers, name)
    const empty =
      status === 416 ? parseUnsatisfied(headers['content-range']) === 0 : status === 200 && parseLength(headers) === 0
    if (empty) return { found: versionOf(headers, 0), length: 0 }
    if (status === 416) throw statusError(status, name)
    if (status === 200)
      throw unsupported(
        'server without ranges',
        name,
        'the server gives files only as a whole and not in parts: download it first, then open the downloaded file',
      )
    const range = parseContentRange(headers['content-range'])
    const length = Math.min(firstLength, range?.total ?? firstLength)
    if (range?.offset !== 0 || (range.total !== undefined && range.end !== length))
      throw new LiveError(
        'IO',
        `${name}: asked for the first ${length} bytes, the server answers with ${headers['content-range'] ?? 'no Content-Range'}`,
        { device: name },
      )
    if (range.total === undefined)
      throw unsupported(
        'server that does not tell the size',
        name,
        'the server does not tell how large the file is: download it first, then open the downloaded file',
      )
    return { found: versionOf(headers, range.total), length }
  }

  const open = async (): Promise<Uint8Array> => {
    const { answer } = await ask(0, firstLength)
    try {
      const { found, length } = parseFirst(answer)
      const pieces: Uint8Array[] = []
      if (length > 0) await take(answer, length, piece => pieces.push(piece))
      else answer.drop()
      version = found
      return Buffer.concat(pieces)
    } catch (error) {
      answer.drop()
      throw error
    }
  }

  const first = await trying(attempts, open, () => 0)
  return { size: version!.size, first, fetch }
}
