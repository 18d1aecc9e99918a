import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Hold } from '../../src/block/undo/layout.js'
import { openFolder } from '../../src/host/folder.js'
import { beginChange, findUndo, releaseHold, standingOf, takeChangeBack } from '../../src/ops/undo-journal.js'
import { eachError } from '../support/each-error.js'
import {
  type Content,
  contentOf,
  type Faults,
  hashOf,
  KINDS,
  type Kind,
  layOut,
  powerCuts,
  recordingFolder,
  type Step,
} from '../support/power-cut.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
const FILE = 'overlay'
const SIZE = 28_000
const HOLD: Hold = { offset: 4, during: new Uint8Array(4), after: new Uint8Array([1, 0, 0, 0]) }
const ROUNDS = process.env.LIVEOS_ALL_CUTS === '1' ? 10 : 3

interface Changed {
  readonly live: string
  readonly initial: Content
  readonly log: Step[]
  readonly old: string
  readonly fresh: string
}

/** Changes a file in place, also its size; all steps recorded. */
const change = async (kind: Kind, seed: number, faults: Faults = {}): Promise<Changed> => {
  const live = await path(`${kind}-${seed}-${Object.keys(faults).join()}`)
  const { below, bytes } = random(seed)
  const before = bytes(SIZE)
  before.set(HOLD.after, 4)
  await layOut(live, { files: new Map([[FILE, before]]), shared: [] })
  const initial = await contentOf(live)
  const log: Step[] = []
  const folder = recordingFolder(await openFolder(live), 0, kind, log, faults)
  const begun = await beginChange(folder, FILE, { verb: 'grow', hold: HOLD })
  for (let step = 0; step < 3; step++) {
    const writes = Array.from({ length: 1 + below(3) }, () => ({
      // without gaps: what a gap holds is not the journal's question
      offset: 512 + below(begun.file.size - 512),
      bytes: bytes(1 + below(1500)),
    }))
    if (below(2)) await begun.file.protect(writes.map(({ offset, bytes: { length } }) => ({ offset, length })))
    // one after another, as those that overlap would else be in one order in the log and in another in the file
    for (const write of writes) await begun.file.write(write.offset, write.bytes)
    if (below(4) === 0) {
      // the model of media clears what was written behind the end in the same epoch, where a truncate cuts only a part of that
      await begun.file.flush()
      await begun.file.truncate(1000 + below(SIZE))
    }
    if (below(2)) await begun.file.flush()
  }
  await begun.finish()
  await begun.close()
  const fresh = hashOf(new Uint8Array(await readFile(join(live, FILE))))
  return { live, initial, log, old: hashOf(before), fresh }
}

const now = async (live: string): Promise<string> => hashOf(new Uint8Array(await readFile(join(live, FILE))))

/** What is wrong with what a cut left; undefined where nothing is. */
const wrongAfter = async ({ live, old, fresh }: Changed): Promise<string | undefined> => {
  const folder = await openFolder(live)
  const found = await findUndo(folder, FILE)
  if (!found || found.phase === 'empty')
    return (await now(live)) === old ? undefined : 'changed, and no journal says what was before'
  if (found.phase === 'finished') {
    const standing = await standingOf(folder, FILE, found.journal!)
    if (standing === 'changed') return 'finished, and not as it was left'
    if (standing === 'held') {
      const copy = await readFile(join(live, FILE))
      await releaseHold(folder, FILE, found.journal!)
      if ((await now(live)) !== fresh) return 'finished, and not what it was to be'
      await writeFile(join(live, FILE), copy)
    } else if ((await now(live)) !== fresh) return 'finished, and not what it was to be'
  }
  await takeChangeBack(folder, FILE)
  return (await now(live)) === old ? undefined : 'taken back, and not as it was before'
}

const wrongOf = async (changed: Changed, kind: Kind, log = changed.log, most = Number.POSITIVE_INFINITY) => {
  let states = 0
  const wrong: string[] = []
  for (const medium of powerCuts([changed.initial], log, kind)) {
    states++
    await layOut(changed.live, medium.folders[0]!)
    const why = await wrongAfter(changed).catch(String)
    if (why) wrong.push(`cut ${medium.cut}: ${why}`)
    if (wrong.length >= most) break
  }
  return { states, wrong }
}

describe('a change under a journal', () => {
  it.each(KINDS)('%s: after an error at any step of taking it back, a further try ends it', async kind => {
    const { seed } = random()
    const { live, old } = await change(kind, seed)
    const left = await contentOf(live)
    await eachError(
      live,
      left,
      kind,
      folder => takeChangeBack(folder, FILE),
      async words => {
        const again = await openFolder(live)
        if (await findUndo(again, FILE)) await takeChangeBack(again, FILE)
        expect(await now(live), `seed ${seed}, ${words}`).toBe(old)
      },
    )
  })

  it.each(KINDS)(
    '%s: after any cut it is complete, or can be taken back to the byte',
    async kind => {
      const { seed } = random()
      let states = 0
      for (let round = 0; round < ROUNDS; round++) {
        const found = await wrongOf(await change(kind, seed + round), kind)
        expect(found.wrong, `seed ${seed + round}`).toEqual([])
        states += found.states
      }
      console.log(`undo journal, ${kind}: ${states} states`)
      expect(states).toBeGreaterThan(100)
    },
    120_000,
  )

  it.each(KINDS)(
    '%s: an undo that is cut is taken up again',
    async kind => {
      const { seed } = random()
      const changed = await change(kind, seed)
      const initial = await contentOf(changed.live)
      const log: Step[] = []
      await takeChangeBack(recordingFolder(await openFolder(changed.live), 0, kind, log), FILE)
      let states = 0
      for (const medium of powerCuts([initial], log, kind)) {
        states++
        await layOut(changed.live, medium.folders[0]!)
        const folder = await openFolder(changed.live)
        if (await findUndo(folder, FILE)) await takeChangeBack(folder, FILE)
        expect(await now(changed.live), `seed ${seed}, cut ${medium.cut}`).toBe(changed.old)
      }
      console.log(`undo journal taken back, ${kind}: ${states} states`)
    },
    120_000,
  )
})

describe('the test can fail', () => {
  const without = (log: readonly Step[], left: (step: Step) => boolean): Step[] => log.filter(step => !left(step))
  it.each<[string, (step: Step) => boolean]>([
    ['flushes of the journal', step => step.kind === 'flush' && step.name === `${FILE}.undo`],
    ['flushes of the file', step => step.kind === 'flush' && step.name === FILE],
    ['the sync of the journal’s name', step => step.kind === 'sync'],
  ])(
    'without %s',
    async (_what, left) => {
      const changed = await change('posix', 77)
      const { wrong } = await wrongOf(changed, 'posix', without(changed.log, left), 1)
      expect(wrong).not.toEqual([])
    },
    60_000,
  )
})
