import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Folder, openFolder } from '../../../src/host/folder.js'
import { findTarget } from '../../../src/liveos/target.js'
import { planMerge, runMerge } from '../../../src/ops/merge.js'
import { planRefresh } from '../../../src/ops/refresh.js'
import { runRefresh } from '../../../src/ops/refresh-run.js'
import { copyFile } from '../../../src/ops/refresh-write.js'
import { failure } from '../../support/outcome.js'
import { finished, OVERLAY, sha256, smallStick, viewOf } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'
import { needTools } from '../../support/tools.js'

const path = temporary({ memory: true })
const { it } = needTools('mksquashfs')
let count = 0

const fresh = async () => {
  const stick = await smallStick(await path(`guard${count++}`), {})
  const live = join(stick.path, 'LiveOS')
  const stage = await path(`guard-stage${count}`)
  await mkdir(stage)
  return { ...stick, live, stage, input: { target: stick.path } }
}

/** Runs a refresh until a phase begins, and stops it there. */
const cutAt = async (phase: string, input: { target: string }, stage?: string): Promise<void> => {
  const stop = new AbortController()
  const run = runRefresh(input, await planRefresh(input, { stage }), { signal: stop.signal })
  for (;;) {
    const { value, done } = await run.next().catch(() => ({ value: undefined, done: true }))
    if (done) return
    if (value && 'phase' in value && value.phase === phase) stop.abort()
  }
}

const flipped = async (file: string, at: number): Promise<void> => {
  const bytes = await readFile(file)
  bytes[at]! ^= 1
  await writeFile(file, bytes)
}

it('a staged copy of which one bit has changed is neither built from nor put back', async () => {
  const { input, live, stage } = await fresh()
  await cutAt('write', input, stage)
  const [name] = await readdir(stage)
  const copy = join(stage, name!)
  const { length } = await readFile(copy)
  // neither in the first page nor in the last
  await flipped(copy, length >> 1)
  const before = await readdir(live)
  for (const restore of [false, true]) {
    const error = await failure(finished(runRefresh(input, await planRefresh(input, { restore }))), 'REFUSED')
    expect(error.message).toContain('is not the base that was staged there')
    expect(await readdir(stage)).toEqual([name])
    expect(await readdir(live)).toEqual(before)
  }
  await flipped(copy, length >> 1)
  const done = await finished(runRefresh(input, await planRefresh(input, {})))
  expect(done.overlayReset).toBe(true)
  expect(await readdir(stage)).toEqual([])
})

it('a copy whose bytes come back wrong is refused, wherever they are', async () => {
  const { live, stage } = await fresh()
  const [from, to] = [await openFolder(live), await openFolder(stage)]
  const size = (await from.facts('squashfs.img'))!.size
  for (const [n, at] of [0, size >> 1, size - 1].entries()) {
    const lying: Folder = {
      ...to,
      async openReadBack(name) {
        await flipped(join(stage, name), at)
        return to.openReadBack(name)
      },
    }
    await failure(
      copyFile(from, 'squashfs.img', lying, `copy${n}`, 'stage', () => {}, undefined),
      'CORRUPT',
    )
  }
  const copied = await copyFile(from, 'squashfs.img', to, 'right', 'stage', () => {}, undefined)
  expect(copied.sha256).toBe(sha256(await readFile(join(live, 'squashfs.img'))))
})

it('after a cut while clearing up, the old base stays where another image has taken the place of the new one', async () => {
  const { input, live, merged } = await fresh()
  const target = await findTarget(input)
  const run = runRefresh(input, await planRefresh(input, {}), {
    wrapFolder: folder => ({
      ...folder,
      async openWritable(name) {
        if (name === OVERLAY) throw new Error('cut')
        return folder.openWritable(name)
      },
    }),
  })
  await finished(run).catch(() => undefined)
  expect((await planRefresh(input, {})).resume?.step).toBe('resetting')
  const good = await readFile(target.base.path)
  await writeFile(target.base.path, 'somebody was here')
  const before = await readdir(live)
  const error = await failure(finished(runRefresh(input, await planRefresh(input, {}))), 'REFUSED')
  expect(error.message).toContain('is not the image that was verified')
  expect(await readdir(live)).toEqual(before)
  await writeFile(target.base.path, good)
  await finished(runRefresh(input, await planRefresh(input, {})))
  expect(await viewOf(input)).toBe(sha256(merged))
})

it('of two runs that finish the same refresh at once, the second is refused and the first goes on', async () => {
  const { input, stage, merged } = await fresh()
  await cutAt('write', input, stage)
  const plan = await planRefresh(input, {})
  let go = (): void => {}
  const gate = new Promise<void>(resolve => (go = resolve))
  let reached = (): void => {}
  const writing = new Promise<void>(resolve => (reached = resolve))
  const first = finished(
    runRefresh(input, plan, {
      wrapFolder: folder => ({
        ...folder,
        async create(name) {
          reached()
          await gate
          return folder.create(name)
        },
      }),
    }),
  )
  await Promise.race([writing, first])
  await failure(finished(runRefresh(input, plan)), 'REFUSED').finally(go)
  expect((await first).overlayReset).toBe(true)
  expect(await viewOf(input)).toBe(sha256(merged))
})

it('a base that somebody changes while the new one is written is not replaced', async () => {
  for (const raw of [false, true]) {
    const stick = await smallStick(await path(`guard${count++}`), { raw })
    const live = join(stick.path, 'LiveOS')
    const input = { target: stick.path }
    const base = join(live, raw ? 'rootfs.img' : 'squashfs.img')
    const before = await readdir(live)
    const overlay = await readFile(join(live, OVERLAY))
    const { length } = await readFile(base)
    const run = runRefresh(input, await planRefresh(input, { verify: false }), {
      wrapFolder: folder => ({
        ...folder,
        async openReadBack(name) {
          await flipped(base, length >> 1)
          return folder.openReadBack(name)
        },
      }),
    })
    const error = await failure(finished(run), 'REFUSED')
    expect(error.message).toContain('this run has changed nothing on the stick')
    expect(await readdir(live)).toEqual(before)
    expect((await readFile(join(live, OVERLAY))).equals(overlay)).toBe(true)
  }
})

it('a merge of what somebody changes meanwhile leaves no file', async () => {
  const { input, live } = await fresh()
  const target = await findTarget(input)
  for (const [n, name] of [OVERLAY, 'squashfs.img'].entries()) {
    const output = await path(`torn${n}`)
    const run = runMerge(target, await planMerge(await findTarget(input), { output, verify: false }), {
      wrapFolder: folder => ({
        ...folder,
        async openReadBack(file) {
          await flipped(join(live, name), (await readFile(join(live, name))).length - 1)
          return folder.openReadBack(file)
        },
      }),
    })
    const error = await failure(finished(run), 'REFUSED')
    expect(error.message).toContain(name)
    await expect(stat(output)).rejects.toThrow('ENOENT')
  }
})
