import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parseArguments } from '../../src/liveos/boot/arguments.js'
import type { ImageFacts, ImageInside, LiveFacts, OverlayFacts } from '../../src/liveos/dracut/facts.js'
import { parseOverlayWord } from '../../src/liveos/dracut/overlay-word.js'
import { type BootPlan, planBoot } from '../../src/liveos/dracut/plan.js'
import { liveSettings } from '../../src/liveos/dracut/settings.js'
import { dracutNumber } from '../../src/liveos/dracut/version.js'
import {
  DRACUT_MODULES,
  hasDracutLive,
  LIVE_WORD,
  OTHER_WORD,
  runDracutScript,
  type ScriptFiles,
  type ScriptOutcome,
} from '../support/dracut-script.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'
import { gate } from '../support/tools.js'

/*
 * dracut's own script decides about made-up devices, and the plan has to say the same. Other versions than the installed one are
 * judged with DRACUT_MODULES=/path/to/modules.d DRACUT_VERSION=111.
 */
const modules = process.env.DRACUT_MODULES ?? DRACUT_MODULES
const RUNS = Number(process.env.DRACUT_RUNS ?? 40)

/** Until 103 the version stands in a file beside the modules, later in dracut itself. */
const version = (): number => {
  if (process.env.DRACUT_VERSION !== undefined) return Number(process.env.DRACUT_VERSION)
  const beside = join(modules, '../dracut-version.sh')
  const text = readFileSync(existsSync(beside) ? beside : '/usr/bin/dracut', 'utf8')
  return dracutNumber(/^DRACUT_VERSION="?(\d+)/m.exec(text)?.[1])!
}

const NO: ImageInside = { liveOS: false, rootfs: false, ext3fs: false, proc: false, usr: false, ostree: false }
const SIZE = 2048 * 512

interface Image {
  readonly files: ScriptFiles
  readonly inside?: ImageInside
  readonly plain?: readonly ('rootfs.img' | 'ext3fs.img')[]
  readonly nested?: boolean
}
const packed = (holds: readonly string[], inside: Partial<ImageInside>, nested = false): Image => ({
  files: { 'LiveOS/squashfs.img': { type: 'squashfs', holds } },
  inside: { ...NO, ...inside },
  nested,
})
const IMAGES: Readonly<Record<string, Image>> = {
  nested: packed(['LiveOS/rootfs.img'], { liveOS: true, rootfs: true }, true),
  'nested ext3': packed(['LiveOS/ext3fs.img'], { liveOS: true, ext3fs: true }, true),
  flat: packed(['proc/', 'usr/'], { proc: true, usr: true }),
  'flat, only usr': packed(['usr/'], { usr: true }),
  'flat, only ostree': packed(['ostree/'], { ostree: true }),
  strange: packed(['data'], {}),
  plain: { files: { 'LiveOS/rootfs.img': { type: 'ext4' } }, plain: ['rootfs.img'] },
  'plain ext3': { files: { 'LiveOS/ext3fs.img': { type: 'ext3' } }, plain: ['ext3fs.img'] },
  none: { files: { 'LiveOS/': null } },
}

const NOTHING: OverlayFacts = {
  kind: 'nothing',
  content: undefined,
  invalid: false,
  size: undefined,
  prepared: undefined,
}
interface Overlay {
  readonly facts: OverlayFacts
  files(path: string): ScriptFiles
}
const OVERLAYS: Readonly<Record<string, Overlay>> = {
  nothing: { facts: NOTHING, files: () => ({}) },
  new: { facts: { ...NOTHING, kind: 'file', content: 'new' }, files: path => ({ [path]: {} }) },
  store: {
    facts: { ...NOTHING, kind: 'file', content: 'store' },
    files: path => ({ [path]: { type: 'DM_snapshot_cow' } }),
  },
  embedded: {
    facts: { ...NOTHING, kind: 'file', content: 'ext4', prepared: true },
    files: path => ({ [path]: { type: 'ext4', holds: ['overlayfs/', 'ovlwork/'] } }),
  },
  'ext4 without directories': {
    facts: { ...NOTHING, kind: 'file', content: 'ext4', prepared: false },
    files: path => ({ [path]: { type: 'ext4', holds: ['overlayfs/'] } }),
  },
  directory: {
    facts: { ...NOTHING, kind: 'directory', prepared: true },
    files: path => ({ [`${path}/`]: null, [`${path.slice(0, path.lastIndexOf('/'))}/ovlwork/`]: null }),
  },
  'directory alone': {
    facts: { ...NOTHING, kind: 'directory', prepared: false },
    files: path => ({ [`${path}/`]: null }),
  },
}

const WORDS: readonly (readonly string[])[] = [
  [
    '',
    `rd.live.overlay=${LIVE_WORD}`,
    `rd.live.overlay=${LIVE_WORD}:/LiveOS/mine`,
    `rd.live.overlay=${LIVE_WORD}:LiveOS/mine`,
    `rd.live.overlay=${OTHER_WORD}`,
    `rd.live.overlay=${OTHER_WORD}:auto`,
    'rd.live.overlay=UUID=NONE',
    'rd.live.overlay=none',
    'rd.live.overlay=None',
    'rd.live.overlay=1',
    `overlay=${LIVE_WORD}`,
    `rd.overlay=${LIVE_WORD}`,
    `rd.overlay=${LIVE_WORD}:/LiveOS/mine`,
    'rd.overlay=none',
    'rd.overlay',
    `rd.overlay=1 rd.live.overlay=${LIVE_WORD}`,
    `rd.overlay=0 rd.live.overlay=${LIVE_WORD}`,
  ],
  ['', '', '', 'rd.live.overlay.overlayfs', 'rd.live.overlay.overlayfs=1', 'rd.live.overlay.overlayfs=0'],
  ['', '', '', 'rd.live.overlay.readonly', 'rd.overlay.readonly', 'readonly_overlay'],
  ['', '', '', 'rd.live.overlay.reset', 'rd.overlay.reset=1', 'reset_overlay=0'],
  ['', '', '', '', 'rd.live.ram', 'live_ram'],
  ['', '', '', '', '', 'rd.writable.fsimg', 'writable_fsimg'],
  ['', '', '', '', '', 'rd.live.overlay.thin rd.live.overlay.size=512'],
  ['', '', '', 'rd.live.overlay.nouserconfirmprompt'],
]

interface Case {
  readonly args: string
  readonly image: string
  readonly overlay: string
  readonly systemd: boolean
}

const factsOf = ({ args, image, overlay }: Case, number: number) => {
  const settings = liveSettings(parseArguments(args), number)
  const { files, inside, plain = [], nested } = IMAGES[image]!
  const live = {
    label: 'LIVE',
    uuid: '1A2B-3C4D',
    partLabel: undefined,
    partUuid: undefined,
    name: 'live',
    type: 'ext4',
    readOnly: false,
  }
  const match: LiveFacts['live'] = { device: live, count: 1, assumed: false, byCase: undefined }
  const word = parseOverlayWord(settings, live)
  const onLive = word?.device.raw === LIVE_WORD
  const known = onLive || word?.device.raw === OTHER_WORD
  const there = word !== undefined && known && word.path.startsWith('/')
  const packedFacts: ImageFacts['packed'] = inside && {
    path: '/LiveOS/squashfs.img',
    size: SIZE,
    type: 'squashfs',
    inside,
  }
  const facts: LiveFacts = {
    live: match,
    image: {
      packed: packedFacts,
      plain: plain.map(name => ({ path: `/LiveOS/${name}`, name, size: SIZE })),
      rootSize: nested || plain.length > 0 ? SIZE : undefined,
    },
    overlay: word && {
      match: known
        ? { ...match, device: { ...live, name: onLive ? 'live' : 'other' } }
        : { ...match, device: undefined, count: 0 },
      found: there ? OVERLAYS[overlay]!.facts : NOTHING,
      sameDevice: onLive,
    },
    home: undefined,
    swap: undefined,
    livesys: true,
    updates: false,
  }
  const path = there ? word.path.slice(1) : 'LiveOS/overlay-LIVE-1A2B-3C4D'
  const laid = OVERLAYS[overlay]!.files(path)
  return {
    settings,
    facts,
    live: { ...files, ...(onLive || !there ? laid : {}) },
    other: !onLive && there ? laid : {},
  }
}

/** Names of files as plans call what they hold. */
const called = (table: string, overlayPath: string): string =>
  table
    .split(' ')
    .map(word =>
      /rootfs\.img$|ext3fs\.img$|squash/.test(word)
        ? 'base'
        : word === '/overlay'
          ? 'temporary'
          : word.endsWith('/thin-overlay/meta')
            ? 'meta'
            : word.endsWith('/thin-overlay/data')
              ? 'data'
              : /^\/(live|other)\//.test(word) && word.endsWith(overlayPath)
                ? 'overlay'
                : word,
    )
    .join(' ')

/** What both say, in the same words. */
const ofPlan = (plan: BootPlan, settings: ReturnType<typeof liveSettings>) => ({
  tables: plan.tables.map(({ name, readOnly, table }) => `${name}${readOnly ? ' ro' : ''}: ${table}`),
  overlayfs: plan.mounts.some(({ target }) => target === '/run/rootfsbase'),
  keeps: plan.overlay.used && plan.overlay.kind !== 'dm-snapshot' && !settings.readOnly.value,
  prompted: plan.prompts.length > 0,
})
const ofScript = (done: ScriptOutcome, path: string) => ({
  // a table without a size is refused by device-mapper
  tables: done.tables.filter(table => !table.includes(': 0  ')).map(table => called(table, path).trimEnd()),
  overlayfs: done.overlayfs !== '',
  keeps: done.upper !== undefined,
  prompted: done.prompted,
})

const place = temporary()
const reason = hasDracutLive(modules)
  ? undefined
  : 'needs dracut with its live module: apt-get install dracut-core dracut-live'

gate(reason).it(
  'the plan says what dracut’s own script does',
  async () => {
    const number = version()
    const draws = random()
    console.log(`dracut ${number}, seed ${draws.seed}`)
    const pick = <T>(from: readonly T[]): T => from[draws.below(from.length)]!
    const sandbox = await place('sandbox')
    const seen = new Set<string>()
    for (let n = 0; n < RUNS; n++) {
      const drawn = WORDS.map(pick).filter(Boolean).join(' ')
      const one: Case = {
        args: `root=live:${LIVE_WORD} rd.live.image ${drawn}`,
        image: draws.below(2) === 0 ? pick(['nested', 'plain', 'flat']) : pick(Object.keys(IMAGES)),
        overlay: draws.below(2) === 0 ? pick(['store', 'directory', 'embedded']) : pick(Object.keys(OVERLAYS)),
        systemd: draws.below(3) > 0,
      }
      const { settings, facts, live, other } = factsOf(one, number)
      const plan = planBoot(settings, { modules: undefined, systemd: one.systemd }, facts)
      const done = await runDracutScript(sandbox, one.args, live, { other, systemd: one.systemd, modules })
      const about = `${JSON.stringify(one)}\n${JSON.stringify(done)}\n${plan.findings.map(({ code, message }) => `${code}: ${message}`).join('\n')}`
      const codes = plan.findings.filter(({ severity }) => severity === 'error').map(({ code }) => code)
      seen.add(`${plan.outcome} ${plan.root.kind}`)
      expect(done.died, about).toBe(codes.includes('IMAGE_WITHOUT_ROOT') && !facts.image.packed?.inside?.liveOS)
      // what fails behind the script, or leaves tables without a size, is not the script's to say
      if (plan.outcome !== 'boots' && !codes.includes('OVERLAYFS_UNPREPARED')) continue
      const path = plan.overlay.path ?? 'LiveOS/overlay-LIVE-1A2B-3C4D'
      expect(ofPlan(plan, settings), about).toEqual(ofScript(done, path))
      expect(done.reset, about).toBe(plan.overlay.kind === 'dm-snapshot' && settings.reset.value)
    }
    expect(seen.size).toBeGreaterThan(3)
  },
  120_000,
)

it('the script is judged only where it is there', () => {
  expect(hasDracutLive('/nowhere')).toBe(false)
})
