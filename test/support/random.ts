/** Random numbers that a seed gives again. */
export interface Random {
  readonly seed: number
  /** a whole number from 0 to before `limit` */
  below(limit: number): number
  bytes(length: number): Uint8Array
}

/** Random numbers from a seed; LIVEOS_TEST_SEED or the clock gives it where none is given. Print it where a test fails. */
export const random = (seed = Number(process.env.LIVEOS_TEST_SEED ?? Date.now() % 2 ** 32)): Random => {
  let state = seed >>> 0
  // mulberry32
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  return {
    seed,
    below: limit => Math.floor((next() / 2 ** 32) * limit),
    bytes(length) {
      const bytes = new Uint8Array(length)
      for (let at = 0; at < length; at++) bytes[at] = next() & 0xff
      return bytes
    },
  }
}
