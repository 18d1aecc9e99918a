import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { exceptionOffset } from '../../src/block/snapshot/layout.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { LiveError } from '../../src/error.js'
import { openFolder } from '../../src/host/folder.js'
import { findTarget, type WritableTarget } from '../../src/liveos/target.js'
import { planRecover } from '../../src/ops/recover.js'
import { runRecover } from '../../src/ops/recover-run.js'
import { planUndo, runUndo } from '../../src/ops/undo.js'
import { changesBetween } from '../support/overlay-stack.js'
import {
  type Content,
  contentOf,
  type Faults,
  hashOf,
  KINDS,
  type Kind,
  layOut,
  type Medium,
  powerCuts,
  recordingFolder,
  type Step,
  turns,
} from '../support/power-cut.js'
import { random } from '../support/random.js'
import { layPair, type Pair, recovered, takenBack } from '../support/recovering.js'
import { bytesOf, finished } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'
import { needTools, tool } from '../support/tools.js'

const { it, describe } = needTools('mke2fs', 'e2fsck')
const path = temporary({ memory: true })
const run = promisify(execFile)
const CHUNK = 512
const OVERLAY = 'overlay'

// The same input gives the same repair, to the byte.
const before = process.env.E2FSCK_TIME
beforeAll(() => {
  process.env.E2FSCK_TIME = '1700000000'
})
afterAll(() => {
  if (before === undefined) delete process.env.E2FSCK_TIME
  else process.env.E2FSCK_TIME = before
})

/**
 * A small ext2, and an overlay that spoils its counts, bitmaps and a link count: what the checker repairs lies in chunks that
 * the overlay has, and in others. It also holds free blocks that nobody reads, so that its list has several areas.
 */
const laid = async (name: string, damage: (overlay: Uint8Array) => Uint8Array): Promise<Pair> => {
  const image = await path(`${name}.img`)
  const words = '-q -t ext2 -b 1024 -I 128 -N 128 -E lazy_itable_init=0 -U 00000000-0000-0000-0000-000000000001'
  await run(tool('mke2fs')!, [...words.split(' '), image, '1m'])
  const base = new Uint8Array(await readFile(image))
  const spoilt = base.slice()
  const view = new DataView(spoilt.buffer)
  view.setUint32(1024 + 12, 7, true)
  view.setUint16(1024 + 58, 2, true)
  const group = new DataView(base.buffer, 2048)
  const [blockBitmap, inodeBitmap, inodeTable] = [0, 4, 8].map(at => group.getUint32(at, true) * 1024)
  for (const at of [40, 70, 100]) spoilt[blockBitmap! + at] = 0xff
  spoilt[inodeBitmap! + 9] = 0x3c
  view.setUint16(inodeTable! + 10 * 128 + 26, 5, true)
  const changes = [
    ...changesBetween(base, spoilt, CHUNK),
    ...Array.from({ length: 66 }, (_, n) => ({ oldChunk: 1400 + 2 * n, content: bytesOf(n, CHUNK) })),
  ]
  return layPair(await path(name), base, damage(storeOf(changes, CHUNK / 512, 0)))
}

const recording = (
  target: WritableTarget,
  folder: NonNullable<WritableTarget['overlay']>['folder'],
): WritableTarget => ({
  ...target,
  overlay: { ...target.overlay!, folder },
})

/** SHA-1 of the view, or why there is none. */
const viewIn = async (files: Content): Promise<string> => {
  try {
    const view = await snapshot(memory(files.get('rootfs.img')!, 'base'), memory(files.get(OVERLAY)!, 'overlay'))
    return hashOf(await view.read(0, view.size))
  } catch (error) {
    return error instanceof LiveError ? error.code : String(error)
  }
}

interface Recorded {
  readonly pair: Pair
  readonly log: Step[]
  readonly initial: Content
  /** the overlay before, its view, and the view after */
  readonly old: string
  readonly oldView: string
  readonly newView: string
  readonly size: number
}

/** Runs a recovery with all its steps recorded. */
const record = async (
  name: string,
  kind: Kind,
  damage: (overlay: Uint8Array) => Uint8Array,
  faults: Faults = {},
): Promise<Recorded> => {
  const pair = await laid(name, damage)
  const initial = await contentOf(pair.path)
  const size = initial.get(OVERLAY)!.length + 40 * CHUNK
  const log: Step[] = []
  const target = recording(
    await findTarget(pair.input),
    recordingFolder(await openFolder(pair.path), 0, kind, log, faults),
  )
  const done = await finished(runRecover(target, await planRecover(target, { size, fsckOn: 'copy' })))
  expect(done).toMatchObject({ changed: true, fsck: { code: 1 } })
  return {
    pair,
    log,
    initial,
    old: hashOf(initial.get(OVERLAY)!),
    oldView: await viewIn(initial),
    newView: await viewIn(await contentOf(pair.path)),
    size,
  }
}

