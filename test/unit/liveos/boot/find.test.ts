import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LiveError } from '../../../../src/error.js'
import type { FileSystem } from '../../../../src/fs/filesystem.js'
import type { BootConfig } from '../../../../src/liveos/boot/config.js'
import { findBootConfigs } from '../../../../src/liveos/boot/find.js'
import { liveArguments } from '../../../../src/liveos/boot/live-arguments.js'
import { bootFixture, LAYOUTS, medium } from '../../../support/boot-media.js'
import { directory, file, mockFileSystem } from '../../../support/mock-filesystem.js'
import { failure } from '../../../support/outcome.js'

/** A configuration in short: kind, path, firmware, timeout, and what each entry starts. */
const short = ({ kind, path, firmware, timeout, entries }: BootConfig) => [
  kind,
  path,
  firmware,
  timeout,
  entries.map(entry => `${entry.isDefault ? '*' : ''}${entry.kind}${entry.conditional ? '?' : ''}`).join(' '),
]

describe('every layout', () => {
  it.each<[string, unknown[]]>([
    ['fedora7', [['isolinux', '/isolinux/isolinux.cfg', 'bios', 10, '*live live memtest local']]],
    ['fedora17', [['grub-legacy', '/EFI/BOOT/BOOTX64.conf', 'uefi', 5, '*live live']]],
    [
      'fedora36',
      [
        ['grub2', '/EFI/BOOT/BOOT.conf', 'uefi', 60, 'live *live live'],
        ['grub2', '/EFI/BOOT/grub.cfg', 'uefi', 60, 'live *live live'],
        ['isolinux', '/isolinux/isolinux.cfg', 'bios', 60, '*live live live memtest local menu'],
      ],
    ],
    [
      'fedora40',
      [
        ['grub2', '/EFI/BOOT/grub.cfg', 'uefi', 60, 'live *live live firmware? local? local?'],
        ['grub2', '/boot/grub2/grub.cfg', 'bios', 60, 'live *live live firmware? local? local?'],
      ],
    ],
    [
      'fedora42',
      [
        ['grub2', '/EFI/BOOT/grub.cfg', 'uefi', 60, '*live live local other?'],
        ['grub2', '/boot/grub2/grub.cfg', 'both', 60, '*live live local other?'],
      ],
    ],
    [
      'soasStick',
      [
        ['grub2', '/EFI/BOOT/grub.cfg', 'uefi', 60, 'live *live live'],
        ['syslinux', '/syslinux/SYSLINUX.CFG', 'bios', 10, '*live live local'],
      ],
    ],
    [
      'multiStick',
      [
        ['syslinux', '/F39/syslinux/syslinux.cfg', 'bios', 10, '*live menu'],
        ['syslinux', '/syslinux/syslinux.cfg', 'bios', 10, '*menu live'],
      ],
    ],
    [
      'debianLive',
      [
        ['grub2', '/boot/grub/grub.cfg', 'uefi', undefined, '*live installer'],
        ['isolinux', '/isolinux/isolinux.cfg', 'bios', undefined, '*live live menu'],
      ],
    ],
  ])('%s', async (name, expected) => {
    const configs = await findBootConfigs(LAYOUTS[name]!())
    expect(configs.map(short)).toEqual(expected)
    // On a sound medium all files are there.
    expect(configs.flatMap(({ findings }) => findings)).toEqual([])
    for (const { kernel, initrds } of configs.flatMap(({ entries }) => entries))
      for (const { exists } of [...initrds, ...(kernel ? [kernel] : [])]) expect(exists).toBe(true)
  })

  it('the live arguments of a stick, found in either case on FAT', async () => {
    const syslinux = (await findBootConfigs(LAYOUTS.soasStick!())).find(({ kind }) => kind === 'syslinux')!
    const live = liveArguments(syslinux.entries[0]!)
    expect(live.overlay?.value).toBe('UUID=1A2B-3C4D:/LiveOS/overlay-SOAS-1A2B-3C4D')
    expect(syslinux.entries[0]!.kernel).toEqual({ path: '/syslinux/vmlinuz', exists: true })
    const cased = await findBootConfigs(
      medium({ '/syslinux/syslinux.cfg': 'label x\nkernel k\n', '/syslinux/K': '' }, 'ext4'),
    )
    expect(cased[0]!.entries[0]!.kernel?.exists).toBe(false)
  })

  it('the menus of a multi-image stick lead to each other', async () => {
    const [inner, main] = await findBootConfigs(LAYOUTS.multiStick!())
    expect(inner!.entries[1]!.target?.path).toBe('/syslinux/syslinux.cfg')
    expect(main!.entries[0]!.target).toEqual({ path: '/F39/syslinux/syslinux.cfg', exists: true })
  })

  it('a menu under a name that says nothing is read too', async () => {
    const configs = await findBootConfigs(
      medium({
        '/syslinux/syslinux.cfg': 'label a\ncom32 menu.c32\nappend /other/x.conf\nlabel b\nconfig y.conf\n',
        '/other/x.conf': 'label c\nlocalboot 0\n',
        '/syslinux/y.conf': 'label d\nlocalboot 0\n',
      }),
    )
    expect(configs.map(({ path, entries }) => [path, entries.map(({ id }) => id)])).toEqual([
      ['/other/x.conf', ['c']],
      ['/syslinux/syslinux.cfg', ['a', 'b']],
      ['/syslinux/y.conf', ['d']],
    ])
  })
})

