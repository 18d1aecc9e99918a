import { describe, expect, it } from 'vitest'
import {
  type BlsFile,
  blsValues,
  changeBlsArguments,
  parseBls,
  printBls,
  setBlsValue,
} from '../../../../src/liveos/boot/bls.js'
import { findBootConfigs } from '../../../../src/liveos/boot/find.js'
import { parseGrubEnv, printGrubEnv, setGrubVariable } from '../../../../src/liveos/boot/grubenv.js'
import {
  changeLegacyGrubArguments,
  parseLegacyGrub,
  printLegacyGrub,
  setLegacyGrub,
} from '../../../../src/liveos/boot/legacy-grub.js'
import { lineChanges } from '../../../support/boot-edit.js'
import { bootFixture, medium } from '../../../support/boot-media.js'
import { failure } from '../../../support/outcome.js'

const ENTRY = `title Fedora Linux (6.5.6-300.fc39.x86_64) 39
version 6.5.6-300.fc39.x86_64
linux /vmlinuz-6.5.6-300.fc39.x86_64
initrd /initramfs-6.5.6-300.fc39.x86_64.img $tuned_initrd
initrd /extra.img
# a comment
options root=UUID=1 ro
options rhgb $tuned_params
grub_users $grub_users
unknown-key x
`
const bls = (text: string): BlsFile => parseBls(Buffer.from(text))
const printed = (file: BlsFile): string => Buffer.from(printBls(file)).toString()

describe('boot loader entries', () => {
  it('keys may come again, comments and unknown keys stay', () => {
    const file = bls(ENTRY)
    expect(blsValues(file, 'options')).toEqual(['root=UUID=1 ro', 'rhgb $tuned_params'])
    expect(blsValues(file, 'initrd')).toHaveLength(2)
    expect(file.lines.filter(({ key }) => key === '')).toHaveLength(1)
  })
  it('arguments change where they stand, over several lines of options', async () => {
    const change = (...changes: Parameters<typeof changeBlsArguments>[1]) =>
      lineChanges(ENTRY, printed(changeBlsArguments(bls(ENTRY), changes)))
    expect(change({ set: 'root', value: 'UUID=2' })).toEqual({
      gone: ['options root=UUID=1 ro'],
      came: ['options root=UUID=2 ro'],
    })
    expect(change({ remove: 'rhgb' }, { insert: 'quiet' })).toEqual({
      gone: ['options rhgb $tuned_params'],
      came: ['options $tuned_params quiet'],
    })
    expect(change({ remove: 'root' }, { remove: 'ro' }).came).toEqual(['options'])
    await failure((async () => change({ remove: '$tuned_params' }))(), 'REFUSED')
    expect(printed(changeBlsArguments(bls('linux /k'), [{ set: 'a' }]))).toBe('linux /k\noptions a')
    expect(printed(changeBlsArguments(bls('linux /k\r\n'), [{ set: 'a' }]))).toBe('linux /k\r\noptions a\r\n')
  })
  it('keys of loader.conf', async () => {
    expect(printed(setBlsValue(bls('#c\ntimeout 3\n'), 'timeout', '9'))).toBe('#c\ntimeout 9\n')
    expect(printed(setBlsValue(bls('timeout\ndefault x'), 'timeout', '9'))).toBe('timeout 9\ndefault x')
    expect(printed(setBlsValue(bls(''), 'default', 'a*'))).toBe('default a*\n')
    await failure((async () => setBlsValue(bls(''), 'a b', 'x'))(), 'USAGE')
  })
  it('systemd-boot: newest first, its default a pattern', async () => {
    const [config] = await findBootConfigs(
      medium({
        '/loader/entries/m-6.9.conf': 'title Nine\nlinux /k9\noptions root=live:UUID=1\n',
        '/loader/entries/m-6.10.conf': 'version 6.10\nefi /EFI/k.efi\n',
        '/loader/loader.conf': 'timeout 4\ndefault m-6.9*\n',
        '/k9': '',
      }),
    )
    expect(config).toMatchObject({ kind: 'bls', path: '/loader/entries', firmware: 'uefi', timeout: 4 })
    expect(
      config!.entries.map(({ id, title, kind, isDefault, kernel }) => [id, title, kind, isDefault, kernel?.exists]),
    ).toEqual([
      ['m-6.10', 'm-6.10 6.10', 'local', false, undefined],
      ['m-6.9', 'Nine', 'live', true, true],
    ])
  })
  it('GRUB lists them by blscfg, with the variables of its environment, /boot being a part of the root', async () => {
    const configs = await findBootConfigs(
      medium({
        '/boot/loader/entries/a.conf': ENTRY,
        '/boot/vmlinuz-6.5.6-300.fc39.x86_64': '',
        '/boot/initramfs-6.5.6-300.fc39.x86_64.img': '',
        '/boot/extra.img': '',
        '/boot/grub2/grub.cfg':
          'set tuned_params="a=b"\nset default=a\ninsmod blscfg\nblscfg\nmenuentry last { exit; }\n',
      }),
    )
    expect(configs.map(({ kind }) => kind)).toEqual(['grub2'])
    expect(configs[0]!.findings).toEqual([])
    expect(configs[0]!.entries[0]).toMatchObject({
      id: 'a',
      isDefault: true,
      kernel: { path: '/boot/vmlinuz-6.5.6-300.fc39.x86_64', exists: true },
      initrds: [{ path: '/boot/initramfs-6.5.6-300.fc39.x86_64.img' }, { path: '/boot/extra.img', exists: true }],
      commandLine: 'root=UUID=1 ro rhgb a=b',
    })
  })
})

