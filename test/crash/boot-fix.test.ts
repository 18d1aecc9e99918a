import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openFolder } from '../../src/host/folder.js'
import { planBootFix, runBootFix } from '../../src/ops/boot-fix.js'
import { failure } from '../support/outcome.js'
import { contentOf, KINDS, type Kind, layOut, powerCuts, recordingFolder, type Step } from '../support/power-cut.js'
import { finished, smallStick } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
const NAME = 'syslinux.cfg'
const OLD = `default live
label live
  kernel vmlinuz
  append initrd=initrd.img root=live:UUID=1A2B-3C4D rd.live.image rd.live.overlay=UUID=1A2B-3C4D rd.live.overlay.overlayfs
`
const NEW = OLD.replace(' rd.live.overlay.overlayfs', ' rd.live.image2')

const plan = (target: string) => ({
  verb: 'fix boot' as const,
  target,
  files: [{ path: `/syslinux/${NAME}`, partition: null, diff: '', before: OLD, after: NEW }],
  findings: [],
})

const stick = async (name: string): Promise<string> => {
  const dir = await path(name)
  await smallStick(dir, { raw: true })
  await layOut(join(dir, 'syslinux'), { files: new Map([[NAME, Buffer.from(OLD)]]), shared: [] })
  return dir
}

/** Media after every cut of a change whose log may be changed. */
const cuts = async (kind: Kind, change: (log: Step[]) => Step[] = log => log) => {
  const dir = await stick(`${kind}-${Math.random().toString(36).slice(2)}`)
  const folder = join(dir, 'syslinux')
  const initial = [await contentOf(folder)]
  const log: Step[] = []
  const open = async (where: string) => recordingFolder(await openFolder(where), 0, kind, log)
  await finished(runBootFix(plan(dir), { open }))
  return { dir, folder, media: [...powerCuts(initial, change(log), kind)] }
}

const text = (files: ReadonlyMap<string, Uint8Array>, name: string): string | undefined => {
  const bytes = files.get(name)
  return bytes && Buffer.from(bytes).toString()
}

/** The medium's configuration is whole, or on FAT has no name while its old text is there. */
const isWhole = (files: ReadonlyMap<string, Uint8Array>, kind: Kind): boolean => {
  const named = text(files, NAME)
  if (named !== undefined) return named === OLD || named === NEW
  return kind === 'fat' && text(files, `${NAME}.old`) === OLD
}

it.each(KINDS)('%s: after a cut the configuration is the old or the new one, and a second run finishes', async kind => {
  const { dir, folder, media } = await cuts(kind)
  console.log(`boot configuration, ${kind}: ${media.length} states`)
  expect(media.length).toBeGreaterThan(6)
  let shared = 0
  for (const medium of media) {
    const [found] = medium.folders
    expect(isWhole(found!.files, kind), [...found!.files.keys()].join(' ')).toBe(true)
    await layOut(folder, found!)
    const open = async (where: string) => recordingFolder(await openFolder(where), 0, kind, [])
    const again = plan(dir)
    if (found!.shared.length > 0) {
      // two names on one cluster chain: nothing may be removed before fsck has looked
      if (kind === 'fat') shared++
    }
    const now = text(found!.files, NAME)
    const names = [...found!.files.keys()]
    if (kind === 'fat' && names.length === 3) {
      const error = await failure(finished(runBootFix(again, { open })), 'REFUSED')
      expect(error.message).toMatch(/fsck\.vfat/)
      continue
    }
    if (now === NEW) {
      // done: what is left is told, and the old text under its name is what it was
      const old = text(found!.files, `${NAME}.old`)
      expect(old === undefined || old === OLD).toBe(true)
      continue
    }
    await finished(runBootFix(again, { open }))
    expect([...(await contentOf(folder))].map(([name, bytes]) => [name, Buffer.from(bytes).toString()])).toEqual([
      [NAME, NEW],
    ])
  }
  if (kind === 'fat') expect(shared).toBeGreaterThan(0)
})

