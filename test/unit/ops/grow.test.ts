import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isZero } from '../../../src/block/device.js'
import { LiveError } from '../../../src/error.js'
import type { Folder } from '../../../src/host/folder.js'
import { findTarget } from '../../../src/liveos/target.js'
import { planCompact } from '../../../src/ops/compact.js'
import { runDoctor } from '../../../src/ops/doctor.js'
import { type GrowOptions, planGrow, runGrow } from '../../../src/ops/grow.js'
import { planMergeInPlace } from '../../../src/ops/merge-in-place.js'
import { planRecover } from '../../../src/ops/recover.js'
import { planReset } from '../../../src/ops/reset.js'
import { readStatus } from '../../../src/ops/status.js'
import { failure } from '../../support/outcome.js'
import { recordingFolder, type Step } from '../../support/power-cut.js'
import { CHUNK, finished, OVERLAY, sha256, smallStick, viewOf } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary({ memory: true })
let count = 0
const fresh = async () => {
  const stick = await smallStick(await path(`stick${count++}`), { raw: true })
  const live = join(stick.path, 'LiveOS')
  return { ...stick, live, overlay: join(live, OVERLAY), input: { target: stick.path } }
}
const grow = async (input: Parameters<typeof planGrow>[0], options: GrowOptions) =>
  finished(runGrow(input, await planGrow(input, options)))

it('grows by real zeros, the view and all that was there stay', async () => {
  const { overlay, input, merged } = await fresh()
  const before = await readFile(overlay)
  const plan = await planGrow(input, { size: { by: 1 << 20 } })
  expect(plan).toMatchObject({ change: 'grow', oldBytes: before.length, newBytes: before.length + (1 << 20) })
  expect(plan).toMatchObject({ exceptions: 9, usedBytes: 11 * CHUNK, leastBytes: 12 * CHUNK, findings: [] })
  expect(await finished(runGrow(input, plan))).toMatchObject({ change: 'grow', exceptions: 9, newBytes: plan.newBytes })
  const after = await readFile(overlay)
  expect(after.length).toBe(plan.newBytes)
  expect(Buffer.compare(after.subarray(0, before.length), before)).toBe(0)
  expect(isZero(after.subarray(before.length))).toBe(true)
  expect((await stat(overlay)).blocks * 512).toBeGreaterThanOrEqual(plan.newBytes)
  expect(await viewOf(input)).toBe(sha256(merged))
})

it('shrinks down to what it holds and one chunk, and no further', async () => {
  const { overlay, input, merged } = await fresh()
  const message = (await failure(planGrow(input, { size: 11 * CHUNK }), 'REFUSED')).message
  expect(message).toContain(String(12 * CHUNK))
  const done = await grow(input, { size: 12 * CHUNK })
  expect(done).toMatchObject({ change: 'shrink', newBytes: 12 * CHUNK, exceptions: 9 })
  expect(done.findings).toMatchObject([])
  expect((await stat(overlay)).size).toBe(12 * CHUNK)
  expect(await viewOf(input)).toBe(sha256(merged))
  expect(await grow(input, { size: 12 * CHUNK })).toMatchObject({ change: 'none' })
})

it('an overlay that is a file itself, without its base', async () => {
  const { overlay, merged, input } = await fresh()
  expect(await grow({ target: overlay }, { size: 100 * CHUNK })).toMatchObject({ newBytes: 100 * CHUNK })
  expect(await viewOf(input)).toBe(sha256(merged))
  const base = join(input.target, 'LiveOS/rootfs.img')
  await failure(planGrow({ target: base }, { size: 100 * CHUNK }), 'USAGE')
  expect(await grow({ base, overlay }, { size: 200 * CHUNK })).toMatchObject({ newBytes: 200 * CHUNK })
})

