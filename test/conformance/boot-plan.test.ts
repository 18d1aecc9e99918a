import { execFileSync } from 'node:child_process'
import { cp, mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { beforeAll, expect, it } from 'vitest'
import { menusOf } from '../../src/liveos/boot/menus.js'
import { openSource } from '../../src/liveos/source.js'
import { bootMenus } from '../../src/ops/boot-entry.js'
import { planBootFix, runBootFix } from '../../src/ops/boot-fix.js'
import { type BootPlanOptions, type BootPlans, bootPlans } from '../../src/ops/boot-plan.js'
import { bootVolumes } from '../../src/ops/boot-volumes.js'
import { type Checkup, runDoctor } from '../../src/ops/doctor.js'
import { type Inspection, inspect } from '../../src/ops/inspect.js'
import { bzImage } from '../support/boot-kernels.js'
import { liveos } from '../support/cli.js'
import { cpioOf } from '../support/cpio.js'
import { breaches, readSchema } from '../support/json-schema.js'
import { failure } from '../support/outcome.js'
import { finished } from '../support/small-stick.js'
import { FAT_ID, IMAGE_TOOLS, makeFat, makeStick, mbrDisk, OVERLAY, partition } from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const place = temporary()
const KERNEL = '6.17.1-300.fc43.x86_64'

/** An initrd as dracut of a version leaves it. */
const initrd = (version: string, modules = 'base dmsquash-live overlayfs systemd', kernel = KERNEL): Buffer =>
  Buffer.concat([
    cpioOf({ path: 'kernel/x86/microcode/GenuineIntel.bin', content: 'microcode' }),
    gzipSync(
      cpioOf(
        { path: `usr/lib/dracut/dracut-${version}`, content: version },
        { path: 'usr/lib/dracut/modules.txt', content: modules.replaceAll(' ', '\n') },
        { path: `usr/lib/modules/${kernel}`, mode: 0o40755 },
      ),
    ),
  ])

const SYSLINUX = 'syslinux/syslinux.cfg'
const GRUB = 'EFI/BOOT/grub.cfg'

interface Spoil {
  readonly version?: string
  readonly modules?: string
  readonly kernel?: string
  /** files with other content: a text, or what becomes of the text there */
  readonly files?: Readonly<Record<string, string | ((text: string) => string)>>
  readonly overlay?: string
}

let pristine: string
let count = 0

/** A copy of the sample stick with a kernel and initrd, its files changed. */
const stickOf = async ({
  version = '107-8.fc43',
  modules,
  kernel,
  files = {},
  overlay,
}: Spoil = {}): Promise<string> => {
  const tree = await place(`stick${count++}`)
  await cp(pristine, tree, { recursive: true })
  await writeFile(join(tree, 'syslinux/vmlinuz'), bzImage(KERNEL))
  await writeFile(join(tree, 'syslinux/initrd.img'), initrd(version, modules, kernel))
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(tree, path)), { recursive: true })
    const now = typeof content === 'string' ? content : content(await readFile(join(tree, path), 'utf8'))
    await writeFile(join(tree, path), now)
  }
  if (overlay !== undefined) await rename(join(tree, 'LiveOS', OVERLAY), join(tree, 'LiveOS', overlay))
  return tree
}

const diskOf = async (spoil: Spoil = {}): Promise<string> => {
  const tree = await stickOf(spoil)
  const image = await mbrDisk(`${tree}.img`, tree)
  await rm(tree, { recursive: true })
  return image
}

const schema = readSchema('boot-plan.json')
/** Plans, and holds the answer against the schema. */
const planned = async (target: string, options: BootPlanOptions = {}): Promise<BootPlans> => {
  const found = await bootPlans({ target }, options)
  expect(breaches(JSON.parse(JSON.stringify(found)), schema)).toEqual([])
  return found
}
const doctor = (target: string): Promise<Checkup> => finished(runDoctor({ target }, { fsck: false }))
const boots = ({ findings }: Checkup): string[] =>
  findings
    .filter(({ code }) => /^(BOOT|LIVE|OVERLAYFS|INITRD|SAME|READONLY|STRAY)/.test(code))
    .map(({ code, where }) => `${code} ${where}`)

