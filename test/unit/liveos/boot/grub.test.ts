// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are variables of GRUB
import { describe, expect, it } from 'vitest'
import type { ArgumentChange } from '../../../../src/liveos/boot/arguments.js'
import { findBootConfigs } from '../../../../src/liveos/boot/find.js'
import { type GrubScript, grubCommands, parseGrub, printGrub } from '../../../../src/liveos/boot/grub.js'
import {
  changeGrubArguments,
  grubEntryAt,
  grubWord,
  setGrubTimeout,
  setGrubVariableIn,
} from '../../../../src/liveos/boot/grub-edit.js'
import { grubCommandLine } from '../../../../src/liveos/boot/grub-expand.js'
import { lineChanges } from '../../../support/boot-edit.js'
import { bootFixture, medium } from '../../../support/boot-media.js'
import { failure } from '../../../support/outcome.js'

const parsed = (text: string): GrubScript => parseGrub(Buffer.from(text))
const printed = (script: GrubScript): string => Buffer.from(printGrub(script)).toString()

/** A script's menu as told for a medium that holds it. */
const menuOf = async (text: string, more: Record<string, string> = {}) =>
  (await findBootConfigs(medium({ '/boot/grub2/grub.cfg': text, ...more }))).find(
    ({ path }) => path === '/boot/grub2/grub.cfg',
  )!
const titles = async (text: string, more: Record<string, string> = {}): Promise<string[]> =>
  (await menuOf(text, more)).entries.map(({ title, conditional }) => (conditional ? `${title}?` : title))

describe('the words of the script language', () => {
  const words = (text: string): string[] =>
    [...grubCommands(parsed(text).body)].flatMap(command =>
      command.words.map(({ parts }) =>
        parts.map(part => (part.kind === 'variable' ? `<${part.text}>` : part.text)).join(''),
      ),
    )
  it.each<[string, string[]]>([
    ['a b;c', ['a', 'b', 'c']],
    [`echo 'a b'"c d"e\\ f`, ['echo', 'a bc de f']],
    ['a "x $y ${z}q \\$n \\" \\\\ \\q"', ['a', 'x <y> <z>q $n " \\ \\q']],
    [`'$no \\x'`, ['$no \\x']],
    ['a#b # c\nd', ['a#b', 'd']],
    ['a \\\n b\n c', ['a', 'b', 'c']],
    ['$1 ${2} $@ $? $- $', ['<1>', '<2>', '<@>', '<?>', '$-', '$']],
    ['a{b}c', ['a', 'b', 'c']],
    ['"a\nb"', ['a\nb']],
    ['a\r\nb', ['a', 'b']],
    ['$"text $x"', ['text $x']],
    ['linux fi then done', ['linux', 'fi', 'then', 'done']],
  ])('%j', (text, expected) => expect(words(text)).toEqual(expected))

  it('a word written for a text is read as that text', () => {
    for (const text of ['plain', 'a b', "it's", 'a"b', '$x', '\'$x\\"', 'a;b{}', '', 'x=*'])
      expect(words(`echo ${grubWord(text)}`)).toEqual(['echo', text])
  })
  it('the kernel gets words with spaces in quotes', () => {
    expect(grubCommandLine(['root=live:CDLABEL=A B', 'a"b', 'c\\x20d', 'e\\'])).toBe(
      '"root=live:CDLABEL=A B" a\\"b c\\x20d e\\\\',
    )
  })
})

