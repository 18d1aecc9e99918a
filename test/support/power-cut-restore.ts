import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Folder } from '../../src/host/folder.js'
import { planBackup, runBackup } from '../../src/ops/backup.js'
import { planRestore, type RestoreOutcome, runRestore } from '../../src/ops/restore.js'
import { contentOf, type Faults, type Kind, type Medium, powerCuts, recordingFolder, type Step } from './power-cut.js'
import { endOn, judgeMedia, oneOfEach as oneOfEachStep, placeAt, type Wrong } from './power-cut-judge.js'
import { random } from './random.js'
import { bytesOf, CHUNK, finished, OVERLAY, smallStick } from './small-stick.js'
import { storeOf } from './store-writer.js'

const { seed } = random()

export { seed }

const CONFIG = 'default one\nlabel one\n  kernel vmlinuz\n  append root=live:LABEL=LIVE rd.live.image\n'

/** A stick of which a restore was recorded: folder 0 holds the system, folder 1 the boot configuration. */
export interface Recorded {
  readonly kind: Kind
  readonly path: string
  readonly folders: readonly [string, string]
  readonly archive: string
  /** what the files are before and after, by their folder and name */
  readonly files: ReadonlyMap<string, { readonly old: Uint8Array | undefined; readonly fresh: Uint8Array }>
  readonly initial: Medium['folders'][number]['files'][]
  readonly log: Step[]
}

const put = async (path: string, bytes: Uint8Array | string | undefined): Promise<void> => {
  if (bytes === undefined) await rm(path, { force: true })
  else await writeFile(path, bytes)
}

/** Runs a restore of what lies there now and gives its steps. */
export const restore = async (
  { path, folders, archive, kind }: Pick<Recorded, 'path' | 'folders' | 'archive' | 'kind'>,
  faults: Faults = {},
  before?: (step: Step) => void,
  signal?: AbortSignal,
): Promise<{ log: Step[]; outcome: RestoreOutcome }> => {
  const log: Step[] = []
  const wrapFolder = (folder: Folder) =>
    recordingFolder(folder, folders.indexOf(folder.path), kind, log, faults, before)
  const input = { target: path }
  const plan = await planRestore(input, archive)
  return { outcome: await finished(runRestore(input, archive, plan, { wrapFolder, signal })), log }
}

/** Contents of the stick before, in the backup, and what a restore leaves out. */
export interface Contents {
  readonly overlay: { readonly old: boolean }
  readonly home: { readonly old: number | undefined; readonly fresh: number }
  readonly config: { readonly old: string | undefined; readonly fresh: string }
}

export const USUAL: Contents = {
  overlay: { old: true },
  home: { old: 3000, fresh: 9000 },
  config: { old: `${CONFIG}# changed\n`, fresh: CONFIG },
}

/** Files of no bytes, before or after. */
export const EMPTY: Contents = {
  overlay: { old: true },
  home: { old: 700, fresh: 0 },
  config: { old: '', fresh: CONFIG },
}

/** Nothing there before but the base. */
export const BARE: Contents = {
  overlay: { old: false },
  home: { old: undefined, fresh: 5000 },
  config: { old: undefined, fresh: CONFIG },
}

/** Makes a stick, a backup of it, changes the stick and records one whole restore. */
export const record = async (
  dir: string,
  kind: Kind,
  { overlay, home, config }: Contents = USUAL,
  faults: Faults = {},
): Promise<Recorded> => {
  const path = join(dir, 'stick')
  await smallStick(path, { raw: true })
  const folders = [join(path, 'LiveOS'), join(path, 'syslinux')] as const
  const [live, boot] = folders
  await mkdir(boot)
  await writeFile(join(boot, 'vmlinuz'), 'a kernel')
  const homeOf = (length: number | undefined, from: number) =>
    length === undefined ? undefined : bytesOf(from, length)
  await put(join(live, 'home.img'), homeOf(home.fresh, 5))
  await put(join(boot, 'syslinux.cfg'), config.fresh)
  const archive = join(dir, 'backup.tar.zst')
  await finished(runBackup({ target: path }, await planBackup({ target: path }, archive)))
  const read = async (): Promise<Map<string, Uint8Array | undefined>> => {
    const found = new Map<string, Uint8Array | undefined>()
    for (const file of [join(live, OVERLAY), join(live, 'home.img'), join(boot, 'syslinux.cfg')])
      found.set(
        file,
        await readFile(file)
          .then(bytes => new Uint8Array(bytes))
          .catch(() => undefined),
      )
    return found
  }
  const fresh = await read()
  await put(
    join(live, OVERLAY),
    overlay.old ? storeOf([{ oldChunk: 3, content: bytesOf(77, CHUNK) }], CHUNK / 512, 6) : undefined,
  )
  await put(join(live, 'home.img'), homeOf(home.old, 6))
  await put(join(boot, 'syslinux.cfg'), config.old)
  const old = await read()
  const initial = [await contentOf(live), await contentOf(boot)]
  const begun = { path, folders, archive, kind }
  const { log } = await restore(begun, faults)
  const files = new Map([...fresh].map(([file, bytes]) => [file, { old: old.get(file), fresh: bytes! }]))
  return { ...begun, files, initial, log }
}

