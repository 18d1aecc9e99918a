import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { type Folder, openFolder } from '../../../src/host/folder.js'
import { findTarget } from '../../../src/liveos/target.js'
import { planMerge } from '../../../src/ops/merge.js'
import { planFresh, planRefresh } from '../../../src/ops/refresh.js'
import { runRefresh } from '../../../src/ops/refresh-run.js'
import { planReset, runReset } from '../../../src/ops/reset.js'
import { readStatus } from '../../../src/ops/status.js'
import { failure } from '../../support/outcome.js'
import { contentOf } from '../../support/power-cut.js'
import { bytesOf, CHUNK, finished, OVERLAY, sha256, smallStick } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'
import { needTools, tool } from '../../support/tools.js'

const run = promisify(execFile)
const path = temporary()
const { it: judged } = needTools('mksquashfs')
let count = 0

const fresh = async (options: Parameters<typeof smallStick>[1] = { raw: true }) => {
  const stick = await smallStick(await path(`stick${count++}`), options)
  const live = join(stick.path, 'LiveOS')
  return { ...stick, live, overlay: join(live, OVERLAY), input: { target: stick.path } }
}

const state = async (live: string): Promise<string> =>
  JSON.stringify([...(await contentOf(live))].map(([name, bytes]) => [name, sha256(bytes)]))

/** A test that can't run where there is a reason: this is no fault of the computer, so it is skipped in CI too. */
const unless = (reason: string | undefined) => (title: string, body: () => Promise<void>) =>
  reason === undefined ? it(title, body) : it.skip(`${title} (${reason})`, body)

/** The error of a refresh that must not even be planned, and of a merge and a reset where those may not be either. */
const refused = async (target: string, code: Parameters<typeof failure>[1]) => {
  const error = await failure(planRefresh({ target }, {}), code)
  expect(error.message.length).toBeGreaterThan(20)
  return error
}

describe('an overlay that can’t be merged', () => {
  it('none: NOT_FOUND', async () => {
    const { path: target, overlay } = await fresh()
    await rm(overlay)
    expect((await refused(target, 'NOT_FOUND')).message).toContain('no persistent overlay')
    await failure(findTarget({ target }).then(planReset), 'NOT_FOUND')
  })

  it('two: USAGE that names both, until one is chosen', async () => {
    const { path: target, overlay, live } = await fresh()
    await writeFile(join(live, 'overlay-OTHER-0002'), await readFile(overlay))
    const error = await refused(target, 'USAGE')
    expect(error.message).toContain(`overlay-OTHER-0002, ${OVERLAY}`)
    expect(error.message).toContain('--overlay')
    const plan = await planRefresh({ target, overlay }, {})
    expect(plan.overlay?.path).toBe(overlay)
  })

  it('empty: USAGE', async () => {
    const { path: target, overlay } = await fresh()
    await writeFile(overlay, storeOf([], 8, 8))
    expect((await refused(target, 'USAGE')).message).toContain('nothing to merge')
  })

  it('of another base: CORRUPT with the chunk', async () => {
    const { path: target, overlay } = await fresh()
    await writeFile(overlay, storeOf([{ oldChunk: 99999, content: bytesOf(1, CHUNK) }], 8, 8))
    const error = await refused(target, 'CORRUPT')
    expect(error.data).toMatchObject({ offset: expect.any(Number), field: expect.any(String) })
    expect(`${error.message} ${JSON.stringify(error.data)}`).toContain('99999')
    // recover would refuse it
    const { findings } = await readStatus({ target })
    expect(findings.find(({ code }) => code === 'OVERLAY_DAMAGED')?.remedy).toMatch(
      /^if the base was replaced, put back/,
    )
  })

  it('marked invalid by the kernel: CORRUPT that says what can be done', async () => {
    const { path: target, overlay, live } = await fresh()
    const bytes = await readFile(overlay)
    bytes.writeUInt32LE(0, 4)
    await writeFile(overlay, bytes)
    const before = await state(live)
    const error = await refused(target, 'CORRUPT')
    expect(error.data).toMatchObject({ offset: 4, field: 'valid' })
    expect(error.message).toContain('liveos reset')
    expect(await state(live)).toBe(before)
    const found = await findTarget({ target })
    await finished(runReset(found, await planReset(found)))
    expect((await refused(target, 'USAGE')).message).toContain('nothing to merge')
  })
})

judged('a truncated squashfs: CORRUPT, and nothing changes', async () => {
  const { path: target, live } = await fresh({ packed: false })
  for (const size of [150_000, 4096, 96, 50]) {
    await truncate(join(live, 'squashfs.img'), size)
    const before = await state(live)
    await refused(target, 'CORRUPT')
    expect(await state(live)).toBe(before)
  }
})

