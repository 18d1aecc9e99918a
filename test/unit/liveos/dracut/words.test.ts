import { describe, expect, it } from 'vitest'
import { parseArguments } from '../../../../src/liveos/boot/arguments.js'
import { getArg, getBool } from '../../../../src/liveos/dracut/command-line.js'
import { fitsDevice, parseDeviceWord, parseMountWord } from '../../../../src/liveos/dracut/device-word.js'
import { parseOverlayWord } from '../../../../src/liveos/dracut/overlay-word.js'
import { liveSettings } from '../../../../src/liveos/dracut/settings.js'
import { dracutNumber } from '../../../../src/liveos/dracut/version.js'

it.each([
  ['059-4', 59],
  ['107-8.fc43', 107],
  ['111', 111],
  ['055-107.fc36', 55],
  ['057+suse.335.g1', 57],
  ['0', 0],
  ['git', undefined],
  [undefined, undefined],
  ['99999', undefined],
])('dracutNumber(%s)', (version, number) => {
  expect(dracutNumber(version)).toBe(number)
})

describe('a command line', () => {
  it('has the last argument of a name, by its very letters', () => {
    const list = parseArguments('a=1 a=2 a_b=3 a=')
    expect(getArg(list, 'a')?.value).toBe('')
    expect(getArg(list, 'a-b')).toBeUndefined()
  })

  it.each([
    ['x', true],
    ['x=1', true],
    ['x=0', false],
    ['x=no', false],
    ['x=off', false],
    ['x=none', true],
    ['x=UUID=1', true],
    ['x=', true],
    ['', false],
    ['x=1 x=0', false],
    ['old=0', true],
    ['second', true],
    ['x=0 second', false],
  ])('%s: the switch x is %s', (text, on) => {
    expect(getBool(parseArguments(text), ['x', 'second'], ['old']).value).toBe(on)
  })
})

describe('parseDeviceWord', () => {
  it.each([
    ['UUID=1A2B-3C4D', 'UUID', '1A2B-3C4D'],
    ['CDLABEL=Fedora-WS-Live', 'LABEL', 'Fedora-WS-Live'],
    ['LABEL=A\\x20B', 'LABEL', 'A B'],
    ['PARTUUID=1-01', 'PARTUUID', '1-01'],
    ['/dev/disk/by-label/A\\x20B', 'LABEL', 'A B'],
    ['/dev/disk/by-uuid/1A2B-3C4D', 'UUID', '1A2B-3C4D'],
    ['/dev/sdb1', 'path', '/dev/sdb1'],
    ['https://example.org/live.iso', 'url', 'https://example.org/live.iso'],
    ['/boot/live.iso', 'iso', '/boot/live.iso'],
    ['/live.IMG', 'image', '/live.IMG'],
    ['', 'nothing', ''],
    ['1', 'path', '1'],
  ])('%s', (raw, by, value) => {
    expect(parseDeviceWord(raw)).toEqual({ by, value, raw })
  })

  it('tells upper and lower case of an id apart, and says so', () => {
    const names = { label: 'LIVE', uuid: '1A2B-3C4D', partLabel: undefined, partUuid: undefined }
    expect(fitsDevice(parseDeviceWord('UUID=1A2B-3C4D'), names)).toBe(true)
    expect(fitsDevice(parseDeviceWord('UUID=1a2b-3c4d'), names)).toBe('case')
    expect(fitsDevice(parseDeviceWord('LABEL=live'), names)).toBe(false)
    expect(fitsDevice(parseDeviceWord('UUID=5'), names)).toBe(false)
    expect(fitsDevice(parseDeviceWord('PARTUUID=5'), names)).toBeUndefined()
    expect(fitsDevice(parseDeviceWord('/dev/sdb1'), names)).toBeUndefined()
    expect(fitsDevice(parseDeviceWord('/a.iso'), names)).toBe(false)
  })
})

describe('parseMountWord', () => {
  it.each([
    ['LABEL=A B', 'LABEL', 'A B'],
    ['LABEL=A\\x20B', 'LABEL', 'A\\x20B'],
    ["LABEL='A B'", 'LABEL', 'A B'],
    ['CDLABEL=LIVE', 'path', 'CDLABEL=LIVE'],
    ['/dev/disk/by-label/A\\x20B', 'LABEL', 'A B'],
    ['/dev/sdb1', 'path', '/dev/sdb1'],
    ['/live.iso', 'path', '/live.iso'],
    ['', 'nothing', ''],
  ])('%s is to mount what it is', (raw, by, value) => {
    expect(parseMountWord(raw)).toEqual({ by, value, raw })
  })

  it('is what an overlay is named by', () => {
    const found = (text: string) =>
      parseOverlayWord(liveSettings(parseArguments(text), 111), { label: 'A B', uuid: undefined })?.device.by
    expect(found('rd.live.overlay=CDLABEL=LIVE')).toBe('path')
    expect(found('rd.live.overlay="LABEL=A B:/x"')).toBe('LABEL')
  })
})

