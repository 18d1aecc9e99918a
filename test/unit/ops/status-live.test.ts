import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkUsable, isLive, planGrowLive } from '../../../src/ops/grow-live.js'
import { readStatus } from '../../../src/ops/status.js'
import { type LiveOverlay, type LiveSource, roomOf, takenBelow } from '../../../src/ops/status-live.js'
import { agreement, liveFindings, lookTwice } from '../../../src/ops/status-live-check.js'
import { failure } from '../../support/outcome.js'
import { OVERLAY, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const count = (allocatedSectors: number, metadataSectors = 16, totalSectors = 4096) => ({
  allocatedSectors,
  metadataSectors,
  totalSectors,
})
const live = (numbers: Partial<LiveOverlay> = count(100)): LiveOverlay => ({
  kind: 'dm-snapshot',
  name: 'live-rw',
  loop: '/dev/loop1',
  store: '/stick/LiveOS/overlay',
  keptIn: 'overlay of the stick',
  state: 'ok',
  allocatedSectors: null,
  totalSectors: null,
  metadataSectors: null,
  room: null,
  dmsetup: '0 8 snapshot',
  ...numbers,
})
const file = (numbers = count(100)) => ({ state: 'ok' as const, ...numbers })

describe('file and kernel', () => {
  it.each<[string, LiveOverlay, ReturnType<typeof count>, LiveOverlay, string]>([
    ['the same', live(), count(100), live(), 'same'],
    ['read in the middle of a write', live(), count(104), live(count(108)), 'same'],
    ['read before it is written', live(count(108)), count(100), live(count(108)), 'kernel ahead'],
    ['its list is behind', live(count(100, 24)), count(100, 16), live(count(100, 24)), 'kernel ahead'],
    ['changed beneath the kernel', live(), count(108), live(), 'file ahead'],
    ['enlarged and not told', live(), count(100, 16, 8192), live(), 'other size'],
    ['overflowed', live({ state: 'overflow' }), count(100), live({ state: 'overflow' }), 'not comparable'],
  ])('%s', (_what, before, numbers, after, expected) => expect(agreement(before, file(numbers), after)).toBe(expected))

  const overlay = (numbers: ReturnType<typeof count>) => ({ ...file(numbers), percent: 2 }) as never
  const source = (counts: readonly number[]): LiveSource => {
    let asked = 0
    return { ask: async () => live(count(counts[Math.min(asked++, counts.length - 1)]!)) }
  }
  it('looks again while they differ, and takes the last word', async () => {
    let reads = 0
    const looked = await lookTwice(source([108]), async findings => {
      findings.push({ code: 'X', severity: 'note', where: '', message: '' })
      return overlay(count(++reads < 3 ? 100 : 108))
    })
    expect([looked.agrees, reads, looked.findings.length]).toEqual(['same', 3, 1])
  })
  it('a disagreement that stays is told', async () => {
    const looked = await lookTwice(source([108]), async () => overlay(count(100)))
    expect(looked.agrees).toBe('kernel ahead')
    expect(liveFindings(looked, 'stick', {})).toMatchObject([{ code: 'OVERLAY_DISAGREES', severity: 'warning' }])
  })
})

describe('findings', () => {
  const told = (about: Partial<LiveOverlay>, overlay: object = { state: 'ok', percent: 50 }, agrees = 'same') =>
    liveFindings({ overlay: overlay as never, live: live(about), agrees: agrees as never }, 'stick', {}).map(
      ({ code, severity }) => `${severity} ${code}`,
    )
  const memory = { keptIn: 'memory' as const, room: roomOf(85, 15, 'memory') }
  it.each<[string, string[], string[]]>([
    ['nothing', told({}), []],
    ['overflow', told({ state: 'overflow' }), ['error OVERLAY_OVERFLOWED']],
    ['given up', told({ state: 'invalid' }), ['error OVERLAY_GIVEN_UP']],
    ['merge', told({ state: 'merge failed' }), ['error OVERLAY_MERGE_FAILED']],
    ['not asked', told({ state: 'unknown' }), ['note OVERLAY_IN_USE']],
    ['in memory', told(memory, { state: 'none' }), ['note OVERLAY_IN_MEMORY', 'warning OVERLAY_FILLING']],
    [
      'in memory, full',
      told({ ...memory, room: roomOf(99, 1, 'memory') }),
      ['note OVERLAY_IN_MEMORY', 'error OVERLAY_CRITICAL'],
    ],
    ['elsewhere', told({ keptIn: 'another place' }), ['note OVERLAY_ELSEWHERE']],
    [
      'longer',
      told(count(100), { state: 'ok', totalSectors: 8192, size: 8192 * 512 }, 'other size'),
      ['warning OVERLAY_SIZE_UNTOLD'],
    ],
    ['cut', told(count(100), { state: 'ok', totalSectors: 8, size: 4096 }, 'other size'), ['error OVERLAY_CUT']],
    ['its own is told from its file', told({ room: roomOf(99, 1, 'store') }), []],
  ])('%s', (_what, found, expected) => expect(found).toEqual(expected))
})

it('a stick that nothing runs from: no word of the kernel, and grow is not live', async () => {
  const { path: stick } = await smallStick(await path('stick'), { raw: true })
  const status = await readStatus({ target: stick })
  expect(status.live).toBeNull()
  expect(status.overlay).toMatchObject({ kind: 'dm-snapshot', state: 'ok' })
  expect(await isLive({ target: stick })).toBe(false)
  expect(await isLive({ target: join(stick, 'LiveOS', OVERLAY) })).toBe(false)
  await failure(planGrowLive({ target: 'live' }, { size: { by: 1 } }), 'USAGE')
  await failure(planGrowLive({ target: stick }, { size: { by: 1 } }), 'REFUSED')
  await failure(planGrowLive({ target: stick }, { fill: true }), 'USAGE')
  await failure(planGrowLive({ target: stick }, {}), 'USAGE')
})

it.each(['overflow', 'invalid', 'merge failed', 'unknown'] as const)('more room is of no use: %s', state => {
  expect(() => checkUsable(live({ state }))).toThrow()
})

it('an OverlayFS directory: what it takes, and what its filesystem has left', async () => {
  const dir = await path('overlayfs')
  const { path: stick } = await smallStick(dir, { raw: true })
  await failure(readStatus({ target: stick, overlay: join(stick, 'nothing') }), 'NOT_FOUND')
  const upper = join(stick, 'LiveOS', 'overlay-DIR-0002')
  await mkdir(join(upper, 'etc'), { recursive: true })
  await writeFile(join(upper, 'etc', 'big'), new Uint8Array(1 << 20))
  const taken = (await takenBelow(upper))!
  expect(taken).toBeGreaterThanOrEqual(1 << 20)
  expect(taken).toBeLessThan((1 << 20) + 65_536)
  expect(await takenBelow(join(stick, 'nothing'))).toBeNull()
  await rm(join(stick, 'LiveOS', OVERLAY))
  const { overlay, findings } = await readStatus({ target: stick, warnAt: 101, criticalAt: 101 })
  expect(overlay).toMatchObject({ kind: 'OverlayFS directory', size: taken, left: { limitedBy: 'stick' } })
  expect(overlay.percent).toBeGreaterThan(0)
  expect(findings.map(({ code }) => code)).toEqual(['OVERLAY_UNSUPPORTED'])
  const warned = await readStatus({ target: stick, warnAt: 0, criticalAt: 101 })
  expect([warned.level, warned.findings[1]?.code]).toEqual(['warning', 'OVERLAY_FILLING'])
})