/** True where a boot after this cut sees the old state, the new one, or an overlay that the kernel refuses. */
const isSafe = async ({ files }: Medium['folders'][number], { old, oldView, newView }: Recorded): Promise<boolean> => {
  const overlay = files.get(OVERLAY)
  if (!overlay) return false
  if (hashOf(overlay) === old) return true
  const refused = Buffer.from(overlay.subarray(0, 8)).equals(Buffer.from('536e417000000000', 'hex'))
  if (refused) return files.has(`${OVERLAY}.undo`)
  const view = await viewIn(files)
  // what is only longer by anything shows what it did before
  return view === newView || view === oldView
}

/** Media of a log, and how many of them a boot would see half done. */
const cutsOf = async (
  recorded: Recorded,
  kind: Kind,
  log = recorded.log,
): Promise<{ media: Medium[]; torn: number }> => {
  const media = [...powerCuts([recorded.initial], log, kind)]
  let torn = 0
  for (const medium of media) if (!(await isSafe(medium.folders[0]!, recorded))) torn++
  return { media, torn }
}

const tear = (overlay: Uint8Array): Uint8Array => {
  overlay.fill(0xa5, exceptionOffset(50, CHUNK), exceptionOffset(50, CHUNK) + 40)
  return overlay
}
const invalidate = (overlay: Uint8Array): Uint8Array => {
  overlay[4] = 0
  return overlay
}
/** The second list is full, and the file ends before the third. */
const cutOff = (overlay: Uint8Array): Uint8Array => overlay.subarray(0, 66 * CHUNK)

const DAMAGES = [
  ['full', (overlay: Uint8Array) => overlay],
  ['invalid', invalidate],
  ['torn', tear],
  ['cut off', cutOff],
] as const
const SHARE = 3
const { seed } = random()

describe('a power cut in the middle of a recovery', () => {
  for (const kind of KINDS)
    for (const [damage, spoil] of DAMAGES)
      it(`${kind}, ${damage}: a boot sees the old overlay, the new one or one that it refuses; undo and recover end it`, async () => {
        const recorded = await record(`${kind}-${damage}`, kind, spoil)
        const { media, torn } = await cutsOf(recorded, kind)
        console.log(`recover, ${kind}, ${damage}: ${media.length} states`)
        expect(torn).toBe(0)
        expect(media.length).toBeGreaterThan(40)
        const { pair, old, newView, size } = recorded
        const isUndone = turns(SHARE, seed)
        let undone = 0
        for (const medium of media) {
          if (!isUndone()) continue
          const { files } = medium.folders[0]!
          if (!files.has(`${OVERLAY}.undo`)) continue
          await layOut(pair.path, medium.folders[0]!)
          await takenBack(pair)
          const now = await contentOf(pair.path)
          expect(hashOf(now.get(OVERLAY)!), `cut ${medium.cut}`).toBe(old)
          expect([...now.keys()]).toEqual([OVERLAY, 'rootfs.img'])
          undone++
        }
        expect(undone).toBeGreaterThan(8)
        const isRecovered = turns(3 * SHARE, seed)
        for (const medium of media) {
          if (!isRecovered()) continue
          await layOut(pair.path, medium.folders[0]!)
          await recovered(pair, { size })
          const now = await contentOf(pair.path)
          expect(await viewIn(now), `seed ${seed}, cut ${medium.cut}`).toBe(newView)
          expect(now.get(OVERLAY)!.length).toBe(size)
          if (now.has(`${OVERLAY}.undo`)) {
            await takenBack(pair)
            expect([...(await contentOf(pair.path)).keys()]).toEqual([OVERLAY, 'rootfs.img'])
          }
        }
      }, 120_000)
})

/** The same for an undo of a finished recovery. */
const recordUndo = async (name: string, kind: Kind, faults: Faults = {}) => {
  const recorded = await record(name, kind, tear)
  const initial = await contentOf(recorded.pair.path)
  const log: Step[] = []
  const target = recording(
    await findTarget(recorded.pair.input),
    recordingFolder(await openFolder(recorded.pair.path), 0, kind, log, faults),
  )
  await finished(runUndo(target, await planUndo(target)))
  return { ...recorded, initial, log }
}