describe('liveSettings', () => {
  const settings = (text: string, version: number) => liveSettings(parseArguments(text), version)

  it.each([
    ['root=live:LABEL=LIVE', 'LABEL=LIVE'],
    ['rd.live.image root=UUID=1', 'UUID=1'],
    ['root=UUID=1', undefined],
    ['rd.live.image=0 root=UUID=1', undefined],
    ['root=http://example.org/a.iso', 'http://example.org/a.iso'],
    ['rd.live.image', undefined],
  ])('%s: the live device is %s', (text, raw) => {
    expect(settings(text, 100).root?.value.raw).toBe(raw)
  })

  it.each([
    // what the words of an overlay are, and whether an OverlayFS is wanted
    [109, 'rd.live.overlay=UUID=1', 'UUID=1', false],
    [109, 'rd.overlay=UUID=1', '', false],
    [109, 'rd.overlay', '', false],
    [109, 'rd.live.overlay.overlayfs', '', true],
    [103, 'overlay=UUID=1', 'UUID=1', false],
    [104, 'overlay=UUID=1', '', false],
    [110, 'rd.overlay=UUID=1', 'UUID=1', true],
    [110, 'rd.overlay=none', 'none', true],
    [110, 'rd.live.overlay=none', 'none', false],
    [110, 'rd.overlay', '', true],
    [110, 'rd.overlay=1 rd.live.overlay=UUID=1', 'UUID=1', true],
    [110, 'rd.overlay=0 rd.live.overlay=UUID=1 rd.live.overlay.overlayfs', 'UUID=1', false],
    [110, 'rd.overlay=yes', 'yes', true],
    [110, 'rd.live.overlay.overlayfs', '', true],
  ])('dracut %d, %s', (version, text, overlay, overlayfs) => {
    const found = settings(text, version)
    expect([found.overlay.value, found.overlayfs.value]).toEqual([overlay, overlayfs])
  })

  it.each([
    [59, 'reset_overlay readonly_overlay live_ram writable_fsimg liveimg root=LABEL=A live_dir=B', true],
    [104, 'reset_overlay readonly_overlay live_ram writable_fsimg liveimg root=LABEL=A live_dir=B', false],
    [
      104,
      'rd.live.overlay.reset rd.live.overlay.readonly rd.live.ram rd.writable.fsimg rd.live.image root=LABEL=A rd.live.dir=B',
      true,
    ],
    [
      110,
      'rd.overlay.reset rd.overlay.readonly rd.live.ram rd.writable.fsimg rd.live.image root=LABEL=A rd.live.dir=B',
      true,
    ],
    [109, 'rd.overlay.reset rd.overlay.readonly', false],
  ])('dracut %d knows %s: %s', (version, text, known) => {
    const { reset, readOnly, ram, writableImage, root, liveDir } = settings(text, version)
    expect([reset.value, readOnly.value]).toEqual([known, known])
    if (!text.includes('ram')) return
    expect([ram.value, writableImage.value, root !== undefined, liveDir.value === 'B']).toEqual([
      known,
      known,
      known,
      known,
    ])
  })

  it('reads the old name of the read-only overlay in one place only, since 110', () => {
    const of = (text: string, version: number) => {
      const { readOnly, readOnlyMount } = settings(text, version)
      return [readOnly.value, readOnlyMount.value]
    }
    expect(of('rd.live.overlay.readonly', 109)).toEqual([true, true])
    expect(of('rd.live.overlay.readonly', 110)).toEqual([true, false])
    expect(of('rd.overlay.readonly', 110)).toEqual([true, true])
  })

  it('has defaults where numbers or names are none', () => {
    const found = settings('rd.live.overlay.size=big rd.live.dir= rd.minmem=2048 rw ro', 111)
    expect(found.overlaySize.value).toBe(32768)
    expect(found.liveDir.value).toBe('LiveOS')
    expect(found.leastMemory.value).toBe(2048)
    expect(found.mode.value).toBe('ro')
  })
})

describe('parseOverlayWord', () => {
  const word = (text: string, version = 111) => {
    const found = parseOverlayWord(liveSettings(parseArguments(text), version), { label: 'LIVE', uuid: '1A2B-3C4D' })
    return found && [found.device.raw, found.path, found.automatic]
  }
  it.each([
    ['rd.live.overlay=UUID=1', ['UUID=1', '/LiveOS/overlay-LIVE-1A2B-3C4D', true]],
    ['rd.live.overlay=UUID=1:auto', ['UUID=1', '/LiveOS/overlay-LIVE-1A2B-3C4D', true]],
    ['rd.live.overlay=UUID=1: rd.live.dir=F40', ['UUID=1', '/F40/overlay-LIVE-1A2B-3C4D', true]],
    ['rd.live.overlay=UUID=1:/a/b', ['UUID=1', '/a/b', false]],
    ['rd.live.overlay=UUID=1:a/b', ['UUID=1', '/a/b', false]],
    ['rd.live.overlay=UUID=1:/a:/b', ['UUID=1', '/b', false]],
    ['rd.live.overlay=:/a', ['', '/a', false]],
    ['rd.live.overlay=none', undefined],
    ['rd.live.overlay=NONE', undefined],
    ['rd.live.overlay=nONE', ['nONE', '/LiveOS/overlay-LIVE-1A2B-3C4D', true]],
    ['quiet', undefined],
  ])('%s', (text, expected) => {
    expect(word(text)).toEqual(expected)
  })

  it('puts a slash before a path since dracut 100', () => {
    expect(word('rd.live.overlay=UUID=1:a', 60)).toEqual(['UUID=1', 'a', false])
    expect(word('rd.live.overlay=UUID=1:a', 100)).toEqual(['UUID=1', '/a', false])
  })

  it('leaves label and UUID empty where the medium has none', () => {
    const found = parseOverlayWord(liveSettings(parseArguments('rd.live.overlay=UUID=1'), 111), {
      label: undefined,
      uuid: undefined,
    })
    expect(found?.path).toBe('/LiveOS/overlay--')
  })
})