describe('an overlay that is too small to be one', () => {
  it.each([0, 5000])('%i bytes of zeros are a new one of no size: grow gives it one', async size => {
    const { overlay, input, root } = await fresh()
    await writeFile(overlay, new Uint8Array(size))
    const words = new RegExp(`liveos grow ${input.target} --size 512M' makes a new overlay`)
    expect((await readStatus(input)).findings.find(({ code }) => code === 'OVERLAY_DAMAGED')?.remedy).toMatch(words)
    const doctor = await finished(runDoctor(input, { fsck: false }))
    expect(doctor.findings.find(({ code }) => code === 'OVERLAY_TOO_SMALL')?.remedy).toMatch(words)
    const target = await findTarget(input)
    expect((await failure(planRecover(target, { fsck: false }), 'REFUSED')).message).toMatch(words)
    expect((await failure(planReset(target), 'REFUSED')).message).toMatch(words)
    expect((await failure(planCompact(input), 'CORRUPT')).message).toMatch(words)
    expect((await failure(planMergeInPlace('merge', input), 'CORRUPT')).message).toMatch(words)
    await failure(planGrow(input, { size: 2 * CHUNK }), 'REFUSED')
    const done = await grow(input, { size: 100 * CHUNK })
    expect(done).toMatchObject({ change: 'grow', oldBytes: size, newBytes: 100 * CHUNK, exceptions: 0 })
    expect(isZero(await readFile(overlay))).toBe(true)
    const { allocated } = (await findTarget(input)).overlay!.facts
    expect(allocated).toBeGreaterThanOrEqual(100 * CHUNK)
    expect((await readStatus(input)).overlay.state).toBe('new')
    expect(await viewOf(input)).toBe(sha256(root))
  })

  it('named alone too', async () => {
    const { overlay } = await fresh()
    await writeFile(overlay, '')
    expect(await grow({ target: overlay }, { size: { by: 64 * CHUNK } })).toMatchObject({ newBytes: 64 * CHUNK })
  })

  it('one that holds something: nothing of that can be had, and it is emptied by its owner', async () => {
    const { overlay, input } = await fresh()
    await writeFile(overlay, (await readFile(overlay)).subarray(0, 6000))
    const words = new RegExp(`truncate --size 0 ${overlay}' empties it, and then 'liveos grow`)
    expect((await failure(planGrow(input, { size: 100 * CHUNK }), 'CORRUPT')).message).toMatch(words)
    expect((await failure(planRecover(await findTarget(input), { fsck: false }), 'REFUSED')).message).toMatch(words)
  })
})

it('an overlay at a size where the kernel would invalidate it leaves that size', async () => {
  const { overlay, input } = await fresh()
  await truncate(overlay, 258 * CHUNK)
  expect(await grow(input, { size: 258 * CHUNK })).toMatchObject({
    newBytes: 259 * CHUNK,
    findings: [{ code: 'SIZE_ROUNDED', severity: 'note' }, { code: 'OVERLAY_OVERCOMMITTED' }],
  })
})

it('holes are told, and filled where that is asked for', async () => {
  const { overlay, input, merged } = await fresh()
  const old = (await stat(overlay)).size
  await truncate(overlay, 600 * CHUNK)
  const before = await readFile(overlay)
  const plan = await planGrow(input, { size: 600 * CHUNK })
  expect(plan.findings).toMatchObject([{ code: 'OVERLAY_OVERCOMMITTED' }])
  const done = await grow(input, { fill: true })
  expect(done).toMatchObject({ change: 'none', newBytes: 600 * CHUNK })
  expect(done.filledBytes).toBeGreaterThanOrEqual(600 * CHUNK - old)
  expect((await stat(overlay)).blocks * 512).toBeGreaterThanOrEqual(600 * CHUNK)
  expect(Buffer.compare(await readFile(overlay), before)).toBe(0)
  expect(await viewOf(input)).toBe(sha256(merged))
  expect((await planGrow(input, { fill: true })).fillBytes).toBe(0)
})

