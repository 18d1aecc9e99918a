import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Device } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { isLiveError, LiveError } from '../../../src/error.js'
import { decodeName, encodeName } from '../../../src/fs/name.js'
import { ahead } from '../../../src/liveos/changes/ahead.js'
import { comparePaths } from '../../../src/liveos/changes/change.js'
import { hulls } from '../../../src/liveos/changes/hulls.js'
import { byteRanges } from '../../../src/liveos/changes/ranges.js'
import { readChanges } from '../../../src/liveos/changes/read.js'
import { judgedChanges, lineOf, sha256Of, stackOf, stackOn } from '../../support/changes-oracle.js'
import { collect } from '../../support/collect.js'
import { kernelFixture } from '../../support/kernel-fixtures.js'
import { random } from '../../support/random.js'

const BYTES = 300
const someRanges = fc
  .array(fc.tuple(fc.nat(BYTES - 1), fc.integer({ min: 1, max: 20 })), { maxLength: 12 })
  .map(list => list.map(([start, length]) => ({ start, end: Math.min(BYTES, start + length) })))
  .map(list => list.sort((a, b) => a.start - b.start))

describe('ranges of bytes', () => {
  it('hold what any of their sources holds, joined and in order', () => {
    fc.assert(
      fc.property(fc.array(someRanges, { maxLength: 3 }), fc.nat(BYTES), fc.nat(BYTES), (sources, a, b) => {
        const held = new Set(
          sources.flat().flatMap(({ start, end }) => Array.from({ length: end - start }, (_, n) => start + n)),
        )
        const ranges = byteRanges(...sources)
        expect(ranges.bytes).toBe(held.size)
        const [start, end] = [Math.min(a, b), Math.max(a, b)]
        const within = [...ranges.within(start, end)]
        const told = within.flatMap(range => Array.from({ length: range.end - range.start }, (_, n) => range.start + n))
        expect(told).toEqual([...held].filter(byte => byte >= start && byte < end).sort((x, y) => x - y))
        for (const [n, range] of within.entries()) if (n > 0) expect(range.start).toBeGreaterThan(within[n - 1]!.end)
        expect(ranges.touches(start, end)).toBe(told.length > 0)
      }),
    )
  })

  it('grow past their first arrays', () => {
    const ranges = byteRanges(Array.from({ length: 1000 }, (_, n) => ({ start: n * 10, end: n * 10 + 5 })))
    expect([ranges.count, ranges.bytes]).toEqual([1000, 5000])
    expect([ranges.touches(9994, 9995), ranges.touches(9995, 10_000)]).toEqual([true, false])
  })

  it('near each other are one piece, of at most a MiB', () => {
    const range = (start: number, end: number) => ({ start, end })
    const given = [range(0, 10), range(5, 7), range(32_778, 40_000), range(80_000, 80_001), range(100_000, 3_000_000)]
    expect([...hulls(given, item => item)].map(({ start, end, items }) => [start, end, items.length])).toEqual([
      [0, 40_000, 3],
      [80_000, 80_001, 1],
      [100_000, 3_000_000, 1],
    ])
    expect([...hulls([], item => item)]).toEqual([])
  })
})

it('paths are ordered by their bytes', () => {
  const byte = fc.integer({ min: 1, max: 255 })
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 6 }), fc.array(byte, { maxLength: 6 }), fc.string(), (a, b, prefix) => {
      const before = decodeName(Buffer.concat([Buffer.from(prefix), Buffer.from(a)]))
      const after = decodeName(Buffer.concat([Buffer.from(prefix), Buffer.from(b)]))
      const expected = Buffer.compare(encodeName(before), encodeName(after))
      expect(Math.sign(comparePaths(before, after))).toBe(expected)
    }),
  )
  expect(comparePaths('/\u{1f600}', '/\uffee')).toBeGreaterThan(0)
})

it('work ahead keeps the order, holds its depth, and tells a failure in its turn', async () => {
  let underWay = 0
  let most = 0
  const work = async (n: number): Promise<number> => {
    most = Math.max(most, ++underWay)
    await new Promise(resolve => setTimeout(resolve, (n * 7) % 5))
    underWay--
    if (n === 8) throw new LiveError('IO', 'eight')
    return n
  }
  expect(await collect(ahead([1, 2, 3, 4, 5, 6, 7], 3, work))).toEqual([1, 2, 3, 4, 5, 6, 7])
  expect(most).toBe(3)
  const seen: number[] = []
  await expect(
    (async () => {
      for await (const n of ahead([7, 8, 9], 3, work)) seen.push(n)
    })(),
  ).rejects.toMatchObject({ code: 'IO' })
  expect(seen).toEqual([7])
})

const fixture = kernelFixture('fs-ext4')
const images = async (): Promise<{ origin: Uint8Array; cow: Uint8Array }> => ({
  origin: await fixture.image('origin.img'),
  cow: await fixture.image('cow.img'),
})

