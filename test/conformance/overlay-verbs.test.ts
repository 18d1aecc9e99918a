import { execFile } from 'node:child_process'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { unpackSample } from '../../scripts/sample.mjs'
import { liveos } from '../support/cli.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const run = promisify(execFile)
let count = 0
const stick = async (): Promise<string> => unpackSample(await path(`stick${count++}`))
const OVERLAY = 'LiveOS/overlay-LIVE-1A2B-3C4D'
const MIB = 1 << 20

it('grow: the sample stick gets more room and less again; words, JSON, exit codes', async () => {
  const dir = await stick()
  const overlay = join(dir, OVERLAY)
  const before = (await stat(overlay)).size
  const asked = await liveos(['grow', dir, '--size', '+16M'])
  expect(asked).toMatchObject({ code: 4, stdout: '' })
  expect(asked.stderr).toContain('--yes')
  const plan = JSON.parse((await liveos(['grow', dir, '--size', '+16M', '--dry-run', '--json'])).stdout)
  expect(plan).toMatchObject({ verb: 'grow', change: 'grow', oldBytes: before, newBytes: before + 16 * MIB })
  expect((await stat(overlay)).size).toBe(before)
  const done = await liveos(['grow', dir, '--size', '+16M', '--yes', '--json'])
  expect(done.code).toBe(0)
  expect(JSON.parse(done.stdout)).toMatchObject({ verb: 'grow', newBytes: before + 16 * MIB })
  expect((await stat(overlay)).size).toBe(before + 16 * MIB)
  const status = JSON.parse((await liveos(['status', dir, '--json'])).stdout)
  expect(status.overlay.totalSectors).toBe((before + 16 * MIB) / 512)
  expect((await liveos(['grow', dir, '--size', '1M', '--yes'])).code).toBe(4)
  expect((await liveos(['grow', dir, '--size', 'large'])).code).toBe(2)
  expect((await liveos(['grow', dir])).code).toBe(2)
  const again = await liveos(['grow', dir, '--size', String(before), '--yes'])
  expect(again).toMatchObject({ code: 0 })
  expect(again.stdout).toContain('read back')
  expect((await stat(overlay)).size).toBe(before)
})

const { it: judged } = needTools('e2fsck')
judged(
  'compact: the sample stick has nothing to give back; written anew for another size its root is as it was',
  async () => {
    const dir = await stick()
    const image = await path('merged.img')
    const other = await path('before.img')
    expect((await liveos(['merge', dir, '--output', other])).code).toBe(0)
    // it is full of what is really used
    const dry = await liveos(['compact', dir, '--dry-run', '--json'])
    expect(dry.code).toBe(0)
    const plan = JSON.parse(dry.stdout)
    expect(plan).toMatchObject({ verb: 'compact', method: 'beside the old overlay', resume: null, worthwhile: false })
    expect(plan.chunks).toMatchObject({ before: 3343, free: 0, equal: 0, kept: 3343 })
    expect(JSON.parse((await liveos(['compact', dir, '--yes', '--json'])).stdout)).toMatchObject({ changed: false })
    expect((await liveos(['compact', dir, '--size', '+4M'])).code).toBe(4)
    const words = await liveos(['compact', dir, '--size', '+4M', '--yes'])
    expect(words).toMatchObject({ code: 0 })
    expect(words.stdout).toContain('Compacted.')
    const status = JSON.parse((await liveos(['status', dir, '--json'])).stdout)
    expect(status.overlay).toMatchObject({ state: 'ok', allocatedSectors: plan.usedBytes.after / 512 })
    expect((await liveos(['merge', dir, '--output', image])).code).toBe(0)
    expect(Buffer.compare(await readFile(image), await readFile(other))).toBe(0)
    await run('e2fsck', ['-fn', image])
    await writeFile(join(dir, 'LiveOS/compact-overlay-X.state'), 'x')
    expect((await liveos(['grow', dir, '--size', '+1M', '--yes'])).code).toBe(4)
  },
)
