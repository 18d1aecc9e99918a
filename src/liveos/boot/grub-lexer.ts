import type { Problem, Span } from './text.js'

/** A piece of a word: text as it is meant (quotes and backslashes resolved), or a variable. Still one character a byte. */
export interface GrubPart {
  readonly kind: 'text' | 'variable'
  /** the text, or the variable's name */
  readonly text: string
  /** in quotes, so a variable's value is not cut at spaces */
  readonly quoted: boolean
}

/** A word of a GRUB script and where it stands. */
export interface GrubWord extends Span {
  readonly parts: readonly GrubPart[]
}

/** A word, a line's end, or a sign such as `;` and `{`. */
export type GrubToken =
  | (GrubWord & { readonly kind: 'word' /** the word itself where nothing in it is quoted */; readonly bare: string })
  | (Span & { readonly kind: 'sign'; readonly sign: string })

const NAME = /[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#*@]/y
const BRACED = /\{([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#*@])\}/y
const PLAIN = /[^{}|&$;<> \t\r\n'"\\]+/y
const BLANK = /(?:[ \t\r]|\\\r?\n)+/y
const COMMENT = /#[^\n]*/y
const DOUBLE = /[^"$\\]+/y

const match = (pattern: RegExp, text: string, at: number): RegExpExecArray | null => {
  pattern.lastIndex = at
  return pattern.exec(text)
}

/**
 * Cuts a GRUB script into tokens; blanks, comments and continued lines lie between them.
 *
 * @param problems  takes an unterminated quote, which reaches to the end
 * @see grub grub-core/script/yylex.l
 */
export function* lexGrub(text: string, problems: Problem[]): Generator<GrubToken> {
  for (let at = 0; at < text.length; ) {
    const blank = match(BLANK, text, at) ?? match(COMMENT, text, at)
    if (blank) {
      at += blank[0].length
      continue
    }
    const sign = /^(?:\|\||&&|;;|[\n|&;<>{}])/.exec(text.slice(at, at + 2))?.[0]
    if (sign) {
      yield { kind: 'sign', sign, start: at, end: at + sign.length }
      at += sign.length
      continue
    }
    const word = lexWord(text, at, problems)
    const bare = word.parts.length === 1 && word.parts[0]!.text === text.slice(word.start, word.end)
    yield { kind: 'word', bare: bare && word.parts[0]!.kind === 'text' ? word.parts[0]!.text : '', ...word }
    at = word.end
  }
}

const lexWord = (text: string, start: number, problems: Problem[]): GrubWord => {
  const parts: GrubPart[] = []
  let run: string[] = []
  let runQuoted = false
  const flush = (): void => {
    if (run.length > 0) parts.push({ kind: 'text', text: run.join(''), quoted: runQuoted })
    run = []
    runQuoted = false
  }
  const literal = (piece: string, quoted: boolean): void => {
    run.push(piece)
    runQuoted ||= quoted
  }
  /** the length of a variable at `at`, which is a `$`; 0 where none is */
  const variable = (at: number, quoted: boolean): number => {
    const name = match(NAME, text, at + 1)?.[0] ?? match(BRACED, text, at + 1)?.[1]
    if (name === undefined) return 0
    flush()
    parts.push({ kind: 'variable', text: name, quoted })
    return name.length + (text[at + 1] === '{' ? 3 : 1)
  }
  const unterminated = (offset: number): number => {
    problems.push({ offset, message: 'a quote that nothing ends' })
    return text.length
  }

  /** the end of what stands between double quotes, from the character behind the first one */
  const double = (from: number, withVariables: boolean): number => {
    literal('', true)
    for (let at = from; at < text.length; ) {
      const plain = match(DOUBLE, text, at)?.[0]
      const next = text[at + 1]
      if (plain !== undefined) literal(plain, true)
      if (plain !== undefined) at += plain.length
      else if (text[at] === '"') return at + 1
      else if (text[at] === '$') {
        const length = withVariables ? variable(at, true) : 0
        if (length === 0) literal('$', true)
        at += length || 1
      } else if (next === '\n') at += 2
      else if (next === '"' || next === '\\' || next === '$') {
        literal(next, true)
        at += 2
      } else {
        literal('\\', true)
        at++
      }
    }
    return unterminated(from - 1)
  }

  let at = start
  while (at < text.length) {
    const character = text[at]!
    const plain = match(PLAIN, text, at)?.[0]
    if (plain !== undefined) {
      literal(plain, false)
      at += plain.length
    } else if (character === '\\') {
      if (/^\\\r?\n/.test(text.slice(at, at + 3))) break
      literal(text[at + 1] ?? '\\', true)
      at = Math.min(text.length, at + 2)
    } else if (character === "'") {
      const end = text.indexOf("'", at + 1)
      literal(text.slice(at + 1, end < 0 ? text.length : end), true)
      at = end < 0 ? unterminated(at) : end + 1
    } else if (character === '"') at = double(at + 1, true)
    else if (character === '$' && text[at + 1] === '"') at = double(at + 2, false)
    else if (character === '$') {
      const length = variable(at, false)
      if (length === 0) literal('$', false)
      at += length || 1
    } else break
  }
  flush()
  return { start, end: at, parts }
}
