import { describe, expect, it } from 'vitest'
import { argumentEdits, parseArguments } from '../../../../src/liveos/boot/arguments.js'
import { argumentSlots } from '../../../../src/liveos/boot/syslinux-edit.js'
import { applyEdits } from '../../../../src/liveos/boot/text.js'
import type { DeviceFacts, LiveFacts, OverlayFacts } from '../../../../src/liveos/dracut/facts.js'
import { planBoot } from '../../../../src/liveos/dracut/plan.js'
import { liveSettings } from '../../../../src/liveos/dracut/settings.js'
import { type OnStick, persistenceReasons, type Reason } from '../../../../src/liveos/persistence/reasons.js'
import { misspelled } from '../../../../src/liveos/persistence/spelling.js'

const UUID = '1A2B-3C4D'
const NAME = `overlay-LIVE-${UUID}`
const ROOT = `root=live:UUID=${UUID} rd.live.image`
const STICK: OnStick = { overlays: [{ name: NAME, kind: 'file' }], label: 'LIVE', uuid: UUID, type: 'vfat' }

interface Given {
  readonly version?: number
  readonly stick?: Partial<OnStick>
  /** what lies at the path that is looked for; without it, what the stick's overlays say */
  readonly found?: Partial<OverlayFacts>
  readonly livesys?: boolean
}

/** Reasons of a command line on a stick, looked for as the stick says. */
const reasons = (args: string, { version = 107, stick = {}, found, livesys = true }: Given = {}): readonly Reason[] => {
  const here = { ...STICK, ...stick }
  const list = parseArguments(args.includes('root=') ? args : `${ROOT} ${args}`)
  const settings = liveSettings(list, version)
  const device: DeviceFacts = {
    name: 'partition 1',
    type: here.type,
    readOnly: false,
    label: here.label,
    uuid: here.uuid,
    partLabel: undefined,
    partUuid: undefined,
  }
  const fits = (word: string | undefined): boolean => word === `UUID=${here.uuid}` || word === `LABEL=${here.label}`
  const match = (word: string | undefined): LiveFacts['live'] => ({
    device: fits(word) ? device : undefined,
    count: fits(word) ? 1 : 0,
    assumed: false,
    byCase: !fits(word) && word?.toUpperCase() === `UUID=${here.uuid}`.toUpperCase() ? device : undefined,
  })
  const { value } = settings.overlay
  const path = value.includes(':') ? value.slice(value.lastIndexOf('/') + 1) : `overlay-${here.label}-${here.uuid}`
  const known = here.overlays.find(({ name }) => name === path)
  const overlay: OverlayFacts = {
    kind: known?.kind ?? 'nothing',
    content: known?.kind === 'file' ? 'store' : undefined,
    invalid: false,
    size: 1 << 20,
    prepared: true,
    ...found,
  }
  const facts: LiveFacts = {
    live: match(settings.root?.value.raw),
    image: {
      packed: undefined,
      plain: [{ path: '/LiveOS/rootfs.img', name: 'rootfs.img', size: 1 << 30 }],
      rootSize: 1 << 30,
    },
    overlay: value === '' ? undefined : { match: match(value.split(':')[0]), found: overlay, sameDevice: true },
    home: undefined,
    swap: undefined,
    livesys,
    updates: false,
  }
  const plan = planBoot(settings, { modules: undefined, systemd: true }, facts)
  return persistenceReasons({ list, settings, facts, plan }, here)
}

/** The command line after all that the reasons would change. */
const mended = (args: string, given: Given = {}): string => {
  const text = args.includes('root=') ? args : `${ROOT} ${args}`.trim()
  const changes = reasons(args, given).flatMap(reason => reason.changes)
  return applyEdits(text, argumentEdits(argumentSlots(text, 0, text.length), 0, changes, 'test')).trim()
}

const WORD = `rd.live.overlay=UUID=${UUID}:/LiveOS/${NAME}`

