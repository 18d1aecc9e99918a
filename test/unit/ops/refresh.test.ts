import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { chmod, mkdir, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { LiveError } from '../../../src/error.js'
import { FAT_MAX_FILE, type Folder } from '../../../src/host/folder.js'
import { findTarget } from '../../../src/liveos/target.js'
import { planMerge, runMerge } from '../../../src/ops/merge.js'
import type { Progress } from '../../../src/ops/progress.js'
import { planRefresh } from '../../../src/ops/refresh.js'
import { runRefresh } from '../../../src/ops/refresh-run.js'
import { contentOf, recordingFolder } from '../../support/power-cut.js'
import { BLOCK, bytesOf, finished, OVERLAY, sha256, smallStick, viewOf } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'
import { needTools } from '../../support/tools.js'

const run = promisify(execFile)
const path = temporary({ memory: true })
let count = 0
const fresh = async (options?: Parameters<typeof smallStick>[1]) => {
  const stick = await smallStick(await path(`stick${count++}`), options)
  return { ...stick, live: join(stick.path, 'LiveOS'), input: { target: stick.path } }
}
const codeOf = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'no error',
    error => (error instanceof LiveError ? `${error.code}: ${error.message}` : `not ours: ${String(error)}`),
  )
const state = async (live: string): Promise<string> =>
  JSON.stringify([...(await contentOf(live))].map(([name, bytes]) => [name, sha256(bytes)]))

const { it: judged } = needTools('mksquashfs', 'unsquashfs', 'setfattr')

judged('stopped in any phase before the swap: CANCELLED, and everything as it was', async () => {
  const { live, input } = await fresh()
  const before = await state(live)
  for (const phase of ['write', 'flush', 'verify']) {
    const stop = new AbortController()
    const plan = await planRefresh(input, {})
    const running = runRefresh(input, plan, { signal: stop.signal })
    const watched = (async () => {
      for (;;) {
        const { value, done } = await running.next()
        if (done) return
        if ((value as Progress).phase === phase) stop.abort()
      }
    })()
    const result = await codeOf(watched)
    // what is small may be through with a phase before anybody hears of it
    if (result === 'no error') continue
    expect(result).toContain('CANCELLED')
    expect(await state(live), phase).toBe(before)
  }
})

judged('a stick that changed after the plan is refused', async () => {
  const { live, input } = await fresh()
  const plan = await planRefresh(input, {})
  await truncate(join(live, OVERLAY), 123 * 4096)
  expect(await codeOf(finished(runRefresh(input, plan)))).toContain('REFUSED')
  const target = await findTarget(input)
  const merge = await planMerge(target, { output: await path('never') })
  await truncate(join(live, OVERLAY), 124 * 4096)
  expect(await codeOf(finished(runMerge(target, merge)))).toContain('REFUSED')
})

judged('--keep-old keeps the old base, and the next refresh says what to do with it', async () => {
  const { live, input, root, merged } = await fresh()
  await finished(runRefresh(input, await planRefresh(input, { keepOld: true })))
  const names = await readdir(live)
  expect(names.sort()).toEqual([OVERLAY, 'squashfs.img', 'squashfs.img.old'])
  expect(await viewOf({ base: join(live, 'squashfs.img.old') })).toBe(sha256(root))
  expect(await viewOf(input)).toBe(sha256(merged))
  await writeFile(join(live, OVERLAY), storeOf([{ oldChunk: 5, content: bytesOf(9, 4096) }], 8, 8))
  expect(await codeOf(planRefresh(input, {}))).toMatch(/REFUSED: squashfs.img.old is there/)
})

judged('mode and attributes of the base stay, also on the way through a stage', async () => {
  for (const staged of [false, true]) {
    const { live, input } = await fresh()
    const stage = await path(`stage${count}`)
    await mkdir(stage)
    const base = join(live, 'squashfs.img')
    await chmod(base, 0o640)
    await run('setfattr', ['-n', 'user.note', '-v', 'mine', base])
    const before = await stat(base)
    const done = await finished(runRefresh(input, await planRefresh(input, staged ? { stage } : {})))
    expect(done.findings.map(({ code }) => code)).not.toContain('ATTRIBUTES_NOT_KEPT')
    const after = await stat(base)
    // in a stage the old one is gone before, and its number is free again
    if (!staged) expect(after.ino).not.toBe(before.ino)
    expect([after.mode, after.uid, after.gid]).toEqual([before.mode, before.uid, before.gid])
    expect((await run('getfattr', ['--only-values', '-n', 'user.note', base])).stdout).toBe('mine')
    expect(await readdir(stage)).toEqual([])
  }
})

