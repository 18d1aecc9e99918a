import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { isLiveError } from '../../src/error.js'
import { openReplayed } from '../../src/fs/ext4/journal/replayed.js'
import { openExt4 } from '../../src/fs/ext4/reader.js'
import type { Folder } from '../../src/host/folder.js'
import { openMergedRoot } from '../../src/liveos/merged-root.js'
import { openStack } from '../../src/liveos/stack.js'
import { findTarget } from '../../src/liveos/target.js'
import { planRefresh } from '../../src/ops/refresh.js'
import { type RefreshOutcome, runRefresh } from '../../src/ops/refresh-run.js'
import { debugfs, makeExt4, run } from '../support/ext4-images.js'
import { checked, faultsIn, layStick, storeBetween } from '../support/ext4-stick.js'
import {
  contentOf,
  hashOf,
  interleaved,
  type Kind,
  layOut,
  type Medium,
  powerCuts,
  recordingFolder,
  type Step,
  turns,
} from '../support/power-cut.js'
import { random } from '../support/random.js'
import { finished, OVERLAY, sha256 } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { it, describe: judged } = needTools('mke2fs', 'debugfs', 'e2fsck', 'mksquashfs')
const path = temporary({ memory: true })
const { seed, bytes } = random()
let count = 0

const LATE = bytes(40_000)
const BLOCK = 1024

/**
 * A base, and the image that an overlay makes of it: cut while mounted. A file was removed before; another is whole, but its
 * inode, its directory and the bitmaps are in the journal alone, so that the bitmaps in place still call its blocks free.
 */
const cutImages = async (): Promise<{ base: Uint8Array; cut: Uint8Array; lateAt: number }> => {
  const tree = await path(`tree${count}`)
  await mkdir(tree)
  await writeFile(join(tree, 'gone'), bytes(150_000))
  await writeFile(join(tree, 'stays'), bytes(50_000))
  const options = ['-t', 'ext4', '-b', String(BLOCK), '-J', 'size=1', '-N', '64', '-O', '^resize_inode']
  const image = await makeExt4(await path(`fs${count++}`), 3, options, tree)
  const base = new Uint8Array(await readFile(image))
  await debugfs(image, ['rm gone'], true)
  const before = new Uint8Array(await readFile(image))
  const late = `${image}.late`
  await writeFile(late, LATE)
  await debugfs(image, [`write ${late} late`], true)
  const after = new Uint8Array(await readFile(image))
  const blocks = await run('debugfs', ['-R', 'blocks late', image])
  const data = new Set(blocks.trim().split(/\s+/).map(Number))
  await writeFile(image, before)
  const logged: string[] = []
  const contents: Uint8Array[] = []
  for (let block = 2; block * BLOCK < after.length; block++) {
    const content = after.subarray(block * BLOCK, (block + 1) * BLOCK)
    if (Buffer.compare(content, before.subarray(block * BLOCK, (block + 1) * BLOCK)) === 0) continue
    if (data.has(block)) before.set(content, block * BLOCK)
    else {
      logged.push(String(block))
      contents.push(content)
    }
  }
  expect(logged.length).toBeGreaterThan(3)
  await writeFile(image, before)
  await writeFile(`${image}.log`, Buffer.concat(contents))
  await debugfs(image, ['journal_open', `journal_write -b ${logged.join(',')} ${image}.log`, 'journal_close'], true)
  const cut = new Uint8Array(await readFile(image))
  const { replayed } = await openReplayed(memory(cut))
  expect(replayed).toMatchObject({ needsRecovery: true, transactions: 1, blocks: logged.length })
  return { base, cut, lateAt: Math.min(...data) * BLOCK }
}

interface Method {
  readonly name: string
  readonly kind: Kind
  readonly blockSize: number | undefined
}

const METHODS: readonly Method[] = [
  { name: 'squashed base, posix', kind: 'posix', blockSize: 16_384 },
  { name: 'raw base, FAT', kind: 'fat', blockSize: undefined },
]

