import { spawn } from 'node:child_process'
import { copyFile, mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { findTarget } from '../../../src/liveos/target.js'
import { planRefresh } from '../../../src/ops/refresh.js'
import { checkNotRunning, thisOwner } from '../../../src/ops/refresh-owner.js'
import { runRefresh } from '../../../src/ops/refresh-run.js'
import { planReset } from '../../../src/ops/reset.js'
import { failure } from '../../support/outcome.js'
import { finished, OVERLAY, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'
import { needTools } from '../../support/tools.js'

const path = temporary({ memory: true })
const { it: judged } = needTools('mksquashfs')
let count = 0

const fresh = async () => {
  const stick = await smallStick(await path(`owner${count++}`), {})
  return { ...stick, live: join(stick.path, 'LiveOS') }
}

describe('who runs a refresh', () => {
  test('this process is nobody else; one that is gone runs nothing', async () => {
    await checkNotRunning(await thisOwner(), 'the stick')
    await checkNotRunning({ pid: 2 ** 22 + 1, start: '1', boot: 'x' }, 'the stick')
    await checkNotRunning(undefined, 'the stick')
  })

  test('another process that lives is refused by its number, one of an earlier boot is not', async () => {
    const child = spawn('sleep', ['60'])
    try {
      const line = await readFile(`/proc/${child.pid}/stat`, 'utf8')
      const start = line.slice(line.lastIndexOf(')') + 2).split(' ')[19]!
      const { boot } = await thisOwner()
      const error = await failure(checkNotRunning({ pid: child.pid!, start, boot }, 'the stick'), 'REFUSED')
      expect(error.message).toContain(String(child.pid))
      await checkNotRunning({ pid: child.pid!, start, boot: 'another boot' }, 'the stick')
      await checkNotRunning({ pid: child.pid!, start: '0', boot }, 'the stick')
    } finally {
      child.kill()
    }
  })
})

judged('two sticks of one release may be refreshed by one stage: each keeps its own copy', async () => {
  const stage = await path('one-stage')
  await mkdir(stage)
  const [a, b] = [await fresh(), await fresh()]
  // the first one is cut while the copy in the stage is its only base
  const stop = new AbortController()
  const input = { target: a.path }
  const run = runRefresh(input, await planRefresh(input, { stage }), { signal: stop.signal })
  await expect(
    (async () => {
      for await (const { phase } of { [Symbol.asyncIterator]: () => run } as AsyncIterable<{ phase: string }>)
        if (phase === 'write') stop.abort()
    })(),
  ).rejects.toThrow()
  const [left] = await readdir(stage)
  expect(left).toBeDefined()
  const other = { target: b.path }
  await finished(runRefresh(other, await planRefresh(other, { stage })))
  expect(await readdir(stage)).toEqual([left])
  const done = await finished(runRefresh(input, await planRefresh(input, {})))
  expect(done.overlayReset).toBe(true)
  expect(await readdir(stage)).toEqual([])
})

judged('--keep-old with a stage keeps the copy there, and says where', async () => {
  const stage = await path('kept-stage')
  await mkdir(stage)
  const { path: target } = await fresh()
  const done = await finished(runRefresh({ target }, await planRefresh({ target }, { stage, keepOld: true })))
  const [kept] = await readdir(stage)
  expect(done.findings.find(({ code }) => code === 'STAGE_KEPT')?.message).toContain(kept)
})

judged('a refresh that was cut goes on with the overlay it was begun with, and no other', async () => {
  const stage = await path('overlay-stage')
  await mkdir(stage)
  const { path: target, live } = await fresh()
  const elsewhere = await path('elsewhere.cow')
  await rename(join(live, OVERLAY), elsewhere)
  const stop = new AbortController()
  const input = { target, overlay: elsewhere }
  const run = runRefresh(input, await planRefresh(input, { stage }), { signal: stop.signal })
  await expect(
    (async () => {
      for await (const { phase } of { [Symbol.asyncIterator]: () => run } as AsyncIterable<{ phase: string }>)
        if (phase === 'write') stop.abort()
    })(),
  ).rejects.toThrow()
  const other = { target, overlay: join(live, 'another') }
  await copyFile(elsewhere, join(live, 'another'))
  await failure(
    planRefresh(other, {}).then(plan => finished(runRefresh(other, plan))),
    'REFUSED',
  )
  const done = await finished(runRefresh({ target }, await planRefresh({ target }, {})))
  expect(done.overlayReset).toBe(true)
  expect((await readFile(elsewhere)).subarray(0, 4096).every(byte => byte === 0)).toBe(true)
})

describe('reset empties overlays only', () => {
  test.each([
    ['the base itself', async (live: string) => join(live, 'squashfs.img'), 'REFUSED'],
    [
      'a text file',
      async (live: string) => {
        await writeFile(join(live, 'notes.txt'), 'my notes\n'.repeat(2000))
        return join(live, 'notes.txt')
      },
      'REFUSED',
    ],
  ] as const)('%s is refused', async (_what, make, code) => {
    const { live } = await fresh()
    const overlay = await make(live)
    const before = await readFile(overlay)
    const target = await findTarget({ base: join(live, 'squashfs.img'), overlay })
    await failure(planReset(target), code)
    expect((await readFile(overlay)).equals(before)).toBe(true)
    expect((await stat(overlay)).size).toBe(before.length)
  })

  needTools('mke2fs').it('an overlay that is a filesystem is refused by its name', async () => {
    const { path: target, live } = await fresh()
    await writeFile(join(live, OVERLAY), new Uint8Array(2 << 20))
    const { execFileSync } = await import('node:child_process')
    execFileSync('mke2fs', ['-q', '-F', join(live, OVERLAY)], {
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    })
    expect((await failure(findTarget({ target }).then(planReset), 'UNSUPPORTED')).message).toContain('ext4')
  })
})
