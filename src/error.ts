/** What went wrong, in the words of the design: a bad image, a bad request, a bad world. */
export type ErrorCode =
  | 'CORRUPT'
  | 'UNSUPPORTED'
  | 'USAGE'
  | 'NOT_FOUND'
  | 'OUT_OF_RANGE'
  | 'READ_ONLY'
  | 'REFUSED'
  | 'IO'
  | 'NO_SPACE'
  | 'CANCELLED'

/** Facts about an error; every value is JSON-able. CORRUPT always carries device, offset, field, expected and found. */
export type ErrorData = Readonly<Record<string, string | number | boolean | null | readonly string[]>>

const BRAND = Symbol.for('liveos.LiveError')

/** The one error class. `message` is a sentence for a person; `data` is for programs. */
export class LiveError extends Error {
  readonly code: ErrorCode
  readonly data: ErrorData
  readonly [BRAND] = true

  constructor(code: ErrorCode, message: string, data: ErrorData = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'LiveError'
    this.code = code
    this.data = data
  }

  toJSON(): { code: ErrorCode; message: string; data: ErrorData; cause?: unknown } {
    const { code, message, data, cause } = this
    if (cause === undefined) return { code, message, data }
    return { code, message, data, cause: isLiveError(cause) ? cause.toJSON() : String(cause) }
  }
}

/** True for a LiveError of this or of another copy of the library. */
export const isLiveError = (error: unknown): error is LiveError =>
  typeof error === 'object' && error !== null && BRAND in error

/** What comes of it, or undefined where what it looks for is not there. @throws  all errors but NOT_FOUND */
export const orMissing = async <T>(work: Promise<T>): Promise<T | undefined> => {
  try {
    return await work
  } catch (error) {
    if (isLiveError(error) && error.code === 'NOT_FOUND') return undefined
    throw error
  }
}

/** A value on a medium that can't be right: where it stands, what it is, what it should be. */
export interface Corruption {
  readonly device: string
  /** byte offset of the field in the device */
  readonly offset: number
  readonly field: string
  readonly expected: string | number
  readonly found: string | number
}

/** Builds the CORRUPT error of a field. */
export const corrupt = (c: Corruption, cause?: unknown): LiveError =>
  new LiveError(
    'CORRUPT',
    `${c.device}: ${c.field} at byte ${c.offset} is ${c.found}, expected ${c.expected}`,
    { ...c },
    cause,
  )

/**
 * Builds the UNSUPPORTED error of a feature; docs/LIMITS.md lists every name used here.
 *
 * @param sentence  what to do about it, where there is more to say than the name
 */
export const unsupported = (
  feature: string,
  where: string,
  sentence = `${feature} is not supported`,
  cause?: unknown,
): LiveError => new LiveError('UNSUPPORTED', `${where}: ${sentence}`, { feature, where }, cause)

/** Turns an error of the system into a LiveError: a full medium is NO_SPACE, everything else IO. Ours pass unchanged. */
export const systemError = (error: unknown, doing: string): LiveError => {
  if (isLiveError(error)) return error
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : ''
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG')
    return new LiveError(
      'NO_SPACE',
      `${doing}: ${code === 'EFBIG' ? 'the file is too large for the filesystem' : 'no space left'}`,
      { doing },
      error,
    )
  if (code === 'ENOENT') return new LiveError('NOT_FOUND', `${doing}: no such file or directory`, { doing }, error)
  if (code === 'EROFS' || code === 'EACCES' || code === 'EPERM')
    return new LiveError(
      'READ_ONLY',
      `${doing}: ${code === 'EROFS' ? 'the filesystem is read-only' : 'permission denied'}`,
      { doing, errno: code },
      error,
    )
  return new LiveError(
    'IO',
    `${doing}: ${error instanceof Error ? error.message : String(error)}`,
    { doing, errno: code },
    error,
  )
}

/** Our own mistakes: never caught, never a message for the user to act on. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`liveos bug: ${message}`)
}
