import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { mergeStore } from '../../src/block/snapshot/merge.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { openWritableSnapshot } from '../../src/block/snapshot/writable.js'
import { isLiveError, LiveError } from '../../src/error.js'
import type { Folder } from '../../src/host/folder.js'
import { planMergeInPlace, runMergeInPlace } from '../../src/ops/merge-in-place.js'
import { cutMedia } from '../support/device-cuts.js'
import {
  contentOf,
  type Faults,
  interleaved,
  KINDS,
  type Kind,
  layOut,
  powerCuts,
  recordingFolder,
  type Step,
  turns,
} from '../support/power-cut.js'
import { random } from '../support/random.js'
import { type LogEntry, recordingDevice } from '../support/recording-device.js'
import { finished, OVERLAY, type SmallStick, sha256, smallStick } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
const numbers = random()
const { seed, below, bytes } = numbers

/** An origin and a store over it, with chunks in any order. */
const pair = async (chunkSectors: number, chunks: number, count: number) => {
  const chunkSize = chunkSectors * 512
  const order = Array.from({ length: chunks }, (_, n) => n)
  for (let n = chunks - 1; n > 0; n--) {
    const other = below(3) === 0 ? below(n + 1) : n
    ;[order[n], order[other]] = [order[other]!, order[n]!]
  }
  const origin = bytes(chunks * chunkSize - 300)
  const cow = storeOf(
    order.slice(0, count).map(oldChunk => ({ oldChunk, content: bytes(chunkSize) })),
    chunkSectors,
    6,
  )
  const view = await (await snapshot(memory(origin), memory(cow))).read(0, origin.length)
  return { chunkSize, before: new Map([['base', origin] as const, ['overlay', cow] as const]), view }
}

/** Whether a medium shows the view, and again after a merge, a writer that goes on, or both. */
const look = async (
  media: ReadonlyMap<string, Uint8Array>,
  view: Uint8Array,
  deep: boolean,
): Promise<string | undefined> => {
  const [originBytes, cowBytes] = [media.get('base')!, media.get('overlay')!]
  const origin = memory(originBytes, 'base')
  const cow = memory(cowBytes, 'overlay')
  const shown = async (): Promise<Uint8Array> => (await snapshot(origin, cow)).read(0, view.length)
  try {
    if (Buffer.compare(await shown(), view) !== 0) return 'another view'
    if (!deep) return undefined
    let expected = view
    if (below(2) === 0) {
      // a boot between the two runs
      const device = await openWritableSnapshot(origin, cow)
      expected = new Uint8Array(view)
      for (let n = 0; n < 12 && !device.store.full; n++) {
        const offset = below(view.length - 600)
        const content = bytes(600)
        await device.write(offset, content).then(
          () => expected.set(content, offset),
          (error: unknown) => {
            if (!isLiveError(error) || error.code !== 'NO_SPACE') throw error
          },
        )
        await device.flush()
        if (Buffer.compare(await shown(), expected) !== 0) return 'another view after a boot'
      }
    }
    await mergeStore(origin, cow)
    const { state, exceptions } = await readStore(cow)
    if (state !== 'ok' || exceptions.count !== 0) return 'the store is not empty after the second run'
    return Buffer.compare(originBytes, expected) === 0 ? undefined : 'another base after the second run'
  } catch (error) {
    return String(error)
  }
}

const judge = async (
  { before, view, chunkSize }: Awaited<ReturnType<typeof pair>>,
  change: (log: LogEntry[]) => readonly LogEntry[] = log => log,
): Promise<{ states: number; wrong: string[] }> => {
  const log: LogEntry[] = []
  await mergeStore(
    recordingDevice(memory(before.get('base')!.slice(), 'base'), log),
    recordingDevice(memory(before.get('overlay')!.slice(), 'overlay'), log),
    { batchBytes: 20 * chunkSize },
  )
  const wrong: string[] = []
  const isTried = turns(view.length > 500_000 ? 5 : 2, seed)
  let [states, tried] = [0, 0]
  for (const { media, begun } of cutMedia(before, change(log), numbers)) {
    states++
    if (!isTried()) continue
    tried++
    const found = await look(media, view, tried % (view.length > 500_000 ? 40 : 7) === 0)
    if (found) wrong.push(`cut before step ${begun}: ${found}`)
    if (wrong.length > 2) break
  }
  return { states, wrong }
}

describe(`a power cut at any step of a merge into the origin (seed ${seed})`, () => {
  it.each([
    [1, 140, 100],
    [1, 140, 32],
    [2, 150, 130],
    [8, 300, 258],
    [64, 20, 15],
  ])('chunks of %i sectors, %i of them, %i changed', async (chunkSectors, chunks, count) => {
    const { states, wrong } = await judge(await pair(chunkSectors, chunks, count))
    console.log(`merge in place, chunks of ${chunkSectors} sectors: ${states} states, seed ${seed}`)
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThan(50)
  })
})

let count = 0

