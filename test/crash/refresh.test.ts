import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { isLiveError } from '../../src/error.js'
import type { Folder } from '../../src/host/folder.js'
import { planRefresh, type RefreshOptions } from '../../src/ops/refresh.js'
import { type RefreshOutcome, runRefresh } from '../../src/ops/refresh-run.js'
import {
  contentOf,
  type Faults,
  hashOf,
  type Kind,
  layOut,
  type Medium,
  powerCuts,
  recordingFolder,
  type Step,
} from '../support/power-cut.js'
import { random } from '../support/random.js'
import {
  bytesOf,
  CHUNK,
  finished,
  OVERLAY,
  type SmallStick,
  sha256,
  smallStick,
  viewOf,
} from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const { seed, below } = random()
let count = 0

interface Method {
  readonly name: string
  readonly kind: Kind
  readonly base: 'squashfs' | 'bare squashfs' | 'raw'
  readonly staged: boolean
}

const METHODS: readonly Method[] = [
  { name: 'beside, posix', kind: 'posix', base: 'squashfs', staged: false },
  { name: 'beside, FAT', kind: 'fat', base: 'bare squashfs', staged: false },
  { name: 'staged, posix', kind: 'posix', base: 'bare squashfs', staged: true },
  { name: 'staged, FAT', kind: 'fat', base: 'bare squashfs', staged: true },
  { name: 'raw base, posix', kind: 'posix', base: 'raw', staged: false },
  { name: 'raw base, FAT', kind: 'fat', base: 'raw', staged: false },
]

const BARE: Method = { name: 'beside, posix', kind: 'posix', base: 'bare squashfs', staged: false }

/** A stick of which a refresh was recorded. */
interface Recorded {
  readonly method: Method
  readonly stick: SmallStick
  readonly base: string
  readonly stage: string
  readonly live: string
  readonly initial: Medium['folders'][number]['files'][]
  readonly log: Step[]
}

/** Runs a refresh of what lies there now and gives its steps. */
const refresh = async (
  { stick, live, method }: Pick<Recorded, 'stick' | 'live' | 'method'>,
  options: RefreshOptions = {},
  faults: Faults = {},
): Promise<{ log: Step[]; outcome: RefreshOutcome }> => {
  const log: Step[] = []
  const wrapFolder = (folder: Folder) => recordingFolder(folder, folder.path === live ? 0 : 1, method.kind, log, faults)
  const plan = await planRefresh({ target: stick.path }, options)
  return { outcome: await finished(runRefresh({ target: stick.path }, plan, { wrapFolder })), log }
}

/** Makes a stick and records one whole refresh of it. */
const record = async (method: Method, faults: Faults = {}): Promise<Recorded> => {
  const dir = await path(`stick${count++}`)
  const raw = method.base === 'raw'
  const stick = await smallStick(join(dir, 'stick'), { raw, packed: method.base === 'squashfs' })
  const live = join(stick.path, 'LiveOS')
  const stage = join(dir, 'stage')
  await mkdir(stage)
  const initial = [await contentOf(live), await contentOf(stage)]
  const { log } = await refresh({ stick, live, method }, method.staged ? { stage } : {}, faults)
  expect(await viewOf({ target: stick.path })).toBe(sha256(stick.merged))
  return { method, stick, base: raw ? 'rootfs.img' : 'squashfs.img', stage, live, initial, log }
}

const cutsOf = ({ initial, log, method }: Recorded): Generator<Medium> => powerCuts(initial, log, method.kind, seed)

const place = async ({ live, stage }: Recorded, medium: Medium): Promise<void> => {
  await layOut(live, medium.folders[0]!)
  await layOut(stage, medium.folders[1]!)
}

const stepIn = (medium: Medium, base: string): string | undefined =>
  /"step":"(\w+)"/.exec(
    Buffer.from(medium.folders[0]!.files.get(`${base}.refresh`)?.subarray(0, 512) ?? []).toString(),
  )?.[1]

/** SHA-256 of a view by what it is made from, as most media show what another one has shown. */
const views = new Map<string, Promise<string>>()
const viewBy = (key: string, stick: SmallStick): Promise<string> => {
  let view = views.get(key)
  if (!view) {
    view = viewOf({ target: stick.path }).catch(String)
    views.set(key, view)
  }
  return view
}

/** What is wrong with a medium right after the cut; undefined where base and overlay show the merged root. */
const look = async ({ stick, method, base }: Recorded, medium: Medium): Promise<string | undefined> => {
  const { files, shared } = medium.folders[0]!
  if (!files.has(base)) {
    // the windows in which a stick can't boot: staged, or between the two renames of FAT
    if (
      !(method.staged
        ? stepIn(medium, base) !== 'writing'
        : method.kind === 'fat' && stepIn(medium, base) === 'swapping')
    )
      return `no base in step ${stepIn(medium, base)}`
    const error = await viewOf({ target: stick.path }).then(
      () => 'a view of nothing',
      (reason: unknown) => (isLiveError(reason) && reason.data.interrupted ? undefined : String(reason)),
    )
    return error
  }
  if (shared.length > 0 && method.kind === 'posix' && shared[0]!.join() !== [base, `${base}.old`].join())
    return `one file as ${shared[0]!.join()}`
  const view = await viewBy(hashOf(files.get(base)!) + hashOf(files.get(OVERLAY)!), stick)
  return view === sha256(stick.merged) ? undefined : `another view: ${view}`
}

