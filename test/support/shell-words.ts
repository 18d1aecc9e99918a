/**
 * The words of a command line as a POSIX shell reads them: blanks, quotes and backslashes only.
 *
 * @throws Error  a quote is not closed, or there is what a shell takes for more than a word
 */
export const shellWords = (line: string): string[] => {
  const words: string[] = []
  let word: string | undefined
  for (let at = 0; at < line.length; at++) {
    const char = line[at]!
    if (char === ' ') {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (char === "'" || char === '"') {
      const end = line.indexOf(char, at + 1)
      if (end < 0) throw new Error(`a quote is not closed: ${line}`)
      word = (word ?? '') + line.slice(at + 1, end)
      at = end
    } else if (char === '\\') word = (word ?? '') + (line[++at] ?? '')
    else if (/[$`;&|<>()*?#~\n]/.test(char)) throw new Error(`${char} means more than itself: ${line}`)
    else word = (word ?? '') + char
  }
  return word === undefined ? words : [...words, word]
}
