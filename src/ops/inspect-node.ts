import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { explained } from '../liveos/open-target.js'

/** What a part of a target is. */
export type NodeKind =
  | 'target'
  | 'partition'
  | 'boot image'
  | 'live'
  | 'base'
  | 'root'
  | 'overlay'
  | 'home'
  | 'swap'
  | 'boot'
  | 'entry'

/** A value told of a part; null where it is not known. */
export type Detail = string | number | boolean | null | readonly string[]

/** A part of a target, with what is nested in it. Plain JSON. @see docs/schema/inspect.json */
export interface InspectNode {
  readonly kind: NodeKind
  /** a file name, a partition, a menu's title */
  readonly name: string
  /** bytes; null for what has no size of its own */
  readonly size: number | null
  /** filesystem or format, as blkid calls it; null where it is not known */
  readonly type: string | null
  readonly label: string | null
  readonly uuid: string | null
  /** what else is known, by names that depend on the kind */
  readonly details: Readonly<Record<string, Detail>>
  readonly children: readonly InspectNode[]
}

/** A node of a kind and name; the rest as given. */
export const node = (kind: NodeKind, name: string, rest: Partial<InspectNode> = {}): InspectNode => ({
  kind,
  name,
  size: null,
  type: null,
  label: null,
  uuid: null,
  details: {},
  children: [],
  ...rest,
})

/** What an inspection goes on with: findings, and how deep it may look. */
export interface Inspecting {
  readonly findings: Finding[]
  /** levels of children still to be made */
  readonly depth: number
  /** answers are asked for over a network: nothing is read that only gives a number */
  readonly remote: boolean
}

/** The same one level deeper. */
export const deeper = (at: Inspecting): Inspecting => ({ ...at, depth: at.depth - 1 })

/** Does a part of the inspection; what can't be read becomes a finding. */
export const collecting = async <T>(
  at: Inspecting,
  code: string,
  where: string,
  work: () => Promise<T>,
): Promise<T | undefined> => {
  try {
    return await work()
  } catch (thrown) {
    const error = await explained(thrown)
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    // who opened it first told the same
    if (at.findings.some(({ message }) => message === error.message)) return undefined
    at.findings.push({
      code,
      severity: error.code === 'UNSUPPORTED' ? 'note' : 'error',
      where,
      message: error.message,
      ...(error.code === 'CORRUPT' ? { expected: String(error.data.expected), found: String(error.data.found) } : {}),
    })
    return undefined
  }
}

/** The details that are known: undefined ones are left out. */
export const details = (all: Readonly<Record<string, Detail | undefined>>): Readonly<Record<string, Detail>> =>
  Object.fromEntries(Object.entries(all).filter((pair): pair is [string, Detail] => pair[1] !== undefined))
