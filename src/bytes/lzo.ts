import { type Codec, CodecError, type SettingsOf } from './codec.js'

/** Longest distance of a short match, and what a short match behind a long literal run adds to its distance. */
const M2_MAX_OFFSET = 0x800
/** What the matches of the longest kind add to their distance. */
const M4_BASE = 0x4000

const truncated = (): CodecError => new CodecError('lzo: the block ends too early')
const tooLarge = (output: Uint8Array): CodecError =>
  new CodecError(`lzo: the block is larger than ${output.length} bytes`)

/**
 * Each instruction byte tells its kind by its highest bits; the lowest two bits of an instruction's second last byte tell how
 * many literals (0 to 3) follow its match. A zero count goes on in bytes of 255 each.
 *
 *     0000 LLLL            behind a match without literals: a run of 3 + L literals, L = 0: 18 + ...
 *     0000 DDSS H          behind 1 to 3 literals: 2 bytes from distance H << 2 | D, + 1
 *                          behind 4 or more:       3 bytes from distance H << 2 | D, + 2049
 *     0001 HLLL D16        2 + L bytes (L = 0: 9 + ...) from distance 16384 + H << 14 | D >> 2; exactly 16384 ends the stream
 *     001L LLLL D16        2 + L bytes (L = 0: 33 + ...) from distance D >> 2, + 1
 *     LLLD DDSS H          (L of 2 and more) 1 + L bytes from distance H << 3 | D, + 1
 *
 * A first byte above 17 starts with a run of that many literals less 17. Bitstream version 1 (a first byte of 17, for zram only)
 * is refused: read as version 0 it is a match before the start.
 */
const decode = (input: Uint8Array, output: Uint8Array): number => {
  const inputEnd = input.length
  const outputEnd = output.length
  let ip = 0
  let op = 0
  /** literals that came just before: 0 to 3 as the last match told, 4 for a longer run */
  let state = 0

  const literals = (length: number): void => {
    if (length > inputEnd - ip) throw truncated()
    if (length > outputEnd - op) throw tooLarge(output)
    if (length < 32) for (const end = ip + length; ip < end; ) output[op++] = input[ip++]!
    else {
      output.set(input.subarray(ip, ip + length), op)
      ip += length
      op += length
    }
  }
  const longer = (base: number): number => {
    let length = base
    while (ip < inputEnd && input[ip] === 0) {
      length += 255
      ip++
    }
    if (ip >= inputEnd) throw truncated()
    return length + input[ip++]!
  }

  if (inputEnd < 3) throw truncated()
  if (input[0]! > 17) {
    const length = input[ip++]! - 17
    literals(length)
    state = Math.min(length, 4)
  }

  for (;;) {
    if (ip >= inputEnd) throw truncated()
    const instruction = input[ip++]!
    let distance: number
    let length: number
    let next = instruction

    if (instruction >= 64) {
      if (ip >= inputEnd) throw truncated()
      distance = 1 + ((instruction >> 2) & 7) + (input[ip++]! << 3)
      length = (instruction >> 5) + 1
    } else if (instruction >= 16) {
      const wide = instruction >= 32
      const mask = wide ? 31 : 7
      length = 2 + (instruction & mask || longer(mask))
      if (inputEnd - ip < 2) throw truncated()
      next = input[ip]!
      distance = ((input[ip + 1]! << 8) | next) >> 2
      ip += 2
      if (wide) distance += 1
      else {
        distance += (instruction & 8) << 11
        if (distance === 0) {
          if (length !== 3 || (next & 3) !== 0) throw new CodecError('lzo: the end marker is damaged')
          break
        }
        distance += M4_BASE
      }
    } else if (state === 0) {
      literals(3 + (instruction || longer(15)))
      state = 4
      continue
    } else {
      if (ip >= inputEnd) throw truncated()
      distance = 1 + (instruction >> 2) + (input[ip++]! << 2)
      length = 2
      if (state === 4) {
        distance += M2_MAX_OFFSET
        length = 3
      }
    }

    let from = op - distance
    if (from < 0) throw new CodecError('lzo: a match starts before the block')
    if (length > outputEnd - op) throw tooLarge(output)
    if (length > 64 && distance >= length) {
      output.copyWithin(op, from, from + length)
      op += length
    } else for (const end = op + length; op < end; ) output[op++] = output[from++]!

    state = next & 3
    if (state > 0) {
      if (state > inputEnd - ip) throw truncated()
      if (state > outputEnd - op) throw tooLarge(output)
      output[op++] = input[ip++]!
      if (state > 1) output[op++] = input[ip++]!
      if (state > 2) output[op++] = input[ip++]!
    }
  }
  if (ip !== inputEnd) throw new CodecError(`lzo: ${inputEnd - ip} bytes behind the end`)
  return op
}

/**
 * LZO1X, all variants (1, 1_11, 1_12, 1_15 and 999 share one stream). Own decoder: no package on npm has one. Compressing is
 * mksquashfs's job.
 *
 * @see kernel, Documentation/staging/lzo.rst
 */
export const lzo: Codec<SettingsOf<'lzo'>> = { decode }
