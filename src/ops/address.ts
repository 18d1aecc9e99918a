import { existsSync } from 'node:fs'
import { LiveError } from '../error.js'
import type { TargetInput } from '../liveos/target.js'

/** A path in a target. */
export interface Address {
  /** undefined: the running live system */
  readonly target: string | undefined
  readonly path: string
}

/**
 * Position of the colon before the path: the last `:/` that begins none of `://`. Of several, the last that has a file of this
 * computer before it, as the path may have some itself.
 */
const colonOf = (text: string): number => {
  let last = -1
  for (let at = text.lastIndexOf(':/'); at >= 0; at = at === 0 ? -1 : text.lastIndexOf(':/', at - 1)) {
    if (text[at + 2] === '/' && at !== 0) continue
    if (last < 0) last = at
    if (existsSync(text.slice(0, at))) return at
  }
  return last
}

/** Splits `TARGET:/path`; without a path it is the root. `:/path` is one of the running live system. */
export const parseAddress = (text: string): Address => {
  const colon = colonOf(text)
  if (colon < 0) return { target: (text.endsWith(':') ? text.slice(0, -1) : text) || undefined, path: '/' }
  return { target: text.slice(0, colon) || undefined, path: text.slice(colon + 1) }
}

/**
 * The one target of several addresses, with their paths.
 *
 * @throws USAGE  they name different targets
 */
export const oneTarget = (
  texts: readonly string[],
  input: TargetInput,
): { input: TargetInput; paths: readonly string[] } => {
  // With --base the words are paths only, and one left out is the root.
  const addresses = texts.map(text =>
    input.base !== undefined && !text.startsWith(':') ? { target: undefined, path: text || '/' } : parseAddress(text),
  )
  const [first] = addresses
  const other = addresses.find(({ target }) => target !== first?.target)
  if (other)
    throw new LiveError(
      'USAGE',
      `${first?.target ?? 'the running system'} and ${other.target ?? 'the running system'} are two targets: name one at a time`,
    )
  return { input: { ...input, target: first?.target }, paths: addresses.map(({ path }) => path) }
}
