import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { isLiveError } from '../../src/error.js'
import type { Folder } from '../../src/host/folder.js'
import { planRefresh, type RefreshOptions } from '../../src/ops/refresh.js'
import { runRefresh } from '../../src/ops/refresh-run.js'
import {
  contentOf,
  type Faults,
  type Kind,
  layOut,
  type Medium,
  powerCuts,
  recordingFolder,
  type Step,
} from '../support/power-cut.js'
import { finished, OVERLAY, type SmallStick, sha256, smallStick, viewOf } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()

interface Method {
  readonly name: string
  readonly kind: Kind
  readonly raw: boolean
  readonly staged: boolean
}

const METHODS: readonly Method[] = [
  { name: 'beside, posix', kind: 'posix', raw: false, staged: false },
  { name: 'beside, FAT', kind: 'fat', raw: false, staged: false },
  { name: 'staged, posix', kind: 'posix', raw: false, staged: true },
  { name: 'staged, FAT', kind: 'fat', raw: false, staged: true },
  { name: 'raw base, posix', kind: 'posix', raw: true, staged: false },
  { name: 'raw base, FAT', kind: 'fat', raw: true, staged: false },
]

interface Recorded {
  readonly method: Method
  readonly stick: SmallStick
  readonly stage: string
  readonly live: string
  readonly media: readonly Medium[]
  readonly steps: number
}

/** One whole refresh, recorded, and every medium that a cut in it could leave. */
const record = async (
  method: Method,
  faults: Faults = {},
  reorder: (log: Step[]) => Step[] = log => log,
): Promise<Recorded> => {
  const dir = await path(`${method.name.replace(/\W+/g, '-')}-${Math.random().toString(36).slice(2)}`)
  const stick = await smallStick(join(dir, 'stick'), { raw: method.raw })
  const live = join(stick.path, 'LiveOS')
  const stage = join(dir, 'stage')
  await mkdir(stage)
  const initial = [await contentOf(live), await contentOf(stage)]
  const log: Step[] = []
  const wrapFolder = (folder: Folder) => recordingFolder(folder, folder.path === live ? 0 : 1, method.kind, log, faults)
  const options: RefreshOptions = method.staged ? { stage } : {}
  const plan = await planRefresh({ target: stick.path }, options)
  await finished(runRefresh({ target: stick.path }, plan, { wrapFolder }))
  expect(await viewOf({ target: stick.path })).toBe(sha256(stick.merged))
  const steps = reorder(log)
  return { method, stick, stage, live, media: [...powerCuts(initial, steps, method.kind)], steps: steps.length }
}

const place = async ({ live, stage }: Recorded, medium: Medium): Promise<void> => {
  await layOut(live, medium.folders[0]!)
  await layOut(stage, medium.folders[1]!)
}

/** What is wrong with a medium right after the cut; undefined where base and overlay show the merged root. */
const look = async ({ stick, method }: Recorded): Promise<string | undefined> => {
  try {
    return (await viewOf({ target: stick.path })) === sha256(stick.merged) ? undefined : 'another view'
  } catch (error) {
    if (!isLiveError(error) || !error.data.interrupted || (method.kind === 'posix' && !method.staged))
      return String(error)
    return undefined
  }
}

const second = async ({ stick, live, method }: Recorded, options: RefreshOptions = {}): Promise<void> => {
  const wrapFolder = (folder: Folder) => recordingFolder(folder, folder.path === live ? 0 : 1, method.kind, [])
  const plan = await planRefresh({ target: stick.path }, options)
  await finished(runRefresh({ target: stick.path }, plan, { wrapFolder }))
}

/** Lets a second run finish. Where nothing was left to do, the overlay was empty already. Gives what is wrong. */
const finish = async (recorded: Recorded, medium: Medium): Promise<string | undefined> => {
  const { stick, live, stage, method } = recorded
  const base = method.raw ? 'rootfs.img' : 'squashfs.img'
  for (let tries = 0; ; tries++) {
    try {
      await second(recorded)
      break
    } catch (error) {
      if (isLiveError(error) && error.code === 'USAGE' && error.message.includes('nothing to merge')) break
      const shared = medium.folders[0]!.shared[0]
      if (
        tries > 0 ||
        !isLiveError(error) ||
        error.code !== 'REFUSED' ||
        !error.message.includes('fsck.vfat') ||
        !shared
      )
        return `second run: ${String(error)}`
      // what fsck.vfat does with two names on one chain: the second one is left without clusters
      const [, emptied] = shared
      await rm(join(live, emptied!))
      await writeFile(join(live, emptied!), '')
    }
  }
  const names = [...(await contentOf(live)).keys(), ...(await contentOf(stage)).keys()]
  if (names.join() !== [OVERLAY, base].sort().join()) return `left behind: ${names.join(', ')}`
  const overlay = await openFile(join(live, OVERLAY))
  const store = await readStore(overlay)
  await overlay.close()
  if (store.exceptions.count !== 0) return 'the overlay is not empty'
  return (await viewOf({ target: stick.path })) === sha256(stick.merged)
    ? undefined
    : 'another view after the second run'
}