describe('grubenv', () => {
  const empty = `# GRUB Environment Block\n${'#'.repeat(999)}`
  const block = (text: string) => parseGrubEnv(Buffer.from(text))
  it('variables are set in place, the size stays', () => {
    let env = setGrubVariable(block(empty), 'saved_entry', 'a\\b')
    env = setGrubVariable(env, 'kernelopts', 'root=UUID=1 ro')
    expect(env.variables.map(({ name, value }) => [name, value])).toEqual([
      ['saved_entry', 'a\\b'],
      ['kernelopts', 'root=UUID=1 ro'],
    ])
    env = setGrubVariable(env, 'saved_entry', 'c')
    expect(Buffer.from(printGrubEnv(env)).toString()).toBe(
      `# GRUB Environment Block\nsaved_entry=c\nkernelopts=root=UUID=1 ro\n${'#'.repeat(959)}`,
    )
    env = setGrubVariable(setGrubVariable(env, 'saved_entry', undefined), 'kernelopts', undefined)
    expect(Buffer.from(printGrubEnv(env)).toString()).toBe(empty)
  })
  it('refuses what would break it', async () => {
    await failure((async () => setGrubVariable(block('x=1\n'), 'a', 'b'))(), 'CORRUPT')
    await failure((async () => setGrubVariable(block(empty), 'a', 'x'.repeat(1000)))(), 'NO_SPACE')
    await failure((async () => setGrubVariable(block(empty), 'a b', 'x'))(), 'USAGE')
    await failure((async () => setGrubVariable(block(empty), 'a', 'x\ny'))(), 'USAGE')
  })
})

describe('GRUB legacy', () => {
  const text = bootFixture('f17-BOOTX64.conf')
  const parsed = () => parseLegacyGrub(Buffer.from(text))
  it('entries, and edits of one', async () => {
    const config = parsed()
    expect(config.entries.map(({ title }) => title)).toEqual([
      'Fedora-17-x86_64-Live-Desktop.iso',
      'Verify and Boot Fedora-17-x86_64-Live-Desktop.iso',
    ])
    const changed = changeLegacyGrubArguments(config, config.entries[1]!, [
      { set: 'root', value: 'live:UUID=1' },
      { remove: 'quiet' },
    ])
    const { gone, came } = lineChanges(text, Buffer.from(printLegacyGrub(changed)).toString())
    expect(gone).toHaveLength(1)
    expect(came).toEqual([
      '  kernel /isolinux/vmlinuz0 root=live:UUID=1 rootfstype=auto ro rd.live.image rhgb rd.live.check',
    ])
    const none = parseLegacyGrub(Buffer.from('title x\nrootnoverify (hd0,0)\nchainloader +1\n'))
    await failure((async () => changeLegacyGrubArguments(none, none.entries[0]!, []))(), 'NOT_FOUND')
  })
  it('timeout and default', async () => {
    const set = (...args: [command: 'timeout' | 'default', value: number]) =>
      lineChanges(text, Buffer.from(printLegacyGrub(setLegacyGrub(parsed(), ...args))).toString())
    expect(set('timeout', 9)).toEqual({ gone: ['timeout 5'], came: ['timeout 9'] })
    expect(set('default', 1)).toEqual({ gone: ['default=0'], came: ['default=1'] })
    await failure((async () => set('default', -1))(), 'USAGE')
  })
  it('a menu.lst with other systems', async () => {
    const [config] = await findBootConfigs(
      medium({
        '/boot/grub/menu.lst':
          'default 1\ntitle Windows\nrootnoverify (hd0,0)\nchainloader +1\ntitle Linux\nroot (hd0,1)\nkernel --type=linux (hd0,1)/k ro\ninitrd /i\n',
        '/k': '',
      }),
    )
    expect(config).toMatchObject({ kind: 'grub-legacy', firmware: 'bios', timeout: undefined })
    expect(
      config!.entries.map(({ kind, isDefault, kernel, commandLine }) => [kind, isDefault, kernel?.path, commandLine]),
    ).toEqual([
      ['local', false, undefined, ''],
      ['linux', true, '/k', 'ro'],
    ])
    expect(config!.findings.map(({ code }) => code)).toEqual(['BOOT_INITRD_MISSING'])
  })
})
