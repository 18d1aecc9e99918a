import { type GrubToken, type GrubWord, lexGrub } from './grub-lexer.js'
import { bytesOf, type Problem, type Span, textOf } from './text.js'

export type { GrubPart, GrubWord } from './grub-lexer.js'

/** A command with its words, and the block behind them that menuentry and submenu have. */
export interface GrubCommand extends Span {
  readonly kind: 'command'
  readonly words: readonly GrubWord[]
  readonly block?: GrubBlock
}

/** What stands between two braces; the span takes both in. */
export interface GrubBlock extends Span {
  readonly body: readonly GrubStatement[]
}

export interface GrubIf extends Span {
  readonly kind: 'if'
  /** `if` and each `elif` */
  readonly branches: readonly {
    readonly condition: readonly GrubStatement[]
    readonly body: readonly GrubStatement[]
  }[]
  readonly otherwise: readonly GrubStatement[]
}

export interface GrubFor extends Span {
  readonly kind: 'for'
  readonly variable: string
  readonly words: readonly GrubWord[]
  readonly body: readonly GrubStatement[]
}

export interface GrubWhile extends Span {
  readonly kind: 'while' | 'until'
  readonly condition: readonly GrubStatement[]
  readonly body: readonly GrubStatement[]
}

export interface GrubFunction extends Span {
  readonly kind: 'function'
  readonly name: string
  readonly body: readonly GrubStatement[]
}

export type GrubStatement = GrubCommand | GrubIf | GrubFor | GrubWhile | GrubFunction

/** A GRUB 2 script. Nothing of the text is lost: each statement and word knows where it stands in it. */
export interface GrubScript {
  /** the file, one character a byte */
  readonly text: string
  readonly body: readonly GrubStatement[]
  /** at most 100 */
  readonly problems: readonly Problem[]
}

/** Blocks, ifs and loops may lie this deep in each other; what lies deeper is not parsed. */
export const MAX_GRUB_DEPTH = 64
const MAX_PROBLEMS = 100

/** Parses any text; what GRUB would refuse is told in `problems`, and the rest is parsed as well as it can be. @see grub grub-core/script/parser.y */
export const parseGrub = (bytes: Uint8Array): GrubScript => grubOf(textOf(bytes))

/** The bytes of a script, the same that were parsed. */
export const printGrub = (script: GrubScript): Uint8Array => bytesOf(script.text)