needTools(...IMAGE_TOOLS).describe('a stick in an image', () => {
  beforeAll(async () => {
    pristine = await makeStick(await place('pristine'))
  })

  it('is planned for BIOS and UEFI, each step with the line that it rests on', async () => {
    const found = await planned(await diskOf())
    const menus = found.plans.flatMap(({ firmware }) => firmware)
    expect([...menus].sort()).toEqual(['bios', 'uefi'])
    for (const { plan, initrd, kernel, steps, versionAssumed } of found.plans) {
      expect(plan).toMatchObject({ outcome: 'boots', changes: 'kept', version: 107 })
      expect(plan.overlay).toMatchObject({ used: true, kind: 'dm-snapshot', path: `/LiveOS/${OVERLAY}` })
      expect(initrd).toMatchObject({ maker: 'dracut', dracutVersion: '107-8.fc43' })
      expect(kernel?.version).toBe(KERNEL)
      expect(versionAssumed).toBe(false)
      const device = steps.find(({ rule }) => rule === 'live device')
      expect(device?.argument).toMatch(/^root=live:/)
      const { path, line } = device!.place!
      const text = await readFile(join(pristine, path), 'utf8')
      expect(text.split('\n')[line - 1]).toContain(device!.argument)
    }
  })

  it('is planned by other arguments, another entry, another version', async () => {
    const target = await diskOf()
    const only = (found: BootPlans) => found.plans[0]!.plan
    expect(only(await planned(target, { args: 'rd.live.overlay.readonly' }))).toMatchObject({ changes: 'lost' })
    expect(only(await planned(target, { entry: '1' })).changes).toBe('kept')
    await failure(bootPlans({ target }, { entry: 'no such entry' }), 'USAGE')
    for (const dracut of [0, 59.5]) await failure(bootPlans({ target }, { dracut }), 'USAGE')
    const asked = `rd.overlay=UUID=${FAT_ID}:/LiveOS/${OVERLAY}`
    const args = { entry: 'Start Sample Live', args: asked }
    expect(only(await planned(target, { ...args, dracut: 109 })).changes).toBe('kept')
    expect(only(await planned(target, { ...args, dracut: 111 })).changes).toBe('lost')
  })

  it('is planned on the command line, in words and JSON', async () => {
    const target = await diskOf({ overlay: 'overlay-elsewhere' })
    const words = await liveos(['boot-plan', target])
    expect(words.code).toBe(1)
    for (const text of ['not used', '/syslinux/syslinux.cfg:', 'lost at power-off', 'Press [Enter]', 'live-rw: 0 '])
      expect(words.stdout).toContain(text)
    const json = await liveos(['boot-plan', target, '--entry', '1', '--json'])
    expect(breaches(JSON.parse(json.stdout), schema)).toEqual([])
    const home = { [GRUB]: (text: string) => text.replace('rd.live.image', 'rd.live.image nopersistenthome') }
    const fixed = await liveos(['boot-plan', await diskOf({ files: home }), '--entry', 'Start Sample Live'])
    expect([fixed.code, fixed.stdout.includes('what is changed is kept')]).toEqual([0, true])
    const none = await liveos(['boot-plan', target, '--entry', '99'])
    expect([none.code, none.stderr.includes('there are: 1 ')]).toEqual([2, true])
  })

  it('is in order for doctor', async () => {
    const found = await doctor(await diskOf())
    expect(boots(found)).toEqual([])
    expect(found.bootFixes).toEqual([])
  })

  const grub = (from: string | RegExp, to: string) => ({ [GRUB]: (text: string) => text.replace(from, to) })
  const WORD = `rd.live.overlay=UUID=${FAT_ID}:/LiveOS/${OVERLAY}`

  it.each<[string, Spoil, RegExp, RegExp | undefined]>([
    [
      'an argument that only one menu has',
      { files: grub(/ rd.live.overlay=\S+/, '') },
      /^BOOT_OVERLAY_NOT_ASKED \/EFI\/BOOT\/grub.cfg:3$/,
      new RegExp(`^\\+.*${WORD}`, 'm'),
    ],
    [
      'a new name in an old initrd',
      { files: grub('rd.live.overlay=', 'rd.overlay=') },
      /^BOOT_ARGUMENT_UNKNOWN \/EFI\/BOOT\/grub.cfg:4$/,
      /^-.* rd.overlay=[\s\S]*^\+.* rd.live.overlay=/m,
    ],
    [
      'another UUID',
      { files: grub(/rd.live.overlay=UUID=[^:]*/, 'rd.live.overlay=UUID=FFFF-0000') },
      /^BOOT_OVERLAY_DEVICE \/EFI\/BOOT\/grub.cfg:4$/,
      new RegExp(`^\\+.*${WORD}`, 'm'),
    ],
    [
      'a root that is another stick',
      { files: grub(/root=live:\S+/, 'root=live:UUID=FFFF-0000') },
      /^LIVE_DEVICE_MISSING \/EFI\/BOOT\/grub.cfg:4$/,
      new RegExp(`^\\+.*root=live:UUID=${FAT_ID} `, 'm'),
    ],
    [
      'a root in lower case',
      { files: grub(/root=live:\S+/, `root=live:UUID=${FAT_ID.toLowerCase()}`) },
      /^LIVE_DEVICE_CASE/,
      new RegExp(`^\\+.*root=live:UUID=${FAT_ID} `, 'm'),
    ],
    [
      'an OverlayFS on top',
      { files: grub('rd.live.image', 'rd.live.image rd.live.overlay.overlayfs') },
      /^OVERLAYFS_ON_TOP \/EFI\/BOOT\/grub.cfg:4$/,
      /^-.*overlay\.overlayfs/m,
    ],
    ['an initrd without dmsquash-live', { modules: 'base systemd' }, /^INITRD_WITHOUT_LIVE/, undefined],
    ['an initrd of another kernel', { kernel: '6.16.0-1' }, /^BOOT_KERNEL_INITRD/, undefined],
    [
      'an overlay of another name',
      { overlay: `overlay-Fedora-WS-Live-40-${FAT_ID}` },
      /^BOOT_OVERLAY_NAME \/EFI\/BOOT\/grub.cfg:4$/,
      new RegExp(`^\\+.*/LiveOS/overlay-Fedora-WS-Live-40-${FAT_ID}`, 'm'),
    ],
  ])('%s is found, with its line and the change', async (_, spoil, expected, diff) => {
    const found = await doctor(await diskOf(spoil))
    const told = boots(found)
    expect(
      told.some(line => expected.test(line)),
      told.join('\n'),
    ).toBe(true)
    if (diff) {
      expect(found.bootFixes.map(fix => fix.diff).join('')).toMatch(diff)
    } else expect(found.bootFixes).toEqual([])
  })

  it('says which of two menus asks and which does not', async () => {
    const { findings } = await doctor(await diskOf({ files: grub(/ rd.live.overlay=\S+/, '') }))
    expect(findings.find(({ code }) => code === 'BOOT_OVERLAY_NOT_ASKED')?.message).toMatch(
      /the BIOS menu does ask for it, this is the UEFI menu/,
    )
  })

  it('is not mended where it lies in an image', async () => {
    const target = await diskOf({ files: grub(/ rd.live.overlay=\S+/, '') })
    const plan = await planBootFix({ target })
    expect(plan.files).toHaveLength(1)
    await failure(finished(runBootFix(plan)), 'READ_ONLY')
    // nor is that offered, but said how it could be
    const { findings, remedies } = await doctor(target)
    expect(remedies).toEqual([])
    expect(findings.find(({ code }) => code === 'BOOT_OVERLAY_NOT_ASKED')?.remedy).toContain('mounted at DIR')
  })
})

