import { describe, expect, it } from 'vitest'
import { parseArguments } from '../../../../src/liveos/boot/arguments.js'
import type {
  DeviceFacts,
  DeviceMatch,
  ImageInside,
  LiveFacts,
  OverlayFacts,
} from '../../../../src/liveos/dracut/facts.js'
import { type BootPlan, type PlanInitrd, planBoot } from '../../../../src/liveos/dracut/plan.js'
import { liveSettings } from '../../../../src/liveos/dracut/settings.js'

const device = (more: Partial<DeviceFacts> = {}): DeviceFacts => ({
  name: 'partition 1',
  type: 'ext4',
  readOnly: false,
  label: 'LIVE',
  uuid: '1A2B-3C4D',
  partLabel: undefined,
  partUuid: undefined,
  ...more,
})
const match = (more: Partial<DeviceMatch> = {}): DeviceMatch => ({
  device: device(),
  count: 1,
  assumed: false,
  byCase: undefined,
  ...more,
})
const INSIDE: ImageInside = { liveOS: false, rootfs: false, ext3fs: false, proc: false, usr: false, ostree: false }
const NESTED = { ...INSIDE, liveOS: true, rootfs: true }
const FLAT = { ...INSIDE, proc: true, usr: true }
const SIZE = 4194304 * 512
const squashed = (inside: ImageInside | undefined, type = 'squashfs'): LiveFacts['image'] => ({
  packed: { path: '/LiveOS/squashfs.img', size: 200 << 20, type, inside },
  plain: [],
  rootSize: inside?.liveOS ? SIZE : undefined,
})
const PLAIN: LiveFacts['image'] = {
  packed: undefined,
  plain: [{ path: '/LiveOS/rootfs.img', name: 'rootfs.img', size: SIZE }],
  rootSize: SIZE,
}
const NOTHING: OverlayFacts = {
  kind: 'nothing',
  content: undefined,
  invalid: false,
  size: undefined,
  prepared: undefined,
}
const STORE: OverlayFacts = { ...NOTHING, kind: 'file', content: 'store', size: 1 << 30 }
const DIRECTORY: OverlayFacts = { ...NOTHING, kind: 'directory', prepared: true }
const EMBEDDED: OverlayFacts = { ...NOTHING, kind: 'file', content: 'ext4', prepared: true }

interface Given {
  readonly args?: string
  readonly version?: number
  readonly image?: LiveFacts['image']
  readonly found?: OverlayFacts
  readonly on?: Partial<DeviceFacts>
  readonly facts?: Partial<LiveFacts>
  readonly initrd?: Partial<PlanInitrd>
}

const ROOT = 'root=live:UUID=1A2B-3C4D rd.live.image'
const NEW = 'rd.live.overlay=UUID=1A2B-3C4D'
const PATHED = `${NEW}:/LiveOS/overlay-LIVE-1A2B-3C4D`

const plan = ({
  args = '',
  version = 107,
  image = squashed(NESTED),
  found = NOTHING,
  on,
  facts,
  initrd,
}: Given): BootPlan => {
  const settings = liveSettings(parseArguments(`${ROOT} ${args}`), version)
  const live = match({ device: device(on) })
  return planBoot(
    settings,
    { modules: undefined, systemd: true, ...initrd },
    {
      live,
      image,
      overlay: settings.overlay.value === '' ? undefined : { match: live, found, sameDevice: true },
      home: undefined,
      swap: undefined,
      livesys: true,
      updates: false,
      ...facts,
    },
  )
}

/** A plan in a line: outcome, changes, root and where changes go. */
const short = (given: Given): string => {
  const { outcome, changes, root } = plan(given)
  return outcome === 'boots' ? `${changes} ${root.kind} ${root.upper ?? '-'}` : outcome
}
const tables = (given: Given): string[] =>
  plan(given).tables.map(({ name, table, readOnly }) => `${name}${readOnly ? ' ro' : ''}: ${table}`)
const codes = (given: Given): string[] => plan(given).findings.map(({ code }) => code)

const PATH = '/LiveOS/overlay-LIVE-1A2B-3C4D'
const BASE = 'live-base ro: 0 4194304 linear base 0'

