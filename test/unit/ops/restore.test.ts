import { appendFile, chmod, cp, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { LiveError } from '../../../src/error.js'
import { openDirectory } from '../../../src/host/directory.js'
import type { Folder } from '../../../src/host/folder.js'
import { planBackup, runBackup } from '../../../src/ops/backup.js'
import { openArchive } from '../../../src/ops/backup-archive.js'
import {
  type BackupManifest,
  type BackupPart,
  encodeManifest,
  MANIFEST,
  readManifest,
} from '../../../src/ops/backup-manifest.js'
import { archiveOf } from '../../../src/ops/backup-write.js'
import { planGrow } from '../../../src/ops/grow.js'
import {
  abandonRestore,
  planRestore,
  type RestoreOptions,
  type RestoreOutcome,
  runRestore,
} from '../../../src/ops/restore.js'
import { planBoot } from '../../../src/ops/restore-boot.js'
import { planRestoreChanges } from '../../../src/ops/restore-changes.js'
import { rewriteIdentity } from '../../../src/ops/restore-identity.js'
import { failure } from '../../support/outcome.js'
import { recordingFolder, type Step } from '../../support/power-cut.js'
import { bytesOf, finished, OVERLAY, sha256, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary({ memory: true })
let count = 0

const CONFIG = 'label one\n  kernel vmlinuz\n  append root=live:LABEL=LIVE rd.live.image\n'

/** A stick and a backup of it. */
const make = async (): Promise<{ stick: string; live: string; file: string }> => {
  const stick = await path(`stick${count++}`)
  await smallStick(stick, { raw: true })
  const live = join(stick, 'LiveOS')
  await mkdir(join(stick, 'syslinux'))
  await writeFile(join(stick, 'syslinux/vmlinuz'), 'a kernel')
  await writeFile(join(stick, 'syslinux/syslinux.cfg'), CONFIG)
  await writeFile(join(live, 'home.img'), bytesOf(4, 9000))
  const file = `${stick}.tar.zst`
  await finished(runBackup({ target: stick }, await planBackup({ target: stick }, file)))
  return { stick, live, file }
}

const restore = async (target: string, file: string, options: RestoreOptions = {}): Promise<RestoreOutcome> =>
  finished(runRestore({ target }, file, await planRestore({ target }, file, options)))

/** A backup put together by hand, plain: parts as they are told, contents as they are given. */
const forged = async (
  change: (manifest: BackupManifest) => object,
  contents: readonly (readonly [string, Uint8Array])[],
): Promise<string> => {
  const base = { name: 'rootfs.img', size: 1, ends: '00' }
  const manifest: BackupManifest = {
    liveos: 'backup',
    version: 1,
    created: '2026-01-01T00:00:00Z',
    medium: { type: 'vfat', label: null, uuid: null },
    liveDir: 'LiveOS',
    base,
    parts: contents.map(([name, bytes]) => ({
      kind: 'boot',
      path: name,
      size: bytes.length,
      sha256: sha256(bytes),
      sparse: false,
    })),
  }
  const said = encodeManifest(change(manifest) as BackupManifest)
  const tar = archiveOf(
    [[MANIFEST, said] as const, ...contents].map(([name, bytes]) => ({
      path: name,
      modified: 0,
      device: memory(bytes),
    })),
    'forged',
  )
  const file = await path(`forged${count++}.tar`)
  await writeFile(file, await tar.read(0, tar.size))
  return file
}

describe('a restore', () => {
  it('puts each part back, and only those that are wanted', async () => {
    const { stick, live, file } = await make()
    const before = await readFile(join(live, OVERLAY))
    for (const name of [OVERLAY, 'home.img']) await writeFile(join(live, name), 'spoilt')
    const done = await restore(stick, file, { only: ['home'] })
    expect(done.files).toEqual([join(live, 'home.img')])
    expect(await readFile(join(live, OVERLAY), 'utf8')).toBe('spoilt')
    await restore(stick, file)
    expect(Buffer.compare(await readFile(join(live, OVERLAY)), before)).toBe(0)
    expect(Buffer.compare(await readFile(join(live, 'home.img')), bytesOf(4, 9000))).toBe(0)
    expect((await readdir(live)).sort()).toEqual(['home.img', OVERLAY, 'rootfs.img'].sort())
  })

  it('keeps mode and times of nothing but the mode of the file before', async () => {
    const { stick, live, file } = await make()
    await writeFile(join(live, 'home.img'), 'spoilt')
    await chmod(join(live, 'home.img'), 0o600)
    await restore(stick, file)
    expect((await stat(join(live, 'home.img'))).mode & 0o777).toBe(0o600)
  })

  it('changes nothing where the boot configuration is as in the backup', async () => {
    const { stick, file } = await make()
    const done = await restore(stick, file, { only: ['boot'] })
    expect([done.files, done.unchanged.map(name => basename(name))]).toEqual([[], ['syslinux.cfg']])
  })

  it('goes to another stick with the same base, under the name that its overlay has', async () => {
    const { stick, file } = await make()
    const other = await path(`stick${count++}`)
    await cp(stick, other, { recursive: true })
    const name = 'overlay-OTHER-0002'
    await rm(join(other, 'LiveOS', OVERLAY))
    await writeFile(join(other, 'LiveOS', name), 'another one')
    await restore(other, file)
    expect(
      Buffer.compare(await readFile(join(other, 'LiveOS', name)), await readFile(join(stick, 'LiveOS', OVERLAY))),
    ).toBe(0)
    expect(await readdir(join(other, 'LiveOS'))).not.toContain(OVERLAY)
  })

  it('refuses the overlay of another base, and says what to do', async () => {
    const { stick, live, file } = await make()
    await appendFile(join(live, 'rootfs.img'), 'refreshed')
    expect((await failure(planRestore({ target: stick }, file), 'REFUSED')).message).toContain('--only home,boot')
    await restore(stick, file, { only: ['home', 'boot'] })
  })

  it('refuses beside what other verbs left, and they beside it', async () => {
    for (const [name, says] of [
      ['rootfs.img.refresh', 'liveos refresh'],
      [`compact-${OVERLAY}.state`, 'liveos compact'],
      [`${OVERLAY}.reset`, 'liveos reset'],
      [`${OVERLAY}.new`, 'no restore of ours'],
      ['home.img.old', 'no restore of ours'],
    ] as const) {
      const { stick, live, file } = await make()
      const plan = await planRestore({ target: stick }, file)
      await writeFile(join(live, name), 'left')
      expect((await failure(planRestore({ target: stick }, file), 'REFUSED')).message).toContain(says)
      await failure(finished(runRestore({ target: stick }, file, plan)), 'REFUSED')
      expect(await readFile(join(live, name), 'utf8')).toBe('left')
      expect(await readdir(live)).not.toContain('liveos-restore.state')
    }
  })

  it('takes the way back of an earlier change away, which would be wrong from then on, and says so', async () => {
    const { stick, live, file } = await make()
    const before = await readFile(join(live, OVERLAY))
    await writeFile(join(live, OVERLAY), 'spoilt')
    await writeFile(join(live, `${OVERLAY}.undo`), 'left')
    const plan = await planRestore({ target: stick }, file)
    expect(plan.findings.map(({ code }) => code)).toEqual(['UNDO_ENDS'])
    const done = await finished(runRestore({ target: stick }, file, plan))
    expect(done.findings).toEqual([])
    expect(Buffer.compare(await readFile(join(live, OVERLAY)), before)).toBe(0)
    expect(await readdir(live)).not.toContain(`${OVERLAY}.undo`)
  })

  it('refuses what has changed since the plan', async () => {
    for (const change of [
      ({ live }: { live: string }) => appendFile(join(live, 'home.img'), 'more'),
      ({ live }: { live: string }) => rm(join(live, 'home.img')),
      ({ file }: { file: string }) => appendFile(file, 'more'),
    ]) {
      const made = await make()
      const plan = await planRestore({ target: made.stick }, made.file)
      await change(made)
      await failure(finished(runRestore({ target: made.stick }, made.file, plan)), 'REFUSED')
      expect((await readdir(made.live)).filter(name => /new|old|state/.test(name))).toEqual([])
    }
  })

  it('finds a byte that differs before anything is replaced', async () => {
    const { stick, live, file } = await make()
    const before = await readFile(join(live, 'home.img'))
    const device = memory(await readFile(file))
    const archive = await openArchive(device)
    const contents: { path: string; modified: number; device: ReturnType<typeof memory> }[] = []
    for (const name of archive.members.keys()) {
      const content = archive.open(name)
      const bytes = await content.read(0, content.size)
      if (name === `LiveOS/${OVERLAY}`) bytes[5000]! ^= 1
      contents.push({ path: name, modified: 0, device: memory(bytes) })
    }
    const spoilt = await path('spoilt.tar')
    const tar = archiveOf(contents, 'spoilt')
    await writeFile(spoilt, await tar.read(0, tar.size))
    await writeFile(join(live, OVERLAY), 'mine')
    const error = await failure(restore(stick, spoilt), 'CORRUPT')
    expect(error.message).toContain('the stick is as it was')
    expect(await readFile(join(live, OVERLAY), 'utf8')).toBe('mine')
    expect(Buffer.compare(await readFile(join(live, 'home.img')), before)).toBe(0)
    expect((await readdir(live)).sort()).toEqual(['home.img', OVERLAY, 'rootfs.img'].sort())
  })
})

describe('a restore that was stopped', () => {
  const stop = async (stick: string, file: string): Promise<void> => {
    const control = new AbortController()
    const running = runRestore({ target: stick }, file, await planRestore({ target: stick }, file), {
      signal: control.signal,
    })
    const work = (async () => {
      for (let step = await running.next(); !step.done; step = await running.next())
        if (step.value.phase === 'verify') control.abort()
    })()
    expect((await failure(work, 'CANCELLED')).message).toContain('goes on with what is written')
  }

  it('is in the way of other verbs and of backups, is gone on with, and writes only the rest', async () => {
    const { stick, live, file } = await make()
    await writeFile(join(live, 'home.img'), 'spoilt')
    await stop(stick, file)
    expect(await readdir(live)).toContain('home.img.new')
    await failure(planBackup({ target: stick }, `${file}2`), 'REFUSED')
    const plan = await planRestore({ target: stick }, file)
    expect(plan.resume).toEqual({ step: 'writing', does: 'go on' })
    const log: Step[] = []
    const wrapFolder = (folder: Folder) => recordingFolder(folder, 0, 'posix', log)
    await finished(runRestore({ target: stick }, file, plan, { wrapFolder }))
    expect(log.filter(step => step.kind === 'write' && step.name === 'home.img.new')).toEqual([])
    expect(Buffer.compare(await readFile(join(live, 'home.img')), bytesOf(4, 9000))).toBe(0)
    await planGrow({ target: stick }, { size: { by: 4096 } })
  })

  it('of another backup starts again; and can be given up', async () => {
    const { stick, live, file } = await make()
    await writeFile(join(live, 'home.img'), 'second')
    const second = `${file}2`
    await finished(runBackup({ target: stick }, await planBackup({ target: stick }, second)))
    await stop(stick, file)
    const plan = await planRestore({ target: stick }, second)
    expect(plan.resume?.does).toBe('start again')
    await finished(runRestore({ target: stick }, second, plan))
    expect(await readFile(join(live, 'home.img'), 'utf8')).toBe('second')
    await stop(stick, file)
    await abandonRestore({ target: stick })
    expect((await readdir(live)).sort()).toEqual(['home.img', OVERLAY, 'rootfs.img'].sort())
    expect(await readFile(join(live, 'home.img'), 'utf8')).toBe('second')
    await failure(abandonRestore({ target: stick }), 'NOT_FOUND')
  })

  it('while it is running is not taken for one that was cut short', async () => {
    const { stick, live, file } = await make()
    await stop(stick, file)
    const state = join(live, 'liveos-restore.state')
    const bytes = await readFile(state, 'latin1')
    const step = JSON.parse(bytes.slice(0, 512)) as { owner: object }
    const owner = async (pid: number): Promise<object> => {
      const facts = await readFile(`/proc/${pid}/stat`, 'utf8')
      const start = facts.slice(facts.lastIndexOf(')') + 2).split(' ')[19]
      return { ...step.owner, pid, start }
    }
    const run = async (who: object): Promise<void> =>
      writeFile(state, JSON.stringify({ ...step, owner: who }).padEnd(511) + bytes.slice(511), 'latin1')
    await run(await owner(process.ppid))
    expect((await failure(planRestore({ target: stick }, file), 'REFUSED')).message).toContain('is running (process')
    await failure(abandonRestore({ target: stick }), 'REFUSED')
    // a process that has its number from another one
    await run({ ...(await owner(process.ppid)), start: '1' })
    expect((await planRestore({ target: stick }, file)).resume?.does).toBe('go on')
  })
})

it('a state file that speaks of files elsewhere is not believed', async () => {
  const { stick, live, file } = await make()
  const outside = await path(`outside${count++}`)
  await mkdir(outside)
  await writeFile(join(outside, 'file'), 'mine')
  await writeFile(join(outside, 'file.old'), 'mine too')
  await symlink(outside, join(stick, 'way'))
  const step = { liveos: 'restore', version: 1, index: 0, owner: { pid: 1, start: '1', boot: 'another' } }
  for (const [folder, name] of [
    [`../../${basename(outside)}`, 'file'],
    ['../way', 'file'],
    ['/etc', 'file'],
    ['', `../../${basename(outside)}/file`],
    ['..', '..'],
  ] as const)
    for (const at of ['clearing', 'aside', 'writing']) {
      const begun = { archive: { path: 'x', mark: 'y' }, files: [{ folder, name, size: 4, sha256: '' }] }
      await writeFile(
        join(live, 'liveos-restore.state'),
        `${JSON.stringify({ ...step, step: at })}`.padEnd(512) + JSON.stringify(begun),
      )
      const plan = await planRestore({ target: stick }, file).catch((error: unknown) => error)
      // a name that is none makes the state one that was never whole
      if (name === 'file') expect(plan).toMatchObject({ code: 'REFUSED' })
      await abandonRestore({ target: stick }).catch(() => undefined)
      expect((await readdir(outside)).sort()).toEqual(['file', 'file.old'])
      await rm(join(live, 'liveos-restore.state'), { force: true })
    }
})

describe('a backup that lies', () => {
  it.each([
    ['another version', (m: BackupManifest) => ({ ...m, version: 2 }), 'UNSUPPORTED'],
    ['no parts', (m: BackupManifest) => ({ ...m, parts: 'none' }), 'CORRUPT'],
    ['a path upward', (m: BackupManifest) => ({ ...m, parts: [{ ...m.parts[0], path: '../x' }] }), 'CORRUPT'],
    ['an absolute path', (m: BackupManifest) => ({ ...m, parts: [{ ...m.parts[0], path: '/x' }] }), 'CORRUPT'],
    ['a size that is none', (m: BackupManifest) => ({ ...m, parts: [{ ...m.parts[0], size: -1 }] }), 'CORRUPT'],
    ['another size', (m: BackupManifest) => ({ ...m, parts: [{ ...m.parts[0], size: 5 }] }), 'CORRUPT'],
    ['a part twice', (m: BackupManifest) => ({ ...m, parts: [m.parts[0], m.parts[0]] }), 'CORRUPT'],
    [
      'two overlays',
      (m: BackupManifest) => ({ ...m, parts: [1, 2].map(n => ({ ...m.parts[0], kind: 'overlay', path: `o${n}` })) }),
      'CORRUPT',
    ],
    [
      'a member that is not there',
      (m: BackupManifest) => ({ ...m, parts: [{ ...m.parts[0], path: 'other' }] }),
      'CORRUPT',
    ],
    ['something else', () => ({ liveos: 'refresh' }), 'CORRUPT'],
  ] as const)('%s', async (_, change, code) => {
    const { stick } = await make()
    const file = await forged(change, [['syslinux/syslinux.cfg', Buffer.from('x')]])
    await failure(planRestore({ target: stick }, file), code)
  })

  it('calls the base, or any other file, a boot configuration', async () => {
    const { stick, live } = await make()
    const before = await readFile(join(live, 'rootfs.img'))
    for (const name of [
      'LiveOS/rootfs.img',
      'autorun.inf',
      'LiveOS/overlay-TEST-0001',
      'syslinux/vmlinuz',
      'LiveOS/new.cfg',
    ])
      await failure(planRestore({ target: stick }, await forged(m => m, [[name, Buffer.from('label x\n')]])), 'REFUSED')
    expect(Buffer.compare(await readFile(join(live, 'rootfs.img')), before)).toBe(0)
  })

  it('wants to go out of the stick over a link', async () => {
    const { stick } = await make()
    const outside = await path(`outside${count++}`)
    await mkdir(outside)
    await rm(join(stick, 'syslinux'), { recursive: true })
    await symlink(outside, join(stick, 'syslinux'))
    const file = await forged(m => m, [['syslinux/syslinux.cfg', Buffer.from(CONFIG)]])
    const plan = await planRestore({ target: stick }, file).catch((error: unknown) => error)
    // not followed at all, as links are not on the way
    if (plan instanceof LiveError) expect(['REFUSED', 'NOT_FOUND']).toContain(plan.code)
    else expect((plan as { files: unknown[] }).files).toEqual([])
    expect(await readdir(outside)).toEqual([])
  })

  it('is none', async () => {
    const { stick, file } = await make()
    const other = await path(`other${count++}`)
    await writeFile(other, 'no archive')
    await failure(planRestore({ target: stick }, other), 'CORRUPT')
    const tar = archiveOf([{ path: 'a', modified: 0, device: memory(Buffer.from('b')) }], 'other')
    await writeFile(other, await tar.read(0, tar.size))
    await failure(planRestore({ target: stick }, other), 'USAGE')
    await failure(planRestoreChanges(file, stick), 'USAGE')
    for (const length of [3, 40, 2000]) {
      await writeFile(other, (await readFile(file)).subarray(0, length))
      await failure(planRestore({ target: stick }, other), 'CORRUPT')
    }
    await failure(readManifest(memory(Buffer.from('{'))), 'CORRUPT')
  })
})

describe('the name of the medium in a boot configuration', () => {
  const FROM = { label: 'LIVE', uuid: '1A2B-3C4D' }
  const TO = { label: 'My Stick', uuid: '5E6F-7081' }
  const rewritten = (
    text: string,
    from: Parameters<typeof rewriteIdentity>[1] = FROM,
    to: typeof FROM | { label: string | null; uuid: string | null } = TO,
  ) => rewriteIdentity(text, from, to)

  it.each([
    ['append root=live:UUID=1A2B-3C4D ro', 'append root=live:UUID=5E6F-7081 ro'],
    ['append root=live:UUID=1a2b-3c4d ro', 'append root=live:UUID=5E6F-7081 ro'],
    ['append root=live:LABEL=LIVE ro', 'append root=live:LABEL=My\\x20Stick ro'],
    ['append root=live:CDLABEL=LIVE quiet', 'append root=live:CDLABEL=My\\x20Stick quiet'],
    ['root=/dev/disk/by-label/LIVE', 'root=/dev/disk/by-label/My\\x20Stick'],
    [
      'rd.live.overlay=UUID=1A2B-3C4D:/LiveOS/overlay-LIVE-1A2B-3C4D x',
      'rd.live.overlay=UUID=5E6F-7081:/LiveOS/overlay-My Stick-5E6F-7081 x',
    ],
    ["search --no-floppy --set=root -l 'LIVE'", "search --no-floppy --set=root -l 'My Stick'"],
    ['  search --label --set=root LIVE', "  search --label --set=root 'My Stick'"],
    ['search --fs-uuid --set=root 1A2B-3C4D', 'search --fs-uuid --set=root 5E6F-7081'],
  ])('%s', (before, after) => {
    expect(rewritten(before)).toEqual({ text: after, places: before.includes('overlay-') ? 2 : 1 })
  })

  it.each([
    'root=live:LABEL=LIVE2',
    'root=live:LABEL=OLDLIVE',
    'root=live:LABEL=LIVE-2',
    'root=live:UUID=1A2B-3C4D-5',
    'root=live:UUID=X1A2B-3C4D',
    'menuentry "Start LIVE" {',
    'search --file /LIVE',
    'search --fs-uuid --set=root LIVE',
    'label LIVE',
  ])('%s stays', text => {
    expect(rewritten(text)).toEqual({ text, places: 0 })
  })

  it('what is not known of either stays, and a label with odd characters is found', () => {
    expect(rewritten('LABEL=LIVE UUID=1A2B-3C4D', { label: null, uuid: null }).places).toBe(0)
    expect(rewritten('LABEL=LIVE UUID=1A2B-3C4D', FROM, { label: null, uuid: 'AAAA-BBBB' }).text).toBe(
      'LABEL=LIVE UUID=AAAA-BBBB',
    )
    const odd = { label: 'a.b (c)', uuid: null }
    expect(rewritten('root=live:LABEL=a.b\\x20\\x28c\\x29 x', odd, FROM).text).toBe('root=live:LABEL=LIVE x')
  })

  it('is changed in what goes back, and kernels that are not there are told', async () => {
    const { stick } = await make()
    const fs = await openDirectory(stick)
    const text =
      'label one\n  kernel vmlinuz\n  append root=live:UUID=1A2B-3C4D rd.live.image\nlabel two\n  kernel gone\n'
    const part: BackupPart = {
      kind: 'boot',
      path: 'SYSLINUX/syslinux.cfg'.toLowerCase(),
      size: text.length,
      sha256: '',
      sparse: false,
    }
    const elsewhere: BackupPart = { ...part, path: 'boot/grub/grub.cfg' }
    const { files, findings } = await planBoot(fs, [part, elsewhere], () => memory(Buffer.from(text)), {
      from: FROM,
      to: TO,
    })
    expect(files.map(({ path: name, places }) => [name, places])).toEqual([['syslinux/syslinux.cfg', 1]])
    expect(Buffer.from(files[0]!.bytes).toString()).toContain('UUID=5E6F-7081')
    expect(findings.map(({ code }) => code)).toEqual(['BOOT_NOT_RESTORED', 'BOOT_KERNEL_MISSING'])
    const unknown = await planBoot(fs, [part], () => memory(Buffer.from(text)), {
      from: FROM,
      to: { label: null, uuid: null },
    })
    expect(unknown.findings.map(({ code }) => code)).toContain('BOOT_IDENTITY_UNKNOWN')
    expect(unknown.files[0]!.places).toBe(0)
  })
})
