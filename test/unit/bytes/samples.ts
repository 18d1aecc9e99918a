import type { Compressor } from '../../../src/bytes/codec.js'

/** Settings of every compressor that this process can encode with. */
export const ENCODABLE: readonly Compressor[] = [
  { name: 'gzip', level: 9, windowBits: 15, strategies: 0 },
  { name: 'gzip', level: 6, windowBits: 9, strategies: 31 },
  { name: 'xz', dictionarySize: 131072, filters: 0 },
  { name: 'xz', dictionarySize: 8192, filters: 63 },
  { name: 'lz4', highCompression: false },
  { name: 'zstd', level: 15 },
]

/** `length` bytes with words that come again, numbers and noise, the same ones for the same seed. */
export const sample = (length: number, seed = 1): Uint8Array => {
  const bytes = new Uint8Array(length)
  let state = seed
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state >>> 8
  }
  for (let at = 0; at < length; ) {
    const run = 4 + (next() % 60)
    const from = next() % 3 > 0 && at > 0 ? next() % at : -1
    for (let i = 0; i < run && at < length; i++, at++) bytes[at] = from < 0 ? next() & 255 : bytes[from + i]!
  }
  return bytes
}

/** `length` bytes that nothing makes smaller. */
export const noise = (length: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  let state = 2463534242
  for (let at = 0; at < length; at++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[at] = state >>> 11
  }
  return bytes
}