needTools(...IMAGE_TOOLS, 'patch').describe('a stick in a directory', () => {
  beforeAll(async () => {
    pristine ??= await makeStick(await place('pristine'))
  })
  const spoil: Spoil = {
    files: {
      [GRUB]: text => text.replace('rd.live.overlay=', 'rd.overlay='),
      [SYSLINUX]: text => text.replace(/ rd\.live\.overlay=\S+/g, ''),
    },
  }

  it('is mended, and the diffs are what patch takes', async () => {
    const target = await stickOf(spoil)
    const copy = `${target}.copy`
    await cp(target, copy, { recursive: true })
    expect((await doctor(target)).remedies.map(({ verb }) => verb)).toContain('boot')
    const plan = await planBootFix({ target })
    expect(plan.files.map(({ path }) => path).sort()).toEqual([`/${GRUB}`, `/${SYSLINUX}`])
    for (const { diff } of plan.files)
      execFileSync('patch', ['-p1', '-s'], { cwd: copy, input: Buffer.from(diff, 'latin1') })
    const done = await finished(runBootFix(plan))
    expect(done.changed).toHaveLength(2)
    for (const path of [GRUB, SYSLINUX])
      expect(await readFile(join(target, path), 'utf8')).toBe(await readFile(join(copy, path), 'utf8'))
    expect(await readdir(join(target, 'syslinux'))).not.toContain('syslinux.cfg.old')
    expect((await planBootFix({ target })).files).toEqual([])
    const after = await planned(target)
    for (const { plan: made } of after.plans) expect(made).toMatchObject({ outcome: 'boots', changes: 'kept' })
  })

  it('is not changed where it is another than planned', async () => {
    const target = await stickOf(spoil)
    const plan = await planBootFix({ target })
    await writeFile(join(target, GRUB), 'set timeout=1\n')
    await failure(
      finished(runBootFix({ ...plan, files: plan.files.filter(({ path }) => path === `/${GRUB}`) })),
      'REFUSED',
    )
    expect(await readFile(join(target, GRUB), 'utf8')).toBe('set timeout=1\n')
  })

  it('takes names for granted that a copy can not tell', async () => {
    const found = await planned(await stickOf())
    expect(found.plans[0]?.plan).toMatchObject({ outcome: 'boots', changes: 'kept' })
    expect(found.plans[0]?.steps[0]?.text).toMatch(/as far as can be told/)
    expect(boots(await doctor(await stickOf()))).toEqual([])
  })
})

