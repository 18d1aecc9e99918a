import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { readStore } from '../../src/block/snapshot/store.js'
import {
  afterKill,
  contentOf,
  type Faults,
  interleaved,
  type Medium,
  powerCuts,
  type Step,
  turns,
} from '../support/power-cut.js'
import {
  BARE,
  checkEnd,
  cutsOf,
  finish,
  isDone,
  judge,
  METHODS,
  type Method,
  oneOfEach,
  place,
  type Recorded,
  record,
  refresh,
  rerun,
  seed,
  stepIn,
} from '../support/power-cut-refresh.js'
import { bytesOf, CHUNK, OVERLAY, sha256, viewOf } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary({ memory: true })
let count = 0
/** Makes a stick of its own and records one whole refresh of it. */
const recordOf = async (method: Method, faults: Faults = {}): Promise<Recorded> =>
  record(await path(`stick${count++}`), method, faults)

const { describe: judged } = needTools('mksquashfs')

judged(`a power cut at any step of a refresh (seed ${seed})`, () => {
  describe.concurrent('each method', () => {
    it.each(METHODS)(
      '$name: nothing is lost, and a second run finishes',
      async method => {
        const recorded = await recordOf(method)
        const { wrong, states, tried } = await judge(recorded)
        console.log(`${method.name}: ${recorded.log.length} steps, ${tried} of ${states} states, seed ${seed}`)
        expect(wrong).toEqual([])
        expect(states).toBeGreaterThan(40)
      },
      300_000,
    )

    it.each(METHODS)(
      '$name: a second run that is cut as well is finished by a third',
      async method => {
        const recorded = await recordOf(method)
        const known = new Set<string>()
        const isTried = turns(2, seed)
        let states = 0
        for (const medium of oneOfEach(cutsOf(recorded), recorded.base)) {
          if (!isTried()) continue
          if (method.kind === 'fat' && medium.folders[0]!.shared.length > 0) continue
          await place(recorded, medium)
          const second = await refresh(recorded).catch((error: unknown) => {
            if (isDone(error)) return undefined
            throw error
          })
          if (!second) continue
          const initial = medium.folders.map(({ files }) => files)
          const media = oneOfEach(powerCuts(initial, second.log, method.kind, seed), recorded.base)
          const result = await judge(recorded, media, known)
          expect(result.wrong).toEqual([])
          states += result.states
        }
        console.log(`${method.name}, cut twice: ${states} states, seed ${seed}`)
        expect(states).toBeGreaterThan(6)
      },
      300_000,
    )

    it.each(METHODS.filter(({ base, kind }) => kind === 'fat' && base !== 'raw'))(
      '$name: a power cut in the second run, after the first was killed before its last step was on the medium',
      async method => {
        const recorded = await recordOf(method)
        const { log, initial, base } = recorded
        const isTried = turns(2, seed)
        let states = 0
        for (const [index, { kind, ...step }] of log.entries()) {
          const isNoted = kind === 'write' && 'name' in step && step.name === `${base}.refresh`
          if (!isNoted && kind !== 'rename' && kind !== 'link' && kind !== 'unlink') continue
          if (!isTried()) continue
          const begun = log.slice(0, index + 1)
          await place(recorded, afterKill(initial, begun, method.kind))
          const second = await refresh(recorded).catch((error: unknown) => {
            if (isDone(error)) return undefined
            throw error
          })
          if (!second) continue
          const late: Medium[] = []
          for (const medium of powerCuts(initial, [...begun, ...second.log], method.kind, seed))
            if (medium.cut > index) late.push(medium)
          const result = await judge(recorded, oneOfEach(late, base))
          expect(result.wrong, `killed after ${index + 1} steps`).toEqual([])
          states += result.states
        }
        console.log(`${method.name}, killed and cut: ${states} states, seed ${seed}`)
        expect(states).toBeGreaterThan(12)
      },
      300_000,
    )

    it.each(METHODS.filter(({ staged }) => staged))(
      '$name: --restore puts the old base back, byte for byte, and may be cut as well',
      async method => {
        const recorded = await recordOf(method)
        const { live, stage, initial, base } = recorded
        const isOld = async (): Promise<string | undefined> => {
          const names = [...(await contentOf(live)).keys(), ...(await contentOf(stage)).keys()]
          if (names.join() !== [OVERLAY, base].join()) return `left behind: ${names.join(', ')}`
          for (const [name, bytes] of await contentOf(live))
            if (Buffer.compare(bytes, initial[0]!.get(name)!) !== 0) return `${name} is another one`
          return undefined
        }
        const restorable = oneOfEach(cutsOf(recorded), base).filter(medium => stepIn(medium, base) === 'rewriting')
        expect(restorable.length).toBeGreaterThan(2)
        const isTried = turns(2, seed)
        let states = 0
        for (const medium of restorable) {
          if (!isTried()) continue
          await place(recorded, medium)
          const { log, outcome } = await refresh(recorded, { restore: true })
          expect(outcome.restored).toBe(true)
          expect(await isOld()).toBeUndefined()
          const cuts = powerCuts(
            medium.folders.map(({ files }) => files),
            log,
            method.kind,
            seed,
          )
          for (const cut of oneOfEach(cuts, base)) {
            states++
            await place(recorded, cut)
            // after the state file is gone there is nothing to restore
            const again = stepIn(cut, base) === 'rewriting'
            expect(
              await rerun(recorded, cut, again ? { restore: true } : {}, again ? isOld : () => checkEnd(recorded)),
            ).toBeUndefined()
            await place(recorded, cut)
            expect(await finish(recorded, cut)).toBeUndefined()
          }
        }
        console.log(`${method.name}, restored: ${states} states, seed ${seed}`)
        expect(states).toBeGreaterThan(4)
      },
      300_000,
    )

    it.each(METHODS)(
      '$name: changes that a boot makes between the cut and the second run survive',
      async method => {
        const recorded = await recordOf(method)
        const { live, base, stick } = recorded
        let kept = 0
        for (const medium of oneOfEach(cutsOf(recorded), base)) {
          const { files, shared } = medium.folders[0]!
          if (!files.has(base) || (method.kind === 'fat' && shared.length > 0)) continue
          await place(recorded, medium)
          // chunk 5 was in no overlay before; an overlay that is empty starts anew
          const content = bytesOf(777, CHUNK)
          const store = await overlayChanges(join(live, OVERLAY))
          await writeFile(join(live, OVERLAY), storeOf([...store, { oldChunk: 5, content }], CHUNK / 512, 8))
          const view = await viewOf({ target: stick.path })
          const expected = stick.merged.slice()
          expected.set(content, 5 * CHUNK)
          expect(view).toBe(sha256(expected))
          const late = ['swapping', 'resetting'].includes(stepIn(medium, base)!)
          const { outcome } = await refresh(recorded)
          expect(outcome.overlayReset).toBe(!late)
          expect(outcome.findings.map(({ code }) => code).includes('OVERLAY_KEPT')).toBe(late)
          expect(await viewOf({ target: stick.path })).toBe(view)
          expect([...(await contentOf(live)).keys()]).toEqual([OVERLAY, base].sort())
          if (!late) continue
          kept++
          expect((await refresh(recorded)).outcome.overlayReset).toBe(true)
          expect(await viewOf({ target: stick.path })).toBe(view)
        }
        expect(kept).toBeGreaterThan(1)
      },
      300_000,
    )
  })
})

