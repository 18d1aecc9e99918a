import { describe, expect, it } from 'vitest'
import type { ArgumentChange } from '../../../../src/liveos/boot/arguments.js'
import { findBootConfigs } from '../../../../src/liveos/boot/find.js'
import {
  parseSyslinux,
  printSyslinux,
  type SyslinuxConfig,
  syslinuxValue,
} from '../../../../src/liveos/boot/syslinux.js'
import {
  changeSyslinuxArguments,
  setSyslinuxDefault,
  setSyslinuxTimeout,
} from '../../../../src/liveos/boot/syslinux-edit.js'
import { lineChanges } from '../../../support/boot-edit.js'
import { bootFixture, medium } from '../../../support/boot-media.js'
import { failure } from '../../../support/outcome.js'

const parsed = (text: string): SyslinuxConfig => parseSyslinux(Buffer.from(text))
const printed = (config: SyslinuxConfig): string => Buffer.from(printSyslinux(config)).toString()

describe('directives', () => {
  it('keywords in any case, values without the space around them', () => {
    const config = parsed('DeFault  a b \r\n#c\r\n\tMENU\tTitle Hi ^there\r\nmenu\nF1 help.txt\nunknown thing')
    expect(config.lines.map(line => [line.kind, line.keyword, syslinuxValue(config, line)])).toEqual([
      ['directive', 'default', 'a b'],
      ['comment', '', ''],
      ['directive', 'menu title', 'Hi ^there'],
      ['directive', 'menu ', ''],
      ['directive', 'f1', 'help.txt'],
      ['directive', 'unknown', 'thing'],
    ])
  })
  it('TEXT HELP holds no directives', () => {
    const config = parsed(bootFixture('f36-isolinux.cfg'))
    expect(config.labels.map(({ name }) => name)).toEqual([
      'linux',
      'check',
      'vesa',
      'memtest',
      'local',
      'returntomain',
    ])
    expect(config.lines.filter(({ kind }) => kind === 'text')).toHaveLength(2)
  })
})

describe('edits', () => {
  const edited = (name: string, label: string, ...changes: ArgumentChange[]) => {
    const text = bootFixture(name)
    const config = parsed(text)
    const found = config.labels.find(known => known.name === label)!
    return lineChanges(text, printed(changeSyslinuxArguments(config, found, changes)))
  }
  it('arguments of one label change in their line only', () => {
    const line = '  append initrd=initrd.img root=live:CDLABEL=Fedora-WS-Live-36-1-5  rd.live.image quiet rhgb'
    expect(
      edited(
        'f36-isolinux.cfg',
        'linux',
        { set: 'root', value: 'live:UUID=1A2B-3C4D' },
        { insert: 'rw', after: 'root' },
        { remove: 'rhgb' },
      ),
    ).toEqual({ gone: [line], came: ['  append initrd=initrd.img root=live:UUID=1A2B-3C4D rw  rd.live.image quiet'] })
    expect(edited('f36-isolinux.cfg', 'linux', { set: 'quiet' })).toEqual({ gone: [], came: [] })
  })
  it('a label without APPEND gets its own, which keeps what it inherits', () => {
    const text = 'append a=1\r\nlabel x\r\n\tkernel k\r\nlabel y\r\n  kernel k\r\n  append -'
    const config = parsed(text)
    expect(printed(changeSyslinuxArguments(config, config.labels[0]!, [{ insert: 'b' }], 'a=1'))).toBe(
      'append a=1\r\nlabel x\r\n\tkernel k\r\n\tappend a=1 b\r\nlabel y\r\n  kernel k\r\n  append -',
    )
    expect(printed(changeSyslinuxArguments(config, config.labels[1]!, [{ insert: 'b' }], 'a=1'))).toBe(
      text.replace(/-$/, 'b'),
    )
    expect(printed(changeSyslinuxArguments(config, config.labels[0]!, [{ remove: 'z' }], 'a=1'))).toBe(text)
  })
  it('a last line without a line break', () => {
    const config = parsed('label x\n  kernel k')
    expect(printed(changeSyslinuxArguments(config, config.labels[0]!, [{ insert: 'b' }]))).toBe(
      'label x\n  kernel k\n  append b',
    )
  })
  it('names of other bytes than ASCII', () => {
    const bytes = Buffer.from('label \xe9\n append a=\xe9', 'latin1')
    const config = parseSyslinux(bytes)
    const changed = changeSyslinuxArguments(config, config.labels[0]!, [{ set: 'b', value: 'ü' }])
    expect(Buffer.from(printSyslinux(changed)).equals(Buffer.concat([bytes, Buffer.from(' b=ü')]))).toBe(true)
  })
  it('the timeout, in tenths of a second', async () => {
    const text = bootFixture('f36-isolinux.cfg')
    expect(lineChanges(text, printed(setSyslinuxTimeout(parsed(text), 5)))).toEqual({
      gone: ['timeout 600'],
      came: ['timeout 50'],
    })
    expect(printed(setSyslinuxTimeout(parsed(text), undefined))).toContain('timeout 0\n')
    expect(printed(setSyslinuxTimeout(parsed(text), 0))).toContain('timeout 1\n')
    expect(printed(setSyslinuxTimeout(parsed('# c\nlabel x\n'), 5))).toBe('# c\ntimeout 50\nlabel x\n')
    await failure((async () => setSyslinuxTimeout(parsed(text), -1))(), 'USAGE')
  })
  it('the default, as the menu and as the prompt take it', async () => {
    const text = bootFixture('f36-isolinux.cfg')
    const changed = setSyslinuxDefault(parsed(text), 'check')
    expect(printed(changed).match(/menu default/g)).toHaveLength(1)
    const fs = (config: SyslinuxConfig) => medium({ '/isolinux/isolinux.cfg': printSyslinux(config) })
    const [config] = await findBootConfigs(fs(changed))
    expect(config!.entries.filter(({ isDefault }) => isDefault).map(({ id }) => id)).toEqual(['check'])
    expect(lineChanges(text, printed(setSyslinuxDefault(parsed(text), 'linux')))).toEqual({ gone: [], came: [] })
    expect(printed(setSyslinuxDefault(parsed('default a\nprompt 1\nlabel a\nlabel b'), 'b'))).toBe(
      'default b\nprompt 1\nlabel a\nlabel b',
    )
    await failure((async () => setSyslinuxDefault(parsed(text), 'none'))(), 'NOT_FOUND')
    await failure((async () => setSyslinuxDefault(parsed(text), 'a\nb'))(), 'USAGE')
  })
})