describe('what a script lists', () => {
  it('variables, ifs that can be decided, functions, loops', async () => {
    expect(
      await titles(`
set who=world; other="a b"
if [ "$who" = world -a -n "$other" ]; then menuentry "yes $who" { true; } else menuentry no { true; } fi
if [ x$none = x ]; then menuentry empty { true; }; fi
if ! true; then menuentry never { true; }; elif test 2 -gt 10; then menuentry number { true; }; else menuentry else { true; }; fi
function add { menuentry "f $1 $2" { true; }; }
add one "two three"
for n in 1 2 $other; do menuentry "n$n" { true; }; done
unset who
menuentry "[$who]" { true; }
`),
    ).toEqual(['yes world', 'empty', 'else', 'f one two three', 'n1', 'n2', 'na', 'nb', '[]'])
  })
  it('what only the loader knows lists both branches', async () => {
    expect(
      await titles(
        `
if [ "$grub_platform" = efi ]; then menuentry a { true; }; set x=1; elif [ "$grub_cpu" = i386 ]; then menuentry b { true; }; else menuentry c { true; }; set x=2; fi
if [ "$x" = 3 ]; then menuentry d { true; }; fi
if loadfont x; then set y=1; fi
menuentry e { true; }
if [ -f /boot/there ]; then menuentry f { true; }; fi
if [ -f /boot/gone ]; then menuentry g { true; }; fi
while read; do menuentry h { true; }; done
`,
        { '/boot/there': '' },
      ),
    ).toEqual(['a?', 'b?', 'c?', 'd?', 'e', 'f', 'g?', 'h?'])
  })
  it('an if that nothing closes ends with the block around it', async () => {
    expect(await titles('menuentry x { if true; then\n true\n}\nmenuentry y { true; }')).toEqual(['x', 'y'])
    expect(await titles('menuentry x { menuentry z { true; }\n}\nmenuentry y { true; }')).toEqual(['x', 'y'])
  })
  it('options, commands and files of an entry', async () => {
    const { entries } = await menuOf(
      `
menuentry 'A' --class fedora --id=one --hotkey q --unrestricted --users "a b" {
  set opts="quiet 'x y'"
  linux16 ($root)/k root=live:UUID=1 $opts "w=v z"
  initrd /a.img (hd0,msdos1)/b.img
}
menuentry B $menuentry_id_option two { configfile ($root)/other.cfg; }
menuentry C { chainloader +1; }
menuentry D { chainloader /EFI/x.efi; }
menuentry E { linux $unknown_root/k; }
menuentry F { linux $root/k; }
menuentry G { reboot; }
hiddenentry H { multiboot /xen opt; module /k a=b; module /i; }
`,
      { '/k': '', '/a.img': '' },
    )
    expect(
      entries.map(({ id, kind, kernel, initrds, commandLine, target }) => [
        id,
        kind,
        kernel?.path,
        kernel?.exists,
        initrds.map(({ path, exists }) => `${path} ${exists}`),
        commandLine,
        target?.path,
      ]),
    ).toEqual([
      [
        'one',
        'live',
        '/k',
        true,
        ['/a.img true', '/b.img false'],
        `root=live:UUID=1 quiet \\'x y\\' "w=v z"`,
        undefined,
      ],
      ['B', 'menu', undefined, undefined, [], '', '/other.cfg'],
      ['C', 'local', undefined, undefined, [], '', undefined],
      ['D', 'local', undefined, undefined, [], '', '/EFI/x.efi'],
      ['E', 'linux', '/k', true, [], '', undefined],
      ['F', 'linux', '/${root}/k', undefined, [], '', undefined],
      ['G', 'power', undefined, undefined, [], '', undefined],
      ['H', 'linux', '/k', true, ['/i false'], 'a=b', undefined],
    ])
    expect(entries[0]!.hotkey).toBe('q')
    expect(entries[7]!.hidden).toBe(true)
  })
  it.each([
    ['0', 'a'],
    ['b', 'b'],
    ['two', 'b'],
    ['2>1', 'd'],
    ['sub>c', 'c'],
    ['3', 'e'],
    ['9', undefined],
    ['', 'a'],
  ])('default %j', async (wanted, expected) => {
    const text = `set default="${wanted}"\nmenuentry a { true; }\nmenuentry b --id two { true; }\nsubmenu sub { menuentry c { true; }\nmenuentry d { true; } }\nmenuentry e { true; }\n`
    const { entries } = await menuOf(text)
    expect(entries.find(({ isDefault }) => isDefault)?.title).toBe(expected)
  })
  it('grubenv gives the saved entry', async () => {
    const env = `# GRUB Environment Block\nsaved_entry=b\n${'#'.repeat(985)}`
    const { entries, defaultName } = await menuOf(
      'load_env\nif [ "${next_entry}" ]; then set default="${next_entry}"; else set default="${saved_entry}"; fi\nmenuentry a { true; }\nmenuentry b { true; }',
      { '/boot/grub2/grubenv': env },
    )
    expect([defaultName, entries.find(({ isDefault }) => isDefault)?.id]).toEqual(['b', 'b'])
  })
  it('includes: source, configfile, loops and what is missing', async () => {
    const { entries, findings, files } = await menuOf(
      'set n=1\nsource $prefix/a.cfg\nconfigfile /none.cfg\nsource ${config_directory}/grub.cfg\n',
      { '/boot/grub2/a.cfg': 'menuentry "from a $n" { true; }\n. /boot/grub2/a.cfg\n' },
    )
    expect(entries.map(({ title, place }) => [title, place])).toEqual([
      ['from a 1', { path: '/boot/grub2/a.cfg', offset: 0 }],
    ])
    expect(files).toEqual(['/boot/grub2/grub.cfg', '/boot/grub2/a.cfg'])
    expect(findings.map(({ code }) => code)).toEqual(['BOOT_INCLUDE_LOOP', 'BOOT_INCLUDE_MISSING', 'BOOT_INCLUDE_LOOP'])
  })
  it.each([
    ['a variable that doubles', `set a=xxxxxxxx\n${'set a=$a$a\n'.repeat(100)}`],
    ['many words of a long variable', `set a=${'x'.repeat(10_000)}\nmenuentry x { linux ${'$a '.repeat(100_000)} }`],
    ['many entries of a long variable', `set a="${'x '.repeat(5000)}"\n${'menuentry x { linux $a\n}\n'.repeat(5000)}`],
    ['a function that calls itself', 'function f { f; f; }\nf'],
    ['loops in loops', `${'for a in 1 2 3 4 5 6 7 8 9; do\n'.repeat(20)}menuentry x { true; }\n${'done\n'.repeat(20)}`],
    ['many variables', Array.from({ length: 50_000 }, (_, n) => `set v${n}=1`).join('\n')],
    [
      'an initrd of many names',
      `menuentry x { linux /k\ninitrd ${Array.from({ length: 60_000 }, (_, n) => `/i${n}`).join(' ')}\n}`,
    ],
    ['blscfg again and again', 'blscfg\n'.repeat(5000)],
    ['many entries', 'menuentry x { true; }\n'.repeat(5000)],
  ])('%s ends with a finding', async (_title, text) => {
    const { findings, entries } = await menuOf(text)
    expect(findings.map(({ code }) => code)).toContain('BOOT_TOO_MUCH')
    expect(entries.length).toBeLessThanOrEqual(1000)
  })
  it('ifs that nobody can decide cost no more than their length', async () => {
    const one = 'if [ $grub_platform = efi ]; then set a=1; else set a=2; fi\n'
    expect(await titles(`${one.repeat(3000)}menuentry x { true; }`)).toEqual(['x'])
  })
})