judged('an overlay that is written to while the new base is being made stops the refresh, and stays', async () => {
  const { live, input } = await fresh()
  const stage = await path(`stage${count}`)
  await mkdir(stage)
  const overlay = join(live, OVERLAY)
  const writtenTo = (folder: Folder): Folder =>
    recordingFolder(folder, 0, 'posix', [], {}, step => {
      if (step.kind === 'create' && step.name.endsWith('.new')) writeFileSync(overlay, changed)
    })
  const changed = storeOf([{ oldChunk: 5, content: bytesOf(9, 4096) }], 8, 8)
  const original = await readFile(overlay)
  const result = await codeOf(
    (async () => finished(runRefresh(input, await planRefresh(input, {}), { wrapFolder: writtenTo })))(),
  )
  expect(result).toMatch(
    /REFUSED: .*has changed.* by something else than this run.*this run has changed nothing on the stick/,
  )
  expect(await readdir(live)).toEqual([OVERLAY, 'squashfs.img'])
  expect(Buffer.compare(await readFile(overlay), changed)).toBe(0)

  await writeFile(overlay, original)
  const stop = (folder: Folder): Folder =>
    recordingFolder(folder, 0, 'posix', [], {}, step => {
      if (step.kind === 'create' && step.name.endsWith('.new')) throw new LiveError('IO', 'pulled out')
    })
  const cut = codeOf(
    (async () => finished(runRefresh(input, await planRefresh(input, { stage }), { wrapFolder: stop })))(),
  )
  expect(await cut).toMatch(/can't boot now.*--restore/)
  const second = codeOf(
    (async () => finished(runRefresh(input, await planRefresh(input, {}), { wrapFolder: writtenTo })))(),
  )
  expect(await second).toMatch(/REFUSED: .*has changed.*can't boot now/)
  expect((await finished(runRefresh(input, await planRefresh(input, {})))).overlayReset).toBe(true)
  expect([await readdir(live), await readdir(stage)]).toEqual([[OVERLAY, 'squashfs.img'], []])
})

judged(
  'an unreadable block of the old base stops the refresh where the overlay leaves a part of it uncovered, and only there',
  async () => {
    const spoil = async (changed: readonly number[], block: number) => {
      const { live, input } = await fresh({ changed })
      const { openSquashfs } = await import('../../../src/fs/squashfs/reader.js')
      const { openFile } = await import('../../../src/block/file.js')
      const image = await openFile(join(live, 'squashfs.img'))
      const at = (await (await openSquashfs(image)).open('/LiveOS/rootfs.img')).stored(block)!
      await image.close()
      const file = await open(join(live, 'squashfs.img'), 'r+')
      await file.write(Buffer.alloc(at.size, 0xff), 0, at.size, at.offset)
      await file.close()
      return codeOf((async () => finished(runRefresh(input, await planRefresh(input, {}))))())
    }
    const chunks = BLOCK / 4096
    const covered = Array.from({ length: chunks }, (_, n) => 5 * chunks + n)
    expect(await spoil([5 * chunks], 5)).toMatch(/CORRUPT: .*block 5 of/)
    expect(await spoil(covered, 5)).toBe('no error')
  },
)

judged('what can’t be merged is refused by name', async () => {
  const { live, input } = await fresh()
  const flat = await path('flat')
  await mkdir(join(flat, 'usr'), { recursive: true })
  await run('mksquashfs', [flat, join(live, 'flat.img'), '-noappend', '-no-progress', '-all-root'])
  expect(await codeOf(planRefresh({ base: join(live, 'flat.img'), overlay: join(live, OVERLAY) }, {}))).toMatch(
    /UNSUPPORTED: .*flat squashfs/,
  )
  const erofs = new Uint8Array(8192)
  erofs.set([0xe2, 0xe1, 0xf5, 0xe0], 1024)
  await writeFile(join(live, 'erofs.img'), erofs)
  expect(await codeOf(planRefresh({ base: join(live, 'erofs.img'), overlay: join(live, OVERLAY) }, {}))).toMatch(
    /UNSUPPORTED: .*EROFS/,
  )
  await writeFile(join(live, OVERLAY), new Uint8Array(65536))
  expect(await codeOf(planRefresh(input, {}))).toMatch(/USAGE: .*is empty/)
})

it('a raw base on FAT may not grow past what a file can hold', async () => {
  const { live, input } = await fresh({ raw: true })
  const target = await findTarget(input)
  const folder: Folder = {
    ...target.base.folder,
    traits: { kind: 'fat', atomicRename: false, maxFileSize: 1000, holes: false },
  }
  expect(FAT_MAX_FILE).toBe(2 ** 32 - 1)
  const { planFresh } = await import('../../../src/ops/refresh.js')
  expect(await codeOf(planFresh({ ...target, base: { ...target.base, folder } }, {}, false))).toMatch(
    /NO_SPACE: .*files of at most 1000/,
  )
  const small: Folder = { ...target.base.folder, freeBytes: async () => 5000 }
  expect(await codeOf(planFresh({ ...target, base: { ...target.base, folder: small } }, {}, false))).toMatch(
    /NO_SPACE: .*--stage DIR/,
  )
  expect(await readdir(live)).toHaveLength(2)
})