describe('media that are not in order', () => {
  const at = (path: string, node: ReturnType<typeof file>): FileSystem =>
    mockFileSystem(
      path
        .split('/')
        .reverse()
        .reduce((inner, name) => (name === '' ? inner : directory({ [name]: inner })), node),
    )

  it('a configuration of 100 MB is never read', async () => {
    let reads = 0
    const huge = {
      name: 'huge',
      size: 100 << 20,
      close: async () => {},
      read: async () => {
        reads++
        return new Uint8Array(0)
      },
    }
    const [config] = await findBootConfigs(at('/boot/grub2/grub.cfg', { kind: 'file', device: huge }))
    expect([reads, config!.entries, config!.findings.map(({ code }) => code)]).toEqual([
      0,
      [],
      ['BOOT_CONFIG_TOO_LARGE'],
    ])
  })
  it('what cannot be read is a finding', async () => {
    const fails = new LiveError('IO', 'the medium is broken')
    const [config] = await findBootConfigs(at('/isolinux/isolinux.cfg', file('', { fails })))
    expect(config!.findings.map(({ code }) => code)).toEqual(['BOOT_UNREADABLE'])
    const broken = mockFileSystem(
      directory({
        syslinux: directory({}, { fails }),
        isolinux: directory({ 'isolinux.cfg': file('label x\nlocalboot 0\n') }),
      }),
    )
    expect((await findBootConfigs(broken))[0]!.findings.map(({ code, where }) => [code, where])).toEqual([
      ['BOOT_UNREADABLE', '/syslinux'],
    ])
  })
  it('a root that cannot be listed is an error', async () => {
    const fs = mockFileSystem(directory({}, { fails: new LiveError('CORRUPT', 'broken') }))
    expect((await failure(findBootConfigs(fs))).code).toBe('CORRUPT')
  })
  it('our own mistakes are not findings', async () => {
    const fs = {
      ...at('/isolinux/isolinux.cfg', file('x')),
      open: async () => {
        throw new TypeError('bug')
      },
    }
    await expect(findBootConfigs(fs)).rejects.toThrow(TypeError)
  })
  it('files of users are not searched', async () => {
    const listed: string[] = []
    const inner = medium({
      '/photos/2019/07/grub.cfg': 'x',
      '/usr/lib/grub/grub.cfg': 'x',
      '/photos/boot/grub/grub.cfg': 'menuentry a { true; }',
    })
    const fs: FileSystem = {
      ...inner,
      list: path => {
        listed.push(path)
        return inner.list(path)
      },
    }
    expect((await findBootConfigs(fs)).map(({ path }) => path)).toEqual(['/photos/boot/grub/grub.cfg'])
    expect(listed).toEqual(['/', '/photos', '/photos/boot', '/photos/boot/grub'])
  })
  it('symlinks lead inside only, and loops of them nowhere', async () => {
    const [config] = await findBootConfigs(
      medium(
        {
          '/boot/grub2/grub.cfg': 'menuentry a { linux /boot/k\ninitrd /boot/i /boot/j\n}\n',
          '/boot/k': '-> ../../../../boot/vmlinuz',
          '/boot/vmlinuz': 'k',
          '/boot/i': '-> j',
          '/boot/j': '-> i',
        },
        'ext4',
      ),
    )
    expect([config!.entries[0]!.kernel?.exists, config!.entries[0]!.initrds.map(({ exists }) => exists)]).toEqual([
      true,
      [false, false],
    ])
  })
  it('bytes of any kind under every name: a list or a finding, never another error', async () => {
    const names = [
      '/isolinux/isolinux.cfg',
      '/boot/grub/grub.cfg',
      '/EFI/BOOT/BOOTX64.conf',
      '/boot/grub/menu.lst',
      '/loader/entries/a.conf',
      '/loader/loader.conf',
      '/boot/grub/grubenv',
    ]
    const texts = ['f36-isolinux.cfg', 'f40-grub.cfg', 'f17-BOOTX64.conf'].map(name => Buffer.from(bootFixture(name)))
    const spoiled = fc
      .tuple(fc.constantFrom(...texts), fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 20 }))
      .map(([text, flips]) => {
        const bytes = Uint8Array.from(text)
        for (const [offset, byte] of flips) bytes[offset % bytes.length] = byte
        return bytes
      })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(spoiled, fc.uint8Array({ maxLength: 200 })), {
          minLength: names.length,
          maxLength: names.length,
        }),
        async contents => {
          const configs = await findBootConfigs(
            medium(Object.fromEntries(names.map((name, n) => [name, contents[n]!]))),
          )
          expect(() => JSON.stringify(configs)).not.toThrow()
        },
      ),
      { numRuns: 150 },
    )
  })
})
