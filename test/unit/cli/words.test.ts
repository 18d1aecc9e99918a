import { describe, expect, it } from 'vitest'
import { buildProgram } from '../../../src/cli/program.js'
import { progressView } from '../../../src/cli/progress.js'
import { duration, EXIT, paint, parseNumber, parseSize, rows, safe, size, sized } from '../../../src/cli/words.js'

describe('words', () => {
  it('writes sizes and durations for a person', () => {
    expect([0, 1, 1023, 1536, 3 << 20, 200 << 20, 5.25 * 2 ** 30].map(size)).toEqual([
      '0 bytes',
      '1 byte',
      '1023 bytes',
      '1.5 KiB',
      '3.0 MiB',
      '200 MiB',
      '5.3 GiB',
    ])
    expect([0, 59.4, 80, 3700].map(duration)).toEqual(['0 s', '59 s', '1 min 20 s', '1 h 1 min'])
  })

  it('says how much a count of bytes is, and leaves places and short ones as they are', () => {
    expect(sized('it has 900 bytes of 4194304 bytes')).toBe('it has 900 bytes of 4.0 MiB (4194304 bytes)')
    expect(sized('there are 28776546304 free')).toBe('there are 26.8 GiB free')
    expect(sized('at byte 4194304, bytes 4096 to 8192')).toBe('at byte 4194304, bytes 4096 to 8192')
    expect(sized('4.0 MiB (4194304 bytes)')).toBe('4.0 MiB (4194304 bytes)')
  })

  it('reads sizes and numbers, and refuses others', () => {
    expect(['131072', '128K', '128KiB', '1m', '1MB'].map(parseSize)).toEqual([131072, 131072, 131072, 1 << 20, 1 << 20])
    expect(() => parseSize('lots')).toThrow('no size')
    expect(() => parseNumber('9x')).toThrow('no number')
  })

  it('shows control characters of names as text', () => {
    expect(safe('a\u001b[31mb\u0007\u009b')).toBe('a\\x1b[31mb\\x07\\x9b')
  })

  it('colours a terminal only, and not where NO_COLOR is set', () => {
    expect(paint({}).bad('x')).toBe('x')
    const before = process.env.NO_COLOR
    const term = process.env.TERM
    process.env.TERM = 'xterm'
    try {
      delete process.env.NO_COLOR
      expect(paint({ isTTY: true }).bad('x')).toBe('\u001b[31mx\u001b[39m')
      process.env.NO_COLOR = '1'
      expect(paint({ isTTY: true }).bad('x')).toBe('x')
    } finally {
      if (before === undefined) delete process.env.NO_COLOR
      else process.env.NO_COLOR = before
      if (term === undefined) delete process.env.TERM
      else process.env.TERM = term
    }
  })

  it('sets values in one column', () => {
    expect(rows([['a', '1'], undefined, ['long', '2']])).toEqual(['a     1', 'long  2'])
  })

  it('has an exit code for every error', () => {
    expect(EXIT).toEqual({
      CORRUPT: 3,
      UNSUPPORTED: 3,
      USAGE: 2,
      NOT_FOUND: 2,
      OUT_OF_RANGE: 2,
      READ_ONLY: 2,
      REFUSED: 4,
      IO: 5,
      NO_SPACE: 5,
      CANCELLED: 130,
    })
  })
})

describe('progress', () => {
  const stream = (isTTY: boolean) => {
    const written: string[] = []
    const out = { isTTY, columns: 100, write: (text: string) => written.push(text) > 0 }
    return { written, out: out as unknown as NodeJS.WriteStream }
  }

  it('is a plain line a phase where there is no terminal', () => {
    const { written, out } = stream(false)
    const view = progressView(out)
    for (let n = 0; n <= 100; n++) view.show({ phase: 'write', doneBytes: n, totalBytes: 100 })
    view.show({ phase: 'flush', doneBytes: 0, totalBytes: 0 })
    view.end()
    expect(written).toEqual(['write     0 %  0 bytes of 100 bytes\n', 'flush …\n'])
  })

  it('never says 100 % before the outcome does', () => {
    const { written, out } = stream(true)
    progressView(out).show({ phase: 'write', doneBytes: 100, totalBytes: 100 })
    expect(written.join('')).toContain('99 %')
    expect(written.join('')).not.toContain('100 %')
  })

  it.each([0, 40, 60, 80, 200])('the bar takes what the words leave of %d columns', async columns => {
    const { written, out } = stream(true)
    const view = progressView(Object.assign(out, { columns }))
    view.show({ phase: 'copy back', doneBytes: 0, totalBytes: 3 * 2 ** 30 })
    await new Promise(resolve => setTimeout(resolve, 600))
    view.show({ phase: 'copy back', doneBytes: 400 << 20, totalBytes: 3 * 2 ** 30 })
    const line = written.at(-1)!.replace('\r\u001b[K', '')
    expect(line.length).toBeLessThan(columns || 80)
    if (columns !== 40 && columns !== 60) expect(line).toMatch(/ left$/)
    expect(/\[[#.]+\]/.test(line)).toBe(columns === 0 || columns > 60)
  })
})

describe('help', () => {
  const program = buildProgram('1.0.0', () => undefined)

  it.each(['status', 'refresh', 'merge', 'reset', 'verify'])('%s has examples and --json', name => {
    let help = ''
    program.commands
      .find(command => command.name() === name)!
      .configureOutput({ writeOut: text => (help += text) })
      .outputHelp()
    expect(help).toContain('Examples:')
    expect(help).toContain(`$ liveos ${name}`)
    expect(help).toContain('--json')
  })

  const verbs = program.commands.map(command => command.name()).filter(name => !['completion', 'man'].includes(name))

  it.each(verbs)('%s alone is what it is among all verbs', name => {
    const alone = buildProgram('1.0.0', () => undefined, name)
    const helpOf = (whole: typeof alone): string | undefined =>
      whole.commands.find(command => command.name() === name)?.helpInformation()
    expect(helpOf(alone)).toBe(helpOf(program))
    expect(alone.commands.length).toBeLessThan(program.commands.length)
  })

  it.each(['completion', 'man', 'help', '--help', 'nothing', undefined])('%s knows all verbs', first => {
    expect(buildProgram('1.0.0', () => undefined, first).commands).toHaveLength(program.commands.length)
  })
})