describe('an overlay of device-mapper', () => {
  it.each([59, 60, 100, 103, 109, 110, 111])('is used by dracut %d', version => {
    expect(short({ args: NEW, found: STORE, version })).toBe(`kept dm-snapshot ${PATH}`)
    expect(tables({ args: NEW, found: STORE, version })).toEqual([
      'live-rw: 0 4194304 snapshot base overlay PO 8',
      BASE,
    ])
  })

  it('is temporary where none is asked for, without a prompt', () => {
    expect(short({})).toBe('lost dm-snapshot -')
    expect(tables({})).toEqual(['live-rw: 0 4194304 snapshot base temporary PO 8', BASE])
    expect(plan({}).prompts).toEqual([])
    expect(plan({}).overlay).toMatchObject({ asked: false, used: false })
  })

  it.each<[string, Given, RegExp]>([
    ['there is nothing', {}, /there is no \/LiveOS\/overlay-LIVE/],
    ['the medium is read-only', { found: STORE, on: { readOnly: true } }, /can't be written to/],
    ['a directory has no sister', { found: { ...DIRECTORY, prepared: false } }, /no ovlwork beside it/],
    ['a filesystem lacks the directories', { found: { ...EMBEDDED, prepared: false } }, /without the directories/],
    [
      'the device is missing',
      { facts: { overlay: { match: match({ device: undefined, count: 0 }), found: NOTHING, sameDevice: false } } },
      /no device here is/,
    ],
    [
      'the case differs',
      {
        facts: {
          overlay: {
            match: match({ device: undefined, count: 0, byCase: device() }),
            found: NOTHING,
            sameDevice: false,
          },
        },
      },
      /upper and lower case/,
    ],
  ])('is not used where %s, and the boot asks', (_, given, why) => {
    const made = plan({ args: NEW, ...given })
    expect(made.overlay.used).toBe(false)
    expect(made.overlay.why).toMatch(why)
    expect(made.changes).toBe('lost')
    expect(made.prompts).toHaveLength(1)
    expect(codes({ args: NEW, ...given })).toContain('OVERLAY_NOT_USED')
  })

  it('does not ask where it is told not to, since dracut 106', () => {
    const args = `${NEW} rd.live.overlay.nouserconfirmprompt`
    expect(plan({ args, version: 105 }).prompts).toHaveLength(1)
    expect(plan({ args, version: 106 }).prompts).toEqual([])
  })

  it('is found by a path without a slash since dracut 100, with spaces since 103', () => {
    const args = `${NEW}:LiveOS/o`
    expect(plan({ args, found: STORE, version: 60 }).overlay.used).toBe(false)
    expect(plan({ args, found: STORE, version: 100 }).overlay.used).toBe(true)
    const spaced = `"${NEW}:/my overlay"`
    expect(plan({ args: spaced, found: STORE, version: 102 }).overlay.why).toMatch(/spaces/)
    expect(plan({ args: spaced, found: STORE, version: 103 }).overlay.used).toBe(true)
  })

  it('is only read, under a temporary one', () => {
    const given = { args: `${NEW} rd.live.overlay.readonly`, found: STORE }
    expect(short(given)).toBe('lost dm-snapshot -')
    expect(tables(given)).toEqual([
      'live-ro ro: 0 4194304 snapshot base overlay P 8',
      'live-rw: 0 4194304 snapshot live-ro temporary PO 8',
      BASE,
    ])
  })

  it('that is not there is laid twice over one store where it was to be only read', () => {
    const given = { args: `${NEW} rd.live.overlay.readonly` }
    expect(tables(given)[0]).toBe('live-ro ro: 0 4194304 snapshot base temporary P 8')
    expect(codes(given)).toContain('READONLY_WITHOUT_OVERLAY')
  })

  it('is emptied by reset', () => {
    expect(short({ args: `${NEW} rd.live.overlay.reset`, found: STORE })).toBe(`emptied dm-snapshot ${PATH}`)
    expect(short({ args: `${NEW} rd.overlay.reset`, found: STORE, version: 111 })).toBe(`emptied dm-snapshot ${PATH}`)
  })

  it('ends the boot where the kernel has given it up', () => {
    expect(short({ args: NEW, found: { ...STORE, invalid: true } })).toBe('fails')
    expect(short({ args: `${NEW} rd.live.overlay.reset`, found: { ...STORE, invalid: true } })).toBe(
      `emptied dm-snapshot ${PATH}`,
    )
  })

  it('is not written to by a thin root', () => {
    const given = { args: `${NEW} rd.live.overlay.thin rd.live.overlay.size=1024`, found: STORE }
    expect(tables({ ...given, version: 60 })).toEqual([
      'live-overlay-pool: 0 2097152 thin-pool meta data 1024 1024',
      'live-rw: 0 4194304 thin live-overlay-pool 0 base',
      BASE,
    ])
    expect(tables({ ...given, version: 100 })[1]).toBe('live-rw: 0 2097152 thin live-overlay-pool 0 base')
    expect(codes(given)).toContain('THIN_NOT_PERSISTENT')
    expect(short(given)).toBe('lost dm-thin -')
  })

  it('can not lie over a flat image', () => {
    expect(short({ args: NEW, image: squashed(FLAT), found: STORE })).toBe('fails')
    expect(codes({ args: NEW, image: squashed(FLAT), found: STORE })).toContain('DRACUT_FLAT_WITH_SNAPSHOT')
  })
})

describe('the image', () => {
  it.each<[string, Given, string]>([
    ['nested', {}, 'nested'],
    ['unpacked', { image: PLAIN }, 'plain'],
    [
      'flat by /proc until 105',
      { image: squashed({ ...INSIDE, proc: true }), version: 105, args: 'rd.live.overlay.overlayfs' },
      'flat',
    ],
    ['flat by /usr since 106', { image: squashed({ ...INSIDE, usr: true }), version: 106 }, 'flat'],
    ['flat by /ostree since 110', { image: squashed({ ...INSIDE, ostree: true }), version: 110 }, 'flat'],
    ['EROFS since 103', { image: squashed(undefined, 'erofs'), version: 103 }, 'flat'],
    ['ext3fs.img until 109', { image: squashed({ ...INSIDE, liveOS: true, ext3fs: true }), version: 109 }, 'nested'],
  ])('is %s', (_, given, layout) => {
    expect(plan(given).root.layout).toBe(layout)
  })

  it.each<[string, Given, string]>([
    ['/usr alone before 106', { image: squashed({ ...INSIDE, usr: true }), version: 105 }, 'IMAGE_WITHOUT_ROOT'],
    ['/proc alone since 106', { image: squashed({ ...INSIDE, proc: true }), version: 106 }, 'IMAGE_WITHOUT_ROOT'],
    ['/ostree alone before 110', { image: squashed({ ...INSIDE, ostree: true }), version: 109 }, 'IMAGE_WITHOUT_ROOT'],
    ['EROFS before 103', { image: squashed(undefined, 'erofs'), version: 102 }, 'DRACUT_TOO_OLD'],
    [
      'ext3fs.img since 110',
      { image: squashed({ ...INSIDE, liveOS: true, ext3fs: true }), version: 110 },
      'IMAGE_WITHOUT_ROOT',
    ],
    ['a LiveOS without rootfs.img', { image: squashed({ ...FLAT, liveOS: true }) }, 'IMAGE_WITHOUT_ROOT'],
    ['something else', { image: squashed(undefined, 'ext4') }, 'IMAGE_UNKNOWN'],
    ['a squashfs of which nothing can be read', { image: squashed(undefined) }, 'IMAGE_DAMAGED'],
    ['none', { image: { packed: undefined, plain: [], rootSize: undefined } }, 'IMAGE_MISSING'],
  ])('%s is no root', (_, given, code) => {
    expect(plan(given)).toMatchObject({ outcome: 'fails' })
    expect(codes(given)).toEqual([code])
  })

  it('may be the medium itself under an OverlayFS', () => {
    const image = { packed: undefined, plain: [], rootSize: undefined }
    expect(plan({ image, args: 'rd.live.overlay.overlayfs' }).root).toMatchObject({
      layout: 'medium',
      kind: 'overlayfs',
    })
  })

  it('unpacked is asked for only where there is no packed one', () => {
    expect(plan({ image: { ...squashed(NESTED), plain: PLAIN.plain } }).root.layout).toBe('nested')
  })
})

describe('without an overlay', () => {
  it.each<[string, Given, string, string[]]>([
    ['none and rw', { args: 'rd.live.overlay=none rw', image: PLAIN }, 'kept dm-linear /LiveOS/rootfs.img', []],
    ['none and ro', { args: 'rd.live.overlay=none', image: PLAIN }, 'lost dm-linear -', ['NONE_NEEDS_RW']],
    ['none over a packed image', { args: 'rd.live.overlay=none rw' }, 'lost dm-linear -', ['NONE_OVER_PACKED']],
    ['rd.writable.fsimg', { args: 'rd.writable.fsimg' }, 'lost dm-linear -', []],
    ['an unpacked image in memory', { args: 'rd.live.ram', image: PLAIN }, 'lost dm-linear -', []],
    [
      'none by its new name, which asks for an OverlayFS too',
      { args: 'rd.overlay=none rw', image: PLAIN, version: 110 },
      'lost overlayfs -',
      [],
    ],
    [
      'none by its old name on 110',
      { args: 'rd.live.overlay=none rw', image: PLAIN, version: 110 },
      'kept dm-linear /LiveOS/rootfs.img',
      [],
    ],
  ])('%s', (_, given, expected, findings) => {
    expect(short(given)).toBe(expected)
    expect(codes(given)).toEqual(findings)
    if (expected.includes('linear')) expect(tables(given)).toEqual(['live-rw: 0 4194304 linear base 0'])
  })

  it('a read-only overlay gives the writable image up', () => {
    const given = { args: 'rd.live.overlay=none rd.live.overlay.readonly rw', image: PLAIN }
    expect(tables(given)).toEqual(['live-rw: 0 4194304 snapshot base temporary PO 8', BASE])
  })

  it('a packed image in memory still gets its overlay', () => {
    const given = { args: `rd.live.ram ${NEW}`, found: STORE }
    expect(short(given)).toBe(`kept dm-snapshot ${PATH}`)
    expect(plan(given).memoryBytes).toBe(200 << 20)
    expect(plan({ ...given, version: 59 }).steps.some(({ rule }) => rule === 'least memory')).toBe(false)
    expect(plan({ ...given, version: 60 }).steps.some(({ rule }) => rule === 'least memory')).toBe(true)
  })
})

describe('an OverlayFS', () => {
  it.each<[string, Given, string]>([
    ['directory', { args: PATHED, found: DIRECTORY }, `kept overlayfs ${PATH}`],
    [
      'directory under a flat image',
      { args: PATHED, found: DIRECTORY, image: squashed(FLAT) },
      `kept overlayfs ${PATH}`,
    ],
    ['filesystem in a file', { args: PATHED, found: EMBEDDED, on: { type: 'vfat' } }, `kept overlayfs ${PATH}`],
    ['directory on FAT', { args: PATHED, found: DIRECTORY, on: { type: 'vfat' } }, 'fails'],
    [
      'directory, by dracut 59 and without systemd',
      { args: PATHED, found: DIRECTORY, version: 59, initrd: { systemd: false } },
      `kept overlayfs ${PATH}`,
    ],
    [
      'directory that is emptied',
      { args: `${PATHED} rd.live.overlay.reset`, found: DIRECTORY },
      `emptied overlayfs ${PATH}`,
    ],
    ['temporary by an argument', { args: 'rd.live.overlay.overlayfs' }, 'lost overlayfs -'],
    ['temporary over a flat image', { image: squashed(FLAT) }, 'lost overlayfs -'],
    ['temporary, before dracut 100 with systemd', { image: squashed(FLAT), version: 60 }, 'fails'],
    [
      'temporary, dracut 60 without systemd',
      { image: squashed(FLAT), version: 60, initrd: { systemd: false } },
      'lost overlayfs -',
    ],
    [
      'temporary, dracut 59 without systemd, which tells nobody',
      { image: squashed(FLAT), version: 59, initrd: { systemd: false } },
      'fails',
    ],
    ['temporary, outdone by an argument', { image: squashed(FLAT), args: 'rd.live.overlay.overlayfs=0' }, 'fails'],
    [
      'in tmpfs of dracut 111',
      {
        args: 'rd.overlay=tmpfs:size=1G',
        version: 111,
        facts: { overlay: { match: match({ device: undefined, count: 0 }), found: NOTHING, sameDevice: false } },
      },
      'lost overlayfs -',
    ],
  ])('%s', (_, given, expected) => {
    expect(short(given)).toBe(expected)
  })

  it('is mounted over the image, its persistent layer between where it is only read', () => {
    const mounts = (given: Given) => plan(given).mounts.find(({ type }) => type === 'overlay')?.options
    expect(mounts({ args: PATHED, found: DIRECTORY })).toMatch(/^lowerdir=\/run\/rootfsbase,upperdir=/)
    const only = { args: `${PATHED} rd.live.overlay.readonly`, found: DIRECTORY }
    expect(mounts(only)).toMatch(/^lowerdir=\/run\/overlayfs-r:\/run\/rootfsbase,/)
    // dracut 110 misspells the old name where the root is mounted
    expect(mounts({ ...only, version: 110 })).toMatch(/^lowerdir=\/run\/rootfsbase,/)
    expect(codes({ ...only, version: 110 })).toContain('READONLY_MISSPELLED')
    expect(mounts({ args: `${PATHED} rd.overlay.readonly`, found: DIRECTORY, version: 110 })).toMatch(/overlayfs-r/)
    expect(short({ args: `rd.live.overlay.overlayfs rd.live.overlay.readonly`, version: 110 })).toBe('fails')
  })

  it('is not emptied by dracut 59, which tells nobody of it', () => {
    const args = `${PATHED} rd.live.overlay.reset`
    const given = { args, found: DIRECTORY, version: 59, initrd: { systemd: false } }
    expect(short(given)).toBe(`kept overlayfs ${PATH}`)
    expect(codes(given)).toEqual(['RESET_WITHOUT_EFFECT'])
    expect(short({ ...given, version: 60 })).toBe(`emptied overlayfs ${PATH}`)
    expect(short({ ...given, args: `${args} rd.live.overlay.overlayfs` })).toBe(`emptied overlayfs ${PATH}`)
  })

  it('takes no size', () => {
    expect(codes({ args: 'rd.live.overlay.overlayfs rd.live.overlay.size=512' })).toEqual(['SIZE_WITHOUT_EFFECT'])
  })
})

describe('the overlayfs module beside', () => {
  it.each<[string, Given, string, string[]]>([
    [
      'the new name of an overlay file with a path, 110',
      { args: `rd.overlay=UUID=1A2B-3C4D:${PATH}`, version: 110, found: STORE },
      'lost overlayfs -',
      ['OVERLAYFS_ON_TOP'],
    ],
    [
      'the same without a path',
      { args: 'rd.overlay=UUID=1A2B-3C4D', version: 110, found: STORE },
      'kept overlayfs /overlay',
      ['OVERLAYFS_ON_TOP'],
    ],
    [
      'the same on FAT, 110',
      { args: 'rd.overlay=UUID=1A2B-3C4D', version: 110, found: STORE, on: { type: 'vfat' } },
      `kept dm-snapshot ${PATH}`,
      ['OVERLAYFS_ON_TOP'],
    ],
    [
      'the same on FAT, 111',
      { args: 'rd.overlay=UUID=1A2B-3C4D', version: 111, found: STORE, on: { type: 'vfat' } },
      'fails',
      ['OVERLAYFS_ON_TOP'],
    ],
    ['the old name with a path', { args: PATHED, version: 111, found: STORE }, `kept dm-snapshot ${PATH}`, []],
    ['the old name without one', { args: NEW, version: 111, found: STORE }, `kept dm-snapshot ${PATH}`, []],
    [
      'an OverlayFS asked for over an overlay file, 107',
      { args: `${NEW} rd.live.overlay.overlayfs`, version: 107, found: STORE },
      'lost overlayfs -',
      ['OVERLAYFS_ON_TOP'],
    ],
    [
      'the same without systemd',
      { args: `${NEW} rd.live.overlay.overlayfs`, version: 107, found: STORE, initrd: { systemd: false } },
      'fails',
      ['OVERLAYFS_ON_TOP'],
    ],
    [
      'a directory named without a path, 110',
      { args: NEW, version: 110, found: DIRECTORY },
      `kept overlayfs ${PATH}`,
      ['STRAY_LINK'],
    ],
    ['a directory named with one', { args: PATHED, version: 110, found: DIRECTORY }, `kept overlayfs ${PATH}`, []],
    [
      'a directory named without a path, 109',
      { args: NEW, version: 109, found: DIRECTORY },
      `kept overlayfs ${PATH}`,
      [],
    ],
    [
      'nothing there, an OverlayFS asked for, 110',
      { args: `${NEW} rd.live.overlay.overlayfs`, version: 110 },
      'kept overlayfs /overlay',
      ['OVERLAY_NOT_USED'],
    ],
    [
      'the same on FAT',
      { args: `${NEW} rd.live.overlay.overlayfs`, version: 110, on: { type: 'vfat' } },
      'fails',
      ['OVERLAY_NOT_USED', 'OVERLAYFS_ON_FAT'],
    ],
  ])('%s', (_, given, expected, findings) => {
    expect(short(given)).toBe(expected)
    expect(codes(given)).toEqual(findings)
  })
})

describe('the live device', () => {
  it('is waited for where it is not there, or spelled in another case', () => {
    const none = match({ device: undefined, count: 0 })
    expect(short({ facts: { live: none } })).toBe('waits')
    expect(codes({ facts: { live: { ...none, byCase: device() } } })).toEqual(['LIVE_DEVICE_CASE'])
  })

  it('of two of one name is left to chance', () => {
    expect(codes({ facts: { live: match({ count: 2 }) } })).toEqual(['DEVICE_AMBIGUOUS'])
  })

  it.each([
    ['root=UUID=1 rd.live.image=0', 'unknown', 'NOT_LIVE'],
    ['root=live:https://example.org/live.iso', 'unknown', 'LIVE_FROM_NETWORK'],
    ['root=live:/live.iso', 'unknown', 'LIVE_FROM_INITRD'],
  ])('%s', (args, outcome, code) => {
    expect(short({ args })).toBe(outcome)
    expect(codes({ args })).toEqual([code])
  })

  it('means nothing to an initrd without dmsquash-live', () => {
    expect(codes({ initrd: { modules: ['base', 'overlayfs'] } })).toEqual(['INITRD_WITHOUT_LIVE'])
    expect(short({ initrd: { modules: ['base', 'dmsquash-live'] } })).toBe('lost dm-snapshot -')
  })

  it('is remounted for its overlay', () => {
    expect(plan({}).mounts[0]?.options).toBe('ro')
    expect(plan({ args: NEW, found: STORE }).mounts[0]?.options).toBe('rw')
    expect(plan({ args: NEW, found: STORE, on: { readOnly: true } }).mounts[0]?.options).toBe('ro')
  })

  it('may get a partition for its overlay, or none of it', () => {
    const initrd = { modules: ['dmsquash-live', 'dmsquash-live-autooverlay'] }
    const missing = { overlay: { match: match({ device: undefined, count: 0 }), found: NOTHING, sameDevice: false } }
    expect(codes({ args: NEW, found: STORE, initrd })).toContain('AUTOOVERLAY_STOPS')
    expect(codes({ args: 'rd.live.overlay=LABEL=persist', initrd, facts: missing })).toContain('AUTOOVERLAY_CREATES')
    expect(codes({ args: 'rd.live.overlay=LABEL=LIVE', found: STORE, initrd })).toEqual([])
    expect(codes({ initrd })).toEqual([])
  })
})

describe('home.img', () => {
  const home = { path: '/LiveOS/home.img', size: 1 << 20, encrypted: false }
  it.each<[string, Given, string[], string[]]>([
    ['is mounted', { facts: { home } }, ['what is in /home (in /LiveOS/home.img)'], []],
    [
      'waits for its passphrase',
      { facts: { home: { ...home, encrypted: true } } },
      ['what is in /home (in /LiveOS/home.img)'],
      [],
    ],
    ['is left out by an argument', { args: 'nopersistenthome', facts: { home } }, [], []],
    ['is nobody’s without livesys', { facts: { home, livesys: false } }, [], ['HOME_WITHOUT_LIVESYS']],
    [
      'is nobody’s without rd.live.image',
      { args: 'rd.live.image=0 root=live:UUID=1A2B-3C4D', facts: { home } },
      [],
      ['HOME_WITHOUT_LIVE_IMAGE'],
    ],
    ['can not be written to on a DVD', { on: { readOnly: true }, facts: { home } }, [], ['HOME_READ_ONLY']],
  ])('%s', (_, given, kept, findings) => {
    expect(plan(given).kept).toEqual(kept)
    expect(codes(given)).toEqual(findings)
  })

  it('asks for a passphrase', () => {
    expect(plan({ facts: { home: { ...home, encrypted: true } } }).prompts).toEqual(['Passphrase of the home image'])
  })
})

it('says of each step what it rests on', () => {
  const steps = plan({ args: `${NEW} rd.live.overlay.reset`, found: STORE }).steps
  const of = (rule: string) => steps.find(step => step.rule === rule)?.argument?.raw
  expect(of('live device')).toBe('root=live:UUID=1A2B-3C4D')
  expect(of('overlay path')).toBe('rd.live.overlay=UUID=1A2B-3C4D')
  expect(of('reset')).toBe('rd.live.overlay.reset')
})