/** The same as `parseGrub` from a text of one character a byte. */
export const grubOf = (text: string): GrubScript => {
  const problems: Problem[] = []
  const tokens = lexGrub(text, problems)
  let token: GrubToken | undefined
  let end = 0

  const complain = (message: string, offset = token?.start ?? text.length): void => {
    if (problems.length < MAX_PROBLEMS) problems.push({ offset, message })
  }
  const advance = (): void => {
    if (token) end = token.end
    const next = tokens.next()
    token = next.done ? undefined : next.value
  }
  const isSign = (...signs: readonly string[]): boolean => token?.kind === 'sign' && signs.includes(token.sign)
  const isBare = (...words: readonly string[]): boolean => token?.kind === 'word' && words.includes(token.bare)
  const isDelimiter = (): boolean => token?.kind === 'sign' && token.sign !== '{' && token.sign !== '}'
  const skipDelimiters = (): void => {
    while (isDelimiter()) {
      if (!isSign('\n', ';')) complain('a sign that GRUB does not know here')
      advance()
    }
  }
  /** Passes over the word that a construct goes on with. */
  const expectBare = (word: string): void => {
    skipDelimiters()
    if (isBare(word)) advance()
    else complain(`${word} is missing`)
  }

  const CLOSERS = ['then', 'elif', 'else', 'fi', 'do', 'done']
  const commands = (depth: number, closers: readonly string[], inBlock: boolean): GrubStatement[] => {
    const body: GrubStatement[] = []
    for (;;) {
      skipDelimiters()
      if (!token || (inBlock && isSign('}')) || isBare(...closers)) return body
      if (isSign('}')) {
        // Of a block around an if that is not closed: the block ends here, and with it the if.
        if (blocks > 0) return body
        complain('a } without its {')
        advance()
      } else if (isBare(...CLOSERS)) {
        complain('a word that belongs to no if or loop')
        advance()
      } else body.push(statement(depth))
    }
  }

  let blocks = 0
  const block = (depth: number): GrubBlock => {
    const { start } = token!
    advance()
    blocks++
    const body = commands(depth, [], true)
    blocks--
    if (isSign('}')) advance()
    else complain('a { that nothing closes', start)
    return { start, end, body }
  }

  const words = (): GrubWord[] => {
    const found: GrubWord[] = []
    for (; token?.kind === 'word'; advance()) found.push({ start: token.start, end: token.end, parts: token.parts })
    return found
  }

  const statement = (depth: number): GrubStatement => {
    const start = token!.start
    if (depth >= MAX_GRUB_DEPTH) {
      complain(`blocks are nested deeper than ${MAX_GRUB_DEPTH}`)
      while (token) advance()
      return { kind: 'command', start, end: start, words: [] }
    }
    if (isBare('if')) return ifStatement(start, depth + 1)
    if (isBare('for')) return forStatement(start, depth + 1)
    if (isBare('while', 'until')) return whileStatement(start, depth + 1)
    if (isBare('function')) return functionStatement(start, depth + 1)
    const found = words()
    if (!isSign('{')) return { kind: 'command', start, end, words: found }
    const inner = block(depth + 1)
    return { kind: 'command', start, end, words: found, block: inner }
  }

  const ifStatement = (start: number, depth: number): GrubIf => {
    const branches: { condition: GrubStatement[]; body: GrubStatement[] }[] = []
    do {
      advance()
      const condition = commands(depth, ['then', 'elif', 'else', 'fi'], false)
      expectBare('then')
      branches.push({ condition, body: commands(depth, ['elif', 'else', 'fi'], false) })
    } while (isBare('elif'))
    let otherwise: GrubStatement[] = []
    if (isBare('else')) {
      advance()
      otherwise = commands(depth, ['fi'], false)
    }
    expectBare('fi')
    return { kind: 'if', start, end, branches, otherwise }
  }

  const loopBody = (depth: number): GrubStatement[] => {
    expectBare('do')
    const body = commands(depth, ['done'], false)
    expectBare('done')
    return body
  }

  const forStatement = (start: number, depth: number): GrubFor => {
    advance()
    const [name, ...rest] = words()
    const [keyword, ...items] = rest
    if (!keyword || text.slice(keyword.start, keyword.end) !== 'in') complain('in is missing')
    const body = loopBody(depth)
    return { kind: 'for', start, end, variable: name ? text.slice(name.start, name.end) : '', words: items, body }
  }

  const whileStatement = (start: number, depth: number): GrubWhile => {
    const kind = isBare('until') ? 'until' : 'while'
    advance()
    const condition = commands(depth, ['do', 'done'], false)
    return { kind, condition, body: loopBody(depth), start, end }
  }

  const functionStatement = (start: number, depth: number): GrubFunction => {
    advance()
    const [name] = words()
    while (isSign('\n')) advance()
    let body: readonly GrubStatement[] = []
    if (isSign('{')) body = block(depth).body
    else complain('a function without its {')
    return { kind: 'function', start, end, name: name ? text.slice(name.start, name.end) : '', body }
  }

  advance()
  return { text, body: commands(0, [], false), problems }
}

/** All commands of a script in the order of the file, those in blocks, branches and loops too. */
export function* grubCommands(body: readonly GrubStatement[]): Generator<GrubCommand> {
  for (const statement of body) {
    if (statement.kind === 'command') {
      yield statement
      if (statement.block) yield* grubCommands(statement.block.body)
    } else if (statement.kind === 'if') {
      for (const branch of statement.branches) {
        yield* grubCommands(branch.condition)
        yield* grubCommands(branch.body)
      }
      yield* grubCommands(statement.otherwise)
    } else {
      if ('condition' in statement) yield* grubCommands(statement.condition)
      yield* grubCommands(statement.body)
    }
  }
}