describe('a power cut in the middle of an undo', () => {
  for (const kind of KINDS)
    it(`${kind}: a second undo, or a recovery, ends it`, async () => {
      const recorded = await recordUndo(`undo-${kind}`, kind)
      const { media, torn } = await cutsOf(recorded, kind)
      console.log(`undo, ${kind}: ${media.length} states`)
      expect(torn).toBe(0)
      const { pair, old, newView, size } = recorded
      const isRecovered = turns(3 * SHARE, seed)
      for (const medium of media) {
        await layOut(pair.path, medium.folders[0]!)
        if (medium.folders[0]!.files.has(`${OVERLAY}.undo`)) {
          await takenBack(pair)
          expect(hashOf((await contentOf(pair.path)).get(OVERLAY)!)).toBe(old)
        }
        if (!isRecovered()) continue
        await layOut(pair.path, medium.folders[0]!)
        await recovered(pair, { size })
        expect(await viewIn(await contentOf(pair.path))).toBe(newView)
      }
    }, 120_000)
})

describe('errors', () => {
  for (const kind of KINDS)
    it(`${kind}: at each step, of the medium or for want of space, the overlay is as it was, or recovered, or undo restores it`, async () => {
      const recorded = await record(`errors-${kind}`, kind, tear)
      const { pair, initial, old, newView, log, size } = recorded
      const isTried = turns(SHARE, seed)
      for (const code of ['IO', 'NO_SPACE'] as const)
        for (let at = 0; at < log.length; at++)
          for (const lasting of at % 3 === 0 ? [false, true] : [false]) {
            if (!isTried()) continue
            await layOut(pair.path, { files: initial, shared: [] })
            let n = -1
            const failing = recordingFolder(await openFolder(pair.path), 0, kind, [], {}, () => {
              n++
              if (n === at || (lasting && n > at)) throw new LiveError(code, 'no more')
            })
            const target = recording(await findTarget(pair.input), failing)
            const error = await finished(runRecover(target, await planRecover(target, { size, fsckOn: 'copy' }))).then(
              () => undefined,
              (failure: unknown) => failure,
            )
            expect(error, `step ${at}`).toBeInstanceOf(LiveError)
            const now = await contentOf(pair.path)
            const words = `${code} at step ${at}${lasting ? ' and later' : ''}`
            if (!lasting) expect(hashOf(now.get(OVERLAY)!), words).toBe(old)
            if (now.has(`${OVERLAY}.undo`)) {
              await takenBack(pair)
              expect(hashOf((await contentOf(pair.path)).get(OVERLAY)!), words).toBe(old)
            } else expect(hashOf(now.get(OVERLAY)!) === old || (await viewIn(now)) === newView, words).toBe(true)
          }
    }, 120_000)
})

describe('the test can fail', () => {
  it('without flushes, pages are lost that were not saved', async () => {
    const recorded = await record('no-flush', 'posix', tear)
    expect(
      (
        await cutsOf(
          recorded,
          'posix',
          recorded.log.filter(({ kind }) => kind !== 'flush'),
        )
      ).torn,
    ).toBeGreaterThan(0)
  })

  it('without the flush of the journal before the first write', async () => {
    const recorded = await record('no-journal-flush', 'posix', tear)
    let seen = 0
    const log = recorded.log.filter(step => !(step.kind === 'flush' && step.name.endsWith('.undo') && seen++ > 0))
    const media = [...powerCuts([recorded.initial], log, 'posix')]
    let wrong = 0
    for (const medium of media) {
      if (wrong > 0) break
      const { files } = medium.folders[0]!
      if (!files.has(`${OVERLAY}.undo`) || hashOf(files.get(OVERLAY)!) === recorded.old) continue
      await layOut(recorded.pair.path, medium.folders[0]!)
      const failed = await takenBack(recorded.pair).then(
        () => false,
        () => true,
      )
      if (failed || hashOf((await contentOf(recorded.pair.path)).get(OVERLAY)!) !== recorded.old) wrong++
    }
    expect(wrong).toBeGreaterThan(0)
  })

  it('without the name of the journal on the medium', async () => {
    const recorded = await record('no-sync', 'posix', tear)
    expect(
      (
        await cutsOf(
          recorded,
          'posix',
          recorded.log.filter(({ kind }) => kind !== 'sync'),
        )
      ).torn,
    ).toBeGreaterThan(0)
  })

  it('without the hold a boot sees a list that is half repaired', async () => {
    const recorded = await record('no-hold', 'posix', tear)
    const log = recorded.log.filter(
      step => !(step.kind === 'write' && step.name === OVERLAY && step.offset === 0 && step.bytes.length === 16),
    )
    expect((await cutsOf(recorded, 'posix', log)).torn).toBeGreaterThan(0)
  })
})