export const place = ({ folders }: Recorded, medium: Medium): Promise<void> => placeAt(folders, medium)

/** The step that a medium's restore was in, and at which file. */
export const stepIn = (medium: Medium): string | undefined => {
  const state = Buffer.from(medium.folders[0]!.files.get('liveos-restore.state')?.subarray(0, 512) ?? []).toString()
  const step = /"step":"(\w+)","index":(\d+)/.exec(state)
  return step ? `${step[1]} ${step[2]}` : undefined
}

const isSame = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean =>
  a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0

/** What is wrong right after the cut: each file is the old or the new one, or on FAT on its way between two names. */
export const look = ({ folders, files, kind }: Recorded, medium: Medium): Wrong => {
  const step = stepIn(medium)
  const hasState = medium.folders[0]!.files.has('liveos-restore.state')
  const isSwapping = step !== undefined && !step.startsWith('writing')
  const kinds = new Set<string>()
  for (const [path, { old, fresh }] of files) {
    const index = folders.findIndex(folder => path.startsWith(folder))
    const { files: found } = medium.folders[index]!
    const name = path.slice(folders[index]!.length + 1)
    const now = found.get(name)
    if (isSame(now, old)) kinds.add('old')
    else if (isSame(now, fresh)) kinds.add('new')
    else if (now === undefined && kind === 'fat' && isSwapping && isSame(found.get(`${name}.new`), fresh)) {
      // the moment between the two renames: old and new are there
      if (!isSame(found.get(`${name}.old`), old)) return `${name} has no name, and .old is not whole`
    } else return `${name} is neither old nor new in step ${step}`
  }
  if (kinds.size > 1 && !hasState) return 'some are old and some new, and nothing says so'
  if (kinds.has('new') && hasState && !isSwapping) return `some are new in step ${step}`
  return undefined
}

/** What is wrong after a restore that should have ended. */
export const checkEnd = async ({ folders, files }: Recorded): Promise<Wrong> => {
  const names = (await Promise.all(folders.map(async folder => [...(await contentOf(folder)).keys()]))).flat()
  const wanted = [...files.keys()].map(path => path.split('/').at(-1)!)
  const expected = [...wanted, 'rootfs.img', 'vmlinuz'].sort()
  if (names.sort().join() !== expected.join()) return `there are ${names.join(', ')}`
  for (const [path, { fresh }] of files)
    if (!isSame(new Uint8Array(await readFile(path)), fresh)) return `${path} is not as in the backup`
  return undefined
}

/** Names that a restore has left behind. */
export const namesLeft = async ({ folders }: Recorded): Promise<string[]> =>
  (await Promise.all(folders.map(async folder => [...(await contentOf(folder)).keys()])))
    .flat()
    .filter(name => /\.(new|old|state)$/.test(name))

export const oneOfEach = (media: Iterable<Medium>): Medium[] => oneOfEachStep(media, stepIn)

/** Judges the media of a recorded restore. A second run takes its time; a look costs nothing, and each medium has one. */
export const judge = (
  recorded: Recorded,
  media: Iterable<Medium> = powerCuts(recorded.initial, recorded.log, recorded.kind, seed),
  options: { most?: number; share?: number } = {},
): ReturnType<typeof judgeMedia> =>
  judgeMedia(media, {
    ...options,
    seed,
    stepIn,
    look: medium => look(recorded, medium),
    tryOut: async medium => {
      await place(recorded, medium)
      return endOn(medium, {
        kind: recorded.kind,
        paths: recorded.folders,
        run: () => restore(recorded),
        check: () => checkEnd(recorded),
      })
    },
  })
