import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openFile } from '../../src/block/file.js'
import { readStore } from '../../src/block/snapshot/store.js'
import type { Folder } from '../../src/host/folder.js'
import { type CompactOptions, type CompactOutcome, planCompact, runCompact } from '../../src/ops/compact.js'
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
import { endOn, judgeMedia, oneOfEach as oneOfEachStep, placeAt } from './power-cut-judge.js'
import { random } from './random.js'
import { bytesOf, CHUNK, finished, OVERLAY, type SmallStick, sha256, smallStick, viewOf } from './small-stick.js'
import { storeOf } from './store-writer.js'

const { seed } = random()

export { seed }

/** A way in which a compaction can go. */
export interface Method {
  readonly name: string
  readonly kind: Kind
  readonly staged: boolean
}

export const METHODS: readonly Method[] = [
  { name: 'beside, posix', kind: 'posix', staged: false },
  { name: 'beside, FAT', kind: 'fat', staged: false },
  { name: 'staged, posix', kind: 'posix', staged: true },
  { name: 'staged, FAT', kind: 'fat', staged: true },
]

/** A stick of which a compaction was recorded. */
export interface Recorded {
  readonly method: Method
  readonly stick: SmallStick
  readonly live: string
  readonly stage: string
  readonly initial: Medium['folders'][number]['files'][]
  readonly log: Step[]
}

/** chunks that differ from the base, and such as equal it */
const CHANGED = [44, 1, 20, 2, 33, 9]
const EQUAL = [7, 30, 3]
export const KEPT = CHANGED.length

/** A stick whose overlay holds what a compaction drops. */
export const staleStick = async (path: string): Promise<SmallStick> => {
  const { root, ...stick } = await smallStick(path, { raw: true })
  const merged = root.slice()
  const changes = [...CHANGED, ...EQUAL].map((oldChunk, n) => {
    const content = EQUAL.includes(oldChunk)
      ? root.slice(oldChunk * CHUNK, (oldChunk + 1) * CHUNK)
      : bytesOf(200 + n, CHUNK)
    merged.set(content, oldChunk * CHUNK)
    return { oldChunk, content }
  })
  // not in their order, and with what is dropped between what stays
  changes.sort((a, b) => (a.content[0]! % 7) - (b.content[0]! % 7))
  await writeFile(join(path, 'LiveOS', OVERLAY), storeOf(changes, CHUNK / 512, 8))
  return { ...stick, root, merged }
}

/** Runs a compaction of what lies there now and gives its steps. */
export const compact = async (
  { stick, live, method }: Pick<Recorded, 'stick' | 'live' | 'method'>,
  options: CompactOptions = {},
  faults: Faults = {},
  before?: (step: Step) => void,
): Promise<{ log: Step[]; outcome: CompactOutcome }> => {
  const log: Step[] = []
  const wrapFolder = (folder: Folder) =>
    recordingFolder(folder, folder.path === live ? 0 : 1, method.kind, log, faults, before)
  const plan = await planCompact({ target: stick.path }, options, { wrapFolder })
  return { outcome: await finished(runCompact({ target: stick.path }, plan, { wrapFolder })), log }
}

/** Makes a stick and records one whole compaction of it. */
export const record = async (dir: string, method: Method, faults: Faults = {}): Promise<Recorded> => {
  const stick = await staleStick(join(dir, 'stick'))
  const live = join(stick.path, 'LiveOS')
  const stage = join(dir, 'stage')
  await mkdir(stage)
  const initial = [await contentOf(live), await contentOf(stage)]
  const { log } = await compact({ stick, live, method }, method.staged ? { stage } : {}, faults)
  return { method, stick, live, stage, initial, log }
}

export const place = ({ live, stage }: Recorded, medium: Medium): Promise<void> => placeAt([live, stage], medium)

export const stepIn = (medium: Medium): string | undefined =>
  /"step":"(\w+)"/.exec(
    Buffer.from(medium.folders[0]!.files.get(`compact-${OVERLAY}.state`)?.subarray(0, 512) ?? []).toString(),
  )?.[1]

const views = new Map<string, Promise<string>>()

/** What is wrong with a medium right after the cut; undefined where base and overlay show what they did. */
export const look = async ({ stick, method }: Recorded, medium: Medium): Promise<string | undefined> => {
  const { files, shared } = medium.folders[0]!
  const overlay = files.get(OVERLAY)
  const step = stepIn(medium)
  if (!overlay) {
    // the windows in which a boot finds no overlay: staged, or between the two renames of FAT
    const isWindow =
      (method.staged && (step === 'rewriting' || step === 'swapping')) ||
      (method.kind === 'fat' && (step === 'swapping' || step === 'naming'))
    return isWindow ? undefined : `no overlay in step ${step}`
  }
  if (
    shared.length > 0 &&
    method.kind === 'posix' &&
    [...shared[0]!].sort().join() !== [OVERLAY, `${OVERLAY}.old`].join()
  )
    return `one file as ${shared[0]!.join()}`
  const key = hashOf(overlay)
  const view = views.get(key) ?? viewOf({ target: stick.path }).catch(String)
  views.set(key, view)
  return (await view) === sha256(stick.merged) ? undefined : `another view: ${await view}`
}

/** What is wrong after a compaction that should have ended. */
export const checkEnd = async (
  { stick, live, stage }: Recorded,
  expected: string = sha256(stick.merged),
  kept: number | null = KEPT,
): Promise<string | undefined> => {
  const names = [...(await contentOf(live)).keys(), ...(await contentOf(stage)).keys()]
  if (names.join() !== [OVERLAY, 'rootfs.img'].join()) return `left behind: ${names.join(', ')}`
  const overlay = await openFile(join(live, OVERLAY))
  const { exceptions } = await readStore(overlay).finally(() => overlay.close())
  if (kept !== null && exceptions.count !== kept) return `${exceptions.count} chunks`
  const view = await viewOf({ target: stick.path }).catch(String)
  return view === expected ? undefined : `another view after the second run: ${view}`
}

export const oneOfEach = (media: Iterable<Medium>): Medium[] => oneOfEachStep(media, stepIn)

/** Judges the media of a recorded compaction: right after the cut, and after a second run. */
export const judge = (
  recorded: Recorded,
  media: Iterable<Medium> = powerCuts(recorded.initial, recorded.log, recorded.method.kind, seed),
  options: { most?: number; share?: number } = {},
): ReturnType<typeof judgeMedia> =>
  judgeMedia(media, {
    ...options,
    seed,
    stepIn,
    tryOut: async medium => {
      await place(recorded, medium)
      const { method, live, stage } = recorded
      const again = { kind: method.kind, paths: [live, stage], run: () => compact(recorded) }
      return (await look(recorded, medium)) ?? endOn(medium, { ...again, check: () => checkEnd(recorded) })
    },
  })
