import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { ReadBackDevice } from '../../../src/block/direct.js'
import { openFile } from '../../../src/block/file.js'
import { salvageStore } from '../../../src/block/snapshot/salvage.js'
import { LiveError } from '../../../src/error.js'
import { type Folder, openFolder } from '../../../src/host/folder.js'
import { findTarget } from '../../../src/liveos/target.js'
import { clearOverlay, planReset, RESET_BYTES, runReset } from '../../../src/ops/reset.js'
import { failure } from '../../support/outcome.js'
import { contentOf, recordingFolder, type Step } from '../../support/power-cut.js'
import { finished, OVERLAY, smallStick } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary({ memory: true })
let count = 0
const fresh = async () => {
  const stick = await smallStick(await path(`stick${count++}`), { raw: true })
  const live = join(stick.path, 'LiveOS')
  return { live, overlay: join(live, OVERLAY), folder: await openFolder(live), input: { target: stick.path } }
}
const SAVED = `${OVERLAY}.reset`

it('clears the first 64 KiB and leaves the rest', async () => {
  const { live, overlay, input } = await fresh()
  const before = await readFile(overlay)
  expect(before.length).toBeGreaterThan(RESET_BYTES)
  const target = await findTarget(input)
  const plan = await planReset(target)
  expect(plan.exceptionsLost).toBe(9)
  expect(await finished(runReset(target, plan))).toMatchObject({ verb: 'reset', clearedBytes: RESET_BYTES })
  before.fill(0, 0, RESET_BYTES)
  expect(Buffer.compare(await readFile(overlay), before)).toBe(0)
  expect([...(await contentOf(live)).keys()]).toEqual([OVERLAY, 'rootfs.img'])
})

/** A stick whose overlay has large chunks, so that its first list lies at 64 KiB or behind. */
const large = async (chunkSectors: number) => {
  const stick = await fresh()
  const changes = Array.from({ length: 3 }, (_, oldChunk) => ({
    oldChunk,
    content: new Uint8Array(chunkSectors * 512).fill(oldChunk + 1),
  }))
  await writeFile(stick.overlay, storeOf(changes, chunkSectors))
  return { ...stick, listEnd: 2 * chunkSectors * 512 }
}
const salvaged = async (overlay: string) => {
  const file = await openFile(overlay)
  try {
    return await salvageStore(file)
  } finally {
    await file.close()
  }
}

it.each([128, 256, 2048])('with chunks of %i sectors the first list is cleared too', async chunkSectors => {
  const { live, overlay, input, listEnd } = await large(chunkSectors)
  const target = await findTarget(input)
  const plan = await planReset(target)
  expect(plan).toMatchObject({ exceptionsLost: 3, clearBytes: listEnd })
  expect(await finished(runReset(target, plan))).toMatchObject({ clearedBytes: listEnd })
  expect(await salvaged(overlay)).toMatchObject({ damage: 'new', store: { state: 'new' } })
  expect([...(await contentOf(live)).keys()]).toEqual([OVERLAY, 'rootfs.img'])

  // as dracut resets it, or a version that cleared 64 KiB
  const dracut = await large(chunkSectors)
  const bytes = await readFile(dracut.overlay)
  await writeFile(dracut.overlay, bytes.fill(0, 0, RESET_BYTES))
  expect(await salvaged(dracut.overlay)).toMatchObject({ damage: 'header' })
  await clearOverlay(dracut.folder, OVERLAY)
  expect(await salvaged(dracut.overlay)).toMatchObject({ damage: 'new' })

  // cut behind the first sector: the header is in what was saved
  const cut = await large(chunkSectors)
  const stopped = recordingFolder(cut.folder, 0, 'posix', [], {}, step => {
    if (step.kind === 'write' && step.name === OVERLAY && step.bytes.length > 512) throw new LiveError('IO', 'gone')
  })
  const whole = await readFile(cut.overlay)
  await failure(clearOverlay(stopped, OVERLAY), 'IO')
  expect(Buffer.compare(await readFile(join(cut.live, SAVED)), whole.subarray(0, cut.listEnd))).toBe(0)
  await clearOverlay(cut.folder, OVERLAY)
  expect(await salvaged(cut.overlay)).toMatchObject({ damage: 'new' })
})

it.each([0, 511, 8191])('one of %i bytes is refused: a boot can use none', async size => {
  const { overlay, input } = await fresh()
  await writeFile(overlay, new Uint8Array(size))
  const error = await failure(planReset(await findTarget(input)), 'REFUSED')
  expect(error.message).toMatch(/'liveos grow .* --size 512M' makes a new overlay of it/)
  await truncate(overlay, 8192)
  const target = await findTarget(input)
  await finished(runReset(target, await planReset(target)))
})

it('an overlay that changed after the plan is refused', async () => {
  const { overlay, input } = await fresh()
  const target = await findTarget(input)
  const plan = await planReset(target)
  await writeFile(overlay, new Uint8Array(99 * 4096))
  await failure(finished(runReset(target, plan)), 'REFUSED')
})

it('a stick that reads back other bytes keeps what was saved', async () => {
  const { live, overlay, folder } = await fresh()
  const before = await readFile(overlay)
  const lying: Folder = {
    ...folder,
    openReadBack: async name => {
      const back = await folder.openReadBack(name)
      const other: ReadBackDevice = { ...back, read: async (_, length) => new Uint8Array(length).fill(1) }
      return other
    },
  }
  expect((await failure(clearOverlay(lying, OVERLAY), 'IO')).message).toContain('other bytes were read back')
  expect(Buffer.compare(await readFile(join(live, SAVED)), before.subarray(0, RESET_BYTES))).toBe(0)
})

it('a saved page that a cut left half written is written again, and one that is whole is kept', async () => {
  const { live, overlay, folder } = await fresh()
  const before = await readFile(overlay)
  const log: Step[] = []
  const stopped = (at: number): Folder =>
    recordingFolder(folder, 0, 'posix', log, {}, step => {
      if (step.kind === 'write' && step.name === OVERLAY && step.bytes.length === at) throw new LiveError('IO', 'gone')
    })
  await writeFile(join(live, SAVED), 'half')
  await failure(clearOverlay(stopped(512), OVERLAY), 'IO')
  expect(Buffer.compare(await readFile(join(live, SAVED)), before.subarray(0, RESET_BYTES))).toBe(0)
  for (let n = 0; n < 2; n++) {
    await failure(clearOverlay(stopped(RESET_BYTES), OVERLAY), 'IO')
    expect(Buffer.compare(await readFile(join(live, SAVED)), before.subarray(0, RESET_BYTES)), `time ${n}`).toBe(0)
  }
  await clearOverlay(folder, OVERLAY)
  expect([...(await contentOf(live)).keys()]).toEqual([OVERLAY, 'rootfs.img'])
})

it('a full stick leaves the overlay as it was', async () => {
  const { live, overlay, folder, input } = await fresh()
  const before = await readFile(overlay)
  const full = recordingFolder(folder, 0, 'posix', [], {}, step => {
    if (step.kind === 'write') throw new LiveError('NO_SPACE', 'no space left')
  })
  const target = await findTarget(input)
  const error = await failure(
    finished(runReset({ ...target, overlay: { ...target.overlay!, folder: full } }, await planReset(target))),
    'NO_SPACE',
  )
  expect(error.message).toContain('nothing has changed')
  expect(error.cause).toMatchObject({ message: 'no space left' })
  expect(Buffer.compare(await readFile(overlay), before)).toBe(0)
  expect([...(await contentOf(live)).keys()]).toEqual([OVERLAY, 'rootfs.img'])
})
