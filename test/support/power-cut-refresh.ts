import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
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
  type Medium,
  powerCuts,
  recordingFolder,
  type Step,
} from './power-cut.js'
import { endOn, judgeMedia, oneOfEach as oneOfEachStep, placeAt, type Wrong } from './power-cut-judge.js'
import { random } from './random.js'
import { finished, OVERLAY, type SmallStick, sha256, smallStick, viewOf } from './small-stick.js'

const { seed, below } = random()

export { seed }

/** A way in which a refresh can go. */
export interface Method {
  readonly name: string
  readonly kind: Kind
  readonly base: 'squashfs' | 'bare squashfs' | 'raw'
  readonly staged: boolean
}

export const METHODS: readonly Method[] = [
  { name: 'beside, posix', kind: 'posix', base: 'squashfs', staged: false },
  { name: 'beside, FAT', kind: 'fat', base: 'bare squashfs', staged: false },
  { name: 'staged, posix', kind: 'posix', base: 'bare squashfs', staged: true },
  { name: 'staged, FAT', kind: 'fat', base: 'bare squashfs', staged: true },
  { name: 'raw base, posix', kind: 'posix', base: 'raw', staged: false },
  { name: 'raw base, FAT', kind: 'fat', base: 'raw', staged: false },
]

export const BARE: Method = { name: 'beside, posix', kind: 'posix', base: 'bare squashfs', staged: false }

/** A stick of which a refresh was recorded. */
export interface Recorded {
  readonly method: Method
  readonly stick: SmallStick
  readonly base: string
  readonly stage: string
  readonly live: string
  readonly initial: Medium['folders'][number]['files'][]
  readonly log: Step[]
}

/** Runs a refresh of what lies there now and gives its steps. */
export const refresh = async (
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
export const record = async (dir: string, method: Method, faults: Faults = {}): Promise<Recorded> => {
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

export const cutsOf = ({ initial, log, method }: Recorded): Generator<Medium> =>
  powerCuts(initial, log, method.kind, seed)

export const place = ({ live, stage }: Recorded, medium: Medium): Promise<void> => placeAt([live, stage], medium)

export const stepIn = (medium: Medium, base: string): string | undefined =>
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
export const checkEnd = async ({ stick, live, stage, base }: Recorded): Promise<string | undefined> => {
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

export const isDone = (error: unknown): boolean =>
  isLiveError(error) && error.code === 'USAGE' && error.message.includes('nothing to merge')

/** Runs a refresh to its end, on FAT after a refusal and either repair. Gives what is wrong. */
export const rerun = (
  recorded: Recorded,
  medium: Medium,
  options: RefreshOptions,
  check: () => Promise<Wrong>,
): Promise<Wrong> => {
  const { method, live, stage } = recorded
  return endOn(medium, {
    kind: method.kind,
    paths: [live, stage],
    run: () => refresh(recorded, options),
    check,
    isDone,
  })
}

export const finish = (recorded: Recorded, medium: Medium): Promise<Wrong> =>
  rerun(recorded, medium, {}, () => checkEnd(recorded))

/** Judges the media of a recorded refresh: right after the cut, and after a second run. */
export const judge = (
  recorded: Recorded,
  media: Iterable<Medium> = cutsOf(recorded),
  known: Set<string> = new Set(),
  options: { most?: number; share?: number } = {},
): ReturnType<typeof judgeMedia> =>
  judgeMedia(media, {
    ...options,
    seed,
    known,
    stepIn: medium => stepIn(medium, recorded.base),
    tryOut: async medium => {
      await place(recorded, medium)
      return (await look(recorded, medium)) ?? (await finish(recorded, medium))
    },
  })

/** Media of which one is taken for each step of the state file and each set of names, by the seed. */
export const oneOfEach = (media: Iterable<Medium>, base: string): Medium[] =>
  oneOfEachStep(
    media,
    medium => stepIn(medium, base),
    alike => alike[below(alike.length)]!,
  )