describe('changes in an overlay that the kernel wrote', () => {
  it('are those between both whole trees, and lead to the contents that the kernel saw', async () => {
    const { origin, cow } = await images()
    const stack = await stackOn(memory(origin, 'base'), memory(cow, 'overlay'))
    const found = await judgedChanges(stack)
    expect(found.changes.length).toBeGreaterThan(20)
    const before = await sha256Of(stack.base.origin)
    const told = new Map(found.changes.map(change => [change.path, change]))
    const kernel = new Map(Object.entries(fixture.facts.tree as Record<string, string>).map(([k, v]) => [`/${k}`, v]))
    for (const [path, sum] of kernel) {
      const change = told.get(path)
      const was = before.get(path)
      if (was === undefined) expect(change?.change, path).toBe('added')
      else expect(change?.changed.includes('content') ?? false, path).toBe(was !== sum)
    }
    for (const path of before.keys()) expect(told.get(path)?.change === 'deleted', path).toBe(!kernel.has(path))
  })

  it('are none where the overlay is new, or only says again what the base says', async () => {
    const { origin } = await images()
    expect(await judgedChanges(await stackOf(origin, origin))).toMatchObject({ changes: [], touchedBytes: 0 })
    const again = await judgedChanges(await stackOf(origin, origin, 8, 7))
    expect(again.changes).toEqual([])
    expect(again.touchedBytes).toBeGreaterThan(origin.length / 8)
  })

  it('are shown as far as an overlay goes that the kernel gave up', async () => {
    const invalid = kernelFixture('fs-ext4-invalid')
    const origin = await invalid.image('origin.img').catch(() => fixture.image('origin.img'))
    const cow = await invalid.image('cow.img')
    const stack = await stackOn(memory(origin, 'base'), memory(cow, 'overlay'), true)
    const found = await readChanges(stack).catch((error: unknown) => error)
    if (found instanceof LiveError) expect(['CORRUPT', 'UNSUPPORTED']).toContain(found.code)
    else expect((found as { changes: readonly unknown[] }).changes.length).toBeGreaterThan(0)
  })

  it('stop where they are told to', async () => {
    const { origin, cow } = await images()
    const stack = await stackOn(memory(origin, 'base'), memory(cow, 'overlay'))
    const stoppedIn = async (phase: string, path = '/') => {
      const stop = new AbortController()
      const onProgress = (now: string): void => {
        if (now === phase) stop.abort()
      }
      return readChanges(stack, { path, signal: stop.signal, onProgress }).catch((error: LiveError) => error.code)
    }
    expect(await stoppedIn('inodes')).toBe('CANCELLED')
    // so few directories that none of them is told
    await stoppedIn('names')
    // Contents of the whole tree are compared while names are read, those of one path behind them.
    const { changes } = await readChanges(stack)
    const rewritten = changes.filter(({ changed }) => changed.includes('content'))
    expect(rewritten.length).toBeGreaterThan(0)
    for (const { path } of rewritten) expect(await stoppedIn('contents', path), path).toBe('CANCELLED')
  })

  it('only of a path, and renames from there', async () => {
    const { origin, cow } = await images()
    const stack = await stackOn(memory(origin, 'base'), memory(cow, 'overlay'))
    const all = (await readChanges(stack)).changes
    const etc = (await readChanges(stack, { path: '/etc' })).changes
    expect(etc.map(lineOf)).toEqual(all.filter(({ path }) => /^\/etc(\/|$)/.test(path)).map(lineOf))
    expect(etc.length).toBeGreaterThan(0)
  })
})

describe('damage', () => {
  it('flipped bits anywhere: changes, or a LiveError, never a hang', async () => {
    const { origin, cow } = await images()
    const dice = random()
    for (let round = 0; round < 25; round++) {
      const [base, overlay] = [new Uint8Array(origin), new Uint8Array(cow)]
      // Where metadata is: the first MiB of the base, all of the overlay.
      for (let flips = 1 + dice.below(40); flips > 0; flips--) {
        if (dice.below(2) > 0) base[dice.below(1 << 20)]! ^= 1 << dice.below(8)
        else overlay[4096 * 2 + dice.below(2 << 20)]! ^= 1 << dice.below(8)
      }
      try {
        const found = await readChanges(await stackOn(memory(base, 'base'), memory(overlay, 'overlay'), true))
        expect(found.findings.length, `seed ${dice.seed}`).toBeLessThan(1100)
      } catch (error) {
        expect(isLiveError(error), `seed ${dice.seed}, round ${round}: ${error}`).toBe(true)
      }
    }
  })

  it('what can not be read is told, and the rest compared', async () => {
    const { origin, cow } = await images()
    const bad = memory(origin, 'base')
    const whole = (await readChanges(await stackOn(bad, memory(cow, 'overlay')))).changes
    const found = await readChanges(await stackOn(failingAt(bad, 3_000_000, 3_200_000), memory(cow, 'overlay')))
    const lines = new Set(whole.map(lineOf))
    expect(found.changes.filter(change => !lines.has(lineOf(change)))).toEqual([])
    if (found.changes.length < whole.length) expect(found.findings.length).toBeGreaterThan(0)
  })

  it('a root that is no ext4 is refused', async () => {
    const xfs = kernelFixture('fs-xfs')
    const stack = await stackOn(
      memory(await xfs.image('origin.img'), 'base'),
      memory(await xfs.image('cow.img'), 'overlay'),
    )
    await expect(readChanges(stack)).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  })
})

/** A device of which some bytes can't be read. */
const failingAt = (device: Device, start: number, end: number): Device => ({
  ...device,
  read: async (offset, length) => {
    if (offset < end && offset + length > start) throw new LiveError('IO', `bad sector at ${start}`)
    return device.read(offset, length)
  },
})