describe('where nothing may be written', () => {
  it('mounted read-only: READ_ONLY', async () => {
    const { input } = await fresh()
    const target = await findTarget(input)
    const readOnly = { ...target, medium: { ...target.medium, readOnly: true } }
    for (const plan of [await planFresh(readOnly, {}, false), await planReset(readOnly)])
      expect(plan.findings[0]).toMatchObject({
        code: 'READ_ONLY',
        severity: 'error',
        message: expect.stringContaining('remount,rw'),
      })
    await failure(finished(runReset(readOnly, await planReset(readOnly))), 'READ_ONLY')
  })

  unless(process.getuid?.() === 0 ? 'root may write anywhere' : undefined)('no permission: READ_ONLY', async () => {
    const { input, live } = await fresh()
    await chmod(live, 0o555)
    const plan = await planRefresh(input, {})
    expect(plan.findings.map(({ code }) => code)).toContain('READ_ONLY')
    await failure(finished(runRefresh(input, plan)), 'READ_ONLY').finally(() => chmod(live, 0o755))
  })

  it('no permission, as the folder tells it: READ_ONLY', async () => {
    const { input } = await fresh()
    const target = await findTarget(input)
    const folder: Folder = { ...target.base.folder, isWritable: async () => false }
    const plan = await planFresh({ ...target, base: { ...target.base, folder } }, {}, false)
    expect(plan.findings.map(({ code }) => code)).toContain('READ_ONLY')
  })
})

it('a base that is a symbolic link: REFUSED, with what it leads to', async () => {
  const { input, live } = await fresh()
  await rename(join(live, 'rootfs.img'), join(live, '..', 'elsewhere.img'))
  await symlink('../elsewhere.img', join(live, 'rootfs.img'))
  expect((await failure(planRefresh(input, {}), 'REFUSED')).message).toContain('a symbolic link to ../elsewhere.img')
})

it('an overlay is not reset while a refresh is unfinished, as it may hold the only copy of its changes', async () => {
  const { input, live } = await fresh()
  const plan = await planReset(await findTarget(input))
  for (const step of ['writing', 'rewriting', 'swapping', 'resetting']) {
    await cutShort(live, step)
    expect((await failure(planReset(await findTarget(input)), 'REFUSED')).message).toContain('liveos refresh')
    await failure(finished(runReset(await findTarget(input), plan)), 'REFUSED')
  }
})

const loops = async (): Promise<string | undefined> => {
  if (process.getuid?.() !== 0) return 'loop devices want root'
  const losetup = tool('losetup')
  if (!losetup) return 'needs losetup: apt-get install util-linux'
  return run(losetup, ['-f']).then(
    () => undefined,
    () => 'this kernel gives no loop device',
  )
}

const looped = unless(await loops())

looped('an overlay or base that is attached to a loop device: REFUSED, before and after the plan', async () => {
  const { input, live, overlay } = await fresh()
  const plan = await planRefresh(input, {})
  const reset = await planReset(await findTarget(input))
  const before = await state(live)
  for (const file of [overlay, join(live, 'rootfs.img')]) {
    const { stdout } = await run('losetup', ['-f', '--show', '-r', file])
    const loop = stdout.trim()
    try {
      const error = await failure(planRefresh(input, {}), 'REFUSED')
      expect(error.data).toMatchObject({ loop, path: file })
      expect(error.message).toContain(`losetup -d ${loop}`)
      await failure(finished(runRefresh(input, plan)), 'REFUSED')
      await failure(finished(runReset(await findTarget(input), reset)), 'REFUSED')
    } finally {
      await run('losetup', ['-d', loop])
    }
  }
  expect(await state(live)).toBe(before)
})

looped('a refresh that was cut short is not finished while its overlay is attached', async () => {
  const { input, live, overlay } = await fresh()
  await cutShort(live, 'swapping')
  const plan = await planRefresh(input, {})
  expect(plan.resume?.step).toBe('swapping')
  const before = await state(live)
  const { stdout } = await run('losetup', ['-f', '--show', '-r', overlay])
  try {
    await failure(planRefresh(input, {}), 'REFUSED')
    await failure(finished(runRefresh(input, plan)), 'REFUSED')
  } finally {
    await run('losetup', ['-d', stdout.trim()])
  }
  expect(await state(live)).toBe(before)
})

/** Leaves the state file of a cut refresh there. */
const cutShort = async (live: string, step: string): Promise<void> => {
  const mark = { size: 1, ends: 'x' }
  const first = JSON.stringify({ liveos: 'refresh', version: 2, step, fresh: mark, staged: null })
  const rest = JSON.stringify({ old: mark, keepOld: false, stage: null })
  await writeFile(join(live, 'rootfs.img.refresh'), `${first.padEnd(511)}\n${rest}\n`)
}