/** Merges what lies there now and gives its steps. */
const merge = async (
  target: string,
  kind: Kind,
  { faults = {}, before }: { faults?: Faults; before?: (step: Step) => void } = {},
): Promise<Step[]> => {
  const log: Step[] = []
  const wrapFolder = (folder: Folder) => recordingFolder(folder, 0, kind, log, faults, before)
  await finished(runMergeInPlace({ target }, await planMergeInPlace('refresh', { target }), { wrapFolder }))
  return log
}

/** Runs it once more; there may be nothing left to merge. Gives what is wrong. */
const finish = async (dir: string, kind: Kind): Promise<string | undefined> => {
  try {
    await merge(dir, kind)
    return undefined
  } catch (error) {
    return isLiveError(error) && error.message.includes('nothing to merge') ? undefined : String(error)
  }
}

const stickFor = async (changed?: readonly number[]) => {
  const dir = await path(`stick${count++}`)
  const stick = await smallStick(dir, { raw: true, ...(changed && { changed }) })
  const live = join(dir, 'LiveOS')
  return { dir, stick, live, initial: [await contentOf(live)] }
}

/** What is wrong with a stick: its view, or names that should not be there. */
const wrongOn = async (live: string, stick: SmallStick, done: boolean): Promise<string | undefined> => {
  const files = await contentOf(live)
  if ([...files.keys()].join() !== [OVERLAY, 'rootfs.img'].join()) return `files: ${[...files.keys()].join()}`
  const [base, overlay] = ['rootfs.img', OVERLAY].map(name => memory(files.get(name)!, name))
  const view = await (await snapshot(base!, overlay!)).read(0, base!.size)
  if (Buffer.compare(view, stick.merged) !== 0) return 'another view'
  if (!done) return undefined
  if ((await readStore(overlay!)).exceptions.count > 0) return 'the overlay is not empty'
  return sha256(files.get('rootfs.img')!) === sha256(stick.merged) ? undefined : 'another base'
}

const judgeStick = async (kind: Kind, faults: Faults = {}): Promise<{ states: number; wrong: string[] }> => {
  const { dir, stick, live, initial } = await stickFor()
  const log = await merge(dir, kind, { faults })
  const wrong: string[] = []
  let states = 0
  const isTried = turns(3, seed)
  for (const medium of interleaved(() => powerCuts(initial, log, kind, seed), 8)) {
    states++
    if (!isTried()) continue
    await layOut(live, medium.folders[0]!)
    const told = medium.cut === log.length
    let found = await wrongOn(live, stick, told)
    if (!found && !told) found = (await finish(dir, kind)) ?? (await wrongOn(live, stick, true))
    if (found) wrong.push(`cut after ${medium.cut} steps: ${found}`)
    if (wrong.length > 2) break
  }
  return { states, wrong }
}

describe.each(KINDS)('%s: a power cut at any step of refresh --in-place', kind => {
  it('the view is the same, and a second run finishes', async () => {
    const { states, wrong } = await judgeStick(kind)
    console.log(`refresh --in-place, ${kind}: ${states} states, seed ${seed}`)
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThan(50)
  })

  it.each(['IO', 'NO_SPACE'] as const)(
    '%s at any step: the view is the same, and a second run finishes',
    async code => {
      const { dir, stick, live, initial } = await stickFor()
      const steps = (await merge(dir, kind)).length
      expect(steps).toBeGreaterThan(6)
      for (let n = 0; n < steps; n++) {
        await layOut(live, { files: initial[0]!, shared: [] })
        let at = 0
        const error = await merge(dir, kind, {
          before: () => {
            if (at++ === n) throw new LiveError(code, `injected ${code}`)
          },
        }).catch((reason: unknown) => reason)
        expect(error).toMatchObject({ code })
        expect(String(error)).toMatch(/as before.*liveos refresh --in-place/)
        expect(await wrongOn(live, stick, false)).toBeUndefined()
        expect(await finish(dir, kind)).toBeUndefined()
        expect(await wrongOn(live, stick, true)).toBeUndefined()
      }
    },
  )
})

describe('the test can fail', () => {
  it('where nothing is flushed', async () => {
    expect((await judgeStick('posix', { noFlush: true })).wrong.length).toBeGreaterThan(0)
  })

  it('where the origin is not flushed before its chunks leave the list', async () => {
    const change = (log: LogEntry[]) => log.filter(({ device, kind }) => device !== 'base' || kind !== 'flush')
    const { wrong } = await judge(await pair(2, 150, 64), change)
    console.log(`the origin is not flushed: ${wrong[0] ?? 'not seen'}`)
    expect(wrong.length).toBeGreaterThan(0)
  })

  it('and the files are read as they lie there', async () => {
    const { live, stick } = await stickFor()
    expect(sha256(new Uint8Array(await readFile(join(live, 'rootfs.img'))))).toBe(sha256(stick.root))
    expect(await wrongOn(live, stick, true)).toBe('the overlay is not empty')
  })
})
