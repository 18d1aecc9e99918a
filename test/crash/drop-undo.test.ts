import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Folder, openFolder } from '../../src/host/folder.js'
import { planCompact, runCompact } from '../../src/ops/compact.js'
import { planGrow, runGrow } from '../../src/ops/grow.js'
import { planMergeInPlace, runMergeInPlace } from '../../src/ops/merge-in-place.js'
import { clearOverlay } from '../../src/ops/reset.js'
import { beginChange, findUndo, isCut, standingOf, takeChangeBack } from '../../src/ops/undo-journal.js'
import { dropUndo } from '../../src/ops/unfinished.js'
import {
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
import { CHUNK, finished, OVERLAY, smallStick } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
const UNDO = `${OVERLAY}.undo`
let count = 0

type Verb = (target: string, wrapFolder: (folder: Folder) => Folder) => Promise<unknown>

/** What a writable export does: into chunks that the overlay has, by which no journal tells that it was written. */
const writesInPlace: Verb = async (target, wrapFolder) => {
  const folder = wrapFolder(await openFolder(join(target, 'LiveOS')))
  await dropUndo(folder, OVERLAY)
  const file = await folder.openWritable(OVERLAY)
  await file.write(4 * CHUNK, new Uint8Array(CHUNK).fill(7))
  await file.flush()
  await file.close()
}

const VERBS: Record<string, Verb> = {
  grow: async (target, wrapFolder) =>
    finished(runGrow({ target }, await planGrow({ target }, { size: { by: 40 * CHUNK } }), { wrapFolder })),
  shrink: async (target, wrapFolder) =>
    finished(runGrow({ target }, await planGrow({ target }, { size: 12 * CHUNK }), { wrapFolder })),
  compact: async (target, wrapFolder) =>
    finished(
      runCompact({ target }, await planCompact({ target }, { size: { by: 8 * CHUNK } }, { wrapFolder }), {
        wrapFolder,
      }),
    ),
  'merge in place': async (target, wrapFolder) =>
    finished(runMergeInPlace({ target }, await planMergeInPlace('merge', { target }), { wrapFolder })),
  reset: async (target, wrapFolder) => clearOverlay(wrapFolder(await openFolder(join(target, 'LiveOS'))), OVERLAY),
  'a writable export': writesInPlace,
}

/**
 * A stick whose overlay was changed under a journal, then by a verb that is cut at each step. Where the journal is still there,
 * it must take back what it tells of, or say that it comes too late.
 */
const judge = async (verb: Verb, kind: Kind, faults: Faults = {}) => {
  const dir = await path(`stick${count++}`)
  await smallStick(dir, { raw: true })
  const live = join(dir, 'LiveOS')
  const before = hashOf((await contentOf(live)).get(OVERLAY)!)
  const begun = await beginChange(await openFolder(live), OVERLAY, { verb: 'recover' })
  await begun.file.write(begun.file.size - 100, new Uint8Array(100).fill(1))
  await begun.finish([{ offset: 0, length: 2 * CHUNK }])
  await begun.close()
  const initial = await contentOf(live)
  const left = hashOf(initial.get(OVERLAY)!)
  const log: Step[] = []
  await verb(dir, folder => recordingFolder(folder, 0, kind, log, faults))
  const wrong: string[] = []
  const seen = { kept: 0, gone: 0 }
  for (const medium of powerCuts([initial], log, kind)) {
    const { files } = medium.folders[0]!
    const overlay = files.get(OVERLAY)
    seen[files.has(UNDO) ? 'kept' : 'gone']++
    if (!files.has(UNDO) || !overlay) continue
    await layOut(live, medium.folders[0]!)
    const folder = await openFolder(live)
    const undo = await findUndo(folder, OVERLAY)
    if (!undo?.journal || isCut(undo)) wrong.push(`cut ${medium.cut}: no journal of a finished change`)
    else if ((await standingOf(folder, OVERLAY, undo.journal)) === 'changed') continue
    else if (hashOf(overlay) !== left) wrong.push(`cut ${medium.cut}: another overlay, and the journal can't tell`)
    else {
      await takeChangeBack(folder, OVERLAY)
      if (hashOf((await contentOf(live)).get(OVERLAY)!) !== before)
        wrong.push(`cut ${medium.cut}: not as it was before`)
    }
    if (wrong.length > 2) break
  }
  return { wrong, seen }
}

describe.each(KINDS)('%s: between the end of an earlier way back and the change that ends it', kind => {
  it.each(Object.entries(VERBS))('%s', async (name, verb) => {
    const { wrong, seen } = await judge(verb, kind)
    console.log(`undo dropped by ${name}, ${kind}: ${seen.kept} states with it, ${seen.gone} without`)
    expect(wrong).toEqual([])
    // before it goes, and when it has gone and nothing else was done
    expect(seen.kept).toBeGreaterThan(0)
    expect(seen.gone).toBeGreaterThan(1)
  })
})

it.each(KINDS)('the test can fail: %s, where its name is not synced away', async kind => {
  expect((await judge(writesInPlace, kind, { noSync: true })).wrong.length).toBeGreaterThan(0)
})
