import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { isZero } from '../../src/block/device.js'
import type { DmState } from '../../src/host/dmsetup.js'
import type { Folder } from '../../src/host/folder.js'
import { type GrowLivePlan, runGrowLive } from '../../src/ops/grow-live.js'
import { failure } from '../support/outcome.js'
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

const SECTOR = 512
const LOOP = '/dev/loop9'
const NUMBER = '7:9'

/** The kernel as far as growing asks it: a loop device that shows as much of its file as it was last told. */
const kernel = vi.hoisted(() => ({
  state: 'ok' as string,
  shownBytes: 0,
  /** how often a state was asked for, and what it becomes from some time on */
  asked: 0,
  later: undefined as { readonly after: number; readonly state: string } | undefined,
  tell: async (): Promise<void> => undefined,
}))

vi.mock('../../src/host/dmsetup.js', async original => ({
  ...(await original<typeof import('../../src/host/dmsetup.js')>()),
  numberOf: async () => NUMBER,
  readSnapshotStatus: async () => {
    kernel.asked++
    if (kernel.later && kernel.asked > kernel.later.after) kernel.state = kernel.later.state
    const totalSectors = Math.floor(kernel.shownBytes / SECTOR)
    const usage = { allocatedSectors: 96, totalSectors, metadataSectors: 16 }
    return kernel.state === 'ok'
      ? { state: 'ok', usage, line: `0 400 snapshot 96/${totalSectors} 16` }
      : { state: kernel.state as DmState, usage: undefined, line: `0 400 snapshot ${kernel.state}` }
  },
  loopAt: async () => ({
    name: LOOP,
    backingFile: '',
    offset: 0,
    sizeLimit: 0,
    size: kernel.shownBytes,
    readOnly: false,
  }),
  refreshLoopSize: () => kernel.tell(),
}))

const path = temporary()
const { seed } = random()
const GROWN = 700 * CHUNK
let count = 0

afterEach(() => Object.assign(kernel, { state: 'ok', asked: 0, later: undefined, tell: async () => undefined }))

/** The plan for an overlay as it lies there. */
const planFor = async (overlay: string): Promise<GrowLivePlan> => {
  const { size, dev, ino } = await stat(overlay)
  kernel.shownBytes = size
  return {
    verb: 'grow',
    live: true,
    target: overlay,
    overlay: { path: overlay, size, device: dev, inode: ino },
    snapshot: 'live-rw',
    loop: LOOP,
    change: GROWN > size ? 'grow' : 'none',
    oldBytes: size,
    newBytes: GROWN,
    kernelBytes: size,
    chunkSize: CHUNK,
    usedBytes: 96 * SECTOR,
    space: { neededBytes: GROWN - size, freeBytes: GROWN, fileLimit: null },
    estimatedSeconds: 1,
    steps: [],
    findings: [],
  }
}

interface Run {
  readonly log: Step[]
  /** steps that were taken before the kernel was told of the new size; undefined where it never was */
  readonly toldAfter: number | undefined
}

/** Grows what lies there now. */
const grow = async (
  overlay: string,
  kind: Kind,
  { faults = {}, signal, before }: { faults?: Faults; signal?: AbortSignal; before?: (step: Step) => void } = {},
): Promise<Run> => {
  const log: Step[] = []
  let toldAfter: number | undefined
  kernel.tell = async () => {
    toldAfter = log.length
    kernel.shownBytes = (await stat(overlay)).size
  }
  const plan = await planFor(overlay)
  const wrapFolder = (folder: Folder) => recordingFolder(folder, 0, kind, log, faults, before)
  await finished(runGrowLive(plan, { wrapFolder, ...(signal && { signal }) }))
  return { log, toldAfter }
}

const stickOf = async () => {
  const dir = await path(`stick${count++}`)
  const stick = await smallStick(dir, { raw: true })
  const live = join(dir, 'LiveOS')
  return { dir, live, overlay: join(live, OVERLAY), view: sha256(stick.merged) }
}