const tools = needTools('mksquashfs')

tools.describe('a power cut at any step of a refresh', () => {
  it.each(METHODS)(
    '$name: nothing is lost, and a second run finishes',
    async method => {
      const recorded = await record(method)
      const wrong: string[] = []
      for (const medium of recorded.media) {
        await place(recorded, medium)
        const found = (await look(recorded)) ?? (await finish(recorded, medium))
        if (found) wrong.push(`cut after step ${medium.cut}: ${found}`)
      }
      console.log(`${method.name}: ${recorded.steps} steps, ${recorded.media.length} states`)
      expect(wrong).toEqual([])
      expect(recorded.media.length).toBeGreaterThan(25)
    },
    300_000,
  )

  it('staged: --restore puts the old base back, byte for byte', async () => {
    const recorded = await record(METHODS[3]!)
    const old = recorded.media[0]!.folders[0]!.files
    let restored = 0
    for (const medium of recorded.media) {
      const state = medium.folders[0]!.files.get('squashfs.img.refresh')
      if (
        !state ||
        !Buffer.from(state.subarray(0, 512)).toString().includes('"rewriting"') ||
        medium.folders[0]!.shared.length > 0
      )
        continue
      await place(recorded, medium)
      await second(recorded, { restore: true })
      const now = await contentOf(recorded.live)
      expect([...now.keys()]).toEqual([OVERLAY, 'squashfs.img'])
      for (const [name, bytes] of now) expect(Buffer.compare(bytes, old.get(name)!), name).toBe(0)
      restored++
    }
    expect(restored).toBeGreaterThan(3)
  }, 120_000)

  it('changes made between the cut and the second run survive', async () => {
    const recorded = await record(METHODS[0]!)
    const cuts = recorded.media.filter(({ folders: [live] }) =>
      Buffer.from(live!.files.get('squashfs.img.refresh')?.subarray(0, 512) ?? [])
        .toString()
        .includes('"resetting"'),
    )
    expect(cuts.length).toBeGreaterThan(1)
    let kept = 0
    for (const medium of cuts) {
      await place(recorded, medium)
      const overlay = join(recorded.live, OVERLAY)
      const file = await openFile(overlay)
      const store = await readStore(file)
      await file.close()
      const first = store.exceptions.count > 0 ? store.exceptions.newChunkAt(0) : undefined
      if (first === undefined) continue
      // the booted system writes to a chunk that the overlay has already: its list doesn't change
      const handle = await open(overlay, 'r+')
      await handle.write(Buffer.alloc(4096, 0xee), 0, 4096, first * 4096)
      await handle.close()
      const view = await viewOf({ target: recorded.stick.path })
      expect(view).not.toBe(sha256(recorded.stick.merged))
      const plan = await planRefresh({ target: recorded.stick.path }, {})
      const done = await finished(runRefresh({ target: recorded.stick.path }, plan))
      expect(done.overlayReset).toBe(false)
      expect(done.findings.map(({ code }) => code)).toContain('OVERLAY_KEPT')
      expect(await viewOf({ target: recorded.stick.path })).toBe(view)
      kept++
    }
    expect(kept).toBeGreaterThan(0)
  }, 120_000)
})

tools.describe('the test can fail', () => {
  const faulty = async (method: Method, faults: Faults, reorder?: (log: Step[]) => Step[]): Promise<number> => {
    const recorded = await record(method, faults, reorder)
    let wrong = 0
    for (const medium of recorded.media) {
      await place(recorded, medium)
      if ((await look(recorded)) ?? (await finish(recorded, medium))) wrong++
      if (wrong > 2) break
    }
    return wrong
  }

  it('without flushes', async () => {
    expect(await faulty(METHODS[0]!, { noFlush: true })).toBeGreaterThan(0)
  }, 120_000)

  it('with the overlay cleared before the new base has its name', async () => {
    const early = (log: Step[]): Step[] => {
      const clearing = log.findIndex(step => step.kind === 'write' && step.name === OVERLAY)
      const swap = log.findIndex(step => step.kind === 'link')
      const moved = log.splice(clearing, 2)
      log.splice(swap, 0, ...moved)
      return log
    }
    expect(await faulty(METHODS[0]!, {}, early)).toBeGreaterThan(0)
  }, 120_000)

  it('with the old base removed before the new one is complete', async () => {
    const early = (log: Step[]): Step[] => {
      const create = log.findIndex(step => step.kind === 'create' && step.name.endsWith('.new'))
      log.splice(create, 0, { kind: 'unlink', folder: 0, name: 'squashfs.img' }, { kind: 'sync', folder: 0 })
      return log.filter(step => step.kind !== 'link' && !(step.kind === 'unlink' && step.name.endsWith('.old')))
    }
    expect(await faulty(METHODS[0]!, {}, early)).toBeGreaterThan(0)
  }, 120_000)
})
