import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isZero } from '../../src/block/device.js'
import type { Folder } from '../../src/host/folder.js'
import { type GrowOptions, planGrow, runGrow } from '../../src/ops/grow.js'
import {
  contentOf,
  type Faults,
  KINDS,
  type Kind,
  layOut,
  powerCuts,
  recordingFolder,
  type Step,
} from '../support/power-cut.js'
import { random } from '../support/random.js'
import { CHUNK, finished, OVERLAY, sha256, smallStick, viewOf } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
const { seed } = random()
let count = 0

const GROWN = 700 * CHUNK
const SHRUNK = 12 * CHUNK

/** Runs grow on what lies there now and gives its steps. */
const grow = async (target: string, options: GrowOptions, kind: Kind, faults: Faults = {}): Promise<Step[]> => {
  const log: Step[] = []
  const wrapFolder = (folder: Folder) => recordingFolder(folder, 0, kind, log, faults)
  await finished(runGrow({ target }, await planGrow({ target }, options), { wrapFolder }))
  return log
}

/** Cuts a change of size at each step, and gives what is wrong with the media; the log may be changed before. */
const judge = async (
  kind: Kind,
  options: GrowOptions,
  { faults = {}, change = log => log }: { faults?: Faults; change?: (log: Step[]) => Step[] } = {},
): Promise<{ wrong: string[]; states: number }> => {
  const dir = await path(`stick${count++}`)
  const stick = await smallStick(dir, { raw: true })
  const live = join(dir, 'LiveOS')
  const overlay = join(live, OVERLAY)
  const initial = [await contentOf(live)]
  const oldSize = initial[0]!.get(OVERLAY)!.length
  const log = change(await grow(dir, options, kind, faults))
  const newSize = options.size === undefined ? oldSize : Number(options.size)
  const wrong: string[] = []
  let states = 0
  const check = async (what: string, done: boolean): Promise<void> => {
    const bytes = await readFile(overlay)
    const view = await viewOf({ target: dir }).catch(String)
    if (view !== sha256(stick.merged)) wrong.push(`${what}: another view: ${view}`)
    if (done && bytes.length !== newSize) wrong.push(`${what}: ${bytes.length} bytes`)
  }
  for (const medium of powerCuts(initial, log, kind, seed)) {
    states++
    await layOut(live, medium.folders[0]!)
    const said = medium.cut === log.length
    await check(`cut after ${medium.cut} steps`, said)
    if (said && !isZero((await readFile(overlay)).subarray(oldSize))) wrong.push('it said done, and no zeros are there')
    const { length } = await readFile(overlay)
    if (length < Math.min(oldSize, newSize) || length > Math.max(oldSize, newSize)) wrong.push(`a size of ${length}`)
    await grow(dir, options, kind).catch((error: unknown) => wrong.push(`second run: ${String(error)}`))
    await check(`second run after ${medium.cut} steps`, true)
    if (wrong.length > 2) break
  }
  return { wrong, states }
}

describe.each(KINDS)('%s: a power cut at any step leaves the same view, and a second run finishes', kind => {
  it.each([
    ['growing', { size: GROWN }, 8],
    ['shrinking', { size: SHRUNK }, 2],
  ] as const)('%s', async (name, options, least) => {
    const { wrong, states } = await judge(kind, options)
    console.log(`${name}, ${kind}: ${states} states, seed ${seed}`)
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThanOrEqual(least)
  })
})

describe.each(KINDS)('%s: an overlay of no bytes', kind => {
  it('is a new one at any cut once its first zeros were flushed, and a second run finishes', async () => {
    const dir = await path(`stick${count++}`)
    await smallStick(dir, { raw: true })
    const live = join(dir, 'LiveOS')
    const overlay = join(live, OVERLAY)
    await writeFile(overlay, '')
    const initial = [await contentOf(live)]
    const log = await grow(dir, { size: GROWN }, kind)
    const flushed = log.findIndex(step => step.kind === 'flush') + 1
    expect(log[flushed - 2]).toMatchObject({ kind: 'write', offset: 0 })
    let states = 0
    for (const medium of powerCuts(initial, log, kind, seed)) {
      states++
      await layOut(live, medium.folders[0]!)
      const bytes = await readFile(overlay)
      expect(bytes.length).toBeLessThanOrEqual(medium.cut < flushed ? 2 * CHUNK : GROWN)
      if (medium.cut < flushed && !isZero(bytes)) continue
      expect(isZero(bytes.subarray(0, 2 * CHUNK)), `cut after ${medium.cut} steps`).toBe(true)
      await grow(dir, { size: GROWN }, kind)
      expect((await readFile(overlay)).length).toBe(GROWN)
    }
    console.log(`from nothing, ${kind}: ${states} states, seed ${seed}`)
    expect(states).toBeGreaterThan(5)
  })
})

describe('the test can fail', () => {
  it('grown without a flush, it said done too early', async () => {
    expect((await judge('posix', { size: GROWN }, { faults: { noFlush: true } })).wrong.length).toBeGreaterThan(0)
  })

  it('cut off one chunk below what it holds', async () => {
    const change = (log: Step[]) => log.map(step => (step.kind === 'truncate' ? { ...step, size: 10 * CHUNK } : step))
    expect((await judge('posix', { size: SHRUNK }, { change })).wrong.length).toBeGreaterThan(0)
  })
})
