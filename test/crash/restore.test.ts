import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { LiveError } from '../../src/error.js'
import { RESTORE_STATE } from '../../src/ops/restore-state.js'
import {
  afterKill,
  type Faults,
  interleaved,
  KINDS,
  type Kind,
  type Medium,
  powerCuts,
  type Step,
  turns,
} from '../support/power-cut.js'
import {
  BARE,
  type Contents,
  checkEnd,
  EMPTY,
  judge,
  namesLeft,
  oneOfEach,
  place,
  type Recorded,
  record,
  restore,
  seed,
  USUAL,
} from '../support/power-cut-restore.js'
import { OVERLAY } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
let count = 0
const recordOf = async (kind: Kind, contents?: Contents, faults?: Faults): Promise<Recorded> =>
  record(await path(`stick${count++}`), kind, contents, faults)

const isShared = ({ kind }: Recorded, medium: Medium): boolean =>
  kind === 'fat' && medium.folders.some(({ shared }) => shared.length > 0)

describe.each(KINDS)(`%s: a power cut at any step of a restore (seed ${seed})`, kind => {
  it.each([
    ['usual', USUAL],
    ['files of no bytes', EMPTY],
    ['nothing there before', BARE],
  ] as const)('%s: each file is the old or the new one, and a second run finishes', async (name, contents) => {
    const recorded = await recordOf(kind, contents)
    expect(await checkEnd(recorded)).toBeUndefined()
    const { wrong, states, tried } = await judge(recorded)
    console.log(`${name}, ${kind}: ${recorded.log.length} steps, ${tried} of ${states} states, seed ${seed}`)
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThan(40)
  })

  it('a second run that is cut as well is finished by a third', async () => {
    const recorded = await recordOf(kind)
    let states = 0
    for (const medium of oneOfEach(powerCuts(recorded.initial, recorded.log, kind, seed))) {
      // without a state file a second run is a first one
      if (!medium.folders[0]!.files.has(RESTORE_STATE) || isShared(recorded, medium)) continue
      await place(recorded, medium)
      const { log } = await restore(recorded)
      const second = { ...recorded, log, initial: medium.folders.map(({ files }) => files) }
      const result = await judge(second, oneOfEach(powerCuts(second.initial, log, kind, seed)))
      expect(result.wrong).toEqual([])
      states += result.states
    }
    console.log(`${kind}, cut twice: ${states} states, seed ${seed}`)
    expect(states).toBeGreaterThan(50)
  })

  it('what a boot writes to a file that is back already stays', async () => {
    const recorded = await recordOf(kind)
    const overlay = join(recorded.folders[0], OVERLAY)
    const { fresh } = recorded.files.get(overlay)!
    let states = 0
    for (const medium of oneOfEach(powerCuts(recorded.initial, recorded.log, kind, seed))) {
      const { files } = medium.folders[0]!
      const now = files.get(OVERLAY)
      if (!now || Buffer.compare(now, fresh) !== 0 || !files.has(RESTORE_STATE)) continue
      if (isShared(recorded, medium)) continue
      states++
      await place(recorded, medium)
      const file = await open(overlay, 'r+')
      await file.write(Buffer.from('written by a boot'), 0, 17, 5 * 4096)
      await file.close()
      await restore(recorded)
      expect((await readFile(overlay)).subarray(5 * 4096, 5 * 4096 + 17).toString()).toBe('written by a boot')
    }
    expect(states).toBeGreaterThan(2)
  })

  it('a run that was killed is gone on with: nothing is written twice', async () => {
    const recorded = await recordOf(kind)
    const swapped = recorded.log.findIndex(step => step.kind === 'rename' || step.kind === 'link')
    await place(recorded, afterKill(recorded.initial, recorded.log.slice(0, swapped), kind))
    const { log } = await restore(recorded)
    expect(log.filter(step => step.kind === 'write' && step.name.endsWith('.new'))).toEqual([])
    expect(await checkEnd(recorded)).toBeUndefined()
  })

  it.each([
    ['NO_SPACE', false],
    ['IO', true],
  ] as const)('%s at any step, the steps after it being done: %s', async (code, once) => {
    const recorded = await recordOf(kind)
    const start = { folders: recorded.initial.map(files => ({ files, shared: [] })), cut: 0, key: '' }
    const swapped = recorded.log.findIndex(step => step.kind === 'rename' || step.kind === 'link')
    const isTried = turns(2, seed)
    let stops = 0
    for (let stop = 0; ; stop++) {
      if (!isTried()) continue
      await place(recorded, start)
      let taken = 0
      let fired = false
      const before = (): void => {
        if (taken++ < stop || (once && fired)) return
        fired = true
        throw new LiveError(code, 'the stick gives up')
      }
      const result: unknown = await restore(recorded, {}, before).catch((error: unknown) => error)
      if (!fired) break
      stops++
      expect(result, `step ${stop}`).toMatchObject({ code })
      // the step before the first swap is recorded by a write and a flush
      if (once && stop < swapped - 2) expect(await namesLeft(recorded), `step ${stop}`).toEqual([])
      await restore(recorded)
      expect(await checkEnd(recorded), `step ${stop}`).toBeUndefined()
    }
    console.log(`${code}, ${kind}: failed at ${stops} steps`)
    expect(stops).toBeGreaterThan(20)
  })
})

describe('the test can fail', () => {
  const without =
    (drop: (step: Step, index: number, log: readonly Step[]) => boolean) =>
    (log: readonly Step[]): Step[] =>
      log.filter((step, index) => !drop(step, index, log))
  const WRONG: readonly (readonly [string, Kind, Faults, (log: readonly Step[]) => Step[]])[] = [
    ['nothing is flushed', 'posix', { noFlush: true }, log => [...log]],
    ['names are never synced', 'fat', { noSync: true }, log => [...log]],
    [
      'a new file is not flushed before it gets its name',
      'posix',
      {},
      without(step => step.kind === 'flush' && step.name === `${OVERLAY}.new`),
    ],
    [
      'that the new file gets its name is not recorded',
      'fat',
      {},
      without(step => step.kind === 'write' && /"naming"/.test(Buffer.from(step.bytes).toString())),
    ],
    [
      'the names are not on the medium before the old files go',
      'posix',
      {},
      without((step, index, log) => step.kind === 'sync' && log[index - 1]?.kind === 'rename'),
    ],
  ]
  it.each(WRONG)('%s', async (title, kind, faults, change) => {
    const recorded = await recordOf(kind, USUAL, faults)
    const changed = { ...recorded, log: change(recorded.log) }
    expect(changed.log.length < recorded.log.length || faults.noFlush || faults.noSync).toBeTruthy()
    const media = () => powerCuts(changed.initial, changed.log, kind, seed)
    const { wrong } = await judge(changed, interleaved(media, 8), { most: 1, share: 1 })
    console.log(`${title}: ${wrong[0] ?? 'not seen'}`)
    expect(wrong.length).toBeGreaterThan(0)
  })
})
