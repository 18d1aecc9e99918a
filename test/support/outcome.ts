import { expect } from 'vitest'
import { type ErrorCode, isLiveError, type LiveError } from '../../src/error.js'

/** The LiveError that a promise fails with; any other end fails the test. */
export const failure = async (promise: Promise<unknown>, code?: ErrorCode): Promise<LiveError> => {
  let value: unknown
  try {
    value = await promise
  } catch (error) {
    if (!isLiveError(error)) throw error
    if (code) expect(error.code, error.message).toBe(code)
    return error
  }
  throw new Error(`expected ${code ?? 'a LiveError'}, got ${String(value)}`)
}

/** A value or the LiveError in its place; any other error fails the test. */
export const valueOrFailure = async <T>(promise: Promise<T>): Promise<T | LiveError> => {
  try {
    return await promise
  } catch (error) {
    if (!isLiveError(error)) throw error
    return error
  }
}

/** The same bytes, told quickly and without printing megabytes. */
export const sameBytes = (actual: Uint8Array, expected: Uint8Array): void => {
  if (Buffer.compare(actual, expected) === 0) return
  expect(actual.length).toBe(expected.length)
  const at = actual.findIndex((byte, index) => byte !== expected[index])
  throw new Error(`bytes differ first at ${at}: ${actual[at]} is not ${expected[at]}`)
}