/** What is wrong after a refresh that should have ended. */
const checkEnd = async ({ stick, live, stage, base }: Recorded): Promise<string | undefined> => {
  const now = await contentOf(live)
  const names = [...now.keys(), ...(await contentOf(stage)).keys()]
  if (names.join() !== [OVERLAY, base].sort().join()) return `left behind: ${names.join(', ')}`
  const overlay = await openFile(join(live, OVERLAY))
  const store = await readStore(overlay)
  await overlay.close()
  if (store.exceptions.count !== 0) return 'the overlay is not empty'
  const view = await viewBy(hashOf(now.get(base)!) + hashOf(now.get(OVERLAY)!), stick)
  return view === sha256(stick.merged) ? undefined : `another view after the second run: ${view}`
}

const isDone = (error: unknown): boolean =>
  isLiveError(error) && error.code === 'USAGE' && error.message.includes('nothing to merge')

/** What two names on one chain become when fsck.vfat empties one of them. */
const afterFsck = async ({ live }: Recorded, name: string): Promise<void> => {
  await rm(join(live, name))
  await writeFile(join(live, name), '')
}

/** Runs a refresh, on FAT with two names on one chain refused first, and after either repair done. Gives what is wrong. */
const rerun = async (
  recorded: Recorded,
  medium: Medium,
  options: RefreshOptions,
  check: () => Promise<string | undefined>,
): Promise<string | undefined> => {
  const shared = recorded.method.kind === 'fat' ? (medium.folders[0]!.shared[0] ?? []) : []
  try {
    await refresh(recorded, options)
  } catch (error) {
    if (shared.length === 0) return isDone(error) ? check() : `second run: ${String(error)}`
    if (!isLiveError(error) || error.code !== 'REFUSED' || !error.message.includes('fsck.vfat'))
      return `two names on one chain: ${String(error)}`
    for (const emptied of shared) {
      await place(recorded, medium)
      await afterFsck(recorded, emptied)
      try {
        await refresh(recorded, options)
      } catch (again) {
        return `${emptied} emptied: ${String(again)}`
      }
      const wrong = await check()
      if (wrong) return `${emptied} emptied: ${wrong}`
    }
    return undefined
  }
  return shared.length > 0 ? 'two names on one chain, and nothing was said' : check()
}

const finish = (recorded: Recorded, medium: Medium): Promise<string | undefined> =>
  rerun(recorded, medium, {}, () => checkEnd(recorded))

/** Everything that is wrong with the media of a recorded refresh, at most a few; and how many media were looked at. */
const judge = async (
  recorded: Recorded,
  media: Iterable<Medium> = cutsOf(recorded),
  known: Set<string> = new Set(),
  most = 3,
): Promise<{ wrong: string[]; states: number }> => {
  const wrong: string[] = []
  let states = 0
  for (const medium of media) {
    if (known.has(medium.key)) continue
    known.add(medium.key)
    states++
    await place(recorded, medium)
    const found = (await look(recorded, medium)) ?? (await finish(recorded, medium))
    if (found) wrong.push(`cut after ${medium.cut} steps (${stepIn(medium, recorded.base)}): ${found}`)
    if (wrong.length >= most) break
  }
  return { wrong, states }
}

/** Media of which one is taken for each step of the state file and each set of names, by the seed. */
const oneOfEach = (media: Iterable<Medium>, base: string): Medium[] => {
  const kinds = new Map<string, Medium[]>()
  for (const medium of media) {
    const key = JSON.stringify([
      stepIn(medium, base),
      medium.folders.map(({ files, shared }) => [[...files.keys()], shared]),
    ])
    kinds.set(key, [...(kinds.get(key) ?? []), medium])
  }
  return [...kinds.values()].map(alike => alike[below(alike.length)]!)
}

const { describe: judged } = needTools('mksquashfs')

judged(`a power cut at any step of a refresh (seed ${seed})`, () => {
  describe.concurrent('each method', () => {
    it.each(METHODS)(
      '$name: nothing is lost, and a second run finishes',
      async method => {
        const recorded = await record(method)
        const { wrong, states } = await judge(recorded)
        console.log(`${method.name}: ${recorded.log.length} steps, ${states} states, seed ${seed}`)
        expect(wrong).toEqual([])
        expect(states).toBeGreaterThan(40)
      },
      300_000,
    )

    it.each(METHODS)(
      '$name: a second run that is cut as well is finished by a third',
      async method => {
        const recorded = await record(method)
        const known = new Set<string>()
        let states = 0
        for (const medium of oneOfEach(cutsOf(recorded), recorded.base)) {
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
        expect(states).toBeGreaterThan(15)
      },
      300_000,
    )

    it.each(METHODS.filter(({ staged }) => staged))(
      '$name: --restore puts the old base back, byte for byte, and may be cut as well',
      async method => {
        const recorded = await record(method)
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
        let states = 0
        for (const medium of restorable) {
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
        expect(states).toBeGreaterThan(10)
      },
      300_000,
    )

    it.each(METHODS)(
      '$name: changes that a boot makes between the cut and the second run survive',
      async method => {
        const recorded = await record(method)
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
    const recorded = await record(method, faults)
    const changed = { ...recorded, log: [...reorder(recorded.log)] }
    const from = changed.log.findIndex(
      step =>
        step.kind === 'link' ||
        step.kind === 'rename' ||
        (step.kind === 'unlink' && step.name === recorded.base) ||
        isWriteTo(step, OVERLAY),
    )
    const late = function* () {
      for (const medium of cutsOf(changed)) if (medium.cut >= from) yield medium
    }
    return (await judge(changed, late(), new Set(), 1)).wrong
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