interface Recorded {
  readonly method: Method
  readonly stick: string
  readonly live: string
  readonly base: string
  readonly initial: Medium['folders'][number]['files']
  readonly log: readonly Step[]
  /** SHA-256 of the merged root as it was before */
  readonly view: string
  readonly lateAt: number
}

/** The root as a boot would show it: journal replayed, free blocks left out. What it says besides must be nothing but the replay. */
const shown = async (stick: string): Promise<string> => {
  const stack = await openStack(await findTarget({ target: stick }), { threads: 1 })
  try {
    const { device, findings } = await openMergedRoot(stack.root, { store: stack.overlay?.store })
    const codes = findings.map(({ code }) => code).filter(code => code !== 'JOURNAL_REPLAYED')
    const fs = await openExt4(device)
    const late = await fs.open('/late')
    if (Buffer.compare(await late.read(0, late.size), LATE) !== 0) codes.push('the last file is not whole')
    return [sha256(await device.read(0, device.size)), ...codes].join(' ')
  } finally {
    await stack.close()
  }
}

const refresh = async (stick: string, kind: Kind): Promise<{ log: Step[]; outcome: RefreshOutcome }> => {
  const log: Step[] = []
  const wrapFolder = (folder: Folder) => recordingFolder(folder, 0, kind, log)
  const plan = await planRefresh({ target: stick }, {})
  return { outcome: await finished(runRefresh({ target: stick }, plan, { wrapFolder })), log }
}

const record = async (method: Method): Promise<Recorded> => {
  const { base, cut, lateAt } = await cutImages()
  const stick = await layStick(await path(`stick${count++}`), base, storeBetween(base, cut), {
    blockSize: method.blockSize,
    bare: true,
  })
  const live = join(stick, 'LiveOS')
  const initial = await contentOf(live)
  const view = await shown(stick)
  expect(view).toMatch(/^[0-9a-f]{64}$/)
  const { log, outcome } = await refresh(stick, method.kind)
  expect(outcome.findings.map(({ code }) => code)).toEqual(['JOURNAL_REPLAYED'])
  expect(outcome.overlayReset).toBe(true)
  return { method, stick, live, base: method.blockSize ? 'squashfs.img' : 'rootfs.img', initial, log, view, lateAt }
}

