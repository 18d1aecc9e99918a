import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { exceptionOffset } from '../../src/block/snapshot/layout.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { LiveError } from '../../src/error.js'
import { findTarget, type WritableTarget } from '../../src/liveos/target.js'
import { planRecover } from '../../src/ops/recover.js'
import { runRecover } from '../../src/ops/recover-run.js'
import { clearOverlay, planReset, runReset } from '../../src/ops/reset.js'
import { planUndo, runUndo } from '../../src/ops/undo.js'
import { type Laid, splitImage, writePartitions } from '../support/partitioned.js'
import {
  type Content,
  type Faults,
  hashOf,
  KINDS,
  type Kind,
  powerCuts,
  recordingFolder,
  type Step,
} from '../support/power-cut.js'
import { bytesOf, finished } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
const CHUNK = 512
const PART = 'stick.img.partition2'
const ROOT = bytesOf(1, 200 * CHUNK)
const OTHER = bytesOf(2, 3 * CHUNK)

/** Marked invalid, and torn in its second list. */
const damaged = (): Uint8Array => {
  const bytes = storeOf(
    Array.from({ length: 60 }, (_, n) => ({ oldChunk: 3 * n, content: bytesOf(10 + n, CHUNK) })),
    CHUNK / 512,
    40,
  )
  bytes[4] = 0
  bytes.fill(0xa5, exceptionOffset(50, CHUNK), exceptionOffset(50, CHUNK) + 40)
  return bytes
}

interface Disk {
  readonly dir: string
  readonly image: string
  readonly part: Laid
  readonly target: () => Promise<WritableTarget>
}

const disk = async (name: string): Promise<Disk> => {
  const dir = await path(name)
  await mkdir(dir)
  const image = join(dir, 'stick.img')
  const [, part] = await writePartitions(image, [OTHER, damaged(), OTHER])
  await writeFile(join(dir, 'rootfs.img'), ROOT)
  return { dir, image, part: part!, target: () => findTarget({ base: join(dir, 'rootfs.img'), overlay: `${image}:2` }) }
}

/** The partition and what lies beside its image. */
const contentOf = async ({ dir, image, part }: Disk): Promise<Map<string, Uint8Array>> => {
  const files = new Map([[PART, (await splitImage(image, part)).part]])
  for (const name of (await readdir(dir)).sort())
    if (name.startsWith('stick.img.')) files.set(name, new Uint8Array(await readFile(join(dir, name))))
  return files
}

const layOut = async ({ dir, image, part }: Disk, files: Content): Promise<void> => {
  for (const name of await readdir(dir)) if (name.startsWith('stick.img.')) await rm(join(dir, name))
  for (const [name, bytes] of files) {
    if (name !== PART) await writeFile(join(dir, name), bytes)
    else {
      const all = await readFile(image)
      all.set(bytes, part.start)
      await writeFile(image, all)
    }
  }
}

const recordedTarget = async (one: Disk, kind: Kind, log: Step[], faults: Faults = {}): Promise<WritableTarget> => {
  const target = await one.target()
  const overlay = target.overlay!
  return { ...target, overlay: { ...overlay, folder: recordingFolder(overlay.folder, 0, kind, log, faults) } }
}

const viewOf = async (bytes: Uint8Array): Promise<string> => {
  try {
    const view = await snapshot(memory(ROOT, 'base'), memory(bytes, 'overlay'))
    return hashOf(await view.read(0, view.size))
  } catch (error) {
    return error instanceof LiveError ? error.code : String(error)
  }
}

const recover = async (target: WritableTarget): Promise<void> => {
  const plan = await planRecover(target, { fsck: false })
  await finished(runRecover(target, plan))
}

/** Every cut of a recovery: what a boot would see half done, what a second run makes of it, and what undo does. */
const judge = async (name: string, kind: Kind, faults: Faults = {}, most = 3) => {
  const one = await disk(name)
  const initial = await contentOf(one)
  const old = hashOf(initial.get(PART)!)
  const rest = hashOf((await splitImage(one.image, one.part)).rest)
  const log: Step[] = []
  await recover(await recordedTarget(one, kind, log, faults))
  const view = await viewOf((await contentOf(one)).get(PART)!)
  const wrong: string[] = []
  let states = 0
  for (const { folders, cut } of powerCuts([initial], log, kind)) {
    states++
    const { files } = folders[0]!
    const bytes = files.get(PART)!
    const isHeld = bytes[4] === 0 && files.has(`${PART}.undo`)
    if (hashOf(bytes) !== old && !isHeld && (await viewOf(bytes)) !== view) wrong.push(`cut ${cut}: half done`)
    try {
      await layOut(one, files)
      await recover(await one.target())
      if ((await viewOf((await contentOf(one)).get(PART)!)) !== view) wrong.push(`cut ${cut}: a second run`)
      const target = await one.target()
      if (cut % 3 === 0 && (await readdir(one.dir)).includes(`${PART}.undo`)) {
        await finished(runUndo(target, await planUndo(target)))
        if (hashOf((await contentOf(one)).get(PART)!) !== old) wrong.push(`cut ${cut}: undo`)
      }
    } catch (error) {
      wrong.push(`cut ${cut}: ${String(error)}`)
    }
    if (hashOf((await splitImage(one.image, one.part)).rest) !== rest) wrong.push(`cut ${cut}: another partition`)
    if (wrong.length > most) break
  }
  return { states, wrong }
}

describe.each(KINDS)('%s: an overlay that is a partition of an image', kind => {
  it('recovered: after any cut it is the old one, the new one or held, and a second run finishes', async () => {
    const { states, wrong } = await judge(kind, kind)
    console.log(`recover on a partition, ${kind}: ${states} states`)
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThan(20)
  })

  it('emptied: after any cut it is the old one or an empty one, and a second run finishes', async () => {
    const one = await disk(`${kind}-reset`)
    const initial = await contentOf(one)
    const old = hashOf(initial.get(PART)!)
    const log: Step[] = []
    const target = await recordedTarget(one, kind, log)
    await clearOverlay(target.overlay!.folder, target.overlay!.name)
    const empty = await viewOf((await contentOf(one)).get(PART)!)
    expect(empty).toBe(hashOf(ROOT))
    let states = 0
    for (const { folders } of powerCuts([initial], log, kind)) {
      states++
      const bytes = folders[0]!.files.get(PART)!
      if (hashOf(bytes) !== old) expect(await viewOf(bytes)).toBe(empty)
      await layOut(one, folders[0]!.files)
      const again = await one.target()
      await finished(runReset(again, await planReset(again)))
      expect([...(await contentOf(one)).keys()]).toEqual([PART])
    }
    console.log(`reset of a partition, ${kind}: ${states} states`)
    expect(states).toBeGreaterThan(8)
  })
})

it('the test can fail: without flushes something is half done', async () => {
  expect((await judge('faulty', 'posix', { noFlush: true }, 0)).wrong.length).toBeGreaterThan(0)
})
