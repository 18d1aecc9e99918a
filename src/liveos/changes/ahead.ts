import { assert } from '../../error.js'

/**
 * Maps items in their order, with up to `depth` of them under way at one time. What was started goes on when the caller stops.
 *
 * @throws  what `work` threw, when its turn comes
 */
export async function* ahead<T, R>(
  items: Iterable<T>,
  depth: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R, void> {
  assert(depth > 0, 'nothing is read without a depth')
  const underWay: Promise<R>[] = []
  const start = (item: T): void => {
    const result = work(item)
    // Whoever waits for it sees the failure; nobody may be left to.
    result.catch(() => {})
    underWay.push(result)
  }
  for (const item of items) {
    start(item)
    if (underWay.length >= depth) yield await underWay.shift()!
  }
  for (const result of underWay) yield await result
}