describe('menus', () => {
  const menuOf = async (text: string, more: Record<string, string> = {}) =>
    (await findBootConfigs(medium({ '/isolinux/isolinux.cfg': text, ...more })))[0]!

  it('APPEND is inherited, refused by a dash, and its initrd may be a list', async () => {
    const { entries } = await menuOf(
      'append x=1 initrd=a.img,/b.img\nlabel one\n kernel k\nlabel two\n kernel /k\n append -\nlabel three\n linux ../k3 y\n initrd c.img,d.img\n append z\n',
      { '/k': '', '/isolinux/k': '', '/b.img': '' },
    )
    expect(
      entries.map(({ kernel, initrds, commandLine }) => [kernel?.path, initrds.map(({ path }) => path), commandLine]),
    ).toEqual([
      ['/isolinux/k', ['/isolinux/a.img', '/b.img'], 'x=1 initrd=a.img,/b.img'],
      ['/k', [], ''],
      ['/k3', ['/isolinux/c.img', '/isolinux/d.img'], 'y z initrd=c.img,d.img'],
    ])
    expect(entries[0]!.initrds.map(({ exists }) => exists)).toEqual([false, true])
  })
  it('an include may open a submenu; a loop of them ends', async () => {
    const { entries, findings, files } = await menuOf('include more.cfg Deeper in\nlabel top\n kernel k\n', {
      '/isolinux/more.cfg': 'label inner\n kernel k\ninclude isolinux.cfg\nmenu include more.cfg again\n',
    })
    expect(entries.map(({ id, submenu }) => [id, submenu])).toEqual([
      ['inner', ['Deeper in']],
      ['top', []],
    ])
    expect(files).toEqual(['/isolinux/isolinux.cfg', '/isolinux/more.cfg'])
    expect(findings.filter(({ code }) => code === 'BOOT_INCLUDE_LOOP').map(({ where }) => where)).toEqual([
      '/isolinux/isolinux.cfg',
      '/isolinux/more.cfg',
    ])
  })
  it('includes that double at each step are bounded', async () => {
    const files = Object.fromEntries(
      Array.from({ length: 30 }, (_, n) => [
        `/isolinux/${n}.cfg`,
        `include ${n + 1}.cfg\nlabel l${n}\n kernel k\ninclude ${n + 1}.cfg\n`,
      ]),
    )
    const { findings, entries } = await menuOf('include 0.cfg\n', files)
    expect(findings.some(({ code }) => code === 'BOOT_INCLUDE_DEPTH')).toBe(true)
    expect(entries.length).toBeLessThanOrEqual(64)
  })
  it('menus nested too deep, too many entries, TEXT without end', async () => {
    const deep = await menuOf(`${'menu begin a\n'.repeat(50_000)}label x\n`)
    expect(deep.entries[0]!.submenu.length).toBeLessThanOrEqual(33)
    expect(deep.findings.map(({ code }) => code)).toContain('BOOT_TOO_DEEP')
    const many = await menuOf('label x\nlocalboot 0\n'.repeat(5000))
    expect(many.entries).toHaveLength(1000)
    expect(many.findings.map(({ code }) => code)).toContain('BOOT_TOO_MUCH')
    expect((await menuOf('label x\nlocalboot 0\ntext help\nno end')).findings.map(({ code }) => code)).toEqual([
      'BOOT_SYNTAX',
    ])
  })
  it('a default that is no label, a file that is missing, an include that is missing', async () => {
    const { findings, timeout } = await menuOf('default gone\nlabel x\nkernel k\ninclude none.cfg\n')
    expect(findings.map(({ code }) => code).sort()).toEqual([
      'BOOT_DEFAULT_UNKNOWN',
      'BOOT_INCLUDE_MISSING',
      'BOOT_KERNEL_MISSING',
    ])
    expect(timeout).toBe(0)
  })
  it('MENU DEFAULT of a submenu is no default of the menu', async () => {
    const text =
      'ui menu.c32\nlabel a\nlocalboot 0\nmenu begin s\nlabel b\nmenu default\nlocalboot 0\nmenu end\nlabel c\nlocalboot 0\n'
    const of = async (more: string) =>
      (await menuOf(text + more)).entries.filter(({ isDefault }) => isDefault).map(({ id }) => id)
    expect([await of(''), await of('default c\n'), await of('menu default\n')]).toEqual([['a'], ['c'], ['c']])
  })
  it('a configuration of more than 1 MiB is not read', async () => {
    const { entries, findings } = await menuOf(`label x\n${'#'.repeat(1 << 20)}`)
    expect([entries.length, findings.map(({ code }) => code)]).toEqual([0, ['BOOT_CONFIG_TOO_LARGE']])
  })
})