const views = new Map<string, Promise<string>>()
const sound = new Map<string, Promise<readonly string[]>>()
const once = <T>(known: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> => {
  const value = known.get(key) ?? make()
  known.set(key, value)
  return value
}

const stepOf = ({ folders }: Medium, base: string): string | undefined =>
  /"step":"(\w+)"/.exec(Buffer.from(folders[0]!.files.get(`${base}.refresh`)?.subarray(0, 512) ?? []).toString())?.[1]

/** The view of what lies there, known for what was seen before. */
const viewOf = async ({ stick, base }: Recorded, files: Medium['folders'][number]['files']): Promise<string> =>
  once(views, hashOf(files.get(base)!) + hashOf(files.get(OVERLAY)!), () => shown(stick).catch(String))

/** What e2fsck finds in the root of a base that was refreshed. */
const faultsOf = async ({ stick }: Recorded): Promise<readonly string[]> => {
  const stack = await openStack(await findTarget({ target: stick }), { threads: 1 })
  try {
    const image = await path(`checked${count++}`)
    await writeFile(image, await stack.root.read(0, stack.root.size))
    return faultsIn(await checked(image))
  } finally {
    await stack.close()
  }
}

/** What is wrong with a medium: right after the cut, or after a second run. */
const judge = async (recorded: Recorded, medium: Medium): Promise<string | undefined> => {
  const { stick, live, base, method, view } = recorded
  const [{ files }] = medium.folders as [Medium['folders'][number]]
  await layOut(live, medium.folders[0]!)
  if (files.has(base)) {
    const found = await viewOf(recorded, files)
    if (found !== view) return `another view: ${found}`
  } else if (method.kind === 'posix' || stepOf(medium, base) !== 'swapping')
    return `no base in step ${stepOf(medium, base)}`
  try {
    const { outcome } = await refresh(stick, method.kind)
    if (!outcome.overlayReset) return 'the overlay was kept'
  } catch (error) {
    if (!isLiveError(error) || !error.message.includes('nothing to merge')) return `second run: ${String(error)}`
  }
  const now = await contentOf(live)
  if ([...now.keys()].join() !== [OVERLAY, base].sort().join()) return `left behind: ${[...now.keys()].join()}`
  const found = await viewOf(recorded, now)
  if (found !== view) return `another view after the second run: ${found}`
  const faults = await once(sound, hashOf(now.get(base)!), () => faultsOf(recorded))
  return faults.length > 0 ? faults.join('; ') : undefined
}

/** All that is wrong with the media that a cut could leave from a step on, at most two; and how many were looked at. */
const judgeAll = async (
  recorded: Recorded,
  log: readonly Step[],
  from = 0,
): Promise<{ wrong: string[]; states: number }> => {
  const wrong: string[] = []
  // what was changed on purpose is looked for until it is found
  const isTried = turns(from > 0 ? 1 : 3, seed)
  const media = () => powerCuts([recorded.initial], log, recorded.method.kind, seed, from)
  let states = 0
  for (const medium of interleaved(media, from > 0 ? 8 : 1)) {
    // two names on one chain are the business of test/crash/refresh.test.ts
    if (recorded.method.kind === 'fat' && medium.folders[0]!.shared.length > 0) continue
    states++
    if (!isTried()) continue
    const found = await judge(recorded, medium)
    if (found) wrong.push(`cut after ${medium.cut} of ${log.length} steps (${stepOf(medium, recorded.base)}): ${found}`)
    if (wrong.length > 1) break
  }
  return { wrong, states }
}

judged(`a power cut at any step of a refresh of an ext4 that was cut itself (seed ${seed})`, () => {
  for (const method of METHODS)
    it(`${method.name}: old and new base show the same, and a second run finishes`, async () => {
      const recorded = await record(method)
      const { wrong, states } = await judgeAll(recorded, recorded.log)
      console.log(`${method.name}: ${recorded.log.length} steps, ${states} states, seed ${seed}`)
      expect(wrong).toEqual([])
      expect(states).toBeGreaterThan(25)
    })
})

judged('the test can fail', () => {
  const isNew = (step: Step): step is Extract<Step, { kind: 'write' }> =>
    step.kind === 'write' && step.name.endsWith('.new')

  it('the new base is trimmed by the bitmaps that the journal replaces', async () => {
    const recorded = await record({ name: 'raw base, posix', kind: 'posix', blockSize: undefined })
    const { log, lateAt } = recorded
    const trimmed = log.map(step => {
      if (!isNew(step) || step.offset > lateAt || step.offset + step.bytes.length <= lateAt) return step
      const copy = step.bytes.slice()
      copy.fill(0, lateAt - step.offset, lateAt - step.offset + BLOCK)
      return { ...step, bytes: copy }
    })
    const { wrong } = await judgeAll(
      recorded,
      trimmed,
      log.findIndex(step => step.kind === 'link'),
    )
    console.log(wrong[0])
    expect(wrong.length).toBeGreaterThan(0)
  })

  it('the overlay is emptied before the new base has its name', async () => {
    const recorded = await record(METHODS[0]!)
    const { log } = recorded
    const clearing = log.findIndex(step => step.kind === 'write' && step.name === OVERLAY)
    const swap = log.findIndex(step => step.kind === 'link')
    const moved = log.slice(clearing, clearing + 2)
    const wrongOrder = [...log.slice(0, swap), ...moved, ...log.slice(swap, clearing), ...log.slice(clearing + 2)]
    expect((await judgeAll(recorded, wrongOrder, swap)).wrong.length).toBeGreaterThan(0)
  })
})
