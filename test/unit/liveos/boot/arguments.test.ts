import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ArgumentChange,
  type ArgumentSlot,
  argument,
  argumentEdits,
  lastArgument,
  parseArguments,
  printArguments,
} from '../../../../src/liveos/boot/arguments.js'
import { liveArguments } from '../../../../src/liveos/boot/live-arguments.js'
import { applyEdits } from '../../../../src/liveos/boot/text.js'
import { failure } from '../../../support/outcome.js'

const read = (text: string) =>
  parseArguments(text).map(({ name, value }) => (value === undefined ? [name] : [name, value]))

describe('a command line is cut as next_arg of the kernel does', () => {
  it.each<[string, string[][]]>([
    ['', []],
    [' \t quiet \v rhgb\n', [['quiet'], ['rhgb']]],
    ['root=live:CDLABEL=Fedora-36', [['root', 'live:CDLABEL=Fedora-36']]],
    ['a= b', [['a', ''], ['b']]],
    ['label="Fedora 36" x', [['label', 'Fedora 36'], ['x']]],
    ['"label=Fedora 36" x', [['label', 'Fedora 36'], ['x']]],
    ['"a b"', [['a b']]],
    ['dyndbg="file a.c +p; file b.c +p"', [['dyndbg', 'file a.c +p; file b.c +p']]],
    ['open="never ends quiet', [['open', 'never ends quiet']]],
    ['half=a" b"c', [['half', 'a" b"c']]],
    ['=x', [['=x']]],
    ['=x=y', [['=x', 'y']]],
    ['"', [['']]],
    ['a="', [['a', '']]],
  ])('%j', (text, expected) => expect(read(text)).toEqual(expected))

  it('printing and parsing again gives the same arguments', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('a', 'b', '=', '"', ' ', '.', '-', '\t') }), text => {
        const list = parseArguments(text)
        // An unterminated quote takes all that follows, so that is the last one.
        expect(parseArguments(printArguments(list))).toEqual(list)
      }),
    )
  })

  it('what is written for a name and value is read as both', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z][a-z._-]*$/),
        fc.string({ unit: fc.constantFrom('a', ' ', '=', 'é', '$', "'", ':') }),
        (name, value) => {
          expect(read(argument(name, value).raw)).toEqual([[name, value]])
        },
      ),
    )
  })

  it.each([
    ['', undefined],
    ['a b', undefined],
    ['a"', undefined],
    ['a=b', 'c'],
    ['a', 'b"c'],
    ['a', 'b\nlabel x'],
    ['a\0', ''],
  ])('refuses %j %j', async (name, value) => {
    await failure((async () => argument(name, value))(), 'USAGE')
  })
})

const slotsOf = (text: string): ArgumentSlot[] => {
  let at = 4
  return parseArguments(text.slice(4)).map(found => {
    const start = text.indexOf(found.raw, at)
    at = start + found.raw.length
    return { start, end: at, argument: found, editable: !found.raw.startsWith('$') }
  })
}
const changed = (text: string, ...changes: ArgumentChange[]): string =>
  applyEdits(text, argumentEdits(slotsOf(text), 4, changes, 'here'))

describe('changes of arguments', () => {
  it.each<[string, ArgumentChange[], string]>([
    ['line a=1  b', [{ set: 'a', value: '2' }], 'line a=2  b'],
    ['line a=1 b a=3', [{ set: 'a', value: '2' }], 'line a=2 b'],
    ['line a=1 b', [{ set: 'a', value: '1' }], 'line a=1 b'],
    ['line b', [{ set: 'a' }], 'line b a'],
    ['line', [{ set: 'a', value: 'x y' }], 'line a="x y"'],
    ['line quiet --- quiet', [{ set: 'rw' }], 'line quiet rw --- quiet'],
    ['line quiet -- single', [{ insert: 'rw' }], 'line quiet rw -- single'],
    ['line  a b\tc', [{ remove: 'b' }], 'line  a\tc'],
    ['line a b', [{ remove: 'a' }], 'line b'],
    ['line a', [{ remove: 'a' }], 'line'],
    ['line console=1 console=2', [{ remove: 'console', value: '1' }], 'line console=2'],
    [
      'line a b',
      [
        { insert: 'x', after: 'a' },
        { insert: 'y', after: 'a' },
      ],
      'line a y x b',
    ],
    ['line a b', [{ remove: 'b' }, { insert: 'c' }], 'line a c'],
    ['line a b', [{ insert: 'c' }, { remove: 'c' }], 'line a b'],
    ['line a', [{ remove: 'z' }], 'line a'],
    ['line $opts a', [{ set: 'a', value: '1' }], 'line $opts a=1'],
  ])('%j %j', (text, changes, expected) => expect(changed(text, ...changes)).toBe(expected))

  it('what comes from a variable is refused, and outdone where it is set', async () => {
    await failure((async () => changed('line $opts a', { remove: '$opts' }))(), 'REFUSED')
    expect(changed('line $opts a', { set: '$opts' })).toBe('line $opts a $opts')
  })

  it('afterwards the arguments are what the changes say, and nothing else moved', () => {
    const name = fc.constantFrom('a', 'b', 'c')
    const one = fc.oneof(
      fc.record({ set: name, value: fc.constantFrom('1', '2 3') }),
      fc.record({ remove: name }),
      fc.record({ insert: name, value: fc.constantFrom('1', '9') }),
    )
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'b', 'c=1', 'd="x y"', 'e')), fc.array(one), (words, changes) => {
        const text = `line ${words.join('  ')}`.trimEnd()
        let model = parseArguments(text.slice(4))
        for (const wanted of changes)
          if ('insert' in wanted) model = [...model, argument(wanted.insert, wanted.value)]
          else if ('remove' in wanted) model = model.filter(known => known.name !== wanted.remove)
          else {
            const at = model.findIndex(known => known.name === wanted.set)
            const kept = model.filter((known, n) => known.name !== wanted.set || n === at)
            if (at < 0) kept.push(argument(wanted.set, wanted.value))
            else kept[kept.findIndex(known => known.name === wanted.set)] = argument(wanted.set, wanted.value)
            model = kept
          }
        const result = parseArguments(changed(text, ...changes).slice(4))
        expect(result.map(({ name, value }) => [name, value])).toEqual(model.map(({ name, value }) => [name, value]))
      }),
    )
  })
})

describe('arguments of a live system', () => {
  it('the last of each counts, old spellings and new', () => {
    const text =
      'initrd=i root=live:LABEL=A root=live:UUID=1A2B-3C4D ro rd.live.image rd.live.dir=F39 rd.live.overlay=UUID=1A2B-3C4D:/F39/o rw rd.live.overlay.overlayfs rd.live.ram=1 selinux=0'
    const live = liveArguments({ arguments: parseArguments(text) })
    expect(
      Object.fromEntries(Object.entries(live).flatMap(([key, found]) => (found ? [[key, found.raw]] : []))),
    ).toEqual({
      root: 'root=live:UUID=1A2B-3C4D',
      image: 'rd.live.image',
      dir: 'rd.live.dir=F39',
      overlay: 'rd.live.overlay=UUID=1A2B-3C4D:/F39/o',
      overlayfs: 'rd.live.overlay.overlayfs',
      ram: 'rd.live.ram=1',
      selinux: 'selinux=0',
      mode: 'rw',
    })
    expect(liveArguments({ arguments: parseArguments('rd.overlay=x liveimg') }).overlay?.name).toBe('rd.overlay')
    expect(lastArgument(parseArguments('a=1 b a=2'), 'a', 'b')?.value).toBe('2')
  })
})
