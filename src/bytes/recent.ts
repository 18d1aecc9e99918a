/** Values used lately, found by a key. */
export interface Recent<K, V> {
  get(key: K): V | undefined
  /** @param weight  what it counts of `most` */
  set(key: K, value: V, weight: number): void
  delete(key: K): void
}

/**
 * Keeps values up to a weight of `most` in all, and the one set last whatever it weighs. What is not used while half of that
 * comes in is forgotten, all at once: an order by use would cost a Map more than the rest of a lookup, as the way to its oldest
 * key passes over all that were deleted lately. And a Map that goes on for ever leaves a chain of the tables it outgrew: once
 * one of them is old, V8's quick collections take all behind it for used, with the values that were in there.
 */
export const openRecent = <K, V>(most: number): Recent<K, V> => {
  let young = new Map<K, { readonly value: V; readonly weight: number }>()
  let old = new Map<K, { readonly value: V; readonly weight: number }>()
  let weightYoung = 0
  const keep = (key: K, held: { readonly value: V; readonly weight: number }): void => {
    weightYoung += held.weight - (young.get(key)?.weight ?? 0)
    young.set(key, held)
    if (weightYoung <= most / 2) return
    old = young
    young = new Map()
    weightYoung = 0
  }
  return {
    get(key) {
      const held = young.get(key)
      if (held) return held.value
      const before = old.get(key)
      if (before) keep(key, before)
      return before?.value
    },
    set: (key, value, weight) => keep(key, { value, weight }),
    delete(key) {
      weightYoung -= young.get(key)?.weight ?? 0
      young.delete(key)
      old.delete(key)
    },
  }
}