describe('a plan that does not fit any more', () => {
  it('a refresh that began after the plan, or ended: REFUSED', async () => {
    const { input, live } = await fresh()
    const plan = await planRefresh(input, {})
    await cutShort(live, 'writing')
    await failure(finished(runRefresh(input, plan)), 'REFUSED')
    const again = await planRefresh(input, {})
    expect(again.resume).toEqual({ step: 'writing', does: 'start again' })
    await rm(join(live, 'rootfs.img.refresh'))
    await failure(finished(runRefresh(input, again)), 'REFUSED')
  })

  it('a base that somebody else kept is not taken for a leftover', async () => {
    const { input, live } = await fresh()
    await cutShort(live, 'writing')
    await writeFile(join(live, 'rootfs.img.old'), 'mine')
    expect((await failure(planRefresh(input, {}), 'REFUSED')).message).toContain('rootfs.img.old is there')
  })

  it('a state file of a newer version: UNSUPPORTED', async () => {
    const { input, live } = await fresh()
    const first = JSON.stringify({ liveos: 'refresh', version: 3, step: 'writing' })
    await writeFile(join(live, 'rootfs.img.refresh'), `${first.padEnd(511)}\n{}\n`)
    await failure(planRefresh(input, {}), 'UNSUPPORTED')
  })
})

describe('room', () => {
  const withFolder = async (change: (folder: Folder) => Partial<Folder>, options = {}) => {
    const stick = await fresh()
    const target = await findTarget(stick.input)
    const folder = { ...target.base.folder, ...change(target.base.folder) }
    return { ...stick, plan: () => planFresh({ ...target, base: { ...target.base, folder } }, options, true) }
  }

  it('too little: NO_SPACE with both numbers', async () => {
    const { plan } = await withFolder(() => ({ freeBytes: async () => 100_000 }))
    const error = await failure(plan(), 'NO_SPACE')
    const { neededBytes, freeBytes } = error.data as { neededBytes: number; freeBytes: number }
    expect(freeBytes).toBe(100_000)
    expect(neededBytes).toBeGreaterThan(200_000)
    for (const part of [String(neededBytes), '100000', '--stage DIR']) expect(error.message).toContain(part)
  })

  it('what a cut run left there counts as free, as it is removed first', async () => {
    const { plan, live } = await withFolder(({ facts }) => ({
      freeBytes: async () => 1_200_000,
      facts,
    }))
    await failure(plan(), 'NO_SPACE')
    await writeFile(join(live, 'rootfs.img.new'), bytesOf(3, 400_000))
    expect((await plan()).space!.freeBytes).toBeGreaterThanOrEqual(1_600_000)
  })

  it('a stage on the stick’s own filesystem gives no room for the new base', async () => {
    const stage = await path(`stage${count}`)
    await mkdir(stage)
    const { plan } = await withFolder(() => ({ freeBytes: async () => 1_200_000 }), { stage })
    expect((await failure(plan(), 'NO_SPACE')).data.freeBytes).toBe(1_200_000)
  })

  it('files of FAT end at 4 GiB - 1', async () => {
    const fat: Folder['traits'] = { kind: 'fat', atomicRename: false, maxFileSize: 2 ** 32 - 1, holes: false }
    const { plan } = await withFolder(() => ({ traits: fat }))
    expect((await plan()).space).toMatchObject({ fileLimit: 2 ** 32 - 1 })
    expect((await plan()).cannotBoot).toContain('between two renames')
    const { live, input } = await fresh()
    // sparse, and one byte too long
    await truncate(join(live, 'rootfs.img'), 2 ** 32)
    const target = await findTarget(input)
    const folder: Folder = { ...(await openFolder(live)), traits: fat, freeBytes: async () => 2 ** 40 }
    const error = await failure(planFresh({ ...target, base: { ...target.base, folder } }, {}, false), 'NO_SPACE')
    expect(error.message).toContain(String(2 ** 32 - 1))
    await truncate(join(live, 'rootfs.img'), 2 ** 32 - 512)
    const fits = await findTarget(input)
    await planFresh({ ...fits, base: { ...fits.base, folder } }, {}, false)
  })

  it('a merge needs a free name', async () => {
    const { input } = await fresh()
    const output = await path(`taken${count}`)
    await writeFile(output, 'mine')
    await failure(planMerge(await findTarget(input), { output }), 'REFUSED')
    expect(await readFile(output, 'utf8')).toBe('mine')
  })
})