needTools(...IMAGE_TOOLS).it('entries have the numbers by which liveos boot starts them', async () => {
  pristine ??= await makeStick(await place('pristine'))
  const target = await diskOf()
  const source = await openSource(target)
  try {
    const { entries } = await bootMenus(source)
    const own = (await menusOf(bootVolumes(source))).entries.filter(({ number }) => number !== undefined)
    expect(own.map(({ number, entry, config }) => [number, entry.title, config.path])).toEqual(
      entries.map(({ number, title, config }) => [number, title, config]),
    )
    expect(entries.length).toBeGreaterThan(2)
  } finally {
    await source.close()
  }
})

const mountsIn = ({ tree }: Inspection): readonly string[] => {
  const found: string[] = []
  const walk = ({ details, children }: Inspection['tree']): void => {
    if (Array.isArray(details.mounts)) found.push(...(details.mounts as string[]))
    children.forEach(walk)
  }
  walk(tree)
  return found
}

needTools(...IMAGE_TOOLS).it('inspect tells of the entries that start by themselves what boot-plan tells', async () => {
  pristine ??= await makeStick(await place('pristine'))
  const told = async (files: Spoil['files'] = {}) => {
    const target = await diskOf({ files: files })
    const { plans } = await planned(target)
    return {
      plans: plans.map(({ firmware, plan }) => `${firmware.join(' ')}: ${plan.outcome} ${plan.changes}`),
      root: mountsIn(await inspect({ target })).filter(line => line.startsWith('/ ')),
    }
  }
  const same = await told()
  expect(same.plans).toEqual(['bios: boots kept', 'uefi: boots kept'])
  expect(same.root).toEqual([expect.stringMatching(/changes are kept$/)])
  // /EFI comes before /syslinux, and is not what a BIOS comes to
  const lossy = await told({ [GRUB]: text => text.replace(/ rd.live.overlay=\S+/, '') })
  expect(lossy.plans).toEqual(['bios: boots kept', 'uefi: boots lost'])
  expect(lossy.root).toEqual([
    expect.stringMatching(/changes are kept \(started by BIOS\)$/),
    expect.stringMatching(/asks for no overlay.* \(started by UEFI\)$/),
  ])
  const gone = await told({ [GRUB]: text => text.replace('/syslinux/vmlinuz', '/syslinux/old') })
  expect(gone.plans).toEqual(['bios: boots kept', 'uefi: fails lost'])
  expect(gone.root[1]).toMatch(/^\/ ← nothing: a boot by the entry .* fails: \/syslinux\/old is not there/)
})