describe('edits', () => {
  const edited = (text: string, title: string, ...changes: ArgumentChange[]): string => {
    const script = parsed(text)
    const entry = [...grubCommands(script.body)].find(command =>
      script.text.slice(command.start, command.end).startsWith(`menuentry ${title}`),
    )!
    return printed(changeGrubArguments(script, entry, changes))
  }
  it('arguments of one entry change in their line only', () => {
    const text = bootFixture('f40-grub.cfg')
    const after = edited(
      text,
      "'Start Fedora-Workstation-Live 40'",
      { set: 'root', value: 'live:UUID=1A2B-3C4D' },
      { insert: 'rw', after: 'root' },
      { set: 'note', value: "it's $x" },
    )
    expect(lineChanges(text, after)).toEqual({
      gone: ['\tlinux /images/pxeboot/vmlinuz root=live:CDLABEL=Fedora-WS-Live-40-1-14  rd.live.image quiet rhgb'],
      came: [`\tlinux /images/pxeboot/vmlinuz root=live:UUID=1A2B-3C4D rw  rd.live.image quiet rhgb "note=it's \\$x"`],
    })
  })
  it('$linux of kiwi is a kernel too', () => {
    const text = bootFixture('f42-grub.cfg')
    expect(lineChanges(text, edited(text, '"Start', { remove: 'rhgb' })).came).toEqual([
      '    $linux ($root)/boot/x86_64/loader/linux quiet root=live:CDLABEL=Fedora-WS-Live-42 rd.live.image',
    ])
  })
  it('quoted words, continued lines, variables', async () => {
    const text = `set opts="quiet rhgb"\nmenuentry x {\n linux /k "root=live:CDLABEL=A B" \\\n  $opts id=$uuid $more\n}\n`
    expect(edited(text, 'x', { set: 'root', value: 'live:LABEL=C D' })).toContain(`/k 'root=live:LABEL=C D' \\\n`)
    expect(edited(text, 'x', { set: 'id', value: '1' })).toContain('$opts id=1 $more\n')
    expect(edited(text, 'x', { remove: 'id' })).toContain('$opts $more\n')
    expect(edited(text, 'x', { set: 'quiet', value: '0' })).toContain('$more quiet=0\n')
    await failure((async () => edited(text, 'x', { remove: 'quiet' }))(), 'REFUSED')
    // One word that the kernel takes for two can't be changed by halves.
    await failure((async () => edited("menuentry x { linux /k 'a\tb' c; }", 'x', { remove: 'a' }))(), 'REFUSED')
    await failure((async () => edited('menuentry x { reboot; }', 'x', { set: 'a' }))(), 'NOT_FOUND')
  })
  it('timeout and default', async () => {
    const text = bootFixture('f40-grub.cfg')
    expect(lineChanges(text, printed(setGrubTimeout(parsed(text), 7)))).toEqual({
      gone: ['set timeout=60'],
      came: ['set timeout=7'],
    })
    expect(lineChanges(text, printed(setGrubVariableIn(parsed(text), 'default', 'a b')))).toEqual({
      gone: ['set default="1"'],
      came: [`set default='a b'`],
    })
    expect(printed(setGrubTimeout(parsed('# c\nmenuentry x { set timeout=9\n}\n'), undefined))).toBe(
      '# c\nset timeout=-1\nmenuentry x { set timeout=9\n}\n',
    )
    expect(printed(setGrubTimeout(parsed('if a; then\n timeout=1\nelse\n set "timeout=2"\nfi'), 3))).toBe(
      'if a; then\n timeout=3\nelse\n set timeout=3\nfi',
    )
    expect(printed(setGrubTimeout(parsed(''), 3))).toBe('set timeout=3\n')
    await failure((async () => setGrubTimeout(parsed(''), Number.NaN))(), 'USAGE')
    await failure((async () => setGrubVariableIn(parsed(''), 'default', 'a\nb'))(), 'USAGE')
  })
  it('the place of a listed entry leads to its command', async () => {
    const text = bootFixture('f36-grub.cfg')
    const { entries } = await menuOf(text)
    for (const { place, title } of entries) {
      const entry = grubEntryAt(parsed(text), place.offset)!
      expect(text.slice(entry.start, entry.end)).toContain(`menuentry '${title}'`)
    }
  })
})