/** What an overlay holds, to be written with more. */
const overlayChanges = async (overlay: string): Promise<{ oldChunk: number; content: Uint8Array }[]> => {
  const file = await openFile(overlay)
  try {
    const { exceptions, chunkSize } = await readStore(file)
    const changes: { oldChunk: number; content: Uint8Array }[] = []
    for (const { oldChunk, newChunk } of exceptions.range())
      changes.push({ oldChunk, content: await file.read(newChunk * chunkSize, chunkSize) })
    return changes
  } finally {
    await file.close()
  }
}

judged('the test can fail', () => {
  /** What the same checks find in a writer that does it wrong, from the step on in which that begins to matter. */
  const found = async (
    method: Method,
    { faults = {}, reorder = log => log }: { faults?: Faults; reorder?: (log: readonly Step[]) => readonly Step[] },
  ): Promise<string[]> => {
    const recorded = await recordOf(method, faults)
    const changed = { ...recorded, log: [...reorder(recorded.log)] }
    const from = changed.log.findIndex(
      step =>
        step.kind === 'link' ||
        step.kind === 'rename' ||
        (step.kind === 'unlink' && step.name === recorded.base) ||
        isWriteTo(step, OVERLAY),
    )
    const late = () => powerCuts(changed.initial, changed.log, method.kind, seed, Math.max(0, from))
    return (await judge(changed, interleaved(late, 8), new Set(), { most: 1, share: 1 })).wrong
  }
  const isWriteTo = (step: Step, name: string): boolean => step.kind === 'write' && step.name === name

  const WRONG: readonly (readonly [string, Method, Parameters<typeof found>[1]])[] = [
    ['nothing is flushed', BARE, { faults: { noFlush: true } }],
    ['names are never synced', METHODS[1]!, { faults: { noSync: true } }],
    [
      'the new base is not flushed before it gets its name',
      BARE,
      { reorder: log => log.filter(step => !(step.kind === 'flush' && step.name.endsWith('.new'))) },
    ],
    [
      'the copy in the stage is not flushed before the old base goes',
      METHODS[2]!,
      { reorder: log => log.filter(step => !(step.kind === 'flush' && step.folder === 1)) },
    ],
    [
      'the overlay is emptied before the new base has its name',
      BARE,
      {
        reorder: log => {
          const clearing = log.findIndex(step => isWriteTo(step, OVERLAY))
          const swap = log.findIndex(step => step.kind === 'link')
          const moved = log.slice(clearing, clearing + 2)
          return [...log.slice(0, swap), ...moved, ...log.slice(swap, clearing), ...log.slice(clearing + 2)]
        },
      },
    ],
    [
      'the old base is removed before the new one is written',
      BARE,
      {
        reorder: log => {
          const create = log.findIndex(step => step.kind === 'create' && step.name.endsWith('.new'))
          const gone: Step[] = [
            { kind: 'unlink', folder: 0, name: 'squashfs.img' },
            { kind: 'sync', folder: 0 },
          ]
          return [...log.slice(0, create), ...gone, ...log.slice(create)].filter(
            step => step.kind !== 'link' && !(step.kind === 'unlink' && step.name.endsWith('.old')),
          )
        },
      },
    ],
    [
      'the step is recorded before the names are synced',
      METHODS[1]!,
      { reorder: log => log.filter((step, index) => !(step.kind === 'sync' && log[index - 1]?.kind === 'rename')) },
    ],
  ]

  it.concurrent.each(WRONG)(
    '%s',
    async (title, method, wrong) => {
      const states = await found(method, wrong)
      console.log(`${title}: ${states[0] ?? 'not seen'}`)
      expect(states.length).toBeGreaterThan(0)
    },
    300_000,
  )
})
