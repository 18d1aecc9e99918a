import type { GrubField } from './grub-expand.js'

/** Yes, no, or only known to the running loader. */
export type Truth = boolean | undefined

export const not = (truth: Truth): Truth => (truth === undefined ? undefined : !truth)
const both = (a: Truth, b: Truth): Truth => (a === false || b === false ? false : a && b)
const either = (a: Truth, b: Truth): Truth => (a === true || b === true ? true : a === undefined ? a : b)

const COMPARE: Readonly<Record<string, (a: string, b: string) => boolean>> = {
  '=': (a, b) => a === b,
  '==': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '<': (a, b) => a < b,
  '<=': (a, b) => a <= b,
  '>': (a, b) => a > b,
  '>=': (a, b) => a >= b,
  '-eq': (a, b) => Number(a) === Number(b),
  '-ne': (a, b) => Number(a) !== Number(b),
  '-lt': (a, b) => Number(a) < Number(b),
  '-le': (a, b) => Number(a) <= Number(b),
  '-gt': (a, b) => Number(a) > Number(b),
  '-ge': (a, b) => Number(a) >= Number(b),
}

/**
 * What `test` and `[` of GRUB say, as far as the words are known.
 *
 * @param words   without the command and a closing `]`
 * @param exists  whether a path is there: `-e`, `-f`, `-d`, `-s`
 * @see grub grub-core/commands/test.c
 */
export const evaluateTest = async (
  words: readonly GrubField[],
  exists: (path: string) => Promise<Truth>,
): Promise<Truth> => {
  let at = 0
  const single = async (): Promise<Truth> => {
    let negated = false
    while (words[at]?.text === '!' && at + 1 < words.length) {
      negated = !negated
      at++
    }
    const truth = await operand()
    return negated ? not(truth) : truth
  }
  const operand = async (): Promise<Truth> => {
    const [a, b, c] = words.slice(at, at + 3)
    if (!a) return false
    const compare = b && COMPARE[b.text]
    if (compare && c) {
      at += 3
      return a.certain && c.certain ? compare(a.text, c.text) : undefined
    }
    if (b && /^-(n|z|[edfs])$/.test(a.text)) {
      at += 2
      if (!b.certain && !/^-[edfs]$/.test(a.text)) return undefined
      if (a.text === '-n') return b.text !== ''
      if (a.text === '-z') return b.text === ''
      return exists(b.text)
    }
    at++
    return a.certain ? a.text !== '' : undefined
  }
  // Brackets are rare and say nothing that menus need; their words are left for the loader.
  if (words.some(({ text }) => text === '(' || text === ')')) return undefined
  let result: Truth = false
  for (;;) {
    let all = await single()
    while (words[at]?.text === '-a') {
      at++
      all = both(all, await single())
    }
    result = either(result, all)
    if (words[at]?.text !== '-o') break
    at++
  }
  return at < words.length ? undefined : result
}
