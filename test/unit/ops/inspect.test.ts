import { describe, expect, it } from 'vitest'
import type { FileSystem } from '../../../src/fs/filesystem.js'
import { parseArguments } from '../../../src/liveos/boot/arguments.js'
import { findBootConfigs } from '../../../src/liveos/boot/find.js'
import type { Volume } from '../../../src/liveos/source.js'
import { checkRoots, kernelVersions } from '../../../src/ops/inspect-boot.js'
import type { Inspecting } from '../../../src/ops/inspect-node.js'
import { askedOverlay, meansVolume } from '../../../src/ops/inspect-overlay.js'
import { medium } from '../../support/boot-media.js'

const volume = (fs: FileSystem | undefined, number?: number): Volume => ({
  name: `v${number ?? ''}`,
  partition: number === undefined ? undefined : ({ number, uuid: `1234-0${number}`, name: `part ${number}` } as never),
  device: undefined,
  type: undefined,
  fs,
  failure: undefined,
})
const named = (fs: FileSystem, label: string | undefined, uuid: string | undefined): FileSystem => ({
  ...fs,
  label,
  uuid,
})
const looking = (): Inspecting => ({ findings: [], depth: 9, remote: false })

const home = volume(
  named(
    medium({ '/LiveOS/overlay-LIVE-AB12-CD34': 'x', '/LiveOS/dir/': '', '/other/place': 'y' }),
    'LIVE',
    'AB12-CD34',
  ),
  1,
)
const data = volume(named(medium({ '/LiveOS/overlay-LIVE-AB12-CD34': 'x' }), 'MY DATA', 'feed-beef'), 2)
const nothing = volume(undefined, 3)
const all = [home, data, nothing]

describe('meansVolume', () => {
  it.each([
    ['UUID=AB12-CD34', true],
    ['UUID=ab12-cd34', true],
    ['UUID=feed-beef', false],
    ['LABEL=LIVE', true],
    ['LABEL=live', false],
    ['CDLABEL=LIVE', true],
    ['PARTUUID=1234-01', true],
    ['PARTLABEL=part 1', true],
    ['/dev/sdb1', undefined],
    ['', undefined],
  ])('%s', (word, expected) => expect(meansVolume(word, home)).toBe(expected))

  it('undoes the escapes of udev', () => expect(meansVolume('LABEL=MY\\x20DATA', data)).toBe(true))
  it('a volume without a filesystem has no label', () => expect(meansVolume('LABEL=LIVE', nothing)).toBe(false))
})

describe('askedOverlay', () => {
  const asked = (value: string | undefined, dir = 'LiveOS', volumes = all) =>
    askedOverlay(parseArguments(value === undefined ? 'rd.overlay' : `rd.live.overlay=${value}`)[0], home, dir, volumes)

  it.each(['none', 'NONE', '0', 'no', '1', 'yes', ''])('%s names no device', async value => {
    expect(await asked(value)).toBeUndefined()
  })
  it('the bare word neither', async () => {
    expect(await asked(undefined)).toBeUndefined()
    expect(await askedOverlay(undefined, home, '', all)).toBeUndefined()
  })

  it('the usual name where no path is given, of the stick’s label and UUID', async () => {
    for (const value of ['UUID=AB12-CD34', 'UUID=AB12-CD34:', 'UUID=AB12-CD34:auto'])
      expect(await asked(value)).toMatchObject({ path: '/LiveOS/overlay-LIVE-AB12-CD34', kind: 'file', volume: home })
    expect(await asked('UUID=feed-beef')).toMatchObject({ path: '/LiveOS/overlay-LIVE-AB12-CD34', volume: data })
    expect(await asked('LABEL=LIVE:auto', 'F39')).toMatchObject({
      path: '/F39/overlay-LIVE-AB12-CD34',
      kind: undefined,
    })
  })

  it('the path behind the last colon, with or without its slash', async () => {
    expect(await asked('UUID=AB12-CD34:other/place')).toMatchObject({ path: '/other/place', kind: 'file' })
    expect(await asked('UUID=AB12-CD34:x:/LiveOS/dir')).toMatchObject({ path: '/LiveOS/dir', kind: 'directory' })
  })

  it('a device that is not here; one that can’t be told is taken for the stick', async () => {
    expect(await asked('UUID=0000-0000:/x')).toMatchObject({ volume: undefined, kind: undefined })
    expect(await asked('/dev/sda1:/other/place')).toMatchObject({ volume: home, kind: 'file' })
    const nameless = volume(named(home.fs!, undefined, undefined))
    expect(
      await askedOverlay(parseArguments('overlay=UUID=1-2:/other/place')[0], nameless, '', [nameless]),
    ).toMatchObject({ volume: nameless, kind: 'file' })
  })
})

describe('checkRoots', () => {
  const config = (root: string) =>
    `default a\nlabel a\n  kernel vmlinuz\n  append root=${root} rd.live.image\nlabel b\n  kernel vmlinuz\n  append root=${root} rd.live.image rd.live.check\n`
  const told = async (root: string) => {
    const at = looking()
    const fs = named(medium({ '/syslinux/syslinux.cfg': config(root), '/syslinux/vmlinuz': 'k' }), 'LIVE', 'AB12-CD34')
    for (const found of await findBootConfigs(fs)) checkRoots(found, [volume(fs), data], at)
    return at.findings
  }

  it.each([
    'live:UUID=AB12-CD34',
    'live:CDLABEL=LIVE',
    'live:LABEL=MY\\x20DATA',
    'live:/dev/sda1',
    '/dev/sda2',
    'live:UUID=$id',
  ])('%s is right, or can’t be told', async root => expect(await told(root)).toEqual([]))
  it('another medium is told once for all entries of a configuration', async () => {
    const findings = await told('live:CDLABEL=Fedora-36')
    expect(findings).toMatchObject([
      { code: 'BOOT_ROOT_ELSEWHERE', severity: 'warning', expected: 'CDLABEL=Fedora-36' },
    ])
    expect(findings[0]!.message).toContain('2 entries look for a medium with CDLABEL=Fedora-36')
  })
})

describe('kernelVersions', () => {
  const image = Buffer.alloc(4096)
  image.write('HdrS', 0x202, 'latin1')
  image.writeUInt16LE(0x20f, 0x206)
  image.writeUInt16LE(0x600, 0x20e)
  image.write('5.17.5-300.fc36.x86_64 (x)\0', 0x800, 'latin1')

  it('asks each kernel once; what is none, missing or too long to search says nothing', async () => {
    let opened = 0
    const made = medium({ '/k': image, '/text': 'no kernel', '/elf': `\x7fELF${'\0'.repeat(300_000)}` })
    const fs: FileSystem = {
      ...made,
      open(path) {
        opened++
        return made.open(path)
      },
    }
    const local = kernelVersions(fs, looking())
    expect([await local('/k'), await local('/K'), await local('/k')]).toEqual(Array(3).fill('5.17.5-300.fc36.x86_64'))
    expect(opened).toBe(2)
    for (const path of ['/text', '/none', '/elf']) expect(await local(path)).toBeUndefined()
    let read = 0
    const counted: FileSystem = {
      ...made,
      async open(path) {
        const device = await made.open(path)
        const counting = (offset: number, length: number) => {
          read += length
          return device.read(offset, length)
        }
        return { ...device, read: counting }
      },
    }
    expect(await kernelVersions(counted, { ...looking(), remote: true })('/elf')).toBeUndefined()
    expect(read).toBeLessThanOrEqual(128 << 10)
  })
})