describe('persistenceReasons', () => {
  it.each<[string, string, Given, string[]]>([
    ['all is well', WORD, {}, []],
    ['all is well by the automatic name', `rd.live.overlay=UUID=${UUID}`, {}, []],
    ['a stick without an overlay', '', { stick: { overlays: [] } }, []],
    ['nobody asks', '', {}, ['BOOT_OVERLAY_NOT_ASKED']],
    ['nobody asks, all goes to memory on purpose', 'rd.live.ram', {}, []],
    ['another device', 'rd.live.overlay=UUID=FFFF-0000', {}, ['BOOT_OVERLAY_DEVICE']],
    ['another case', `rd.live.overlay=UUID=${UUID.toLowerCase()}`, {}, ['BOOT_OVERLAY_DEVICE']],
    ['another name', `rd.live.overlay=UUID=${UUID}:/LiveOS/overlay-x`, {}, ['BOOT_OVERLAY_NAME']],
    ['a directory without its sister', WORD, { found: { kind: 'directory', prepared: false } }, ['BOOT_OVERLAY_KIND']],
    [
      'a filesystem without its directories',
      WORD,
      { found: { content: 'ext4', prepared: false } },
      ['BOOT_OVERLAY_KIND'],
    ],
    ['a directory on FAT', WORD, { found: { kind: 'directory', prepared: true } }, ['OVERLAYFS_ON_FAT']],
    ['only read', `${WORD} rd.live.overlay.readonly`, {}, ['BOOT_OVERLAY_READ_ONLY']],
    ['emptied', `${WORD} rd.live.overlay.reset`, {}, ['BOOT_OVERLAY_RESET']],
    ['a new name for an old initrd', `rd.overlay=UUID=${UUID}`, {}, ['BOOT_ARGUMENT_UNKNOWN']],
    ['an old name for a new initrd', `overlay=UUID=${UUID}`, {}, ['BOOT_ARGUMENT_UNKNOWN']],
    ['an OverlayFS on top', `${WORD} rd.live.overlay.overlayfs`, {}, ['OVERLAYFS_ON_TOP']],
    [
      'an OverlayFS on top by the new name',
      `rd.overlay=UUID=${UUID}:/LiveOS/${NAME}`,
      { version: 110 },
      ['OVERLAYFS_ON_TOP'],
    ],
    ['another medium', `root=live:UUID=FFFF-0000 rd.live.image ${WORD}`, {}, ['LIVE_DEVICE_MISSING']],
    ['another medium in lower case', `root=live:UUID=1a2b-3c4d rd.live.image ${WORD}`, {}, ['LIVE_DEVICE_CASE']],
  ])('%s', (_, args, given, codes) => {
    expect(reasons(args, given).map(({ code }) => code)).toEqual(codes)
  })

  it.each<[string, string, Given, string]>([
    ['adds what is missing', '', {}, `${ROOT} ${WORD}`],
    ['names the device and the path', 'rd.live.overlay=UUID=FFFF-0000 quiet', {}, `${ROOT} ${WORD} quiet`],
    ['writes the case of the id', `rd.live.overlay=UUID=${UUID.toLowerCase()}`, {}, `${ROOT} ${WORD}`],
    ['names the overlay that is there', `rd.live.overlay=UUID=${UUID}`, { stick: { label: 'NEW' } }, `${ROOT} ${WORD}`],
    [
      'knows no overlay of two',
      `rd.live.overlay=UUID=${UUID}`,
      {
        stick: {
          label: 'NEW',
          overlays: [
            { name: 'overlay-a', kind: 'file' },
            { name: 'overlay-b', kind: 'file' },
          ],
        },
      },
      `${ROOT} rd.live.overlay=UUID=${UUID}`,
    ],
    [
      'writes old names for old initrds',
      `rd.overlay=UUID=${UUID} rd.overlay.readonly`,
      {},
      `${ROOT} rd.live.overlay=UUID=${UUID} rd.live.overlay.readonly`,
    ],
    ['takes a switch for one', 'rd.overlay', { stick: { overlays: [] } }, `${ROOT} rd.live.overlay.overlayfs`],
    ['takes the OverlayFS out', `${WORD} rd.live.overlay.overlayfs`, {}, `${ROOT} ${WORD}`],
    ['leaves a switch that says no', 'rd.overlay=0', { stick: { overlays: [] } }, `${ROOT} rd.overlay=0`],
    ['takes the new name out', `rd.overlay=UUID=${UUID}:/LiveOS/${NAME}`, { version: 110 }, `${ROOT} ${WORD}`],
    ['names the medium', `root=live:UUID=FFFF-0000 rd.live.image ${WORD}`, {}, `${ROOT} ${WORD}`],
    [
      'writes an image that is written to rw',
      'rd.live.overlay=none ro',
      { stick: { overlays: [] } },
      `${ROOT} rd.live.overlay=none rw`,
    ],
    ['leaves what is meant', `${WORD} rd.live.overlay.readonly`, {}, `${ROOT} ${WORD} rd.live.overlay.readonly`],
  ])('%s', (_, args, given, expected) => {
    expect(mended(args, given)).toBe(expected)
    // what is mended has nothing left to mend
    expect(mended(expected, given)).toBe(expected)
  })

  it('says so where FAT has cut the label', () => {
    const [found] = reasons(`rd.live.overlay=UUID=${UUID}`, {
      stick: { label: 'FEDORA-WS-L', overlays: [{ name: `overlay-Fedora-WS-Live-40-${UUID}`, kind: 'file' }] },
    })
    expect(found?.message).toMatch(/FAT has cut its label to "FEDORA-WS-L"/)
    expect(found).toMatchObject({
      expected: `/LiveOS/overlay-FEDORA-WS-L-${UUID}`,
      found: `overlay-Fedora-WS-Live-40-${UUID}`,
    })
  })
})