/** Cuts the power at each step, and gives what is wrong with the media. */
const judge = async (kind: Kind, faults: Faults = {}): Promise<{ wrong: string[]; states: number }> => {
  const { dir, live, overlay, view } = await stickOf()
  const initial = [await contentOf(live)]
  const oldSize = initial[0]!.get(OVERLAY)!.length
  const { log, toldAfter } = await grow(overlay, kind, { faults })
  const wrong: string[] = []
  const check = async (what: string): Promise<Uint8Array> => {
    const found = await viewOf({ target: dir }).catch(String)
    if (found !== view) wrong.push(`${what}: another view: ${found}`)
    return readFile(overlay)
  }
  let states = 0
  for (const medium of powerCuts(initial, log, kind, seed)) {
    states++
    await layOut(live, medium.folders[0]!)
    const bytes = await check(`cut after ${medium.cut} steps`)
    if (bytes.length < oldSize || bytes.length > GROWN) wrong.push(`a size of ${bytes.length}`)
    // the kernel writes behind the old end only once it knows of it, and then all must be there
    if (medium.cut >= (toldAfter ?? 0) && !(bytes.length === GROWN && isZero(bytes.subarray(oldSize))))
      wrong.push(`the kernel was told of zeros that are not there (${bytes.length} bytes)`)
    await grow(overlay, kind).catch((error: unknown) => wrong.push(`second run: ${String(error)}`))
    const { length } = await check(`second run after ${medium.cut} steps`)
    if (length !== GROWN) wrong.push(`second run: ${length} bytes`)
    if (wrong.length > 2) break
  }
  return { wrong, states }
}

describe.each(KINDS)('%s: an overlay in use that is enlarged', kind => {
  it('shows the same after a power cut at any step, and a second run finishes', async () => {
    const { wrong, states } = await judge(kind)
    console.log(`growing an overlay in use, ${kind}: ${states} states, seed ${seed}`)
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThanOrEqual(8)
  })

  it('has its old size again where it is stopped, and the kernel hears of nothing', async () => {
    const { overlay, dir, view } = await stickOf()
    const { size } = await stat(overlay)
    const stop = new AbortController()
    let writes = 0
    const before = (step: Step): void => {
      if (step.kind === 'write' && ++writes === 2) stop.abort()
    }
    await failure(grow(overlay, kind, { signal: stop.signal, before }), 'CANCELLED')
    expect((await stat(overlay)).size).toBe(size)
    expect(kernel.shownBytes).toBe(size)
    expect(await viewOf({ target: dir })).toBe(view)
  })

  it('keeps its room for the next start where it overflows meanwhile, and says so', async () => {
    const { overlay, dir, view } = await stickOf()
    const { size } = await stat(overlay)
    kernel.later = { after: 1, state: 'overflow' }
    expect((await failure(grow(overlay, kind), 'REFUSED')).message).toContain('has overflowed')
    expect((await stat(overlay)).size).toBe(GROWN)
    expect(kernel.shownBytes).toBe(size)
    expect(await viewOf({ target: dir })).toBe(view)
  })
})

it('is refused where another file has its name, and where the kernel shows another size', async () => {
  const { overlay } = await stickOf()
  const plan = await planFor(overlay)
  const other = { ...plan, overlay: { ...plan.overlay, inode: plan.overlay.inode + 1 } }
  expect((await failure(finished(runGrowLive(other)), 'REFUSED')).message).toContain('has changed since')
  // losetup said that it went well
  expect((await failure(finished(runGrowLive(plan)), 'IO')).message).toContain(`losetup -c ${LOOP}`)
})

it.each(KINDS)('the test can fail: %s, told before the zeros are on the medium', async kind => {
  expect((await judge(kind, { noFlush: true })).wrong.length).toBeGreaterThan(0)
})
