/** Gaps up to here are read along: a read of its own costs more. */
const GAP = 32 << 10
const MOST = 1 << 20

/** Neighbouring ranges that are read in one piece, with what asked for them. */
export interface Hull<T> {
  readonly start: number
  readonly end: number
  readonly items: readonly T[]
}

/**
 * Puts ranges of bytes that lie near each other together, up to a MiB; a longer range stays one piece.
 *
 * @param items  sorted by start
 */
export function* hulls<T>(
  items: Iterable<T>,
  rangeOf: (item: T) => { readonly start: number; readonly end: number },
): Iterable<Hull<T>> {
  let open: { start: number; end: number; items: T[] } | undefined
  for (const item of items) {
    const { start, end } = rangeOf(item)
    if (open && start - open.end <= GAP && Math.max(open.end, end) - open.start <= MOST) {
      open.end = Math.max(open.end, end)
      open.items.push(item)
    } else {
      if (open) yield open
      open = { start, end, items: [item] }
    }
  }
  if (open) yield open
}