describe('misspelled', () => {
  it.each([
    [103, 'overlay=UUID=1 reset_overlay live_dir=x', []],
    [104, 'overlay=UUID=1 reset_overlay live_dir=x', ['overlay', 'reset_overlay', 'live_dir']],
    [109, 'rd.overlay=UUID=1 rd.overlay.reset', ['rd.overlay', 'rd.overlay.reset']],
    [110, 'rd.overlay=UUID=1 rd.overlay.reset', []],
    [111, 'rd.live.overlay=UUID=1 rd.live.overlay.reset', []],
    [60, 'rd.live.overlay_size=512', ['rd.live.overlay_size']],
  ])('dracut %d, %s', (version, text, names) => {
    expect(misspelled(parseArguments(text), version).map(({ argument }) => argument.name)).toEqual(names)
  })

  it('does not set again what stands there by its right name', () => {
    const [found] = misspelled(parseArguments('rd.live.overlay=UUID=1 overlay=UUID=2'), 104)
    expect(found?.changes).toEqual([{ remove: 'overlay' }])
  })
})

describe('a label with a space in it', () => {
  const overlays = [{ name: `overlay-MY LIVE-${UUID}`, kind: 'file' as const }]
  const stick = { label: 'MY LIVE', overlays }
  it('is told, and not mended by a path that dracut before 103 can not take', () => {
    const [reason] = reasons('', { version: 59, stick })
    expect(reason).toMatchObject({ code: 'BOOT_OVERLAY_NOT_ASKED', changes: [] })
    expect(reason?.message).toContain('takes no path with spaces')
    expect(mended(`rd.live.overlay=UUID=${UUID}`, { version: 59, stick })).toBe(`${ROOT} rd.live.overlay=UUID=${UUID}`)
  })

  it('stands in quotes since', () => {
    expect(mended('', { version: 103, stick })).toBe(
      `${ROOT} rd.live.overlay="UUID=${UUID}:/LiveOS/overlay-MY LIVE-${UUID}"`,
    )
  })
})
