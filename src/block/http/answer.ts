import type { IncomingHttpHeaders } from 'node:http'
import { LiveError, unsupported } from '../../error.js'

/** What tells one version of a file on a server from another. */
export interface Version {
  /** bytes of the whole file */
  readonly size: number
  readonly etag: string | undefined
  readonly lastModified: string | undefined
}

/** Bytes of an answer in the whole file; `end` is exclusive. */
export interface AnsweredRange {
  readonly offset: number
  readonly end: number
  /** bytes of the whole file; undefined where the server says `*` */
  readonly total: number | undefined
}

const number = (digits: string | undefined): number | undefined => {
  const value = digits === undefined || digits === '*' ? undefined : Number(digits)
  return value === undefined || Number.isSafeInteger(value) ? value : Number.NaN
}

/**
 * Reads a Content-Range header; undefined where it is missing, no byte range, or says what can't be.
 *
 * @see RFC 9110, section 14.4
 */
export const parseContentRange = (value: string | undefined): AnsweredRange | undefined => {
  const match = /^bytes\s+(\d+)-(\d+)\/(\d+|\*)$/i.exec(value?.trim() ?? '')
  if (!match) return undefined
  const [offset, last, total] = [number(match[1])!, number(match[2])!, number(match[3])]
  if (!(last >= offset) || !Number.isSafeInteger(last + 1)) return undefined
  if (total !== undefined && !(total > last)) return undefined
  return { offset, end: last + 1, total }
}

/** The size in a `bytes *` / SIZE header of an answer 416. */
export const parseUnsatisfied = (value: string | undefined): number | undefined => {
  const total = number(/^bytes\s+\*\/(\d+)$/i.exec(value?.trim() ?? '')?.[1])
  return Number.isSafeInteger(total) ? total : undefined
}

/** Content-Length; undefined where it is missing or no number. */
export const parseLength = (headers: IncomingHttpHeaders): number | undefined => {
  const value = headers['content-length']
  return value !== undefined && /^\d+$/.test(value) ? number(value) : undefined
}

/** What an answer says of the file's version. */
export const versionOf = (headers: IncomingHttpHeaders, size: number): Version => ({
  size,
  etag: headers.etag,
  lastModified: headers['last-modified'],
})

const opaque = (etag: string): string => etag.replace(/^W\//, '')

/** True where both could be one version: what both say is equal. */
export const isSameVersion = (known: Version, now: Version): boolean => {
  if (known.size !== now.size) return false
  if (known.etag !== undefined && now.etag !== undefined) return opaque(known.etag) === opaque(now.etag)
  return known.lastModified === undefined || now.lastModified === undefined || known.lastModified === now.lastModified
}

/** The value of If-Range: a strong ETag, else the date; undefined where the server gave neither. @see RFC 9110, 13.1.5 */
export const ifRange = ({ etag, lastModified }: Version): string | undefined =>
  etag !== undefined && !etag.startsWith('W/') ? etag : lastModified

/** Statuses of a server that may answer otherwise in a moment. */
export const isPassing = (status: number): boolean => [408, 425, 429, 500, 502, 503, 504].includes(status)

/** The error of an answer that is none. */
export const statusError = (status: number, name: string): LiveError => {
  const data = { device: name, status }
  if (status === 404 || status === 410)
    return new LiveError('NOT_FOUND', `${name}: the server has no such file (${status})`, data)
  if (status === 401)
    return new LiveError(
      'IO',
      `${name}: the server wants a name and password (401): put them in the address, as https://NAME:PASSWORD@server/…`,
      data,
    )
  if (status === 403)
    return new LiveError(
      'IO',
      `${name}: the server does not give this file to you (403); an address that expires may have`,
      data,
    )
  if (status === 407) return new LiveError('IO', `${name}: a proxy on the way wants a name and password (407)`, data)
  return new LiveError('IO', `${name}: the server answers with status ${status}`, data)
}

/** The error of a file that became another one. */
export const changed = (name: string, what: string): LiveError =>
  new LiveError('IO', `${name}: the file on the server changed while it was read (${what}): start again`, {
    device: name,
  })

/** @throws UNSUPPORTED  the answer is compressed, though asked not to be */
export const checkPlain = (headers: IncomingHttpHeaders, name: string): void => {
  const encoding = headers['content-encoding']?.trim().toLowerCase()
  if (encoding !== undefined && encoding !== '' && encoding !== 'identity')
    throw unsupported(
      'compressed answer of a server',
      name,
      `the server sends the file compressed (${encoding}), so its bytes can't be addressed: download it first`,
    )
}