describe('refused', () => {
  it('nothing asked for', async () => {
    await failure(planGrow((await fresh()).input, {}), 'USAGE')
  })

  it('without an overlay', async () => {
    const { input } = await fresh()
    await failure(planGrow({ ...input, baseOnly: true }, { size: 1 << 20 }), 'NOT_FOUND')
  })

  it('marked invalid, or cut off: recover is named', async () => {
    const { overlay, input } = await fresh()
    const file = await open(overlay, 'r+')
    await file.write(Buffer.alloc(4), 0, 4, 4)
    await file.close()
    expect((await failure(planGrow(input, { size: 1 << 20 }), 'REFUSED')).message).toContain('liveos recover')
    const content = new Uint8Array(CHUNK)
    const changes = Array.from({ length: 256 }, (_, oldChunk) => ({ oldChunk, content }))
    await writeFile(overlay, storeOf(changes, 8).subarray(0, 258 * CHUNK))
    expect((await failure(planGrow(input, { size: 2 << 20 }), 'REFUSED')).message).toContain('cut off')
  })

  it('an overlay that is a filesystem', async () => {
    const { overlay, input } = await fresh()
    const bytes = new Uint8Array(65536)
    bytes.set([0x53, 0xef], 1024 + 56)
    await writeFile(overlay, bytes)
    expect((await failure(planGrow(input, { size: 1 << 20 }), 'UNSUPPORTED')).message).toMatch(/in it with resize2fs$/)
    bytes.fill(0)
    bytes.set(Buffer.from('XFSB'))
    await writeFile(overlay, bytes)
    expect((await failure(planGrow(input, { size: 1 << 20 }), 'UNSUPPORTED')).message).toMatch(/the tools of xfs$/)
  })

  it('beside a reset that was cut short', async () => {
    const { overlay, input } = await fresh()
    const plan = await planGrow(input, { size: 1 << 20 })
    await writeFile(`${overlay}.reset`, 'x')
    await failure(planGrow(input, { size: 1 << 20 }), 'REFUSED')
    await failure(finished(runGrow(input, plan)), 'REFUSED')
  })

  it('beside a refresh that was cut short', async () => {
    const { live, input } = await fresh()
    await writeFile(join(live, 'rootfs.img.refresh'), 'x')
    await failure(planGrow(input, { size: 1 << 20 }), 'REFUSED')
  })

  it('changed since it was planned', async () => {
    const { overlay, input } = await fresh()
    const plan = await planGrow(input, { size: 1 << 20 })
    await truncate(overlay, 700 * CHUNK)
    await failure(finished(runGrow(input, plan)), 'REFUSED')
  })

  it('more than there is room for', async () => {
    const { input } = await fresh()
    const { message } = await failure(planGrow(input, { size: 2 ** 50 }), 'NO_SPACE')
    expect(message).toContain('liveos compact')
  })
})

it.each([
  ['NO_SPACE', 'no space left'],
  ['IO', 'input/output error'],
] as const)('%s at any step: the old size stays or comes back', async (code, message) => {
  for (const options of [{ size: 3 << 20 }, { size: 12 * CHUNK }])
    for (let stop = 0; ; stop++) {
      const { overlay, input, merged } = await fresh()
      const before = (await stat(overlay)).size
      const log: Step[] = []
      let fired = false
      const wrapFolder = (folder: Folder) =>
        recordingFolder(folder, 0, 'posix', log, {}, step => {
          if (fired || log.length < stop || step.kind === 'sync') return
          fired = true
          throw new LiveError(code, message)
        })
      const result = await finished(runGrow(input, await planGrow(input, options), { wrapFolder })).catch(
        (error: unknown) => error,
      )
      expect(await viewOf(input)).toBe(sha256(merged))
      if (!fired) break
      expect(result).toMatchObject({ code })
      const { size } = await stat(overlay)
      if ('by' in options || options.size > before) expect(size).toBe(before)
      else expect([before, options.size]).toContain(size)
      await grow(input, options)
      expect((await stat(overlay)).size).toBe(options.size)
    }
})

it('stops when it is asked to, and the old size comes back', async () => {
  const { overlay, input } = await fresh()
  const before = (await stat(overlay)).size
  const plan = await planGrow(input, { size: 8 << 20 })
  await failure(finished(runGrow(input, plan, { signal: AbortSignal.abort() })), 'CANCELLED')
  expect((await stat(overlay)).size).toBe(before)
})
