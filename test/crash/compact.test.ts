import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { LiveError } from '../../src/error.js'
import { contentOf, type Faults, interleaved, powerCuts, type Step, turns } from '../support/power-cut.js'
import {
  checkEnd,
  compact,
  judge,
  METHODS,
  type Method,
  oneOfEach,
  place,
  type Recorded,
  record,
  seed,
  stepIn,
} from '../support/power-cut-compact.js'
import { bytesOf, CHUNK, OVERLAY, sha256 } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
let count = 0
const recordOf = async (method: Method, faults: Faults = {}): Promise<Recorded> =>
  record(await path(`stick${count++}`), method, faults)

describe(`a power cut at any step of a compaction (seed ${seed})`, () => {
  it.each(METHODS)('$name: the view stays, and a second run finishes', async method => {
    const recorded = await recordOf(method)
    expect(await checkEnd(recorded)).toBeUndefined()
    const { wrong, states, tried } = await judge(recorded)
    console.log(`${method.name}: ${recorded.log.length} steps, ${tried} of ${states} states, seed ${seed}`)
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThan(30)
  })

  it.each(METHODS)('$name: a second run that is cut as well is finished by a third', async method => {
    const recorded = await recordOf(method)
    const isTried = turns(2, seed)
    let states = 0
    for (const medium of oneOfEach(powerCuts(recorded.initial, recorded.log, method.kind, seed))) {
      if (!isTried()) continue
      if (method.kind === 'fat' && medium.folders[0]!.shared.length > 0) continue
      await place(recorded, medium)
      const { log } = await compact(recorded)
      const second = { ...recorded, log, initial: medium.folders.map(({ files }) => files) }
      const result = await judge(second, oneOfEach(powerCuts(second.initial, log, method.kind, seed)))
      expect(result.wrong).toEqual([])
      states += result.states
    }
    console.log(`${method.name}, cut twice: ${states} states, seed ${seed}`)
    expect(states).toBeGreaterThan(8)
  })

  it.each(METHODS)('$name: what a boot writes between the cut and the second run survives', async method => {
    const recorded = await recordOf(method)
    const { live, stick } = recorded
    const overlay = join(live, OVERLAY)
    const content = bytesOf(777, CHUNK)
    let states = 0
    for (const medium of oneOfEach(powerCuts(recorded.initial, recorded.log, method.kind, seed))) {
      const { files, shared } = medium.folders[0]!
      if (!files.has(OVERLAY) || (method.kind === 'fat' && shared.length > 0)) continue
      // a chunk of its own, and one that the overlay has already, which changes no list
      for (const [changed, after] of [
        [5, withChunk],
        [20, overChunk],
      ] as const) {
        states++
        await place(recorded, medium)
        const bytes = await after(overlay, changed, content)
        // into the file that is there, which may have another name too
        await writeFile(overlay, bytes, { flag: 'r+' })
        const merged = stick.merged.slice()
        merged.set(content, changed * CHUNK)
        await compact(recorded)
        expect(await checkEnd(recorded, sha256(merged), null), `${stepIn(medium)}, chunk ${changed}`).toBeUndefined()
      }
    }
    expect(states).toBeGreaterThan(8)
  })
})

/** An overlay as it is after a boot has changed one chunk more. */
const withChunk = async (overlay: string, oldChunk: number, content: Uint8Array): Promise<Uint8Array> => {
  const file = await openFile(overlay)
  try {
    const { exceptions } = await readStore(file)
    const changes: { oldChunk: number; content: Uint8Array }[] = []
    for (const { oldChunk: old, newChunk } of exceptions.stored())
      changes.push({ oldChunk: old, content: await file.read(newChunk * CHUNK, CHUNK) })
    return storeOf([...changes, { oldChunk, content }], CHUNK / 512, 8)
  } finally {
    await file.close()
  }
}

/** An overlay after a boot has written over a chunk that it holds. */
const overChunk = async (overlay: string, oldChunk: number, content: Uint8Array): Promise<Uint8Array> => {
  const bytes = new Uint8Array(await readFile(overlay))
  const file = await openFile(overlay)
  try {
    bytes.set(content, (await readStore(file)).exceptions.find(oldChunk)! * CHUNK)
    return bytes
  } finally {
    await file.close()
  }
}

it.each([
  ['NO_SPACE', METHODS[0]!],
  ['IO', METHODS[1]!],
  ['NO_SPACE', METHODS[3]!],
] as const)('%s at any step, $name: the overlay is as it was, or a second run finishes', async (code, method) => {
  const recorded = await recordOf(method)
  const { initial, stage, live } = recorded
  const isTried = turns(2, seed)
  for (let stop = 0; ; stop++) {
    if (!isTried()) continue
    await place(recorded, { folders: initial.map(files => ({ files, shared: [] })), cut: 0, key: '' })
    let taken = 0
    let fired = false
    const before = (): void => {
      if (taken++ < stop) return
      fired = true
      throw new LiveError(code, 'the stick gives up')
    }
    const result = await compact(recorded, method.staged ? { stage } : {}, {}, before).catch((error: unknown) => error)
    if (!fired) break
    expect(result, `step ${stop}`).toMatchObject({ code })
    const files = await contentOf(live)
    if (String(result).includes('as it was') && [...files.keys()].join() === [OVERLAY, 'rootfs.img'].join())
      expect(sha256(files.get(OVERLAY)!)).toBe(sha256(initial[0]!.get(OVERLAY)!))
    await compact(recorded)
    const wrong = await checkEnd(recorded)
    // nothing more can be done on a stick that takes nothing: what lies in the stage is then left there, and said
    if (!wrong?.includes('liveos-stage-')) expect(wrong, `step ${stop}`).toBeUndefined()
  }
})

describe('the test can fail', () => {
  const WRONG: readonly (readonly [string, Method, Faults, (log: readonly Step[]) => readonly Step[]])[] = [
    ['nothing is flushed', METHODS[0]!, { noFlush: true }, log => log],
    ['names are never synced', METHODS[1]!, { noSync: true }, log => log],
    [
      'the new store is not flushed before it gets its name',
      METHODS[0]!,
      {},
      log => log.filter(step => !(step.kind === 'flush' && step.name.endsWith('.new'))),
    ],
    [
      'the copy in the stage is not flushed before the old one goes',
      METHODS[3]!,
      {},
      log => log.filter(step => !(step.kind === 'flush' && step.folder === 1)),
    ],
    [
      'the step is not recorded between the two renames',
      METHODS[1]!,
      {},
      log => {
        const first = log.findIndex(step => step.kind === 'rename')
        const second = log.findIndex((step, n) => n > first && step.kind === 'rename')
        return log.filter((_, n) => n <= first + 1 || n >= second)
      },
    ],
  ]
  it.each(WRONG)('%s', async (title, method, faults, change) => {
    const recorded = await recordOf(method, faults)
    const changed = { ...recorded, log: [...change(recorded.log)] }
    // from the step on in which it begins to matter
    const from = changed.log.findIndex(
      ({ kind, ...step }) =>
        kind === 'link' || kind === 'rename' || (kind === 'unlink' && 'name' in step && step.name === OVERLAY),
    )
    const late = () => powerCuts(changed.initial, changed.log, method.kind, seed, Math.max(0, from))
    const { wrong } = await judge(changed, interleaved(late, 8), { most: 1, share: 1 })
    console.log(`${title}: ${wrong[0] ?? 'not seen'}`)
    expect(wrong.length).toBeGreaterThan(0)
  })
})