needTools(...IMAGE_TOOLS).it(
  'an EFI system partition whose menu has its kernel on the stick’s own partition',
  async () => {
    pristine ??= await makeStick(await place('pristine'))
    const target = await diskOf({ files: { [GRUB]: text => `search --no-floppy --set=root -u ${FAT_ID}\n${text}` } })
    const tree = await place('esp')
    await mkdir(join(tree, 'EFI/BOOT'), { recursive: true })
    const grub = await readFile(join(pristine, GRUB), 'utf8')
    await writeFile(join(tree, GRUB), `search --no-floppy --set=root -u ${FAT_ID}\n${grub}`)
    const size = 40 << 20
    const { size: start } = await stat(target)
    await truncate(target, start + size)
    const first = 2048
    const words = [`start=${first}, size=${start / 512 - first}, type=c, bootable`, `start=${start / 512}, type=ef`]
    await partition(target, `label: dos\nlabel-id: 0x12345678\n${words.join('\n')}\n`)
    await makeFat(target, tree, { offset: start, size, label: 'ESP', id: '0000-00E5' })
    const { plans, findings } = await planned(target)
    expect(plans.map(({ firmware, menu }) => [firmware, menu?.partition])).toEqual([
      [['bios'], 1],
      [['uefi'], 2],
    ])
    for (const { plan, missing, initrd, kernel } of plans) {
      expect(missing).toEqual([])
      expect(plan).toMatchObject({ outcome: 'boots', changes: 'kept' })
      expect(initrd.maker).toBe('dracut')
      expect(kernel?.version).toBe(KERNEL)
    }
    expect(findings).toEqual([])
    expect(boots(await doctor(target))).toEqual([])
    const seen = await inspect({ target })
    expect(JSON.stringify(seen)).not.toContain('which is not there')
    expect(mountsIn(seen).filter(line => line.startsWith('/ '))).toHaveLength(1)
  },
)

needTools(...IMAGE_TOOLS).it('an overlay that is nothing known ends a boot', async () => {
  pristine ??= await makeStick(await place('pristine'))
  const target = await diskOf({ files: { [`LiveOS/${OVERLAY}`]: 'garbage'.repeat(1000) } })
  const { plans } = await planned(target)
  expect(plans[0]?.plan.outcome).toBe('fails')
  expect(plans[0]?.findings.map(({ code }) => code)).toContain('OVERLAY_UNKNOWN')
})