it('a configuration that lost its name is found and gets it again', async () => {
  const dir = await stick('lost')
  const folder = join(dir, 'syslinux')
  for (const files of [
    new Map([
      [`${NAME}.old`, Buffer.from(OLD)],
      [`${NAME}.new`, Buffer.from(NEW)],
    ]),
    new Map([[`${NAME}.old`, Buffer.from(NEW)]]),
  ]) {
    await layOut(folder, { files, shared: [] })
    const found = await planBootFix({ target: dir })
    expect(found.findings.map(({ code }) => code)).toContain('BOOT_FIX_INTERRUPTED')
    await finished(runBootFix(found))
    expect([...(await contentOf(folder))].map(([name, bytes]) => [name, Buffer.from(bytes).toString()])).toEqual([
      [NAME, NEW],
    ])
  }
})

const ASKED = `default live
label live
  kernel vmlinuz
  append initrd=initrd.img root=live:LABEL=TEST rd.live.image
`

it.each(KINDS)('%s: what a change leaves is known again by doctor, and goes', async kind => {
  const dir = await stick(`known-${kind}`)
  const folder = join(dir, 'syslinux')
  await layOut(folder, { files: new Map([[NAME, Buffer.from(ASKED)]]), shared: [] })
  await rename(join(dir, 'LiveOS/overlay-TEST-0001'), join(dir, 'LiveOS/overlay-TEST-1A2B-3C4D'))
  const initial = [await contentOf(folder)]
  const log: Step[] = []
  const open = async (where: string) => recordingFolder(await openFolder(where), 0, kind, log)
  await finished(runBootFix(await planBootFix({ target: dir }), { open }))
  const done = text(await contentOf(folder), NAME)!
  expect(done).toContain('rd.live.overlay=UUID=1A2B-3C4D:/LiveOS/overlay-TEST-1A2B-3C4D')
  let left = 0
  for (const medium of powerCuts(initial, log, kind)) {
    const [found] = medium.folders
    if (kind === 'fat' && found!.files.size === 3) continue
    await layOut(folder, found!)
    const again = await planBootFix({ target: dir })
    if (again.findings.some(({ code }) => code === 'BOOT_FIX_LEFTOVER')) left++
    const here = async (where: string) => recordingFolder(await openFolder(where), 0, kind, [])
    await finished(runBootFix(again, { open: here }))
    const files = await contentOf(folder)
    expect([...files.keys()], `${kind}, after ${medium.cut} steps`).toEqual([NAME])
    expect(text(files, NAME)).toBe(done)
    expect((await planBootFix({ target: dir })).files).toEqual([])
  }
  expect(left).toBeGreaterThan(0)
})

it('a text of that name that somebody keeps is no leftover, and stays', async () => {
  const dir = await stick('kept')
  const folder = join(dir, 'syslinux')
  await rename(join(dir, 'LiveOS/overlay-TEST-0001'), join(dir, 'LiveOS/overlay-TEST-1A2B-3C4D'))
  const kept = Buffer.from(ASKED.replace('label live', 'label mine'))
  const files = new Map([
    [NAME, Buffer.from(ASKED)],
    [`${NAME}.old`, kept],
  ])
  await layOut(folder, { files, shared: [] })
  const found = await planBootFix({ target: dir })
  expect(found.findings.map(({ code }) => code)).not.toContain('BOOT_FIX_LEFTOVER')
  const error = await failure(finished(runBootFix(found)), 'REFUSED')
  expect(error.message).toMatch(/syslinux\.cfg\.old is in the way/)
  expect(text(await contentOf(folder), `${NAME}.old`)).toBe(kept.toString())
})

it('the test can fail: a name that is given before the text is on the medium', async () => {
  const { media } = await cuts('posix', log => log.filter(step => step.kind !== 'flush'))
  expect(media.some(({ folders }) => !isWhole(folders[0]!.files, 'posix'))).toBe(true)
})
